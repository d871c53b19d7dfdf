/* Raw PCM from a descriptor: whole chunks from any pieces, the tail, signals, what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "poker.h"
#include "tower/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60

static void make_pipe(int ends[2]) {
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static struct tower_source *open_raw(int fd, unsigned channels, size_t chunk_samples) {
    struct tower_source *source;
    const struct tower_raw_config config = {
        .fd = fd, .rate_hz = 44100, .channels = channels, .chunk_samples = chunk_samples};
    assert_int_equal(tower_source_open_raw(&config, &source), 0);
    return source;
}

static void test_says_what_it_is(void **state) {
    (void)state;
    int ends[2];
    make_pipe(ends);
    struct tower_source *source = open_raw(ends[0], 2, 0);
    assert_int_equal(source->info.rate_hz, 44100);
    assert_int_equal(source->info.channels, 2);
    assert_int_equal(source->info.chunk_samples, 1152);
    assert_int_equal(source->info.length_samples, -1);
    assert_false(source->info.is_live);
    assert_int_equal(tower_source_rewind(source), -ENOTSUP);
    tower_source_close(source);
    assert_true(fcntl(ends[0], F_GETFD) >= 0); /* it is the caller's */
    close(ends[0]);
    close(ends[1]);
}

struct dribble {
    int fd;
    const uint8_t *bytes;
    size_t n_bytes;
};

/* Write in pieces that fit neither a sample nor a chunk. */
static void *run_dribble(void *arg) {
    const struct dribble *dribble = arg;
    size_t piece = 1;
    for (size_t at = 0; at < dribble->n_bytes;) {
        size_t n = piece < dribble->n_bytes - at ? piece : dribble->n_bytes - at;
        ssize_t written = write(dribble->fd, dribble->bytes + at, n);
        if (written <= 0)
            break;
        at += (size_t)written;
        piece = piece % 61 + 1;
    }
    close(dribble->fd);
    return NULL;
}

/* However it arrives, it comes in whole chunks, every byte once and in order; at the end a short
 * chunk, without the part of a sample behind it. Blocking and non-blocking alike. */
static void test_pieces_become_whole_chunks_and_a_short_last_one(void **state) {
    (void)state;
    enum { CHUNK = 100, SAMPLES = 1234, TAIL = 3 };
    static uint8_t sent[SAMPLES * 4 + TAIL], got[sizeof sent + CHUNK * 4];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 31 + i / 256);
    for (int is_nonblocking = 0; is_nonblocking <= 1; is_nonblocking++) {
        int ends[2];
        make_pipe(ends);
        if (is_nonblocking)
            assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
        struct dribble dribble = {ends[1], sent, sizeof sent};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_dribble, &dribble), 0);
        struct tower_source *source = open_raw(ends[0], 2, CHUNK);
        size_t filled = 0, bytes = 0;
        int chunks = 0;
        while (tower_source_read(source, got + filled, &bytes) == 1) {
            chunks++;
            assert_int_equal(bytes, chunks <= SAMPLES / CHUNK ? CHUNK * 4 : SAMPLES % CHUNK * 4);
            filled += bytes;
        }
        assert_int_equal(chunks, SAMPLES / CHUNK + 1);
        assert_int_equal(filled, SAMPLES * 4);
        assert_memory_equal(got, sent, SAMPLES * 4);
        assert_int_equal(tower_source_read(source, got, &bytes), 0); /* and it stays at its end */
        tower_source_close(source);
        pthread_join(thread, NULL);
        close(ends[0]);
    }
}

static void test_nothing_but_part_of_a_sample_is_an_empty_stream(void **state) {
    (void)state;
    int ends[2];
    uint8_t chunk[4 * 16];
    size_t bytes = 77;
    make_pipe(ends);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    close(ends[1]);
    struct tower_source *source = open_raw(ends[0], 2, 16);
    assert_int_equal(tower_source_read(source, chunk, &bytes), 0);
    assert_int_equal(bytes, 77);
    tower_source_close(source);
    close(ends[0]);
}

/* A signal ends the wait with -EINTR, and what had come by then is not lost. */
static void test_signal_interrupts_and_loses_nothing(void **state) {
    (void)state;
    assert_int_equal(catch_pokes(), 0);
    static const int16_t sent[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int16_t got[8] = {0};
    size_t bytes = 0;
    int ends[2];
    make_pipe(ends);
    struct tower_source *source = open_raw(ends[0], 2, 4);
    assert_int_equal(write(ends[1], sent, 5), 5);
    struct poker poker = {.target = pthread_self()};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_poker, &poker), 0);
    assert_int_equal(tower_source_read(source, got, &bytes), -EINTR);
    poker.is_enough = true;
    pthread_join(thread, NULL);
    assert_int_equal(write(ends[1], (const uint8_t *)sent + 5, 11), 11);
    int result;
    do {
        result = tower_source_read(source, got, &bytes);
    } while (result == -EINTR);
    assert_int_equal(result, 1);
    assert_int_equal(bytes, 16);
    assert_memory_equal(got, sent, 16);
    tower_source_close(source);
    close(ends[0]);
    close(ends[1]);
}

static void test_descriptor_that_fails_is_an_error(void **state) {
    (void)state;
    uint8_t chunk[4 * 16];
    size_t bytes = 77;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct tower_source *source = open_raw(fd, 2, 16);
    assert_int_equal(tower_source_read(source, chunk, &bytes), -EIO);
    assert_true(*source->error != '\0');
    assert_int_equal(bytes, 77);
    tower_source_close(source);
    close(fd);
}

static void test_what_is_out_of_range_is_refused(void **state) {
    (void)state;
    static const struct tower_raw_config wrong[] = {
        {.fd = -1, .rate_hz = 48000, .channels = 2},
        {.fd = 0, .rate_hz = 999, .channels = 2},
        {.fd = 0, .rate_hz = 384001, .channels = 2},
        {.fd = 0, .rate_hz = 48000, .channels = 0},
        {.fd = 0, .rate_hz = 48000, .channels = 9},
        {.fd = 0, .rate_hz = 48000, .channels = 2, .chunk_samples = 1048577},
    };
    struct tower_source *untouched = (struct tower_source *)&untouched;
    struct tower_source *source = untouched;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(tower_source_open_raw(&wrong[i], &source), -EINVAL);
    assert_ptr_equal(source, untouched);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_it_is),
        cmocka_unit_test(test_pieces_become_whole_chunks_and_a_short_last_one),
        cmocka_unit_test(test_nothing_but_part_of_a_sample_is_an_empty_stream),
        cmocka_unit_test(test_signal_interrupts_and_loses_nothing),
        cmocka_unit_test(test_descriptor_that_fails_is_an_error),
        cmocka_unit_test(test_what_is_out_of_range_is_refused),
    };
    alarm(PATIENCE_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
