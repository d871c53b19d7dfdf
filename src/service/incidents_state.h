/* incidents_state.h - what is known of incidents under way, so that the next process goes on with
 * it.
 *
 * struct tower_incidents_state is plain data and kept in the journal's region. For incidents*.c.
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
    uint64_t told_generation; /* of the last process whose end was told; above all: not known */
    uint64_t told_lost_state;
    uint64_t told_requests;
};
_Static_assert(sizeof(struct tower_incidents_state) <= TOWER_JOURNAL_STATE_BYTES, "room for it");

struct tower_incidents {
    /* Constant after start. */
    struct tower_incidents_config config;
    struct tower_journal *journal;
    int64_t tick_ns;
    uint64_t delay_samples;
    uint64_t position_samples;
    int64_t begun_ns; /* by this process */
    bool is_running;

    /* Owned by the pump. */
    struct {
        int64_t tick_at_ns; /* INT64_MIN: none yet */
        bool is_withheld;
        bool has_origin;
        enum tower_origin origin;
        uint64_t written; /* by this process */
        uint64_t totals[TOWER_ORIGIN_COUNT];
    } pump;

    /* Owned by the journal's thread. */
    struct tower_incidents_state state;
    struct tower_incident_counts before;         /* to be added to what the parts have counted */
    bool is_fault_left[TOWER_INPUT_FAULT_COUNT]; /* told by another process, not seen by this one */
    uint64_t missed_notes;                       /* of the journal's submissions_lost, up to here */
    unsigned doubtful_looks;                     /* left, behind a loss of notes */
    int64_t skipped_seen_ns; /* that more were skipped than told; INT64_MIN: they were not */
};

/* How many more; 0 where a part began anew in between. Pure. */
uint64_t tower_incidents_minus(uint64_t more, uint64_t less);

/* On the journal's thread: ask for the counters. They are those of the station: a part that has
 * begun anew goes on where it was. */
void tower_incidents_look_at_counts(struct tower_incidents *incidents);

/* Before the start of the journal: take up what another process left with it. What it says is taken
 * for true, as long as it leads nowhere else. */
void tower_incidents_go_on(struct tower_incidents *incidents);

#endif
