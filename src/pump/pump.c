/* pump.c - AudioPump: one frame a tick, at epoch + k ticks, whatever happens. */
#include "tower/pump.h"

#include "thread.h"
#include "tower/frame_ring.h"
#include "tower/levels.h"
#include "tower/log.h"
#include "tower/transition.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct tower_pump {
    /* Constant after new. */
    struct tower_pump_config config;
    size_t frame_bytes;

    /* Owned by whoever runs the loop. */
    int64_t epoch_ns; /* when tick 0 of this epoch was due; INT64_MIN: no tick yet */
    uint64_t k;       /* the next tick of this epoch */
    uint64_t tick;    /* the next tick of all */
    bool is_behind;  /* the last tick was due before it was waited for; so that it is logged once */
    bool is_failing; /* the last write failed; likewise */
    bool has_origin; /* a frame has been emitted */
    struct tower_transition transition;
    struct tower_levels levels[TOWER_PUMP_LEVEL_FRAMES]; /* of the last frames, in turn */
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;

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

int64_t tower_pump_deadline_ns(int64_t epoch_ns, uint64_t k, uint32_t frame_samples) {
    return epoch_ns + tower_samples_to_ns((int64_t)k * frame_samples, TOWER_RATE_HZ);
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
    *ret_pump = pump;
    return 0;
}

void tower_pump_free(struct tower_pump *pump) {
    if (!pump)
        return;
    tower_pump_stop(pump);
    free(pump);
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

/* A7, A8: the live frame if there is one, else the fallback's; joined on without a click. Who is
 * late was most likely stopped together with those who bring live audio: making up for it quicker
 * than they can would put a hole into a programme that is all there. */
static enum tower_origin take_frame(struct tower_pump *pump, bool is_late) {
    const struct tower_pump_config *config = &pump->config;
    unsigned flags = 0;
    bool was_live = pump->has_origin && atomic_load(&pump->origin) == TOWER_ORIGIN_LIVE;
    bool is_making_up = is_late || pump->is_behind;
    int64_t timeout_ns = is_making_up && was_live ? TOWER_PUMP_LATE_WAIT_NS : 0;
    enum tower_origin origin = TOWER_ORIGIN_LIVE;
    if (config->pcm_buffer.pop_frame(config->pcm_buffer.self, timeout_ns, pump->frame, &flags) !=
        1) {
        flags = 0;
        origin = config->fallback.get_frame(config->fallback.self, pump->tick, pump->frame);
    }
    bool is_change = pump->has_origin && (int)origin != atomic_load(&pump->origin);
    bool is_seam = is_change || !pump->has_origin || (flags & TOWER_FRAME_DISCONTINUITY);
    if (is_seam && pump->has_origin)
        count(&pump->seams, 1);
    tower_transition_process(&pump->transition, pump->frame, config->frame_samples, is_seam);
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

/* A12, A13: said once a failure, and paid for with 0.1 s; A10 then sees to the lateness. */
static void absorb_write_error(struct tower_pump *pump, int error) {
    count(&pump->write_errors, 1);
    if (!pump->is_failing)
        tower_log_deferred(TOWER_LOG_ERROR, "pump",
                           "the encoder manager refused a frame (errno %lld); trying on", -error, 0,
                           0, 0);
    pump->is_failing = true;
    int64_t until_ns = tower_clock_now_ns(pump->config.clock) + TOWER_PUMP_WRITE_ERROR_NS;
    (void)tower_clock_sleep_until_or(pump->config.clock, until_ns, &pump->is_stopping);
}

static void run_tick(struct tower_pump *pump) {
    int64_t now_ns = tower_clock_now_ns(pump->config.clock);
    enum tower_origin origin = take_frame(pump, note_lateness(pump, now_ns));
    count(&pump->ticks_due, 1);
    if (!pump->has_origin || (int)origin != atomic_load(&pump->origin)) {
        atomic_store(&pump->origin_since_ns, now_ns);
        atomic_store(&pump->origin, (int)origin);
        pump->has_origin = true;
    }
    pump->k++;
    pump->tick++;
    const struct tower_pump_encoder *encoder = &pump->config.encoder;
    int error = encoder->write_pcm(encoder->self, pump->frame, pump->frame_bytes);
    if (error < 0) {
        absorb_write_error(pump, error);
        return;
    }
    pump->is_failing = false;
    publish_frame(pump, origin, now_ns);
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
    pump->epoch_ns = INT64_MIN;
    pump->k = 0;
    atomic_store(&pump->started_ns, tower_clock_now_ns(pump->config.clock));
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
