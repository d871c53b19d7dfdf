/* speed_switch.h - a varispeed that is put into a running stream, and taken out of it again,
 * between two samples: none is missing, and none comes twice. While it is out the samples pass as
 * they are.
 */
#ifndef TOWER_SOURCE_SPEED_SWITCH_H
#define TOWER_SOURCE_SPEED_SWITCH_H

#include "pcm_backlog.h"
#include "tower/format.h"
#include "varispeed.h"

/* More than a varispeed lags behind. */
#define TOWER_SPEED_SWITCH_RECENT_SAMPLES 512

/* One thread's. */
struct tower_speed_switch {
    struct tower_varispeed *varispeed;
    int16_t recent[TOWER_SPEED_SWITCH_RECENT_SAMPLES * TOWER_CHANNELS]; /* those given last */
    bool is_in;
    size_t lag_samples;  /* of the varispeed */
    size_t skip_samples; /* of what it makes next, which went out before it was put in */
};

/* Errors: -ENOMEM. */
int tower_speed_switch_init(struct tower_speed_switch *speed);
/* Also of zeros. */
void tower_speed_switch_done(struct tower_speed_switch *speed);

/* Put `n_samples` samples of interleaved stereo on the backlog, resampled by `ratio` (output to
 * input), or as they are where it is 0. Errors: those of tower_varispeed_process(); the samples
 * have then been put as they are. */
int tower_speed_switch_put(struct tower_speed_switch *speed, struct tower_pcm_backlog *backlog,
                           const int16_t *samples, size_t n_samples, double ratio);

/* Samples that were given and are not on the backlog yet. */
size_t tower_speed_switch_held(const struct tower_speed_switch *speed);

/* Put them there: what comes next passes as it is. */
void tower_speed_switch_take_out(struct tower_speed_switch *speed,
                                 struct tower_pcm_backlog *backlog);

#endif
