/* codec.h - a codec in LAME's place: an MP3 frame says which PCM it was made of.
 *
 * PCM on its way to the encoders is numbered: of each SIM_NUMBER_EVERY samples the first says which
 * it is, the others are alike (a number in each would cost a fifth of the simulation). Like LAME's,
 * a frame depends on its own block of 1152 samples and on the two before it, so that two encoders
 * agree only where both know what came before. codec.c defines what lame_encoder.h declares.
 */
#ifndef TOWER_TESTS_SIM_CODEC_H
#define TOWER_TESTS_SIM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_block_kind {
    SIM_BLOCK_UNKNOWN, /* the encoder was started behind it */
    SIM_BLOCK_SILENT,
    SIM_BLOCK_WHOLE, /* consecutive samples from number `first` on */
    SIM_BLOCK_MIXED, /* neither */
};

struct sim_block {
    uint32_t kind;
    uint32_t first;
};

struct sim_mp3 {
    uint32_t build; /* of the encoder; 0: LAME in process, and every ffmpeg that agrees with it */
    bool is_flush;  /* what was left in the encoder, padded with silence */
    struct sim_block block, before, before_that;
};

/* A divisor of 1152, and of whatever frame sizes are simulated. */
#define SIM_NUMBER_EVERY 32

/* Number `n_samples` samples, from `first` on, a multiple of SIM_NUMBER_EVERY. Between the numbers
 * `pcm` is left as it is. */
void sim_pcm_number(int16_t *pcm, size_t n_samples, uint32_t first);
/* What are these 1152 samples? */
struct sim_block sim_block_of(const void *pcm);

void sim_mp3_write(const struct sim_mp3 *mp3, uint32_t bitrate_bps, uint8_t *ret_frame,
                   size_t frame_bytes);
/* False: this is not such a frame. */
bool sim_mp3_read(const uint8_t *frame, size_t frame_bytes, struct sim_mp3 *ret_mp3);

/* The next `encodes` calls of tower_lame_encoder_encode() fail, and then as many of
 * tower_lame_encoder_new() as `news`. */
void sim_lame_fail(unsigned encodes, unsigned news);

#endif
