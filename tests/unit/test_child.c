/* Child processes: no descriptor leaked, no zombie, what exec said, what the child said. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000

static int count_fds(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Read from a non-blocking descriptor until its end. */
static size_t read_all(int fd, char *text, size_t text_bytes) {
    size_t filled = 0;
    while (filled < text_bytes - 1) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
        ssize_t n = read(fd, text + filled, text_bytes - 1 - filled);
        assert_true(n >= 0);
        if (n == 0)
            break;
        filled += (size_t)n;
    }
    text[filled] = '\0';
    return filled;
}

static void await_end(struct tower_child *child, int *ret_status) {
    struct pollfd poll_fd = {.fd = child->pidfd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    assert_int_equal(tower_child_poll(child, ret_status), 1);
}

static void test_child_is_fed_and_heard(void **state) {
    (void)state;
    char *argv[] = {"sh", "-c", "cat; echo error-text >&2; exit 7", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    char text[64];
    int status = 0;
    int before = count_fds();
    assert_int_equal(tower_child_start(&child, argv,
                                       TOWER_CHILD_STDIN | TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR,
                                       4096),
                     0);
    assert_int_equal(fcntl(child.stdin_fd, F_GETPIPE_SZ), 4096);
    assert_int_equal(write(child.stdin_fd, "hello", 5), 5);
    close(child.stdin_fd);
    child.stdin_fd = -1;
    read_all(child.stdout_fd, text, sizeof text);
    assert_string_equal(text, "hello");
    read_all(child.stderr_fd, text, sizeof text);
    assert_string_equal(text, "error-text\n");
    await_end(&child, &status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(tower_child_poll(&child, NULL), -ECHILD);
    tower_child_kill(&child);
    assert_int_equal(count_fds(), before);
}

static void test_child_has_three_descriptors_and_default_signals(void **state) {
    (void)state;
    /* One that is not CLOEXEC, as a careless library leaves them. */
    int careless = open("/dev/null", O_RDONLY);
    assert_true(careless >= 0);
    sigset_t blocked, before;
    sigfillset(&blocked);
    sigprocmask(SIG_SETMASK, &blocked, &before);
    char *list[] = {"ls", "/proc/self/fd", NULL};
    char *show[] = {"grep", "-E", "SigBlk|SigIgn", "/proc/self/status", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    char text[256];
    assert_int_equal(tower_child_start(&child, list, TOWER_CHILD_STDOUT, 0), 0);
    read_all(child.stdout_fd, text, sizeof text);
    /* The fourth is the folder that ls reads. */
    assert_string_equal(text, "0\n1\n2\n3\n");
    tower_child_kill(&child);
    assert_int_equal(tower_child_start(&child, show, TOWER_CHILD_STDOUT, 0), 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    read_all(child.stdout_fd, text, sizeof text);
    assert_string_equal(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    tower_child_kill(&child);
    close(careless);
}

static void test_child_has_ordinary_timer_slack(void **state) {
    (void)state;
    char *argv[] = {"cat", "/proc/self/timerslack_ns", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    char text[64];
    assert_int_equal(prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL), 0);
    assert_int_equal(tower_child_start(&child, argv, TOWER_CHILD_STDOUT, 0), 0);
    assert_int_equal(prctl(PR_SET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL), 0);
    read_all(child.stdout_fd, text, sizeof text);
    tower_child_kill(&child);
    assert_string_equal(text, "50000\n");
}

static void test_program_that_is_missing_says_so(void **state) {
    (void)state;
    char *missing[] = {"/nowhere/at/all", NULL};
    char *folder[] = {"/tmp", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    int before = count_fds();
    assert_int_equal(tower_child_start(&child, missing, 7, 0), -ENOENT);
    assert_int_equal(tower_child_start(&child, folder, 7, 0), -EACCES);
    assert_int_equal(child.pid, 0);
    assert_int_equal(count_fds(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_kill_ends_one_that_is_stopped(void **state) {
    (void)state;
    char *argv[] = {"sleep", "1000", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    int before = count_fds();
    assert_int_equal(tower_child_start(&child, argv, TOWER_CHILD_STDIN, 0), 0);
    pid_t pid = child.pid;
    assert_int_equal(tower_child_poll(&child, NULL), 0);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    tower_child_kill(&child);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(child.pid, 0);
    assert_int_equal(count_fds(), before);
    tower_child_kill(&child);
}

/* What it has started in the background holds its stdout open until it is gone too. */
static void expect_all_gone(int stdout_fd) {
    char text[64];
    read_all(stdout_fd, text, sizeof text);
}

static void test_what_a_child_has_started_ends_with_it(void **state) {
    (void)state;
    char *killed[] = {"sh", "-c", "sleep 1000 & echo ready; wait", NULL};
    char *left[] = {"sh", "-c", "sleep 1000 & exit 3", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    int status = 0;
    assert_int_equal(tower_child_start(&child, killed, TOWER_CHILD_STDOUT, 0), 0);
    struct pollfd poll_fd = {.fd = child.stdout_fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    int stdout_fd = child.stdout_fd;
    child.stdout_fd = -1;
    tower_child_kill(&child);
    expect_all_gone(stdout_fd);
    close(stdout_fd);
    assert_int_equal(tower_child_start(&child, left, TOWER_CHILD_STDOUT, 0), 0);
    await_end(&child, &status);
    assert_int_equal(WEXITSTATUS(status), 3);
    expect_all_gone(child.stdout_fd);
    tower_child_kill(&child);
}

static void test_killed_child_is_noticed(void **state) {
    (void)state;
    char *argv[] = {"sleep", "1000", NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    int status = 0;
    assert_int_equal(tower_child_start(&child, argv, 0, 0), 0);
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    await_end(&child, &status);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    tower_child_kill(&child);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_is_fed_and_heard),
        cmocka_unit_test(test_child_has_three_descriptors_and_default_signals),
        cmocka_unit_test(test_child_has_ordinary_timer_slack),
        cmocka_unit_test(test_program_that_is_missing_says_so),
        cmocka_unit_test(test_kill_ends_one_that_is_stopped),
        cmocka_unit_test(test_what_a_child_has_started_ends_with_it),
        cmocka_unit_test(test_killed_child_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
