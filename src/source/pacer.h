/* pacer.h - the schedule of a source that yields its chunks in real time. */
#ifndef TOWER_SOURCE_PACER_H
#define TOWER_SOURCE_PACER_H

#include "tower/clock.h"

#include <stddef.h>

/* Owned by the thread that reads the source. */
struct tower_pacer {
    struct tower_clock *clock;
    int64_t rate_hz;
    double error_ppm; /* the schedule's clock is so much faster than the host's */
    int64_t late_ns;  /* of the next chunk, behind the schedule */
    bool is_started;
    int64_t start_ns;
    int64_t done_samples; /* a channel, in the chunks waited for so far */
};

void tower_pacer_init(struct tower_pacer *pacer, struct tower_clock *clock, uint32_t rate_hz);

/* The schedule begins now, if it has not begun yet: at the beginning of the first read. */
void tower_pacer_start(struct tower_pacer *pacer);

/* Wait until a chunk of `n_samples` samples a channel is due, which is when all samples up to its
 * end have had the time to sound. Computed from the count of samples, so no error adds up (S6).
 * Errors: -EINTR (a signal or tower_clock_wake(); wait for the same chunk again). */
int tower_pacer_wait(struct tower_pacer *pacer, size_t n_samples);

#endif
