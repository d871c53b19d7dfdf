/* invariants.c - the rules of the pump, the router, the fallback and the sound. */
#include "invariants.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_LIMIT 32 /* -60 dBFS */
#define TONE_DBFS (-18)
/* Of the tone's frames so many in one are looked through for a step within. */
#define TONE_SAMPLE 16
/* The ticks are held against the clock so many apart: an error there stays. */
#define WALL_SAMPLE 16

const struct sim_invariant_words sim_invariants[SIM_INVARIANT_COUNT] = {
#define X(name, ids, words) {ids, words},
    SIM_INVARIANTS(X)
#undef X
};

static const int16_t no_sound[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];

void sim_ledger_break(struct sim_ledger *ledger, enum sim_invariant invariant, const char *format,
                      ...) {
    if (ledger->is_broken)
        return;
    ledger->is_broken = true;
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    int64_t since_ns = sim_now_ns() - ledger->pump.start_ns;
    printf("not ok - [%s] %s: %s\n", sim_invariants[invariant].ids, sim_invariants[invariant].words,
           what);
    printf("# at tick %" PRIu64 ", %.9f s, seed %" PRIu64 "\n", ledger->pump.tick,
           (double)since_ns / 1e9, ledger->settings->seed);
}

/* Samples to time, apart from the code that is judged. */
static int64_t samples_ns(uint64_t n_samples) {
    return (int64_t)((unsigned __int128)n_samples * 1000000000U / TOWER_RATE_HZ);
}

static int64_t due_ns(const struct sim_ledger *ledger, uint64_t k) {
    return ledger->pump.epoch_ns + samples_ns(k * ledger->settings->frame_samples);
}

int64_t sim_ledger_due_ns(const struct sim_ledger *ledger) {
    return ledger->pump.due_ns;
}

void sim_ledger_init(struct sim_ledger *ledger, const struct sim_settings *settings) {
    memset(ledger, 0, sizeof *ledger);
    ledger->settings = settings;
    ledger->frame_bytes = tower_frame_bytes(settings->frame_samples);
    ledger->pump.tick_ns = samples_ns(settings->frame_samples);
    ledger->router.capacity = settings->capacity_frames;
    struct sim_sound_rules *sound = &ledger->sound;
    sound->next_tick = UINT64_MAX;
    while (samples_ns(sound->grace_frames * settings->frame_samples) < settings->grace_ns)
        sound->grace_frames++;
    double peak = 32767 * pow(10, TONE_DBFS / 20.0);
    sound->tone_step = (int32_t)ceil(2 * peak * sin(M_PI * settings->tone_hz / TOWER_RATE_HZ)) + 3;
    sim_ledger_encoder_init(ledger);
}

/* ---- router ---- */

size_t sim_ledger_queued(const struct sim_ledger *ledger) {
    return (size_t)(ledger->router.pushed - ledger->router.popped);
}

void sim_ledger_marked(struct sim_ledger *ledger) {
    ledger->router.is_marked = true;
}

void sim_ledger_pushed(struct sim_ledger *ledger, const struct sim_content *content,
                       bool is_withheld, int result) {
    struct sim_router_rules *router = &ledger->router;
    bool is_full = sim_ledger_queued(ledger) == router->capacity;
    SIM_HOLDS(ledger, DROP_NEWEST, result == !is_full, "push gave %d with %zu of %zu queued",
              result, sim_ledger_queued(ledger), router->capacity);
    if (is_full) {
        router->overflows++;
        router->is_gap = true;
        return;
    }
    router->queue[router->pushed % router->capacity] =
        (struct sim_queued){*content, router->is_marked || router->is_gap, is_withheld};
    router->pushed++;
    router->is_marked = false;
    router->is_gap = false;
}

void sim_ledger_pushed_part(struct sim_ledger *ledger, int result) {
    SIM_HOLDS(ledger, WHOLE_IN, result < 0, "a part of a frame was taken (%d)", result);
    ledger->router.partials++;
}

void sim_ledger_discarded(struct sim_ledger *ledger, size_t dropped_bytes, size_t written_bytes) {
    SIM_HOLDS(ledger, WHOLE_IN, dropped_bytes == written_bytes, "%zu bytes dropped, %zu written",
              dropped_bytes, written_bytes);
}

/* ---- the tick ---- */

void sim_ledger_awaits(struct sim_ledger *ledger, int64_t now_ns, int64_t oversleep_ns) {
    struct sim_pump_rules *pump = &ledger->pump;
    pump->handed = 0;
    pump->is_refused = false;
    if (!pump->has_begun) {
        pump->has_begun = true;
        pump->start_ns = now_ns;
        pump->epoch_ns = now_ns;
        pump->due_ns = now_ns;
    }
    int64_t due = pump->due_ns;
    int64_t behind_ns = now_ns - due;
    bool was_behind = pump->is_behind;
    pump->is_behind = behind_ns > 0;
    pump->is_on_time = behind_ns < 0;
    pump->expected_ns = pump->is_on_time ? due + oversleep_ns : now_ns;
    pump->oversleep_ns = pump->is_on_time ? 0 : oversleep_ns;
    if (pump->is_on_time && pump->tick % WALL_SAMPLE == 0) {
        int64_t ideal_ns =
            pump->start_ns + samples_ns((pump->emitted + pump->failed + pump->skipped) *
                                        ledger->settings->frame_samples);
        int64_t off_ns = due - ideal_ns;
        int64_t rounding_ns = (int64_t)pump->resyncs + 1;
        SIM_HOLDS(ledger, WALL,
                  off_ns >= -rounding_ns &&
                      off_ns <= (int64_t)pump->resyncs * pump->tick_ns + rounding_ns,
                  "off by %" PRId64 " ns after %" PRIu64 " resyncs", off_ns, pump->resyncs);
    }
    if (behind_ns > ledger->settings->resync_after_ns) {
        pump->skipped += (uint64_t)(behind_ns / pump->tick_ns);
        pump->resyncs++;
        pump->warnings++;
        pump->epoch_ns = now_ns;
        pump->k = 0;
    } else if (behind_ns > 0 && !was_behind) {
        pump->warnings++;
    }
}

void sim_ledger_begins(struct sim_ledger *ledger, int64_t now_ns, int64_t timeout_ns) {
    struct sim_pump_rules *pump = &ledger->pump;
    const struct sim_sound_rules *sound = &ledger->sound;
    int64_t off_ns = now_ns - pump->expected_ns;
    if (pump->is_on_time)
        SIM_HOLDS(ledger, DEADLINE, off_ns == 0, "off by %" PRId64 " ns", off_ns);
    else if (pump->k == 0)
        SIM_HOLDS(ledger, RESYNC, off_ns == 0, "off by %" PRId64 " ns", off_ns);
    else
        SIM_HOLDS(ledger, CATCH_UP, off_ns == 0, "off by %" PRId64 " ns", off_ns);
    pump->due_ns = due_ns(ledger, pump->k + 1);
    pump->is_late = now_ns >= pump->due_ns;
    pump->late += pump->is_late;
    bool is_making_up = pump->is_late || pump->is_behind;
    bool was_live = sound->has_origin && sound->origin == TOWER_ORIGIN_LIVE;
    int64_t expected_ns = is_making_up && was_live ? TOWER_PUMP_LATE_WAIT_NS : 0;
    SIM_HOLDS(ledger, NO_WAIT, timeout_ns == expected_ns, "waits for %" PRId64 " ns, not %" PRId64,
              timeout_ns, expected_ns);
    sim_ledger_hash(ledger, (uint64_t)now_ns);
}

/* Where this frame is from, and whether it follows on. */
static void set_origin(struct sim_ledger *ledger, enum tower_origin origin, bool is_flagged) {
    struct sim_sound_rules *sound = &ledger->sound;
    sound->is_seam = !sound->has_origin || origin != sound->origin || is_flagged;
    sound->seams += sound->is_seam && sound->has_origin;
    sound->has_origin = true;
    sound->origin = origin;
}

void sim_ledger_popped(struct sim_ledger *ledger, int taken, const void *frame, unsigned flags,
                       int64_t waited_ns, int64_t timeout_ns) {
    struct sim_router_rules *router = &ledger->router;
    struct sim_sound_rules *sound = &ledger->sound;
    bool is_empty = sim_ledger_queued(ledger) == 0;
    if (taken != 1) {
        router->underflows++;
        SIM_HOLDS(ledger, NONE, taken == 0 && is_empty && waited_ns == timeout_ns,
                  "pop gave %d after %" PRId64 " ns of %" PRId64 " with %zu queued", taken,
                  waited_ns, timeout_ns, sim_ledger_queued(ledger));
        return;
    }
    SIM_HOLDS(ledger, FIFO, !is_empty && waited_ns == 0, "a frame that nobody queued");
    if (is_empty)
        return;
    const struct sim_queued *queued = &router->queue[router->popped++ % router->capacity];
    SIM_HOLDS(ledger, DISCONTINUITY, !(flags & TOWER_FRAME_DISCONTINUITY) == !queued->is_flagged,
              "flags %u, not %d", flags, queued->is_flagged);
    if (queued->is_withheld || (flags & TOWER_FRAME_WITHHELD)) {
        router->is_withheld = true;
        SIM_HOLDS(ledger, WITHHELD,
                  queued->is_withheld && (flags & TOWER_FRAME_WITHHELD) &&
                      sim_content_is(&queued->content, frame, ledger->frame_bytes),
                  "flags %u, not %d", flags, queued->is_withheld);
        return;
    }
    set_origin(ledger, TOWER_ORIGIN_LIVE, queued->is_flagged);
    sound->input = SIM_INPUT_CONTENT;
    sound->content = queued->content;
    sound->own_step = queued->content.own_step;
    /* Elsewhere it is compared behind the transition, which must not touch it. */
    if (sound->is_seam || sound->is_joining)
        SIM_HOLDS(ledger, FIFO, sim_content_is(&queued->content, frame, ledger->frame_bytes),
                  "frame %" PRIx64 " in place of %" PRIx64, sim_content_stamp(frame),
                  queued->content.stamp);
    else if (queued->content.stamp != 0)
        SIM_HOLDS(ledger, FIFO, sim_content_stamp(frame) == queued->content.stamp,
                  "frame %" PRIx64 " in place of %" PRIx64, sim_content_stamp(frame),
                  queued->content.stamp);
}

static enum tower_origin expected_origin(struct sim_ledger *ledger, bool has_file) {
    struct sim_sound_rules *sound = &ledger->sound;
    if (sound->outage_frames < sound->grace_frames) {
        sound->outage_frames++;
        return TOWER_ORIGIN_GRACE;
    }
    if (has_file)
        return TOWER_ORIGIN_FILE;
    return ledger->settings->tone_hz > 0 ? TOWER_ORIGIN_TONE : TOWER_ORIGIN_SILENCE;
}

void sim_ledger_fell_back(struct sim_ledger *ledger, uint64_t tick, enum tower_origin origin,
                          const int16_t *frame, const struct sim_content *file,
                          bool is_file_start) {
    struct sim_sound_rules *sound = &ledger->sound;
    ledger->router.is_withheld = false;
    SIM_HOLDS(ledger, OUTAGES, tick == ledger->pump.tick, "tick %" PRIu64 " told as %" PRIu64,
              ledger->pump.tick, tick);
    if (tick != sound->next_tick) {
        sound->outage_frames = 0;
        sound->outages++;
    }
    sound->next_tick = tick + 1;
    bool is_grace = sound->outage_frames < sound->grace_frames;
    enum tower_origin expected = expected_origin(ledger, file != NULL);
    if (expected != TOWER_ORIGIN_FILE)
        file = NULL;
    if (is_grace || origin == TOWER_ORIGIN_GRACE)
        SIM_HOLDS(ledger, GRACE, origin == expected, "%s, not %s, at frame %" PRIu64 " of %" PRIu64,
                  tower_origin_name(origin), tower_origin_name(expected), sound->outage_frames,
                  sound->grace_frames);
    else
        SIM_HOLDS(ledger, FALLBACK_ORDER, origin == expected, "%s, not %s",
                  tower_origin_name(origin), tower_origin_name(expected));
    bool was_file = sound->has_origin && sound->origin == TOWER_ORIGIN_FILE;
    set_origin(ledger, expected, false);
    /* A seam that the fallback sees to by itself. */
    sound->is_seam |= file && was_file && is_file_start;
    sound->own_step = 0;
    sound->input = SIM_INPUT_ZERO;
    if (file) {
        sound->input = SIM_INPUT_CONTENT;
        sound->content = *file;
        sound->own_step = file->own_step;
    } else if (expected == TOWER_ORIGIN_TONE) {
        sound->input = SIM_INPUT_COPY;
        sound->own_step = sound->tone_step;
        memcpy(sound->copy, frame, ledger->frame_bytes);
    }
}

/* ---- the sound ---- */

static bool is_input(const struct sim_ledger *ledger, const int16_t *frame) {
    const struct sim_sound_rules *sound = &ledger->sound;
    switch (sound->input) {
    case SIM_INPUT_CONTENT:
        return sim_content_is(&sound->content, frame, ledger->frame_bytes);
    case SIM_INPUT_ZERO:
        return memcmp(frame, no_sound, ledger->frame_bytes) == 0;
    case SIM_INPUT_COPY:
        break;
    }
    return memcmp(frame, sound->copy, ledger->frame_bytes) == 0;
}

static const int16_t *make_input(struct sim_ledger *ledger) {
    struct sim_sound_rules *sound = &ledger->sound;
    if (sound->input == SIM_INPUT_ZERO)
        return no_sound;
    if (sound->input == SIM_INPUT_CONTENT)
        sim_content_fill(&sound->content, sound->copy, ledger->frame_bytes);
    return sound->copy;
}

static int32_t first_step(const struct sim_sound_rules *sound, const int16_t *frame) {
    int32_t largest = 0;
    for (int channel = 0; channel < TOWER_CHANNELS; channel++) {
        int32_t step = abs(frame[channel] - sound->last[channel]);
        largest = step > largest ? step : largest;
    }
    return largest;
}

static void hash_sound(struct sim_ledger *ledger, const int16_t *frame) {
    for (size_t i = 0; i + 8 <= ledger->frame_bytes; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)frame + i, sizeof word);
        sim_ledger_hash(ledger, word);
    }
}

/* Is the bare seam no larger a step than the new programme begins with? */
static bool is_soft(const struct sim_sound_rules *sound, const int16_t *input) {
    for (int channel = 0; channel < TOWER_CHANNELS; channel++) {
        if (abs(input[channel] - sound->last[channel]) >
            abs(input[channel + TOWER_CHANNELS] - input[channel]))
            return false;
    }
    return true;
}

/* At a seam, and until the old programme has faded out. */
static void hear_join(struct sim_ledger *ledger, const int16_t *frame) {
    struct sim_sound_rules *sound = &ledger->sound;
    uint32_t n_samples = ledger->settings->frame_samples;
    const int16_t *input = make_input(ledger);
    int32_t limit = sound->limit > sound->own_step ? sound->limit : sound->own_step;
    limit = limit > LEAST_LIMIT ? limit : LEAST_LIMIT;
    int32_t step = first_step(sound, frame), within = sim_largest_step(frame, n_samples);
    SIM_HOLDS(ledger, STEP, step <= limit && within <= limit,
              "a step of %d, then one of %d, where %d is the limit (%s)", step, within, limit,
              tower_origin_name(sound->origin));
    if (!sound->is_joining && is_soft(sound, input))
        SIM_HOLDS(ledger, UNTOUCHED, memcmp(frame, input, ledger->frame_bytes) == 0,
                  "a seam of a step of %d was joined", step);
    size_t tail = (size_t)TOWER_RATE_HZ / 100 * TOWER_CHANNELS;
    size_t end = (size_t)n_samples * TOWER_CHANNELS;
    sound->is_joining =
        memcmp(frame + end - TOWER_CHANNELS, input + end - TOWER_CHANNELS, TOWER_SAMPLE_BYTES) != 0;
    bool is_pure = memcmp(frame + end - tail, input + end - tail, tail * sizeof *frame) == 0;
    sound->limit = is_pure ? sound->own_step : limit;
    hash_sound(ledger, frame);
}

static void hear(struct sim_ledger *ledger, const int16_t *frame) {
    struct sim_sound_rules *sound = &ledger->sound;
    SIM_HOLDS(ledger, UNTOUCHED, is_input(ledger, frame), "a frame of %s was changed",
              tower_origin_name(sound->origin));
    int32_t step = first_step(sound, frame);
    if (sound->input == SIM_INPUT_COPY && ledger->pump.tick % TONE_SAMPLE == 0) {
        int32_t within = sim_largest_step(frame, ledger->settings->frame_samples);
        step = step > within ? step : within;
    }
    SIM_HOLDS(ledger, STEP, step <= sound->own_step, "a step of %d where %d is the limit (%s)",
              step, sound->own_step, tower_origin_name(sound->origin));
    sound->limit = sound->own_step;
    if (sound->input == SIM_INPUT_COPY)
        hash_sound(ledger, frame);
    else if (sound->input == SIM_INPUT_CONTENT)
        sim_ledger_hash(ledger, sound->content.stamp ^ (uint64_t)sound->content.id << 48);
}

void sim_ledger_handed(struct sim_ledger *ledger, const int16_t *frame, size_t frame_bytes,
                       bool is_refused) {
    struct sim_pump_rules *pump = &ledger->pump;
    struct sim_sound_rules *sound = &ledger->sound;
    if (pump->handed++ > 0)
        sim_ledger_break(ledger, SIM_ONE_FRAME, "another frame in the same tick");
    pump->is_refused = is_refused;
    if (ledger->router.is_withheld)
        sim_ledger_break(ledger, SIM_WITHHELD, "it is on air");
    SIM_HOLDS(ledger, WHOLE_FRAME, frame_bytes == ledger->frame_bytes, "%zu bytes", frame_bytes);
    sim_ledger_hash(ledger, (uint64_t)sound->origin << 1 | is_refused);
    if (sound->is_seam || sound->is_joining)
        hear_join(ledger, frame);
    else
        hear(ledger, frame);
    memcpy(sound->last, frame + (ledger->settings->frame_samples - 1) * TOWER_CHANNELS,
           sizeof sound->last);
}

void sim_ledger_handed_until(struct sim_ledger *ledger, int64_t now_ns) {
    ledger->pump.handed_ns = now_ns;
}

void sim_ledger_returned(struct sim_ledger *ledger, int64_t now_ns) {
    struct sim_pump_rules *pump = &ledger->pump;
    SIM_HOLDS(ledger, ONE_FRAME, pump->handed == 1, "%u frames in a tick", pump->handed);
    if (pump->is_refused) {
        pump->failed++;
        pump->errors += !pump->is_failing;
        int64_t cost_ns = now_ns - pump->handed_ns - pump->oversleep_ns;
        SIM_HOLDS(ledger, REFUSED, cost_ns == TOWER_PUMP_WRITE_ERROR_NS, "it cost %" PRId64 " ns",
                  cost_ns);
    } else {
        pump->emitted++;
        pump->by_origin[ledger->sound.origin]++;
    }
    pump->is_failing = pump->is_refused;
    pump->k++;
    pump->tick++;
    SIM_HOLDS(ledger, WARNED, pump->seen_warnings == pump->warnings,
              "%" PRIu64 " warnings, not %" PRIu64, pump->seen_warnings, pump->warnings);
    SIM_HOLDS(ledger, REFUSED, pump->seen_errors == pump->errors,
              "%" PRIu64 " errors logged, not %" PRIu64, pump->seen_errors, pump->errors);
}

/* ---- figures ---- */

static void compare_router(struct sim_ledger *ledger, const struct tower_router_stats *stats) {
    const struct sim_router_rules *router = &ledger->router;
    SIM_HOLDS(ledger, BOUNDED, stats->count <= router->capacity, "%" PRIu64 " queued",
              stats->count);
    SIM_HOLDS(ledger, ROUTER_STATS,
              stats->count == sim_ledger_queued(ledger) && stats->capacity == router->capacity &&
                  stats->overflow_count == router->overflows &&
                  stats->partial_count == router->partials &&
                  stats->pushed_count == router->pushed && stats->popped_count == router->popped &&
                  stats->underflow_count == router->underflows,
              "count %" PRIu64 " (%zu), overflows %" PRIu64 " (%" PRIu64 "), underflows %" PRIu64
              " (%" PRIu64 ")",
              stats->count, sim_ledger_queued(ledger), stats->overflow_count, router->overflows,
              stats->underflow_count, router->underflows);
}

void sim_ledger_compare(struct sim_ledger *ledger, const struct tower_pump_stats *stats,
                        const struct tower_router_stats *router,
                        const struct tower_fallback_stats *fallback) {
    const struct sim_pump_rules *pump = &ledger->pump;
    uint64_t due = pump->emitted + pump->failed + pump->skipped;
    SIM_HOLDS(ledger, TICK_COUNTS,
              stats->ticks_due == due && stats->ticks_emitted == pump->emitted &&
                  stats->write_errors == pump->failed && stats->ticks_skipped == pump->skipped &&
                  stats->resyncs == pump->resyncs && stats->ticks_late == pump->late &&
                  stats->lateness.total == due - pump->skipped,
              "due %" PRIu64 " (%" PRIu64 "), emitted %" PRIu64 " (%" PRIu64 "), skipped %" PRIu64
              " (%" PRIu64 "), late %" PRIu64 " (%" PRIu64 ")",
              stats->ticks_due, due, stats->ticks_emitted, pump->emitted, stats->ticks_skipped,
              pump->skipped, stats->ticks_late, pump->late);
    uint64_t sum = 0;
    for (int origin = 0; origin < TOWER_ORIGIN_COUNT; origin++) {
        sum += stats->frames_by_origin[origin];
        SIM_HOLDS(ledger, ORIGINS, stats->frames_by_origin[origin] == pump->by_origin[origin],
                  "%" PRIu64 " of %s, not %" PRIu64, stats->frames_by_origin[origin],
                  tower_origin_name((enum tower_origin)origin), pump->by_origin[origin]);
    }
    SIM_HOLDS(ledger, ORIGINS, sum == stats->ticks_emitted, "%" PRIu64 " in all", sum);
    SIM_HOLDS(ledger, SEAMS, stats->seams == ledger->sound.seams, "%" PRIu64 " seams, not %" PRIu64,
              stats->seams, ledger->sound.seams);
    SIM_HOLDS(ledger, OUTAGES, fallback->outages == ledger->sound.outages,
              "%" PRIu64 " outages, not %" PRIu64, fallback->outages, ledger->sound.outages);
    compare_router(ledger, router);
}
