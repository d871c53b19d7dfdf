/* stream_clock.c - is it a clock? */
#include "stream_clock.h"

#include "tower/format.h"

#include <math.h>

/* A client that sends ahead at its beginning has done so by then, or has had to wait. */
#define REAL_TIME_NS (10 * TOWER_NS_PER_S)
/* What comes over a network comes with a jitter, and it is resampled from when this is how well its
 * rate is known: within a minute where the jitter is of some milliseconds. */
#define SURE_PPM 100.0

void tower_stream_clock_init(struct tower_stream_clock *clock, int64_t now_ns) {
    *clock = (struct tower_stream_clock){.began_ns = now_ns};
}

void tower_stream_clock_begin(struct tower_stream_clock *clock, int64_t now_ns) {
    clock->began_ns = now_ns;
    clock->is_observed = false;
    clock->is_matched = false;
}

double tower_stream_clock_take(struct tower_stream_clock *clock, int64_t now_ns, size_t n_samples) {
    struct tower_clock_match_view view;
    if (now_ns - clock->began_ns < REAL_TIME_NS)
        return 0;
    if (!clock->is_observed)
        tower_live_clock_init(&clock->live, TOWER_RATE_HZ);
    clock->is_observed = true;
    tower_live_clock_observe(&clock->live, now_ns, n_samples);
    tower_clock_match_view(&clock->live.match, &view);
    /* Further off it is no sound card's, but of one who sends faster, or cannot send as fast. */
    bool is_clock = view.is_known && fabs(view.ppm) <= TOWER_CLOCK_MATCH_LIMIT_PPM;
    if (clock->is_matched && !is_clock)
        tower_stream_clock_begin(clock, now_ns);
    else if (is_clock && view.spread_ppm <= SURE_PPM)
        clock->is_matched = true;
    if (!clock->is_matched)
        return 0;
    double ratio = tower_clock_match_advance(&clock->live.match, n_samples);
    tower_clock_match_view(&clock->live.match, &clock->seen);
    return ratio;
}

void tower_stream_clock_lose_place(struct tower_stream_clock *clock) {
    if (clock->is_observed)
        tower_clock_match_lose_place(&clock->live.match);
}

bool tower_stream_clock_report(struct tower_stream_clock *clock, int64_t now_ns,
                               struct tower_clock_report *ret_report) {
    if (!clock->is_matched && clock->is_told) {
        clock->is_told = false;
        *ret_report = (struct tower_clock_report){.is_known = false};
        return true;
    }
    if (!clock->is_matched || !tower_live_clock_report(&clock->live, now_ns, 0, ret_report))
        return false;
    clock->is_told = true;
    return true;
}

void tower_stream_clock_view(const struct tower_stream_clock *clock,
                             struct tower_clock_match_view *ret_view) {
    *ret_view = clock->seen;
}
