/* pump.c - AudioPump: one frame a tick, at epoch + k ticks, whatever happens. */
#include "tower/pump.h"

#include "pump_state.h"
#include "thread.h"
#include "tower/frame_ring.h"
#include "tower/levels.h"
#include "tower/log.h"
#include "tower/transition.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is at hand of the tick that another pump died in. */
enum rest {
    REST_NONE,
    REST_FRAME,    /* its frame */
    REST_WITHHELD, /* it took a frame that is not for the air */
};

struct tower_pump {
    /* Constant after new. */
    struct tower_pump_config config;
    size_t frame_bytes;
    struct tower_pump_state state; /* what is behind it is owned by whoever runs the loop */

    /* Owned by whoever runs the loop. */
    int64_t epoch_ns; /* when tick 0 of this epoch was due; INT64_MIN: no tick yet */
    uint64_t k;       /* the next tick of this epoch */
    uint64_t tick;    /* the next tick of all */
    bool is_behind;  /* the last tick was due before it was waited for; so that it is logged once */
    bool is_failing; /* the last write failed; likewise */
    bool has_origin; /* a frame has been emitted */
    enum rest rest;
    bool is_fallback_new;   /* it does not know where the one before it was */
    uint64_t outage_frames; /* in a row that were not live */
    struct tower_transition transition;
    struct tower_levels levels[TOWER_PUMP_LEVEL_FRAMES]; /* of the last frames, in turn */
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    bool is_resumed; /* it goes on at the next start */

    /* Atomic: written by the pump (is_stopping: by stop), read by anyone. */
    _Atomic bool is_stopping;
    _Atomic uint64_t ticks_due;
    _Atomic uint64_t ticks_emitted;
    _Atomic uint64_t ticks_late;
    _Atomic uint64_t ticks_skipped;
    _Atomic uint64_t resyncs;
    _Atomic uint64_t write_errors;
    _Atomic uint64_t seams;
    _Atomic uint64_t frames_by_origin[TOWER_ORIGIN_COUNT];
    _Atomic int origin;
    _Atomic int64_t origin_since_ns;
    _Atomic int64_t last_emit_ns;
    _Atomic int64_t started_ns;
    _Atomic uint16_t peak[TOWER_CHANNELS];
    _Atomic uint16_t rms[TOWER_CHANNELS];
    struct tower_histogram lateness;
};

/* Counters have one writer each; a plain increment of an atomic would be a locked instruction. */
static void count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

int64_t tower_pump_deadline_ns(int64_t epoch_ns, uint64_t k, uint32_t frame_samples) {
    return epoch_ns + tower_samples_to_ns((int64_t)k * frame_samples, TOWER_RATE_HZ);
}

static void run_rest(struct tower_pump *pump);

/* Go on from the record that another pump left. */
static void resume(struct tower_pump *pump, const struct tower_pump_record *record) {
    pump->epoch_ns = record->epoch_ns;
    pump->k = record->k;
    pump->tick = record->tick;
    pump->has_origin = record->has_origin;
    pump->outage_frames = record->outage_frames;
    pump->transition = record->transition;
    pump->is_fallback_new = true;
    pump->is_resumed = true;
    pump->ticks_due = record->ticks_due;
    pump->ticks_emitted = record->ticks_emitted;
    pump->ticks_late = record->ticks_late;
    pump->ticks_skipped = record->ticks_skipped;
    pump->resyncs = record->resyncs;
    pump->write_errors = record->write_errors;
    pump->seams = record->seams;
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        pump->frames_by_origin[i] = record->frames_by_origin[i];
    pump->origin = record->origin;
    pump->origin_since_ns = record->origin_since_ns;
    pump->last_emit_ns = record->last_emit_ns;
    pump->started_ns = record->started_ns;
    tower_histogram_restore(&pump->lateness, &record->lateness);
}

int tower_pump_new(const struct tower_pump_config *config, struct tower_pump **ret_pump) {
    if (!config->clock || config->frame_samples == 0 ||
        config->frame_samples > TOWER_FRAME_SAMPLES_MAX || config->resync_after_ns < 0 ||
        !config->pcm_buffer.pop_frame || !config->fallback.get_frame || !config->encoder.write_pcm)
        return -EINVAL;
    struct tower_pump *pump = calloc(1, sizeof *pump);
    if (!pump)
        return -ENOMEM;
    pump->config = *config;
    pump->frame_bytes = tower_frame_bytes(config->frame_samples);
    pump->epoch_ns = INT64_MIN;
    pump->last_emit_ns = INT64_MIN;
    pump->started_ns = INT64_MIN;
    pump->origin = TOWER_ORIGIN_GRACE;
    tower_transition_init(&pump->transition);
    struct tower_pump_record record;
    int is_left = tower_pump_state_open(&pump->state, config->carried_fd, config->frame_samples,
                                        tower_clock_now_ns(config->clock), &record);
    if (is_left < 0) {
        free(pump);
        return is_left;
    }
    if (is_left) {
        resume(pump, &record);
        run_rest(pump);
    }
    *ret_pump = pump;
    return 0;
}

void tower_pump_free(struct tower_pump *pump) {
    if (!pump)
        return;
    tower_pump_stop(pump);
    tower_pump_state_done(&pump->state);
    free(pump);
}

int tower_pump_fd(const struct tower_pump *pump) {
    return pump->state.region.fd;
}

uint64_t tower_pump_outage(const struct tower_pump *pump, uint64_t *ret_next_tick) {
    bool has_frame = pump->rest == REST_FRAME;
    *ret_next_tick = pump->tick + has_frame;
    if (has_frame && pump->state.attempt->origin == TOWER_ORIGIN_LIVE)
        return 0;
    return pump->outage_frames + has_frame;
}

/* A10: too late to make up for what was missed. The tick at hand is due now; those in between are
 * given up. They get no number, so an outage of live audio that this falls into stays one. */
static void resync(struct tower_pump *pump, int64_t now_ns, int64_t behind_ns) {
    int64_t tick_ns = tower_samples_to_ns(pump->config.frame_samples, TOWER_RATE_HZ);
    uint64_t skipped = (uint64_t)(behind_ns / tick_ns);
    pump->epoch_ns = now_ns;
    pump->k = 0;
    count(&pump->ticks_skipped, skipped);
    count(&pump->ticks_due, skipped);
    count(&pump->resyncs, 1);
    tower_log_deferred(TOWER_LOG_WARNING, "pump",
                       "%lld ms behind: clock set anew, %lld ticks given up", behind_ns / 1000000,
                       (int64_t)skipped, 0, 0);
}

static int64_t next_deadline_ns(const struct tower_pump *pump) {
    return tower_pump_deadline_ns(pump->epoch_ns, pump->k, pump->config.frame_samples);
}

/* A11: sleep until the next tick is due, if it is not. A10: if it was due before we came to wait
 * for it we are behind, and either do it and those after it at once or set the clock anew. */
static void await_deadline(struct tower_pump *pump) {
    struct tower_clock *clock = pump->config.clock;
    int64_t now_ns = tower_clock_now_ns(clock);
    if (pump->epoch_ns == INT64_MIN)
        pump->epoch_ns = now_ns;
    int64_t behind_ns = now_ns - next_deadline_ns(pump);
    if (behind_ns < 0)
        (void)tower_clock_sleep_until_or(clock, next_deadline_ns(pump), &pump->is_stopping);
    else if (behind_ns > pump->config.resync_after_ns)
        resync(pump, now_ns, behind_ns);
    else if (behind_ns > 0 && !pump->is_behind)
        tower_log_deferred(TOWER_LOG_WARNING, "pump",
                           "%lld ms behind: making up for the missed ticks at once",
                           behind_ns / 1000000, 0, 0, 0);
    pump->is_behind = behind_ns > 0;
}

/* Note how late this tick begins, at `now_ns`. Returns whether the next one is due as well. */
static bool note_lateness(struct tower_pump *pump, int64_t now_ns) {
    tower_histogram_add(&pump->lateness, now_ns - next_deadline_ns(pump));
    bool is_late =
        now_ns >= tower_pump_deadline_ns(pump->epoch_ns, pump->k + 1, pump->config.frame_samples);
    if (is_late)
        count(&pump->ticks_late, 1);
    return is_late;
}

static uint64_t count_popped(const struct tower_pump *pump) {
    const struct tower_pump_config *config = &pump->config;
    return config->count_popped ? config->count_popped(config->pcm_buffer.self) : 0;
}

static uint64_t count_written(const struct tower_pump *pump) {
    const struct tower_pump_config *config = &pump->config;
    return config->count_written ? config->count_written(config->encoder.self) : 0;
}

/* From here to the commit, each store to `stage` says that what stands before it is there. */
static void begin_attempt(struct tower_pump *pump) {
    struct tower_pump_attempt *attempt = pump->state.attempt;
    atomic_store_explicit(&attempt->stage, TOWER_PUMP_IDLE, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    attempt->tick = pump->tick;
    attempt->flags = 0;
    attempt->popped_before = count_popped(pump);
    attempt->written_before = count_written(pump);
    atomic_store_explicit(&attempt->stage, TOWER_PUMP_BEGUN, memory_order_release);
}

/* A7, A8: the live frame if there is one, else the fallback's. Who is late was most likely stopped
 * together with those who bring live audio: making up for it quicker than they can would put a hole
 * into a programme that is all there. */
static void take_frame(struct tower_pump *pump, bool is_late) {
    const struct tower_pump_config *config = &pump->config;
    struct tower_pump_attempt *attempt = pump->state.attempt;
    bool was_live = pump->has_origin && atomic_load(&pump->origin) == TOWER_ORIGIN_LIVE;
    bool is_making_up = is_late || pump->is_behind;
    int64_t timeout_ns = is_making_up && was_live ? TOWER_PUMP_LATE_WAIT_NS : 0;
    enum rest rest = pump->rest;
    pump->rest = REST_NONE;
    if (rest == REST_FRAME)
        return;
    if (rest != REST_WITHHELD)
        begin_attempt(pump);
    enum tower_origin origin = TOWER_ORIGIN_LIVE;
    if (rest == REST_WITHHELD ||
        config->pcm_buffer.pop_frame(config->pcm_buffer.self, timeout_ns, attempt->frame,
                                     &attempt->flags) != 1) {
        origin = config->fallback.get_frame(config->fallback.self, pump->tick, attempt->frame);
        attempt->flags = 0;
    }
    attempt->origin = (int32_t)origin;
    atomic_store_explicit(&attempt->stage, TOWER_PUMP_TAKEN, memory_order_release);
}

/* Join the frame on without a click. */
static enum tower_origin join_frame(struct tower_pump *pump, bool is_rest) {
    const struct tower_pump_attempt *attempt = pump->state.attempt;
    enum tower_origin origin = (enum tower_origin)attempt->origin;
    bool is_change = pump->has_origin && (int)origin != atomic_load(&pump->origin);
    bool is_jump = pump->is_fallback_new && !is_rest &&
                   (origin == TOWER_ORIGIN_FILE || origin == TOWER_ORIGIN_TONE);
    bool is_seam =
        is_change || is_jump || !pump->has_origin || (attempt->flags & TOWER_FRAME_DISCONTINUITY);
    if (is_seam && pump->has_origin)
        count(&pump->seams, 1);
    pump->is_fallback_new &= is_rest;
    memcpy(pump->frame, attempt->frame, pump->frame_bytes);
    tower_transition_process(&pump->transition, pump->frame, pump->config.frame_samples, is_seam);
    return origin;
}

/* Of the last frames together, so that who looks ten times a second misses none. */
static void publish_levels(struct tower_pump *pump) {
    struct tower_levels *newest = &pump->levels[pump->tick % TOWER_PUMP_LEVEL_FRAMES];
    tower_levels_reset(newest);
    tower_levels_add(newest, pump->frame, pump->config.frame_samples);
    struct tower_levels window;
    tower_levels_reset(&window);
    for (unsigned i = 0; i < TOWER_PUMP_LEVEL_FRAMES; i++)
        tower_levels_join(&window, &pump->levels[i]);
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        atomic_store_explicit(&pump->peak[channel], window.peak[channel], memory_order_relaxed);
        atomic_store_explicit(&pump->rms[channel],
                              (uint16_t)lrint(tower_levels_rms(&window, channel)),
                              memory_order_relaxed);
    }
}

static void publish_frame(struct tower_pump *pump, enum tower_origin origin, int64_t now_ns) {
    count(&pump->ticks_emitted, 1);
    if ((unsigned)origin < TOWER_ORIGIN_COUNT)
        count(&pump->frames_by_origin[origin], 1);
    atomic_store_explicit(&pump->last_emit_ns, now_ns, memory_order_relaxed);
    publish_levels(pump);
}

/* The tick is done, and with it what was kept of it. */
static void commit(struct tower_pump *pump) {
    struct tower_pump_record *record = tower_pump_state_next(&pump->state);
    record->epoch_ns = pump->epoch_ns;
    record->k = pump->k;
    record->tick = pump->tick;
    record->outage_frames = pump->outage_frames;
    record->ticks_due = get(&pump->ticks_due);
    record->ticks_emitted = get(&pump->ticks_emitted);
    record->ticks_late = get(&pump->ticks_late);
    record->ticks_skipped = get(&pump->ticks_skipped);
    record->resyncs = get(&pump->resyncs);
    record->write_errors = get(&pump->write_errors);
    record->seams = get(&pump->seams);
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        record->frames_by_origin[i] = get(&pump->frames_by_origin[i]);
    record->origin_since_ns = atomic_load_explicit(&pump->origin_since_ns, memory_order_relaxed);
    record->last_emit_ns = atomic_load_explicit(&pump->last_emit_ns, memory_order_relaxed);
    record->started_ns = atomic_load_explicit(&pump->started_ns, memory_order_relaxed);
    record->origin = atomic_load_explicit(&pump->origin, memory_order_relaxed);
    record->has_origin = pump->has_origin;
    tower_histogram_snapshot(&pump->lateness, &record->lateness);
    record->transition = pump->transition;
    tower_pump_state_commit(&pump->state);
}

/* A12, A13: said once a failure, and paid for with 0.1 s; A10 then sees to the lateness. */
static void absorb_write_error(struct tower_pump *pump, int error) {
    count(&pump->write_errors, 1);
    commit(pump);
    if (!pump->is_failing)
        tower_log_deferred(TOWER_LOG_ERROR, "pump",
                           "the encoder manager refused a frame (errno %lld); trying on", -error, 0,
                           0, 0);
    pump->is_failing = true;
    int64_t until_ns = tower_clock_now_ns(pump->config.clock) + TOWER_PUMP_WRITE_ERROR_NS;
    (void)tower_clock_sleep_until_or(pump->config.clock, until_ns, &pump->is_stopping);
}

/* From the frame that was taken on; `is_written`: the encoder has it already. */
static void finish_tick(struct tower_pump *pump, int64_t now_ns, bool is_rest, bool is_written) {
    enum tower_origin origin = join_frame(pump, is_rest);
    count(&pump->ticks_due, 1);
    if (!pump->has_origin || (int)origin != atomic_load(&pump->origin)) {
        atomic_store(&pump->origin_since_ns, now_ns);
        atomic_store(&pump->origin, (int)origin);
        pump->has_origin = true;
    }
    pump->outage_frames = origin == TOWER_ORIGIN_LIVE ? 0 : pump->outage_frames + 1;
    pump->k++;
    pump->tick++;
    const struct tower_pump_encoder *encoder = &pump->config.encoder;
    int error = is_written ? 0 : encoder->write_pcm(encoder->self, pump->frame, pump->frame_bytes);
    if (error < 0) {
        absorb_write_error(pump, error);
        return;
    }
    pump->is_failing = false;
    publish_frame(pump, origin, now_ns);
    commit(pump);
}

static void run_tick(struct tower_pump *pump) {
    int64_t now_ns = tower_clock_now_ns(pump->config.clock);
    bool is_rest = pump->rest == REST_FRAME;
    take_frame(pump, note_lateness(pump, now_ns));
    finish_tick(pump, now_ns, is_rest, false);
}

/* The tick that another pump died in: what is at hand of it, and whether all was done but to say
 * so. The two queues tell, which nobody else has touched since. */
static void run_rest(struct tower_pump *pump) {
    struct tower_pump_attempt *attempt = pump->state.attempt;
    uint32_t stage = atomic_load(&attempt->stage);
    if (stage == TOWER_PUMP_BEGUN && pump->config.count_popped &&
        count_popped(pump) == attempt->popped_before + 1) {
        pump->rest = attempt->flags & TOWER_FRAME_WITHHELD ? REST_WITHHELD : REST_FRAME;
        attempt->origin = TOWER_ORIGIN_LIVE;
        if (pump->rest == REST_FRAME)
            atomic_store(&attempt->stage, TOWER_PUMP_TAKEN);
    } else if (stage == TOWER_PUMP_TAKEN) {
        pump->rest = REST_FRAME;
    }
    if (stage != TOWER_PUMP_TAKEN || !pump->config.count_written ||
        count_written(pump) != attempt->written_before + 1)
        return;
    int64_t now_ns = tower_clock_now_ns(pump->config.clock);
    pump->rest = REST_NONE;
    if (pump->epoch_ns == INT64_MIN)
        pump->epoch_ns = now_ns;
    (void)note_lateness(pump, now_ns);
    finish_tick(pump, now_ns, true, true);
}

void tower_pump_step(struct tower_pump *pump) {
    await_deadline(pump);
    run_tick(pump);
}

static void *run_pump(void *arg) {
    struct tower_pump *pump = arg;
    if (pump->config.is_realtime && tower_thread_make_realtime(TOWER_PRIORITY_PUMP) < 0)
        tower_log_deferred(TOWER_LOG_WARNING, "pump",
                           "no real-time priority (allow it with CAP_SYS_NICE or LimitRTPRIO=); "
                           "ticks may come late under load",
                           0, 0, 0, 0);
    for (;;) {
        await_deadline(pump);
        if (atomic_load(&pump->is_stopping))
            return NULL;
        run_tick(pump);
    }
}

int tower_pump_start(struct tower_pump *pump) {
    if (pump->is_started)
        return -EALREADY;
    atomic_store(&pump->is_stopping, false);
    if (!pump->is_resumed) {
        pump->epoch_ns = INT64_MIN;
        pump->k = 0;
    }
    if (!pump->is_resumed || atomic_load(&pump->started_ns) == INT64_MIN)
        atomic_store(&pump->started_ns, tower_clock_now_ns(pump->config.clock));
    pump->is_resumed = false;
    int error = tower_thread_start(&pump->thread, "pump", run_pump, pump);
    if (error < 0)
        return error;
    pump->is_started = true;
    return 0;
}

void tower_pump_stop(struct tower_pump *pump) {
    if (!pump->is_started)
        return;
    atomic_store(&pump->is_stopping, true);
    tower_clock_wake(pump->config.clock);
    (void)pthread_join(pump->thread, NULL);
    pump->is_started = false;
}

int64_t tower_pump_due_ns(const struct tower_pump *pump) {
    /* By now the next tick is the one counted. */
    return tower_pump_deadline_ns(pump->epoch_ns, pump->k - 1, pump->config.frame_samples);
}

void tower_pump_get_stats(const struct tower_pump *pump, struct tower_pump_stats *ret_stats) {
    struct tower_pump_stats stats = {
        .ticks_emitted = atomic_load_explicit(&pump->ticks_emitted, memory_order_relaxed),
        .ticks_due = atomic_load_explicit(&pump->ticks_due, memory_order_relaxed),
        .ticks_late = atomic_load_explicit(&pump->ticks_late, memory_order_relaxed),
        .ticks_skipped = atomic_load_explicit(&pump->ticks_skipped, memory_order_relaxed),
        .resyncs = atomic_load_explicit(&pump->resyncs, memory_order_relaxed),
        .write_errors = atomic_load_explicit(&pump->write_errors, memory_order_relaxed),
        .seams = atomic_load_explicit(&pump->seams, memory_order_relaxed),
        .origin = (enum tower_origin)atomic_load_explicit(&pump->origin, memory_order_relaxed),
        .origin_since_ns = atomic_load_explicit(&pump->origin_since_ns, memory_order_relaxed),
        .last_emit_ns = atomic_load_explicit(&pump->last_emit_ns, memory_order_relaxed),
        .started_ns = atomic_load_explicit(&pump->started_ns, memory_order_relaxed),
    };
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        stats.frames_by_origin[i] =
            atomic_load_explicit(&pump->frames_by_origin[i], memory_order_relaxed);
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        stats.peak[channel] = atomic_load_explicit(&pump->peak[channel], memory_order_relaxed);
        stats.rms[channel] = atomic_load_explicit(&pump->rms[channel], memory_order_relaxed);
    }
    tower_histogram_snapshot(&pump->lateness, &stats.lateness);
    *ret_stats = stats;
}
