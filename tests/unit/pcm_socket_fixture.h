/* pcm_socket_fixture.h - a PCM socket on a virtual clock, its producers, and what it did. Behind
 * cmocka.h. */
#ifndef TOWER_TESTS_PCM_SOCKET_FIXTURE_H
#define TOWER_TESTS_PCM_SOCKET_FIXTURE_H

#include "tower/pcm_socket.h"
#include "tower/producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FRAME_BYTES 4608
#define FRAME_NS INT64_C(24000000)
#define PATIENCE_S 30

struct fixture {
    char folder[64];
    char path[96];
    struct tower_clock *clock; /* virtual */
    struct tower_router *router;
    struct tower_pcm_socket *socket;
    /* Set before make(): what comes in is judged, and dead air withheld. NULL: neither. */
    struct tower_input_monitor *monitor;
    /* Set before make(), to be told of titles; NULL: not told. */
    void (*on_title)(void *user, const char *text, size_t bytes, uint64_t pushed_count);
    /* Set before make(): as in the socket's configuration. */
    const char *priorities;
    int64_t settle_ns;
    int64_t fade_ns;
    int64_t idle_ns; /* for a socket that is made without make() */
};

static inline void make(struct fixture *fixture, size_t capacity_frames, uint32_t cushion_frames,
                        int64_t idle_ns) {
    struct tower_pcm_socket_config config = {
        .clock = fixture->clock,
        .path = fixture->path,
        .frame_samples = 1152,
        .cushion_frames = cushion_frames,
        .idle_ns = idle_ns,
        .priorities = fixture->priorities,
        .settle_ns = fixture->settle_ns,
        .fade_ns = fixture->fade_ns,
        .monitor = fixture->monitor,
        .withholds_dead_air = true,
        .on_title = fixture->on_title,
        .user = fixture,
    };
    assert_int_equal(
        tower_router_new(fixture->clock, capacity_frames, FRAME_BYTES, &fixture->router), 0);
    config.router = fixture->router;
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
}

static inline int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    *state = fixture;
    strcpy(fixture->folder, "/tmp/tower-test-XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    (void)snprintf(fixture->path, sizeof fixture->path, "%s/pcm.sock", fixture->folder);
    return tower_clock_virtual_new(0, &fixture->clock);
}

static inline int teardown(void **state) {
    struct fixture *fixture = *state;
    tower_pcm_socket_free(fixture->socket);
    tower_input_monitor_free(fixture->monitor);
    tower_router_free(fixture->router);
    tower_clock_free(fixture->clock);
    (void)unlink(fixture->path);
    (void)rmdir(fixture->folder);
    free(fixture);
    return 0;
}

static inline int connect_producer(const struct fixture *fixture) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", fixture->path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Frames of nothing but `number`. */
static inline void send_frames(int fd, unsigned char number, int frames) {
    unsigned char frame[FRAME_BYTES];
    memset(frame, number, sizeof frame);
    for (int i = 0; i < frames; i++)
        assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), FRAME_BYTES);
}

typedef bool condition(struct fixture *fixture, uint64_t wanted);

/* Wait, in real time, for what the ingest thread does. */
static inline void await(struct fixture *fixture, condition *is_met, uint64_t wanted) {
    struct tower_clock *real = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(real) + PATIENCE_S * TOWER_NS_PER_S;
    while (!is_met(fixture, wanted)) {
        assert_true(tower_clock_now_ns(real) < limit_ns);
        (void)tower_clock_sleep_until(real, tower_clock_now_ns(real) + 1000000);
    }
}

static inline bool has_frames(struct fixture *fixture, uint64_t wanted) {
    struct tower_router_stats stats;
    tower_router_get_stats(fixture->router, &stats);
    return stats.pushed_count >= wanted;
}

static inline bool has_read_bytes(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.bytes >= wanted;
}

static inline bool has_one_on_air(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.n_producers > 0 && stats.producers[0].is_on_air == (wanted != 0);
}

static inline bool has_producers(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.n_producers == wanted;
}

static inline bool has_partials(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.partial_frames == wanted;
}

static inline void pop_number(struct fixture *fixture, unsigned char expected,
                              unsigned expected_flags) {
    unsigned char frame[FRAME_BYTES];
    unsigned flags = 0;
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, &flags), 1);
    assert_int_equal(frame[0], expected);
    assert_int_equal(frame[FRAME_BYTES - 1], expected);
    assert_int_equal(flags, expected_flags);
}

#endif
