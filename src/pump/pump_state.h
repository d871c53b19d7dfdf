/* pump_state.h - what of the pump outlives its process: a record of the last tick that was done,
 * and the tick under way.
 *
 * A tick takes a frame from one queue and puts it into another, and either may outlive the process
 * too. So what was taken lies here until the tick is done, and with it how far both queues were
 * when it began: whoever comes after a death knows by that what of the tick is still to do.
 */
#ifndef TOWER_PUMP_PUMP_STATE_H
#define TOWER_PUMP_PUMP_STATE_H

#include "tower/format.h"
#include "tower/histogram.h"
#include "tower/region.h"
#include "tower/transition.h"

#include <stdatomic.h>

/* As it stands after a tick. */
struct tower_pump_record {
    int64_t epoch_ns;       /* when tick 0 of this epoch was due; INT64_MIN: no tick yet */
    uint64_t k;             /* the next tick of this epoch */
    uint64_t tick;          /* the next tick of all */
    uint64_t outage_frames; /* in a row that were not live, up to the last */
    uint64_t ticks_due;     /* from here on as in struct tower_pump_stats */
    uint64_t ticks_emitted;
    uint64_t ticks_late;
    uint64_t ticks_skipped;
    uint64_t resyncs;
    uint64_t write_errors;
    uint64_t seams;
    uint64_t frames_by_origin[TOWER_ORIGIN_COUNT];
    int64_t origin_since_ns;
    int64_t last_emit_ns;
    int64_t started_ns;
    int32_t origin;
    uint32_t has_origin; /* 0 or 1: a frame has been emitted */
    struct tower_histogram_snapshot lateness;
    struct tower_transition transition;
};

enum tower_pump_stage {
    TOWER_PUMP_IDLE,
    TOWER_PUMP_BEGUN, /* a live frame may have been taken, and then is in `frame` with its flags */
    TOWER_PUMP_TAKEN, /* `frame`, `flags` and `origin` are this tick's; it may have been written */
};

/* The tick under way; the record's next one, or else it is done and this is of no use. */
struct tower_pump_attempt {
    _Atomic uint32_t stage;
    unsigned flags;
    int32_t origin;
    uint64_t tick;
    uint64_t popped_before;  /* frames taken from the router before it */
    uint64_t written_before; /* and given to the encoder */
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS]; /* before the transition */
};

struct tower_pump_storage;

struct tower_pump_state {
    struct tower_region region;
    struct tower_pump_storage *storage;
    struct tower_pump_attempt *attempt; /* in it */
};

/* Go on with the region behind `fd` (0 or below: none) or make one. Returns 1 with what was left in
 * `ret_record`, all of it in its bounds, and an attempt that is idle unless it holds and is the
 * record's next tick; 0 with `ret_record` untouched and the attempt idle. Where frames were of
 * another size, the record is for frames of `frame_samples`, the attempt idle.
 * Errors: -ENOMEM, -EMFILE. */
int tower_pump_state_open(struct tower_pump_state *state, int fd, uint32_t frame_samples,
                          int64_t now_ns, struct tower_pump_record *ret_record);
void tower_pump_state_done(struct tower_pump_state *state);

/* Where the next record is to be written, and: it is. A death before leaves the last one. */
struct tower_pump_record *tower_pump_state_next(struct tower_pump_state *state);
void tower_pump_state_commit(struct tower_pump_state *state);

#endif
