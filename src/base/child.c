/* child.c - child processes. */
#include "child.h"

#include "fd.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel's default. */
#define TIMER_SLACK_NS 50000UL

/* One of the three streams: the child's end and ours. */
struct stream {
    int child_fd;
    int our_fd;
};

static int open_stream(struct stream *stream, bool is_pipe, bool child_reads, int pipe_bytes) {
    if (!is_pipe) {
        stream->child_fd = open("/dev/null", (child_reads ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
        return stream->child_fd < 0 ? -errno : 0;
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    stream->child_fd = child_reads ? ends[0] : ends[1];
    stream->our_fd = child_reads ? ends[1] : ends[0];
    /* A pipe of another size than asked for works as well. */
    if (pipe_bytes > 0)
        (void)fcntl(stream->our_fd, F_SETPIPE_SZ, pipe_bytes);
    return tower_fd_set_nonblocking(stream->our_fd);
}

/* In the child, between fork and exec: async-signal-safe calls only. Never returns. */
static void become(char *const *argv, const struct stream streams[3], int error_fd, pid_t parent) {
    int error = 0;
    struct sigaction by_default;
    memset(&by_default, 0, sizeof by_default);
    by_default.sa_handler = SIG_DFL;
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        (void)sigaction(signal_number, &by_default, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* Unlike its policy, a real-time thread's timer slack is inherited. */
    (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0UL, 0UL, 0UL);

    /* A group of its own: what the program starts in turn ends with it, and a terminal's Ctrl-C,
     * which is meant for us, does not end it before we do. */
    if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        error = errno;
    /* The parent may have died before that took effect. */
    if (!error && getppid() != parent)
        _exit(127);
    /* Move our ends out of the way of 0, 1 and 2 before they are put there. */
    int fds[3];
    for (int i = 0; i < 3 && !error; i++) {
        fds[i] = fcntl(streams[i].child_fd, F_DUPFD_CLOEXEC, 3);
        if (fds[i] < 0)
            error = errno;
    }
    int report_fd = fcntl(error_fd, F_DUPFD_CLOEXEC, 3);
    if (report_fd < 0)
        _exit(127);
    for (int i = 0; i < 3 && !error; i++) {
        if (dup2(fds[i], i) < 0)
            error = errno;
    }
    if (!error) {
        /* Libraries may have opened descriptors without CLOEXEC. */
        (void)syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
        (void)execvp(argv[0], argv);
        error = errno;
    }
    ssize_t ignored = write(report_fd, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

/* What exec said: 0 once the program runs, else a negative errno. */
static int read_exec_error(int fd) {
    int error = 0;
    ssize_t n;
    do
        n = read(fd, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof error ? -error : 0;
}

int tower_child_start(struct tower_child *child, char *const *argv, unsigned pipes,
                      int pipe_bytes) {
    struct stream streams[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int report[2] = {-1, -1};
    struct tower_child started = TOWER_CHILD_NONE;
    int error = 0;
    for (int i = 0; i < 3 && error == 0; i++)
        error = open_stream(&streams[i], pipes & (1U << i), i == 0, pipe_bytes);
    if (error == 0 && pipe2(report, O_CLOEXEC) < 0)
        error = -errno;
    if (error < 0)
        goto finish;

    pid_t parent = getpid();
    started.pid = fork();
    if (started.pid < 0) {
        error = -errno;
        goto finish;
    }
    if (started.pid == 0)
        become(argv, streams, report[1], parent);
    tower_fd_close(&report[1]);
    error = read_exec_error(report[0]);
    if (error == 0) {
        started.pidfd = (int)syscall(SYS_pidfd_open, started.pid, 0U);
        if (started.pidfd < 0)
            error = -errno;
        else if (fcntl(started.pidfd, F_SETFD, FD_CLOEXEC) < 0)
            error = -errno;
    }
    if (error < 0) {
        tower_child_kill(&started);
        goto finish;
    }
    started.stdin_fd = streams[0].our_fd;
    started.stdout_fd = streams[1].our_fd;
    started.stderr_fd = streams[2].our_fd;
    for (int i = 0; i < 3; i++)
        streams[i].our_fd = -1;
    *child = started;

finish:
    for (int i = 0; i < 3; i++) {
        tower_fd_close(&streams[i].child_fd);
        tower_fd_close(&streams[i].our_fd);
    }
    tower_fd_close(&report[0]);
    tower_fd_close(&report[1]);
    return error;
}

void tower_child_end(const struct tower_child *child) {
    if (child->pid <= 0)
        return;
    /* Its group is its own from before exec on; until then there is only itself. */
    if (kill(-child->pid, SIGKILL) < 0)
        (void)kill(child->pid, SIGKILL);
}

int tower_child_poll(struct tower_child *child, int *ret_status) {
    siginfo_t ended = {.si_pid = 0};
    if (child->pid <= 0)
        return -ECHILD;
    /* While it is not reaped its number cannot be another's: the moment to end those it left. */
    if (waitid(P_PID, (id_t)child->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        ended.si_pid == child->pid)
        tower_child_end(child);
    int status = 0;
    pid_t pid;
    do
        pid = waitpid(child->pid, &status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return 0;
    child->pid = 0;
    tower_fd_close(&child->pidfd);
    if (pid < 0)
        return -errno;
    if (ret_status)
        *ret_status = status;
    return 1;
}

void tower_child_kill(struct tower_child *child) {
    if (child->pid > 0) {
        tower_child_end(child);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    tower_fd_close(&child->pidfd);
    tower_fd_close(&child->stdin_fd);
    tower_fd_close(&child->stdout_fd);
    tower_fd_close(&child->stderr_fd);
    *child = (struct tower_child)TOWER_CHILD_NONE;
}
