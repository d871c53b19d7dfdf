/* history.c - seconds and notes of the last quarter of an hour. */
#include "history.h"

#include "json_text.h"
#include "utf8.h"

#include "tower/levels.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NOTE_AGAIN_NS (60 * TOWER_NS_PER_S)

/* From what should be on air to what should not. */
static const enum tower_origin by_rank[TOWER_ORIGIN_COUNT] = {
    TOWER_ORIGIN_LIVE, TOWER_ORIGIN_FILE,    TOWER_ORIGIN_GRACE,
    TOWER_ORIGIN_TONE, TOWER_ORIGIN_SILENCE, TOWER_ORIGIN_REPAIR};

static void note(struct tower_history *history, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note(struct tower_history *history, const char *format, ...) {
    struct tower_history_note *place = &history->notes[history->n_notes++ % TOWER_HISTORY_NOTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(place->text, sizeof place->text, format, arguments);
    va_end(arguments);
    place->at_ns = history->now_ns;
}

/* What can happen many times a second, and would push out all else that is remembered. */
struct count {
    uint64_t n; /* so far */
    const char *what;
};

static void get_counts(const struct tower_status *status,
                       struct count ret_counts[TOWER_HISTORY_COUNTS]) {
    const struct tower_fanout_stats *listeners = &status->listeners;
    const struct count counts[TOWER_HISTORY_COUNTS] = {
        {status->pump.ticks_skipped, "ticks given up: the machine stood still"},
        {status->encoder.frames_repair, "frames of silence put in for an encoder that fell behind"},
        {status->router.overflow_count, "frames dropped: the queue was full"},
        {listeners->ended[TOWER_LISTENER_TIMEOUT], "listeners dropped: they took nothing"},
        {listeners->ended[TOWER_LISTENER_LAGGED], "listeners dropped: they kept falling behind"},
        {listeners->refused + status->listeners_refused_address, "listeners turned away"},
    };
    memcpy(ret_counts, counts, sizeof counts);
}

/* Of each count how much it has grown, at once but at most once a minute. */
static void note_counts(struct tower_history *history, const struct tower_status *status) {
    struct count counts[TOWER_HISTORY_COUNTS];
    get_counts(status, counts);
    for (unsigned i = 0; i < TOWER_HISTORY_COUNTS; i++) {
        struct tower_history_count *noted = &history->counts[i];
        if (counts[i].n <= noted->n || status->now_ns < noted->again_ns)
            continue;
        note(history, "%" PRIu64 " %s", counts[i].n - noted->n, counts[i].what);
        noted->n = counts[i].n;
        noted->again_ns = status->now_ns + NOTE_AGAIN_NS;
    }
}

static void begin_counts(struct tower_history *history, const struct tower_status *status) {
    struct count counts[TOWER_HISTORY_COUNTS];
    get_counts(status, counts);
    for (unsigned i = 0; i < TOWER_HISTORY_COUNTS; i++)
        history->counts[i] = (struct tower_history_count){counts[i].n, status->now_ns};
}

static bool had_producer(const struct tower_pcm_socket_stats *stats, uint64_t id) {
    for (size_t i = 0; i < stats->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        if (stats->producers[i].id == id)
            return true;
    }
    return false;
}

static void note_producers(struct tower_history *history, const struct tower_pcm_socket_stats *from,
                           const struct tower_pcm_socket_stats *to, const char *what) {
    for (size_t i = 0; i < from->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_producer_info *producer = &from->producers[i];
        const char *name = producer->identity.name;
        if (!had_producer(to, producer->id))
            note(history,
                 *name ? "%s (producer %" PRIu64 ", pid %d) %s"
                       : "%sproducer %" PRIu64 " (pid %d) %s",
                 name, producer->id, (int)producer->pid, what);
    }
}

static const struct tower_producer_info *on_air_of(const struct tower_pcm_socket_stats *stats) {
    for (size_t i = 0; i < stats->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        if (stats->producers[i].is_on_air)
            return &stats->producers[i];
    }
    return NULL;
}

/* Who is on air now, unless it is one without a name that took the air from nobody. */
static void note_on_air(struct tower_history *history, const struct tower_pcm_socket_stats *last,
                        const struct tower_pcm_socket_stats *stats) {
    const struct tower_producer_info *before = on_air_of(last), *now = on_air_of(stats);
    bool is_takeover = stats->takeovers != last->takeovers;
    if (!now || (before && before->id == now->id) || (!is_takeover && !*now->identity.name))
        return;
    const char *why = now->is_chosen ? ", chosen by hand" : is_takeover ? ", by rank" : "";
    note(history,
         *now->identity.name ? "%s (producer %" PRIu64 ") is on air%s"
                             : "%sproducer %" PRIu64 " is on air%s",
         now->identity.name, now->id, why);
}

static void note_changes(struct tower_history *history, const struct tower_status *status) {
    const struct tower_status *last = &history->last;
    if (status->state != last->state)
        note(history, "state: %s", tower_service_state_name(status->state));
    note_producers(history, &status->producers, &last->producers, "connected");
    note_producers(history, &last->producers, &status->producers, "left");
    note_on_air(history, &last->producers, &status->producers);
    if (status->pump.origin != last->pump.origin)
        note(history, "on air: %s", tower_origin_name(status->pump.origin));
    if (status->title.number != last->title.number)
        note(history, "title: %.100s", status->title.text);
    if (status->encoder.state != last->encoder.state)
        note(history, "encoder: %s", tower_encoder_state_name(status->encoder.state));
    note_counts(history, status);
}

/* Of the frames since the last second the one furthest from live; the one now if there were none.
 */
static enum tower_origin worst_origin(const struct tower_status *from,
                                      const struct tower_status *to) {
    enum tower_origin worst = to->pump.origin;
    bool is_any = false;
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++) {
        enum tower_origin origin = by_rank[i];
        uint64_t before = from->pump.frames_by_origin[origin];
        uint64_t now = to->pump.frames_by_origin[origin];
        if (origin == TOWER_ORIGIN_REPAIR) {
            before += from->encoder.frames_repair;
            now += to->encoder.frames_repair;
        }
        if (now > before) {
            worst = origin;
            is_any = true;
        }
    }
    return is_any ? worst : to->pump.origin;
}

/* The largest lateness since the last second, as the histogram has it. */
static uint32_t largest_lateness_us(const struct tower_status *from,
                                    const struct tower_status *to) {
    struct tower_histogram_snapshot since = to->pump.lateness;
    since.total = 0;
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS; i++) {
        since.counts[i] -= from->pump.lateness.counts[i];
        since.total += since.counts[i];
    }
    return (uint32_t)(tower_histogram_quantile_ns(&since, 1.0) / 1000);
}

static void enter_second(struct tower_history *history, const struct tower_status *status) {
    history->seconds[history->n_seconds++ % TOWER_HISTORY_SECONDS] = (struct tower_history_second){
        .origin = (uint8_t)worst_origin(&history->second, status),
        .peak = history->peak,
        .lateness_us = largest_lateness_us(&history->second, status),
        .listeners = status->listeners.listeners,
    };
    history->second = *status;
    history->peak = 0;
}

void tower_history_sample(struct tower_history *history, const struct tower_status *status) {
    bool is_first = history->n_seconds == 0 && history->now_ns == 0;
    history->now_ns = status->now_ns;
    history->n_seconds_before = history->n_seconds;
    history->n_notes_before = history->n_notes;
    if (is_first) {
        history->second = *status;
        begin_counts(history, status);
        note(history, "the transmitter started");
    } else {
        note_changes(history, status);
    }
    history->last = *status;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        if (status->pump.peak[channel] > history->peak)
            history->peak = status->pump.peak[channel];
    }
    if (status->now_ns - history->second.now_ns >= TOWER_NS_PER_S)
        enter_second(history, status);
}

json_t *tower_history_second_json(const struct tower_history *history, uint64_t number) {
    const struct tower_history_second *second = &history->seconds[number % TOWER_HISTORY_SECONDS];
    return json_pack("{s:s, s:I, s:f, s:f}", "origin",
                     tower_origin_name((enum tower_origin)second->origin), "listeners",
                     (json_int_t)second->listeners, "lateness_ms", second->lateness_us / 1e3,
                     "peak_dbfs", tower_levels_dbfs(second->peak));
}

json_t *tower_history_note_json(const struct tower_history *history, uint64_t number) {
    const struct tower_history_note *one = &history->notes[number % TOWER_HISTORY_NOTES];
    double age = (double)(history->now_ns - one->at_ns) / (double)TOWER_NS_PER_S;
    /* A title may have been cut in the middle of a character. */
    size_t bytes = strlen(one->text);
    while (bytes > 0 && !tower_utf8_is_valid(one->text, bytes))
        bytes--;
    return json_pack("{s:f, s:s%}", "seconds_ago", age, "text", one->text, bytes);
}

static json_t *seconds_json(const struct tower_history *history) {
    json_t *list = json_array();
    uint64_t first =
        history->n_seconds > TOWER_HISTORY_SECONDS ? history->n_seconds - TOWER_HISTORY_SECONDS : 0;
    for (uint64_t i = first; list && i < history->n_seconds; i++) {
        if (json_array_append_new(list, tower_history_second_json(history, i)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *notes_json(const struct tower_history *history) {
    json_t *list = json_array();
    uint64_t first =
        history->n_notes > TOWER_HISTORY_NOTES ? history->n_notes - TOWER_HISTORY_NOTES : 0;
    for (uint64_t i = first; list && i < history->n_notes; i++) {
        if (json_array_append_new(list, tower_history_note_json(history, i)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

char *tower_history_json(const struct tower_history *history, size_t *ret_bytes) {
    json_t *json =
        json_pack("{s:o, s:o}", "seconds", seconds_json(history), "events", notes_json(history));
    return tower_json_text(json, JSON_COMPACT | JSON_REAL_PRECISION(6), "", ret_bytes);
}
