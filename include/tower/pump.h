/* pump.h - AudioPump: the metronome, the only clock of the system (A0-A13).
 *
 * Every tick it takes one frame, live or else from the fallback, joins it on without a click, and
 * hands it to the encoder manager. It knows the three parts only by the functions it calls.
 */
#ifndef TOWER_PUMP_H
#define TOWER_PUMP_H

#include "tower/clock.h"
#include "tower/format.h"
#include "tower/histogram.h"

/* A5: `pcm_buffer`. Returns 1 with a frame and its flags, 0 for none. The pump passes timeout 0, so
 * as not to wait (A8); only when it makes up for missed ticks, and right behind a live frame,
 * TOWER_PUMP_LATE_WAIT_NS. */
struct tower_pump_pcm_buffer {
    void *self;
    int (*pop_frame)(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags);
};
/* A5: `fallback_generator`. Fills in a whole frame and says where it is from. */
struct tower_pump_fallback {
    void *self;
    enum tower_origin (*get_frame)(void *self, uint64_t tick, int16_t *ret_frame);
};
/* A5, A3: `encoder_manager`. Takes one frame; 0 or a negative errno; must not block. */
struct tower_pump_encoder {
    void *self;
    int (*write_pcm)(void *self, const int16_t *frame, size_t frame_bytes);
};

struct tower_pump_config {
    struct tower_clock *clock;
    uint32_t frame_samples;  /* 1 to TOWER_FRAME_SAMPLES_MAX; 1152: a tick of 24 ms */
    int64_t resync_after_ns; /* behind by more than this: set the clock anew (A10); 0: always */
    bool is_realtime;        /* ask for SCHED_FIFO and a timer slack of 1 ns; go on where refused */
    struct tower_pump_pcm_buffer pcm_buffer;
    struct tower_pump_fallback fallback;
    struct tower_pump_encoder encoder;
    /* The region that another pump left (0 or below: none): its ticks, counters and the join under
     * way go on, and the tick it died in is done exactly once, if both that follow are there. If
     * not, the frame of that tick is at worst lost, or written twice. */
    int carried_fd;
    /* With their `self`: frames ever taken from pcm_buffer, those that pop_frame() took and gave
     * none for as well; and frames ever taken by the encoder. May be NULL. pop_frame() must then
     * hand `ret_frame` and `ret_flags` on to where frames are taken. */
    uint64_t (*count_popped)(void *self);
    uint64_t (*count_written)(void *self);
};

#define TOWER_PUMP_RESYNC_AFTER_NS INT64_C(250000000)
#define TOWER_PUMP_LATE_WAIT_NS INT64_C(2000000)
/* What levels are measured over: 120 ms. */
#define TOWER_PUMP_LEVEL_FRAMES 5
/* A13: what a failed write costs. */
#define TOWER_PUMP_WRITE_ERROR_NS INT64_C(100000000)

struct tower_pump_stats {
    uint64_t ticks_due; /* ticks whose time had come by the last one: emitted + failed + skipped */
    uint64_t ticks_emitted; /* frames the encoder manager took */
    uint64_t ticks_late;    /* begun after the deadline of the tick after them (A11: behind) */
    uint64_t ticks_skipped; /* given up by setting the clock anew (A10) */
    uint64_t resyncs;       /* times that was done */
    uint64_t write_errors;  /* A12 */
    uint64_t seams;         /* changes of origin or programme */
    uint64_t frames_by_origin[TOWER_ORIGIN_COUNT];
    enum tower_origin origin;      /* of the last frame */
    int64_t origin_since_ns;       /* when it became that, on the clock */
    int64_t last_emit_ns;          /* when a frame last went on air; INT64_MIN: never */
    int64_t started_ns;            /* when start() was called; INT64_MIN: never */
    uint16_t peak[TOWER_CHANNELS]; /* of the last TOWER_PUMP_LEVEL_FRAMES frames */
    uint16_t rms[TOWER_CHANNELS];
    struct tower_histogram_snapshot lateness; /* of every tick, behind its deadline */
};

struct tower_pump;

/* Make a pump. Everything in `config` is borrowed and must outlive it. If the carried region holds
 * it is this pump's, and tower_pump_fd() is carried_fd; if not, that stays open and the caller's, a
 * warning is logged, and the pump begins anew.
 * Errors: -EINVAL (something missing or out of range), -ENOMEM, -EMFILE. */
int tower_pump_new(const struct tower_pump_config *config, struct tower_pump **ret_pump);
void tower_pump_free(struct tower_pump *pump);

/* The descriptor of the region; the pump's to close. */
int tower_pump_fd(const struct tower_pump *pump);

/* Before the start: how many frames the outage had that was going on when the other pump died, and
 * the tick in `ret_next_tick` that the fallback will be asked for if it still is. 0: none. */
uint64_t tower_pump_outage(const struct tower_pump *pump, uint64_t *ret_next_tick);

/* A6: start the thread; the first tick is now, or when the next one of the pump before is due.
 * Errors: -EALREADY, -EAGAIN (no thread). */
int tower_pump_start(struct tower_pump *pump);

/* A6: stop the thread; the tick under way is finished. Waits for it, one tick at most. Does nothing
 * if it does not run. */
void tower_pump_stop(struct tower_pump *pump);

/* One turn of the thread's loop (wait for the next deadline, then one tick), for a simulation that
 * runs without the thread. Not together with start(). */
void tower_pump_step(struct tower_pump *pump);

/* When the tick at hand was due, on the clock: for who is called by write_pcm(), from within it. */
int64_t tower_pump_due_ns(const struct tower_pump *pump);

/* Any thread, never blocks. Fields are read one by one. */
void tower_pump_get_stats(const struct tower_pump *pump, struct tower_pump_stats *ret_stats);

/* Deadline in ns of tick `k` counted from `epoch_ns`: computed from k, never summed (A9). */
int64_t tower_pump_deadline_ns(int64_t epoch_ns, uint64_t k, uint32_t frame_samples);

#endif
