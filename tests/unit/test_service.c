/* TowerService: everything together, on the real clock, with real sockets. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/producer.h"
#include "tower/service.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S 30

struct fixture {
    char folder[64];
    struct tower_config config;
    struct tower_service *service;
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    *state = fixture;
    strcpy(fixture->folder, "/tmp/tower-test-XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    tower_config_init(&fixture->config);
    fixture->config.port = 0;
    fixture->config.is_realtime = false;
    (void)snprintf(fixture->config.socket_path, sizeof fixture->config.socket_path, "%s/pcm.sock",
                   fixture->folder);
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    tower_service_free(fixture->service);
    int result = rmdir(fixture->folder); /* fails if the socket file was left there */
    free(fixture);
    return result;
}

static void start(struct fixture *fixture) {
    char error[512] = "";
    assert_int_equal(tower_service_new(&fixture->config, NULL, tower_clock_real(),
                                       &fixture->service, error, sizeof error),
                     0);
    assert_int_equal(tower_service_start(fixture->service, error, sizeof error), 0);
}

typedef bool condition(const struct tower_status *status);

static bool is_on_air(const struct tower_status *status) {
    return status->state == TOWER_SERVICE_ON_AIR && status->air_frames > 10;
}

static bool is_live(const struct tower_status *status) {
    return status->pump.origin == TOWER_ORIGIN_LIVE;
}

static bool is_in_grace_again(const struct tower_status *status) {
    return status->pump.origin == TOWER_ORIGIN_GRACE;
}

static void await(struct fixture *fixture, condition *is_met, struct tower_status *ret_status) {
    struct tower_clock *clock = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(clock) + PATIENCE_S * TOWER_NS_PER_S;
    do {
        assert_true(tower_clock_now_ns(clock) < limit_ns);
        (void)tower_clock_sleep_until(clock, tower_clock_now_ns(clock) + 1000000);
        tower_service_get_status(fixture->service, ret_status);
    } while (!is_met(ret_status));
}

/* A connection that has asked for the stream. */
static int listen_in(struct fixture *fixture) {
    static const char request[] = "GET /stream HTTP/1.1\r\nHost: test\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(tower_service_port(fixture->service)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    return fd;
}

/* Read to the end; the number of bytes behind the header. */
static size_t read_to_end(int fd) {
    static char bytes[1 << 20];
    size_t filled = 0;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, PATIENCE_S * 1000), 1);
        ssize_t n = recv(fd, bytes + filled, sizeof bytes - filled, 0);
        assert_true(n >= 0);
        if (n == 0)
            break;
        filled += (size_t)n;
        assert_true(filled < sizeof bytes);
    }
    char *body = memmem(bytes, filled, "\r\n\r\n", 4);
    assert_non_null(body);
    assert_memory_equal(bytes, "HTTP/1.1 200 ", 13);
    return filled - (size_t)(body + 4 - bytes);
}

static void test_on_air_without_a_producer_and_ends_in_order(void **state) {
    struct fixture *fixture = *state;
    struct tower_status status;
    start(fixture);
    await(fixture, is_on_air, &status);
    assert_int_equal(status.pump.frames_by_origin[TOWER_ORIGIN_LIVE], 0);
    assert_true(status.air_bytes == status.air_frames * 384);
    int fd = listen_in(fixture);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, MSG_PEEK), 1);
    assert_int_equal(tower_service_stop(fixture->service), 0);
    /* The last bytes went, and whole frames they were. */
    size_t bytes = read_to_end(fd);
    assert_true(bytes > 0);
    assert_int_equal(bytes % 384, 0);
    close(fd);
    tower_service_get_status(fixture->service, &status);
    assert_int_equal(status.state, TOWER_SERVICE_STOPPING);
    assert_int_equal(status.encoder.frames_in, status.pump.ticks_emitted);
    assert_int_equal(status.encoder.frames_out, status.encoder.frames_in);
}

static void test_producer_comes_and_goes(void **state) {
    struct fixture *fixture = *state;
    static int16_t samples[1152 * 2 * 20];
    struct tower_status status;
    struct tower_producer *producer = NULL;
    start(fixture);
    assert_int_equal(tower_producer_connect(fixture->config.socket_path, &producer), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152 * 20), 0);
    await(fixture, is_live, &status);
    tower_producer_close(producer, 0);
    await(fixture, is_in_grace_again, &status);
    assert_int_equal(status.pump.frames_by_origin[TOWER_ORIGIN_LIVE], 20);
    assert_int_equal(status.router.overflow_count, 0);
    assert_int_equal(status.producers.frames, 20);
    assert_int_equal(tower_service_stop(fixture->service), 0);
}

/* A title is there before its frame. */
static bool is_in_one_title(const struct tower_status *status) {
    return status->title.number >= 1 && status->air_frames > status->title.from_frame;
}

static bool has_second_title(const struct tower_status *status) {
    return status->title.number >= 2;
}

static bool has_third_title(const struct tower_status *status) {
    return status->title.number >= 3;
}

/* From the socket to the air: both encoders, and frames of both sizes. */
static void judge_titles(struct fixture *fixture, enum tower_encoder_kind kind,
                         uint32_t frame_samples) {
    static int16_t samples[1152 * 2 * 60];
    struct tower_status before, status;
    struct tower_producer *producer = NULL;
    fixture->config.encoder = kind;
    fixture->config.frame_samples = frame_samples;
    fixture->config.grace_ns = TOWER_NS_PER_S / 4;
    start(fixture);
    await(fixture, is_on_air, &before);
    assert_int_equal(before.title.number, 0);
    assert_int_equal(tower_producer_connect(fixture->config.socket_path, &producer), 0);
    assert_int_equal(tower_producer_set_title(producer, "the first"), 0);
    assert_int_equal(tower_producer_write(producer, samples, frame_samples * 48 + 7), 0);
    assert_int_equal(tower_producer_set_title(producer, "the second"), 0);
    assert_int_equal(tower_producer_write(producer, samples, frame_samples * 2), 0);
    await(fixture, is_in_one_title, &status);
    uint64_t from = status.title.from_frame;
    assert_string_equal(status.title.text, "the first");
    assert_int_equal(status.title.number, 1);
    assert_true(from > before.air_frames);
    tower_producer_close(producer, frame_samples);
    await(fixture, has_second_title, &status);
    assert_string_equal(status.title.text, "the second");
    /* 48 PCM frames later; in frames of 1024 that is not a whole number of MP3 frames. More where
     * the machine stood still and a hole was filled in between: into live audio, back, and out
     * again. */
    uint64_t later = status.title.from_frame - from;
    uint64_t expected = 48 * frame_samples / 1152;
    uint64_t most = frame_samples == 1152 ? expected : expected + 1;
    assert_in_range(later, expected, status.pump.seams > 2 ? UINT64_MAX : most);
    assert_int_equal(status.producers.titles, 2);
    /* Its producer is gone, and once the grace is over its title is too. */
    await(fixture, has_third_title, &status);
    assert_string_equal(status.title.text, "");
    assert_int_equal(tower_service_stop(fixture->service), 0);
}

static void test_titles_come_on_air_where_they_were_sent(void **state) {
    judge_titles(*state, TOWER_ENCODER_LAME, 1152);
}

static void test_titles_through_ffmpeg(void **state) {
    judge_titles(*state, TOWER_ENCODER_FFMPEG, 1152);
}

static void test_titles_in_frames_of_1024(void **state) {
    judge_titles(*state, TOWER_ENCODER_LAME, 1024);
}

static void test_what_cannot_be_had_is_said(void **state) {
    struct fixture *fixture = *state;
    struct tower_config config = fixture->config;
    struct tower_service *other = NULL;
    char error[512] = "";
    start(fixture);
    config.port = tower_service_port(fixture->service);
    (void)snprintf(config.socket_path, sizeof config.socket_path, "%s/other.sock", fixture->folder);
    assert_true(tower_service_new(&config, NULL, tower_clock_real(), &other, error, sizeof error) <
                0);
    assert_non_null(strstr(error, "port = "));
    assert_non_null(strstr(error, "--port"));
    config.port = 0;
    memcpy(config.socket_path, fixture->config.socket_path, sizeof config.socket_path);
    assert_true(tower_service_new(&config, NULL, tower_clock_real(), &other, error, sizeof error) <
                0);
    assert_non_null(strstr(error, "socket = "));
    assert_non_null(strstr(error, fixture->config.socket_path));
    assert_non_null(strstr(error, "--socket"));
    assert_null(other);
    assert_int_equal(tower_service_stop(fixture->service), 0);
}

static size_t count_fds(void) {
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void test_again_and_again_without_a_leak(void **state) {
    struct fixture *fixture = *state;
    struct tower_status status;
    size_t before = count_fds();
    for (int i = 0; i < 3; i++) {
        start(fixture);
        await(fixture, is_on_air, &status);
        assert_int_equal(tower_service_stop(fixture->service), 0);
        tower_service_free(fixture->service);
        fixture->service = NULL;
        assert_int_equal(count_fds(), before);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_on_air_without_a_producer_and_ends_in_order),
        TEST(test_producer_comes_and_goes),
        TEST(test_titles_come_on_air_where_they_were_sent),
        TEST(test_titles_through_ffmpeg),
        TEST(test_titles_in_frames_of_1024),
        TEST(test_what_cannot_be_had_is_said),
        TEST(test_again_and_again_without_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
