/* test_fanout.c - a fan-out worker: everybody gets every byte, and nobody waits for anybody. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cadence.h"

#include "fanout_fixture.h"

#include <sys/ioctl.h>

#include <pthread.h>

#define MANY 200
#define AT_ONCE 20

static void settings_out_of_range_are_refused(void **state) {
    (void)state;
    struct station station = make_station(1, 1);
    struct tower_fanout_config config = {.clock = station.clock,
                                         .air = station.air,
                                         .max_listeners = 1,
                                         .client_timeout_ns = 1,
                                         .phase_groups = 1};
    struct tower_fanout *fanout = NULL;
    struct tower_fanout_config bad = config;
    bad.max_listeners = 0;
    assert_int_equal(tower_fanout_new(&bad, &fanout), -EINVAL);
    bad.max_listeners = 1048577;
    assert_int_equal(tower_fanout_new(&bad, &fanout), -EINVAL);
    bad = config;
    bad.phase_groups = 256;
    assert_int_equal(tower_fanout_new(&bad, &fanout), -EINVAL);
    bad = config;
    bad.client_timeout_ns = 0;
    assert_int_equal(tower_fanout_new(&bad, &fanout), -EINVAL);
    assert_null(fanout);
    end_station(&station);
    tower_fanout_free(NULL);
}

static void a_listener_starts_with_the_burst_and_misses_nothing(void **state) {
    (void)state;
    struct station station = start_station(4);
    for (int i = 0; i < 100; i++)
        publish(&station);
    struct client client = join(&station, false);
    /* The burst comes without a further frame. */
    assert_true(receive_frame(client.fd, &client.reader, 99));
    assert_int_equal(client.reader.first, 80);
    publish_bytes(&station, &client, 3 * (size_t)RING_BYTES);
    ASSERT_SOON(stats_of(&station).sent_bytes == client.reader.n_bytes);
    assert_int_equal(stats_of(&station).skips, 0);
    assert_int_equal(stats_of(&station).listeners, 1);
    close(client.fd);
    end_station(&station);
}

/* The last frames of what came are whole and in order, from a boundary on. */
static bool ends_in_whole_frames(const uint8_t *data, size_t bytes, uint32_t last) {
    for (uint32_t first = last; first > last - 10; first--) {
        size_t length = 0;
        for (uint32_t number = first; number <= last; number++)
            length += numbered_bytes(number);
        if (length > bytes)
            return false;
        struct numbered_reader reader = {0};
        numbered_reader_take(&reader, data + bytes - length, length);
        if (reader.is_broken || !numbered_reader_has(&reader, last))
            return false;
    }
    return true;
}

static void who_reads_nothing_holds_nobody_and_is_moved_on(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct client stuck = join(&station, true);
    publish_bytes(&station, &good, 3 * (size_t)RING_BYTES);
    assert_int_equal(good.reader.first, 0);
    assert_int_equal(stats_of(&station).listeners, 2);
    /* Blocked, it costs no call at each frame; the kernel may find room for a little more, though.
     */
    struct tower_fanout_stats before = stats_of(&station);
    for (int i = 0; i < 100; i++)
        publish_bytes(&station, &good, 1);
    assert_in_range(stats_of(&station).sends - before.sends, 90, 150);

    /* It reads again: what was in the sockets, and then it is near the present. */
    uint32_t last = station.n_frames - 1;
    static uint8_t data[2 * RING_BYTES];
    size_t bytes = 0;
    while (bytes < 10000 || !ends_in_whole_frames(data, bytes, last)) {
        ssize_t n = receive(stuck.fd, data + bytes, sizeof data - bytes);
        assert_true(n > 0);
        bytes += (size_t)n;
    }
    uint64_t skips = stats_of(&station).skips;
    assert_true(skips > 0);
    assert_true(bytes < RING_BYTES);
    ASSERT_SOON(stats_of(&station).sent_bytes == good.reader.n_bytes + bytes);
    /* And from now on it has every frame like the others. */
    struct numbered_reader reader = {0};
    for (int i = 0; i < 100; i++) {
        uint32_t number = publish(&station);
        assert_true(receive_frame(stuck.fd, &reader, number));
        assert_true(receive_frame(good.fd, &good.reader, number));
    }
    assert_int_equal(reader.first, last + 1);
    assert_int_equal(stats_of(&station).skips, skips);
    close(good.fd);
    close(stuck.fd);
    end_station(&station);
}

/* `data` is whole frames in rising order, to its end. Returns how many are missing between them,
 * or -1. */
static int64_t missing_between_whole_frames(const uint8_t *data, size_t bytes) {
    uint32_t next = 0;
    int64_t n_missing = 0;
    for (size_t at = 0; at < bytes;) {
        const uint8_t *s = data + at;
        if (bytes - at < NUMBERED_HEAD_BYTES)
            return -1;
        uint32_t number =
            (uint32_t)s[4] | (uint32_t)s[5] << 8 | (uint32_t)s[6] << 16 | (uint32_t)s[7] << 24;
        size_t length = numbered_bytes(number);
        if (number < next || bytes - at < length)
            return -1;
        for (size_t i = 0; i < length; i++) {
            if (s[i] != numbered_byte(number, i))
                return -1;
        }
        n_missing += number - next;
        next = number + 1;
        at += length;
    }
    return n_missing;
}

static void who_is_moved_on_gets_whole_frames_only(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client good = join(&station, false);
    publish_bytes(&station, &good, RING_BYTES / 8);
    /* What it is sent at first is much more than its socket takes: it ends in a frame's middle. */
    struct client slow = join_from(&station, true, 0);
    settle(&station, &good);
    /* Overrun; but the end of that frame is still in the ring. */
    publish_bytes(&station, &good, RING_BYTES / 8 * 6);
    settle(&station, &good);
    uint32_t last = station.n_frames - 1;
    static uint8_t data[2 * RING_BYTES];
    size_t bytes = 0;
    while (bytes < 10000 || !ends_in_whole_frames(data, bytes, last)) {
        ssize_t n = receive(slow.fd, data + bytes, sizeof data - bytes);
        assert_true(n > 0);
        bytes += (size_t)n;
    }
    assert_int_equal(stats_of(&station).skips, 1);
    assert_true(missing_between_whole_frames(data, bytes) > 100);
    close(good.fd);
    close(slow.fd);
    end_station(&station);
}

static void what_did_not_fit_follows_without_another_frame(void **state) {
    (void)state;
    struct station station = start_station(1);
    for (int i = 0; i < 250; i++)
        publish(&station);
    struct client small = join_from(&station, true, 0);
    assert_true(receive_frame(small.fd, &small.reader, 249));
    assert_int_equal(small.reader.first, 0);
    assert_true(stats_of(&station).sends > 1);
    close(small.fd);
    end_station(&station);
}

static void who_makes_no_progress_is_dropped_in_time(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct client stuck = join(&station, true);
    /* However long the air was still: a client that had room is not late. */
    tower_clock_virtual_advance(station.clock, 60 * S_NS);
    publish_bytes(&station, &good, RING_BYTES / 2);
    settle(&station, &good);
    assert_int_equal(stats_of(&station).listeners, 2);
    tower_clock_virtual_advance(station.clock, 9 * S_NS);
    settle(&station, &good);
    assert_int_equal(stats_of(&station).listeners, 2);
    /* The kernel may have found room for a little more meanwhile, but not for ever. */
    for (int i = 0; i < 10 && stats_of(&station).listeners == 2; i++) {
        tower_clock_virtual_advance(station.clock, i == 0 ? 2 * S_NS : 11 * S_NS);
        settle(&station, &good);
    }
    assert_int_equal(stats_of(&station).listeners, 1);
    assert_int_equal(stats_of(&station).ended[TOWER_LISTENER_TIMEOUT], 1);
    publish_bytes(&station, &good, 5000);
    close(good.fd);
    close(stuck.fd);
    end_station(&station);
}

static void a_client_may_close_its_sending_side_and_send_rubbish(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client half = join(&station, false);
    struct client talker = join(&station, false);
    static uint8_t rubbish[65536];
    assert_int_equal(shutdown(half.fd, SHUT_WR), 0);
    for (int i = 0; i < 100; i++) {
        uint32_t number = publish(&station);
        (void)send(talker.fd, rubbish, sizeof rubbish, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(receive_frame(half.fd, &half.reader, number));
        assert_true(receive_frame(talker.fd, &talker.reader, number));
    }
    assert_int_equal(stats_of(&station).listeners, 2);
    close(half.fd);
    close(talker.fd);
    end_station(&station);
}

static void who_hangs_up_is_gone(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client stays = join(&station, false);
    struct client goes = join(&station, false);
    struct client resets = join(&station, false);
    publish_bytes(&station, &stays, 1000);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(resets.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(resets.fd);
    /* A reset is noticed without a frame; a plain close only by the answer to one. */
    ASSERT_SOON(stats_of(&station).listeners == 2);
    close(goes.fd);
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (stats_of(&station).listeners > 1 && real_now_ns() < give_up_ns)
        publish_bytes(&station, &stays, 1);
    assert_int_equal(stats_of(&station).listeners, 1);
    assert_int_equal(stats_of(&station).ended[TOWER_LISTENER_CLOSED], 2);
    assert_int_equal(stats_of(&station).ended[TOWER_LISTENER_FAILED], 0);
    assert_int_equal(stats_of(&station).listeners_peak, 3);
    close(stays.fd);
    end_station(&station);
}

static void places_are_bounded_and_come_back(void **state) {
    (void)state;
    struct station station = make_station(2, 1);
    int server = -1, client = -1;
    assert_true(tcp_pair(false, &server, &client));
    assert_int_equal(add(station.fanout, server, 0), -ESHUTDOWN);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    assert_int_equal(tower_fanout_start(station.fanout), -EALREADY);
    struct client first = join(&station, false);
    struct client second = join(&station, false);
    assert_int_equal(add(station.fanout, server, 0), -ENOSPC);
    assert_int_equal(stats_of(&station).refused, 1);
    assert_int_equal(stats_of(&station).capacity, 2);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(first.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    publish_bytes(&station, &second, 1);
    close(first.fd);
    ASSERT_SOON(stats_of(&station).listeners == 1);
    assert_int_equal(add(station.fanout, server, 0), 0);
    struct client third = {.fd = client};
    assert_true(receive_frame(third.fd, &third.reader, 0));
    assert_int_equal(tower_fanout_stop(station.fanout, 0), 0);
    server = dup(client);
    assert_int_equal(add(station.fanout, server, 0), -ESHUTDOWN);
    close(server);
    close(client);
    close(second.fd);
    end_station(&station);
}

struct late_reader {
    struct client client;
    int begins_after_ms;
    bool has_ended_in_order;
};

static void *read_to_the_end(void *arg) {
    struct late_reader *late = arg;
    uint8_t data[1000];
    ssize_t n;
    (void)poll(NULL, 0, late->begins_after_ms);
    while ((n = receive(late->client.fd, data, sizeof data)) > 0)
        numbered_reader_take(&late->client.reader, data, (size_t)n);
    late->has_ended_in_order = n == 0;
    close(late->client.fd);
    return NULL;
}

static void a_stop_lets_the_last_bytes_go(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client prompt = join(&station, false);
    /* Later than any client would be waited for that has had everything. */
    struct late_reader late = {.client = join(&station, true), .begins_after_ms = 300};
    publish_bytes(&station, &prompt, RING_BYTES / 2);
    uint32_t last = station.n_frames - 1;
    /* Bytes that nobody asked for, unread at the end, must not turn the close into a reset. */
    assert_int_equal(send(prompt.fd, "x", 1, MSG_NOSIGNAL), 1);
    pthread_t threads[2];
    struct late_reader at_end = {.client = prompt};
    assert_int_equal(pthread_create(&threads[0], NULL, read_to_the_end, &late), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, read_to_the_end, &at_end), 0);
    assert_int_equal(tower_fanout_stop(station.fanout, 20 * S_NS), 0);
    assert_int_equal(pthread_join(threads[0], NULL), 0);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    assert_true(late.has_ended_in_order);
    assert_false(late.client.reader.is_broken);
    assert_true(numbered_reader_has(&late.client.reader, last));
    assert_true(at_end.has_ended_in_order);
    assert_int_equal(stats_of(&station).listeners, 0);
    assert_int_equal(stats_of(&station).ended[TOWER_LISTENER_SHUTDOWN], 2);
    end_station(&station);
}

static void a_stop_is_bounded_and_says_who_was_cut_short(void **state) {
    (void)state;
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct client stuck = join(&station, true);
    publish_bytes(&station, &good, RING_BYTES / 2);
    int64_t before_ns = real_now_ns();
    assert_int_equal(tower_fanout_stop(station.fanout, S_NS / 20), 1);
    assert_true(real_now_ns() - before_ns < 20 * S_NS);
    assert_int_equal(tower_fanout_stop(station.fanout, S_NS), 0);
    /* Who had everything sees an end in order. */
    uint8_t data[64];
    assert_int_equal(receive(good.fd, data, sizeof data), 0);
    assert_int_equal(stats_of(&station).listeners, 0);
    close(good.fd);
    close(stuck.fd);
    end_station(&station);
}

static void many_come_and_go(void **state) {
    (void)state;
    struct station station = start_station(AT_ONCE + 40);
    struct client witness = join(&station, false);
    static struct client clients[MANY];
    for (int i = 0; i < MANY; i++) {
        clients[i] = join(&station, false);
        publish_bytes(&station, &witness, 400);
        uint32_t last = station.n_frames - 1;
        for (int k = i; k >= 0 && k > i - AT_ONCE; k--)
            assert_true(receive_frame(clients[k].fd, &clients[k].reader, last));
        if (i >= AT_ONCE - 1) {
            int k = i - (AT_ONCE - 1);
            assert_true(clients[k].reader.next - clients[k].reader.first >= AT_ONCE - 1);
            close(clients[k].fd);
        }
    }
    for (int k = MANY - (AT_ONCE - 1); k < MANY; k++)
        close(clients[k].fd);
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (stats_of(&station).listeners > 1 && real_now_ns() < give_up_ns)
        publish_bytes(&station, &witness, 1);
    struct tower_fanout_stats stats = stats_of(&station);
    assert_int_equal(stats.listeners, 1);
    assert_int_equal(stats.accepted, MANY + 1);
    assert_int_equal(stats.ended[TOWER_LISTENER_CLOSED], MANY);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.skips, 0);
    assert_int_equal(witness.reader.first, 0);
    close(witness.fd);
    end_station(&station);
}

static void phase_groups_share_the_frames_out(void **state) {
    (void)state;
    enum { GROUPS = 4, EACH = TOWER_FANOUT_RUN, ROUNDS = 25 };
    struct station station = make_station(GROUPS * EACH, GROUPS);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    struct client clients[GROUPS * EACH];
    publish(&station);
    for (int i = 0; i < GROUPS * EACH; i++) {
        clients[i] = join(&station, false);
        assert_true(receive_frame(clients[i].fd, &clients[i].reader, 0));
    }
    ASSERT_SOON(stats_of(&station).sends == GROUPS * EACH);
    struct tower_fanout_stats before = stats_of(&station);
    /* One frame at a time, so that none is sent together with the next. */
    for (uint64_t i = 1; i <= ROUNDS * GROUPS; i++) {
        publish(&station);
        ASSERT_SOON(stats_of(&station).sends - before.sends >= i * EACH);
        assert_true(stats_of(&station).sends - before.sends <= i * EACH);
    }
    /* Each has had its turn within the last GROUPS frames. */
    for (int i = 0; i < GROUPS * EACH; i++)
        assert_true(receive_frame(clients[i].fd, &clients[i].reader, station.n_frames - GROUPS));
    assert_true(stats_of(&station).sends - before.sends <= ROUNDS * GROUPS * EACH);
    assert_int_equal(tower_fanout_stop(station.fanout, 0), 0);
    for (int i = 0; i < GROUPS * EACH; i++) {
        assert_true(receive_frame(clients[i].fd, &clients[i].reader, station.n_frames - 1));
        close(clients[i].fd);
    }
    end_station(&station);
}

static void groups_follow_the_number_of_listeners(void **state) {
    (void)state;
    enum { CROWD = 500, REST = 100 };
    struct station station = make_station(CROWD, 0);
    static struct client clients[CROWD];
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    publish(&station);
    assert_int_equal(stats_of(&station).phase_groups, 1);
    for (int i = 0; i < CROWD; i++)
        clients[i] = join(&station, false);
    ASSERT_SOON(stats_of(&station).phase_groups == 3);
    /* Whoever was dealt into another group misses nothing. */
    for (int i = 0; i < 6; i++)
        publish(&station);
    for (int i = 0; i < CROWD; i++)
        assert_true(receive_frame(clients[i].fd, &clients[i].reader, station.n_frames - 3));
    for (int i = REST; i < CROWD; i++)
        close(clients[i].fd);
    /* Who has hung up is found out when something is sent to him. */
    for (int i = 0; i < 20; i++)
        publish(&station);
    ASSERT_SOON(stats_of(&station).listeners == REST);
    publish(&station);
    ASSERT_SOON(stats_of(&station).phase_groups == 1);
    publish(&station);
    for (int i = 0; i < REST; i++) {
        assert_true(receive_frame(clients[i].fd, &clients[i].reader, station.n_frames - 1));
        close(clients[i].fd);
    }
    end_station(&station);
}

/* How many have all that is on air waiting in their sockets. */
static uint32_t count_up_to_date(const struct station *station, const struct client *clients,
                                 const uint64_t *began, int n_clients) {
    uint64_t head = tower_air_head(station->air);
    uint32_t n = 0;
    for (int i = 0; i < n_clients; i++) {
        int had = 0;
        n += ioctl(clients[i].fd, FIONREAD, &had) == 0 && began[i] + (uint64_t)had == head;
    }
    return n;
}

/* The groups become more and more while a crowd comes in: those who were there before wait for no
 * more frames than there are groups. */
static void who_listens_does_not_wait_for_a_crowd_to_settle(void **state) {
    (void)state;
    enum { BATCHES = 17, BATCH = 60, FRAMES_MAX = 7 };
    struct station station = make_station(BATCHES * BATCH, 0);
    static struct client clients[BATCHES * BATCH];
    static uint64_t began[BATCHES * BATCH];               /* where each was let in */
    static uint64_t head_after[BATCHES * FRAMES_MAX + 2]; /* of each frame */
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    for (int batch = 0; batch < BATCHES; batch++) {
        int n_clients = (batch + 1) * BATCH;
        for (int i = batch * BATCH; i < n_clients; i++) {
            began[i] = tower_air_head(station.air);
            clients[i] = join_from(&station, false, began[i]);
        }
        /* Until all are taken up, the groups may yet become more. */
        ASSERT_SOON(stats_of(&station).phase_groups ==
                    tower_cadence_groups(stats_of(&station).listeners, 1));
        /* Not the same number each time: the groups become more in the midst of their turns. */
        for (int i = 0; i < FRAMES_MAX - batch % 3; i++) {
            head_after[station.n_frames] = tower_air_head(station.air);
            publish(&station);
            /* Frame for frame: who is served for several at once waits for less. */
            uint32_t groups = stats_of(&station).phase_groups + 1;
            uint32_t half_a_group = (uint32_t)n_clients / groups / 2;
            ASSERT_SOON(count_up_to_date(&station, clients, began, n_clients) > half_a_group);
            if (station.n_frames <= groups)
                continue;
            uint64_t owed = head_after[station.n_frames - groups];
            for (int k = 0; k < n_clients; k++) {
                int had = 0;
                ASSERT_SOON(ioctl(clients[k].fd, FIONREAD, &had) == 0 &&
                            began[k] + (uint64_t)had >= owed);
            }
        }
    }
    assert_int_equal(stats_of(&station).phase_groups, 5);
    for (int i = 0; i < BATCHES * BATCH; i++)
        close(clients[i].fd);
    end_station(&station);
}

static void cadence_is_as_quick_as_the_load_allows(void **state) {
    (void)state;
    assert_int_equal(tower_cadence_groups(0, 1), 1);
    assert_int_equal(tower_cadence_groups(240, 1), 1);
    assert_int_equal(tower_cadence_groups(241, 1), 2);
    assert_int_equal(tower_cadence_groups(1000000, 1), TOWER_CADENCE_GROUPS_MAX);
    /* Neither to nor fro while the number only wavers. */
    assert_int_equal(tower_cadence_groups(239, 2), 2);
    assert_int_equal(tower_cadence_groups(160, 2), 1);
    for (uint64_t n = 1; n < 10000; n += 7) {
        uint32_t groups = tower_cadence_groups(n, 1);
        assert_int_equal(tower_cadence_groups(n, groups), groups);
        assert_int_equal(tower_cadence_groups(n - n / 8, groups), groups);
        assert_in_range(tower_cadence_groups(0, groups), 1, 1);
    }
}

static void two_workers_share_an_air(void **state) {
    (void)state;
    struct station station = make_station(2, 1);
    struct tower_fanout_config config = {.clock = station.clock,
                                         .air = station.air,
                                         .max_listeners = 1,
                                         .client_timeout_ns = S_NS,
                                         .phase_groups = 1};
    struct tower_fanout *other = NULL;
    assert_int_equal(tower_fanout_new(&config, &other), 0);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    assert_int_equal(tower_fanout_start(other), 0);
    struct client one = join(&station, false);
    struct client two = {.fd = -1};
    int server = -1;
    assert_true(tcp_pair(false, &server, &two.fd));
    assert_int_equal(add(other, server, 0), 0);
    while (tower_air_head(station.air) < 2 * RING_BYTES) {
        uint32_t number = publish(&station);
        assert_true(receive_frame(one.fd, &one.reader, number));
        assert_true(receive_frame(two.fd, &two.reader, number));
    }
    close(one.fd);
    close(two.fd);
    tower_fanout_free(other);
    end_station(&station);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(a_listener_starts_with_the_burst_and_misses_nothing),
        cmocka_unit_test(who_reads_nothing_holds_nobody_and_is_moved_on),
        cmocka_unit_test(who_is_moved_on_gets_whole_frames_only),
        cmocka_unit_test(what_did_not_fit_follows_without_another_frame),
        cmocka_unit_test(who_makes_no_progress_is_dropped_in_time),
        cmocka_unit_test(a_client_may_close_its_sending_side_and_send_rubbish),
        cmocka_unit_test(who_hangs_up_is_gone),
        cmocka_unit_test(places_are_bounded_and_come_back),
        cmocka_unit_test(a_stop_lets_the_last_bytes_go),
        cmocka_unit_test(a_stop_is_bounded_and_says_who_was_cut_short),
        cmocka_unit_test(many_come_and_go),
        cmocka_unit_test(phase_groups_share_the_frames_out),
        cmocka_unit_test(groups_follow_the_number_of_listeners),
        cmocka_unit_test(who_listens_does_not_wait_for_a_crowd_to_settle),
        cmocka_unit_test(cadence_is_as_quick_as_the_load_allows),
        cmocka_unit_test(two_workers_share_an_air),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
