/* mp3_cutter.c - what comes from an encoder: whole frames of the one shape, or it is refused.
 *
 * The first byte is the bitrate, by its place among MPEG-1's.
 */
#include "fuzz.h"

#include "mp3_cutter.h"
#include "tower/mp3.h"

#include <errno.h>

struct cut {
    int error;
    size_t n; /* frames */
};

static void check_header(const uint8_t *data, size_t bytes) {
    struct tower_mp3_header header, again;
    int error = tower_mp3_parse(data, bytes, &header);
    FUZZ_REQUIRE(error == 0 || error == -EBADMSG || error == -EAGAIN);
    FUZZ_REQUIRE((error == -EAGAIN) == (bytes < TOWER_MP3_HEADER_BYTES));
    if (error != 0)
        return;
    /* On the heap, so that a byte too far is seen. */
    uint8_t *alone = malloc(TOWER_MP3_HEADER_BYTES);
    memcpy(alone, data, TOWER_MP3_HEADER_BYTES);
    FUZZ_REQUIRE(tower_mp3_parse(alone, TOWER_MP3_HEADER_BYTES, &again) == 0);
    free(alone);
    FUZZ_REQUIRE(again.frame_bytes == header.frame_bytes && again.main_data_begin == 0);
    FUZZ_REQUIRE(header.frame_bytes > TOWER_MP3_HEADER_BYTES);
    FUZZ_REQUIRE(header.frame_bytes <= 1441); /* 320 kbit/s at 32 kHz, padded */
    FUZZ_REQUIRE(header.samples == (header.is_mpeg1 ? 1152 : 576));
    FUZZ_REQUIRE(header.bitrate_bps >= 8000 && header.bitrate_bps <= 320000);
    FUZZ_REQUIRE(header.rate_hz >= 8000 && header.rate_hz <= 48000);
    FUZZ_REQUIRE(header.main_data_begin < (header.is_mpeg1 ? 512 : 256));
    /* A frame's bytes last as long as its samples, to a byte. */
    size_t exact = (size_t)header.bitrate_bps * header.samples / 8 / header.rate_hz;
    FUZZ_REQUIRE(header.frame_bytes == exact || header.frame_bytes == exact + 1);
}

static void cut(const uint8_t *data, size_t bytes, uint32_t bitrate_bps, struct fuzz_pieces pieces,
                struct cut *ret_cut) {
    struct tower_mp3_cutter *cutter = malloc(sizeof *cutter);
    FUZZ_REQUIRE(cutter);
    size_t frame_bytes = TOWER_FRAME_SAMPLES / 8 * bitrate_bps / TOWER_RATE_HZ;
    tower_mp3_cutter_init(cutter, bitrate_bps, frame_bytes);
    const uint8_t *at = data;
    ret_cut->n = 0;
    ret_cut->error = 0;
    while (bytes > 0 && ret_cut->error == 0) {
        size_t left = fuzz_next_piece(&pieces, bytes);
        bytes -= left;
        while (left > 0 && ret_cut->error == 0) {
            size_t before = left;
            const uint8_t *from = at;
            int result = tower_mp3_cutter_take(cutter, &at, &left);
            FUZZ_REQUIRE((size_t)(at - from) == before - left && left <= before);
            FUZZ_REQUIRE(result == 0 || result == 1 || result == -EBADMSG);
            FUZZ_REQUIRE(result != 0 || left == 0);
            FUZZ_REQUIRE(result != 1 || left < before);
            if (result == 1) {
                size_t end = (size_t)(at - data);
                FUZZ_REQUIRE(end == (ret_cut->n + 1) * frame_bytes);
                FUZZ_REQUIRE(memcmp(cutter->frame, at - frame_bytes, frame_bytes) == 0);
                ret_cut->n++;
            } else {
                ret_cut->error = result;
            }
        }
    }
    free(cutter);
}

/* Each frame is one by its own header and begins where the one before ends; the end is where that
 * is so no more, and not before. */
static void check_by_headers(const uint8_t *data, size_t bytes, uint32_t bitrate_bps,
                             const struct cut *cut) {
    size_t frame_bytes = TOWER_FRAME_SAMPLES / 8 * bitrate_bps / TOWER_RATE_HZ;
    size_t n = 0;
    int error = 0;
    for (size_t at = 0; error == 0 && bytes - at >= TOWER_MP3_HEADER_BYTES; at += frame_bytes) {
        struct tower_mp3_header header;
        bool is_whole = bytes - at >= frame_bytes;
        size_t seen_bytes = is_whole ? frame_bytes : TOWER_MP3_HEADER_BYTES;
        error = tower_mp3_parse(data + at, seen_bytes, &header);
        if (error == 0 && (!header.is_mpeg1 || header.rate_hz != TOWER_RATE_HZ ||
                           header.channels != TOWER_CHANNELS || header.bitrate_bps != bitrate_bps ||
                           header.frame_bytes != frame_bytes || header.main_data_begin != 0))
            error = -EBADMSG;
        if (!is_whole)
            break;
        n += error == 0 ? 1 : 0;
    }
    FUZZ_REQUIRE(cut->n == n && cut->error == error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const uint32_t bitrates_kbps[] = {32,  40,  48,  56,  64,  80,  96,
                                             112, 128, 160, 192, 224, 256, 320};
    static struct cut whole, pieced;
    if (bytes < 1)
        return 0;
    uint32_t bitrate_bps =
        bitrates_kbps[data[0] % (sizeof bitrates_kbps / sizeof *bitrates_kbps)] * 1000;
    data++;
    bytes--;
    for (size_t i = 0; i < bytes && i < 64; i++)
        check_header(data + i, bytes - i);
    cut(data, bytes, bitrate_bps, (struct fuzz_pieces){.state = 1, .largest = 65536}, &whole);
    cut(data, bytes, bitrate_bps, fuzz_pieces_of(data, bytes, 1000), &pieced);
    FUZZ_REQUIRE(whole.n == pieced.n && whole.error == pieced.error);
    check_by_headers(data, bytes, bitrate_bps, &whole);
    return 0;
}
