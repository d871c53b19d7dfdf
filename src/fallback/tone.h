/* tone.h - a sine without a step between frames. */
#ifndef TOWER_FALLBACK_TONE_H
#define TOWER_FALLBACK_TONE_H

#include "tower/format.h"

#define TOWER_TONE_TABLE_BITS 12

/* A phase accumulator over a table made once: the phase is a fraction of a turn in 64 bits, so the
 * frequency is right to 1e-15 and the phase never wraps with a step. */
struct tower_tone {
    uint64_t phase;
    uint64_t increment;
    int16_t table[(1 << TOWER_TONE_TABLE_BITS) + 1];
};

/* `frequency_hz` above 0 and below half the rate, `peak_dbfs` <= 0. Errors: -EINVAL. */
int tower_tone_init(struct tower_tone *tone, double frequency_hz, double peak_dbfs);

/* The next `n_samples` samples a channel, the same on each. For the pump: no wait, no allocation.
 */
void tower_tone_fill(struct tower_tone *tone, int16_t *ret_samples, size_t n_samples);

#endif
