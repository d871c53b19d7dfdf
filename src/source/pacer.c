/* pacer.c - an absolute schedule of chunks. */
#include "pacer.h"

#include "tower/format.h"

void tower_pacer_init(struct tower_pacer *pacer, struct tower_clock *clock, uint32_t rate_hz) {
    *pacer = (struct tower_pacer){.clock = clock, .rate_hz = rate_hz};
}

void tower_pacer_start(struct tower_pacer *pacer) {
    if (pacer->is_started)
        return;
    pacer->start_ns = tower_clock_now_ns(pacer->clock);
    pacer->is_started = true;
}

int tower_pacer_wait(struct tower_pacer *pacer, size_t n_samples) {
    int64_t done_samples = pacer->done_samples + (int64_t)n_samples;
    int64_t due_ns = pacer->start_ns + tower_samples_to_ns(done_samples, pacer->rate_hz);
    if (pacer->error_ppm != 0)
        due_ns = pacer->start_ns + (int64_t)((long double)(due_ns - pacer->start_ns) /
                                             (1 + (long double)pacer->error_ppm / 1000000));
    due_ns += pacer->late_ns;
    int error = tower_clock_sleep_until(pacer->clock, due_ns);
    if (error < 0)
        return error;
    pacer->done_samples = done_samples;
    return 0;
}
