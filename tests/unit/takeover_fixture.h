/* takeover_fixture.h - producers that say who they are at a PCM socket, and what the pump gets of
 * them. Behind cmocka.h. */
#ifndef TOWER_TESTS_TAKEOVER_FIXTURE_H
#define TOWER_TESTS_TAKEOVER_FIXTURE_H

#include "pcm_socket_fixture.h"

#include <poll.h>

#define SAMPLES 1152
#define READ_AHEAD 12

static inline struct tower_producer *join(const struct fixture *fixture, const char *name,
                                          bool is_live, bool is_source) {
    struct tower_producer *producer;
    struct tower_producer_identity identity = {.is_live = is_live, .is_source = is_source};
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    (void)snprintf(identity.name, sizeof identity.name, "%s", name);
    if (*name != '\0')
        assert_int_equal(tower_producer_set_identity(producer, &identity), 0);
    return producer;
}

static inline void write_frame(struct tower_producer *producer, int16_t value) {
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
        frame[i] = value;
    assert_int_equal(tower_producer_write(producer, frame, SAMPLES), 0);
}

/* Frames of value, value + 1... */
static inline void write_frames(struct tower_producer *producer, int16_t value, int frames) {
    for (int i = 0; i < frames; i++)
        write_frame(producer, (int16_t)(value + i));
}

/* Is that one in the statistics? Then how it is. */
static inline bool find_shown(struct fixture *fixture, uint64_t id,
                              struct tower_producer_info *ret_info) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    for (size_t i = 0; i < stats.n_producers; i++) {
        if (stats.producers[i].id == id) {
            *ret_info = stats.producers[i];
            return true;
        }
    }
    return false;
}

static inline bool is_shown(struct fixture *fixture, uint64_t wanted) {
    struct tower_producer_info info;
    return find_shown(fixture, wanted, &info) && info.is_on_air;
}

static inline bool is_audible(struct fixture *fixture, uint64_t wanted) {
    struct tower_producer_info info;
    return find_shown(fixture, wanted, &info) && info.has_audio;
}

static inline bool is_gone(struct fixture *fixture, uint64_t wanted) {
    struct tower_producer_info info;
    return !find_shown(fixture, wanted, &info);
}

/* A playlist on air, of `frames` frames of `value`, `value` + 1..., as many read as are read ahead.
 */
static inline struct tower_producer *begin_playlist(struct fixture *fixture, int16_t value,
                                                    int frames) {
    fixture->priorities = "live playlist";
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, value, frames);
    await(fixture, has_frames, READ_AHEAD);
    return playlist;
}

static inline bool has_thrown(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    uint64_t bytes = 0;
    for (size_t i = 0; i < stats.n_producers; i++)
        bytes += stats.producers[i].thrown_bytes;
    return bytes >= wanted;
}

/* The next frame, as a pump takes it: whatever time that takes the ingest. */
static inline unsigned pop(struct fixture *fixture, int16_t frame[SAMPLES * TOWER_CHANNELS]) {
    unsigned flags = 0;
    struct tower_clock *real = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(real) + PATIENCE_S * TOWER_NS_PER_S;
    while (!has_frames(fixture, 1) ||
           tower_router_pop_frame(fixture->router, 0, frame, &flags) != 1) {
        assert_true(tower_clock_now_ns(real) < limit_ns);
        tower_clock_virtual_advance(fixture->clock, FRAME_NS / 4);
        (void)poll(NULL, 0, 1);
    }
    return flags;
}

static inline void pop_value(struct fixture *fixture, int16_t value, unsigned expected_flags) {
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    unsigned flags = pop(fixture, frame);
    assert_int_equal(frame[0], value);
    assert_int_equal(frame[SAMPLES * TOWER_CHANNELS - 1], value);
    assert_int_equal(flags, expected_flags);
}

static inline void pop_values(struct fixture *fixture, int16_t value, int frames) {
    for (int i = 0; i < frames; i++)
        pop_value(fixture, (int16_t)(value + i), i == 0 ? TOWER_FRAME_DISCONTINUITY : 0);
}

static inline struct tower_producer_info info_of(struct fixture *fixture, uint64_t id) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    for (size_t i = 0; i < stats.n_producers; i++) {
        if (stats.producers[i].id == id)
            return stats.producers[i];
    }
    fail();
    return stats.producers[0];
}

#endif
