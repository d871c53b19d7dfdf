/* fanout_fixture.h - a station with one fan-out worker, and clients of it. */
#ifndef TOWER_TESTS_FANOUT_FIXTURE_H
#define TOWER_TESTS_FANOUT_FIXTURE_H

#include "tower/fanout.h"

#include "../contracts/descriptors.h"
#include "numbered_frames.h"

#define RING_BYTES (256 * 1024)
#define S_NS INT64_C(1000000000)

struct station {
    struct tower_clock *clock; /* virtual */
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_addresses *addresses; /* one listener each */
    struct tower_fanout *fanout;
    uint32_t n_frames;
    int n_descriptors; /* before it was made */
};

struct client {
    int fd;
    struct numbered_reader reader;
};

static inline struct station make_station(uint32_t max_listeners, uint32_t phase_groups) {
    struct station station = {.n_descriptors = count_descriptors()};
    assert_int_equal(tower_clock_virtual_new(S_NS, &station.clock), 0);
    assert_int_equal(tower_air_new(RING_BYTES, RING_BYTES / 400, &station.air), 0);
    assert_int_equal(tower_titles_new(&station.titles), 0);
    assert_int_equal(tower_addresses_new(100, 1, &station.addresses), 0);
    struct tower_fanout_config config = {
        .clock = station.clock,
        .air = station.air,
        .titles = station.titles,
        .addresses = station.addresses,
        .max_listeners = max_listeners,
        .client_timeout_ns = 10 * S_NS,
        .burst_frames = 20,
        .phase_groups = phase_groups,
    };
    assert_int_equal(tower_fanout_new(&config, &station.fanout), 0);
    return station;
}

/* Have another worker in the place of the station's, with what `config` says. Returns the one
 * before, to be freed at the end. */
static inline struct tower_fanout *start_instead(struct station *station,
                                                 struct tower_fanout_config config) {
    struct tower_fanout *before = station->fanout;
    config.air = station->air;
    config.client_timeout_ns = 10 * S_NS;
    config.phase_groups = 1;
    assert_int_equal(tower_fanout_new(&config, &station->fanout), 0);
    assert_int_equal(tower_fanout_start(station->fanout), 0);
    return before;
}

static inline struct station start_station(uint32_t max_listeners) {
    struct station station = make_station(max_listeners, 1);
    assert_int_equal(tower_fanout_start(station.fanout), 0);
    return station;
}

static inline void end_station(struct station *station) {
    tower_fanout_free(station->fanout);
    tower_addresses_free(station->addresses);
    tower_titles_free(station->titles);
    tower_air_free(station->air);
    tower_clock_free(station->clock);
    assert_int_equal(count_descriptors(), station->n_descriptors);
}

static inline uint32_t publish(struct station *station) {
    uint8_t frame[NUMBERED_BYTES_MAX];
    size_t bytes = numbered_fill(station->n_frames, frame);
    tower_titles_mark(station->titles, station->n_frames, tower_air_head(station->air));
    assert_int_equal(tower_air_publish(station->air, frame, bytes), 0);
    return station->n_frames++;
}

static inline struct tower_fanout_stats stats_of(const struct station *station) {
    struct tower_fanout_stats stats;
    tower_fanout_get_stats(station->fanout, &stats);
    return stats;
}

/* Hand the socket over as one that wants no titles and has no address. */
static inline int add(struct tower_fanout *fanout, int server, uint64_t cursor) {
    struct tower_fanout_listener listener = {
        .fd = server, .cursor = cursor, .address = TOWER_ADDRESS_NONE};
    return tower_fanout_add(fanout, &listener);
}

static inline struct client join_from(struct station *station, bool small, uint64_t cursor) {
    struct client client = {.fd = -1};
    int server = -1;
    assert_true(tcp_pair(small, &server, &client.fd));
    assert_int_equal(add(station->fanout, server, cursor), 0);
    return client;
}

static inline struct client join(struct station *station, bool small) {
    return join_from(station, small, tower_air_back(station->air, 20));
}

/* Publish until `bytes` are on air; `client` takes every frame before the next one comes, so that
 * the worker is known to have had its turn. */
static inline void publish_bytes(struct station *station, struct client *client, size_t bytes) {
    uint64_t end = tower_air_head(station->air) + bytes;
    while (tower_air_head(station->air) < end) {
        uint32_t number = publish(station);
        assert_true(receive_frame(client->fd, &client->reader, number));
    }
}

/* Every event up to now has been dealt with: whoever has frame n was served in a round that ended
 * before the one of frame n + 1. */
static inline void settle(struct station *station, struct client *client) {
    publish_bytes(station, client, 1);
    publish_bytes(station, client, 1);
}

#endif
