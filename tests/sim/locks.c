/* locks.c - one thread never waits for another's lock, and taking them is a tenth of what a tick
 * costs: here they are only counted. What they are for is tested with threads, under
 * ThreadSanitizer.
 */
#include "world.h"

#include <pthread.h>

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static int held;

int sim_locks_held(void) {
    return held;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
    (void)mutex;
    held++;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
    (void)mutex;
    held--;
    return 0;
}
