/* levels.h - peak and RMS of PCM. */
#ifndef TOWER_LEVELS_H
#define TOWER_LEVELS_H

#include "tower/format.h"

struct tower_levels {
    uint16_t peak[TOWER_CHANNELS];       /* largest magnitude, 0 to 32768 */
    uint64_t square_sum[TOWER_CHANNELS]; /* of all samples measured */
    uint64_t n_samples;                  /* a channel */
};

void tower_levels_reset(struct tower_levels *levels);

/* Add `n_samples` samples a channel of interleaved stereo. From the pump too. */
void tower_levels_add(struct tower_levels *levels, const int16_t *samples, size_t n_samples);

/* Add what `other` has measured. From the pump too. */
void tower_levels_join(struct tower_levels *levels, const struct tower_levels *other);

/* dB relative to full scale of a magnitude of 0 to 32768; -120 for silence. */
double tower_levels_dbfs(double magnitude);

/* RMS of a channel as a magnitude; 0 where nothing was measured. */
double tower_levels_rms(const struct tower_levels *levels, unsigned channel);

#endif
