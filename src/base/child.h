/* child.h - child processes: no descriptor leaked to them, no orphan, no zombie. */
#ifndef TOWER_BASE_CHILD_H
#define TOWER_BASE_CHILD_H

#include <stdint.h>
#include <sys/types.h>

struct tower_child {
    pid_t pid;    /* 0: none */
    int pidfd;    /* readable when it has ended; -1: none */
    int stdin_fd; /* our ends, non-blocking and CLOEXEC; -1 where not asked for */
    int stdout_fd;
    int stderr_fd;
};

enum tower_child_pipes {
    TOWER_CHILD_STDIN = 1,
    TOWER_CHILD_STDOUT = 2,
    TOWER_CHILD_STDERR = 4, /* not asked for: /dev/null, as for the others */
};

/* A struct tower_child with no child in it. */
#define TOWER_CHILD_NONE                                                                           \
    { 0, -1, -1, -1, -1 }

/* Run `argv[0]` (found by PATH) with `argv`. The child has the default signals, no other descriptor
 * of ours, ordinary scheduling, a process group of its own, and is killed when the thread that
 * started it ends. Pipes hold `pipe_bytes` (0: the kernel's choice). Blocks until the program has
 * been found and loaded, some milliseconds. On failure `child` is as it was. Errors: what exec said
 * (-ENOENT: no such program, -EACCES, ...), -EMFILE, -ENOMEM, -EAGAIN. */
int tower_child_start(struct tower_child *child, char *const *argv, unsigned pipes, int pipe_bytes);

/* Has it ended? Returns 1 and its wait status (see waitpid) in `ret_status` (may be NULL) once; it
 * is reaped then, pid and pidfd are cleared, and the pipes stay open for what is still in them. 0:
 * it runs. Does not block. Errors: -ECHILD (there is none). */
int tower_child_poll(struct tower_child *child, int *ret_status);

/* SIGKILL it, and what it has started in its group, if it runs; reap it with tower_child_poll(). */
void tower_child_end(const struct tower_child *child);

/* SIGKILL it if it runs, reap it, close everything: `child` is TOWER_CHILD_NONE again. Waits only
 * for the kernel. Takes one that is none. */
void tower_child_kill(struct tower_child *child);

#endif
