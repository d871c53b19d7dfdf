/* thread.h - threads as this program makes them: named, deaf to signals, real-time where asked. */
#ifndef TOWER_BASE_THREAD_H
#define TOWER_BASE_THREAD_H

#include <pthread.h>
#include <stdint.h>

/* Real-time priorities: the pump above the encoder above the ingest thread, and nothing else. */
#define TOWER_PRIORITY_PUMP 20
#define TOWER_PRIORITY_ENCODER 10
#define TOWER_PRIORITY_INGEST 5

/* Start a thread named `name` (at most 15 characters) with every signal blocked.
 * Errors: -EAGAIN, -ENOMEM. */
int tower_thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg);

/* Wait for a thread's end, at most `limit_ns` of CLOCK_MONOTONIC, in steps of some milliseconds.
 * Errors: -ETIMEDOUT (it is still to be joined or detached). */
int tower_thread_join_within(pthread_t thread, int64_t limit_ns);

/* Ask for SCHED_FIFO at `priority` (not inherited by children) and a timer slack of 1 ns for the
 * calling thread. Errors: -EPERM (not allowed; the thread goes on as it was). */
int tower_thread_make_realtime(int priority);

/* A mutex that hands its holder the priority of whoever waits, so that a real-time thread does not
 * wait behind a preempted one; recursive if `is_recursive`. Errors: a negative errno. */
int tower_mutex_init(pthread_mutex_t *mutex, int is_recursive);

#endif
