/* clocks.c - every clock but the virtual one: it can be stepped, and nobody may ask it. */
#include "world.h"

#include <sys/time.h>
#include <time.h>

int __wrap_clock_gettime(clockid_t id, struct timespec *ret_now);
time_t __wrap_time(time_t *ret_now);
int __wrap_gettimeofday(struct timeval *ret_now, void *zone);

int __wrap_clock_gettime(clockid_t id, struct timespec *ret_now) {
    int64_t now_ns = sim_wall_asked();
    (void)id;
    *ret_now =
        (struct timespec){.tv_sec = now_ns / TOWER_NS_PER_S, .tv_nsec = now_ns % TOWER_NS_PER_S};
    return 0;
}

time_t __wrap_time(time_t *ret_now) {
    time_t now = sim_wall_asked() / TOWER_NS_PER_S;
    if (ret_now)
        *ret_now = now;
    return now;
}

int __wrap_gettimeofday(struct timeval *ret_now, void *zone) {
    int64_t now_ns = sim_wall_asked();
    (void)zone;
    *ret_now = (struct timeval){.tv_sec = now_ns / TOWER_NS_PER_S,
                                .tv_usec = now_ns % TOWER_NS_PER_S / 1000};
    return 0;
}
