/* kill_fixture.h - processes that are killed in the middle of things. */
#ifndef TEST_KILL_FIXTURE_H
#define TEST_KILL_FIXTURE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
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

#endif
