/* FrameRingBuffer: bounded, whole frames, drop policies, flags at a gap, many threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/frame_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT 64

static void push_number(struct tower_frame_ring *ring, unsigned char number, int expected) {
    unsigned char frame[SLOT];
    memset(frame, number, sizeof frame);
    assert_int_equal(tower_frame_ring_push(ring, frame, sizeof frame, 0), expected);
}

static void pop_number(struct tower_frame_ring *ring, unsigned char expected, unsigned flags) {
    unsigned char frame[SLOT];
    unsigned got_flags = 99;
    size_t bytes = 0;
    assert_int_equal(tower_frame_ring_pop(ring, frame, &bytes, &got_flags), 1);
    assert_int_equal(bytes, SLOT);
    assert_int_equal(frame[0], expected);
    assert_int_equal(frame[SLOT - 1], expected);
    assert_int_equal(got_flags, flags);
}

static void test_first_in_first_out_over_many_turns(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    assert_int_equal(tower_frame_ring_new(3, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &ring), 0);
    for (unsigned i = 0; i < 100; i++) {
        push_number(ring, (unsigned char)(2 * i), 1);
        push_number(ring, (unsigned char)(2 * i + 1), 1);
        assert_int_equal(tower_frame_ring_count(ring), 2);
        pop_number(ring, (unsigned char)(2 * i), 0);
        pop_number(ring, (unsigned char)(2 * i + 1), 0);
    }
    unsigned char frame[SLOT];
    assert_int_equal(tower_frame_ring_pop(ring, frame, NULL, NULL), 0);
    tower_frame_ring_free(ring);
}

static void test_full_ring_drops_the_newest_and_marks_the_gap(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    assert_int_equal(tower_frame_ring_new(2, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &ring), 0);
    push_number(ring, 1, 1);
    push_number(ring, 2, 1);
    push_number(ring, 3, 0);
    push_number(ring, 4, 0);
    assert_int_equal(tower_frame_ring_dropped(ring), 2);
    assert_int_equal(tower_frame_ring_count(ring), 2);
    pop_number(ring, 1, 0);
    push_number(ring, 5, 1);
    pop_number(ring, 2, 0);
    pop_number(ring, 5, TOWER_FRAME_DISCONTINUITY);
    push_number(ring, 6, 1);
    pop_number(ring, 6, 0);
    tower_frame_ring_free(ring);
}

static void test_full_ring_drops_the_oldest_and_marks_the_gap(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    assert_int_equal(tower_frame_ring_new(2, SLOT, TOWER_FRAME_RING_DROP_OLDEST, &ring), 0);
    push_number(ring, 1, 1);
    push_number(ring, 2, 1);
    push_number(ring, 3, 1);
    assert_int_equal(tower_frame_ring_dropped(ring), 1);
    pop_number(ring, 2, TOWER_FRAME_DISCONTINUITY);
    pop_number(ring, 3, 0);
    tower_frame_ring_free(ring);
}

static void test_frames_keep_their_own_sizes_and_bad_ones_are_refused(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    unsigned char frame[SLOT + 1] = {7};
    unsigned char out[SLOT];
    size_t bytes = 0;
    assert_int_equal(tower_frame_ring_new(4, SLOT, TOWER_FRAME_RING_DROP_OLDEST, &ring), 0);
    assert_int_equal(tower_frame_ring_push(ring, frame, 0, 0), -EINVAL);
    assert_int_equal(tower_frame_ring_push(ring, NULL, 4, 0), -EINVAL);
    assert_int_equal(tower_frame_ring_push(ring, frame, SLOT + 1, 0), -EINVAL);
    assert_int_equal(tower_frame_ring_count(ring), 0);
    assert_int_equal(tower_frame_ring_dropped(ring), 0);
    assert_int_equal(tower_frame_ring_push(ring, frame, 1, 0), 1);
    assert_int_equal(tower_frame_ring_push(ring, frame, SLOT, 0), 1);
    assert_int_equal(tower_frame_ring_pop(ring, out, &bytes, NULL), 1);
    assert_int_equal(bytes, 1);
    assert_int_equal(tower_frame_ring_pop(ring, out, &bytes, NULL), 1);
    assert_int_equal(bytes, SLOT);
    tower_frame_ring_free(ring);
}

static void test_impossible_sizes_are_refused(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    assert_int_equal(tower_frame_ring_new(0, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &ring), -EINVAL);
    assert_int_equal(tower_frame_ring_new(4, 0, TOWER_FRAME_RING_DROP_NEWEST, &ring), -EINVAL);
    assert_int_equal(tower_frame_ring_new(SIZE_MAX, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &ring),
                     -EINVAL);
    assert_int_equal(tower_frame_ring_new(4, SIZE_MAX, TOWER_FRAME_RING_DROP_NEWEST, &ring),
                     -EINVAL);
    assert_null(ring);
    tower_frame_ring_free(NULL);
}

static void test_clear_leaves_nothing(void **state) {
    (void)state;
    struct tower_frame_ring *ring = NULL;
    unsigned char frame[SLOT];
    assert_int_equal(tower_frame_ring_new(2, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &ring), 0);
    push_number(ring, 1, 1);
    push_number(ring, 2, 1);
    tower_frame_ring_clear(ring);
    assert_int_equal(tower_frame_ring_count(ring), 0);
    assert_int_equal(tower_frame_ring_pop(ring, frame, NULL, NULL), 0);
    push_number(ring, 3, 1);
    pop_number(ring, 3, 0);
    tower_frame_ring_free(ring);
}

#define WRITERS 4
#define READERS 2
#define PER_WRITER 5000

static struct tower_frame_ring *shared;
static _Atomic uint64_t queued, taken, torn;
static _Atomic int writers_left;

static void *write_frames(void *arg) {
    unsigned char frame[SLOT];
    memset(frame, (int)(intptr_t)arg, sizeof frame);
    for (int i = 0; i < PER_WRITER; i++)
        queued += (uint64_t)(tower_frame_ring_push(shared, frame, sizeof frame, 0) == 1);
    writers_left--;
    return NULL;
}

static void *read_frames(void *arg) {
    (void)arg;
    unsigned char frame[SLOT];
    for (;;) {
        int is_last_look = writers_left == 0;
        if (tower_frame_ring_pop(shared, frame, NULL, NULL) == 1) {
            taken++;
            for (int i = 1; i < SLOT; i++)
                torn += frame[i] != frame[0];
        } else if (is_last_look) {
            return NULL;
        }
    }
}

static void test_many_writers_and_readers_lose_and_tear_nothing(void **state) {
    (void)state;
    pthread_t threads[WRITERS + READERS];
    assert_int_equal(tower_frame_ring_new(8, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &shared), 0);
    writers_left = WRITERS;
    for (int i = 0; i < WRITERS + READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < WRITERS ? write_frames : read_frames,
                                        (void *)(intptr_t)(i + 1)),
                         0);
    for (int i = 0; i < WRITERS + READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(torn, 0);
    assert_int_equal(taken, queued);
    assert_int_equal(queued + tower_frame_ring_dropped(shared), WRITERS * PER_WRITER);
    tower_frame_ring_free(shared);
}

static pthread_barrier_t gate;

static void *write_at_once(void *arg) {
    unsigned char frame[SLOT];
    memset(frame, (int)(intptr_t)arg, sizeof frame);
    (void)pthread_barrier_wait(&gate);
    for (int i = 0; i < PER_WRITER; i++)
        (void)tower_frame_ring_push(shared, frame, sizeof frame, 0);
    return NULL;
}

/* With room for everything, everything is there afterwards: as often and as whole as written. */
static void test_writers_at_once_overwrite_nothing(void **state) {
    (void)state;
    pthread_t threads[WRITERS];
    for (int round = 0; round < 10; round++) {
        assert_int_equal(tower_frame_ring_new((size_t)WRITERS * PER_WRITER, SLOT,
                                              TOWER_FRAME_RING_DROP_NEWEST, &shared),
                         0);
        assert_int_equal(pthread_barrier_init(&gate, NULL, WRITERS), 0);
        for (int i = 0; i < WRITERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, write_at_once, (void *)(intptr_t)i),
                             0);
        for (int i = 0; i < WRITERS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        unsigned char frame[SLOT];
        unsigned written[WRITERS] = {0};
        while (tower_frame_ring_pop(shared, frame, NULL, NULL) == 1) {
            assert_true(frame[0] < WRITERS);
            for (int i = 1; i < SLOT; i++)
                assert_int_equal(frame[i], frame[0]);
            written[frame[0]]++;
        }
        for (int i = 0; i < WRITERS; i++)
            assert_int_equal(written[i], PER_WRITER);
        assert_int_equal(pthread_barrier_destroy(&gate), 0);
        tower_frame_ring_free(shared);
    }
}

/* A frame that cannot be read until it is let: the push that copies it is under way as long. */
static unsigned char *withheld;
static size_t withheld_bytes;
static _Atomic int is_under_way, is_other_done;
static char other_state_path[64];

/* Is the other thread waiting for something? It makes no other call that waits than a push. */
static bool is_other_waiting(void) {
    char text[256];
    int fd = open(other_state_path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' && name_end[2] == 'S';
}

/* The push under way has come to the frame. Let the other one begin, and come as far as it can. */
static void let_be_read(int signal_number) {
    (void)signal_number;
    is_under_way = 1;
    while (!is_other_done && !is_other_waiting())
        (void)sched_yield();
    (void)mprotect(withheld, withheld_bytes, PROT_READ);
}

static void *push_two(void *arg) {
    _Atomic int *is_ready = arg;
    unsigned char frame[SLOT];
    memset(frame, 2, sizeof frame);
    (void)snprintf(other_state_path, sizeof other_state_path, "/proc/self/task/%d/stat",
                   (int)gettid());
    *is_ready = 1;
    while (!is_under_way)
        (void)sched_yield();
    (void)tower_frame_ring_push(shared, frame, sizeof frame, 0);
    is_other_done = 1;
    return NULL;
}

static void test_a_push_waits_for_one_that_is_under_way(void **state) {
    (void)state;
    struct sigaction before, action = {.sa_handler = let_be_read};
    _Atomic int is_ready = 0;
    pthread_t other;
    assert_int_equal(tower_frame_ring_new(4, SLOT, TOWER_FRAME_RING_DROP_NEWEST, &shared), 0);
    withheld_bytes = (size_t)sysconf(_SC_PAGESIZE);
    withheld =
        mmap(NULL, withheld_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(withheld, MAP_FAILED);
    memset(withheld, 1, SLOT);
    assert_int_equal(pthread_create(&other, NULL, push_two, &is_ready), 0);
    while (!is_ready)
        (void)sched_yield();
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    assert_int_equal(mprotect(withheld, withheld_bytes, PROT_NONE), 0);
    assert_int_equal(tower_frame_ring_push(shared, withheld, SLOT, 0), 1);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_int_equal(tower_frame_ring_count(shared), 2);
    pop_number(shared, 1, 0);
    pop_number(shared, 2, 0);
    assert_int_equal(munmap(withheld, withheld_bytes), 0);
    tower_frame_ring_free(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_first_out_over_many_turns),
        cmocka_unit_test(test_full_ring_drops_the_newest_and_marks_the_gap),
        cmocka_unit_test(test_full_ring_drops_the_oldest_and_marks_the_gap),
        cmocka_unit_test(test_frames_keep_their_own_sizes_and_bad_ones_are_refused),
        cmocka_unit_test(test_impossible_sizes_are_refused),
        cmocka_unit_test(test_clear_leaves_nothing),
        cmocka_unit_test(test_many_writers_and_readers_lose_and_tear_nothing),
        cmocka_unit_test(test_writers_at_once_overwrite_nothing),
        cmocka_unit_test(test_a_push_waits_for_one_that_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
