/* transition.h - joins what follows on to what was, without a click.
 *
 * At a seam the old programme is carried on by linear prediction, so that the wave goes on as it
 * was going, and fades out while the new programme fades in, over 10 ms. A seam that is no larger a
 * step than the new programme itself begins with is left alone, bit for bit: its first sample is
 * heard.
 */
#ifndef TOWER_TRANSITION_H
#define TOWER_TRANSITION_H

#include "tower/format.h"

#include <stdbool.h>

/* Length of a join, in samples: 10 ms. */
#define TOWER_TRANSITION_SAMPLES 480

struct tower_transition {
    int16_t history[TOWER_TRANSITION_SAMPLES * TOWER_CHANNELS]; /* the last samples that went out */
    int16_t tail[TOWER_TRANSITION_SAMPLES * TOWER_CHANNELS];    /* what fades out, from a seam on */
    /* Of the join that runs. */
    bool is_joining;
    uint32_t done_samples;                /* 0 to TOWER_TRANSITION_SAMPLES */
    int16_t last_in[TOWER_CHANNELS];      /* the last samples of the new programme */
    int32_t largest_step[TOWER_CHANNELS]; /* that the old one made of itself */
};

/* Begin with silence behind us. */
void tower_transition_init(struct tower_transition *transition);

/* Can this be what a transition was, with every field in its bounds? For one from elsewhere. */
bool tower_transition_is_valid(const struct tower_transition *transition);

/* Pass `n_samples` samples a channel of interleaved stereo through, in place. `is_seam` says that
 * samples[0] does not follow on from what was passed before. A join runs on over calls. Called by
 * the pump: no allocation, no lock. */
void tower_transition_process(struct tower_transition *transition, int16_t *samples,
                              size_t n_samples, bool is_seam);

#endif
