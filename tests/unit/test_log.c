/* The log: whole lines in order, from many threads, and never a wait for a slow stderr. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int saved_stderr;
static int ends[2];

/* stderr becomes a pipe. */
static int setup(void **state) {
    (void)state;
    saved_stderr = dup(STDERR_FILENO);
    if (saved_stderr < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    (void)fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    return dup2(ends[1], STDERR_FILENO) < 0 ? -1 : 0;
}

static int teardown(void **state) {
    (void)state;
    tower_log_stop();
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* All that has been written; the writer has been stopped. */
static char *read_log(void) {
    static char text[1 << 20];
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_lines_come_whole_and_in_order(void **state) {
    (void)state;
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), 0);
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), -EALREADY);
    tower_log(TOWER_LOG_INFO, "one", "number %d", 1);
    tower_log_deferred(TOWER_LOG_WARNING, "two", "numbers %lld and %lld", 2, 3, 0, 0);
    tower_log(TOWER_LOG_DEBUG, "three", "not at this level");
    tower_log(TOWER_LOG_ERROR, "four", "a line\nand a trick\r of %s", "a peer\x1b[2J");
    tower_log_stop();
    char *text = read_log();
    char *lines[8] = {0};
    int n = 0;
    for (char *line = strtok(text, "\n"); line && n < 8; line = strtok(NULL, "\n"))
        lines[n++] = line;
    assert_int_equal(n, 3);
    /* 2026-11-21T08:00:00.123Z, then level, room and text. */
    assert_string_equal(lines[0] + 24, " info    one: number 1");
    assert_string_equal(lines[1] + 24, " warning two: numbers 2 and 3");
    assert_string_equal(lines[2] + 24, " error   four: a line and a trick  of a peer [2J");
}

static void test_long_line_is_cut(void **state) {
    (void)state;
    char *text = malloc(5000);
    assert_non_null(text);
    memset(text, 'x', 4999);
    text[4999] = '\0';
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), 0);
    tower_log(TOWER_LOG_INFO, "room", "%s", text);
    tower_log_stop();
    size_t length = strlen(read_log());
    assert_in_range(length, 400, 450);
    free(text);
}

static void *log_much(void *arg) {
    for (int i = 0; i < 1000; i++)
        tower_log_deferred(TOWER_LOG_INFO, "thread", "writer %lld line %lld", (intptr_t)arg, i, 0,
                           0);
    return NULL;
}

static void test_every_line_is_written_or_counted(void **state) {
    (void)state;
    pthread_t threads[4];
    uint64_t before = tower_log_dropped();
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), 0);
    for (intptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    tower_log_stop();
    uint64_t lines = 0;
    for (char *at = strstr(read_log(), "writer "); at; at = strstr(at + 1, "writer "))
        lines++;
    assert_int_equal(lines + (tower_log_dropped() - before), 4000);
}

static void test_stderr_that_nobody_reads_holds_nobody(void **state) {
    (void)state;
    (void)fcntl(ends[0], F_SETPIPE_SZ, 4096);
    uint64_t before = tower_log_dropped();
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), 0);
    /* Far more than pipe and ring hold: this returns, so nobody waited. */
    for (int i = 0; i < 5000; i++)
        tower_log(TOWER_LOG_INFO, "room", "line %d", i);
    assert_true(tower_log_dropped() - before > 1000);
    /* The writer is stuck in a write; give it room, so that it can end. */
    (void)fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    (void)read_log();
    tower_log_stop();
}

/* A disk that is full, and then is not: here one that is full at a size. */
static void test_full_disk_loses_lines_and_says_so_once(void **state) {
    (void)state;
    char path[] = "/tmp/tower-test-log-XXXXXX";
    int fd = mkstemp(path);
    struct rlimit before, small;
    assert_true(fd >= 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    uint64_t lost_before = tower_log_dropped();
    assert_int_equal(tower_log_start(TOWER_LOG_INFO), 0);
    small = before;
    small.rlim_cur = 100; /* within the second line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 4; i++)
        tower_log(TOWER_LOG_INFO, "room", "line %d, which is long enough to be torn", i);
    while (tower_log_dropped() - lost_before < 3)
        sched_yield();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    tower_log(TOWER_LOG_INFO, "room", "there is room");
    tower_log(TOWER_LOG_INFO, "room", "and more");
    tower_log_stop();
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    char text[4096] = "";
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_int_equal(tower_log_dropped() - lost_before, 3);
    assert_non_null(strstr(text, "room: line 0, which"));
    assert_non_null(strstr(text, "Z info    room: there is room\n"));
    char *said = strstr(text, "3 lines before this one could not be written: ");
    assert_non_null(said);
    assert_null(strstr(strchr(said, '\n'), "could not be written"));
    assert_non_null(strstr(said, "room: and more\n"));
    /* The torn line does not run into the next. */
    char *next = strstr(text, "Z info    room: there is room\n");
    assert_int_equal(next[-24], '\n');
    close(fd);
    unlink(path);
}

static void test_levels_have_names(void **state) {
    (void)state;
    enum tower_log_level level = TOWER_LOG_ERROR;
    assert_int_equal(tower_log_level_parse("DEBUG", &level), 0);
    assert_int_equal(level, TOWER_LOG_DEBUG);
    assert_int_equal(tower_log_level_parse("loud", &level), -EINVAL);
    assert_int_equal(level, TOWER_LOG_DEBUG);
    assert_string_equal(tower_log_level_name(TOWER_LOG_WARNING), "warning");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_come_whole_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_line_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_line_is_written_or_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stderr_that_nobody_reads_holds_nobody, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_loses_lines_and_says_so_once, setup,
                                        teardown),
        cmocka_unit_test(test_levels_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
