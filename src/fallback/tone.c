/* tone.c - a sine from a table, linearly interpolated. */
#include "tone.h"

#include <errno.h>
#include <math.h>

#define TABLE_SIZE (1 << TOWER_TONE_TABLE_BITS)
#define FRACTION_BITS 16

int tower_tone_init(struct tower_tone *tone, double frequency_hz, double peak_dbfs) {
    if (!(frequency_hz > 0) || !(frequency_hz < TOWER_RATE_HZ / 2.0) || !(peak_dbfs <= 0))
        return -EINVAL;
    double amplitude = 32767.0 * pow(10.0, peak_dbfs / 20.0);
    for (int i = 0; i <= TABLE_SIZE; i++)
        tone->table[i] = (int16_t)lrint(amplitude * sin(2 * M_PI * i / TABLE_SIZE));
    tone->increment = (uint64_t)ldexp(frequency_hz / TOWER_RATE_HZ, 64);
    tone->phase = 0;
    return 0;
}

void tower_tone_fill(struct tower_tone *tone, int16_t *ret_samples, size_t n_samples) {
    for (size_t i = 0; i < n_samples; i++) {
        uint32_t index = (uint32_t)(tone->phase >> (64 - TOWER_TONE_TABLE_BITS));
        int32_t fraction = (int32_t)((tone->phase >> (64 - TOWER_TONE_TABLE_BITS - FRACTION_BITS)) &
                                     ((1 << FRACTION_BITS) - 1));
        int32_t from = tone->table[index];
        int32_t to = tone->table[index + 1];
        int16_t value = (int16_t)(from + (to - from) * fraction / (1 << FRACTION_BITS));
        ret_samples[i * TOWER_CHANNELS] = value;
        ret_samples[i * TOWER_CHANNELS + 1] = value;
        tone->phase += tone->increment;
    }
}
