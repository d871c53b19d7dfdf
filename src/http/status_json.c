/* status_json.c - the state of the transmitter as JSON. */
#include "status_json.h"

#include "json_text.h"

#include "tower/levels.h"
#include "tower/version.h"

#include <stdbool.h>

static json_int_t whole(uint64_t value) {
    return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

static double seconds(int64_t ns) {
    return (double)ns / (double)TOWER_NS_PER_S;
}

/* Seconds since `then_ns`; null where that never was. */
static json_t *age(int64_t now_ns, int64_t then_ns) {
    return then_ns == INT64_MIN ? json_null() : json_real(seconds(now_ns - then_ns));
}

static json_t *ticks_json(const struct tower_pump_stats *pump) {
    const struct tower_histogram_snapshot *lateness = &pump->lateness;
    double p50_us = (double)tower_histogram_quantile_ns(lateness, 0.5) / 1e3;
    double p99_us = (double)tower_histogram_quantile_ns(lateness, 0.99) / 1e3;
    double p999_us = (double)tower_histogram_quantile_ns(lateness, 0.999) / 1e3;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f}}", "due",
                     whole(pump->ticks_due), "emitted", whole(pump->ticks_emitted), "late",
                     whole(pump->ticks_late), "skipped", whole(pump->ticks_skipped), "resyncs",
                     whole(pump->resyncs), "write_errors", whole(pump->write_errors), "seams",
                     whole(pump->seams), "lateness_us", "p50", p50_us, "p99", p99_us, "p999",
                     p999_us, "max", (double)lateness->max_ns / 1e3);
}

static json_t *frames_by_origin_json(const struct tower_status *status) {
    json_t *frames = json_object();
    for (unsigned i = 0; frames && i < TOWER_ORIGIN_COUNT; i++) {
        uint64_t n = status->pump.frames_by_origin[i];
        /* The pump cannot know of these: they are made behind it. */
        if (i == TOWER_ORIGIN_REPAIR)
            n += status->encoder.frames_repair;
        if (json_object_set_new(frames, tower_origin_name((enum tower_origin)i),
                                json_integer(whole(n))) < 0) {
            json_decref(frames);
            return NULL;
        }
    }
    return frames;
}

json_t *tower_levels_json(const struct tower_pump_stats *pump) {
    return json_pack("{s:[f, f], s:[f, f]}", "peak_dbfs", tower_levels_dbfs(pump->peak[0]),
                     tower_levels_dbfs(pump->peak[1]), "rms_dbfs", tower_levels_dbfs(pump->rms[0]),
                     tower_levels_dbfs(pump->rms[1]));
}

static json_t *encoder_json(const struct tower_encoder_stats *encoder) {
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "kind",
        tower_encoder_kind_name(encoder->kind), "state", tower_encoder_state_name(encoder->state),
        "frames_in", whole(encoder->frames_in), "frames_out", whole(encoder->frames_out),
        "frames_primary", whole(encoder->frames_primary), "frames_spare",
        whole(encoder->frames_spare), "frames_repair", whole(encoder->frames_repair), "restarts",
        whole(encoder->restarts), "exits", whole(encoder->exits), "closes", whole(encoder->closes),
        "refusals", whole(encoder->refusals), "mutes", whole(encoder->mutes), "garbage",
        whole(encoder->garbage), "child_pid", (json_int_t)encoder->child_pid, "queue_frames",
        whole(encoder->queue_frames), "delay_seconds", seconds(encoder->delay_ns));
}

static json_t *known(const struct tower_clock_report *clock, double ppm) {
    return clock->is_known ? json_real(ppm) : json_null();
}

static json_t *clock_json(const struct tower_clock_report *clock) {
    if (!clock->is_known && clock->n_overruns == 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:b, s:I}", "ppm", known(clock, clock->ppm), "spread_ppm",
                     known(clock, clock->spread_ppm), "correction_ppm",
                     known(clock, clock->correction_ppm), "out_of_range",
                     (int)clock->is_out_of_range, "overruns", whole(clock->n_overruns));
}

/* The name of a producer, or its label; null where it has said none. */
static json_t *said_json(const char *text) {
    return *text ? json_string(text) : json_null();
}

static json_t *producer_json(const struct tower_producer_info *producer, int64_t now_ns) {
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:b, s:b, s:I, s:s, s:f, s:b, s:b, s:f, s:o, s:I, s:I, s:o}", "id",
        whole(producer->id), "pid", (json_int_t)producer->pid, "name",
        said_json(producer->identity.name), "label", said_json(producer->identity.label), "live",
        (int)producer->identity.is_live, "source", (int)producer->identity.is_source, "rank",
        (json_int_t)producer->rank, "state", tower_producer_state_name(producer), "since_seconds",
        seconds(now_ns - producer->since_ns), "chosen", (int)producer->is_chosen, "on_air",
        (int)producer->is_on_air, "connected_seconds", seconds(now_ns - producer->connected_ns),
        "seconds_since_data", age(now_ns, producer->last_data_ns), "bytes", whole(producer->bytes),
        "thrown_bytes", whole(producer->thrown_bytes), "clock", clock_json(&producer->clock));
}

static json_t *producers_json(const struct tower_pcm_socket_stats *producers, int64_t now_ns) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        if (json_array_append_new(list, producer_json(&producers->producers[i], now_ns)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "connected",
                     whole(producers->n_producers), "takeovers", whole(producers->takeovers),
                     "chosen", said_json(producers->chosen), "accepted", whole(producers->accepted),
                     "refused", whole(producers->refused), "bytes", whole(producers->bytes),
                     "frames", whole(producers->frames), "partial_frames",
                     whole(producers->partial_frames), "partial_bytes",
                     whole(producers->partial_bytes), "list", list);
}

static json_t *fault_json(const struct tower_input_fault_stats *fault, int64_t now_ns) {
    int64_t present_ns = fault->since_ns == INT64_MIN ? 0 : now_ns - fault->since_ns;
    return json_pack("{s:o, s:I, s:f}", "seconds", age(now_ns, fault->since_ns), "count",
                     whole(fault->count), "total_seconds", seconds(fault->past_ns + present_ns));
}

static json_t *input_json(const struct tower_status *status) {
    json_t *input = json_pack("{s:I}", "withheld_frames", whole(status->producers.withheld_frames));
    for (unsigned i = 0; input && i < TOWER_INPUT_FAULT_COUNT; i++) {
        if (json_object_set_new(input, tower_input_fault_name((enum tower_input_fault)i),
                                fault_json(&status->input.faults[i], status->now_ns)) < 0) {
            json_decref(input);
            return NULL;
        }
    }
    return input;
}

/* Of the queue's places, how many are taken: 0 to 1. */
static double fill_ratio(const struct tower_router_stats *router) {
    return router->capacity > 0 ? (double)router->count / (double)router->capacity : 0.0;
}

static json_t *router_json(const struct tower_router_stats *router) {
    return json_pack("{s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "count", whole(router->count),
                     "capacity", whole(router->capacity), "ratio", fill_ratio(router),
                     "overflow_count", whole(router->overflow_count), "partial_count",
                     whole(router->partial_count), "pushed_count", whole(router->pushed_count),
                     "popped_count", whole(router->popped_count), "underflow_count",
                     whole(router->underflow_count));
}

static json_t *fallback_json(const struct tower_fallback_stats *fallback) {
    return json_pack("{s:I, s:I, s:I, s:I, s:b}", "outages", whole(fallback->outages), "file_opens",
                     whole(fallback->file_opens), "file_loops", whole(fallback->file_loops),
                     "file_errors", whole(fallback->file_errors), "file_ready",
                     (int)fallback->is_file_ready);
}

static json_t *listeners_json(const struct tower_status *status) {
    const struct tower_fanout_stats *listeners = &status->listeners;
    const uint64_t *ended = listeners->ended;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:I}",
        "current", whole(listeners->listeners), "blocked", whole(listeners->blocked), "with_titles",
        whole(listeners->with_titles), "cadence_frames", whole(listeners->phase_groups), "peak",
        whole(listeners->listeners_peak), "capacity", whole(listeners->capacity), "accepted",
        whole(listeners->accepted), "refused", whole(listeners->refused), "refused_address",
        whole(status->listeners_refused_address), "ended", "closed",
        whole(ended[TOWER_LISTENER_CLOSED]), "failed", whole(ended[TOWER_LISTENER_FAILED]),
        "timeout", whole(ended[TOWER_LISTENER_TIMEOUT]), "lagged",
        whole(ended[TOWER_LISTENER_LAGGED]), "shutdown", whole(ended[TOWER_LISTENER_SHUTDOWN]),
        "skips", whole(listeners->skips), "sent_bytes", whole(listeners->sent_bytes), "sends",
        whole(listeners->sends));
}

static json_t *taps_json(const struct tower_taps_stats *taps) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "current", whole(taps->taps),
                     "capacity", whole(taps->capacity), "accepted", whole(taps->accepted),
                     "refused", whole(taps->refused), "timeouts", whole(taps->timeouts), "chunks",
                     whole(taps->chunks), "chunks_lost", whole(taps->chunks_lost), "sent_bytes",
                     whole(taps->sent_bytes));
}

static json_t *sources_json(const struct tower_sources_stats *sources) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "running", whole(sources->running), "accepted",
                     whole(sources->accepted), "refused_password", whole(sources->refused_password),
                     "refused_busy", whole(sources->refused_busy), "refused_type",
                     whole(sources->refused_type));
}

static char *to_text(json_t *json, size_t *ret_bytes) {
    return tower_json_text(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9), "\n", ret_bytes);
}

static json_t *title_json(const struct tower_title *title) {
    if (title->number == 0)
        return json_null();
    return json_pack("{s:s, s:I}", "text", title->text, "from_frame", whole(title->from_frame));
}

static json_t *station_json(const struct tower_station *station) {
    return json_pack("{s:s, s:s, s:s, s:s}", "name", station->name ? station->name : "",
                     "description", station->description ? station->description : "", "genre",
                     station->genre ? station->genre : "", "url", station->url ? station->url : "");
}

static json_t *keeper_json(const struct tower_keeper_status *keeper, int64_t now_ns) {
    if (keeper->pid == 0)
        return json_null();
    json_t *replaced = json_object();
    for (unsigned i = 0; replaced && i < TOWER_REPLACEMENT_COUNT; i++) {
        if (json_object_set_new(replaced, tower_replacement_name((enum tower_replacement)i),
                                json_integer(whole(keeper->replaced[i]))) < 0) {
            json_decref(replaced);
            return NULL;
        }
    }
    bool is_first = keeper->replaced_ns == INT64_MIN;
    return json_pack("{s:I, s:I, s:I, s:o, s:s?, s:o, s:I, s:s}", "pid", (json_int_t)keeper->pid,
                     "worker_pid", (json_int_t)keeper->worker_pid, "generation",
                     whole(keeper->generation), "replaced", replaced, "last_replaced",
                     is_first ? NULL : tower_replacement_name(keeper->why), "last_replaced_seconds",
                     age(now_ns, keeper->replaced_ns), "requests", whole(keeper->requests),
                     "request_error", keeper->request_error);
}

json_t *tower_status_object(const struct tower_status *status) {
    int64_t now_ns = status->now_ns;
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:I, s:I, s:{s:I, s:I, s:o}, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "state", tower_service_state_name(status->state), "origin",
        tower_origin_name(status->pump.origin), "origin_seconds",
        age(now_ns,
            status->pump.last_emit_ns == INT64_MIN ? INT64_MIN : status->pump.origin_since_ns),
        "uptime_seconds", age(now_ns, status->started_ns), "version", tower_version(), "station",
        station_json(&status->station), "title", title_json(&status->title), "bitrate_bps",
        (json_int_t)status->bitrate_bps, "frame_samples", (json_int_t)status->frame_samples, "air",
        "frames", whole(status->air_frames), "bytes", whole(status->air_bytes),
        "seconds_since_frame", age(now_ns, status->last_air_ns), "ticks", ticks_json(&status->pump),
        "frames_by_origin", frames_by_origin_json(status), "levels",
        tower_levels_json(&status->pump), "encoder", encoder_json(&status->encoder), "producers",
        producers_json(&status->producers, now_ns), "input", input_json(status), "router",
        router_json(&status->router), "fallback", fallback_json(&status->fallback), "listeners",
        listeners_json(status), "taps", taps_json(&status->taps), "sources",
        sources_json(&status->sources), "keeper", keeper_json(&status->keeper, now_ns));
}

char *tower_status_json(const struct tower_status *status, size_t *ret_bytes) {
    return to_text(tower_status_object(status), ret_bytes);
}

char *tower_buffer_json(const struct tower_status *status, size_t *ret_bytes) {
    const struct tower_router_stats *router = &status->router;
    return to_text(json_pack("{s:I, s:I, s:I, s:I, s:f}", "count", whole(router->count), "fill",
                             whole(router->count), "capacity", whole(router->capacity),
                             "overflow_count", whole(router->overflow_count), "ratio",
                             fill_ratio(router)),
                   ret_bytes);
}
