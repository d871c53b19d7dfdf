/* Which title is a producer's, as another process finds it: whole, wherever that one was killed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "programme_title.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REGION_BYTES (sizeof(uint64_t) * 3 + 2 * sizeof(struct tower_programme_title))

static struct tower_programme_title make(uint64_t number, uint64_t number_ended, const char *text) {
    struct tower_programme_title title = {
        .number = number, .number_ended = number_ended, .bytes = strlen(text)};
    memcpy(title.text, text, title.bytes);
    return title;
}

static void assert_title(const struct tower_programme_title *title, uint64_t number,
                         uint64_t number_ended, const char *text) {
    assert_int_equal(title->number, number);
    assert_int_equal(title->number_ended, number_ended);
    assert_int_equal(title->bytes, strlen(text));
    assert_memory_equal(title->text, text, title->bytes);
}

/* As the next process finds it, where the newest title is number `newest`. */
static struct tower_programme_title reopen(struct tower_programme_titles *titles, uint64_t newest) {
    int fd = dup(titles->region.fd);
    struct tower_programme_title title;
    tower_programme_titles_done(titles);
    assert_int_equal(tower_programme_titles_open(titles, fd, newest, &title), 0);
    assert_int_equal(titles->region.fd, fd);
    return title;
}

static void test_the_last_is_found(void **state) {
    (void)state;
    struct tower_programme_titles titles = {0};
    struct tower_programme_title title;
    assert_int_equal(tower_programme_titles_open(&titles, -1, 0, &title), 0);
    assert_title(&title, 0, 0, "");
    title = reopen(&titles, 7);
    assert_title(&title, 0, 0, "");
    for (uint64_t i = 1; i < 5; i++) {
        struct tower_programme_title kept = make(i, 0, "Jupiter");
        tower_programme_titles_keep(&titles, &kept);
        title = reopen(&titles, i);
        assert_title(&title, i, 0, "Jupiter");
    }
    struct tower_programme_title kept = make(0, 6, "Jupiter");
    tower_programme_titles_keep(&titles, &kept);
    title = reopen(&titles, 9);
    assert_title(&title, 0, 6, "Jupiter");
    tower_programme_titles_done(&titles);
}

static void test_what_did_not_come_to_be_is_not_believed(void **state) {
    (void)state;
    struct tower_programme_titles titles = {0};
    struct tower_programme_title title;
    assert_int_equal(tower_programme_titles_open(&titles, -1, 0, &title), 0);
    struct tower_programme_title kept = make(3, 0, "Mars");
    tower_programme_titles_keep(&titles, &kept);
    kept = make(4, 0, "Venus");
    tower_programme_titles_keep(&titles, &kept);
    /* Killed before Venus was on air. Then another process is, too. */
    for (int i = 0; i < 2; i++) {
        title = reopen(&titles, 3);
        assert_title(&title, 3, 0, "Mars");
    }
    /* Now number 4 is somebody else's. */
    title = reopen(&titles, 4);
    assert_title(&title, 3, 0, "Mars");
    /* Killed before it was taken back. */
    kept = make(0, 5, "Mars");
    tower_programme_titles_keep(&titles, &kept);
    title = reopen(&titles, 4);
    assert_title(&title, 3, 0, "Mars");
    /* The titles themselves were lost. */
    title = reopen(&titles, 0);
    assert_title(&title, 0, 0, "Mars");
    tower_programme_titles_done(&titles);
}

static void test_what_does_not_hold(void **state) {
    (void)state;
    struct tower_programme_titles titles = {0};
    struct tower_programme_title title;
    assert_int_equal(tower_programme_titles_open(&titles, -1, 0, &title), 0);
    struct tower_programme_title kept = make(3, 0, "Mars");
    kept.bytes = sizeof kept.text + 1;
    tower_programme_titles_keep(&titles, &kept);
    title = reopen(&titles, 3);
    assert_title(&title, 3, 0, "");
    kept = make(3, 0, "M\xe4rz");
    tower_programme_titles_keep(&titles, &kept);
    title = reopen(&titles, 3);
    assert_title(&title, 3, 0, "");
    /* Any byte of it may be wrong: it opens, and what it says is in its bounds. */
    kept = make(3, 0, "Mars");
    tower_programme_titles_keep(&titles, &kept);
    int fd = dup(titles.region.fd);
    tower_programme_titles_done(&titles);
    for (off_t at = 0; at < (off_t)REGION_BYTES; at++) {
        unsigned char byte, wrong;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        wrong = byte ^ 0xa5;
        assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
        int mine = dup(fd);
        assert_int_equal(tower_programme_titles_open(&titles, mine, 3, &title), 0);
        assert_true(title.number <= 3 && title.number_ended <= 3 &&
                    title.bytes <= sizeof title.text);
        if (titles.region.fd != mine)
            assert_int_equal(close(mine), 0);
        tower_programme_titles_done(&titles);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_int_equal(tower_programme_titles_open(&titles, fd, 3, &title), 0);
    assert_int_not_equal(titles.region.fd, fd);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_title(&title, 0, 0, "");
    tower_programme_titles_done(&titles);
    (void)close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_is_found),
        cmocka_unit_test(test_what_did_not_come_to_be_is_not_believed),
        cmocka_unit_test(test_what_does_not_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
