/* poker.h - a thread that pokes another with signals while that one waits. */
#ifndef TOWER_TESTS_POKER_H
#define TOWER_TESTS_POKER_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

struct poker {
    pthread_t target;
    _Atomic bool is_enough;
};

static void ignore_signal(int signal_number) {
    (void)signal_number;
}

/* Have SIGUSR1 interrupt a wait, and do nothing else. */
static inline int catch_pokes(void) {
    const struct sigaction action = {.sa_handler = ignore_signal};
    return sigaction(SIGUSR1, &action, NULL);
}

/* A signal again and again: one alone could come just before the wait. */
static void *run_poker(void *arg) {
    struct poker *poker = arg;
    const struct timespec pause = {.tv_nsec = 200000};
    while (!poker->is_enough) {
        pthread_kill(poker->target, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

#endif
