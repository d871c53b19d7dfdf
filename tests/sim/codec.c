/* codec.c - numbered PCM, and LAME's stand-in. */
#include "codec.h"

#include "lame_encoder.h"
#include "tower/encoder_manager.h"
#include "tower/format.h"
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT32_C(0x304d4953)
/* Behind the header and where the side information begins, whose first nine bits are 0. */
#define PAYLOAD_OFFSET 8

static const uint16_t kbps[] = {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320};

static unsigned bitrate_index(uint32_t bitrate_bps) {
    for (unsigned i = 1; i < sizeof kbps / sizeof kbps[0]; i++) {
        if (bitrate_bps == kbps[i] * 1000U)
            return i;
    }
    return 0;
}

void sim_pcm_number(int16_t *pcm, size_t n_samples, uint32_t first) {
    for (size_t i = 0; i < n_samples; i += SIM_NUMBER_EVERY) {
        uint32_t number = first + (uint32_t)i;
        memcpy(pcm + i * TOWER_CHANNELS, &number, sizeof number);
    }
}

struct sim_block sim_block_of(const void *pcm) {
    const uint8_t *bytes = pcm;
    uint32_t first, any = 0, differences = 0;
    memcpy(&first, pcm, sizeof first);
    for (size_t i = 0; i < TOWER_FRAME_SAMPLES; i += SIM_NUMBER_EVERY) {
        uint32_t number;
        memcpy(&number, bytes + i * sizeof number, sizeof number);
        any |= number;
        differences |= number ^ (first + (uint32_t)i);
    }
    if (any == 0)
        return (struct sim_block){SIM_BLOCK_SILENT, 0};
    return (struct sim_block){differences == 0 ? SIM_BLOCK_WHOLE : SIM_BLOCK_MIXED, first};
}

struct payload {
    uint32_t magic;
    uint32_t build;
    uint32_t is_flush;
    struct sim_block block, before, before_that;
};

void sim_mp3_write(const struct sim_mp3 *mp3, uint32_t bitrate_bps, uint8_t *ret_frame,
                   size_t frame_bytes) {
    const uint8_t header[PAYLOAD_OFFSET] = {
        0xff, 0xfb, (uint8_t)(bitrate_index(bitrate_bps) << 4 | 1 << 2), 0x40};
    struct payload payload = {MAGIC,      mp3->build,  mp3->is_flush,
                              mp3->block, mp3->before, mp3->before_that};
    memset(ret_frame, 0, frame_bytes);
    memcpy(ret_frame, header, sizeof header);
    memcpy(ret_frame + PAYLOAD_OFFSET, &payload, sizeof payload);
}

bool sim_mp3_read(const uint8_t *frame, size_t frame_bytes, struct sim_mp3 *ret_mp3) {
    struct payload payload;
    if (frame_bytes < PAYLOAD_OFFSET + sizeof payload || frame[0] != 0xff || frame[1] != 0xfb)
        return false;
    memcpy(&payload, frame + PAYLOAD_OFFSET, sizeof payload);
    *ret_mp3 = (struct sim_mp3){payload.build, payload.is_flush != 0, payload.block, payload.before,
                                payload.before_that};
    return payload.magic == MAGIC;
}

/* ---- lame_encoder.h ---- */

struct tower_lame_encoder {
    uint32_t bitrate_bps;
    size_t frame_bytes;
    struct sim_block before, before_that;
    uint8_t silence[TOWER_MP3_FRAME_BYTES_MAX];
};

static struct {
    unsigned encodes;
    unsigned news;
} to_fail;

void sim_lame_fail(unsigned encodes, unsigned news) {
    to_fail.encodes = encodes;
    to_fail.news = news;
}

size_t tower_lame_frame_bytes(uint32_t bitrate_bps) {
    if (bitrate_index(bitrate_bps) == 0)
        return 0;
    return TOWER_FRAME_SAMPLES / 8 * (size_t)bitrate_bps / TOWER_RATE_HZ;
}

int tower_lame_encoder_new(uint32_t bitrate_bps, struct tower_lame_encoder **ret_encoder) {
    size_t frame_bytes = tower_lame_frame_bytes(bitrate_bps);
    if (frame_bytes == 0)
        return -EINVAL;
    if (to_fail.encodes == 0 && to_fail.news > 0) {
        to_fail.news--;
        sim_lame_failed();
        return -ENOMEM;
    }
    struct tower_lame_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return -ENOMEM;
    encoder->bitrate_bps = bitrate_bps;
    encoder->frame_bytes = frame_bytes;
    /* Primed with silence. */
    encoder->before.kind = SIM_BLOCK_SILENT;
    encoder->before_that.kind = SIM_BLOCK_SILENT;
    struct sim_mp3 silence = {0, false, encoder->before, encoder->before, encoder->before};
    sim_mp3_write(&silence, bitrate_bps, encoder->silence, frame_bytes);
    *ret_encoder = encoder;
    return 0;
}

void tower_lame_encoder_free(struct tower_lame_encoder *encoder) {
    free(encoder);
}

int tower_lame_encoder_encode(struct tower_lame_encoder *encoder, const int16_t *pcm,
                              uint8_t *ret_frame) {
    if (to_fail.encodes > 0) {
        to_fail.encodes--;
        sim_lame_failed();
        return -EIO;
    }
    struct sim_mp3 mp3 = {0, false, sim_block_of(pcm), encoder->before, encoder->before_that};
    encoder->before_that = encoder->before;
    encoder->before = mp3.block;
    sim_mp3_write(&mp3, encoder->bitrate_bps, ret_frame, encoder->frame_bytes);
    return 0;
}

const uint8_t *tower_lame_encoder_silence(const struct tower_lame_encoder *encoder) {
    return encoder->silence;
}

unsigned tower_lame_encoder_delay_samples(const struct tower_lame_encoder *encoder) {
    (void)encoder;
    return TOWER_FRAME_SAMPLES;
}
