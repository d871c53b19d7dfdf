/* clock.h - the one clock of the system: real, or virtual and moved by hand.
 *
 * Whatever waits, times out, paces, backs off or stamps asks a `struct tower_clock`. Time is
 * nanoseconds since an arbitrary start, never going back.
 */
#ifndef TOWER_CLOCK_H
#define TOWER_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct tower_clock;

/* The real clock: CLOCK_MONOTONIC. One for the whole program, never freed. */
struct tower_clock *tower_clock_real(void);

/* Make a virtual clock that stands at `start_ns` until it is moved.
 * Errors: -ENOMEM. */
int tower_clock_virtual_new(int64_t start_ns, struct tower_clock **ret_clock);

/* Free a virtual clock. Nobody may be waiting on it. Takes NULL; leaves the real clock alone. */
void tower_clock_free(struct tower_clock *clock);

/* Now, in ns. Any thread; never blocks on the real clock, takes a short lock on a virtual one. */
int64_t tower_clock_now_ns(struct tower_clock *clock);

/* Wait until `deadline_ns`. Returns 0 once it has come (at once if it has passed), -EINTR if
 * tower_clock_wake() was called on a virtual clock or a signal arrived: ask again or give up.
 * Real: clock_nanosleep with TIMER_ABSTIME, so that no error adds up. */
int tower_clock_sleep_until(struct tower_clock *clock, int64_t deadline_ns);

/* The same for a thread that can be stopped: goes on waiting after a signal, and returns -ECANCELED
 * once `*is_cancelled`, which must be set before tower_clock_wake() is called. On the real clock
 * that is seen when the deadline has come, so keep such a wait short. */
int tower_clock_sleep_until_or(struct tower_clock *clock, int64_t deadline_ns,
                               const _Atomic bool *is_cancelled);

/* Wait on `cond` with `mutex` held, until it is signalled or `deadline_ns` comes. Returns 0 when
 * signalled (or for no reason, as condition variables may), -ETIMEDOUT once the deadline has come.
 * `cond` must have been made with tower_clock_cond_init(). */
int tower_clock_cond_wait_until(struct tower_clock *clock, pthread_cond_t *cond,
                                pthread_mutex_t *mutex, int64_t deadline_ns);

/* Make a condition variable that tower_clock_cond_wait_until() can use (CLOCK_MONOTONIC).
 * Errors: a negative errno from pthread. Undo with pthread_cond_destroy(). */
int tower_clock_cond_init(pthread_cond_t *cond);

/* The timeout for poll() and epoll_wait() that ends at `deadline_ns`: whole milliseconds, rounded
 * up, at most a minute; 0 once it has come; -1 for INT64_MAX, never. Descriptors know nothing of a
 * virtual clock: there it is 1 for a time still to come, so that the caller looks again. */
int tower_clock_poll_timeout_ms(struct tower_clock *clock, int64_t deadline_ns);

/* Wake everybody who sleeps in tower_clock_sleep_until() on a virtual clock, with -EINTR: how a
 * thread that sleeps on it is stopped. Does nothing on the real clock, whose sleeps are short. */
void tower_clock_wake(struct tower_clock *clock);

/* Move a virtual clock on by `delta_ns` (>= 0) in one jump, and wake those whose time has come. */
void tower_clock_virtual_advance(struct tower_clock *clock, int64_t delta_ns);

/* In automatic mode nobody waits: tower_clock_sleep_until() and tower_clock_cond_wait_until() move
 * the virtual clock to their deadline and return. A day then takes seconds. */
void tower_clock_virtual_set_auto(struct tower_clock *clock, bool is_auto);

/* In automatic mode: the next sleep in tower_clock_sleep_until() or _or() that waits at all ends
 * `late_ns` (>= 0) behind its deadline, as on a machine that had no time for the thread. */
void tower_clock_virtual_oversleep(struct tower_clock *clock, int64_t late_ns);

/* Block, in real time, until `sleepers` threads wait on this virtual clock for a time still to
 * come: the world has done all it can before time moves on. Gives up after 30 s of real time.
 * Errors: -ETIMEDOUT. */
int tower_clock_virtual_await_sleepers(struct tower_clock *clock, unsigned sleepers);

#endif
