/* clock_shift.c - preloaded into a program: shifts its clocks, and nobody else's.
 *
 * CLOCK_SHIFT_FILE names a file of two int64_t, nanoseconds to add, which may change at any time:
 * to the wall clock, as when that is set; and to CLOCK_MONOTONIC, which stands still while a
 * machine is suspended. What is told to wait for a time of CLOCK_MONOTONIC waits for it as shifted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

struct shift {
    int64_t wall_ns;
    int64_t monotonic_ns;
};

static const volatile struct shift *shift;

__attribute__((constructor)) static void find_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map != MAP_FAILED)
        shift = map;
}

static int64_t shift_of(clockid_t clock) {
    if (!shift)
        return 0;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        return shift->wall_ns;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
        return shift->monotonic_ns;
    default:
        return 0;
    }
}

static struct timespec later(const struct timespec *when, int64_t ns) {
    int64_t sum_ns = when->tv_sec * NS_PER_S + when->tv_nsec + ns;
    return (struct timespec){.tv_sec = sum_ns / NS_PER_S, .tv_nsec = sum_ns % NS_PER_S};
}

int clock_gettime(clockid_t clock, struct timespec *ret_now) {
    struct timespec now;
    if (syscall(SYS_clock_gettime, clock, &now) < 0)
        return -1;
    *ret_now = later(&now, shift_of(clock));
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until,
                    struct timespec *ret_left) {
    struct timespec shifted =
        flags & TIMER_ABSTIME ? later(until, -shift_of(clock)) : later(until, 0);
    return syscall(SYS_clock_nanosleep, clock, flags, &shifted, ret_left) < 0 ? errno : 0;
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone) {
    struct timespec now;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    *ret_now = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *ret_now) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}
