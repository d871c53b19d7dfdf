/* bounded_wait.h - waiting for an event in real time, never longer than a generous bound. */
#ifndef TOWER_TESTS_BOUNDED_WAIT_H
#define TOWER_TESTS_BOUNDED_WAIT_H

#include "tower/clock.h"

#include <time.h>
#include <unistd.h>

#define BOUNDED_WAIT_NS INT64_C(30000000000)

static inline int64_t real_now_ns(void) {
    return tower_clock_now_ns(tower_clock_real());
}

/* A moment between two looks at a condition: nothing is proven by its length. */
static inline void short_pause(void) {
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* Fail unless `condition` comes true within 30 s. Main thread of a test only. */
#define ASSERT_SOON(condition)                                                                     \
    do {                                                                                           \
        int64_t give_up_ns_ = real_now_ns() + BOUNDED_WAIT_NS;                                     \
        while (!(condition)) {                                                                     \
            if (real_now_ns() > give_up_ns_) {                                                     \
                fail_msg("within 30 s this did not come true: %s", #condition);                    \
            }                                                                                      \
            short_pause();                                                                         \
        }                                                                                          \
    } while (0)

/* End the program with SIGALRM if a test blocks where the contract says that nothing may. */
static inline void watchdog_start(void) {
    alarm(280);
}

#endif
