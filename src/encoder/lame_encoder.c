/* lame_encoder.c - LAME in process. */
#include "lame_encoder.h"

#include "tower/encoder_manager.h"
#include "tower/format.h"
#include "tower/mp3.h"

#include <errno.h>
#include <lame/lame.h>
#include <stdlib.h>
#include <string.h>

/* What LAME asks its caller to have room for: 1.25 x samples + 7200. */
#define SCRATCH_BYTES (TOWER_FRAME_SAMPLES * 5 / 4 + 7200)
/* The first frame fed gives nothing, the next ones give frames; after this many LAME's history
 * holds silence only and a frame of it is like any other. */
#define PRIMING_FRAMES 4
/* Of them, those that were swallowed and thus delay what follows. */
#define SWALLOWED_FRAMES 1

struct tower_lame_encoder {
    lame_global_flags *lame;                    /* owned by the encoding thread */
    size_t frame_bytes;                         /* constant */
    unsigned delay_samples;                     /* constant */
    uint8_t silence[TOWER_MP3_FRAME_BYTES_MAX]; /* constant */
    uint8_t scratch[SCRATCH_BYTES];             /* owned by the encoding thread */
};

size_t tower_lame_frame_bytes(uint32_t bitrate_bps) {
    static const uint16_t kbps[] = {32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320};
    for (size_t i = 0; i < sizeof kbps / sizeof kbps[0]; i++) {
        if (bitrate_bps == kbps[i] * 1000U)
            return TOWER_FRAME_SAMPLES / 8 * (size_t)bitrate_bps / TOWER_RATE_HZ;
    }
    return 0;
}

static int configure(lame_global_flags *lame, uint32_t bitrate_bps) {
    int failed = 0;
    failed |= lame_set_num_channels(lame, TOWER_CHANNELS);
    failed |= lame_set_in_samplerate(lame, TOWER_RATE_HZ);
    failed |= lame_set_out_samplerate(lame, TOWER_RATE_HZ);
    failed |= lame_set_VBR(lame, vbr_off);
    failed |= lame_set_brate(lame, (int)(bitrate_bps / 1000));
    failed |= lame_set_mode(lame, JOINT_STEREO);
    failed |= lame_set_quality(lame, TOWER_LAME_QUALITY);
    failed |= lame_set_disable_reservoir(lame, 1);
    failed |= lame_set_bWriteVbrTag(lame, 0);
    if (failed || lame_init_params(lame) < 0)
        return -EIO;
    return lame_get_framesize(lame) == TOWER_FRAME_SAMPLES ? 0 : -EIO;
}

/* Returns what LAME wrote to `scratch`, or -EIO. */
static int encode(struct tower_lame_encoder *encoder, const int16_t *pcm) {
    /* LAME takes a pointer to what it does not change. */
    short *samples = (short *)(uintptr_t)pcm;
    int bytes = lame_encode_buffer_interleaved(encoder->lame, samples, TOWER_FRAME_SAMPLES,
                                               encoder->scratch, SCRATCH_BYTES);
    return bytes < 0 ? -EIO : bytes;
}

static int prime(struct tower_lame_encoder *encoder) {
    static const int16_t no_sound[TOWER_FRAME_SAMPLES * TOWER_CHANNELS];
    for (int i = 0; i < PRIMING_FRAMES; i++) {
        int bytes = encode(encoder, no_sound);
        int expected = i < SWALLOWED_FRAMES ? 0 : (int)encoder->frame_bytes;
        if (bytes != expected)
            return -EIO;
    }
    memcpy(encoder->silence, encoder->scratch, encoder->frame_bytes);
    return 0;
}

int tower_lame_encoder_new(uint32_t bitrate_bps, struct tower_lame_encoder **ret_encoder) {
    size_t frame_bytes = tower_lame_frame_bytes(bitrate_bps);
    if (frame_bytes == 0)
        return -EINVAL;
    struct tower_lame_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return -ENOMEM;
    encoder->frame_bytes = frame_bytes;
    encoder->lame = lame_init();
    int error = encoder->lame ? configure(encoder->lame, bitrate_bps) : -ENOMEM;
    if (error == 0)
        error = prime(encoder);
    if (error < 0) {
        tower_lame_encoder_free(encoder);
        return error;
    }
    encoder->delay_samples =
        (unsigned)lame_get_encoder_delay(encoder->lame) + SWALLOWED_FRAMES * TOWER_FRAME_SAMPLES;
    *ret_encoder = encoder;
    return 0;
}

void tower_lame_encoder_free(struct tower_lame_encoder *encoder) {
    if (!encoder)
        return;
    if (encoder->lame)
        (void)lame_close(encoder->lame);
    free(encoder);
}

int tower_lame_encoder_encode(struct tower_lame_encoder *encoder, const int16_t *pcm,
                              uint8_t *ret_frame) {
    if (encode(encoder, pcm) != (int)encoder->frame_bytes)
        return -EIO;
    struct tower_mp3_header header;
    if (tower_mp3_parse(encoder->scratch, encoder->frame_bytes, &header) < 0 ||
        header.frame_bytes != encoder->frame_bytes || header.main_data_begin != 0)
        return -EIO;
    memcpy(ret_frame, encoder->scratch, encoder->frame_bytes);
    return 0;
}

const uint8_t *tower_lame_encoder_silence(const struct tower_lame_encoder *encoder) {
    return encoder->silence;
}

unsigned tower_lame_encoder_delay_samples(const struct tower_lame_encoder *encoder) {
    return encoder->delay_samples;
}
