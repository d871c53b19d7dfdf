/* metrics_text.c - the state of the transmitter for Prometheus. */
#include "metrics_text.h"

#include "exposition.h"

#include "tower/levels.h"
#include "tower/version.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double seconds(int64_t ns) {
    return (double)ns / (double)TOWER_NS_PER_S;
}

/* Seconds since `then_ns`; NaN where that never was. */
static double age(int64_t now_ns, int64_t then_ns) {
    return then_ns == INT64_MIN ? (double)NAN : seconds(now_ns - then_ns);
}

static void write_whole(struct tower_exposition *to, const struct tower_status *status) {
    tower_exposition_family(to, "tower_build_info", TOWER_METRIC_GAUGE,
                            "Always 1; the version of the program.");
    tower_exposition_labelled(to, "version", tower_version(), 1);

    const struct tower_station *station = &status->station;
    const struct tower_metric_label of_station[] = {
        {"name", station->name ? station->name : ""},
        {"description", station->description ? station->description : ""},
        {"genre", station->genre ? station->genre : ""},
        {"url", station->url ? station->url : ""},
    };
    tower_exposition_family(to, "tower_station_info", TOWER_METRIC_GAUGE,
                            "Always 1; the station, as set.");
    tower_exposition_sample(to, of_station, sizeof of_station / sizeof *of_station, 1);

    tower_exposition_gauge(to, "tower_uptime_seconds", "Time since the start.",
                           age(status->now_ns, status->started_ns));

    tower_exposition_family(to, "tower_state", TOWER_METRIC_GAUGE,
                            "1 for the state the transmitter is in.");
    for (unsigned i = TOWER_SERVICE_STARTING; i <= TOWER_SERVICE_STOPPING; i++)
        tower_exposition_labelled(to, "state",
                                  tower_service_state_name((enum tower_service_state)i),
                                  i == (unsigned)status->state);

    tower_exposition_gauge(to, "tower_title_from_frame",
                           "MP3 frame from which the title on air holds; NaN where there is none.",
                           status->title.number == 0 ? (double)NAN
                                                     : (double)status->title.from_frame);
    tower_exposition_gauge(to, "tower_stream_bytes_per_second", "Bit rate of the stream.",
                           status->bitrate_bps / 8.0);
    tower_exposition_gauge(to, "tower_tick_interval_seconds",
                           "Time from one tick to the next: the length of a PCM frame.",
                           (double)status->frame_samples / TOWER_RATE_HZ);
    tower_exposition_counter(to, "tower_air_frames_total", "MP3 frames put on air.",
                             status->air_frames);
    tower_exposition_counter(to, "tower_air_bytes_total", "Bytes put on air.", status->air_bytes);
    tower_exposition_gauge(to, "tower_air_frame_age_seconds",
                           "Time since the last MP3 frame went on air; NaN before the first.",
                           age(status->now_ns, status->last_air_ns));
}

/* Repaired frames are not among those by origin: each stands for a frame that has one already, so
 * that the sum over all origins is the ticks emitted. */
static void write_origin(struct tower_exposition *to, const struct tower_status *status) {
    const struct tower_pump_stats *pump = &status->pump;
    tower_exposition_family(to, "tower_origin", TOWER_METRIC_GAUGE,
                            "1 for where the last frame on air came from.");
    for (unsigned i = 0; i < TOWER_ORIGIN_REPAIR; i++)
        tower_exposition_labelled(to, "origin", tower_origin_name((enum tower_origin)i),
                                  i == (unsigned)pump->origin);

    tower_exposition_gauge(
        to, "tower_origin_seconds",
        "For how long frames have come from there; NaN before the first.",
        age(status->now_ns, pump->last_emit_ns == INT64_MIN ? INT64_MIN : pump->origin_since_ns));

    tower_exposition_family(to, "tower_frames_total", TOWER_METRIC_COUNTER,
                            "Frames on air by where they came from.");
    for (unsigned i = 0; i < TOWER_ORIGIN_REPAIR; i++)
        tower_exposition_labelled(to, "origin", tower_origin_name((enum tower_origin)i),
                                  (double)pump->frames_by_origin[i]);

    tower_exposition_counter(to, "tower_seams_total",
                             "Times that the origin or the programme changed.", pump->seams);
}

static void write_ticks(struct tower_exposition *to, const struct tower_pump_stats *pump) {
    tower_exposition_counter(to, "tower_ticks_due_total", "Ticks whose time had come.",
                             pump->ticks_due);
    tower_exposition_counter(to, "tower_ticks_emitted_total", "Ticks whose frame went on air.",
                             pump->ticks_emitted);
    tower_exposition_counter(to, "tower_ticks_late_total",
                             "Ticks begun after the deadline of the one behind them.",
                             pump->ticks_late);
    tower_exposition_counter(to, "tower_ticks_skipped_total",
                             "Ticks given up because the pump was too far behind.",
                             pump->ticks_skipped);
    tower_exposition_counter(to, "tower_resyncs_total", "Times that the pump set its clock anew.",
                             pump->resyncs);
    tower_exposition_counter(to, "tower_pump_write_errors_total",
                             "Frames that the encoder refused.", pump->write_errors);
    tower_exposition_histogram(to, "tower_tick_lateness_seconds",
                               "How far behind its deadline each tick began.", &pump->lateness);
    tower_exposition_gauge(to, "tower_tick_lateness_max_seconds",
                           "The largest lateness of a tick so far.",
                           seconds(pump->lateness.max_ns));
}

static void write_level(struct tower_exposition *to, const char *name, const char *help,
                        const uint16_t magnitude[TOWER_CHANNELS]) {
    tower_exposition_family(to, name, TOWER_METRIC_GAUGE, help);
    tower_exposition_labelled(to, "channel", "left", tower_levels_dbfs(magnitude[0]));
    tower_exposition_labelled(to, "channel", "right", tower_levels_dbfs(magnitude[1]));
}

static void write_levels(struct tower_exposition *to, const struct tower_pump_stats *pump) {
    write_level(to, "tower_level_peak_dbfs", "Highest peak of the last 5 frames; silence is -120.",
                pump->peak);
    write_level(to, "tower_level_rms_dbfs", "RMS of the last 5 frames; silence is -120.",
                pump->rms);
}

static void write_encoder(struct tower_exposition *to, const struct tower_encoder_stats *encoder) {
    tower_exposition_family(to, "tower_encoder_kind", TOWER_METRIC_GAUGE,
                            "1 for the chosen encoder.");
    for (unsigned i = TOWER_ENCODER_LAME; i <= TOWER_ENCODER_FFMPEG; i++)
        tower_exposition_labelled(to, "kind", tower_encoder_kind_name((enum tower_encoder_kind)i),
                                  i == (unsigned)encoder->kind);
    tower_exposition_family(to, "tower_encoder_state", TOWER_METRIC_GAUGE,
                            "1 for the state the encoder is in.");
    for (unsigned i = TOWER_ENCODER_STARTING; i <= TOWER_ENCODER_DEGRADED; i++)
        tower_exposition_labelled(to, "state",
                                  tower_encoder_state_name((enum tower_encoder_state)i),
                                  i == (unsigned)encoder->state);

    tower_exposition_counter(to, "tower_encoder_frames_in_total", "PCM frames taken from the pump.",
                             encoder->frames_in);
    tower_exposition_family(to, "tower_encoder_frames_out_total", TOWER_METRIC_COUNTER,
                            "MP3 frames given: by the chosen encoder, by LAME standing in for it, "
                            "or silence where neither could.");
    tower_exposition_labelled(to, "maker", "primary", (double)encoder->frames_primary);
    tower_exposition_labelled(to, "maker", "spare", (double)encoder->frames_spare);
    tower_exposition_labelled(to, "maker", "repair", (double)encoder->frames_repair);

    tower_exposition_counter(to, "tower_encoder_restarts_total",
                             "Times that ffmpeg was started again.", encoder->restarts);
    tower_exposition_family(to, "tower_encoder_failures_total", TOWER_METRIC_COUNTER,
                            "Failures of ffmpeg by how it failed.");
    tower_exposition_labelled(to, "reason", "exits", (double)encoder->exits);
    tower_exposition_labelled(to, "reason", "closes", (double)encoder->closes);
    tower_exposition_labelled(to, "reason", "refusals", (double)encoder->refusals);
    tower_exposition_labelled(to, "reason", "mutes", (double)encoder->mutes);
    tower_exposition_labelled(to, "reason", "garbage", (double)encoder->garbage);
    tower_exposition_gauge(to, "tower_encoder_child_running", "1 while ffmpeg runs.",
                           encoder->child_pid != 0);
    tower_exposition_gauge(to, "tower_encoder_queue_frames", "PCM frames waiting to be encoded.",
                           (double)encoder->queue_frames);
    tower_exposition_gauge(to, "tower_encoder_delay_seconds",
                           "Time from PCM in to MP3 out, by design.", seconds(encoder->delay_ns));
}

/* Of the producer on air; `clock` NULL: it has said nothing, or there is none. */
static void write_clock(struct tower_exposition *to, const struct tower_clock_report *clock) {
    bool is_known = clock && clock->is_known;
    tower_exposition_gauge(to, "tower_producers_clock_ppm",
                           "By how much the clock of the source on air is faster than this host's, "
                           "in millionths; NaN where that is not known.",
                           is_known ? clock->ppm : (double)NAN);
    tower_exposition_gauge(to, "tower_producers_clock_spread_ppm", "Standard error of that.",
                           is_known ? clock->spread_ppm : (double)NAN);
    tower_exposition_gauge(to, "tower_producers_clock_correction_ppm",
                           "By how much its producer makes the sound longer.",
                           is_known ? clock->correction_ppm : (double)NAN);
    tower_exposition_gauge(to, "tower_producers_clock_out_of_range",
                           "1 while the clock is off by more than 500 millionths.",
                           is_known && clock->is_out_of_range);
    tower_exposition_gauge(to, "tower_producers_overruns",
                           "Times that the source on air lost samples, as its producer says.",
                           clock ? (double)clock->n_overruns : 0);
}

static const char *const producer_states[] = {"on air", "waiting", "idle"};
#define PRODUCER_STATES (sizeof producer_states / sizeof *producer_states)

/* How many of the name `name` (NULL: of any) are in `state`. */
static unsigned count_producers(const struct tower_pcm_socket_stats *producers, const char *name,
                                const char *state) {
    unsigned n = 0;
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_producer_info *producer = &producers->producers[i];
        n += strcmp(tower_producer_state_name(producer), state) == 0 &&
             (!name || strcmp(producer->identity.name, name) == 0);
    }
    return n;
}

/* Is no producer before `place` of its name? */
static bool is_new_name(const struct tower_pcm_socket_stats *producers, size_t place) {
    for (size_t i = 0; i < place; i++) {
        if (strcmp(producers->producers[i].identity.name,
                   producers->producers[place].identity.name) == 0)
            return false;
    }
    return true;
}

/* Of each name of those connected: there are at most as many as places. */
static void write_names(struct tower_exposition *to,
                        const struct tower_pcm_socket_stats *producers) {
    if (producers->n_producers == 0)
        return;
    tower_exposition_family(to, "tower_producers_named", TOWER_METRIC_GAUGE,
                            "Producers connected, by the name they gave, and what they do.");
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        const char *name = producers->producers[i].identity.name;
        for (size_t j = 0; j < PRODUCER_STATES && is_new_name(producers, i); j++) {
            const struct tower_metric_label labels[] = {{"name", name},
                                                        {"state", producer_states[j]}};
            tower_exposition_sample(to, labels, 2,
                                    count_producers(producers, name, producer_states[j]));
        }
    }
    tower_exposition_family(to, "tower_producers_thrown_bytes", TOWER_METRIC_GAUGE,
                            "Bytes of PCM of live producers connected now that were thrown away "
                            "while they waited, by the name they gave.");
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        const char *name = producers->producers[i].identity.name;
        double bytes = 0;
        if (!is_new_name(producers, i))
            continue;
        for (size_t j = i; j < producers->n_producers && j < TOWER_PRODUCERS_MAX; j++) {
            if (strcmp(producers->producers[j].identity.name, name) == 0)
                bytes += (double)producers->producers[j].thrown_bytes;
        }
        tower_exposition_labelled(to, "name", name, bytes);
    }
}

static void write_producers(struct tower_exposition *to,
                            const struct tower_pcm_socket_stats *producers, int64_t now_ns) {
    int64_t last_data_ns = INT64_MIN, since_ns = INT64_MIN;
    const struct tower_clock_report *clock = NULL;
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        if (!producers->producers[i].is_on_air)
            continue;
        since_ns = producers->producers[i].since_ns;
        last_data_ns = producers->producers[i].last_data_ns;
        clock = &producers->producers[i].clock;
    }
    tower_exposition_family(to, "tower_producers", TOWER_METRIC_GAUGE,
                            "Producers connected to the PCM socket.");
    for (size_t i = 0; i < PRODUCER_STATES; i++)
        tower_exposition_labelled(to, "state", producer_states[i],
                                  count_producers(producers, NULL, producer_states[i]));
    write_names(to, producers);
    tower_exposition_gauge(to, "tower_producers_on_air_seconds",
                           "For how long the producer on air has been; NaN where there is none.",
                           age(now_ns, since_ns));
    tower_exposition_gauge(to, "tower_producers_chosen",
                           "1 while the one on air was chosen by hand, 0 while it goes by rank.",
                           *producers->chosen != '\0');
    tower_exposition_counter(to, "tower_producers_takeovers_total",
                             "Times that a producer took the air from another, by rank or by hand.",
                             producers->takeovers);
    tower_exposition_gauge(
        to, "tower_producers_data_age_seconds",
        "Time since the producer on air last sent something; NaN where there is none.",
        age(now_ns, last_data_ns));
    tower_exposition_counter(to, "tower_producers_accepted_total", "Producers that connected.",
                             producers->accepted);
    tower_exposition_counter(to, "tower_producers_refused_total",
                             "Producers turned away because too many were connected.",
                             producers->refused);
    tower_exposition_counter(to, "tower_producers_bytes_total", "Bytes of PCM read.",
                             producers->bytes);
    tower_exposition_counter(to, "tower_producers_frames_total", "Whole frames of PCM read.",
                             producers->frames);
    tower_exposition_counter(to, "tower_producers_partial_frames_total",
                             "Incomplete frames dropped when a producer went.",
                             producers->partial_frames);
    tower_exposition_counter(to, "tower_producers_partial_bytes_total",
                             "Bytes in incomplete frames dropped when a producer went.",
                             producers->partial_bytes);
    write_clock(to, clock);
}

static void write_keeper(struct tower_exposition *to, const struct tower_status *status) {
    const struct tower_keeper_status *keeper = &status->keeper;
    if (keeper->pid == 0)
        return;
    tower_exposition_gauge(to, "tower_worker_generation",
                           "Number of the process that serves, counted from 1.",
                           (double)keeper->generation);
    tower_exposition_family(to, "tower_worker_replacements_total", TOWER_METRIC_COUNTER,
                            "Processes that served and were replaced, by why.");
    for (unsigned i = 0; i < TOWER_REPLACEMENT_COUNT; i++)
        tower_exposition_labelled(to, "reason", tower_replacement_name((enum tower_replacement)i),
                                  (double)keeper->replaced[i]);
}

static void write_input(struct tower_exposition *to, const struct tower_status *status) {
    const struct tower_input_fault_stats *faults = status->input.faults;
    tower_exposition_counter(to, "tower_input_withheld_frames_total",
                             "PCM frames of dead air that were not put on air.",
                             status->producers.withheld_frames);
    tower_exposition_family(to, "tower_input_fault_age_seconds", TOWER_METRIC_GAUGE,
                            "Time since the fault of the input began; NaN where it is not there.");
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++)
        tower_exposition_labelled(to, "fault", tower_input_fault_name((enum tower_input_fault)i),
                                  age(status->now_ns, faults[i].since_ns));
    tower_exposition_family(to, "tower_input_faults_total", TOWER_METRIC_COUNTER,
                            "Times that the fault began.");
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++)
        tower_exposition_labelled(to, "fault", tower_input_fault_name((enum tower_input_fault)i),
                                  (double)faults[i].count);
    tower_exposition_family(to, "tower_input_fault_seconds_total", TOWER_METRIC_COUNTER,
                            "For how long the fault was there in all.");
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++) {
        int64_t present_ns =
            faults[i].since_ns == INT64_MIN ? 0 : status->now_ns - faults[i].since_ns;
        tower_exposition_labelled(to, "fault", tower_input_fault_name((enum tower_input_fault)i),
                                  seconds(faults[i].past_ns + present_ns));
    }
}

static void write_router(struct tower_exposition *to, const struct tower_router_stats *router) {
    tower_exposition_gauge(to, "tower_router_frames", "Frames waiting in the input queue.",
                           (double)router->count);
    tower_exposition_gauge(to, "tower_router_capacity_frames", "Frames that the input queue holds.",
                           (double)router->capacity);
    tower_exposition_counter(to, "tower_router_pushed_total", "Frames put into the input queue.",
                             router->pushed_count);
    tower_exposition_counter(to, "tower_router_popped_total",
                             "Frames taken out of the input queue.", router->popped_count);
    tower_exposition_counter(to, "tower_router_underflows_total",
                             "Times that the pump found the input queue empty.",
                             router->underflow_count);
    tower_exposition_family(to, "tower_router_dropped_total", TOWER_METRIC_COUNTER,
                            "Frames dropped: the input queue was full, or they were not whole.");
    tower_exposition_labelled(to, "reason", "full", (double)router->overflow_count);
    tower_exposition_labelled(to, "reason", "partial", (double)router->partial_count);
}

static void write_fallback(struct tower_exposition *to,
                           const struct tower_fallback_stats *fallback) {
    tower_exposition_counter(to, "tower_fallback_outages_total", "Times that live audio ran dry.",
                             fallback->outages);
    tower_exposition_counter(to, "tower_fallback_file_opens_total",
                             "Times that the fallback file was opened.", fallback->file_opens);
    tower_exposition_counter(to, "tower_fallback_file_loops_total",
                             "Times that the fallback file began again.", fallback->file_loops);
    tower_exposition_counter(to, "tower_fallback_file_errors_total",
                             "Times that the fallback file could not be opened or read on.",
                             fallback->file_errors);
    tower_exposition_gauge(to, "tower_fallback_file_ready",
                           "1 while decoded frames of the fallback file are waiting.",
                           fallback->is_file_ready);
}

static void write_listeners(struct tower_exposition *to, const struct tower_status *status) {
    const struct tower_fanout_stats *listeners = &status->listeners;
    /* The two are read one after the other. */
    uint64_t n_blocked =
        listeners->blocked < listeners->listeners ? listeners->blocked : listeners->listeners;
    tower_exposition_family(to, "tower_listeners", TOWER_METRIC_GAUGE,
                            "Listeners now; a blocked one has to read before it gets more.");
    tower_exposition_labelled(to, "state", "sending", (double)(listeners->listeners - n_blocked));
    tower_exposition_labelled(to, "state", "blocked", (double)n_blocked);
    tower_exposition_gauge(to, "tower_listeners_with_titles", "Listeners who get titles.",
                           (double)listeners->with_titles);
    tower_exposition_gauge(to, "tower_listeners_peak", "Most listeners at once so far.",
                           (double)listeners->listeners_peak);
    tower_exposition_gauge(to, "tower_listeners_capacity", "Listeners there are places for.",
                           (double)listeners->capacity);
    tower_exposition_counter(to, "tower_listeners_accepted_total",
                             "Listeners that were given the stream.", listeners->accepted);
    tower_exposition_family(
        to, "tower_listeners_refused_total", TOWER_METRIC_COUNTER,
        "Listeners turned away: all places taken, or too many from their address.");
    tower_exposition_labelled(to, "reason", "full", (double)listeners->refused);
    tower_exposition_labelled(to, "reason", "address", (double)status->listeners_refused_address);

    tower_exposition_family(to, "tower_listeners_ended_total", TOWER_METRIC_COUNTER,
                            "Listeners gone, by why they went.");
    static const char *const ends[TOWER_LISTENER_END_COUNT] = {
        [TOWER_LISTENER_CLOSED] = "closed",     [TOWER_LISTENER_FAILED] = "failed",
        [TOWER_LISTENER_TIMEOUT] = "timeout",   [TOWER_LISTENER_LAGGED] = "lagged",
        [TOWER_LISTENER_SHUTDOWN] = "shutdown",
    };
    for (unsigned i = 0; i < TOWER_LISTENER_END_COUNT; i++)
        tower_exposition_labelled(to, "reason", ends[i], (double)listeners->ended[i]);

    tower_exposition_counter(to, "tower_listeners_skips_total",
                             "Times that a listener too slow was moved nearer the present.",
                             listeners->skips);
    tower_exposition_counter(to, "tower_listeners_sent_bytes_total",
                             "Bytes of stream sent to all listeners.", listeners->sent_bytes);
    tower_exposition_histogram(to, "tower_listeners_send_seconds",
                               "Time that each send to a listener took.", &listeners->send_time);
    tower_exposition_gauge(to, "tower_listeners_cadence_frames",
                           "MP3 frames between two sends to a listener.",
                           (double)listeners->phase_groups);
}

static void write_sources(struct tower_exposition *to, const struct tower_sources_stats *sources) {
    tower_exposition_gauge(to, "tower_sources", "Source clients that send, or are about to.",
                           (double)sources->running);
    tower_exposition_counter(to, "tower_sources_accepted_total", "Source clients that were let in.",
                             sources->accepted);
    tower_exposition_family(to, "tower_sources_refused_total", TOWER_METRIC_COUNTER,
                            "Source clients turned away: a wrong password, no place, or nothing "
                            "that can be decoded.");
    tower_exposition_labelled(to, "reason", "password", (double)sources->refused_password);
    tower_exposition_labelled(to, "reason", "busy", (double)sources->refused_busy);
    tower_exposition_labelled(to, "reason", "type", (double)sources->refused_type);
}

static void write_taps(struct tower_exposition *to, const struct tower_taps_stats *taps) {
    tower_exposition_gauge(to, "tower_taps", "Clients that take the programme as PCM.",
                           (double)taps->taps);
    tower_exposition_gauge(to, "tower_taps_capacity", "Such clients there are places for.",
                           (double)taps->capacity);
    tower_exposition_counter(to, "tower_taps_accepted_total", "Clients that were given PCM.",
                             taps->accepted);
    tower_exposition_counter(to, "tower_taps_refused_total",
                             "Clients turned away because all places for taps were taken.",
                             taps->refused);
    tower_exposition_counter(to, "tower_taps_timeouts_total",
                             "Taps dropped because they took nothing for too long.",
                             taps->timeouts);
    tower_exposition_counter(to, "tower_taps_chunks_total",
                             "Chunks of PCM made for taps, those lost among them.", taps->chunks);
    tower_exposition_counter(to, "tower_taps_chunks_lost_total",
                             "Chunks that a tap was too slow to get.", taps->chunks_lost);
    tower_exposition_counter(to, "tower_taps_sent_bytes_total", "Bytes sent to all taps.",
                             taps->sent_bytes);
}

char *tower_metrics_text(const struct tower_status *status, size_t *ret_bytes) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    struct tower_exposition to = {.out = out};
    write_whole(&to, status);
    write_origin(&to, status);
    write_ticks(&to, &status->pump);
    write_levels(&to, &status->pump);
    write_encoder(&to, &status->encoder);
    write_producers(&to, &status->producers, status->now_ns);
    write_input(&to, status);
    write_keeper(&to, status);
    write_router(&to, &status->router);
    write_fallback(&to, &status->fallback);
    write_listeners(&to, status);
    write_taps(&to, &status->taps);
    write_sources(&to, &status->sources);
    /* A stream that once failed may close well. */
    bool has_failed = to.has_failed || ferror(out);
    if (fclose(out) != 0 || has_failed) {
        free(text);
        return NULL;
    }
    *ret_bytes = bytes;
    return text;
}
