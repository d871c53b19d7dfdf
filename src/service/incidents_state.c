/* incidents_state.c - what another process left, in its bounds. */
#include "incidents_state.h"

void tower_incidents_span_mend(struct tower_incidents_span *span, int64_t at_ns) {
    if (span->since_ns < 0 || span->since_ns > at_ns)
        span->since_ns = at_ns;
}

void tower_incidents_state_mend(struct tower_incidents_state *state, int64_t at_ns) {
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
        tower_incidents_span_mend(&state->faults[i], at_ns);
    tower_incidents_span_mend(&state->outage.span, at_ns);
    tower_incidents_span_mend(&state->encoder, at_ns);
    tower_incidents_span_mend(&state->fallback, at_ns);
    if (state->outage.back_ns < 0 || state->outage.back_ns > at_ns)
        state->outage.back_ns = INT64_MIN;
    if (state->outage.to_substitute_ns < 0 || state->outage.to_substitute_ns > TOWER_NS_PER_S)
        state->outage.to_substitute_ns = 0;
    if (state->told_refused_ns < 0 || state->told_refused_ns > at_ns)
        state->told_refused_ns = INT64_MIN;
    if (state->started_ns < 0 || state->started_ns > at_ns)
        state->started_ns = at_ns;
    if (state->told_skipped > state->counts.ticks_skipped)
        state->told_skipped = state->counts.ticks_skipped;
    if (state->told_refused > state->counts.listeners_refused)
        state->told_refused = state->counts.listeners_refused;
    if (state->told_refused_address > state->counts.listeners_refused_address)
        state->told_refused_address = state->counts.listeners_refused_address;
}
