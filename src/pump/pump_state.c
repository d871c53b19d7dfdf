/* pump_state.c - what of the pump outlives its process, and how far it is believed. */
#include "pump_state.h"

#include "tower/log.h"
#include "tower/pump.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define MAGIC UINT64_C(0x31504d5550574f54) /* "TOWPUMP1", little-endian */
#define VERSION 1
/* More than anything is ever counted to, with room to add to it. */
#define COUNT_MAX (UINT64_MAX / 16)
/* Ticks that were missed for longer than this are no gap in the programme any more. */
#define BEHIND_MAX_NS (86400 * TOWER_NS_PER_S)
/* A hundred years. */
#define EPOCH_MAX_SAMPLES (INT64_C(100) * 366 * 86400 * TOWER_RATE_HZ)

/* The process may be killed between any two instructions: what it had stored by then is there. So
 * the record that is not `current` is filled and then becomes it by one store; before that the
 * compiler may put none of the others. */
struct tower_pump_storage {
    uint64_t magic;
    uint32_t version;
    uint32_t record_bytes;
    uint32_t attempt_bytes;
    uint32_t frame_samples;
    _Atomic uint32_t current; /* of `records` */
    struct tower_pump_record records[2];
    struct tower_pump_attempt attempt;
};

/* ---- what another process left ---- */

static bool holds(const struct tower_pump_storage *storage) {
    return storage->magic == MAGIC && storage->version == VERSION &&
           storage->record_bytes == sizeof(struct tower_pump_record) &&
           storage->attempt_bytes == sizeof(struct tower_pump_attempt) &&
           storage->frame_samples > 0 && storage->frame_samples <= TOWER_FRAME_SAMPLES_MAX &&
           atomic_load(&storage->current) <= 1;
}

/* Is there a deadline of the next tick, and is it one of today? Else the clock is set anew. */
static void check_clock(struct tower_pump_record *record, uint32_t old_samples,
                        uint32_t frame_samples, int64_t now_ns) {
    bool holds = record->epoch_ns != INT64_MIN && record->epoch_ns >= -INT64_MAX / 4 &&
                 record->epoch_ns <= now_ns && record->k <= EPOCH_MAX_SAMPLES / old_samples;
    if (holds) {
        int64_t tick_ns = tower_samples_to_ns(old_samples, TOWER_RATE_HZ);
        int64_t due_ns = tower_pump_deadline_ns(record->epoch_ns, record->k, old_samples);
        holds = due_ns <= now_ns + 2 * tick_ns && due_ns >= now_ns - BEHIND_MAX_NS;
        if (holds && old_samples != frame_samples) {
            record->epoch_ns = due_ns;
            record->k = 0;
        }
    }
    if (!holds) {
        record->epoch_ns = INT64_MIN;
        record->k = 0;
    }
}

static bool are_below(const uint64_t *counts, size_t n, uint64_t most) {
    for (size_t i = 0; i < n; i++) {
        if (counts[i] > most)
            return false;
    }
    return true;
}

static void check_counts(struct tower_pump_record *record) {
    const uint64_t counts[] = {record->ticks_due,     record->ticks_emitted, record->ticks_late,
                               record->ticks_skipped, record->resyncs,       record->write_errors,
                               record->seams};
    bool hold =
        are_below(counts, sizeof counts / sizeof *counts, COUNT_MAX) &&
        are_below(record->frames_by_origin, TOWER_ORIGIN_COUNT, COUNT_MAX) &&
        record->ticks_due == record->ticks_emitted + record->write_errors + record->ticks_skipped;
    if (!hold) {
        record->ticks_due = record->ticks_emitted = record->ticks_late = 0;
        record->ticks_skipped = record->resyncs = record->write_errors = record->seams = 0;
        memset(record->frames_by_origin, 0, sizeof record->frames_by_origin);
    }
    struct tower_histogram_snapshot *lateness = &record->lateness;
    if (!hold || !are_below(lateness->counts, TOWER_HISTOGRAM_BUCKETS, COUNT_MAX) ||
        lateness->sum_ns > INT64_MAX || lateness->max_ns < 0)
        memset(lateness, 0, sizeof *lateness);
    lateness->scale = TOWER_HISTOGRAM_TICKS;
}

static void check_record(struct tower_pump_record *record, int64_t now_ns) {
    check_counts(record);
    if (record->tick > COUNT_MAX)
        record->tick = 0;
    if (record->outage_frames > record->tick)
        record->outage_frames = 0;
    if (record->has_origin > 1 || (uint32_t)record->origin >= TOWER_ORIGIN_COUNT) {
        record->has_origin = 0;
        record->origin = TOWER_ORIGIN_GRACE;
        record->outage_frames = 0;
    }
    if (record->origin_since_ns > now_ns)
        record->origin_since_ns = now_ns;
    if (record->last_emit_ns > now_ns)
        record->last_emit_ns = INT64_MIN;
    if (record->started_ns > now_ns)
        record->started_ns = now_ns;
    if (!tower_transition_is_valid(&record->transition))
        tower_transition_init(&record->transition);
}

static bool attempt_holds(const struct tower_pump_attempt *attempt,
                          const struct tower_pump_record *record) {
    uint32_t stage = atomic_load(&attempt->stage);
    return attempt->tick == record->tick &&
           (stage == TOWER_PUMP_BEGUN ||
            (stage == TOWER_PUMP_TAKEN && (uint32_t)attempt->origin < TOWER_ORIGIN_COUNT));
}

static void take_record(struct tower_pump_state *state, uint32_t frame_samples, int64_t now_ns,
                        struct tower_pump_record *ret_record) {
    struct tower_pump_storage *storage = state->storage;
    uint32_t old_samples = storage->frame_samples;
    memcpy(ret_record, &storage->records[atomic_load(&storage->current)], sizeof *ret_record);
    bool is_next = attempt_holds(&storage->attempt, ret_record);
    check_clock(ret_record, old_samples, frame_samples, now_ns);
    check_record(ret_record, now_ns);
    if (old_samples != frame_samples)
        ret_record->outage_frames = ret_record->outage_frames < COUNT_MAX / TOWER_FRAME_SAMPLES_MAX
                                        ? ret_record->outage_frames * old_samples / frame_samples
                                        : 0;
    if (!is_next || old_samples != frame_samples)
        atomic_store(&storage->attempt.stage, TOWER_PUMP_IDLE);
    if (old_samples == frame_samples)
        return;
    /* A death between these two leaves a record that was converted and is taken for one that was
     * not: with k 0 that is right for its clock, and off by little for its outage. */
    memcpy(tower_pump_state_next(state), ret_record, sizeof *ret_record);
    tower_pump_state_commit(state);
    storage->frame_samples = frame_samples;
}

static int make(struct tower_pump_state *state, uint32_t frame_samples) {
    int error = tower_region_init(&state->region, "tower-pump", sizeof *state->storage);
    if (error < 0)
        return error;
    state->storage = state->region.memory;
    state->attempt = &state->storage->attempt;
    for (unsigned i = 0; i < 2; i++) {
        state->storage->records[i].epoch_ns = INT64_MIN;
        state->storage->records[i].last_emit_ns = INT64_MIN;
        state->storage->records[i].started_ns = INT64_MIN;
        state->storage->records[i].origin = TOWER_ORIGIN_GRACE;
    }
    state->storage->magic = MAGIC;
    state->storage->version = VERSION;
    state->storage->record_bytes = sizeof(struct tower_pump_record);
    state->storage->attempt_bytes = sizeof(struct tower_pump_attempt);
    state->storage->frame_samples = frame_samples;
    return 0;
}

int tower_pump_state_open(struct tower_pump_state *state, int fd, uint32_t frame_samples,
                          int64_t now_ns, struct tower_pump_record *ret_record) {
    if (fd <= 0)
        return make(state, frame_samples);
    int error = tower_region_open(&state->region, fd, sizeof *state->storage);
    if (error == 0 && !holds(state->region.memory)) {
        error = -EBADMSG;
        state->region.fd = -1; /* the caller's */
        tower_region_done(&state->region);
    }
    if (error < 0) {
        tower_log(TOWER_LOG_WARNING, "pump",
                  "what another process left of the pump does not hold (%s); beginning without",
                  strerror(-error));
        return make(state, frame_samples);
    }
    state->storage = state->region.memory;
    state->attempt = &state->storage->attempt;
    take_record(state, frame_samples, now_ns, ret_record);
    return 1;
}

void tower_pump_state_done(struct tower_pump_state *state) {
    tower_region_done(&state->region);
}

struct tower_pump_record *tower_pump_state_next(struct tower_pump_state *state) {
    return &state->storage
                ->records[1 - atomic_load_explicit(&state->storage->current, memory_order_relaxed)];
}

void tower_pump_state_commit(struct tower_pump_state *state) {
    struct tower_pump_storage *storage = state->storage;
    uint32_t current = atomic_load_explicit(&storage->current, memory_order_relaxed);
    atomic_store_explicit(&storage->current, 1 - current, memory_order_release);
}
