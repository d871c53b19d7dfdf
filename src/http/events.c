/* events.c - the texts of /events. */
#include "events.h"

#include "json_text.h"
#include "status_json.h"

#include "tower/levels.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* One event with `json`, which is let go of, on one line. Returns false where there is no memory.
 */
static bool print_event(FILE *out, const char *name, json_t *json) {
    size_t bytes;
    char *text = tower_json_text(json, JSON_COMPACT | JSON_REAL_PRECISION(6), "", &bytes);
    if (!text)
        return false;
    bool is_out = fprintf(out, "event: %s\ndata: %s\n\n", name, text) > 0;
    free(text);
    return is_out;
}

static bool print_history(FILE *out, const struct tower_history *history) {
    bool is_good = true;
    for (uint64_t i = history->n_notes_before; i < history->n_notes; i++)
        is_good = is_good && print_event(out, "note", tower_history_note_json(history, i));
    for (uint64_t i = history->n_seconds_before; i < history->n_seconds; i++)
        is_good = is_good && print_event(out, "second", tower_history_second_json(history, i));
    return is_good;
}

static bool print_news(FILE *out, const struct tower_status *last,
                       const struct tower_status *status, const struct tower_history *history,
                       bool is_time_for_status) {
    const struct tower_pump_stats *pump = &status->pump;
    bool is_good = print_event(out, "levels", tower_levels_json(pump));
    if (!last || last->state != status->state || last->pump.origin != pump->origin)
        is_good = is_good &&
                  print_event(out, "state",
                              json_pack("{s:s, s:s, s:f}", "state",
                                        tower_service_state_name(status->state), "origin",
                                        tower_origin_name(pump->origin), "origin_seconds",
                                        (double)(status->now_ns - pump->origin_since_ns) / 1e9));
    if (!last || last->listeners.listeners != status->listeners.listeners)
        is_good = is_good && print_event(out, "listeners",
                                         json_pack("{s:I, s:I}", "current",
                                                   (json_int_t)status->listeners.listeners, "peak",
                                                   (json_int_t)status->listeners.listeners_peak));
    if (!last || last->title.number != status->title.number)
        is_good =
            is_good && print_event(out, "title",
                                   json_pack("{s:s, s:I}", "text", status->title.text, "from_frame",
                                             (json_int_t)status->title.from_frame));
    if (history)
        is_good = is_good && print_history(out, history);
    if (is_time_for_status)
        is_good = is_good && print_event(out, "status", tower_status_object(status));
    return is_good;
}

static char *make(const struct tower_status *last, const struct tower_status *status,
                  const struct tower_history *history, bool is_time_for_status, size_t *ret_bytes) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    bool is_good = print_news(out, last, status, history, is_time_for_status);
    if (fclose(out) != 0 || !is_good) {
        free(text);
        return NULL;
    }
    *ret_bytes = bytes;
    return text;
}

char *tower_events_all(const struct tower_status *status, size_t *ret_bytes) {
    return make(NULL, status, NULL, true, ret_bytes);
}

char *tower_events_news(const struct tower_status *last, const struct tower_status *status,
                        const struct tower_history *history, bool is_time_for_status,
                        size_t *ret_bytes) {
    return make(last, status, history, is_time_for_status, ret_bytes);
}
