/* levels.c - no rule here is about levels, and they are what a tick costs most for: one frame in
 * 128 is measured. */
#include "tower/levels.h"

#define EVERY 128

void __real_tower_levels_add(struct tower_levels *levels, const int16_t *samples, size_t n_samples);
void __wrap_tower_levels_add(struct tower_levels *levels, const int16_t *samples, size_t n_samples);

void __wrap_tower_levels_add(struct tower_levels *levels, const int16_t *samples,
                             size_t n_samples) {
    static unsigned frames;
    if (frames++ % EVERY == 0)
        __real_tower_levels_add(levels, samples, n_samples);
}
