/* incidents_state.c - what another process left, in its bounds, and gone on with. */
#include "incidents_state.h"

#include <stdlib.h>
#include <string.h>

#define COUNT_MAX (UINT64_C(1) << 36)

static void mend_span(struct tower_incidents_span *span, int64_t at_ns) {
    if (span->since_ns < 0 || span->since_ns > at_ns)
        span->since_ns = at_ns;
}

/* Half a century of ticks; what is more is none. */
static void mend_count(uint64_t *count) {
    if (*count > COUNT_MAX)
        *count = 0;
}

static void mend_state(struct tower_incidents_state *state, int64_t at_ns) {
    for (unsigned i = 0; i < TOWER_INCIDENTS_RUNS; i++) {
        if ((unsigned)state->runs[i].origin >= TOWER_ORIGIN_COUNT)
            state->runs[i].origin = TOWER_ORIGIN_SILENCE;
        if (state->runs[i].at_ns < 0 || state->runs[i].at_ns > at_ns)
            state->runs[i].at_ns = at_ns;
    }
    for (unsigned i = 0; i < TOWER_INCIDENTS_SAMPLES; i++) {
        if (state->samples[i].at_ns < 0 || state->samples[i].at_ns > at_ns)
            state->samples[i].at_ns = at_ns;
    }
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++)
        mend_span(&state->faults[i], at_ns);
    mend_span(&state->outage.span, at_ns);
    mend_span(&state->encoder, at_ns);
    mend_span(&state->fallback, at_ns);
    if (state->outage.back_ns < 0 || state->outage.back_ns > at_ns)
        state->outage.back_ns = INT64_MIN;
    if (state->outage.to_substitute_ns < 0 || state->outage.to_substitute_ns > TOWER_NS_PER_S)
        state->outage.to_substitute_ns = 0;
    if (state->told_refused_ns < 0 || state->told_refused_ns > at_ns)
        state->told_refused_ns = INT64_MIN;
    if (state->started_ns < 0 || state->started_ns > at_ns)
        state->started_ns = at_ns;
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        mend_count(&state->counts.frames_by_origin[i]);
    mend_count(&state->counts.ticks_skipped);
    mend_count(&state->counts.listeners_lost);
    mend_count(&state->counts.listeners_refused);
    mend_count(&state->counts.listeners_refused_address);
    mend_count(&state->counts.fallback_errors);
    if (state->told_skipped > state->counts.ticks_skipped)
        state->told_skipped = state->counts.ticks_skipped;
    if (state->told_refused > state->counts.listeners_refused)
        state->told_refused = state->counts.listeners_refused;
    if (state->told_refused_address > state->counts.listeners_refused_address)
        state->told_refused_address = state->counts.listeners_refused_address;
}

uint64_t tower_incidents_minus(uint64_t more, uint64_t less) {
    return more > less ? more - less : 0;
}

void tower_incidents_look_at_counts(struct tower_incidents *incidents) {
    const struct tower_incident_counts *before = &incidents->before;
    struct tower_incident_counts *counts = &incidents->state.counts;
    incidents->config.get_counts(incidents->config.user, counts);
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        counts->frames_by_origin[i] += before->frames_by_origin[i];
    counts->ticks_skipped += before->ticks_skipped;
    counts->listeners_lost += before->listeners_lost;
    counts->listeners_refused += before->listeners_refused;
    counts->listeners_refused_address += before->listeners_refused_address;
    counts->fallback_errors += before->fallback_errors;
}

/* What the parts have counted, and what is to be added so that nothing that was told is told again.
 */
static void join_counts(struct tower_incidents *incidents) {
    struct tower_incidents_state *state = &incidents->state;
    const struct tower_incident_counts old = state->counts;
    struct tower_incident_counts *before = &incidents->before;
    struct tower_incident_counts now;
    incidents->config.get_counts(incidents->config.user, &now);
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        before->frames_by_origin[i] =
            tower_incidents_minus(old.frames_by_origin[i], now.frames_by_origin[i]);
    before->ticks_skipped = tower_incidents_minus(old.ticks_skipped, now.ticks_skipped);
    before->listeners_lost = tower_incidents_minus(old.listeners_lost, now.listeners_lost);
    before->listeners_refused = tower_incidents_minus(old.listeners_refused, now.listeners_refused);
    before->listeners_refused_address =
        tower_incidents_minus(old.listeners_refused_address, now.listeners_refused_address);
    before->fallback_errors = tower_incidents_minus(old.fallback_errors, now.fallback_errors);
    tower_incidents_look_at_counts(incidents);
    memcpy(incidents->pump.totals, state->counts.frames_by_origin, sizeof incidents->pump.totals);
}

/* Killed between what it told and what it kept, the other process knew less than the journal. */
static void agree_with_journal(struct tower_incidents *incidents) {
    struct tower_incidents_state *state = &incidents->state;
    struct tower_incident *all = malloc(TOWER_JOURNAL_KEPT * sizeof *all);
    if (!all)
        return;
    size_t n = tower_journal_read(incidents->journal, 0, all, TOWER_JOURNAL_KEPT);
    while (n > 0 && all[n - 1].kind != TOWER_INCIDENT_PROGRAMME_LOST &&
           all[n - 1].kind != TOWER_INCIDENT_PROGRAMME_BACK)
        n--;
    bool is_lost = n > 0 && all[n - 1].kind == TOWER_INCIDENT_PROGRAMME_LOST;
    if (n > 0 && !is_lost)
        state->outage.is_open = 0;
    if (is_lost && !state->outage.is_open) {
        state->outage.is_open = 1;
        state->outage.back_ns = INT64_MIN;
        state->outage.span =
            (struct tower_incidents_span){.since_ns = all[n - 1].at_ns,
                                          .ticks_skipped = state->counts.ticks_skipped,
                                          .listeners_lost = state->counts.listeners_lost};
        mend_span(&state->outage.span, incidents->begun_ns);
        memcpy(state->outage.span.totals, state->counts.frames_by_origin,
               sizeof state->outage.span.totals);
    }
    free(all);
}

void tower_incidents_go_on(struct tower_incidents *incidents) {
    struct tower_incidents_state *state = &incidents->state;
    struct tower_journal_stats journal;
    bool is_saved = tower_journal_saved_state(incidents->journal, state, sizeof *state);
    if (!is_saved)
        state->started_ns = incidents->begun_ns;
    mend_state(state, incidents->begun_ns);
    join_counts(incidents);
    if (!is_saved) {
        state->told_requests = state->counts.requests;
        state->told_generation = UINT64_MAX;
    }
    if (*incidents->config.fallback_path == '\0')
        state->is_fallback_failed = 0;
    agree_with_journal(incidents);
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++)
        incidents->is_fault_left[i] = state->is_fault_told[i] != 0;
    tower_journal_get_stats(incidents->journal, &journal);
    incidents->missed_notes = journal.submissions_lost;
}
