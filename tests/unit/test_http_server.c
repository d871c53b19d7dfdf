/* test_http_server.c - what a client gets for what it sends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "http_station.h"

#include "tower/version.h"

#include <fcntl.h>
#include <sys/resource.h>

#define MANY 200

static void alive_is_answered(void **state) {
    (void)state;
    const struct answer *answer = get("/livez");
    assert_int_equal(answer->status, 200);
    assert_string_equal(answer->body, "alive\n");
    assert_true(http_header_is(answer, "Content-Length:", "6"));
    assert_true(http_header_is(answer, "Connection:", "keep-alive"));
    assert_non_null(http_header(answer, "Server: tower/"));
    assert_int_equal(get("/livez?verbose=1")->status, 200);
    assert_int_equal(ask("GET http://radio.example/livez HTTP/1.1\r\nHost: x\r\n\r\n", 0)->status,
                     200);
}

static void ready_means_a_frame_within_the_last_second(void **state) {
    (void)state;
    assert_int_equal(get("/readyz")->status, 200);
    pthread_mutex_lock(&station.lock);
    station.status.last_air_ns = station.status.now_ns - S_NS;
    pthread_mutex_unlock(&station.lock);
    assert_int_equal(get("/readyz")->status, 503);
    assert_non_null(strstr(get("/readyz")->body, "1000 ms ago"));
    pthread_mutex_lock(&station.lock);
    station.status.last_air_ns = INT64_MIN;
    pthread_mutex_unlock(&station.lock);
    assert_int_equal(get("/readyz")->status, 503);
    assert_non_null(strstr(get("/readyz")->body, "no frame has gone on air yet"));
}

static void the_buffer_is_reported(void **state) {
    (void)state;
    json_t *json = get_json("/tower/buffer");
    int count, fill, capacity, overflow_count;
    double ratio;
    assert_int_equal(json_unpack(json, "{s:i, s:i, s:i, s:i, s:F}", "count", &count, "fill", &fill,
                                 "capacity", &capacity, "overflow_count", &overflow_count, "ratio",
                                 &ratio),
                     0);
    assert_int_equal(count, 25);
    assert_int_equal(fill, 25);
    assert_int_equal(capacity, 100);
    assert_int_equal(overflow_count, 7);
    assert_true(ratio == 0.25);
    json_decref(json);
}

/* Fail unless the value at `path` ("a.b.0") in the JSON is this number. */
static void assert_number(const json_t *json, const char *path, double expected) {
    char copy[100];
    (void)snprintf(copy, sizeof copy, "%s", path);
    char *rest = NULL;
    for (char *key = strtok_r(copy, ".", &rest); key; key = strtok_r(NULL, ".", &rest))
        json = json_is_array(json) ? json_array_get(json, (size_t)strtoul(key, NULL, 10))
                                   : json_object_get(json, key);
    if (!json_is_number(json) || json_number_value(json) < expected - 0.001 ||
        json_number_value(json) > expected + 0.001)
        fail_msg("%s is %f, not %f", path, json_number_value(json), expected);
}

static void the_status_says_everything(void **state) {
    (void)state;
    json_t *json = get_json("/status");
    static const struct {
        const char *path;
        double value;
    } expected[] = {
        {"origin_seconds", 10},
        {"uptime_seconds", 60},
        {"bitrate_bps", 128000},
        {"frame_samples", 1152},
        {"air.frames", 2500},
        {"air.bytes", 960000},
        {"air.seconds_since_frame", 0.01},
        {"ticks.due", 2510},
        {"ticks.emitted", 2500},
        {"ticks.late", 4},
        {"ticks.skipped", 10},
        {"ticks.resyncs", 1},
        {"ticks.write_errors", 0},
        {"ticks.lateness_us.p99", 0},
        {"frames_by_origin.live", 2000},
        {"frames_by_origin.tone", 500},
        {"frames_by_origin.repair", 5},
        {"levels.peak_dbfs.0", 0},
        {"levels.rms_dbfs.0", -6.0206},
        {"encoder.restarts", 2},
        {"producers.connected", 2},
        {"producers.accepted", 9},
        {"producers.list.0.pid", 4711},
        {"producers.list.0.bytes", 4608},
        {"producers.list.0.connected_seconds", 5},
        {"producers.list.0.seconds_since_data", 1},
        {"router.count", 25},
        {"router.capacity", 100},
        {"router.overflow_count", 7},
        {"fallback.outages", 3},
        {"listeners.current", 3},
        {"listeners.peak", 8},
        {"listeners.capacity", 50},
        {"listeners.accepted", 20},
        {"listeners.refused", 0},
        {"listeners.ended.timeout", 6},
        {"listeners.skips", 2},
        {"listeners.sent_bytes", 123456},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_number(json, expected[i].path, expected[i].value);
    const char *state_name, *origin, *version, *kind, *encoder_state;
    assert_int_equal(json_unpack(json, "{s:s, s:s, s:s, s:{s:s, s:s}}", "state", &state_name,
                                 "origin", &origin, "version", &version, "encoder", "kind", &kind,
                                 "state", &encoder_state),
                     0);
    assert_string_equal(state_name, "on air");
    assert_string_equal(origin, "tone");
    assert_string_equal(version, tower_version());
    assert_string_equal(kind, "ffmpeg");
    assert_string_equal(encoder_state, "recovering");
    json_t *second = json_array_get(json_object_get(json_object_get(json, "producers"), "list"), 1);
    assert_true(json_is_null(json_object_get(second, "seconds_since_data")));
    json_decref(json);
}

static void head_is_get_without_the_body(void **state) {
    (void)state;
    const char *const paths[] = {"/livez", "/readyz", "/status", "/tower/buffer", "/nothing"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char request[100];
        struct answer by_get = *get(paths[i]);
        (void)snprintf(request, sizeof request,
                       "HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", paths[i]);
        const struct answer *by_head = ask(request, true);
        assert_int_equal(by_head->status, by_get.status);
        char length[32];
        (void)snprintf(length, sizeof length, "%zu", by_get.body_bytes);
        assert_true(http_header_is(by_head, "Content-Length:", length));
    }
    const struct answer *answer = &(struct answer){0};
    int fd = http_connect(station.port);
    static struct answer head;
    assert_true(http_send(fd, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(http_read_head(fd, &head));
    answer = &head;
    assert_int_equal(answer->status, 200);
    assert_true(http_header_is(answer, "Content-Type:", "audio/mpeg"));
    assert_true(http_is_at_end(fd));
    assert_int_equal(listeners_now(), 0);
    close(fd);
}

static void what_is_wrong_is_said(void **state) {
    (void)state;
    static const struct {
        const char *request;
        int status;
        const char *says;
    } wrong[] = {
        {"GET // HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/stream"},
        {"GET /status/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/status/"},
        {"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
         405, "method"},
        {"DELETE /stream HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"},
        {"PATCH /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 405, "method"},
        {"POST /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing"},
        {"GET /livez HTTP/1.1\r\nContent-Length: 9000\r\n\r\n", 413, "body"},
        {"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "content-length"},
        {"GET /livez HTTP/2.0\r\n\r\n", 505, "HTTP/1.1"},
        {"GET /livez XTTP/1.1\r\n\r\n", 400, "400"},
        {"GET\r\n\r\n", 400, "400"},
        {"FROBNICATE /livez HTTP/1.1\r\n\r\n", 501, "method"},
        {"\x16\x03\x01\x02\x01", 400, "400"},
        {"GET /livez HTTP/1.1\r\nbad header\r\n\r\n", 400, "400"},
        {"GET /livez HTTP/1.1\r\nHost: \x01x\r\n\r\n", 400, "control character"},
        {"GET /livez HTTP/1.1\r\nHost: x\x01\r\n\r\n", 400, "400"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct answer *answer = ask(wrong[i].request, wrong[i].status != 404);
        if (answer->status != wrong[i].status || !strstr(answer->body, wrong[i].says) ||
            !strstr(answer->body, "/tower/buffer"))
            fail_msg("%s: %d %s", wrong[i].request, answer->status, answer->body);
        assert_true(http_header_is(answer, "Content-Type:", "text/plain; charset=utf-8"));
        assert_true(wrong[i].status != 405 ||
                    http_header_is(answer, "Allow:", "GET, HEAD, OPTIONS"));
    }
}

static void what_is_too_long_is_refused(void **state) {
    (void)state;
    static char request[20000];
    (void)snprintf(request, sizeof request, "GET /%02100d HTTP/1.1\r\n\r\n", 0);
    assert_int_equal(ask(request, true)->status, 414);
    (void)snprintf(request, sizeof request, "GET /%012000d", 0);
    assert_int_equal(ask(request, true)->status, 414);
    (void)snprintf(request, sizeof request, "GET /livez HTTP/1.1\r\nX: %09000d\r\n\r\n", 0);
    assert_int_equal(ask(request, true)->status, 431);
    (void)snprintf(request, sizeof request, "GET /livez HTTP/1.1\r\nX: %016000d", 0);
    assert_int_equal(ask(request, true)->status, 431);
    /* Right up to the bound it is taken: 21 + 3 + 8164 + 4 bytes. */
    (void)snprintf(request, sizeof request, "GET /livez HTTP/1.1\r\nX: %08164d\r\n\r\n", 0);
    assert_int_equal(strlen(request), 8192);
    assert_int_equal(ask(request, false)->status, 200);
    (void)snprintf(request, sizeof request, "GET /livez HTTP/1.1\r\nX: %08165d\r\n\r\n", 0);
    assert_int_equal(ask(request, true)->status, 431);
    /* A chunked body has no length to go by. */
    (void)snprintf(request, sizeof request,
                   "GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2af8\r\n%011000d\r\n",
                   0);
    assert_int_equal(ask(request, true)->status, 413);
    /* An answer to HEAD has no body, whatever it says. */
    assert_int_equal(ask("HEAD /livez HTTP/1.1\r\nContent-Length: 9000\r\n\r\n", true)->status,
                     413);
}

static void a_small_body_is_skipped(void **state) {
    (void)state;
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "GET /livez HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET "
                              "GET /readyz HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(fd, &answer, false));
    assert_string_equal(answer.body, "alive\n");
    assert_true(http_read_answer(fd, &answer, false));
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "ready"));
    close(fd);
}

static void requests_may_come_in_any_pieces(void **state) {
    (void)state;
    static struct answer answer;
    const char *request = "GET /livez HTTP/1.1\r\nHost: x\r\nUser-Agent: slow\r\n\r\n";
    int fd = http_connect(station.port);
    int on = 1;
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on), 0);
    for (const char *c = request; *c; c++) {
        assert_int_equal(send(fd, c, 1, MSG_NOSIGNAL), 1);
        /* Another request's answer proves that the server had its turn. */
        if (c - request < 20)
            assert_int_equal(get("/livez")->status, 200);
    }
    assert_true(http_read_answer(fd, &answer, false));
    assert_int_equal(answer.status, 200);
    /* A hundred at once, answered in order, and more than fits one buffer. */
    enum { AT_ONCE = 400 };
    static char many[AT_ONCE * 64];
    size_t bytes = 0;
    for (int i = 0; i < AT_ONCE; i++) {
        const char *one = i % 2 ? "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                                : "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        memcpy(many + bytes, one, strlen(one));
        bytes += strlen(one);
    }
    assert_int_equal(send(fd, many, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    for (int i = 0; i < AT_ONCE; i++) {
        assert_true(http_read_answer(fd, &answer, false));
        assert_int_equal(answer.status, i % 2 ? 200 : 404);
    }
    assert_true(http_send(fd, "GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"));
    assert_true(http_read_answer(fd, &answer, false));
    assert_true(http_header_is(&answer, "Connection:", "close"));
    assert_true(http_is_at_end(fd));
    close(fd);
}

static void old_clients_get_what_they_know(void **state) {
    (void)state;
    const struct answer *answer = ask("GET /livez HTTP/1.0\r\n\r\n", true);
    assert_int_equal(answer->status, 200);
    assert_int_equal(strncmp(answer->head, "HTTP/1.0 200 OK\r\n", 17), 0);
    assert_true(http_header_is(answer, "Connection:", "close"));
    answer = ask("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false);
    assert_true(http_header_is(answer, "Connection:", "keep-alive"));
    /* An offer of HTTP/2 is not taken up. */
    answer = ask("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                 "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
                 false);
    assert_int_equal(answer->status, 200);
    assert_string_equal(answer->body, "alive\n");
}

static void the_stream_begins_at_a_frame_and_has_no_gap(void **state) {
    (void)state;
    static const struct {
        const char *request;
        const char *status_line;
    } ways[] = {
        {"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
        {"GET /stream.mp3 HTTP/1.0\r\nIcy-MetaData: 0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
        {"GET /stream?t=1 HTTP/1.1\r\nConnection: keep-alive\r\nRange: bytes=0-\r\n\r\nrubbish",
         "HTTP/1.1 200 OK\r\n"},
    };
    for (int i = 0; i < 50; i++)
        publish();
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        static struct answer answer;
        struct numbered_reader reader = {0};
        int fd = http_connect(station.port);
        uint32_t first = station.n_frames - BURST_FRAMES;
        assert_true(http_send(fd, ways[i].request));
        assert_true(http_read_head(fd, &answer));
        assert_int_equal(strncmp(answer.head, ways[i].status_line, strlen(ways[i].status_line)), 0);
        assert_true(http_header_is(&answer, "Content-Type:", "audio/mpeg"));
        assert_true(http_header_is(&answer, "Connection:", "close"));
        assert_true(http_header_is(&answer, "Cache-Control:", "no-cache, no-store"));
        assert_true(http_header_is(&answer, "Accept-Ranges:", "none"));
        assert_true(http_header_is(&answer, "Access-Control-Allow-Origin:", "*"));
        assert_null(http_header(&answer, "Content-Length:"));
        assert_null(http_header(&answer, "Transfer-Encoding:"));
        assert_null(http_header(&answer, "icy-metaint:"));
        assert_true(receive_frame(fd, &reader, station.n_frames - 1));
        assert_int_equal(reader.first, first);
        for (int k = 0; k < 1000; k++) {
            uint32_t number = publish();
            assert_true(receive_frame(fd, &reader, number));
        }
        close(fd);
    }
}

static void a_full_house_is_said_and_counted(void **state) {
    (void)state;
    static struct answer answer;
    int fds[2 * PLACES];
    publish();
    for (int i = 0; i < 2 * PLACES; i++) {
        struct numbered_reader reader = {0};
        fds[i] = http_connect(station.port);
        assert_true(http_send(fds[i], "GET /stream HTTP/1.1\r\n\r\n"));
        assert_true(http_read_head(fds[i], &answer));
        assert_int_equal(answer.status, 200);
        assert_true(receive_frame(fds[i], &reader, 0));
    }
    const struct answer *refusal = ask("GET /stream HTTP/1.1\r\n\r\n", false);
    assert_int_equal(refusal->status, 503);
    assert_non_null(http_header(refusal, "Retry-After:"));
    json_t *json = get_json("/status");
    assert_number(json, "listeners.refused", 1);
    json_decref(json);
    for (int i = 0; i < 2 * PLACES; i++)
        close(fds[i]);
}

static void listeners_come_and_go(void **state) {
    (void)state;
    enum { AT_ONCE = 2 * PLACES };
    int fds[AT_ONCE];
    static struct answer answer;
    publish();
    for (int i = 0; i < MANY; i++) {
        int slot = i % AT_ONCE;
        if (i >= AT_ONCE) {
            close(fds[slot]);
            int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
            while (listeners_now() == AT_ONCE && real_now_ns() < give_up_ns) {
                publish();
                short_pause();
            }
        }
        struct numbered_reader reader = {0};
        fds[slot] = http_connect(station.port);
        assert_true(http_send(fds[slot], "GET /stream HTTP/1.1\r\n\r\n"));
        assert_true(http_read_head(fds[slot], &answer));
        assert_int_equal(answer.status, 200);
        assert_true(receive_frame(fds[slot], &reader, publish()));
    }
    for (int i = 0; i < AT_ONCE; i++)
        close(fds[i]);
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (listeners_now() > 0 && real_now_ns() < give_up_ns) {
        publish();
        short_pause();
    }
    assert_int_equal(listeners_now(), 0);
}

static void a_request_has_its_time_and_no_more(void **state) {
    (void)state;
    static struct answer answer;
    struct tower_http_server_config config = make_config();
    config.request_timeout_ns = 2 * S_NS; /* many times what the sending below takes */
    start_with(config, PLACES);
    int silent = http_connect(station.port);
    int slow = http_connect(station.port);
    int idle = http_connect(station.port);
    assert_true(http_send(idle, "GET /livez HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(idle, &answer, false));
    /* Every byte comes well in time, the request as a whole does not. */
    struct pollfd poll_fd = {.fd = slow, .events = POLLIN};
    assert_true(http_send(slow, "GET /livez HTTP/1.1\r\nX: "));
    int n_sent = 0;
    while (poll(&poll_fd, 1, 10) == 0 && n_sent++ < 3000)
        assert_true(http_send(slow, "x"));
    assert_true(http_read_answer(slow, &answer, false));
    assert_int_equal(answer.status, 408);
    assert_true(http_is_at_end(slow));
    /* Who began no request is told nothing. */
    assert_true(http_is_at_end(silent));
    assert_true(http_is_at_end(idle));
    close(silent);
    close(slow);
    close(idle);
}

static void full_of_connections_it_still_answers(void **state) {
    (void)state;
    static struct answer answer;
    struct tower_http_server_config config = make_config();
    config.max_connections = 2;
    start_with(config, PLACES);
    int busy = http_connect(station.port);
    assert_true(http_send(busy, "GET /li"));
    int idle = http_connect(station.port);
    assert_true(http_send(idle, "GET /livez HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(idle, &answer, false));
    /* With no place left none is kept for a client that has been answered. */
    for (int i = 0; i < 5; i++)
        assert_int_equal(get("/livez")->status, 200);
    assert_true(http_is_at_end(idle));
    assert_true(http_send(busy, "vez HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(busy, &answer, false));
    assert_int_equal(answer.status, 200);
    close(busy);
    close(idle);
}

static void those_who_dawdle_keep_nobody_out(void **state) {
    (void)state;
    enum { DAWDLERS = 20 };
    struct tower_http_server_config config = make_config();
    config.max_connections = 4;
    /* Longer than anybody in this test waits. */
    config.request_timeout_ns = 600 * S_NS;
    start_with(config, PLACES);
    int dawdlers[DAWDLERS];
    for (int i = 0; i < DAWDLERS; i++) {
        dawdlers[i] = http_connect(station.port);
        /* Some begin a request, some say nothing at all. */
        assert_true(i % 2 || http_send(dawdlers[i], "GET /stream HTTP/1.1\r\nX-a: b\r\n"));
    }
    assert_int_equal(get("/livez")->status, 200);
    for (int i = 0; i < DAWDLERS; i++)
        close(dawdlers[i]);
}

static void out_of_descriptors_it_goes_on(void **state) {
    (void)state;
    static struct answer answer;
    start_with(make_config(), PLACES);
    publish();
    int kept = http_connect(station.port);
    int listener = http_connect(station.port);
    struct numbered_reader reader = {0};
    assert_true(http_send(listener, "GET /stream HTTP/1.1\r\n\r\n"));
    assert_true(http_read_head(listener, &answer));
    assert_true(http_send(kept, "GET /li"));
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(station.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* Proof that both were accepted before the descriptors run out. */
    assert_true(http_send(kept, "vez HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(kept, &answer, false));
    assert_true(http_send(kept, "GET /livez"));
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(connect(late, (struct sockaddr *)&address, sizeof address), 0);
    assert_true(http_send(late, "GET /livez HTTP/1.1\r\n\r\n"));
    for (int i = 0; i < 50; i++)
        assert_true(receive_frame(listener, &reader, publish()));
    assert_true(http_send(kept, " HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(kept, &answer, false));
    assert_int_equal(answer.status, 200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    /* The one that had to wait is served once there is room. */
    assert_true(http_read_answer(late, &answer, false));
    assert_int_equal(answer.status, 200);
    close(kept);
    close(listener);
    close(late);
}

/* A socket that listens on 127.0.0.1; `ret_port` gets its port. */
static int listen_somewhere(uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

/* On one server after the other: what comes in between waits, and none closes what is not its own.
 */
static void borrowed_sockets_are_served_and_stay_open(void **state) {
    (void)state;
    uint16_t ports[2];
    const int fds[2] = {listen_somewhere(&ports[0]), listen_somewhere(&ports[1])};
    struct tower_http_server_config config = make_config();
    config.host = NULL;
    config.listen_fds = fds;
    config.n_listen_fds = 2;
    for (int round = 0; round < 2; round++) {
        struct tower_http_server *server = NULL;
        int clients[2];
        for (int i = 0; i < 2; i++) {
            struct sockaddr_in address = {.sin_family = AF_INET,
                                          .sin_port = htons(ports[i]),
                                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            clients[i] = socket(AF_INET, SOCK_STREAM, 0);
            assert_int_equal(connect(clients[i], (struct sockaddr *)&address, sizeof address), 0);
            assert_true(http_send(clients[i], "GET /livez HTTP/1.1\r\n\r\n"));
        }
        assert_int_equal(tower_http_server_new(&config, &server), 0);
        assert_int_equal(tower_http_server_port(server), ports[0]);
        assert_int_equal(tower_http_server_start(server), 0);
        for (int i = 0; i < 2; i++) {
            static struct answer answer;
            assert_true(http_read_answer(clients[i], &answer, false));
            assert_int_equal(answer.status, 200);
            close(clients[i]);
        }
        tower_http_server_stop(server);
        tower_http_server_free(server);
        assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(close(fds[i]), 0);
}

static void what_does_not_listen_is_not_borrowed(void **state) {
    (void)state;
    struct tower_http_server *other = NULL;
    struct tower_http_server_config config = make_config();
    int fds[TOWER_HTTP_LISTEN_FDS_MAX + 1] = {socket(AF_INET, SOCK_STREAM, 0)};
    config.listen_fds = fds;
    config.n_listen_fds = 1;
    assert_int_equal(tower_http_server_new(&config, &other), -EINVAL);
    config.n_listen_fds = TOWER_HTTP_LISTEN_FDS_MAX + 1;
    assert_int_equal(tower_http_server_new(&config, &other), -EINVAL);
    config.n_listen_fds = 1;
    close(fds[0]);
    fds[0] = open("/dev/null", O_RDONLY);
    assert_int_equal(tower_http_server_new(&config, &other), -ENOTSOCK);
    close(fds[0]);
    assert_int_equal(tower_http_server_new(&config, &other), -EBADF);
    assert_null(other);
}

static void bad_settings_and_addresses_are_refused(void **state) {
    (void)state;
    struct tower_http_server *other = NULL;
    struct tower_http_server_config config = make_config();
    config.port = station.port;
    assert_int_equal(tower_http_server_new(&config, &other), -EADDRINUSE);
    config = make_config();
    config.host = "192.0.2.1";
    assert_int_equal(tower_http_server_new(&config, &other), -EADDRNOTAVAIL);
    config.host = "no such host";
    assert_int_equal(tower_http_server_new(&config, &other), -ENOENT);
    config = make_config();
    config.max_connections = 0;
    assert_int_equal(tower_http_server_new(&config, &other), -EINVAL);
    config = make_config();
    config.get_status = NULL;
    assert_int_equal(tower_http_server_new(&config, &other), -EINVAL);
    assert_null(other);
    assert_int_equal(tower_http_server_start(station.server), -EALREADY);
    tower_http_server_free(NULL);
}

static void a_stop_finishes_and_takes_nobody_new(void **state) {
    (void)state;
    static struct answer answer;
    int idle = http_connect(station.port);
    assert_true(http_send(idle, "GET /livez HTTP/1.1\r\n\r\n"));
    assert_true(http_read_answer(idle, &answer, false));
    int listener = http_connect(station.port);
    struct numbered_reader reader = {0};
    assert_true(http_send(listener, "GET /stream HTTP/1.1\r\n\r\n"));
    assert_true(http_read_head(listener, &answer));
    assert_true(receive_frame(listener, &reader, publish()));
    tower_http_server_stop(station.server);
    assert_true(http_is_at_end(idle));
    assert_int_equal(http_connect(station.port), -1);
    /* Listeners are the fan-out's. */
    assert_true(receive_frame(listener, &reader, publish()));
    close(idle);
    close(listener);
}

static void random_bytes_do_no_harm(void **state) {
    (void)state;
    uint32_t random = 12345;
    for (int round = 0; round < 60; round++) {
        static uint8_t bytes[12000];
        size_t n = 0;
        const char *start = round % 3 ? "GET /livez HTTP/1.1\r\n" : "";
        memcpy(bytes, start, strlen(start));
        for (n = strlen(start); n < (size_t)(200 * round); n++) {
            random = random * 1664525U + 1013904223U;
            bytes[n] = (uint8_t)(round % 2 ? random >> 24 : ' ' + (random >> 24) % 96);
        }
        int fd = http_connect(station.port);
        (void)send(fd, bytes, n, MSG_NOSIGNAL);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        while (receive(fd, bytes, sizeof bytes) > 0)
            ;
        assert_int_not_equal(errno, ETIMEDOUT);
        errno = 0;
        close(fd);
    }
    assert_int_equal(get("/livez")->status, 200);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_AIR(test) cmocka_unit_test_setup_teardown(test, set_up_air, tear_down)

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        WITH_SERVER(alive_is_answered),
        WITH_SERVER(ready_means_a_frame_within_the_last_second),
        WITH_SERVER(the_buffer_is_reported),
        WITH_SERVER(the_status_says_everything),
        WITH_SERVER(head_is_get_without_the_body),
        WITH_SERVER(what_is_wrong_is_said),
        WITH_SERVER(what_is_too_long_is_refused),
        WITH_SERVER(a_small_body_is_skipped),
        WITH_SERVER(requests_may_come_in_any_pieces),
        WITH_SERVER(old_clients_get_what_they_know),
        WITH_SERVER(the_stream_begins_at_a_frame_and_has_no_gap),
        WITH_SERVER(a_full_house_is_said_and_counted),
        WITH_SERVER(listeners_come_and_go),
        WITH_AIR(a_request_has_its_time_and_no_more),
        WITH_AIR(full_of_connections_it_still_answers),
        WITH_AIR(those_who_dawdle_keep_nobody_out),
        WITH_AIR(out_of_descriptors_it_goes_on),
        WITH_SERVER(borrowed_sockets_are_served_and_stay_open),
        WITH_SERVER(what_does_not_listen_is_not_borrowed),
        WITH_SERVER(bad_settings_and_addresses_are_refused),
        WITH_SERVER(a_stop_finishes_and_takes_nobody_new),
        WITH_SERVER(random_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
