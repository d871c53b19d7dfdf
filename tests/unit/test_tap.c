/* test_tap.c - the programme as chunks: rate, time, sequence; and the taps as a whole. */
#include "tower/taps.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../contracts/descriptors.h"

#define FRAME TOWER_FRAME_SAMPLES
#define FRAME_NS INT64_C(24000000)
#define TONE_HZ 997.0
#define AMPLITUDE 16384.0
#define BYTES_MAX (4 * 1024 * 1024)

/* A tone, frame by frame, 1 s after the epoch and heard from MP3 frame 500.5 on. */
struct programme {
    uint64_t n_frames;
    int64_t late_ns; /* what the clock was set by */
    enum tower_origin origin;
};

static void fill(struct programme *programme, struct tower_tap_frame *frame, int16_t *pcm) {
    uint64_t begin = programme->n_frames * FRAME;
    for (uint64_t i = 0; i < FRAME; i++) {
        double phase = 2 * M_PI * TONE_HZ * (double)(begin + i) / TOWER_RATE_HZ;
        pcm[2 * i] = pcm[2 * i + 1] = (int16_t)lrint(AMPLITUDE * sin(phase));
    }
    *frame = (struct tower_tap_frame){
        .time_ns = TOWER_NS_PER_S + (int64_t)programme->n_frames * FRAME_NS + programme->late_ns,
        .position_samples = UINT64_C(500) * FRAME + FRAME / 2 + begin,
        .origin = (uint32_t)programme->origin,
    };
    programme->n_frames++;
}

struct sink {
    uint8_t *bytes;
    size_t n_bytes;
    unsigned n_refused; /* to come */
};

static bool put(void *user, const uint8_t *chunk, size_t bytes) {
    struct sink *sink = user;
    if (sink->n_refused > 0) {
        sink->n_refused--;
        return false;
    }
    assert_true(sink->n_bytes + bytes <= BYTES_MAX);
    memcpy(sink->bytes + sink->n_bytes, chunk, bytes);
    sink->n_bytes += bytes;
    return true;
}

static struct sink new_sink(void) {
    return (struct sink){.bytes = malloc(BYTES_MAX)};
}

static void take(struct tower_tap *tap, struct programme *programme, unsigned n_frames,
                 struct sink *sink) {
    struct tower_tap_frame frame;
    int16_t pcm[FRAME * 2];
    while (n_frames-- > 0) {
        fill(programme, &frame, pcm);
        assert_int_equal(tower_tap_take(tap, &frame, pcm, FRAME, put, sink), 0);
    }
}

static struct tower_tap_header header_at(const struct sink *sink, size_t i, size_t chunk_bytes) {
    struct tower_tap_header header;
    assert_true((i + 1) * chunk_bytes <= sink->n_bytes);
    assert_int_equal(tower_tap_header_read(sink->bytes + i * chunk_bytes, &header), 0);
    return header;
}

static void test_what_cannot_be_is_refused(void **state) {
    (void)state;
    static const struct tower_tap_format formats[] = {
        {.rate_hz = 7999, .channels = 1, .samples = 1600},
        {.rate_hz = 96001, .channels = 1, .samples = 1600},
        {.rate_hz = 16000, .channels = 0, .samples = 1600},
        {.rate_hz = 16000, .channels = 3, .samples = 1600},
        {.rate_hz = 16000, .channels = 1, .samples = 15},
        {.rate_hz = 16000, .channels = 1, .samples = 65537},
        {.rate_hz = 16000, .channels = 1, .samples = 1600, .has_timestamps = true, .is_wav = true},
    };
    struct tower_tap *tap = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        assert_int_equal(tower_tap_new(&formats[i], &tap), -EINVAL);
    assert_null(tap);
}

static void test_48_kHz_stereo_passes_bit_for_bit(void **state) {
    (void)state;
    const struct tower_tap_format format = {.rate_hz = 48000, .channels = 2, .samples = 4800};
    struct programme programme = {0}, again = {0};
    struct sink sink = new_sink();
    struct tower_tap *tap = NULL;
    assert_int_equal(tower_tap_new(&format, &tap), 0);
    take(tap, &programme, 100, &sink);
    assert_int_equal(sink.n_bytes, 24 * 4800 * 4);
    struct tower_tap_frame frame;
    int16_t pcm[FRAME * 2];
    for (size_t at = 0; at + sizeof pcm <= sink.n_bytes; at += sizeof pcm) {
        fill(&again, &frame, pcm);
        assert_memory_equal(sink.bytes + at, pcm, sizeof pcm);
    }
    tower_tap_free(tap);
    free(sink.bytes);
}

/* At any rate: the tone that went in, in its place in time, from the first sample to the last. */
static void test_the_tone_is_where_its_time_says(void **state) {
    (void)state;
    static const uint32_t rates_hz[] = {8000, 11025, 16000, 22050, 44100, 48000, 96000};
    for (size_t i = 0; i < sizeof rates_hz / sizeof *rates_hz; i++) {
        const struct tower_tap_format format = {.rate_hz = rates_hz[i],
                                                .channels = 1,
                                                .samples = rates_hz[i] / 10,
                                                .has_timestamps = true};
        size_t chunk_bytes = tower_tap_chunk_bytes(&format);
        struct programme programme = {0};
        struct sink sink = new_sink();
        struct tower_tap *tap = NULL;
        assert_int_equal(tower_tap_new(&format, &tap), 0);
        take(tap, &programme, 125, &sink); /* 3 s */
        size_t n_chunks = sink.n_bytes / chunk_bytes;
        assert_in_range(n_chunks, 28, 30);
        double worst = 0;
        for (size_t n = 0; n < n_chunks; n++) {
            struct tower_tap_header header = header_at(&sink, n, chunk_bytes);
            assert_int_equal(header.sequence, n);
            assert_int_equal(header.flags, n == 0 ? TOWER_TAP_JUMP : 0);
            assert_int_equal(header.samples, format.samples);
            assert_int_equal(header.bytes, format.samples * 2);
            int64_t begin_ns = tower_samples_to_ns((int64_t)(n * format.samples), rates_hz[i]);
            int64_t off_ns = header.time_ns - TOWER_NS_PER_S - begin_ns;
            assert_in_range(off_ns + 2, 0, 4);
            uint64_t at = (n * format.samples * UINT64_C(48000)) / rates_hz[i];
            assert_int_equal(header.air_frame, (500 * FRAME + FRAME / 2 + at) / FRAME);
            const uint8_t *bytes = sink.bytes + n * chunk_bytes + TOWER_TAP_HEADER_BYTES;
            for (uint32_t k = 0; k < format.samples; k++) {
                int16_t sample;
                memcpy(&sample, bytes + 2 * k, 2);
                double seconds =
                    (double)(header.time_ns - TOWER_NS_PER_S) / 1e9 + (double)k / rates_hz[i];
                /* Before the first sample there was silence, which rings. */
                if (seconds < 0.02)
                    continue;
                double off = fabs(sample - AMPLITUDE * sin(2 * M_PI * TONE_HZ * seconds));
                worst = off > worst ? off : worst;
            }
        }
        if (worst > 4)
            fail_msg("%u Hz: a sample is off by %.1f", rates_hz[i], worst);
        tower_tap_free(tap);
        free(sink.bytes);
    }
}

static void test_a_chunk_that_is_lost_is_told(void **state) {
    (void)state;
    const struct tower_tap_format format = {
        .rate_hz = 16000, .channels = 1, .samples = 384, .has_timestamps = true};
    size_t chunk_bytes = tower_tap_chunk_bytes(&format);
    struct programme programme = {0};
    struct sink sink = new_sink();
    struct tower_tap *tap = NULL;
    assert_int_equal(tower_tap_new(&format, &tap), 0);
    take(tap, &programme, 20, &sink);
    size_t n = sink.n_bytes / chunk_bytes;
    sink.n_refused = 3;
    take(tap, &programme, 20, &sink);
    struct tower_tap_header before = header_at(&sink, n - 1, chunk_bytes);
    struct tower_tap_header after = header_at(&sink, n, chunk_bytes);
    struct tower_tap_header next = header_at(&sink, n + 1, chunk_bytes);
    assert_int_equal(after.sequence, before.sequence + 4);
    assert_int_equal(after.time_ns, before.time_ns + 4 * FRAME_NS);
    assert_int_equal(after.flags, TOWER_TAP_JUMP);
    assert_int_equal(next.sequence, after.sequence + 1);
    assert_int_equal(next.flags, 0);
    assert_int_equal(tower_tap_lost(tap), 3);
    tower_tap_free(tap);
    free(sink.bytes);
}

/* The reader was late, and frames were written over. */
static void test_frames_that_went_by_are_told(void **state) {
    (void)state;
    const struct tower_tap_format format = {
        .rate_hz = 16000, .channels = 1, .samples = 1600, .has_timestamps = true};
    size_t chunk_bytes = tower_tap_chunk_bytes(&format);
    struct programme programme = {0};
    struct sink sink = new_sink();
    struct tower_tap *tap = NULL;
    assert_int_equal(tower_tap_new(&format, &tap), 0);
    take(tap, &programme, 50, &sink); /* 1.2 s */
    size_t n = sink.n_bytes / chunk_bytes;
    tower_tap_skip(tap, 50 * FRAME); /* up to 2.4 s */
    programme.n_frames += 50;
    take(tap, &programme, 50, &sink);
    struct tower_tap_header before = header_at(&sink, n - 1, chunk_bytes);
    struct tower_tap_header after = header_at(&sink, n, chunk_bytes);
    assert_int_equal(after.time_ns, TOWER_NS_PER_S + 100 * FRAME_NS);
    assert_int_equal(after.flags, TOWER_TAP_JUMP);
    /* Of what lies between the end of the last and the beginning of this one, as many as fit. */
    uint64_t gap_ns = (uint64_t)(after.time_ns - before.time_ns);
    assert_int_equal(after.sequence - before.sequence - 1, gap_ns / 100000000 - 1);
    assert_int_equal(tower_tap_lost(tap), after.sequence - before.sequence - 1);
    tower_tap_free(tap);
    free(sink.bytes);
}

/* Ticks were given up: the sound goes on, the time jumps. With four chunks a frame, so that some
 * come out with the frame behind theirs. */
static void test_a_clock_set_anew_is_told(void **state) {
    (void)state;
    const struct tower_tap_format format = {
        .rate_hz = 16000, .channels = 2, .samples = 96, .has_timestamps = true};
    size_t chunk_bytes = tower_tap_chunk_bytes(&format);
    struct programme programme = {.origin = TOWER_ORIGIN_LIVE};
    struct sink sink = new_sink();
    struct tower_tap *tap = NULL;
    assert_int_equal(tower_tap_new(&format, &tap), 0);
    take(tap, &programme, 20, &sink);
    programme.late_ns = 300000000;
    programme.origin = TOWER_ORIGIN_TONE;
    take(tap, &programme, 20, &sink);
    unsigned n_jumps = 0;
    for (size_t n = 0; n < sink.n_bytes / chunk_bytes; n++) {
        struct tower_tap_header header = header_at(&sink, n, chunk_bytes);
        int64_t late_ns = n < 80 ? 0 : 300000000;
        assert_int_equal(header.time_ns, TOWER_NS_PER_S + (int64_t)n * FRAME_NS / 4 + late_ns);
        assert_int_equal(header.origin, n < 80 ? TOWER_ORIGIN_LIVE : TOWER_ORIGIN_TONE);
        assert_int_equal(header.flags, n == 0 || n == 80 ? TOWER_TAP_JUMP : 0);
        assert_int_equal(header.sequence, n);
        n_jumps += header.flags;
    }
    assert_int_equal(n_jumps, 2);
    assert_int_equal(tower_tap_lost(tap), 0);
    tower_tap_free(tap);
    free(sink.bytes);
}

static void test_no_header_is_read_from_what_is_none(void **state) {
    (void)state;
    uint8_t bytes[TOWER_TAP_HEADER_BYTES] = "TPCM";
    struct tower_tap_header header = {.samples = 7};
    assert_int_equal(tower_tap_header_read(bytes, &header), -EINVAL);
    bytes[4] = TOWER_TAP_HEADER_BYTES;
    bytes[0] = 'X';
    assert_int_equal(tower_tap_header_read(bytes, &header), -EINVAL);
    assert_int_equal(header.samples, 7);
    bytes[0] = 'T';
    assert_int_equal(tower_tap_header_read(bytes, &header), 0);
}

/* ---- the taps ---- */

static struct tower_clock *virtual_clock;
static struct tower_taps *taps;
static int n_descriptors;

#define WALL_NS (INT64_C(1700000000) * TOWER_NS_PER_S)
static _Atomic int64_t wall_set_ns; /* by how much somebody has set the system's clock */

static int64_t wall_ns(void *user) {
    (void)user;
    return WALL_NS + wall_set_ns + tower_clock_now_ns(virtual_clock);
}

static int set_up(void **state) {
    (void)state;
    n_descriptors = count_descriptors();
    if (tower_clock_virtual_new(TOWER_NS_PER_S, &virtual_clock) < 0)
        return -1;
    const struct tower_taps_config config = {.clock = virtual_clock,
                                             .max_taps = 3,
                                             .frame_samples = FRAME,
                                             .client_timeout_ns = 2 * TOWER_NS_PER_S,
                                             .wall_ns = wall_ns};
    wall_set_ns = 0;
    if (tower_taps_new(&config, &taps) < 0)
        return -1;
    return tower_taps_start(taps);
}

static int tear_down(void **state) {
    (void)state;
    tower_taps_free(taps);
    tower_clock_free(virtual_clock);
    return count_descriptors() == n_descriptors ? 0 : -1;
}

static struct tower_taps_stats stats(void) {
    struct tower_taps_stats now;
    tower_taps_get_stats(taps, &now);
    return now;
}

static const struct tower_tap_format recogniser = {
    .rate_hz = 16000, .channels = 1, .samples = 384, .has_timestamps = true};

/* Returns the client's end. */
static int tap_with(const struct tower_tap_format *format) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    assert_int_equal(tower_taps_add(taps, ends[0], format), 0);
    return ends[1];
}

static void write_frames(struct programme *programme, unsigned n) {
    struct tower_tap_frame frame;
    int16_t pcm[FRAME * 2];
    while (n-- > 0) {
        fill(programme, &frame, pcm);
        tower_taps_write(taps, pcm, frame.time_ns, frame.position_samples, programme->origin);
        tower_clock_virtual_advance(virtual_clock, FRAME_NS);
    }
}

static bool read_all(int fd, void *bytes, size_t n) {
    uint8_t *to = bytes;
    while (n > 0) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 20000) != 1)
            return false;
        ssize_t got = recv(fd, to, n, 0);
        if (got <= 0)
            return false;
        to += got;
        n -= (size_t)got;
    }
    return true;
}

/* The next chunk, for which frames are written while it is not there: the resampler gives some now
 * and then, and a tap begins some time after it was added. */
static struct tower_tap_header next_chunk(int fd, struct programme *programme) {
    uint8_t bytes[TOWER_TAP_HEADER_BYTES + 384 * 2];
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    for (int i = 0; i < 2000 && poll(&poll_fd, 1, 10) == 0; i++)
        write_frames(programme, 1);
    struct tower_tap_header header;
    assert_true(read_all(fd, bytes, sizeof bytes));
    assert_int_equal(tower_tap_header_read(bytes, &header), 0);
    return header;
}

static void wait_for_taps(uint64_t n) {
    for (int i = 0; i < 20000 && stats().taps != n; i++)
        usleep(1000);
    assert_int_equal(stats().taps, n);
}

static void test_each_tap_has_its_own_chunks(void **state) {
    (void)state;
    static const struct tower_tap_format stereo = {
        .rate_hz = 48000, .channels = 2, .samples = 1152, .has_timestamps = true};
    struct programme programme = {0};
    int mono_fd = tap_with(&recogniser), stereo_fd = tap_with(&stereo);
    struct tower_tap_header mono = next_chunk(mono_fd, &programme);
    assert_int_equal(mono.sequence, 0);
    assert_int_equal(mono.flags, TOWER_TAP_JUMP);
    assert_int_equal(mono.bytes, 768);
    uint8_t bytes[TOWER_TAP_HEADER_BYTES + FRAME * 4];
    struct tower_tap_header header;
    struct tower_tap_frame frame;
    int16_t pcm[FRAME * 2];
    write_frames(&programme, 20);
    assert_true(read_all(stereo_fd, bytes, sizeof bytes));
    assert_int_equal(tower_tap_header_read(bytes, &header), 0);
    /* It is the frame that it says it is. */
    struct programme again = {.n_frames =
                                  (header.air_frame * FRAME - UINT64_C(500) * FRAME) / FRAME};
    fill(&again, &frame, pcm);
    assert_memory_equal(bytes + TOWER_TAP_HEADER_BYTES, pcm, sizeof pcm);
    for (uint64_t n = 1; n < 10; n++) {
        int64_t before_ns = header.time_ns;
        assert_true(read_all(stereo_fd, bytes, sizeof bytes));
        assert_int_equal(tower_tap_header_read(bytes, &header), 0);
        assert_int_equal(header.sequence, n);
        assert_int_equal(header.time_ns, before_ns + FRAME_NS);
        fill(&again, &frame, pcm);
        assert_memory_equal(bytes + TOWER_TAP_HEADER_BYTES, pcm, sizeof pcm);
    }
    close(mono_fd);
    close(stereo_fd);
    wait_for_taps(0);
    assert_int_equal(stats().accepted, 2);
    assert_int_equal(stats().timeouts, 0);
}

static void test_no_more_than_there_are_places_for(void **state) {
    (void)state;
    int fds[3], ends[2];
    for (int i = 0; i < 3; i++) {
        assert_true(tower_taps_has_place(taps));
        fds[i] = tap_with(&recogniser);
    }
    assert_false(tower_taps_has_place(taps));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(tower_taps_add(taps, ends[0], &recogniser), -ENOSPC);
    assert_int_equal(stats().refused, 1);
    close(fds[0]);
    wait_for_taps(2);
    assert_int_equal(tower_taps_add(taps, ends[0], &recogniser), 0);
    struct programme programme = {0};
    assert_int_equal(next_chunk(ends[1], &programme).sequence, 0);
    close(fds[1]);
    close(fds[2]);
    close(ends[1]);
}

/* The time on the wall is the tick's, whenever the thread came to it; and it jumps with the clock.
 */
static void test_the_time_is_that_on_the_wall(void **state) {
    (void)state;
    struct programme programme = {0};
    int fd = tap_with(&recogniser);
    struct tower_tap_header header = next_chunk(fd, &programme);
    /* Frame n was due 1 s + n frames after the epoch. */
    assert_int_equal((header.time_ns - WALL_NS - TOWER_NS_PER_S) % FRAME_NS, 0);
    int64_t expected_ns = header.time_ns;
    wall_set_ns = 3600 * TOWER_NS_PER_S;
    bool has_jumped = false;
    for (int i = 0; i < 2000 && !has_jumped; i++) {
        header = next_chunk(fd, &programme);
        expected_ns += FRAME_NS;
        has_jumped = header.flags == TOWER_TAP_JUMP;
        assert_int_equal(header.time_ns, expected_ns + (has_jumped ? wall_set_ns : 0));
    }
    assert_true(has_jumped);
    close(fd);
}

/* It loses chunks and then its place; another one beside it loses nothing. */
static void test_one_that_never_reads_is_dropped(void **state) {
    (void)state;
    struct programme programme = {0};
    int deaf_fd = tap_with(&recogniser), fd = tap_with(&recogniser);
    struct tower_tap_header header = next_chunk(fd, &programme);
    for (uint64_t n = 1; n < 2000 && stats().timeouts == 0; n++) {
        uint64_t before = header.sequence;
        header = next_chunk(fd, &programme);
        assert_int_equal(header.sequence, before + 1);
        assert_int_equal(header.flags, 0);
    }
    assert_int_equal(stats().timeouts, 1);
    wait_for_taps(1);
    assert_true(stats().chunks_lost > 0);
    close(deaf_fd);
    close(fd);
}

static void test_a_wav_file_begins_with_its_header(void **state) {
    (void)state;
    const struct tower_tap_format format = {
        .rate_hz = 22050, .channels = 2, .samples = 16, .is_wav = true};
    uint8_t bytes[TOWER_TAP_WAV_BYTES];
    int fd = tap_with(&format);
    assert_true(read_all(fd, bytes, sizeof bytes));
    assert_memory_equal(bytes,
                        "RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\2\0\x22\x56\0\0"
                        "\x88\x58\1\0\4\0\x10\0data\xff\xff\xff\xff",
                        TOWER_TAP_WAV_BYTES);
    close(fd);
}

static void test_stopped_it_closes_all(void **state) {
    (void)state;
    int fd = tap_with(&recogniser);
    tower_taps_stop(taps);
    char byte;
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 20000), 1);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    assert_int_equal(tower_taps_add(taps, fd, &recogniser), -ESHUTDOWN);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_cannot_be_is_refused),
        cmocka_unit_test(test_48_kHz_stereo_passes_bit_for_bit),
        cmocka_unit_test(test_the_tone_is_where_its_time_says),
        cmocka_unit_test(test_a_chunk_that_is_lost_is_told),
        cmocka_unit_test(test_frames_that_went_by_are_told),
        cmocka_unit_test(test_a_clock_set_anew_is_told),
        cmocka_unit_test(test_no_header_is_read_from_what_is_none),
        cmocka_unit_test_setup_teardown(test_each_tap_has_its_own_chunks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_more_than_there_are_places_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_time_is_that_on_the_wall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_never_reads_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_wav_file_begins_with_its_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_it_closes_all, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
