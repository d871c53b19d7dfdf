/* waves.h - what simulated producers play: waves of every kind, made once, a frame of which costs a
 * copy, and which bear the number of the frame in their lowest bits.
 */
#ifndef TOWER_TESTS_SIM_WAVES_H
#define TOWER_TESTS_SIM_WAVES_H

#include "tower/format.h"

#include <stdbool.h>

/* A wave meets itself after so many frames. */
#define SIM_WAVE_FRAMES 8
#define SIM_WAVE_KINDS 8
#define SIM_STAMP_BYTES 128

/* One frame of a wave, and all there is to know about it. */
struct sim_content {
    const int16_t *samples; /* as in the table: without the stamp */
    uint64_t stamp;         /* of programme and frame; 0: it bears none */
    uint32_t id;            /* of wave and place in it */
    int32_t own_step;       /* no two neighbouring samples of this programme are further apart */
};

struct sim_waves {
    uint32_t frame_samples;
    int32_t own_step[SIM_WAVE_KINDS];
    int16_t *samples[SIM_WAVE_KINDS]; /* SIM_WAVE_FRAMES frames each */
};

/* Errors: -ENOMEM. */
int sim_waves_init(struct sim_waves *waves, uint32_t frame_samples);
void sim_waves_done(struct sim_waves *waves);

/* Frame number `n` of a programme of wave `kind`, with `stamp` in it (0: none; silence, the second
 * kind, never has one). */
struct sim_content sim_waves_at(const struct sim_waves *waves, unsigned kind, uint64_t n,
                                uint64_t stamp);

/* Write the frame, of `frame_bytes`; is this that frame, bit for bit? */
void sim_content_fill(const struct sim_content *content, void *ret_frame, size_t frame_bytes);
bool sim_content_is(const struct sim_content *content, const void *frame, size_t frame_bytes);
/* The stamp that the frame bears. */
uint64_t sim_content_stamp(const void *frame);

/* The largest step between neighbouring samples of a channel. */
int32_t sim_largest_step(const int16_t *samples, size_t n_samples);

#endif
