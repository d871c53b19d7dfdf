/* service.c - TowerService: how its parts call each other, and how they are made. */
#include "service_carried.h"
#include "service_parts.h"

#include "program_path.h"
#include "stream_decoder.h"
#include "tower/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How much of the stream a mount keeps: how far a listener can lag. */
#define AIR_SECONDS 16
/* Requests being read or answered at once; listeners are not among them. */
#define HTTP_CONNECTIONS 256
#define HTTP_REQUEST_TIMEOUT_NS (10 * TOWER_NS_PER_S)
#define WRONG_PASSWORD_NS TOWER_NS_PER_S
/* Descriptors that are no listener's, nor a tap's: files, pipes, producers, requests. */
#define OWN_DESCRIPTORS (HTTP_CONNECTIONS + TOWER_PRODUCERS_MAX + 64)

int tower_service_fail(char *error, size_t error_bytes, int number, const char *what,
                       const char *detail, const char *advice) {
    (void)snprintf(error, error_bytes, "%s%s%s: %s%s%s", what, *detail ? " " : "", detail,
                   strerror(-number), *advice ? "; " : "", advice);
    return number;
}

/* ---- how the parts call each other ---- */

/* Dead air that is withheld is no frame, but took its tick. */
static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    struct tower_service *service = self;
    tower_incidents_note_tick(service->incidents);
    service->origin = TOWER_ORIGIN_LIVE;
    if (tower_router_pop_frame(service->router, timeout_ns, ret_frame, ret_flags) != 1)
        return 0;
    bool is_heard = !(*ret_flags & TOWER_FRAME_WITHHELD);
    if (!is_heard)
        tower_incidents_note_withheld(service->incidents);
    tower_title_schedule_note_pop(service->title_schedule, is_heard);
    return is_heard;
}

static enum tower_origin get_fallback_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    struct tower_service *service = self;
    enum tower_origin origin = tower_fallback_get_frame(service->fallback, tick, ret_frame);
    if (origin != TOWER_ORIGIN_GRACE)
        tower_title_schedule_note_end(service->title_schedule);
    service->origin = origin;
    return origin;
}

static int write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    struct tower_service *service = self;
    int error = tower_encoder_manager_write_pcm(service->encoder, frame, frame_bytes);
    if (error == 0) {
        if (service->taps)
            tower_taps_write(service->taps, frame, tower_pump_due_ns(service->pump),
                             tower_title_schedule_position(service->title_schedule),
                             service->origin);
        tower_title_schedule_note_write(service->title_schedule);
        tower_incidents_note_written(service->incidents, service->origin);
    }
    return error;
}

/* On the ingest thread. */
static void take_title(void *user, const char *text, size_t bytes, uint64_t pushed_count) {
    struct tower_service *service = user;
    tower_title_schedule_add(service->title_schedule, text, bytes, pushed_count);
}

/* What comes of it is kept before it is done, too: a process that dies in between is followed by
 * one that knows whose title is on air. */
static void change_programme_title(struct tower_service *service, enum tower_title_change change,
                                   uint64_t frame) {
    struct tower_programme_title *title = &service->programme_title;
    struct tower_programme_title expected = *title;
    struct tower_title on_air;
    tower_titles_get(service->titles, &on_air);
    bool is_end = change == TOWER_TITLE_ENDS;
    uint64_t in_place_of = change == TOWER_TITLE_IS_NEW ? TOWER_TITLE_ANY
                           : is_end                     ? title->number
                                                        : title->number_ended;
    bool is_put =
        change == TOWER_TITLE_IS_NEW || (in_place_of != 0 && (is_end || title->bytes > 0));
    uint64_t next = is_put ? on_air.number + 1 : 0;
    expected.number = is_end ? 0 : change == TOWER_TITLE_IS_NEW || is_put ? next : title->number;
    expected.number_ended = !is_end ? 0 : is_put ? next : title->number_ended;
    tower_programme_titles_keep(&service->programme_titles, &expected);
    *title = expected;
    if (!is_put)
        return;
    uint64_t number =
        tower_titles_put(service->titles, in_place_of, is_end ? "" : title->text,
                         is_end ? 0 : title->bytes, frame, tower_air_head(service->air));
    if (number == next)
        return;
    *(is_end ? &title->number_ended : &title->number) = number;
    tower_programme_titles_keep(&service->programme_titles, title);
}

/* Put on air what a producer has said is playing, or take it back once its programme is over, and
 * for as long as that is so; a title that came another way stays. Only now that its frame is here,
 * so that one which is set meanwhile from elsewhere is not pushed out by it. */
static void change_title(struct tower_service *service, uint64_t frame) {
    struct tower_programme_title *title = &service->programme_title;
    size_t bytes = title->bytes;
    enum tower_title_change change =
        tower_title_schedule_take(service->title_schedule, frame, title->text, &bytes);
    title->bytes = bytes;
    if (change != TOWER_TITLE_STAYS)
        change_programme_title(service, change, frame);
    tower_titles_mark(service->titles, frame, tower_air_head(service->air));
}

/* On the ingest thread. */
static void log_input_event(void *user, const struct tower_input_event *event) {
    struct tower_service *service = user;
    tower_incidents_note_input(service->incidents, event, tower_air_frames(service->air));
    bool is_usual = event->fault == TOWER_INPUT_DISCONNECTED || !event->has_begun;
    tower_log(is_usual ? TOWER_LOG_INFO : TOWER_LOG_WARNING, "input", "%s, %s %.1f s",
              tower_input_fault_text(event->fault), event->has_begun ? "for" : "is over after",
              (double)(event->at_ns - event->since_ns) / (double)TOWER_NS_PER_S);
}

/* On the ingest thread. */
static void note_producer(void *user, const struct tower_producer_info *producer, bool is_on_air) {
    struct tower_service *service = user;
    tower_incidents_note_producer(service->incidents, producer, is_on_air,
                                  tower_air_frames(service->air));
}

/* On the HTTP server's thread. */
static int choose_producer(void *user, const char *name) {
    struct tower_service *service = user;
    return tower_pcm_socket_choose(service->ingest, name);
}

/* On the HTTP server's thread. */
static int send_source_title(void *user, const char *name, const char *text) {
    const struct tower_service *service = user;
    return tower_pcm_socket_send_title(service->ingest, name, text);
}

/* On the encoder thread. */
static void note_encoder(void *user, const struct tower_encoder_event *event) {
    struct tower_service *service = user;
    tower_incidents_note_encoder(service->incidents, event);
}

/* On the encoder thread. */
static void put_on_air(void *user, const uint8_t *mp3_frame, size_t bytes) {
    struct tower_service *service = user;
    uint64_t frame = tower_air_frames(service->air);
    change_title(service, frame);
    if (tower_air_publish(service->air, mp3_frame, bytes) < 0)
        return;
    if (!service->has_aired && service->replacement.kind != TOWER_INCIDENT_STARTED)
        tower_incidents_note_replaced(service->incidents, &service->replacement, frame);
    service->has_aired = true;
    tower_carried_beat(service->carried, tower_air_frames(service->air));
    atomic_store_explicit(&service->last_air_ns, tower_clock_now_ns(service->clock),
                          memory_order_relaxed);
}

/* ---- building ---- */

/* MP3 frames in `duration_ns`, rounded up. */
static uint64_t mp3_frames_in(int64_t duration_ns) {
    int64_t frame_ns = tower_samples_to_ns(TOWER_FRAME_SAMPLES, TOWER_RATE_HZ);
    return (uint64_t)((duration_ns + frame_ns - 1) / frame_ns);
}

/* Have as many descriptors as we may, and no more listeners than they allow; `wanted` 0: as many.
 */
static uint32_t bounded_listeners(uint32_t wanted, uint32_t max_taps) {
    struct rlimit limit = {0};
    const rlim_t own = OWN_DESCRIPTORS + (rlim_t)max_taps;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t most = limit.rlim_cur > own + 1 ? limit.rlim_cur - own : 1;
    if (most > TOWER_CONFIG_LISTENERS_MAX)
        most = TOWER_CONFIG_LISTENERS_MAX;
    if (wanted == 0)
        return (uint32_t)most;
    if (most >= wanted)
        return wanted;
    tower_log(TOWER_LOG_WARNING, "service",
              "max_listeners = %lu, not %lu: so many descriptors are allowed (ulimit -Hn, "
              "LimitNOFILE=)",
              (unsigned long)most, (unsigned long)wanted);
    return (uint32_t)most;
}

static int build_journal(struct tower_service *service, struct tower_inheritance *inheritance,
                         char *error, size_t error_bytes) {
    const struct tower_config *config = &service->config;
    struct tower_incidents_config incidents = {
        .clock = service->clock,
        .frame_samples = config->frame_samples,
        .dead_air_after_ns = config->dead_air_after_ns,
        .fallback_path = config->fallback_path,
        .journal_path = config->journal_path,
        .journal_bytes = config->journal_bytes,
        .carried_fd = tower_inheritance_fd(inheritance, TOWER_CARRIED_JOURNAL),
        .get_counts = tower_service_get_counts,
        .user = service,
    };
    int result = tower_incidents_new(&incidents, &service->incidents);
    if (result < 0) {
        char setting[TOWER_CONFIG_PATH_BYTES + 128];
        tower_config_describe(config, "journal", setting, sizeof setting);
        return tower_service_fail(error, error_bytes, result, setting, "",
                                  "choose a file that can be written with --journal");
    }
    result = tower_inheritance_keep(inheritance, TOWER_CARRIED_JOURNAL, 0,
                                    tower_journal_fd(tower_incidents_journal(service->incidents)));
    return result < 0 ? tower_service_fail(error, error_bytes, result, "making the journal", "", "")
                      : 0;
}

static int build_programme(struct tower_service *service, struct tower_inheritance *inheritance,
                           char *error, size_t error_bytes) {
    const struct tower_config *config = &service->config;
    int result = tower_router_open(
        service->clock, tower_inheritance_fd(inheritance, TOWER_CARRIED_ROUTER),
        config->buffer_frames, tower_frame_bytes(config->frame_samples), &service->router, NULL);
    if (result == 0)
        result = tower_inheritance_keep(inheritance, TOWER_CARRIED_ROUTER, 0,
                                        tower_router_fd(service->router));
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the input router", "", "");
    struct tower_input_monitor_config monitor = {
        .frame_samples = config->frame_samples,
        .dead_air_after_ns = config->dead_air_after_ns,
        .dead_air_dbfs = config->dead_air_dbfs,
        .on_event = log_input_event,
        .user = service,
    };
    result = tower_input_monitor_new(&monitor, &service->monitor);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the input monitor", "", "");
    struct tower_fallback_config fallback = {
        .clock = service->clock,
        .frame_samples = config->frame_samples,
        .grace_ns = config->grace_ns,
        .file_path = config->fallback_path,
        .ffmpeg = config->ffmpeg,
        .tone_hz = config->tone_hz,
        .tone_dbfs = config->tone_dbfs,
    };
    result = tower_fallback_new(&fallback, &service->fallback);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the fallback", "", "");
    return 0;
}

/* Fan-out workers: as many as are set, or one a core; none without a place. */
static uint32_t worker_count(const struct tower_config *config, uint32_t places) {
    long workers = config->workers > 0 ? (long)config->workers : sysconf(_SC_NPROCESSORS_ONLN);
    if (workers < 1)
        workers = 1;
    if (workers > TOWER_CONFIG_WORKERS_MAX)
        workers = TOWER_CONFIG_WORKERS_MAX;
    return (uint32_t)workers < places ? (uint32_t)workers : places;
}

/* One group is served at each frame, so a listener is as many frames apart as there are groups. */
static uint32_t phase_groups(int64_t cadence_ns) {
    int64_t frame_ns = tower_samples_to_ns(TOWER_FRAME_SAMPLES, TOWER_RATE_HZ);
    if (cadence_ns == 0)
        return 0;
    return cadence_ns < frame_ns ? 1 : (uint32_t)(cadence_ns / frame_ns);
}

static int open_air(struct tower_service *service, struct tower_inheritance *inheritance) {
    const struct tower_config *config = &service->config;
    size_t ring_bytes = (size_t)config->bitrate_bps / 8 * AIR_SECONDS;
    int result = tower_air_open(tower_inheritance_fd(inheritance, TOWER_CARRIED_AIR), ring_bytes,
                                mp3_frames_in(AIR_SECONDS * TOWER_NS_PER_S), &service->air);
    if (result < 0)
        return result;
    result = tower_inheritance_keep(inheritance, TOWER_CARRIED_AIR, 0, tower_air_fd(service->air));
    if (result < 0)
        return result;
    result = tower_titles_open(tower_inheritance_fd(inheritance, TOWER_CARRIED_TITLES),
                               tower_air_head(service->air), &service->titles);
    if (result < 0)
        return result;
    result = tower_inheritance_keep(inheritance, TOWER_CARRIED_TITLES, 0,
                                    tower_titles_fd(service->titles));
    if (result < 0)
        return result;
    struct tower_title on_air;
    tower_titles_get(service->titles, &on_air);
    result = tower_programme_titles_open(&service->programme_titles,
                                         tower_inheritance_fd(inheritance, TOWER_CARRIED_PROGRAMME),
                                         on_air.number, &service->programme_title);
    if (result < 0)
        return result;
    return tower_inheritance_keep(inheritance, TOWER_CARRIED_PROGRAMME, 0,
                                  service->programme_titles.region.fd);
}

static int build_air(struct tower_service *service, struct tower_inheritance *inheritance,
                     char *error, size_t error_bytes) {
    const struct tower_config *config = &service->config;
    int result = open_air(service, inheritance);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the air ring", "", "");
    uint32_t places = bounded_listeners(config->max_listeners, config->max_taps);
    if (config->max_listeners_per_address > 0)
        result =
            tower_addresses_new(places, config->max_listeners_per_address, &service->addresses);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the table of addresses", "",
                                  "");
    uint32_t workers = worker_count(config, places);
    struct tower_fanout_config fanout = {
        .clock = service->clock,
        .air = service->air,
        .titles = service->titles,
        .addresses = service->addresses,
        .client_timeout_ns = config->client_timeout_ns,
        .burst_frames = mp3_frames_in(config->burst_ns),
        .phase_groups = phase_groups(config->cadence_ns),
    };
    for (; service->n_fanouts < workers && result == 0; service->n_fanouts++) {
        /* What does not divide goes to the first ones, so that the sum is what was asked for. */
        uint32_t left = workers - (uint32_t)service->n_fanouts;
        fanout.max_listeners = (places + left - 1) / left;
        places -= fanout.max_listeners;
        result = tower_fanout_new(&fanout, &service->fanouts[service->n_fanouts]);
        if (result == 0)
            result = tower_inheritance_keep(
                inheritance, TOWER_CARRIED_LISTENERS, (uint32_t)service->n_fanouts,
                tower_fanout_table_fd(service->fanouts[service->n_fanouts]));
    }
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the fan-out", "", "");
    tower_inheritance_adopt(inheritance, service->fanouts, service->n_fanouts);
    return 0;
}

/* Where the numbers of the title schedule begin behind another process: what it had taken from the
 * router, and what is on air or will be of what it wrote. */
static void begin_title_schedule(struct tower_service *service) {
    struct tower_router_stats router;
    tower_router_get_stats(service->router, &router);
    tower_title_schedule_begin(service->title_schedule, router.popped_count,
                               tower_encoder_manager_position_samples(service->encoder),
                               service->programme_title.number_ended != 0);
}

static uint64_t count_popped(void *self) {
    struct tower_service *service = self;
    struct tower_router_stats router;
    tower_router_get_stats(service->router, &router);
    return router.popped_count;
}

static uint64_t count_written(void *self) {
    struct tower_service *service = self;
    return tower_encoder_manager_written(service->encoder);
}

static int build_encoder_and_pump(struct tower_service *service,
                                  struct tower_inheritance *inheritance, char *error,
                                  size_t error_bytes) {
    const struct tower_config *config = &service->config;
    struct tower_encoder_config encoder = {
        .clock = service->clock,
        .kind = config->encoder,
        .frame_samples = config->frame_samples,
        .bitrate_bps = config->bitrate_bps,
        .ffmpeg = config->ffmpeg,
        .backoff_count = config->encoder_backoff_count,
        .max_restarts = config->encoder_max_restarts,
        .is_realtime = config->is_realtime,
        .output = put_on_air,
        .output_user = service,
        .carried_fd = tower_inheritance_fd(inheritance, TOWER_CARRIED_ENCODER),
        .air_frames = tower_air_frames(service->air),
        .on_event = note_encoder,
    };
    memcpy(encoder.backoff_ns, config->encoder_backoff_ns, sizeof encoder.backoff_ns);
    int result = tower_encoder_manager_new(&encoder, &service->encoder);
    if (result == 0)
        result = tower_inheritance_keep(inheritance, TOWER_CARRIED_ENCODER, 0,
                                        tower_encoder_manager_fd(service->encoder));
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the encoder", "", "");
    struct tower_encoder_stats made;
    tower_encoder_manager_get_stats(service->encoder, &made);
    result =
        tower_title_schedule_new(config->frame_samples, made.delay_ns, &service->title_schedule);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the schedule of titles", "",
                                  "");
    begin_title_schedule(service);
    struct tower_pump_config pump = {
        .clock = service->clock,
        .frame_samples = config->frame_samples,
        .resync_after_ns = config->resync_after_ns,
        .is_realtime = config->is_realtime,
        .pcm_buffer = {service, pop_frame},
        .fallback = {service, get_fallback_frame},
        .encoder = {service, write_pcm},
        .carried_fd = tower_inheritance_fd(inheritance, TOWER_CARRIED_PUMP),
        .count_popped = count_popped,
        .count_written = count_written,
    };
    result = tower_pump_new(&pump, &service->pump);
    if (result == 0)
        result = tower_inheritance_keep(inheritance, TOWER_CARRIED_PUMP, 0,
                                        tower_pump_fd(service->pump));
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the pump", "", "");
    uint64_t next_tick;
    uint64_t outage_frames = tower_pump_outage(service->pump, &next_tick);
    if (outage_frames > 0)
        tower_fallback_resume(service->fallback, next_tick, outage_frames);
    return 0;
}

/* Where producers come: of a socket that was passed on the configuration may say another path. */
static void find_pcm_path(struct tower_service *service) {
    struct sockaddr_un address = {.sun_family = AF_UNSPEC};
    socklen_t bytes = sizeof address;
    if (getsockname(service->sockets.pcm_fd, (struct sockaddr *)&address, &bytes) < 0 ||
        address.sun_family != AF_UNIX || address.sun_path[0] == '\0')
        (void)snprintf(service->pcm_path, sizeof service->pcm_path, "%s",
                       service->config.socket_path);
    else
        (void)snprintf(service->pcm_path, sizeof service->pcm_path, "%.*s",
                       (int)sizeof address.sun_path, address.sun_path);
}

static int build_ways_in_and_out(struct tower_service *service,
                                 struct tower_inheritance *inheritance, char *error,
                                 size_t error_bytes) {
    const struct tower_config *config = &service->config;
    int result = 0;
    if (service->sockets.n_http_fds == 0 || service->sockets.pcm_fd < 0) {
        service->listening.sockets = service->sockets;
        result = tower_listening_open(&service->listening, config, error, error_bytes);
        if (result < 0)
            return result;
        service->sockets = service->listening.sockets;
    }
    find_pcm_path(service);
    struct tower_pcm_socket_config ingest = {
        .clock = service->clock,
        .path = config->socket_path,
        .listen_fd = &service->sockets.pcm_fd,
        .frame_samples = config->frame_samples,
        .router = service->router,
        .cushion_frames = config->cushion_frames,
        .idle_ns = config->grace_ns,
        .priorities = config->priorities,
        .settle_ns = config->settle_ns,
        .fade_ns = config->fade_ns,
        .is_realtime = config->is_realtime,
        .on_title = take_title,
        .on_producer = note_producer,
        .user = service,
        .monitor = service->monitor,
        .withholds_dead_air = config->dead_air_action == TOWER_DEAD_AIR_FALLBACK,
        .carried_fd = tower_inheritance_fd(inheritance, TOWER_CARRIED_PRODUCERS),
    };
    result = tower_pcm_socket_new(&ingest, &service->ingest);
    if (result == 0)
        result = tower_inheritance_keep(inheritance, TOWER_CARRIED_PRODUCERS, 0,
                                        tower_pcm_socket_fd(service->ingest));
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "taking up the PCM socket", "", "");
    struct tower_taps_config taps = {
        .clock = service->clock,
        .max_taps = config->max_taps,
        .frame_samples = config->frame_samples,
        .client_timeout_ns = config->client_timeout_ns,
    };
    if (config->max_taps > 0)
        result = tower_taps_new(&taps, &service->taps);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the taps", "", "");
    struct tower_http_server_config http = {
        .clock = service->clock,
        .host = config->host,
        .port = config->port,
        .listen_fds = service->sockets.http_fds,
        .n_listen_fds = service->sockets.n_http_fds,
        .air = service->air,
        .fanouts = service->fanouts,
        .n_fanouts = service->n_fanouts,
        .burst_frames = mp3_frames_in(config->burst_ns),
        .client_buffer_bytes = config->client_buffer_bytes,
        .titles = service->titles,
        .addresses = service->addresses,
        .journal = tower_incidents_journal(service->incidents),
        .taps = service->taps,
        .station = {config->name, config->description, config->genre, config->url},
        .public_url = config->public_url,
        .password = service->password,
        .wrong_password_ns = WRONG_PASSWORD_NS,
        .sources = {.users = &service->source_users,
                    .program = service->program,
                    .socket_path = service->pcm_path,
                    .ffmpeg = config->ffmpeg,
                    .knows_type = tower_stream_decoder_knows,
                    .send_title = send_source_title},
        .bitrate_bps = config->bitrate_bps,
        .names_server = config->has_server_header,
        .max_connections = HTTP_CONNECTIONS,
        .request_timeout_ns = HTTP_REQUEST_TIMEOUT_NS,
        .choose_producer = choose_producer,
        .get_status = tower_service_get_status,
        .user = service,
    };
    result = tower_http_server_new(&http, &service->http);
    if (result < 0)
        return tower_service_fail(error, error_bytes, result, "making the HTTP server", "", "");
    return 0;
}

static int build(struct tower_service *service, struct tower_inheritance *inheritance, char *error,
                 size_t error_bytes) {
    int result =
        tower_config_read_password(&service->config, service->password, error, error_bytes);
    if (result == 0)
        result = tower_config_read_source_users(&service->config, &service->source_users, error,
                                                error_bytes);
    tower_program_path(service->program, sizeof service->program);
    if (result == 0)
        result = build_journal(service, inheritance, error, error_bytes);
    if (result == 0)
        result = build_programme(service, inheritance, error, error_bytes);
    if (result == 0)
        result = build_air(service, inheritance, error, error_bytes);
    if (result == 0)
        result = build_encoder_and_pump(service, inheritance, error, error_bytes);
    if (result == 0)
        result = build_ways_in_and_out(service, inheritance, error, error_bytes);
    return result;
}

/* What a process died by: "SIGSEGV", "exit-3". */
static void print_cause(const struct tower_keeper_report *report, char *ret_cause, size_t bytes) {
    const char *name = sigabbrev_np(report->signal_number);
    if (report->why == TOWER_REPLACED_ENDED)
        (void)snprintf(ret_cause, bytes, "exit-%d", report->exit_code);
    else if (report->why == TOWER_REPLACED_KILLED && name)
        (void)snprintf(ret_cause, bytes, "SIG%s", name);
    else if (report->why == TOWER_REPLACED_KILLED)
        (void)snprintf(ret_cause, bytes, "signal-%d", report->signal_number);
}

/* Why this process is here, if it is another's successor; for the journal. */
static void find_replacement(struct tower_service *service,
                             const struct tower_inheritance *inheritance) {
    static const enum tower_incident_kind kinds[TOWER_REPLACEMENT_COUNT] = {
        [TOWER_REPLACED_KILLED] = TOWER_INCIDENT_WORKER_KILLED,
        [TOWER_REPLACED_ENDED] = TOWER_INCIDENT_WORKER_KILLED,
        [TOWER_REPLACED_STALLED] = TOWER_INCIDENT_WORKER_STALLED,
        [TOWER_REPLACED_RELOADED] = TOWER_INCIDENT_RELOADED,
        [TOWER_REPLACED_UPGRADED] = TOWER_INCIDENT_UPGRADED,
        [TOWER_REPLACED_KEEPER] = TOWER_INCIDENT_KEEPER_KILLED,
    };
    struct tower_incident_replacement *replacement = &service->replacement;
    replacement->kind = TOWER_INCIDENT_STARTED;
    if (!inheritance->carried || tower_carried_report(inheritance->carried)->generation <= 1)
        return;
    const struct tower_keeper_report *report = tower_carried_report(inheritance->carried);
    if ((unsigned)report->why >= TOWER_REPLACEMENT_COUNT)
        return;
    struct tower_pump_stats pump;
    struct tower_pcm_socket_stats producers;
    tower_pump_get_stats(service->pump, &pump);
    tower_pcm_socket_get_stats(service->ingest, &producers);
    int64_t now_ns = tower_clock_now_ns(service->clock);
    *replacement = (struct tower_incident_replacement){
        .kind = kinds[report->why],
        .generation = report->replaced_generation,
        .at_ns = report->replaced_ns,
        .silent_ns = report->replaced_ns,
        .listeners_lost = (uint64_t)inheritance->adoption.unsound + inheritance->adoption.no_place,
    };
    /* A stall is noticed late. So is a death whose first successors died as well. */
    bool is_late = report->why == TOWER_REPLACED_STALLED ||
                   pump.last_emit_ns < report->replaced_ns - TOWER_INCIDENT_STALL_NS;
    if (is_late && pump.last_emit_ns > 0 && pump.last_emit_ns <= now_ns)
        replacement->silent_ns = pump.last_emit_ns;
    if (report->why == TOWER_REPLACED_KEEPER)
        (void)snprintf(replacement->subject, sizeof replacement->subject, "keeper (process %ld)",
                       (long)report->replaced_pid);
    else
        (void)snprintf(replacement->subject, sizeof replacement->subject,
                       "worker %lu (process %ld)", (unsigned long)report->replaced_generation,
                       (long)report->replaced_pid);
    print_cause(report, replacement->cause, sizeof replacement->cause);
    if (producers.lost_producers > 0)
        (void)snprintf(replacement->detail, sizeof replacement->detail, "%zu producers lost",
                       producers.lost_producers);
}

static void log_inheritance(const struct tower_inheritance *inheritance) {
    const struct tower_adoption *listeners = &inheritance->adoption;
    if (!inheritance->carried || tower_carried_report(inheritance->carried)->generation <= 1)
        return;
    bool is_whole = listeners->unsound == 0 && listeners->no_place == 0;
    tower_log(is_whole ? TOWER_LOG_INFO : TOWER_LOG_ERROR, "service",
              "going on with %u listeners; %u could not be kept, for %u there is no place any more",
              listeners->taken, listeners->unsound, listeners->no_place);
}

int tower_service_continue(const struct tower_config *config,
                           const struct tower_service_sockets *sockets, struct tower_clock *clock,
                           struct tower_carried *carried, struct tower_service **ret_service,
                           char *error, size_t error_bytes) {
    struct tower_inheritance inheritance;
    struct tower_service *service = calloc(1, sizeof *service);
    if (!service)
        return tower_service_fail(error, error_bytes, -ENOMEM, "making the service", "", "");
    service->config = *config;
    service->listening = (struct tower_listening)TOWER_LISTENING_NONE;
    service->sockets =
        sockets ? *sockets : (struct tower_service_sockets)TOWER_SERVICE_SOCKETS_NONE;
    service->carried = carried;
    service->clock = clock;
    service->last_air_ns = INT64_MIN;
    service->started_ns = tower_clock_now_ns(clock);
    int result = tower_inheritance_init(&inheritance, carried);
    if (result < 0)
        (void)tower_service_fail(error, error_bytes, result, "looking at what another process left",
                                 "", "");
    else
        result = build(service, &inheritance, error, error_bytes);
    if (result == 0) {
        tower_inheritance_commit(&inheritance);
        log_inheritance(&inheritance);
        find_replacement(service, &inheritance);
    }
    tower_inheritance_done(&inheritance);
    if (result < 0) {
        /* What is carried is the next worker's, and this process ends: nothing is closed. */
        static struct tower_service *volatile unfinished; /* so that it is no leak */
        unfinished = service;
        if (!carried)
            tower_service_free(unfinished);
        return result;
    }
    *ret_service = service;
    return 0;
}

int tower_service_new(const struct tower_config *config,
                      const struct tower_service_sockets *sockets, struct tower_clock *clock,
                      struct tower_service **ret_service, char *error, size_t error_bytes) {
    return tower_service_continue(config, sockets, clock, NULL, ret_service, error, error_bytes);
}

void tower_service_free(struct tower_service *service) {
    if (!service)
        return;
    /* It looks at all the others, and all the others write to it. */
    if (service->incidents)
        tower_journal_stop(tower_incidents_journal(service->incidents));
    tower_http_server_free(service->http);
    tower_pcm_socket_free(service->ingest);
    tower_pump_free(service->pump);
    tower_taps_free(service->taps);
    tower_encoder_manager_free(service->encoder);
    tower_title_schedule_free(service->title_schedule);
    for (size_t i = 0; i < service->n_fanouts; i++)
        tower_fanout_free(service->fanouts[i]);
    tower_programme_titles_done(&service->programme_titles);
    tower_titles_free(service->titles);
    tower_addresses_free(service->addresses);
    tower_air_free(service->air);
    tower_fallback_free(service->fallback);
    tower_input_monitor_free(service->monitor);
    tower_router_free(service->router);
    tower_listening_close(&service->listening, NULL);
    tower_incidents_free(service->incidents);
    free(service);
}
