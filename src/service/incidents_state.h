/* incidents_state.h - what is known of incidents under way, so that the next process goes on with
 * it.
 *
 * Plain data, kept in the journal's region; owned by the journal's thread.
 */
#ifndef TOWER_SERVICE_INCIDENTS_STATE_H
#define TOWER_SERVICE_INCIDENTS_STATE_H

#include "incidents.h"

/* Changes of origin that are remembered: an input fault is seen up to dead_air_after late. */
#define TOWER_INCIDENTS_RUNS 64
/* How far back it is known how many listeners had been lost. */
#define TOWER_INCIDENTS_SAMPLES 64

/* From `at_ns` on the frames on air were of one origin; `totals` are those before. */
struct tower_incidents_run {
    int64_t at_ns;
    enum tower_origin origin;
    uint64_t totals[TOWER_ORIGIN_COUNT];
};

struct tower_incidents_lost_sample {
    int64_t at_ns;
    uint64_t lost;
};

/* An incident that lasts: how things stood when it began. */
struct tower_incidents_span {
    int64_t since_ns;
    uint64_t totals[TOWER_ORIGIN_COUNT];
    uint64_t ticks_skipped;
    uint64_t listeners_lost;
};

/* What the next process goes on with: plain data, kept with the journal; owned by its thread. */
struct tower_incidents_state {
    int64_t started_ns;
    struct tower_incidents_run runs[TOWER_INCIDENTS_RUNS];
    uint64_t n_runs;
    struct tower_incidents_lost_sample samples[TOWER_INCIDENTS_SAMPLES];
    uint64_t n_samples;
    struct tower_incident_counts counts; /* when last asked for */
    struct {
        uint32_t is_open;
        int64_t to_substitute_ns;
        struct tower_incidents_span span;
        int64_t back_ns; /* live again since; INT64_MIN: it is not */
        uint64_t back_frame;
        uint64_t back_totals[TOWER_ORIGIN_COUNT];
    } outage;
    struct tower_incidents_span faults[TOWER_INPUT_FAULT_COUNT];
    uint32_t is_fault_told[TOWER_INPUT_FAULT_COUNT]; /* that it began, and not that it is over */
    struct tower_incidents_span encoder;
    uint64_t told_skipped;
    uint64_t told_refused;
    uint64_t told_refused_address;
    int64_t told_refused_ns;
    uint64_t told_fallback_errors;
    uint32_t is_fallback_failed;
    struct tower_incidents_span fallback;
    uint64_t told_lost_state;
    uint64_t told_requests;
};
_Static_assert(sizeof(struct tower_incidents_state) <= TOWER_JOURNAL_STATE_BYTES, "room for it");

/* As another process left it, at `at_ns`: whatever it says is taken for true, as long as it leads
 * nowhere else. Pure. */
void tower_incidents_state_mend(struct tower_incidents_state *state, int64_t at_ns);
/* A span cannot begin in the future. Pure. */
void tower_incidents_span_mend(struct tower_incidents_span *span, int64_t at_ns);

#endif
