/* levels.c - peak and RMS. */
#include "tower/levels.h"

#include <math.h>

#define FLOOR_DBFS (-120.0)
#define FULL_SCALE 32768.0

void tower_levels_reset(struct tower_levels *levels) {
    *levels = (struct tower_levels){.n_samples = 0};
}

void tower_levels_add(struct tower_levels *levels, const int16_t *samples, size_t n_samples) {
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        uint16_t peak = levels->peak[channel];
        uint64_t square_sum = 0;
        for (size_t i = 0; i < n_samples; i++) {
            int32_t sample = samples[i * TOWER_CHANNELS + channel];
            uint16_t magnitude = (uint16_t)(sample < 0 ? -sample : sample);
            if (magnitude > peak)
                peak = magnitude;
            square_sum += (uint64_t)((int64_t)sample * sample);
        }
        levels->peak[channel] = peak;
        levels->square_sum[channel] += square_sum;
    }
    levels->n_samples += n_samples;
}

void tower_levels_join(struct tower_levels *levels, const struct tower_levels *other) {
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        if (other->peak[channel] > levels->peak[channel])
            levels->peak[channel] = other->peak[channel];
        levels->square_sum[channel] += other->square_sum[channel];
    }
    levels->n_samples += other->n_samples;
}

double tower_levels_dbfs(double magnitude) {
    if (magnitude <= 0)
        return FLOOR_DBFS;
    double dbfs = 20.0 * log10(magnitude / FULL_SCALE);
    return dbfs > FLOOR_DBFS ? dbfs : FLOOR_DBFS;
}

double tower_levels_rms(const struct tower_levels *levels, unsigned channel) {
    if (levels->n_samples == 0)
        return 0;
    return sqrt((double)levels->square_sum[channel] / (double)levels->n_samples);
}
