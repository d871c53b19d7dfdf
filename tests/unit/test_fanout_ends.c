/* test_fanout_ends.c - why a listener goes, and what is counted of those who are there. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fanout_fixture.h"

/* Frames of two seconds, of which the ring holds 16. */
#define BURST_FRAMES 84

/* A listener whose socket has `buffer_bytes` on our side, and a few KiB on its own. */
static struct client join_buffered(struct station *station, int buffer_bytes) {
    struct client client = {.fd = -1};
    int server = -1;
    assert_true(tcp_pair(true, &server, &client.fd));
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes),
                     0);
    assert_int_equal(add(station->fanout, server, tower_air_back(station->air, 20)), 0);
    return client;
}

/* Read what is there, at most `max_bytes`. Returns how much. */
static size_t read_up_to(int fd, size_t max_bytes) {
    static uint8_t data[65536];
    size_t sum = 0;
    while (sum < max_bytes) {
        size_t left = max_bytes - sum;
        ssize_t n = recv(fd, data, left < sizeof data ? left : sizeof data, MSG_DONTWAIT);
        if (n <= 0)
            break;
        sum += (size_t)n;
    }
    return sum;
}

static void who_only_falls_behind_is_dropped(void **state) {
    (void)state;
    /* The least there is; what a listener has where nothing else is set; and so much that after
     * each move the socket takes the burst and all that comes for a while. */
    static const int buffers[] = {4096, 65536, 131072};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        struct station station = make_station(1, 1);
        struct tower_fanout *unused =
            start_instead(&station, (struct tower_fanout_config){.clock = station.clock,
                                                                 .max_listeners = 2,
                                                                 .burst_frames = BURST_FRAMES});
        struct client good = join(&station, false);
        struct client slow = join_buffered(&station, buffers[i]);
        int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
        while (stats_of(&station).ended[TOWER_LISTENER_LAGGED] == 0) {
            size_t before = good.reader.n_bytes;
            publish_bytes(&station, &good, 1);
            /* What it does not get in time is no credit: it never reads faster than that. */
            (void)read_up_to(slow.fd, (good.reader.n_bytes - before) / 2);
            assert_true(real_now_ns() < give_up_ns);
        }
        assert_int_equal(stats_of(&station).skips, TOWER_FANOUT_SKIPS_MAX);
        ASSERT_SOON(stats_of(&station).listeners == 1);
        assert_int_equal(stats_of(&station).blocked, 0);
        publish_bytes(&station, &good, 5000);
        close(slow.fd);
        close(good.fd);
        tower_fanout_free(unused);
        end_station(&station);
    }
}

static void who_catches_up_is_kept(void **state) {
    (void)state;
    enum { STALLS = 3 * TOWER_FANOUT_SKIPS_MAX };
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct client moody = join_buffered(&station, 65536);
    for (int i = 0; i < STALLS; i++) {
        publish_bytes(&station, &good, RING_BYTES + RING_BYTES / 2);
        uint64_t skips = stats_of(&station).skips;
        /* Reads, until it has what there is; then as it comes, for a while. */
        while (stats_of(&station).skips == skips || stats_of(&station).blocked > 0) {
            (void)read_up_to(moody.fd, SIZE_MAX);
            publish_bytes(&station, &good, 1);
        }
        for (int k = 0; k < 100; k++) {
            publish_bytes(&station, &good, 1);
            (void)read_up_to(moody.fd, SIZE_MAX);
        }
    }
    assert_true(stats_of(&station).skips >= STALLS);
    assert_int_equal(stats_of(&station).listeners, 2);
    assert_int_equal(stats_of(&station).ended[TOWER_LISTENER_LAGGED], 0);
    close(moody.fd);
    close(good.fd);
    end_station(&station);
}

/* The place of address 127.0.0.`host`, of which there may be one listener; TOWER_ADDRESS_NONE if
 * there is. */
static uint32_t enter(struct station *station, uint32_t host) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK - 1 + host)}};
    uint32_t place = TOWER_ADDRESS_NONE;
    int error = tower_addresses_enter(station->addresses, (struct sockaddr *)&address, &place);
    assert_true(error == 0 || error == -EDQUOT);
    return place;
}

static void add_from(struct station *station, int server, uint32_t host) {
    struct tower_fanout_listener listener = {.fd = server, .address = enter(station, host)};
    listener.cursor = tower_air_back(station->air, 20);
    assert_int_not_equal(listener.address, TOWER_ADDRESS_NONE);
    assert_int_equal(enter(station, host), TOWER_ADDRESS_NONE);
    assert_int_equal(tower_fanout_add(station->fanout, &listener), 0);
}

static int join_from_host(struct station *station, bool small, uint32_t host) {
    int server = -1, client = -1;
    assert_true(tcp_pair(small, &server, &client));
    add_from(station, server, host);
    return client;
}

/* Whoever ended, the address is free again; each can be had once. */
static void assert_left(struct station *station, enum tower_listener_end why, uint32_t host) {
    ASSERT_SOON(stats_of(station).ended[why] == 1);
    uint32_t place = enter(station, host);
    assert_int_not_equal(place, TOWER_ADDRESS_NONE);
    assert_int_equal(enter(station, host), TOWER_ADDRESS_NONE);
    tower_addresses_leave(station->addresses, place);
}

static void an_address_is_left_whatever_ended_the_listener(void **state) {
    (void)state;
    enum { CLOSED = 1, FAILED, TIMEOUT, LAGGED, SHUTDOWN };
    struct station station = start_station(8);
    struct client good = join(&station, false);
    publish_bytes(&station, &good, 10000);

    int closed = join_from_host(&station, false, CLOSED);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(closed, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(closed);
    assert_left(&station, TOWER_LISTENER_CLOSED, CLOSED);

    /* A file is nothing that can be waited for. */
    FILE *file = tmpfile();
    assert_non_null(file);
    add_from(&station, dup(fileno(file)), FAILED);
    assert_left(&station, TOWER_LISTENER_FAILED, FAILED);
    assert_int_equal(fclose(file), 0);

    int stuck = join_from_host(&station, true, TIMEOUT);
    publish_bytes(&station, &good, RING_BYTES / 4);
    for (int i = 0; i < 10 && stats_of(&station).ended[TOWER_LISTENER_TIMEOUT] == 0; i++) {
        tower_clock_virtual_advance(station.clock, 11 * S_NS);
        settle(&station, &good);
    }
    assert_left(&station, TOWER_LISTENER_TIMEOUT, TIMEOUT);
    close(stuck);

    int slow = join_from_host(&station, true, LAGGED);
    while (stats_of(&station).ended[TOWER_LISTENER_LAGGED] == 0) {
        publish_bytes(&station, &good, 1);
        (void)read_up_to(slow, 100);
    }
    assert_left(&station, TOWER_LISTENER_LAGGED, LAGGED);
    close(slow);

    struct client last = {.fd = join_from_host(&station, false, SHUTDOWN)};
    settle(&station, &good);
    close(good.fd);
    while (stats_of(&station).listeners > 1) {
        uint32_t number = publish(&station);
        assert_true(receive_frame(last.fd, &last.reader, number));
    }
    assert_int_equal(tower_fanout_stop(station.fanout, 0), 0);
    assert_left(&station, TOWER_LISTENER_SHUTDOWN, SHUTDOWN);
    close(last.fd);
    end_station(&station);
}

static void who_was_not_taken_keeps_its_address(void **state) {
    (void)state;
    struct station station = start_station(1);
    struct client good = join(&station, false);
    int server = -1, client = -1;
    assert_true(tcp_pair(false, &server, &client));
    struct tower_fanout_listener listener = {.fd = server, .address = enter(&station, 1)};
    assert_int_equal(tower_fanout_add(station.fanout, &listener), -ENOSPC);
    assert_int_equal(enter(&station, 1), TOWER_ADDRESS_NONE);
    close(server);
    close(client);
    close(good.fd);
    end_station(&station);
}

static void those_whose_socket_is_full_are_counted(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct client stuck[2] = {join(&station, true), join(&station, true)};
    assert_int_equal(stats_of(&station).blocked, 0);
    publish_bytes(&station, &good, RING_BYTES / 4);
    ASSERT_SOON(stats_of(&station).blocked == 2);
    uint32_t last = station.n_frames - 1;
    assert_true(receive_frame(stuck[0].fd, &stuck[0].reader, last));
    ASSERT_SOON(stats_of(&station).blocked == 1);
    /* One that ends is blocked no more. */
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(stuck[1].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(stuck[1].fd);
    ASSERT_SOON(stats_of(&station).blocked == 0);
    assert_int_equal(stats_of(&station).with_titles, 0);
    close(stuck[0].fd);
    close(good.fd);
    end_station(&station);
}

static void every_send_is_timed(void **state) {
    (void)state;
    enum { READERS = 40, FRAMES = 200 };
    struct station station = make_station(1, 1);
    int64_t before_ns = real_now_ns();
    struct tower_fanout *unused =
        start_instead(&station, (struct tower_fanout_config){.clock = tower_clock_real(),
                                                             .max_listeners = READERS + 1});
    struct client clients[READERS];
    for (int i = 0; i < READERS; i++)
        clients[i] = join(&station, false);
    /* And one that is blocked now and then. */
    struct client slow = join(&station, true);
    for (int i = 0; i < FRAMES; i++) {
        uint32_t number = publish(&station);
        for (int k = 0; k < READERS; k++)
            assert_true(receive_frame(clients[k].fd, &clients[k].reader, number));
        if (i % 50 == 0)
            assert_true(receive_frame(slow.fd, &slow.reader, number));
    }
    assert_true(tower_fanout_stop(station.fanout, 0) >= 0);
    int64_t took_ns = real_now_ns() - before_ns;
    struct tower_fanout_stats stats = stats_of(&station);
    assert_int_equal(stats.send_time.scale, TOWER_HISTOGRAM_CALLS);
    assert_true(stats.sends >= READERS * FRAMES);
    assert_int_equal(stats.send_time.total, stats.sends);
    /* No moment is counted twice. */
    assert_true(stats.send_time.sum_ns > 0);
    assert_true(stats.send_time.sum_ns <= (uint64_t)took_ns);
    assert_true(stats.send_time.max_ns <= took_ns);
    for (int i = 0; i < READERS; i++)
        close(clients[i].fd);
    close(slow.fd);
    tower_fanout_free(unused);
    end_station(&station);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_only_falls_behind_is_dropped),
        cmocka_unit_test(who_catches_up_is_kept),
        cmocka_unit_test(an_address_is_left_whatever_ended_the_listener),
        cmocka_unit_test(who_was_not_taken_keeps_its_address),
        cmocka_unit_test(those_whose_socket_is_full_are_counted),
        cmocka_unit_test(every_send_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
