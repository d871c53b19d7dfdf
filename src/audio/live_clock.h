/* live_clock.h - how a live source's clock goes, by the samples that come from it, and when to tell
 * the transmitter. */
#ifndef TOWER_AUDIO_LIVE_CLOCK_H
#define TOWER_AUDIO_LIVE_CLOCK_H

#include "clock_match.h"
#include "tower/clock_report.h"

/* One thread's. */
struct tower_live_clock {
    struct tower_clock_match match;
    uint64_t n_samples; /* captured in all */
    int64_t told_ns;    /* when the transmitter was told; INT64_MIN: never */
};

void tower_live_clock_init(struct tower_live_clock *clock, uint32_t rate_hz);

/* `n_samples` samples a channel more had been captured by `now_ns`. Pure. */
void tower_live_clock_observe(struct tower_live_clock *clock, int64_t now_ns, size_t n_samples);

/* Is it time to tell the transmitter, and something to tell? Then what is in `ret_report`, and it
 * counts as told. Every 5 s. `n_overruns`: times that samples were lost at the source. Pure. */
bool tower_live_clock_report(struct tower_live_clock *clock, int64_t now_ns, uint64_t n_overruns,
                             struct tower_clock_report *ret_report);

#endif
