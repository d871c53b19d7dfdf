/* thread.c - threads as this program makes them. */
#include "thread.h"

#include "tower/clock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

/* Deep enough for LAME and libsndfile, and a tenth of the default, so that a locked stack is small.
 */
#define STACK_BYTES (512 * 1024)
#define JOIN_STEP_NS INT64_C(2000000)

/* It has its name from us, who bear it meanwhile. pthread_setname_np() would open a file, whose
 * number the new thread may by then have taken for something that nobody needs, and closed. */
static int create_named(pthread_t *ret_thread, const pthread_attr_t *attributes, const char *name,
                        void *(*run)(void *), void *arg) {
    char own[16] = "";
    (void)prctl(PR_GET_NAME, own);
    (void)prctl(PR_SET_NAME, name);
    int error = pthread_create(ret_thread, attributes, run, arg);
    (void)prctl(PR_SET_NAME, own);
    return error;
}

int tower_thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error)
        return -error;
    sigset_t all, before;
    sigfillset(&all);
    pthread_t thread;
    error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (!error)
        error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!error) {
        error = create_named(&thread, &attributes, name, run, arg);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    if (error)
        return -error;
    *ret_thread = thread;
    return 0;
}

/* The joins that wait go by the wall clock, which may be set meanwhile; and the one that goes by
 * another ThreadSanitizer does not know. */
int tower_thread_join_within(pthread_t thread, int64_t limit_ns) {
    struct tower_clock *clock = tower_clock_real();
    int64_t now_ns = tower_clock_now_ns(clock);
    int64_t deadline_ns = now_ns + limit_ns;
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        if (now_ns >= deadline_ns)
            return -ETIMEDOUT;
        (void)tower_clock_sleep_until(clock, now_ns + JOIN_STEP_NS);
        now_ns = tower_clock_now_ns(clock);
    }
    return 0;
}

int tower_thread_make_realtime(int priority) {
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    struct sched_param parameters = {.sched_priority = priority};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) < 0)
        return -errno;
    return 0;
}

int tower_mutex_init(pthread_mutex_t *mutex, int is_recursive) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error)
        return -error;
    error = pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    if (!error && is_recursive)
        error = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    if (!error)
        error = pthread_mutex_init(mutex, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
    return -error;
}
