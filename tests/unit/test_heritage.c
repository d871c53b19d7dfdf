/* test_heritage.c - listeners taken over from the table of a process that has ended: who goes on
 * where, and what is left of those of whom nothing right is known. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/heritage.h"

#include "fanout_worker.h"
#include "wire_bytes.h"

#include "fanout_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>

/* A table as a process may have left it. */
static struct tower_listener_table make_table(uint32_t capacity) {
    struct tower_listener_table table;
    assert_int_equal(tower_listener_table_init(&table, capacity), 0);
    return table;
}

static uint32_t leave(struct tower_listener_table *table, int fd, uint64_t cursor) {
    uint32_t place = tower_listener_table_take(table);
    struct tower_listener *listener = &table->places[place];
    listener->fd = fd;
    listener->cursor = cursor;
    listener->connected_ns = 1;
    listener->address = 12345;
    tower_icy_init(&listener->icy);
    (void)tower_wire_bytes(fd, &listener->wire_bytes);
    tower_listener_table_settle(table, place);
    return place;
}

struct left_client {
    struct client client;
    int server;
    uint32_t place;
};

static struct left_client leave_client(struct tower_listener_table *table, uint64_t cursor) {
    struct left_client left = {.client = {.fd = -1}, .server = -1};
    assert_true(tcp_pair(false, &left.server, &left.client.fd));
    left.place = leave(table, left.server, cursor);
    return left;
}

static struct tower_listener_heritage *inherit(struct tower_listener_table *table) {
    struct tower_listener_heritage *heritage = NULL;
    assert_int_equal(tower_listener_heritage_new(&heritage), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, table->region.fd), 0);
    /* Of the process before only the descriptor is left. */
    table->region.fd = -1;
    tower_listener_table_done(table);
    return heritage;
}

static struct tower_adoption adopt(struct station *station, struct tower_listener_table *table) {
    struct tower_adoption adoption;
    struct tower_listener_heritage *heritage = inherit(table);
    tower_fanout_adopt(&station->fanout, 1, heritage, &adoption);
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
    return adoption;
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static void assert_adoption(struct tower_adoption adoption, uint32_t taken, uint32_t unsound,
                            uint32_t no_place, uint32_t moved) {
    assert_int_equal(adoption.taken, taken);
    assert_int_equal(adoption.unsound, unsound);
    assert_int_equal(adoption.no_place, no_place);
    assert_int_equal(adoption.moved, moved);
}

static void a_listener_goes_on_where_it_was(void **state) {
    (void)state;
    struct station station = make_station(10, 1);
    struct tower_listener_table table = make_table(10);
    uint64_t second = 0;
    for (int i = 0; i < 50; i++) {
        (void)publish(&station);
        if (i == 0)
            second = tower_air_head(station.air);
    }
    struct left_client first = leave_client(&table, 0), other = leave_client(&table, second);
    table.places[first.place].skips = 3;
    table.header->n_peak = 7;
    assert_adoption(adopt(&station, &table), 2, 0, 0, 0);
    struct tower_fanout_stats stats = stats_of(&station);
    assert_int_equal(stats.listeners, 2);
    assert_int_equal(stats.listeners_peak, 7);
    assert_int_equal(stats.accepted, 0);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    assert_true(receive_frame(first.client.fd, &first.client.reader, 49));
    assert_true(receive_frame(other.client.fd, &other.client.reader, 49));
    assert_int_equal(first.client.reader.first, 0);
    assert_int_equal(other.client.reader.first, 1);
    uint32_t number = publish(&station);
    assert_true(receive_frame(first.client.fd, &first.client.reader, number));
    close(first.client.fd);
    ASSERT_SOON(((void)publish(&station), stats_of(&station).listeners == 1));
    close(other.client.fd);
    end_station(&station);
}

static void until_it_is_committed_nothing_is_closed(void **state) {
    (void)state;
    struct station station = make_station(1, 1);
    struct tower_listener_table table = make_table(10);
    struct left_client stays = leave_client(&table, 0), goes = leave_client(&table, 0);
    struct left_client bad = leave_client(&table, 0);
    table.places[bad.place].moves = 200;
    int table_fd = table.region.fd;
    struct tower_adoption adoption;
    struct tower_listener_heritage *heritage = inherit(&table);
    tower_fanout_adopt(&station.fanout, 1, heritage, &adoption);
    assert_int_equal(adoption.taken, 1);
    assert_int_equal(adoption.unsound + adoption.no_place, 2);
    tower_listener_heritage_free(heritage);
    tower_fanout_free(station.fanout);
    station.fanout = NULL;
    assert_true(is_open(stays.server) && is_open(goes.server) && is_open(bad.server));

    /* So another process can do it once more. */
    const struct tower_fanout_config config = {
        .clock = station.clock, .air = station.air, .max_listeners = 1, .client_timeout_ns = S_NS};
    assert_int_equal(tower_fanout_new(&config, &station.fanout), 0);
    assert_int_equal(tower_listener_heritage_new(&heritage), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, table_fd), 0);
    tower_fanout_adopt(&station.fanout, 1, heritage, &adoption);
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
    assert_true(is_open(stays.server) && !is_open(goes.server) && !is_open(bad.server));
    assert_false(is_open(table_fd));
    close(stays.server);
    close(stays.client.fd);
    close(goes.client.fd);
    close(bad.client.fd);
    end_station(&station);
}

static void listeners_are_shared_out_evenly(void **state) {
    (void)state;
    struct station station = make_station(4, 1);
    const struct tower_fanout_config config = {
        .clock = station.clock, .air = station.air, .max_listeners = 4, .client_timeout_ns = S_NS};
    struct tower_fanout *fanouts[3] = {station.fanout};
    for (int i = 1; i < 3; i++)
        assert_int_equal(tower_fanout_new(&config, &fanouts[i]), 0);
    struct tower_listener_table one = make_table(20), other = make_table(3);
    struct left_client clients[14];
    for (int i = 0; i < 14; i++)
        clients[i] = leave_client(i < 12 ? &one : &other, 0);
    struct tower_adoption adoption;
    struct tower_listener_heritage *heritage = inherit(&one);
    assert_int_equal(tower_listener_heritage_add(heritage, other.region.fd), 0);
    other.region.fd = -1;
    tower_listener_table_done(&other);
    uint64_t at = 0;
    for (int i = 0; i < 14; i++)
        assert_int_equal(tower_listener_heritage_next(heritage, &at), clients[i].server);
    assert_int_equal(tower_listener_heritage_next(heritage, &at), -1);
    assert_int_equal(tower_listener_heritage_next(heritage, &at), -1);
    tower_fanout_adopt(fanouts, 3, heritage, &adoption);
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
    assert_adoption(adoption, 12, 0, 2, 0);
    for (int i = 0; i < 3; i++) {
        struct tower_fanout_stats stats;
        tower_fanout_get_stats(fanouts[i], &stats);
        assert_int_equal(stats.listeners, 4);
        assert_int_equal(tower_fanout_start(fanouts[i]), 0);
    }
    (void)publish(&station);
    for (int i = 0; i < 14; i++) {
        if (i < 12)
            assert_true(receive_frame(clients[i].client.fd, &clients[i].client.reader, 0));
        else
            assert_int_equal(receive(clients[i].client.fd, &clients[i], 1), 0);
        close(clients[i].client.fd);
    }
    for (int i = 1; i < 3; i++)
        tower_fanout_free(fanouts[i]);
    end_station(&station);
}

static void what_does_not_hold_costs_its_listener_alone(void **state) {
    (void)state;
    struct station station = make_station(20, 1);
    struct tower_listener_table table = make_table(20);
    struct left_client good[2], bad[6], claimed;
    int n_bad = 0;
    (void)publish(&station);
    good[0] = leave_client(&table, 0);
    for (int i = 0; i < 6; i++)
        bad[i] = leave_client(&table, 0);
    table.places[bad[n_bad++].place].wants_titles = 2;
    table.places[bad[n_bad++].place].moves = TOWER_FANOUT_SKIPS_MAX + 1;
    table.places[bad[n_bad++].place].icy.until_block = TOWER_ICY_METAINT + 1;
    table.places[bad[n_bad++].place].icy =
        (struct tower_icy){.block_bytes = TOWER_ICY_BLOCK_BYTES_MAX + 16, .block_sent = 1};
    table.places[bad[n_bad++].place].icy = (struct tower_icy){.block_bytes = 17, .block_sent = 17};
    table.places[bad[n_bad++].place].is_used = 3;
    claimed = leave_client(&table, 0);

    /* Descriptors that are no listener's: a file, one that waits for connections, none, a socket
     * that has a listener. */
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(listen(listening, 1), 0);
    (void)leave(&table, station.fanout->wake_fd, 0);
    (void)leave(&table, listening, 0);
    (void)leave(&table, 1000000000, 0);
    (void)leave(&table, 900, 0);
    (void)leave(&table, good[0].server, 0);
    /* One that had ended, and one that was not whole yet. */
    table.places[leave(&table, 4, 0)].fd = -1;
    uint32_t half = tower_listener_table_take(&table);
    table.places[half].fd = listening;
    good[1] = leave_client(&table, 0);
    table.places[good[1].place].icy.told = 77;
    table.places[good[1].place].connected_ns = INT64_MAX;

    struct tower_adoption adoption;
    struct tower_listener_heritage *heritage = inherit(&table);
    tower_listener_heritage_claim(heritage, claimed.server);
    tower_listener_heritage_claim(heritage, -1);
    tower_listener_heritage_claim(heritage, INT32_MAX);
    tower_fanout_adopt(&station.fanout, 1, heritage, &adoption);
    assert_adoption(adoption, 2, 12, 0, 0);
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
    for (int i = 0; i < 6; i++)
        assert_false(is_open(bad[i].server));
    assert_true(is_open(claimed.server) && is_open(listening));
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(receive_frame(good[i].client.fd, &good[i].client.reader, 0));
        assert_int_equal(good[i].client.reader.n_bytes, numbered_bytes(0));
        close(good[i].client.fd);
    }
    for (int i = 0; i < 6; i++)
        close(bad[i].client.fd);
    close(claimed.client.fd);
    close(claimed.server);
    close(listening);
    end_station(&station);
}

static void who_is_ahead_of_the_air_is_moved_to_its_end(void **state) {
    (void)state;
    struct station station = make_station(2, 1);
    struct tower_listener_table table = make_table(2);
    for (int i = 0; i < 50; i++)
        (void)publish(&station);
    struct left_client left = leave_client(&table, UINT64_MAX);
    struct left_client at_head = leave_client(&table, tower_air_head(station.air));
    assert_adoption(adopt(&station, &table), 2, 0, 0, 1);
    assert_int_equal(stats_of(&station).skips, 1);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    assert_true(receive_frame(left.client.fd, &left.client.reader, 49));
    assert_int_equal(left.client.reader.first, 30);
    uint32_t number = publish(&station);
    assert_true(receive_frame(at_head.client.fd, &at_head.client.reader, number));
    assert_int_equal(at_head.client.reader.first, number);
    close(left.client.fd);
    close(at_head.client.fd);
    end_station(&station);
}

/* Behind the ring, in the middle of a frame that has been written over. */
static void who_was_overrun_is_moved_when_it_is_served(void **state) {
    (void)state;
    struct station station = make_station(2, 1);
    struct tower_listener_table table = make_table(2);
    for (int i = 0; i < 1500; i++)
        (void)publish(&station);
    struct left_client left = leave_client(&table, 5);
    assert_adoption(adopt(&station, &table), 1, 0, 0, 0);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    assert_true(receive_frame(left.client.fd, &left.client.reader, 1499));
    assert_int_equal(left.client.reader.first, 1480);
    assert_int_equal(stats_of(&station).skips, 1);
    close(left.client.fd);
    end_station(&station);
}

/* ---- a send that was not noted ---- */

static void leave_undo(struct tower_listener_table *table, uint32_t place, uint64_t attempted) {
    const struct tower_listener *listener = &table->places[place];
    table->header->undo = (struct tower_listener_undo){
        .place = place,
        .generation = listener->generation,
        .cursor = listener->cursor,
        .wire_bytes = listener->wire_bytes,
        .attempted_bytes = attempted,
        .icy = listener->icy,
    };
}

/* The worker had sent so many bytes of the stream and not come to note it. */
static void send_unnoted(struct station *station, struct left_client *left, uint64_t cursor,
                         size_t bytes) {
    struct iovec pieces[2];
    int n = 0;
    assert_int_equal(tower_air_peek(station->air, cursor, bytes, pieces, &n), bytes);
    assert_int_equal(n, 1);
    assert_int_equal(send(left->server, pieces[0].iov_base, bytes, 0), bytes);
}

static void a_send_that_was_not_noted_is_not_done_twice(void **state) {
    (void)state;
    for (int is_torn = 0; is_torn < 2; is_torn++) {
        struct station station = make_station(2, 1);
        struct tower_listener_table table = make_table(2);
        for (int i = 0; i < 50; i++)
            (void)publish(&station);
        struct left_client left = leave_client(&table, 0);
        leave_undo(&table, left.place, 10000);
        send_unnoted(&station, &left, 0, 777);
        if (is_torn)
            table.places[left.place].cursor = 777;
        assert_adoption(adopt(&station, &table), 1, 0, 0, 0);
        assert_int_equal(tower_fanout_start(station.fanout), 0);
        assert_true(receive_frame(left.client.fd, &left.client.reader, 49));
        assert_int_equal(left.client.reader.n_bytes, tower_air_head(station.air));
        close(left.client.fd);
        end_station(&station);
    }
}

/* Its block was of a title that is forgotten by now: how long it was can only be read there. */
static void a_send_that_was_noted_is_not_done_again(void **state) {
    (void)state;
    enum { SENT_STREAM = TOWER_ICY_METAINT + 100, BLOCK = 33 };
    static const uint8_t block[BLOCK] = {(BLOCK - 1) / 16};
    struct station station = make_station(2, 1);
    struct tower_listener_table table = make_table(2);
    for (int i = 0; i < 50; i++)
        (void)publish(&station);
    struct left_client left = leave_client(&table, 0);
    struct tower_listener *listener = &table.places[left.place];
    listener->wants_titles = 1;
    leave_undo(&table, left.place, 20000);
    send_unnoted(&station, &left, 0, TOWER_ICY_METAINT);
    assert_int_equal(send(left.server, block, sizeof block, 0), sizeof block);
    send_unnoted(&station, &left, TOWER_ICY_METAINT, 100);
    listener->cursor = SENT_STREAM;
    listener->icy.until_block = TOWER_ICY_METAINT - 100;
    listener->wire_bytes += SENT_STREAM + BLOCK;
    assert_adoption(adopt(&station, &table), 1, 0, 0, 0);
    listener = tower_fanout_at(station.fanout, 0);
    assert_int_equal(listener->cursor, SENT_STREAM);
    assert_int_equal(listener->icy.until_block, TOWER_ICY_METAINT - 100);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    close(left.client.fd);
    end_station(&station);
}

static void a_record_of_another_listener_means_nothing(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct station station = make_station(2, 1);
        struct tower_listener_table table = make_table(2);
        (void)publish(&station);
        struct left_client left = leave_client(&table, 0);
        leave_undo(&table, left.place, 10000);
        table.header->undo.cursor = 300;
        if (kind == 0)
            table.header->undo.generation--;
        else
            table.header->undo.place = 5000;
        assert_adoption(adopt(&station, &table), 1, 0, 0, 0);
        assert_int_equal(tower_fanout_start(station.fanout), 0);
        assert_true(receive_frame(left.client.fd, &left.client.reader, 0));
        close(left.client.fd);
        end_station(&station);
    }
}

static void a_send_that_cannot_have_been_drops_its_listener(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct station station = make_station(2, 1);
        struct tower_listener_table table = make_table(2);
        (void)publish(&station);
        struct left_client left = leave_client(&table, 0);
        send_unnoted(&station, &left, 0, 100);
        leave_undo(&table, left.place, kind == 0 ? 99 : UINT64_MAX);
        if (kind == 2)
            table.header->undo.wire_bytes = 101;
        assert_adoption(adopt(&station, &table), 0, 1, 0, 0);
        assert_int_equal(stats_of(&station).listeners, 0);
        close(left.client.fd);
        end_station(&station);
    }
}

static void a_connection_without_accounting_stays_as_it_was_noted(void **state) {
    (void)state;
    struct station station = make_station(2, 1);
    struct tower_listener_table table = make_table(2);
    int ends[2];
    (void)publish(&station);
    uint64_t second = tower_air_head(station.air);
    (void)publish(&station);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    uint32_t place = leave(&table, ends[0], second);
    leave_undo(&table, place, 10000);
    table.header->undo.cursor = 0;
    assert_adoption(adopt(&station, &table), 1, 0, 0, 0);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    struct numbered_reader reader = {.has_begun = false};
    assert_true(receive_frame(ends[1], &reader, 1));
    assert_int_equal(reader.first, 1);
    close(ends[1]);
    end_station(&station);
}

/* ---- around it ---- */

static void listeners_are_counted_by_address_and_none_is_one_too_many(void **state) {
    (void)state;
    struct station station = make_station(3, 1);
    struct tower_listener_table table = make_table(3);
    struct left_client clients[3];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint32_t place;
    for (int i = 0; i < 3; i++)
        clients[i] = leave_client(&table, 0);
    /* The limit is one. */
    assert_adoption(adopt(&station, &table), 3, 0, 0, 0);
    assert_int_equal(tower_addresses_enter(station.addresses, (struct sockaddr *)&address, &place),
                     -EDQUOT);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    for (int i = 0; i < 3; i++)
        close(clients[i].client.fd);
    ASSERT_SOON(((void)publish(&station), stats_of(&station).listeners == 0));
    assert_int_equal(tower_addresses_enter(station.addresses, (struct sockaddr *)&address, &place),
                     0);
    tower_addresses_leave(station.addresses, place);
    end_station(&station);
}

static void what_is_no_table_is_left_to_the_caller(void **state) {
    (void)state;
    struct tower_listener_heritage *heritage = NULL;
    assert_int_equal(tower_listener_heritage_new(&heritage), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, -1), -EBADF);
    int short_fd = memfd_create("short", MFD_CLOEXEC);
    assert_int_equal(tower_listener_heritage_add(heritage, short_fd), -EINVAL);
    assert_int_equal(ftruncate(short_fd, 100), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, short_fd), -EINVAL);
    assert_int_equal(ftruncate(short_fd, 100000), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, short_fd), -EINVAL);
    assert_int_equal(close(short_fd), 0);
    for (int kind = 0; kind < 6; kind++) {
        struct tower_listener_table table = make_table(10);
        int fd = fcntl(table.region.fd, F_DUPFD_CLOEXEC, 0);
        if (kind == 0)
            table.header->magic++;
        else if (kind == 1)
            table.header->version++;
        else if (kind == 2)
            table.header->place_bytes++;
        else if (kind == 3)
            table.header->capacity = 100000;
        else if (kind == 4)
            table.header->capacity = UINT32_MAX;
        else
            table.header->n_touched = 11;
        assert_int_equal(tower_listener_heritage_add(heritage, fd), -EINVAL);
        assert_int_equal(close(fd), 0);
        tower_listener_table_done(&table);
    }
    uint64_t at = 0;
    assert_int_equal(tower_listener_heritage_next(heritage, &at), -1);
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
    tower_listener_heritage_free(NULL);
}

/* What the other side has not taken yet counts, and what it has too. */
static void the_kernel_tells_what_a_connection_has_taken(void **state) {
    (void)state;
    static uint8_t data[1 << 20];
    uint64_t counted = 7, sent = 0;
    int server = -1, client = -1;
    assert_true(tcp_pair(true, &server, &client));
    assert_int_equal(tower_wire_bytes(server, &counted), 0);
    assert_int_equal(counted, 0);
    for (int i = 0; i < 200; i++) {
        ssize_t n = send(server, data, 1 + (size_t)i * 13, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (uint64_t)n : 0;
        assert_int_equal(tower_wire_bytes(server, &counted), 0);
        assert_int_equal(counted, sent);
        if (i % 3 == 0)
            (void)recv(client, data, 3000, MSG_DONTWAIT);
    }
    assert_true(sent > 100000);
    assert_int_equal(tower_wire_bytes(client, &counted), 0);
    uint64_t before = counted;
    assert_int_equal(send(client, data, 1000, 0), 1000);
    assert_int_equal(tower_wire_bytes(client, &counted), 0);
    assert_int_equal(counted - before, 1000);
    close(server);
    close(client);
    counted = 7;
    assert_int_equal(tower_wire_bytes(server, &counted), -EOPNOTSUPP);
    assert_int_equal(counted, 7);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_goes_on_where_it_was),
        cmocka_unit_test(until_it_is_committed_nothing_is_closed),
        cmocka_unit_test(listeners_are_shared_out_evenly),
        cmocka_unit_test(what_does_not_hold_costs_its_listener_alone),
        cmocka_unit_test(who_is_ahead_of_the_air_is_moved_to_its_end),
        cmocka_unit_test(who_was_overrun_is_moved_when_it_is_served),
        cmocka_unit_test(a_send_that_was_not_noted_is_not_done_twice),
        cmocka_unit_test(a_send_that_was_noted_is_not_done_again),
        cmocka_unit_test(a_record_of_another_listener_means_nothing),
        cmocka_unit_test(a_send_that_cannot_have_been_drops_its_listener),
        cmocka_unit_test(a_connection_without_accounting_stays_as_it_was_noted),
        cmocka_unit_test(listeners_are_counted_by_address_and_none_is_one_too_many),
        cmocka_unit_test(what_is_no_table_is_left_to_the_caller),
        cmocka_unit_test(the_kernel_tells_what_a_connection_has_taken),
    };
    return cmocka_run_group_tests_name("heritage", tests, NULL, NULL);
}
