/* clock.c - the one clock: CLOCK_MONOTONIC, or a virtual one moved by hand. */
#include "tower/clock.h"

#include "tower/format.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define SETTLE_LIMIT_S 30
#define POLL_LIMIT_MS 60000
#define NS_PER_MS INT64_C(1000000)

/* A thread that waits on a virtual clock; lies on that thread's stack. */
struct waiter {
    struct waiter *next;
    int64_t deadline_ns;
    pthread_cond_t *cond; /* NULL: it sleeps on the clock itself */
    pthread_mutex_t *mutex;
    bool is_signalled; /* its deadline has come and `cond` has been signalled */
};

struct tower_clock {
    bool is_virtual; /* constant */

    pthread_mutex_t lock;
    pthread_cond_t moved;   /* time moved, or everybody is to wake */
    pthread_cond_t settled; /* somebody went to sleep */

    /* Guarded by lock. */
    int64_t now_ns;
    bool is_auto;
    int64_t oversleep_ns; /* in automatic mode: how late the next sleep ends */
    uint64_t wakes;       /* times tower_clock_wake() was called */
    struct waiter *waiters;
};

static struct tower_clock real_clock = {.is_virtual = false};

static struct timespec to_timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / TOWER_NS_PER_S, .tv_nsec = ns % TOWER_NS_PER_S};
}

struct tower_clock *tower_clock_real(void) {
    return &real_clock;
}

int tower_clock_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error)
        return -error;
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!error)
        error = pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return -error;
}

int tower_clock_virtual_new(int64_t start_ns, struct tower_clock **ret_clock) {
    struct tower_clock *clock = calloc(1, sizeof *clock);
    if (!clock)
        return -ENOMEM;
    clock->is_virtual = true;
    clock->now_ns = start_ns;
    int error = -pthread_mutex_init(&clock->lock, NULL);
    if (error < 0)
        goto fail_lock;
    error = tower_clock_cond_init(&clock->moved);
    if (error < 0)
        goto fail_moved;
    error = tower_clock_cond_init(&clock->settled);
    if (error < 0)
        goto fail_settled;
    *ret_clock = clock;
    return 0;

fail_settled:
    (void)pthread_cond_destroy(&clock->moved);
fail_moved:
    (void)pthread_mutex_destroy(&clock->lock);
fail_lock:
    free(clock);
    return error;
}

void tower_clock_free(struct tower_clock *clock) {
    if (!clock || !clock->is_virtual)
        return;
    (void)pthread_cond_destroy(&clock->settled);
    (void)pthread_cond_destroy(&clock->moved);
    (void)pthread_mutex_destroy(&clock->lock);
    free(clock);
}

int64_t tower_clock_now_ns(struct tower_clock *clock) {
    if (!clock->is_virtual) {
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * TOWER_NS_PER_S + now.tv_nsec;
    }
    pthread_mutex_lock(&clock->lock);
    int64_t now_ns = clock->now_ns;
    pthread_mutex_unlock(&clock->lock);
    return now_ns;
}

int tower_clock_poll_timeout_ms(struct tower_clock *clock, int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX)
        return -1;
    int64_t left_ns = deadline_ns - tower_clock_now_ns(clock);
    if (left_ns <= 0)
        return 0;
    if (clock->is_virtual)
        return 1;
    int64_t left_ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
    return (int)(left_ms < POLL_LIMIT_MS ? left_ms : POLL_LIMIT_MS);
}

/* Both with the lock held. */
static void link_waiter(struct tower_clock *clock, struct waiter *waiter) {
    waiter->next = clock->waiters;
    clock->waiters = waiter;
    pthread_cond_broadcast(&clock->settled);
}

static void unlink_waiter(struct tower_clock *clock, struct waiter *waiter) {
    struct waiter **link = &clock->waiters;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
}

static int virtual_sleep_until(struct tower_clock *clock, int64_t deadline_ns,
                               const _Atomic bool *is_cancelled) {
    struct waiter waiter = {.deadline_ns = deadline_ns};
    int result = 0;
    pthread_mutex_lock(&clock->lock);
    uint64_t wakes = clock->wakes;
    if (clock->is_auto && clock->now_ns < deadline_ns) {
        clock->now_ns = deadline_ns + clock->oversleep_ns;
        clock->oversleep_ns = 0;
    }
    if (clock->now_ns < deadline_ns) {
        link_waiter(clock, &waiter);
        while (clock->now_ns < deadline_ns && clock->wakes == wakes &&
               !(is_cancelled && *is_cancelled))
            pthread_cond_wait(&clock->moved, &clock->lock);
        unlink_waiter(clock, &waiter);
        if (clock->now_ns < deadline_ns)
            result = -EINTR;
    }
    pthread_mutex_unlock(&clock->lock);
    return result;
}

int tower_clock_sleep_until(struct tower_clock *clock, int64_t deadline_ns) {
    if (clock->is_virtual)
        return virtual_sleep_until(clock, deadline_ns, NULL);
    if (deadline_ns <= tower_clock_now_ns(clock))
        return 0;
    struct timespec deadline = to_timespec(deadline_ns);
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
}

int tower_clock_sleep_until_or(struct tower_clock *clock, int64_t deadline_ns,
                               const _Atomic bool *is_cancelled) {
    int error;
    do
        error = clock->is_virtual ? virtual_sleep_until(clock, deadline_ns, is_cancelled)
                                  : tower_clock_sleep_until(clock, deadline_ns);
    while (error == -EINTR && !*is_cancelled);
    return *is_cancelled ? -ECANCELED : error;
}

static int virtual_cond_wait_until(struct tower_clock *clock, pthread_cond_t *cond,
                                   pthread_mutex_t *mutex, int64_t deadline_ns) {
    struct waiter waiter = {.deadline_ns = deadline_ns, .cond = cond, .mutex = mutex};
    pthread_mutex_lock(&clock->lock);
    if (clock->is_auto && clock->now_ns < deadline_ns)
        clock->now_ns = deadline_ns;
    bool is_due = clock->now_ns >= deadline_ns;
    if (!is_due)
        link_waiter(clock, &waiter);
    pthread_mutex_unlock(&clock->lock);
    if (is_due)
        return -ETIMEDOUT;
    /* Whoever moves the clock takes `mutex` before it signals, so no wake-up can fall between the
     * look at the clock above and this wait. */
    pthread_cond_wait(cond, mutex);
    pthread_mutex_lock(&clock->lock);
    unlink_waiter(clock, &waiter);
    is_due = clock->now_ns >= deadline_ns;
    pthread_mutex_unlock(&clock->lock);
    return is_due ? -ETIMEDOUT : 0;
}

int tower_clock_cond_wait_until(struct tower_clock *clock, pthread_cond_t *cond,
                                pthread_mutex_t *mutex, int64_t deadline_ns) {
    if (clock->is_virtual)
        return virtual_cond_wait_until(clock, cond, mutex, deadline_ns);
    struct timespec deadline = to_timespec(deadline_ns);
    return -pthread_cond_timedwait(cond, mutex, &deadline);
}

void tower_clock_wake(struct tower_clock *clock) {
    if (!clock->is_virtual)
        return;
    pthread_mutex_lock(&clock->lock);
    clock->wakes++;
    pthread_cond_broadcast(&clock->moved);
    pthread_mutex_unlock(&clock->lock);
}

/* Tell the waiters whose time has come. Their mutexes are taken one at a time and never under the
 * clock's lock, which they take while they hold theirs. */
static void signal_due_waiters(struct tower_clock *clock) {
    for (;;) {
        pthread_cond_t *cond = NULL;
        pthread_mutex_t *mutex = NULL;
        pthread_mutex_lock(&clock->lock);
        for (struct waiter *waiter = clock->waiters; waiter; waiter = waiter->next) {
            if (waiter->cond && !waiter->is_signalled && waiter->deadline_ns <= clock->now_ns) {
                waiter->is_signalled = true;
                cond = waiter->cond;
                mutex = waiter->mutex;
                break;
            }
        }
        pthread_mutex_unlock(&clock->lock);
        if (!cond)
            return;
        pthread_mutex_lock(mutex);
        pthread_cond_broadcast(cond);
        pthread_mutex_unlock(mutex);
    }
}

void tower_clock_virtual_advance(struct tower_clock *clock, int64_t delta_ns) {
    if (!clock->is_virtual || delta_ns < 0)
        return;
    pthread_mutex_lock(&clock->lock);
    clock->now_ns += delta_ns;
    pthread_cond_broadcast(&clock->moved);
    pthread_mutex_unlock(&clock->lock);
    signal_due_waiters(clock);
}

void tower_clock_virtual_set_auto(struct tower_clock *clock, bool is_auto) {
    if (!clock->is_virtual)
        return;
    pthread_mutex_lock(&clock->lock);
    clock->is_auto = is_auto;
    pthread_mutex_unlock(&clock->lock);
}

void tower_clock_virtual_oversleep(struct tower_clock *clock, int64_t late_ns) {
    if (!clock->is_virtual || late_ns < 0)
        return;
    pthread_mutex_lock(&clock->lock);
    clock->oversleep_ns = late_ns;
    pthread_mutex_unlock(&clock->lock);
}

/* Threads that wait for a time still to come; with the lock held. */
static unsigned count_sleepers(const struct tower_clock *clock) {
    unsigned count = 0;
    for (const struct waiter *waiter = clock->waiters; waiter; waiter = waiter->next)
        count += waiter->deadline_ns > clock->now_ns;
    return count;
}

int tower_clock_virtual_await_sleepers(struct tower_clock *clock, unsigned sleepers) {
    if (!clock->is_virtual)
        return -EINVAL;
    int64_t limit_ns = tower_clock_now_ns(&real_clock) + SETTLE_LIMIT_S * TOWER_NS_PER_S;
    struct timespec limit = to_timespec(limit_ns);
    int error = 0;
    pthread_mutex_lock(&clock->lock);
    while (count_sleepers(clock) < sleepers && error == 0)
        error = pthread_cond_timedwait(&clock->settled, &clock->lock, &limit);
    pthread_mutex_unlock(&clock->lock);
    return -error;
}
