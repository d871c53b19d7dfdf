/* live_clock.c - an estimate, and how often it is told. */
#include "live_clock.h"

#include "tower/format.h"

#define TELL_NS (5 * TOWER_NS_PER_S)

void tower_live_clock_init(struct tower_live_clock *clock, uint32_t rate_hz) {
    *clock = (struct tower_live_clock){.told_ns = INT64_MIN};
    tower_clock_match_init(&clock->match, rate_hz);
}

void tower_live_clock_observe(struct tower_live_clock *clock, int64_t now_ns, size_t n_samples) {
    clock->n_samples += n_samples;
    tower_clock_match_observe(&clock->match, now_ns, clock->n_samples);
}

bool tower_live_clock_report(struct tower_live_clock *clock, int64_t now_ns, uint64_t n_overruns,
                             struct tower_clock_report *ret_report) {
    struct tower_clock_match_view view;
    if (clock->told_ns != INT64_MIN && now_ns - clock->told_ns < TELL_NS)
        return false;
    tower_clock_match_view(&clock->match, &view);
    if (!view.is_known && n_overruns == 0)
        return false;
    clock->told_ns = now_ns;
    *ret_report = (struct tower_clock_report){
        .is_known = view.is_known,
        .ppm = view.ppm,
        .spread_ppm = view.spread_ppm,
        .correction_ppm = view.correction_ppm,
        .is_out_of_range = view.is_out_of_range,
        .n_overruns = n_overruns,
    };
    return true;
}
