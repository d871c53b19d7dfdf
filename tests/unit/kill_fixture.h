/* kill_fixture.h - processes that are killed in the middle of things. */
#ifndef TEST_KILL_FIXTURE_H
#define TEST_KILL_FIXTURE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The same numbers in each run; when exactly a process is hit is the machine's affair. */
static inline uint64_t kill_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Memory that parent and children share, zeroed. */
static inline void *kill_shared(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Have `run` live in a process of its own, and kill it: within `most_us` of when it has set
 * `is_ready` (shared), or now and then before. False if it ended by itself, which it should not
 * have. */
static inline bool kill_midway(void (*run)(void *), void *arg, _Atomic bool *is_ready,
                               uint64_t *random, uint64_t most_us) {
    bool waits = kill_random(random) % 8 != 0;
    uint64_t wait_ns = kill_random(random) % (waits ? most_us * 1000 : 20000000);
    atomic_store(is_ready, false);
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGPIPE, SIG_IGN);
        run(arg);
        _exit(1);
    }
    const struct timespec moment = {.tv_nsec = 20000};
    for (unsigned i = 0; waits && !atomic_load(is_ready) && i < 500000; i++)
        (void)nanosleep(&moment, NULL);
    struct timespec wait = {.tv_nsec = (long)wait_ns};
    (void)nanosleep(&wait, NULL);
    (void)kill(pid, SIGKILL);
    int status = 0;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGKILL;
}

#define KILL_REGIONS_MAX 4

/* What a killed process would leave of the region `fd`: a copy, or -1. */
static inline int kill_copy(int fd) {
    off_t bytes = lseek(fd, 0, SEEK_END);
    int copy = memfd_create("copy", MFD_CLOEXEC);
    void *memory = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
    bool is_copied =
        copy >= 0 && memory != MAP_FAILED && write(copy, memory, (size_t)bytes) == bytes;
    if (memory != MAP_FAILED)
        (void)munmap(memory, (size_t)bytes);
    return is_copied ? copy : -1;
}

struct kill_view {
    uint8_t *memory; /* of the region */
    uint8_t *before; /* as it was when it was last looked at */
    size_t bytes;
};

static inline bool kill_has_changed(struct kill_view *views, size_t n) {
    bool has_changed = false;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(views[i].memory, views[i].before, views[i].bytes) == 0)
            continue;
        memcpy(views[i].before, views[i].memory, views[i].bytes);
        has_changed = true;
    }
    return has_changed;
}

/* Have a child do `work`, and show `look` copies of the `n` regions as they are at first, and
 * behind each of its instructions that changed one. Returns how often, or 0 if that cannot be done.
 */
static inline unsigned kill_at_each_store(void (*work)(void *), void (*look)(void *, const int *),
                                          void *user, const int *fds, size_t n) {
    struct kill_view views[KILL_REGIONS_MAX];
    int copies[KILL_REGIONS_MAX], status = 0;
    unsigned n_looks = 0;
    bool is_ready = n <= KILL_REGIONS_MAX;
    for (size_t i = 0; i < n && is_ready; i++) {
        views[i].bytes = (size_t)lseek(fds[i], 0, SEEK_END);
        views[i].memory = mmap(NULL, views[i].bytes, PROT_READ, MAP_SHARED, fds[i], 0);
        views[i].before = kill_shared(views[i].bytes);
        is_ready = views[i].memory != MAP_FAILED && views[i].before;
    }
    if (!is_ready)
        return 0;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(2);
        (void)raise(SIGSTOP);
        work(user);
        (void)kill(getpid(), SIGSTOP);
        _exit(0);
    }
    bool is_stopped = child > 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status);
    for (bool has_begun = false; is_stopped; has_begun = true) {
        if (has_begun && WSTOPSIG(status) == SIGSTOP)
            break;
        if (kill_has_changed(views, n)) {
            for (size_t i = 0; i < n; i++)
                copies[i] = kill_copy(fds[i]);
            look(user, copies);
            n_looks++;
        }
        is_stopped = ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0 &&
                     waitpid(child, &status, 0) == child && WIFSTOPPED(status);
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    for (size_t i = 0; i < n; i++) {
        (void)munmap(views[i].memory, views[i].bytes);
        (void)munmap(views[i].before, views[i].bytes);
    }
    return is_stopped ? n_looks : 0;
}

#endif
