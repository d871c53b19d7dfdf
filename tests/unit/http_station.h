/* http_station.h - an HTTP server with all that it serves, for tests of it. */
#ifndef TOWER_TESTS_HTTP_STATION_H
#define TOWER_TESTS_HTTP_STATION_H

#include "tower/http_server.h"

#include "../contracts/descriptors.h"
#include "http_fixture.h"

#include <jansson.h>
#include <pthread.h>

#define S_NS INT64_C(1000000000)
#define BURST_FRAMES 20
/* So large that no test laps a worker that the machine has stopped for a while. */
#define RING_BYTES (4 * 1024 * 1024)
#define PLACES 2

static struct {
    pthread_mutex_t lock;
    struct tower_status status; /* guarded by lock */
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_addresses *addresses;
    struct tower_fanout *fanouts[2];
    struct tower_http_server *server;
    uint16_t port;
    uint32_t n_frames;
    int n_descriptors;
} station = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void get_status(void *user, struct tower_status *ret_status) {
    (void)user;
    pthread_mutex_lock(&station.lock);
    *ret_status = station.status;
    pthread_mutex_unlock(&station.lock);
}

static inline struct tower_status make_status(void) {
    struct tower_status status = {
        .state = TOWER_SERVICE_ON_AIR,
        .now_ns = 100 * S_NS,
        .started_ns = 40 * S_NS,
        .frame_samples = 1152,
        .bitrate_bps = 128000,
        .air_frames = 2500,
        .air_bytes = 960000,
        .last_air_ns = 100 * S_NS - S_NS / 100,
        .router = {.count = 25,
                   .capacity = 100,
                   .overflow_count = 7,
                   .partial_count = 1,
                   .pushed_count = 500,
                   .popped_count = 475},
        .fallback = {.outages = 3, .file_loops = 2, .file_errors = 1, .is_file_ready = true},
    };
    status.pump = (struct tower_pump_stats){.ticks_due = 2510,
                                            .ticks_emitted = 2500,
                                            .ticks_late = 4,
                                            .ticks_skipped = 10,
                                            .resyncs = 1,
                                            .origin = TOWER_ORIGIN_TONE,
                                            .origin_since_ns = 90 * S_NS,
                                            .last_emit_ns = 100 * S_NS,
                                            .peak = {32768, 0},
                                            .rms = {16384, 0}};
    status.pump.frames_by_origin[TOWER_ORIGIN_LIVE] = 2000;
    status.pump.frames_by_origin[TOWER_ORIGIN_TONE] = 500;
    status.encoder = (struct tower_encoder_stats){.kind = TOWER_ENCODER_FFMPEG,
                                                  .state = TOWER_ENCODER_RECOVERING,
                                                  .frames_repair = 5,
                                                  .restarts = 2};
    status.producers = (struct tower_pcm_socket_stats){.accepted = 9, .n_producers = 2};
    status.producers.producers[0] = (struct tower_producer_info){.id = 8,
                                                                 .pid = 4711,
                                                                 .is_on_air = true,
                                                                 .connected_ns = 95 * S_NS,
                                                                 .last_data_ns = 99 * S_NS,
                                                                 .bytes = 4608};
    status.producers.producers[1] =
        (struct tower_producer_info){.id = 9, .connected_ns = 96 * S_NS, .last_data_ns = INT64_MIN};
    status.listeners = (struct tower_fanout_stats){.listeners = 3,
                                                   .listeners_peak = 8,
                                                   .capacity = 50,
                                                   .accepted = 20,
                                                   .skips = 2,
                                                   .sent_bytes = 123456,
                                                   .sends = 99};
    status.listeners.ended[TOWER_LISTENER_TIMEOUT] = 6;
    return status;
}

static inline struct tower_http_server_config make_config(void) {
    return (struct tower_http_server_config){
        .clock = tower_clock_real(),
        .host = "127.0.0.1",
        .air = station.air,
        .fanouts = station.fanouts,
        .n_fanouts = 2,
        .burst_frames = BURST_FRAMES,
        .client_buffer_bytes = 65536,
        .max_connections = 64,
        .request_timeout_ns = 20 * S_NS,
        .get_status = get_status,
        .titles = station.titles,
        .station = {"Radio B&B", "all day", "various", "https://radio.example"},
        .public_url = "",
        .password = "",
        .bitrate_bps = 128000,
        .names_server = true,
    };
}

static inline void start_with(struct tower_http_server_config config, uint32_t max_listeners) {
    struct tower_fanout_config fanout = {.clock = tower_clock_real(),
                                         .air = station.air,
                                         .titles = station.titles,
                                         .addresses = config.addresses,
                                         .max_listeners = max_listeners,
                                         .client_timeout_ns = 60 * S_NS,
                                         .burst_frames = BURST_FRAMES,
                                         .phase_groups = 1};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tower_fanout_new(&fanout, &station.fanouts[i]), 0);
        assert_int_equal(tower_fanout_start(station.fanouts[i]), 0);
    }
    assert_int_equal(tower_http_server_new(&config, &station.server), 0);
    assert_int_equal(tower_http_server_start(station.server), 0);
    station.port = tower_http_server_port(station.server);
}

static inline int set_up_air(void **state) {
    (void)state;
    station.n_descriptors = count_descriptors();
    station.n_frames = 0;
    station.status = make_status();
    station.addresses = NULL;
    if (tower_titles_new(&station.titles) < 0)
        return -1;
    return tower_air_new(RING_BYTES, 400, &station.air);
}

static inline int set_up(void **state) {
    if (set_up_air(state) < 0)
        return -1;
    start_with(make_config(), PLACES);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    tower_http_server_free(station.server);
    for (int i = 0; i < 2; i++)
        tower_fanout_free(station.fanouts[i]);
    tower_air_free(station.air);
    tower_titles_free(station.titles);
    tower_addresses_free(station.addresses);
    return count_descriptors() == station.n_descriptors ? 0 : -1;
}

static inline uint32_t publish(void) {
    uint8_t frame[NUMBERED_BYTES_MAX];
    tower_titles_mark(station.titles, station.n_frames, tower_air_head(station.air));
    size_t bytes = numbered_fill(station.n_frames, frame);
    assert_int_equal(tower_air_publish(station.air, frame, bytes), 0);
    return station.n_frames++;
}

/* Send `request` on a connection of its own and read the answer; with `closes` the server must then
 * close it, in order. */
static inline const struct answer *ask(const char *request, bool closes) {
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(fd >= 0);
    assert_true(http_send(fd, request));
    assert_true(http_read_answer(fd, &answer, strncmp(request, "HEAD", 4) == 0));
    assert_true(!closes || http_is_at_end(fd));
    close(fd);
    return &answer;
}

static inline const struct answer *get(const char *path) {
    char request[4096];
    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return ask(request, false);
}

static inline uint64_t listeners_now(void) {
    uint64_t n = 0;
    for (int i = 0; i < 2; i++) {
        struct tower_fanout_stats stats;
        tower_fanout_get_stats(station.fanouts[i], &stats);
        n += stats.listeners;
    }
    return n;
}

static inline json_t *get_json(const char *path) {
    const struct answer *answer = get(path);
    assert_int_equal(answer->status, 200);
    assert_true(http_header_is(answer, "Content-Type:", "application/json"));
    assert_true(http_header_is(answer, "Access-Control-Allow-Origin:", "*"));
    json_t *json = json_loads(answer->body, 0, NULL);
    assert_non_null(json);
    return json;
}

#endif
