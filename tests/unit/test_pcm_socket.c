/* The PCM socket: who is on air, who waits, back-pressure, the cushion, the path. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "pcm_socket_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void test_socket_file_is_for_owner_and_group(void **state) {
    struct fixture *fixture = *state;
    struct stat status;
    mode_t mask = umask(0);
    make(fixture, 8, 0, 0);
    umask(mask);
    assert_int_equal(stat(fixture->path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 07777, 0660);
    tower_pcm_socket_free(fixture->socket);
    fixture->socket = NULL;
    assert_int_equal(access(fixture->path, F_OK), -1);
}

static void test_one_is_on_air_and_the_next_waits_unread(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    make(fixture, 50, 0, 0);
    int first = connect_producer(fixture);
    send_frames(first, 1, 2);
    await(fixture, has_frames, 2);
    int second = connect_producer(fixture);
    send_frames(second, 2, 3);
    await(fixture, has_producers, 2);
    send_frames(first, 1, 1);
    await(fixture, has_frames, 3);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_true(stats.producers[0].is_on_air);
    assert_false(stats.producers[1].is_on_air);
    assert_int_equal(stats.producers[1].bytes, 0);
    assert_int_equal(stats.producers[1].pid, getpid());
    close(first);
    await(fixture, has_frames, 6);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 1, 0);
    pop_number(fixture, 1, 0);
    pop_number(fixture, 2, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, 0);
    pop_number(fixture, 2, 0);
    close(second);
    await(fixture, has_producers, 0);
}

static void test_one_that_sent_all_and_left_while_waiting_is_played(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, 0);
    int first = connect_producer(fixture);
    send_frames(first, 1, 1);
    await(fixture, has_frames, 1);
    int second = connect_producer(fixture);
    send_frames(second, 2, 4);
    close(second);
    int third = connect_producer(fixture);
    close(third);
    /* The third had nothing to say and is gone; the second is waited for. */
    send_frames(first, 1, 1);
    await(fixture, has_frames, 2);
    await(fixture, has_producers, 2);
    close(first);
    await(fixture, has_frames, 6);
    await(fixture, has_producers, 0);
}

static void test_mute_connection_holds_nobody_up(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, 0);
    int mute = connect_producer(fixture);
    await(fixture, has_producers, 1);
    int other = connect_producer(fixture);
    send_frames(other, 2, 2);
    await(fixture, has_frames, 2);
    close(mute);
    close(other);
    await(fixture, has_producers, 0);
}

static void test_part_of_a_frame_at_the_end_is_dropped_and_counted(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 1, 1);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
    await(fixture, has_read_bytes, FRAME_BYTES + 1);
    close(fd);
    await(fixture, has_partials, 1);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.partial_bytes, 1);
    assert_int_equal(stats.frames, 1);
    /* The next programme begins with its own first byte. */
    fd = connect_producer(fixture);
    send_frames(fd, 3, 1);
    await(fixture, has_frames, 2);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 3, TOWER_FRAME_DISCONTINUITY);
    close(fd);
}

static void test_unpaced_writer_is_slowed_and_loses_nothing(void **state) {
    struct fixture *fixture = *state;
    struct tower_router_stats router;
    make(fixture, 4, 0, 0);
    int fd = connect_producer(fixture);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    unsigned char frame[FRAME_BYTES];
    size_t sent_bytes = 0, taken = 0;
    const size_t total_bytes = (size_t)200 * FRAME_BYTES;
    while (taken < 200) {
        while (sent_bytes < total_bytes) {
            memset(frame, (int)(sent_bytes / FRAME_BYTES), sizeof frame);
            size_t offset = sent_bytes % FRAME_BYTES;
            ssize_t n = send(fd, frame + offset, FRAME_BYTES - offset, MSG_NOSIGNAL);
            if (n < 0)
                break;
            sent_bytes += (size_t)n;
        }
        tower_router_get_stats(fixture->router, &router);
        assert_in_range(router.count, 0, 4);
        if (tower_router_pop_frame(fixture->router, 0, frame, NULL) == 1) {
            assert_int_equal(frame[0], taken % 256);
            assert_int_equal(frame[FRAME_BYTES - 1], taken % 256);
            taken++;
        }
        tower_clock_virtual_advance(fixture->clock, FRAME_NS);
        (void)poll(NULL, 0, 0);
    }
    tower_router_get_stats(fixture->router, &router);
    assert_int_equal(router.overflow_count, 0);
    close(fd);
}

static void test_cushion_holds_a_programme_for_its_time(void **state) {
    struct fixture *fixture = *state;
    unsigned char frame[FRAME_BYTES];
    make(fixture, 50, 3, 0);
    /* The reader has come and found nothing. */
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
    int fd = connect_producer(fixture);
    /* More at once than the cushion has: it is held as long all the same. */
    send_frames(fd, 1, 4);
    await(fixture, has_one_on_air, 1);
    tower_clock_virtual_advance(fixture->clock, 3 * FRAME_NS - 1);
    assert_false(has_read_bytes(fixture, 1));
    tower_clock_virtual_advance(fixture->clock, 1);
    await(fixture, has_frames, 4);
    /* While it does not run dry, nothing is held any more. */
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    for (int i = 0; i < 3; i++)
        pop_number(fixture, 1, 0);
    send_frames(fd, 2, 1);
    await(fixture, has_frames, 5);
    pop_number(fixture, 2, 0);
    /* It runs dry, and what it comes back with is held. */
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
    send_frames(fd, 3, 1);
    tower_clock_virtual_advance(fixture->clock, FRAME_NS);
    assert_false(has_frames(fixture, 6));
    while (!has_frames(fixture, 6)) {
        tower_clock_virtual_advance(fixture->clock, FRAME_NS);
        assert_true(tower_clock_now_ns(fixture->clock) < PATIENCE_S * 1000 * TOWER_NS_PER_S);
        (void)poll(NULL, 0, 1);
    }
    pop_number(fixture, 3, 0);
    close(fd);
}

/* What a microphone or `ffmpeg -re` does: pieces of 100 ms, twice a cushion, each up to 20 ms late.
 */
static void test_live_producer_with_jitter_never_runs_dry(void **state) {
    struct fixture *fixture = *state;
    const int64_t ms = 1000000, piece_ms = 100, cushion_ms = 48;
    static unsigned char piece[100 * 48 * 4];
    unsigned char frame[FRAME_BYTES];
    uint64_t sent_bytes = 0;
    int64_t next_piece_ms = 0;
    make(fixture, 50, 2, 0);
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
    int fd = connect_producer(fixture);
    srand(1);
    for (int64_t now_ms = 0; now_ms < 10000; now_ms++) {
        if (now_ms == next_piece_ms) {
            assert_int_equal(send(fd, piece, sizeof piece, MSG_NOSIGNAL), sizeof piece);
            sent_bytes += sizeof piece;
            next_piece_ms = (int64_t)(sent_bytes / sizeof piece) * piece_ms + rand() % 21;
            await(fixture, has_one_on_air, 1);
        }
        if (now_ms >= cushion_ms)
            await(fixture, has_read_bytes, sent_bytes);
        if (now_ms >= cushion_ms && now_ms % 24 == 0) {
            await(fixture, has_frames, sent_bytes / FRAME_BYTES);
            assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 1);
        }
        tower_clock_virtual_advance(fixture->clock, ms);
    }
    close(fd);
}

static void test_what_the_cushion_holds_is_played_when_the_producer_goes(void **state) {
    struct fixture *fixture = *state;
    unsigned char frame[FRAME_BYTES];
    make(fixture, 50, 4, 0);
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 1, 2);
    await(fixture, has_one_on_air, 1);
    assert_false(has_read_bytes(fixture, 1));
    /* At once: the clock stands still. */
    close(fd);
    await(fixture, has_frames, 2);
    await(fixture, has_producers, 0);
}

static void test_one_that_made_way_within_a_sample_comes_back_whole(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, TOWER_NS_PER_S);
    int first = connect_producer(fixture);
    send_frames(first, 1, 1);
    assert_int_equal(send(first, "x", 1, MSG_NOSIGNAL), 1);
    await(fixture, has_read_bytes, FRAME_BYTES + 1);
    int second = connect_producer(fixture);
    send_frames(second, 2, 1);
    await(fixture, has_producers, 2);
    tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S);
    await(fixture, has_frames, 2);
    close(second);
    await(fixture, has_producers, 1);
    assert_int_equal(send(first, "yyy", 3, MSG_NOSIGNAL), 3);
    send_frames(first, 3, 1);
    await(fixture, has_frames, 3);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 3, TOWER_FRAME_DISCONTINUITY);
    close(first);
}

static void test_idle_producer_makes_way_for_one_with_audio(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, TOWER_NS_PER_S);
    int first = connect_producer(fixture);
    send_frames(first, 1, 1);
    await(fixture, has_frames, 1);
    int second = connect_producer(fixture);
    send_frames(second, 2, 1);
    await(fixture, has_producers, 2);
    assert_false(has_frames(fixture, 2));
    tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S);
    await(fixture, has_frames, 2);
    /* The first is back when the second goes. */
    send_frames(first, 1, 2);
    close(second);
    await(fixture, has_frames, 4);
    close(first);
}

static void test_more_than_the_most_are_turned_away(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    int fds[TOWER_PRODUCERS_MAX + 1];
    char byte;
    make(fixture, 8, 0, 0);
    for (int i = 0; i <= TOWER_PRODUCERS_MAX; i++)
        fds[i] = connect_producer(fixture);
    struct pollfd poll_fd = {.fd = fds[TOWER_PRODUCERS_MAX], .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, PATIENCE_S * 1000), 1);
    assert_int_equal(recv(fds[TOWER_PRODUCERS_MAX], &byte, 1, 0), 0);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.accepted, TOWER_PRODUCERS_MAX);
    for (int i = 0; i <= TOWER_PRODUCERS_MAX; i++)
        close(fds[i]);
    await(fixture, has_producers, 0);
}

static void test_a_borrowed_socket_is_read_and_stays(void **state) {
    struct fixture *fixture = *state;
    uint8_t frame[FRAME_BYTES] = {1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", fixture->path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(tower_router_new(fixture->clock, 8, FRAME_BYTES, &fixture->router), 0);
    const struct tower_pcm_socket_config config = {
        .clock = fixture->clock,
        .listen_fd = &fd,
        .frame_samples = 1152,
        .router = fixture->router,
    };
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), -EINVAL);
    assert_int_equal(listen(fd, 4), 0);
    for (uint64_t round = 1; round <= 2; round++) {
        /* Who came before there was anybody to read waits in it. */
        int producer = connect_producer(fixture);
        assert_int_equal(send(producer, frame, sizeof frame, 0), FRAME_BYTES);
        assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
        assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
        await(fixture, has_frames, 1);
        tower_pcm_socket_free(fixture->socket);
        fixture->socket = NULL;
        close(producer);
        assert_int_equal(access(fixture->path, F_OK), 0);
    }
    assert_int_equal(close(fd), 0);
}

static void test_paths_that_will_not_do(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket *other = NULL;
    char path[256];
    make(fixture, 8, 0, 0);
    struct tower_pcm_socket_config config = {
        .clock = fixture->clock,
        .path = fixture->path,
        .frame_samples = 1152,
        .router = fixture->router,
    };
    assert_int_equal(tower_pcm_socket_new(&config, &other), -EADDRINUSE);
    assert_int_equal(access(fixture->path, F_OK), 0);
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    config.path = path;
    assert_int_equal(tower_pcm_socket_new(&config, &other), -ENAMETOOLONG);
    (void)snprintf(path, sizeof path, "%s/a/b/pcm.sock", fixture->folder);
    assert_int_equal(tower_pcm_socket_new(&config, &other), -ENOENT);
    (void)snprintf(path, sizeof path, "%s", fixture->folder);
    assert_int_equal(tower_pcm_socket_new(&config, &other), -ENOTSOCK);
    config.cushion_frames = 8;
    (void)snprintf(path, sizeof path, "%s/other.sock", fixture->folder);
    assert_int_equal(tower_pcm_socket_new(&config, &other), -EINVAL);
    assert_null(other);
}

static void test_stale_socket_is_replaced_and_folder_made(void **state) {
    struct fixture *fixture = *state;
    char folder[80];
    (void)snprintf(folder, sizeof folder, "%s/made", fixture->folder);
    (void)snprintf(fixture->path, sizeof fixture->path, "%s/made/pcm.sock", fixture->folder);
    make(fixture, 8, 0, 0);
    /* Die: the file stays, nobody listens. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", fixture->path);
    tower_pcm_socket_free(fixture->socket);
    tower_router_free(fixture->router);
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    close(dead);
    make(fixture, 8, 0, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 1, 1);
    await(fixture, has_frames, 1);
    close(fd);
    tower_pcm_socket_free(fixture->socket);
    fixture->socket = NULL;
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_socket_file_is_for_owner_and_group),
        TEST(test_one_is_on_air_and_the_next_waits_unread),
        TEST(test_one_that_sent_all_and_left_while_waiting_is_played),
        TEST(test_mute_connection_holds_nobody_up),
        TEST(test_part_of_a_frame_at_the_end_is_dropped_and_counted),
        TEST(test_unpaced_writer_is_slowed_and_loses_nothing),
        TEST(test_cushion_holds_a_programme_for_its_time),
        TEST(test_live_producer_with_jitter_never_runs_dry),
        TEST(test_one_that_made_way_within_a_sample_comes_back_whole),
        TEST(test_what_the_cushion_holds_is_played_when_the_producer_goes),
        TEST(test_idle_producer_makes_way_for_one_with_audio),
        TEST(test_more_than_the_most_are_turned_away),
        TEST(test_a_borrowed_socket_is_read_and_stays),
        TEST(test_paths_that_will_not_do),
        TEST(test_stale_socket_is_replaced_and_folder_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
