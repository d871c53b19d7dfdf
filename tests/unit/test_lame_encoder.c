/* test_lame_encoder.c - LAME in process: one frame for 1152 samples, from the first call on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/encoder/lame_encoder.h"
#include "encoder_fixture.h"

#define BLOCKS 200
static int16_t programme[BLOCKS * TOWER_FRAME_SAMPLES * TOWER_CHANNELS];
static uint8_t stream[BLOCKS * 960];

static void test_knows_the_bitrates(void **state) {
    (void)state;
    assert_int_equal(tower_lame_frame_bytes(32000), 96);
    assert_int_equal(tower_lame_frame_bytes(128000), 384);
    assert_int_equal(tower_lame_frame_bytes(320000), 960);
    const uint32_t bad[] = {0, 31999, 100000, 128001, 321000, 448000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tower_lame_encoder *encoder = NULL;
        assert_int_equal(tower_lame_frame_bytes(bad[i]), 0);
        assert_int_equal(tower_lame_encoder_new(bad[i], &encoder), -EINVAL);
        assert_null(encoder);
    }
    tower_lame_encoder_free(NULL);
}

/* Encode the programme; returns the bytes. */
static size_t encode_all(uint32_t bitrate_bps, unsigned *ret_delay_samples) {
    struct tower_lame_encoder *encoder = NULL;
    assert_int_equal(tower_lame_encoder_new(bitrate_bps, &encoder), 0);
    size_t frame_bytes = tower_lame_frame_bytes(bitrate_bps);
    int64_t begin_ns = fixture_real_ns();
    for (size_t k = 0; k < BLOCKS; k++) {
        const int16_t *block = programme + k * TOWER_FRAME_SAMPLES * TOWER_CHANNELS;
        uint8_t *frame = stream + k * frame_bytes;
        assert_int_equal(tower_lame_encoder_encode(encoder, block, frame), 0);
        struct tower_mp3_header header;
        assert_int_equal(tower_mp3_parse(frame, frame_bytes, &header), 0);
        assert_int_equal(header.bitrate_bps, bitrate_bps);
        assert_int_equal(header.frame_bytes, frame_bytes);
        assert_int_equal(header.main_data_begin, 0);
    }
    print_message("%u bit/s: %lld ns a frame\n", bitrate_bps,
                  (long long)((fixture_real_ns() - begin_ns) / BLOCKS));
    *ret_delay_samples = tower_lame_encoder_delay_samples(encoder);
    tower_lame_encoder_free(encoder);
    return BLOCKS * frame_bytes;
}

static void test_gives_a_whole_frame_each_time(void **state) {
    (void)state;
    const uint32_t bitrates[] = {32000, 64000, 192000, 320000};
    unsigned delay_samples;
    for (size_t i = 0; i < sizeof bitrates / sizeof bitrates[0]; i++)
        (void)encode_all(bitrates[i], &delay_samples);
}

static void test_sound_comes_out_where_it_says(void **state) {
    (void)state;
    unsigned delay_samples = 0;
    size_t bytes = encode_all(128000, &delay_samples);
    int16_t *decoded = NULL;
    long n = fixture_decode(stream, bytes, &decoded);
    assert_int_equal(n, BLOCKS * TOWER_FRAME_SAMPLES);
    size_t delay = delay_samples + FIXTURE_DECODER_DELAY_SAMPLES;
    double exact = fixture_least_likeness(decoded + 2 * delay, programme, (size_t)n - delay);
    print_message("delay %u samples, least likeness %.4f\n", delay_samples, exact);
    assert_true(exact > 0.99);
    /* One sample off is less like it: the delay is exact and not about right. */
    size_t span = (size_t)n - delay - 1;
    double here = fixture_correlate(decoded + 2 * delay, programme, span);
    assert_true(here > fixture_correlate(decoded + 2 * (delay + 1), programme, span));
    assert_true(here > fixture_correlate(decoded + 2 * (delay - 1), programme, span));
    free(decoded);
}

static void test_every_frame_stands_alone(void **state) {
    (void)state;
    unsigned delay_samples = 0;
    size_t bytes = encode_all(128000, &delay_samples);
    /* Every second frame taken out: a decoder with a reservoir to fill would complain. */
    size_t kept = 0;
    for (size_t at = 0; at < bytes; at += 2 * 384, kept += 384)
        memmove(stream + kept, stream + at, 384);
    int16_t *decoded = NULL;
    assert_int_equal(fixture_decode(stream, kept, &decoded), BLOCKS / 2 * TOWER_FRAME_SAMPLES);
    free(decoded);
}

static void test_silence_is_a_silent_frame(void **state) {
    (void)state;
    struct tower_lame_encoder *encoder = NULL;
    assert_int_equal(tower_lame_encoder_new(96000, &encoder), 0);
    for (size_t k = 0; k < 10; k++)
        memcpy(stream + k * 288, tower_lame_encoder_silence(encoder), 288);
    tower_lame_encoder_free(encoder);
    int16_t *decoded = NULL;
    long n = fixture_decode(stream, 2880, &decoded);
    assert_int_equal(n, 10 * TOWER_FRAME_SAMPLES);
    for (long i = 0; i < 2 * n; i++)
        assert_in_range(decoded[i] + 2, 0, 4);
    free(decoded);
}

int main(void) {
    fixture_programme(programme, BLOCKS * TOWER_FRAME_SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_knows_the_bitrates),
        cmocka_unit_test(test_gives_a_whole_frame_each_time),
        cmocka_unit_test(test_sound_comes_out_where_it_says),
        cmocka_unit_test(test_every_frame_stands_alone),
        cmocka_unit_test(test_silence_is_a_silent_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
