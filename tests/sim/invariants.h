/* invariants.h - what must hold whatever happens, each written down once.
 *
 * The ledger is told what the world does to the station and what the station does, knows from that
 * what must follow, and says where it did not. Its rules are computed apart from the parts they
 * judge: only constants of the public headers are shared.
 */
#ifndef TOWER_TESTS_SIM_INVARIANTS_H
#define TOWER_TESTS_SIM_INVARIANTS_H

#include "tower/encoder_manager.h"
#include "tower/fallback.h"
#include "tower/pump.h"
#include "tower/router.h"
#include "world.h"

/* name, contract ids (contracts.md; those without a number are of the part named), what holds */
#define SIM_INVARIANTS(X)                                                                          \
    X(ONE_FRAME, "A1 A7", "a tick hands over one frame, and nothing else does")                    \
    X(WHOLE_FRAME, "A3", "what is handed over is exactly one whole frame")                         \
    X(NO_WAIT, "A8", "on time the pump waits for nothing; late and behind a live frame, 2 ms")     \
    X(DEADLINE, "A4 A9", "tick k is due at epoch + k frames, computed and not summed, to the ns")  \
    X(CATCH_UP, "A10", "up to resync_after late, missed ticks follow at once, none is given up")   \
    X(RESYNC, "A10", "later than that the clock is set anew and the ticks missed are counted")     \
    X(WALL, "A9 A10", "ticks against the clock: less than one off for each time it was set anew")  \
    X(WARNED, "A11", "falling behind is warned of, once")                                          \
    X(REFUSED, "A12 A13", "a refused frame costs itself and 0.1 s, and is logged once")            \
    X(TICK_COUNTS, "A10 A12", "due = emitted + failed + skipped, and late, as they happened")      \
    X(ORIGINS, "A7", "the frames of each origin are counted, and add up to the ticks emitted")     \
    X(ONE_CLOCK, "A1", "no part asks a clock but the one it was given")                            \
    X(LOCKS, "R15", "every lock that is taken is given back")                                      \
    X(BOUNDED, "R1 R4", "the queue never holds more than its capacity")                            \
    X(DROP_NEWEST, "R7", "a full queue drops the frame that arrives, counts it, and no other")     \
    X(FIFO, "R6 R17 R18", "frames come out once each, in the order they went in, bit for bit")     \
    X(WHOLE_IN, "R11 R12 R13", "a part of a frame is dropped and counted, and never comes out")    \
    X(NONE, "R9", "an empty queue gives none, within its timeout, and counts it")                  \
    X(ROUTER_STATS, "R23", "count, capacity, overflows, partial, pushed and popped are the truth") \
    X(WITHHELD, "R10", "dead air that is withheld takes its turn in the queue, and is not heard")  \
    X(DISCONTINUITY, "R7 R16",                                                                     \
      "the first frame of a programme or behind a drop says so, no other")                         \
    X(GRACE, "R10", "an outage begins with the grace period, to the frame")                        \
    X(FALLBACK_ORDER, "fallback", "then the file, while it has frames, else tone, else silence")   \
    X(OUTAGES, "R10 fallback", "outages are counted, and a resync does not begin one")             \
    X(UNTOUCHED, "transition", "where there is no seam a frame passes bit for bit")                \
    X(STEP, "transition", "no step larger than the programmes' own, or -60 dBFS, at any seam")     \
    X(SEAMS, "transition", "seams are where the origin or the programme changes, and counted")     \
    X(ONE_FOR_ONE, "encoder", "one MP3 frame out for every frame in, whatever dies")               \
    X(IN_ORDER, "encoder", "MP3 frames are of the PCM they stand for: in order, none twice")       \
    X(REPAIR, "encoder", "silence stands where PCM was dropped or LAME failed, and nowhere else")  \
    X(JOIN, "encoder", "what an encoder made without knowing what came before is not on air")      \
    X(MAKERS, "encoder", "frames by primary, spare and repair add up to the frames out")           \
    X(START, "supervisor", "a child is started when it is due: not before, and not after")         \
    X(BACKOFF, "supervisor", "waits between starts are those configured; degraded: the last")      \
    X(ONE_CHILD, "supervisor",                                                                     \
      "no child before the last is reaped, no descriptor left or misused")                         \
    X(TOLD_APART, "supervisor", "each way to fail is counted once, under its name")                \
    X(INNOCENT, "supervisor", "a child that does its duty is never given up")                      \
    X(PROMPT, "supervisor", "a child that does not is, and in time")                               \
    X(STATE, "encoder", "starting, on air, recovering, degraded: as it is, and none for ever")     \
    X(RETURN, "encoder", "ffmpeg in order is on air again within its start and two seconds")

enum sim_invariant {
#define X(name, ids, words) SIM_##name,
    SIM_INVARIANTS(X)
#undef X
        SIM_INVARIANT_COUNT
};

struct sim_invariant_words {
    const char *ids;
    const char *words;
};
extern const struct sim_invariant_words sim_invariants[SIM_INVARIANT_COUNT];

/* A frame in the queue, as it must come out. */
struct sim_queued {
    struct sim_content content;
    bool is_flagged;
    bool is_withheld;
};

/* What the pump was given at a tick, before the transition. */
enum sim_input { SIM_INPUT_CONTENT, SIM_INPUT_ZERO, SIM_INPUT_COPY };

struct sim_pump_rules {
    int64_t tick_ns; /* rounded down */
    int64_t start_ns;
    int64_t epoch_ns;
    uint64_t k;
    uint64_t tick;
    bool has_begun;
    bool is_behind;  /* when it came to wait */
    bool is_on_time; /* it had to wait */
    bool is_late;    /* the next tick is due as well */
    bool is_failing;
    bool is_refused; /* this tick */
    int64_t due_ns;  /* the next tick */
    int64_t expected_ns;
    int64_t oversleep_ns; /* that is still to come, in this step */
    int64_t handed_ns;
    unsigned handed; /* frames, in this step */
    uint64_t emitted, failed, skipped, late, resyncs, warnings, errors;
    uint64_t seen_warnings, seen_errors;
    uint64_t by_origin[TOWER_ORIGIN_COUNT];
};

struct sim_router_rules {
    struct sim_queued queue[SIM_CAPACITY_MAX];
    size_t capacity;
    uint64_t pushed, popped, overflows, partials, underflows;
    bool is_marked, is_gap;
    bool is_withheld; /* the frame just taken, and nothing is heard in its place yet */
};

struct sim_sound_rules {
    enum tower_origin origin;
    bool has_origin;
    bool is_seam;
    bool is_joining; /* the last frame did not end as it came in */
    enum sim_input input;
    struct sim_content content;
    int16_t copy[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
    int32_t own_step; /* of the input */
    int32_t limit;    /* what the last 10 ms on air could step by */
    int32_t tone_step;
    int16_t last[TOWER_CHANNELS];
    uint64_t seams;
    uint64_t next_tick, outage_frames, grace_frames, outages;
};

#define SIM_FATES 4096
#define SIM_LAME_FAILURES 256

struct sim_encoder_rules {
    size_t slots; /* frames held back */
    size_t queue_frames;
    size_t queued; /* since the encoder last ran */
    uint64_t written, dropped, out, silent;
    bool is_dropped[SIM_FATES];                /* by frame written */
    uint32_t lame_failures[SIM_LAME_FAILURES]; /* the how manieth block LAME failed on, from 1 */
    uint64_t lame_failed;

    bool is_degraded;
    uint32_t row;
    bool has_child;    /* started, and not given up */
    bool has_left;     /* on air, or failed, before */
    bool is_start_due; /* at the step under way */
    bool has_started;  /* in the step under way */
    bool is_faulty;
    enum sim_fault fault;
    uint64_t failures[SIM_FAULTS];
    struct sim_child_plan plan;
    int64_t start_due_ns;
    int64_t started_ns;
    int64_t answered_ns;              /* first frame; INT64_MAX: none */
    int64_t calm_ns;                  /* since when nothing was done to child or encoder thread */
    int64_t prompt_ns;                /* by when the faulty one must be given up */
    struct tower_encoder_stats stats; /* at the last step */
};

struct sim_ledger {
    const struct sim_settings *settings;
    size_t frame_bytes;
    bool is_broken;
    uint64_t hash;
    uint64_t checks[SIM_INVARIANT_COUNT];
    struct sim_pump_rules pump;
    struct sim_router_rules router;
    struct sim_sound_rules sound;
    struct sim_encoder_rules encoder;
};

/* `condition` must hold; else say where it did not, once, and end the world. */
#define SIM_HOLDS(ledger, name, condition, ...)                                                    \
    do {                                                                                           \
        (ledger)->checks[SIM_##name]++;                                                            \
        if (__builtin_expect(!(condition), 0))                                                     \
            sim_ledger_break((ledger), SIM_##name, __VA_ARGS__);                                   \
    } while (0)

void sim_ledger_break(struct sim_ledger *ledger, enum sim_invariant invariant, const char *format,
                      ...) __attribute__((format(printf, 3, 4)));

void sim_ledger_init(struct sim_ledger *ledger, const struct sim_settings *settings);

static inline void sim_ledger_hash(struct sim_ledger *ledger, uint64_t value) {
    uint64_t h = (ledger->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    ledger->hash = h ^ h >> 29;
}

/* ---- router ---- */

void sim_ledger_marked(struct sim_ledger *ledger);
void sim_ledger_pushed(struct sim_ledger *ledger, const struct sim_content *content,
                       bool is_withheld, int result);
/* A push that was no whole frame. */
void sim_ledger_pushed_part(struct sim_ledger *ledger, int result);
/* A producer has gone: so many bytes of a frame were dropped, and so many it had written of one. */
void sim_ledger_discarded(struct sim_ledger *ledger, size_t dropped_bytes, size_t written_bytes);
size_t sim_ledger_queued(const struct sim_ledger *ledger);

/* ---- a step of the pump, in this order ---- */

/* When the next tick is due. */
int64_t sim_ledger_due_ns(const struct sim_ledger *ledger);
/* It comes to wait; it will wake up `oversleep_ns` late if it waits. */
void sim_ledger_awaits(struct sim_ledger *ledger, int64_t now_ns, int64_t oversleep_ns);
/* It asks for a live frame. */
void sim_ledger_begins(struct sim_ledger *ledger, int64_t now_ns, int64_t timeout_ns);
void sim_ledger_popped(struct sim_ledger *ledger, int taken, const void *frame, unsigned flags,
                       int64_t waited_ns, int64_t timeout_ns);
/* It gets one from the fallback; `file`: what the file has to give, NULL: nothing; whether that was
 * its start. */
void sim_ledger_fell_back(struct sim_ledger *ledger, uint64_t tick, enum tower_origin origin,
                          const int16_t *frame, const struct sim_content *file, bool is_file_start);
/* It hands one over, which is refused or not. */
void sim_ledger_handed(struct sim_ledger *ledger, const int16_t *frame, size_t frame_bytes,
                       bool is_refused);
/* That took until `now_ns`. */
void sim_ledger_handed_until(struct sim_ledger *ledger, int64_t now_ns);
void sim_ledger_returned(struct sim_ledger *ledger, int64_t now_ns);

/* The parts' own figures are those of the ledger. */
void sim_ledger_compare(struct sim_ledger *ledger, const struct tower_pump_stats *pump,
                        const struct tower_router_stats *router,
                        const struct tower_fallback_stats *fallback);

/* ---- encoder: invariants_encoder.c ---- */

void sim_ledger_encoder_init(struct sim_ledger *ledger);
void sim_ledger_written(struct sim_ledger *ledger);
void sim_ledger_lame_failed(struct sim_ledger *ledger);
void sim_ledger_output(struct sim_ledger *ledger, const uint8_t *frame, size_t bytes);
/* The encoder thread runs; `can_start`: no child is left that was given up. */
void sim_ledger_encoder_runs(struct sim_ledger *ledger, int64_t now_ns, bool can_start);
void sim_ledger_encoder_ran(struct sim_ledger *ledger, int64_t now_ns,
                            const struct tower_encoder_stats *stats);
void sim_ledger_child_starts(struct sim_ledger *ledger, const struct sim_child_plan *plan,
                             bool has_another, unsigned open_fds, int64_t now_ns);
void sim_ledger_child_faulted(struct sim_ledger *ledger, enum sim_fault fault, int64_t now_ns);
void sim_ledger_child_answered(struct sim_ledger *ledger, int64_t now_ns);
void sim_ledger_child_blamed(struct sim_ledger *ledger, const char *text);
/* Something was done to the encoder thread, LAME or the PCM: returning may take longer. */
void sim_ledger_disturbed(struct sim_ledger *ledger, int64_t now_ns);

#endif
