/* service_run.c - TowerService: started, stopped, and how it is. */
#include "service_parts.h"

#include "utf8.h"
#include "tower/log.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define ON_AIR_WITHIN_NS TOWER_NS_PER_S
#define DRAIN_NS (TOWER_NS_PER_S / 2)
#define STOP_LIMIT_NS (2 * TOWER_NS_PER_S)

/* Keep what is in memory there. Only as pages come to be used: all of every library would be tens
 * of MiB. Where it is refused the kernel may page us out under memory pressure, and not before. */
static void lock_memory(const struct tower_service *service) {
    if (service->config.is_realtime && mlockall(MCL_CURRENT | MCL_ONFAULT) < 0)
        tower_log(TOWER_LOG_WARNING, "service",
                  "memory is not locked: %s (allow it with CAP_IPC_LOCK or LimitMEMLOCK=)",
                  strerror(errno));
}

int tower_service_start(struct tower_service *service, char *error, size_t error_bytes) {
    const char *what = "starting the journal";
    int result = 0;
    atomic_store(&service->is_stopping, false);
    atomic_store(&service->started_ns, tower_clock_now_ns(service->clock));
    struct tower_encoder_stats encoder;
    tower_encoder_manager_get_stats(service->encoder, &encoder);
    bool is_first = service->replacement.kind == TOWER_INCIDENT_STARTED;
    result =
        tower_incidents_start(service->incidents, encoder.delay_ns,
                              tower_encoder_manager_position_samples(service->encoder), is_first);
    if (result == 0)
        what = "starting the fan-out";
    for (size_t i = 0; i < service->n_fanouts && result == 0; i++)
        result = tower_fanout_start(service->fanouts[i]);
    if (result == 0) {
        what = "starting the encoder";
        result = tower_encoder_manager_start(service->encoder);
    }
    /* Behind another process the pump makes up for ticks at once, and what is live waits in
     * sockets.
     */
    bool is_ingest_first =
        service->carried && tower_carried_report(service->carried)->generation > 1;
    for (int i = 0; i < 2 && result == 0; i++) {
        bool is_ingest = (i == 0) == is_ingest_first;
        what = is_ingest ? "starting the PCM socket" : "starting the pump";
        result =
            is_ingest ? tower_pcm_socket_start(service->ingest) : tower_pump_start(service->pump);
    }
    if (result == 0 && service->taps) {
        what = "starting the taps";
        result = tower_taps_start(service->taps);
    }
    if (result == 0) {
        what = "starting the HTTP server";
        result = tower_http_server_start(service->http);
    }
    if (result < 0) {
        (void)tower_service_stop(service);
        return tower_service_fail(error, error_bytes, result, what, "", "");
    }
    lock_memory(service);
    return 0;
}

int tower_service_stop(struct tower_service *service) {
    int64_t begun_ns = tower_clock_now_ns(service->clock);
    atomic_store(&service->is_stopping, true);
    tower_http_server_stop(service->http);
    tower_pcm_socket_stop(service->ingest);
    tower_pump_stop(service->pump);
    if (service->taps)
        tower_taps_stop(service->taps);
    tower_encoder_manager_stop(service->encoder);
    int64_t drain_ns = DRAIN_NS / (int64_t)service->n_fanouts;
    for (size_t i = 0; i < service->n_fanouts; i++)
        (void)tower_fanout_stop(service->fanouts[i], drain_ns);
    tower_incidents_stop(service->incidents, tower_air_frames(service->air));
    return tower_clock_now_ns(service->clock) - begun_ns > STOP_LIMIT_NS ? -ETIMEDOUT : 0;
}

uint16_t tower_service_port(const struct tower_service *service) {
    return tower_http_server_port(service->http);
}

static enum tower_service_state current_state(struct tower_service *service, int64_t now_ns,
                                              int64_t last_air_ns) {
    if (atomic_load(&service->is_stopping))
        return TOWER_SERVICE_STOPPING;
    if (last_air_ns == INT64_MIN)
        return TOWER_SERVICE_STARTING;
    return now_ns - last_air_ns <= ON_AIR_WITHIN_NS ? TOWER_SERVICE_ON_AIR : TOWER_SERVICE_STALLED;
}

static void add_listeners(struct tower_fanout_stats *total, const struct tower_fanout_stats *one) {
    total->listeners += one->listeners;
    total->blocked += one->blocked;
    total->with_titles += one->with_titles;
    total->capacity += one->capacity;
    if (total->phase_groups < one->phase_groups)
        total->phase_groups = one->phase_groups;
    total->listeners_peak += one->listeners_peak;
    total->accepted += one->accepted;
    total->refused += one->refused;
    for (unsigned i = 0; i < TOWER_LISTENER_END_COUNT; i++)
        total->ended[i] += one->ended[i];
    total->skips += one->skips;
    total->sent_bytes += one->sent_bytes;
    total->sends += one->sends;
    tower_histogram_sum(&total->send_time, &one->send_time);
}

/* On the journal's thread. */
static void count_requests(const struct tower_service *service,
                           struct tower_incident_counts *ret_counts) {
    struct tower_keeper_status keeper;
    if (!service->carried)
        return;
    tower_carried_get_status(service->carried, &keeper);
    ret_counts->lost_state = keeper.lost_state;
    ret_counts->requests = keeper.requests;
    ret_counts->is_request_upgrade = keeper.request == TOWER_REPLACED_UPGRADED;
    size_t bytes = tower_utf8_cut(keeper.request_error, strlen(keeper.request_error),
                                  sizeof ret_counts->request_error - 1);
    memcpy(ret_counts->request_error, keeper.request_error, bytes);
    ret_counts->request_error[bytes] = '\0';
}

void tower_service_get_counts(void *user, struct tower_incident_counts *ret_counts) {
    struct tower_service *service = user;
    struct tower_pump_stats pump;
    struct tower_fallback_stats fallback;
    tower_pump_get_stats(service->pump, &pump);
    tower_fallback_get_stats(service->fallback, &fallback);
    *ret_counts = (struct tower_incident_counts){
        .origin = pump.origin,
        .origin_since_ns = pump.origin_since_ns,
        .air_frames = tower_air_frames(service->air),
        .ticks_skipped = pump.ticks_skipped,
        .fallback_errors = fallback.file_errors,
        .is_fallback_ready = fallback.is_file_ready,
    };
    memcpy(ret_counts->frames_by_origin, pump.frames_by_origin, sizeof pump.frames_by_origin);
    count_requests(service, ret_counts);
    tower_http_server_get_refused(service->http, &ret_counts->listeners_refused,
                                  &ret_counts->listeners_refused_address);
    for (size_t i = 0; i < service->n_fanouts; i++) {
        struct tower_fanout_stats fanout;
        tower_fanout_get_stats(service->fanouts[i], &fanout);
        ret_counts->listeners_refused += fanout.refused;
        ret_counts->listeners_lost += fanout.ended[TOWER_LISTENER_TIMEOUT] +
                                      fanout.ended[TOWER_LISTENER_SHUTDOWN] +
                                      fanout.ended[TOWER_LISTENER_LAGGED];
    }
}

struct tower_journal *tower_service_journal(struct tower_service *service) {
    return tower_incidents_journal(service->incidents);
}

void tower_service_get_status(void *user, struct tower_status *ret_status) {
    struct tower_service *service = user;
    *ret_status = (struct tower_status){
        .last_air_ns = atomic_load(&service->last_air_ns),
        .started_ns = atomic_load(&service->started_ns),
        .frame_samples = service->config.frame_samples,
        .bitrate_bps = service->config.bitrate_bps,
        .air_frames = tower_air_frames(service->air),
        .air_bytes = tower_air_head(service->air),
    };
    /* After last_air_ns, so that the age of the last frame cannot be negative. */
    ret_status->now_ns = tower_clock_now_ns(service->clock);
    ret_status->state = current_state(service, ret_status->now_ns, ret_status->last_air_ns);
    tower_pump_get_stats(service->pump, &ret_status->pump);
    tower_router_get_stats(service->router, &ret_status->router);
    tower_fallback_get_stats(service->fallback, &ret_status->fallback);
    tower_encoder_manager_get_stats(service->encoder, &ret_status->encoder);
    tower_pcm_socket_get_stats(service->ingest, &ret_status->producers);
    tower_input_monitor_get_stats(service->monitor, &ret_status->input);
    tower_titles_get(service->titles, &ret_status->title);
    if (service->taps)
        tower_taps_get_stats(service->taps, &ret_status->taps);
    if (service->carried)
        tower_carried_get_status(service->carried, &ret_status->keeper);
    for (size_t i = 0; i < service->n_fanouts; i++) {
        struct tower_fanout_stats fanout;
        tower_fanout_get_stats(service->fanouts[i], &fanout);
        add_listeners(&ret_status->listeners, &fanout);
    }
}
