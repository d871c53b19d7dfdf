/* test_mp3_cutter.c - whole frames of the one shape asked for, however the bytes come; nothing
 * else. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/encoder/lame_encoder.h"
#include "../../src/encoder/mp3_cutter.h"
#include "tower/format.h"

#include <errno.h>
#include <string.h>

#define BITRATE_BPS 128000
#define FRAME_BYTES 384
#define FRAMES 6

static uint8_t stream[FRAMES * FRAME_BYTES];

static int make_stream(void **state) {
    (void)state;
    static int16_t pcm[TOWER_FRAME_SAMPLES * TOWER_CHANNELS];
    struct tower_lame_encoder *lame = NULL;
    if (tower_lame_encoder_new(BITRATE_BPS, &lame) < 0)
        return -1;
    int error = 0;
    for (int i = 0; i < FRAMES && error == 0; i++) {
        for (int t = 0; t < TOWER_FRAME_SAMPLES * TOWER_CHANNELS; t++)
            pcm[t] = (int16_t)((t * (40 + i)) % 20000 - 10000);
        error = tower_lame_encoder_encode(lame, pcm, stream + i * FRAME_BYTES);
    }
    tower_lame_encoder_free(lame);
    return error;
}

/* Take `bytes` in pieces of `piece_bytes`. Returns how many frames came, or the error; each that
 * came has to be the stream's. */
static int take(const uint8_t *data, size_t bytes, size_t piece_bytes) {
    struct tower_mp3_cutter cutter;
    tower_mp3_cutter_init(&cutter, BITRATE_BPS, FRAME_BYTES);
    int n_frames = 0;
    while (bytes > 0) {
        size_t piece = bytes < piece_bytes ? bytes : piece_bytes;
        const uint8_t *at = data;
        size_t left = piece;
        int taken;
        while ((taken = tower_mp3_cutter_take(&cutter, &at, &left)) == 1) {
            assert_memory_equal(cutter.frame, stream + n_frames * FRAME_BYTES, FRAME_BYTES);
            n_frames++;
        }
        if (taken < 0)
            return taken;
        assert_int_equal(left, 0);
        data += piece;
        bytes -= piece;
    }
    return n_frames;
}

static void test_frames_come_whole_whatever_the_pieces(void **state) {
    (void)state;
    const size_t pieces[] = {1, 3, 4, 5, 100, 383, 384, 385, 1000, sizeof stream};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        assert_int_equal(take(stream, sizeof stream, pieces[i]), FRAMES);
        assert_int_equal(take(stream, sizeof stream - 1, pieces[i]), FRAMES - 1);
    }
}

/* Each is one frame changed in one thing, behind one as asked for. */
static void test_a_frame_that_is_not_as_asked_for_is_refused(void **state) {
    (void)state;
    struct {
        const char *what;
        size_t place;
        uint8_t mask, bits;
    } changes[] = {
        {"no header", 0, 0xff, 0x00},
        {"MPEG-2", 1, 0x18, 0x10},
        {"Layer II", 1, 0x06, 0x04},
        {"112 kbit/s", 2, 0xf0, 0x80},
        {"44100 Hz", 2, 0x0c, 0x00},
        {"one byte more", 2, 0x02, 0x02},
        {"mono", 3, 0xc0, 0xc0},
        {"bits of the frame before", 4, 0xff, 0x01},
        {"a bit of the frame before", 5, 0x80, 0x80},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint8_t changed[2 * FRAME_BYTES];
        memcpy(changed, stream, sizeof changed);
        uint8_t *byte = &changed[FRAME_BYTES + changes[i].place];
        *byte = (uint8_t)((*byte & ~changes[i].mask) | changes[i].bits);
        for (size_t piece = 1; piece <= sizeof changed; piece += 7) {
            if (take(changed, sizeof changed, piece) != -EBADMSG)
                fail_msg("%s, in pieces of %zu: taken", changes[i].what, piece);
        }
    }
}

/* There may never come a whole frame of it. */
static void test_junk_is_told_at_its_first_bytes(void **state) {
    (void)state;
    assert_int_equal(take((const uint8_t *)"ffmp", 4, 4), -EBADMSG);
    assert_int_equal(take((const uint8_t *)"ffmp", 4, 1), -EBADMSG);
}

static void test_reset_forgets_a_frame_begun(void **state) {
    (void)state;
    struct tower_mp3_cutter cutter;
    tower_mp3_cutter_init(&cutter, BITRATE_BPS, FRAME_BYTES);
    const uint8_t *at = stream;
    size_t left = 200;
    assert_int_equal(tower_mp3_cutter_take(&cutter, &at, &left), 0);
    tower_mp3_cutter_reset(&cutter);
    at = stream;
    left = FRAME_BYTES;
    assert_int_equal(tower_mp3_cutter_take(&cutter, &at, &left), 1);
    assert_memory_equal(cutter.frame, stream, FRAME_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_come_whole_whatever_the_pieces),
        cmocka_unit_test(test_a_frame_that_is_not_as_asked_for_is_refused),
        cmocka_unit_test(test_junk_is_told_at_its_first_bytes),
        cmocka_unit_test(test_reset_forgets_a_frame_begun),
    };
    return cmocka_run_group_tests(tests, make_stream, NULL);
}
