/* clock_shift.c - preloaded into a program: shifts its wall clock, and that only.
 *
 * CLOCK_SHIFT_FILE names a file of one int64_t, the nanoseconds to add, which may change at any
 * time. CLOCK_MONOTONIC and its kin stay as they are, as when a real wall clock is set.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static const volatile int64_t *shift_ns;

__attribute__((constructor)) static void find_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *shift_ns, PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map != MAP_FAILED)
        shift_ns = map;
}

static int64_t shifted_ns(clockid_t clock) {
    struct timespec now;
    (void)syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec + (shift_ns ? *shift_ns : 0);
}

int clock_gettime(clockid_t clock, struct timespec *ret_now) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, ret_now);
    int64_t now_ns = shifted_ns(clock);
    *ret_now = (struct timespec){.tv_sec = now_ns / NS_PER_S, .tv_nsec = now_ns % NS_PER_S};
    return 0;
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone) {
    (void)zone;
    int64_t now_ns = shifted_ns(CLOCK_REALTIME);
    *ret_now = (struct timeval){.tv_sec = now_ns / NS_PER_S, .tv_usec = now_ns % NS_PER_S / 1000};
    return 0;
}

time_t time(time_t *ret_now) {
    time_t now = shifted_ns(CLOCK_REALTIME) / NS_PER_S;
    if (ret_now)
        *ret_now = now;
    return now;
}
