/* test_air.c - the air ring: what a cursor can count on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/air.h"
#include "tower/log.h"

#include "numbered_frames.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define RING_BYTES 65536
#define INDEX_FRAMES 1000
#define READERS 3
#define CONCURRENT_FRAMES 20000

static struct tower_air *make_air(size_t ring_bytes, size_t frames) {
    struct tower_air *air = NULL;
    assert_int_equal(tower_air_new(ring_bytes, frames, &air), 0);
    return air;
}

static void publish_numbered(struct tower_air *air, uint32_t number) {
    uint8_t frame[NUMBERED_BYTES_MAX];
    size_t bytes = numbered_fill(number, frame);
    assert_int_equal(tower_air_publish(air, frame, bytes), 0);
}

/* Where frame `number` begins, if all were published from 0 on. */
static uint64_t start_of(uint32_t number) {
    uint64_t start = 0;
    for (uint32_t i = 0; i < number; i++)
        start += numbered_bytes(i);
    return start;
}

static void sizes_out_of_range_are_refused(void **state) {
    (void)state;
    struct tower_air *air = NULL;
    uint8_t byte = 0;
    assert_int_equal(tower_air_new(0, 10, &air), -EINVAL);
    assert_int_equal(tower_air_new(((size_t)1 << 30) + 1, 10, &air), -EINVAL);
    assert_int_equal(tower_air_new(4096, SIZE_MAX, &air), -EINVAL);
    assert_null(air);
    air = make_air(4096, 0);
    uint8_t large[1025] = {0};
    assert_int_equal(tower_air_publish(air, &byte, 0), -EINVAL);
    assert_int_equal(tower_air_publish(air, NULL, 1), -EINVAL);
    assert_int_equal(tower_air_publish(air, large, 1025), -EINVAL);
    assert_int_equal(tower_air_head(air), 0);
    assert_int_equal(tower_air_publish(air, large, 1024), 0);
    assert_int_equal(tower_air_head(air), 1024);
    assert_int_equal(tower_air_frames(air), 1);
    tower_air_free(air);
    tower_air_free(NULL);
}

static void a_follower_gets_every_byte_across_the_wrap(void **state) {
    (void)state;
    struct tower_air *air = make_air(4096, 64);
    struct numbered_reader reader = {0};
    uint64_t cursor = 0;
    bool saw_two_pieces = false;
    for (uint32_t number = 0; number < 200; number++) {
        publish_numbered(air, number);
        if (number % 3)
            continue;
        struct iovec pieces[2];
        int n = 0;
        int64_t bytes = tower_air_peek(air, cursor, SIZE_MAX, pieces, &n);
        assert_int_equal(bytes, tower_air_head(air) - cursor);
        for (int i = 0; i < n; i++)
            numbered_reader_take(&reader, pieces[i].iov_base, pieces[i].iov_len);
        saw_two_pieces |= n == 2;
        cursor += (uint64_t)bytes;
    }
    assert_true(saw_two_pieces);
    assert_false(reader.is_broken);
    assert_int_equal(reader.first, 0);
    assert_true(numbered_reader_has(&reader, 198));
    tower_air_free(air);
}

static void a_peek_is_bounded_and_may_be_empty(void **state) {
    (void)state;
    struct tower_air *air = make_air(4096, 64);
    struct iovec pieces[2];
    int n = 7;
    assert_int_equal(tower_air_peek(air, 0, SIZE_MAX, pieces, &n), 0);
    assert_int_equal(n, 0);
    publish_numbered(air, 0);
    assert_int_equal(tower_air_peek(air, 3, 10, pieces, &n), 10);
    assert_int_equal(n, 1);
    assert_int_equal(pieces[0].iov_len, 10);
    assert_int_equal(((uint8_t *)pieces[0].iov_base)[0], numbered_byte(0, 3));
    assert_int_equal(tower_air_peek(air, tower_air_head(air), SIZE_MAX, pieces, &n), 0);
    tower_air_free(air);
}

static void who_is_overrun_or_ahead_is_told(void **state) {
    (void)state;
    struct tower_air *air = make_air(4096, 64);
    uint8_t frame[512] = {0};
    struct iovec pieces[2];
    int n = 0;
    for (int i = 0; i < 6; i++)
        assert_int_equal(tower_air_publish(air, frame, sizeof frame), 0);
    assert_int_equal(tower_air_peek(air, 0, SIZE_MAX, pieces, &n), 3072);
    assert_int_equal(tower_air_publish(air, frame, 1), 0);
    n = 7;
    assert_int_equal(tower_air_peek(air, 0, SIZE_MAX, pieces, &n), -ESTALE);
    assert_int_equal(n, 7);
    assert_int_equal(tower_air_peek(air, 1, SIZE_MAX, pieces, &n), 3072);
    assert_int_equal(tower_air_peek(air, 3074, SIZE_MAX, pieces, &n), -EINVAL);
    tower_air_free(air);
}

static void the_rest_of_a_frame_outlives_a_peek(void **state) {
    (void)state;
    struct tower_air *air = make_air(4096, 64);
    uint8_t frame[NUMBERED_BYTES_MAX], rest[NUMBERED_BYTES_MAX];
    struct iovec pieces[2];
    int n = 0;
    uint32_t number = 0;
    while (tower_air_head(air) < 3 * 4096)
        assert_int_equal(tower_air_publish(air, frame, numbered_fill(number++, frame)), 0);
    uint64_t head = tower_air_head(air);
    /* In every frame that is not written over, also the one across the end of the ring. */
    uint64_t start = head;
    for (uint32_t k = number; k-- > 0 && head - start <= 4096;) {
        uint64_t end = start;
        start -= numbered_bytes(k);
        uint64_t cursor = start + 100;
        if (head - cursor > 4096)
            break;
        assert_int_equal(tower_air_copy_rest(air, cursor, rest, sizeof rest), end - cursor);
        for (size_t i = 0; i < end - cursor; i++)
            assert_int_equal(rest[i], numbered_byte(k, 100 + i));
        assert_int_equal(tower_air_copy_rest(air, end, rest, 0), 0);
        assert_int_equal(tower_air_copy_rest(air, cursor, rest, (size_t)(end - cursor) - 1),
                         -ESTALE);
    }
    assert_true(head - start > 3500);
    assert_int_equal(tower_air_peek(air, head - 4096, SIZE_MAX, pieces, &n), -ESTALE);
    assert_true(tower_air_copy_rest(air, head - 4096, rest, sizeof rest) >= 0);
    assert_int_equal(tower_air_copy_rest(air, head - 4097, rest, sizeof rest), -ESTALE);
    assert_int_equal(tower_air_copy_rest(air, 0, rest, sizeof rest), -ESTALE);
    assert_int_equal(tower_air_copy_rest(air, head + 1, rest, sizeof rest), -ESTALE);
    tower_air_free(air);
}

static void looking_back_finds_frame_boundaries(void **state) {
    (void)state;
    struct tower_air *air = make_air(RING_BYTES, INDEX_FRAMES);
    assert_int_equal(tower_air_back(air, 0), 0);
    assert_int_equal(tower_air_back(air, 5), 0);
    for (uint32_t number = 0; number < 50; number++)
        publish_numbered(air, number);
    assert_int_equal(tower_air_back(air, 0), tower_air_head(air));
    assert_int_equal(tower_air_back(air, 1), start_of(49));
    assert_int_equal(tower_air_back(air, 20), start_of(30));
    assert_int_equal(tower_air_back(air, 50), 0);
    assert_int_equal(tower_air_back(air, UINT64_MAX), 0);
    for (uint32_t number = 50; number < 5000; number++)
        publish_numbered(air, number);
    assert_int_equal(tower_air_back(air, 20), start_of(4980));
    /* The first boundary within half the ring. */
    uint64_t oldest = tower_air_back(air, 4000);
    uint64_t limit = tower_air_head(air) - RING_BYTES / 2;
    uint32_t number = 4999;
    while (start_of(number - 1) >= limit)
        number--;
    assert_int_equal(oldest, start_of(number));
    tower_air_free(air);
}

static void looking_back_is_bounded_by_the_index_too(void **state) {
    (void)state;
    struct tower_air *air = make_air(1 << 20, 30);
    for (uint32_t number = 0; number < 500; number++)
        publish_numbered(air, number);
    assert_int_equal(tower_air_back(air, 30), start_of(470));
    uint64_t oldest = tower_air_back(air, 400);
    assert_true(oldest <= start_of(470));
    assert_int_equal(tower_air_align(air, oldest), oldest);
    tower_air_free(air);
}

static void aligning_finds_the_next_boundary(void **state) {
    (void)state;
    struct tower_air *air = make_air(RING_BYTES, INDEX_FRAMES);
    for (uint32_t number = 0; number < 400; number++)
        publish_numbered(air, number);
    uint64_t head = tower_air_head(air);
    for (uint32_t number = 350; number < 400; number++) {
        uint64_t start = start_of(number);
        assert_int_equal(tower_air_align(air, start), start);
        assert_int_equal(tower_air_align(air, start + 1), start + numbered_bytes(number));
        assert_int_equal(tower_air_align(air, start - 1), start);
    }
    assert_int_equal(tower_air_align(air, head), head);
    assert_int_equal(tower_air_align(air, head + 1000), head);
    tower_air_free(air);
}

static void each_frame_wakes_everybody_who_asked(void **state) {
    (void)state;
    struct tower_air *air = make_air(4096, 64);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_int_equal(tower_air_add_waker(air, fds[i]), 0);
    }
    for (uint32_t number = 0; number < 3; number++)
        publish_numbered(air, number);
    for (int i = 0; i < 2; i++) {
        uint64_t wakes = 0;
        assert_int_equal(read(fds[i], &wakes, sizeof wakes), sizeof wakes);
        assert_int_equal(wakes, 3);
    }
    for (int i = 2; i < 64; i++)
        assert_int_equal(tower_air_add_waker(air, fds[0]), 0);
    assert_int_equal(tower_air_add_waker(air, fds[0]), -ENOSPC);
    close(fds[0]);
    close(fds[1]);
    tower_air_free(air);
}

/* The writer never waits for a reader; a reader has the time it takes the writer to go a quarter of
 * the ring. On a machine that stops threads as it likes, the test keeps that promise by hand: each
 * reader says where the head was when it began to read, and the writer stays near it. */
struct concurrent {
    struct tower_air *air;
    _Atomic uint64_t reading_since[READERS]; /* UINT64_MAX: not reading */
    _Atomic bool is_over;
    _Atomic unsigned n_broken;
};

struct concurrent_reader {
    struct concurrent *shared;
    unsigned index;
    uint64_t n_stale;
    uint32_t last;
};

/* Relaxed, so that nothing here orders memory that the ring itself would leave unordered. */
static void set_since(struct concurrent *shared, unsigned reader, uint64_t head) {
    atomic_store_explicit(&shared->reading_since[reader], head, memory_order_relaxed);
}

static uint64_t get_since(const struct concurrent *shared, unsigned reader) {
    return atomic_load_explicit(&shared->reading_since[reader], memory_order_relaxed);
}

static void *read_concurrently(void *arg) {
    struct concurrent_reader *self = arg;
    struct concurrent *shared = self->shared;
    struct tower_air *air = shared->air;
    struct numbered_reader reader = {0};
    uint64_t cursor = 0;
    unsigned rounds = 0;
    bool was_over;
    do {
        was_over = atomic_load(&shared->is_over);
        set_since(shared, self->index, tower_air_head(air));
        struct iovec pieces[2];
        int n = 0;
        int64_t bytes = tower_air_peek(air, cursor, self->index ? SIZE_MAX : 300, pieces, &n);
        for (int i = 0; i < n; i++)
            numbered_reader_take(&reader, pieces[i].iov_base, pieces[i].iov_len);
        uint64_t head = tower_air_head(air);
        set_since(shared, self->index, UINT64_MAX);
        rounds++;
        if (bytes == -ESTALE || (self->index == 2 && rounds % 64 == 0)) {
            /* A new start, on a boundary; and now and then from where it is too late. */
            self->n_stale += bytes == -ESTALE;
            atomic_fetch_add(&shared->n_broken, reader.is_broken);
            memset(&reader, 0, sizeof reader);
            if (bytes == -ESTALE)
                cursor = tower_air_back(air, 20);
            else if (rounds % 256 == 0 && head > RING_BYTES)
                cursor = head - RING_BYTES;
            else
                cursor = tower_air_align(air, head > 9000 ? head - 9000 : 0);
        } else if (bytes >= 0) {
            cursor += (uint64_t)bytes;
            if (bytes == 0)
                sched_yield();
        } else {
            atomic_fetch_add(&shared->n_broken, 1);
        }
    } while (!was_over || tower_air_head(air) != cursor);
    self->last = reader.next;
    atomic_fetch_add(&shared->n_broken, reader.is_broken);
    return NULL;
}

static void readers_and_a_writer_do_not_disturb_each_other(void **state) {
    (void)state;
    struct concurrent shared = {.air = make_air(RING_BYTES, INDEX_FRAMES)};
    struct concurrent_reader readers[READERS];
    pthread_t threads[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        set_since(&shared, i, UINT64_MAX);
        readers[i] = (struct concurrent_reader){.shared = &shared, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_concurrently, &readers[i]), 0);
    }
    uint64_t head = 0;
    for (uint32_t number = 0; number < CONCURRENT_FRAMES; number++) {
        for (unsigned i = 0; i < READERS; i++) {
            uint64_t since;
            while ((since = get_since(&shared, i)) != UINT64_MAX && head > since &&
                   head - since > RING_BYTES / 8)
                sched_yield();
        }
        publish_numbered(shared.air, number);
        head += numbered_bytes(number);
        if (number % 16 == 0)
            sched_yield();
    }
    atomic_store(&shared.is_over, true);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].last, CONCURRENT_FRAMES - 1);
        assert_true(i != 2 || readers[i].n_stale > 0);
    }
    assert_int_equal(atomic_load(&shared.n_broken), 0);
    assert_int_equal(tower_air_head(shared.air), head);
    assert_int_equal(tower_air_frames(shared.air), CONCURRENT_FRAMES);
    tower_air_free(shared.air);
}

/* ---- opened by the next process ---- */

static int copy_of(const struct tower_air *air) {
    static uint8_t data[1 << 20];
    int fd = memfd_create("copy", MFD_CLOEXEC);
    ssize_t n = pread(tower_air_fd(air), data, sizeof data, 0);
    assert_true(fd >= 0 && n > 0);
    assert_int_equal(write(fd, data, (size_t)n), n);
    return fd;
}

/* All from `from` to the head can be read, and is what was published. */
static void assert_holds(const struct tower_air *air, uint64_t from, uint32_t first,
                         uint32_t frames) {
    uint64_t head = tower_air_head(air);
    struct numbered_reader reader = {.has_begun = false};
    while (from < head) {
        struct iovec pieces[2];
        int n = 0;
        int64_t bytes = tower_air_peek(air, from, SIZE_MAX, pieces, &n);
        assert_true(bytes > 0);
        for (int i = 0; i < n; i++)
            numbered_reader_take(&reader, pieces[i].iov_base, pieces[i].iov_len);
        from += (uint64_t)bytes;
    }
    assert_false(reader.is_broken);
    assert_int_equal(reader.first, first);
    assert_true(numbered_reader_has(&reader, frames - 1));
}

static void it_goes_on_with_any_sizes(void **state) {
    (void)state;
    const struct {
        size_t ring_bytes, frames;
        bool is_same;
        uint32_t first; /* frame that can be gone back to, of 300 */
    } sizes[] = {
        {65536, 1000, true, 224},      /* half of the ring */
        {65536, 2000, false, 224},     /* another index */
        {4 * 65536, 1000, false, 148}, /* all there was in the ring before */
        {16384, 1000, false, 281},     /* half of the ring */
        {4 * 65536, 10, false, 286},   /* all there are in the index: at least as many */
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tower_air *air = make_air(65536, 1000), *next = NULL;
        for (uint32_t number = 0; number < 300; number++)
            publish_numbered(air, number);
        int fd = copy_of(air);
        assert_int_equal(tower_air_open(fd, sizes[i].ring_bytes, sizes[i].frames, &next), 1);
        assert_int_equal(tower_air_fd(next) == fd, sizes[i].is_same);
        if (!sizes[i].is_same)
            assert_int_equal(close(fd), 0);
        assert_int_equal(tower_air_head(next), tower_air_head(air));
        assert_int_equal(tower_air_frames(next), 300);
        assert_int_equal(tower_air_back(next, 3), start_of(297));
        uint64_t oldest = tower_air_back(next, UINT64_MAX);
        assert_int_equal(oldest, start_of(sizes[i].first));
        assert_holds(next, oldest, sizes[i].first, 300);

        /* What was not there is not taken for there. */
        struct iovec pieces[2];
        uint8_t rest[NUMBERED_BYTES_MAX];
        int n;
        assert_int_equal(tower_air_peek(next, 0, 1, pieces, &n), -ESTALE);
        assert_int_equal(tower_air_copy_rest(next, start_of(140) + 1, rest, sizeof rest), -ESTALE);
        for (uint32_t number = 300; number < 1000; number++)
            publish_numbered(next, number);
        assert_holds(next, tower_air_back(next, 10), 990, 1000);
        tower_air_free(next);
        tower_air_free(air);
    }
}

static void a_new_one_can_be_opened_again(void **state) {
    (void)state;
    struct tower_air *air = make_air(RING_BYTES, INDEX_FRAMES), *next = NULL;
    assert_int_equal(tower_air_open(copy_of(air), RING_BYTES, INDEX_FRAMES, &next), 1);
    assert_int_equal(tower_air_head(next), 0);
    publish_numbered(next, 0);
    assert_holds(next, 0, 0, 1);
    tower_air_free(next);
    tower_air_free(air);
}

static void what_does_not_hold_is_begun_anew(void **state) {
    (void)state;
    const uint64_t values[] = {0, 1, 2, 3, UINT64_MAX, UINT64_C(1) << 40, INT64_MAX, 65535};
    struct tower_air *air = make_air(65536, 1000);
    unsigned n_anew = 0;
    for (uint32_t number = 0; number < 300; number++)
        publish_numbered(air, number);
    tower_log_set_level(TOWER_LOG_ERROR);
    for (off_t place = 0; place < 256; place += 8) {
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            struct tower_air *next = NULL;
            int fd = copy_of(air);
            assert_int_equal(pwrite(fd, &values[i], 8, place), 8);
            int result = tower_air_open(fd, 65536, 1000, &next);
            assert_in_range(result, 0, 1);
            if (result == 0) {
                n_anew++;
                assert_int_equal(close(fd), 0);
                assert_int_equal(tower_air_head(next), 0);
                publish_numbered(next, 0);
                assert_holds(next, 0, 0, 1);
            } else {
                assert_int_equal(tower_air_head(next), start_of(300));
                assert_holds(next, tower_air_back(next, 3), 297, 300);
            }
            tower_air_free(next);
        }
    }
    /* Nine numbers must be right; one of the values is right for the version. */
    assert_in_range(n_anew, 50, 80);
    struct tower_air *next = NULL;
    int fd = copy_of(air);
    assert_int_equal(ftruncate(fd, 5000), 0);
    assert_int_equal(tower_air_open(fd, 65536, 1000, &next), 0);
    tower_air_free(next);
    assert_int_equal(close(fd), 0);
    assert_int_equal(tower_air_open(1000000, 65536, 1000, &next), 0);
    tower_air_free(next);
    assert_int_equal(tower_air_open(0, 0, 1000, &next), -EINVAL);
    tower_log_set_level(TOWER_LOG_INFO);
    tower_air_free(air);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(a_follower_gets_every_byte_across_the_wrap),
        cmocka_unit_test(a_peek_is_bounded_and_may_be_empty),
        cmocka_unit_test(who_is_overrun_or_ahead_is_told),
        cmocka_unit_test(looking_back_finds_frame_boundaries),
        cmocka_unit_test(looking_back_is_bounded_by_the_index_too),
        cmocka_unit_test(aligning_finds_the_next_boundary),
        cmocka_unit_test(the_rest_of_a_frame_outlives_a_peek),
        cmocka_unit_test(each_frame_wakes_everybody_who_asked),
        cmocka_unit_test(it_goes_on_with_any_sizes),
        cmocka_unit_test(a_new_one_can_be_opened_again),
        cmocka_unit_test(what_does_not_hold_is_begun_anew),
        cmocka_unit_test(readers_and_a_writer_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
