/* test_source_users.c - who may be a source client, under which name, and how often they may guess.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "password_guard.h"
#include "source_users.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S_NS INT64_C(1000000000)

static struct tower_source_users users;

static int set_up(void **state) {
    (void)state;
    memset(&users, 0, sizeof users);
    return 0;
}

static const char *add(const char *line) {
    return tower_source_users_add_line(&users, line, strlen(line));
}

static const struct tower_source_user *find(const char *user, const char *password) {
    struct tower_credentials given = {(const unsigned char *)user, strlen(user),
                                      (const unsigned char *)password, strlen(password)};
    return tower_source_users_find(&users, &given);
}

static void nobody_is_let_in_where_nobody_is_named(void **state) {
    (void)state;
    assert_null(find("source", ""));
    assert_null(find("", ""));
    assert_null(find("source", "hackme"));
    assert_int_equal(tower_source_users_add_password(&users, ""), -EINVAL);
    assert_int_equal(users.n, 0);
}

static void the_single_password_is_good_with_any_name(void **state) {
    (void)state;
    assert_int_equal(tower_source_users_add_password(&users, "hackme"), 0);
    assert_non_null(find("source", "hackme"));
    assert_non_null(find("", "hackme"));
    static const char *const wrong[] = {"",       "hackm", "hackmee", "hackmehackme",
                                        "Hackme", "h",     "hackme "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_null(find("source", wrong[i]));
    assert_true(tower_source_user_may(find("", "hackme"), "anything"));
}

static void a_user_needs_his_own_password(void **state) {
    (void)state;
    assert_null(add("# who may"));
    assert_null(add(""));
    assert_null(add("alice:wonder"));
    assert_null(add("bob:build er:/live.mp3,Studio"));
    assert_int_equal(users.n, 2);
    assert_non_null(find("alice", "wonder"));
    assert_null(find("alice", "build er"));
    assert_null(find("bob", "wonder"));
    assert_null(find("alic", "wonder"));
    assert_null(find("alicealice", "wonder"));
    assert_null(find("", "wonder"));
    assert_true(tower_source_user_may(find("alice", "wonder"), "studio"));
    const struct tower_source_user *bob = find("bob", "build er");
    assert_non_null(bob);
    assert_true(tower_source_user_may(bob, "live"));
    assert_true(tower_source_user_may(bob, "studio"));
    assert_false(tower_source_user_may(bob, "stud"));
    assert_false(tower_source_user_may(bob, "playlist"));
}

static void a_bad_line_is_named_and_adds_nothing(void **state) {
    (void)state;
    static const char *const bad[] = {"alice",
                                      "alice:",
                                      ":secret",
                                      "alice:s:",
                                      "alice:s:,live",
                                      "alice:s:live,",
                                      "alice:s:a/b",
                                      "alice:s:/",
                                      "al\tice:s",
                                      "alice:s\x7f",
                                      "alice:s:f\xc3\xbcr",
                                      "alice::live",
                                      "alice:s:1,2,3,4,5,6,7,8,9"};
    char line[400];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!add(bad[i]))
            fail_msg("%s was taken", bad[i]);
        assert_null(strstr(add(bad[i]), "alice"));
    }
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    line[64] = ':';
    assert_non_null(add(line));
    line[64] = 'x';
    line[1] = ':';
    assert_non_null(add(line));
    line[2 + 255] = '\0';
    assert_null(add(line));
    assert_non_null(add("x:again"));
    assert_int_equal(users.n, 1);
    for (int i = 1; i < TOWER_SOURCE_USERS_MAX; i++) {
        (void)snprintf(line, sizeof line, "user%d:secret", i);
        assert_null(add(line));
    }
    assert_non_null(add("one:more"));
    assert_int_equal(tower_source_users_add_password(&users, "shared"), 0);
    assert_int_equal(tower_source_users_add_password(&users, "shared"), -ENOSPC);
}

static void a_mount_is_a_producers_name(void **state) {
    (void)state;
    static const struct {
        const char *mount;
        const char *name; /* NULL: none */
    } cases[] = {
        {"/live", "live"},
        {"live", "live"},
        {"/stream", "live"},
        {"/stream.mp3", "live"},
        {"/LIVE.OGG", "live"},
        {"/live.opus", "live"},
        {"/live.flac", "live"},
        {"/live.aac", "live"},
        {"/Studio-2.ogg", "studio-2"},
        {"/studio.2", "studio.2"},
        {"/a", "a"},
        {"/.mp3", ".mp3"},
        {"/12345678901234567890123456789012.mp3", "12345678901234567890123456789012"},
        {"/123456789012345678901234567890123", NULL},
        {"/", NULL},
        {"", NULL},
        {"//live", NULL},
        {"/a/b", NULL},
        {"/a b", NULL},
        {"/a%20b", NULL},
        {"/f\xc3\xbcr", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[TOWER_PRODUCER_NAME_BYTES] = "before";
        int ret = tower_source_mount_name(cases[i].mount, strlen(cases[i].mount), name);
        if (ret != (cases[i].name ? 0 : -EINVAL) ||
            strcmp(name, cases[i].name ? cases[i].name : "before") != 0)
            fail_msg("%s: %d %s", cases[i].mount, ret, name);
    }
}

/* ---- guessing ---- */

static struct tower_password_guard guard;

static int set_up_guard(void **state) {
    (void)state;
    memset(&guard, 0, sizeof guard);
    guard.first_ns = S_NS;
    return 0;
}

static const struct sockaddr *at(const char *text) {
    static struct sockaddr_storage address;
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&address;
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1)
        address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &ipv6->sin6_addr) == 1)
        address.ss_family = AF_INET6;
    return (const struct sockaddr *)&address;
}

static void each_wrong_one_in_a_row_costs_twice_as_long(void **state) {
    (void)state;
    static const int64_t seconds[] = {1, 2, 4, 8, 16, 30, 30, 30};
    int64_t now_ns = 5 * S_NS;
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        assert_int_equal(tower_password_guard_wait_ns(&guard, at("192.0.2.1"), now_ns), 0);
        assert_int_equal(tower_password_guard_wrong(&guard, at("192.0.2.1"), now_ns),
                         seconds[i] * S_NS);
        assert_int_equal(tower_password_guard_wait_ns(&guard, at("192.0.2.1"), now_ns + S_NS / 2),
                         seconds[i] * S_NS - S_NS / 2);
        now_ns += seconds[i] * S_NS;
    }
    assert_int_equal(tower_password_guard_wrong(&guard, at("192.0.2.1"), now_ns + 700 * S_NS),
                     S_NS);
    tower_password_guard_right(&guard, at("192.0.2.1"));
    assert_int_equal(tower_password_guard_wait_ns(&guard, at("192.0.2.1"), now_ns), 0);
    assert_int_equal(tower_password_guard_wrong(&guard, at("192.0.2.1"), now_ns), S_NS);
}

static void others_are_not_held_up(void **state) {
    (void)state;
    (void)tower_password_guard_wrong(&guard, at("192.0.2.1"), 0);
    (void)tower_password_guard_wrong(&guard, at("2001:db8:1:1::1"), 0);
    assert_int_equal(tower_password_guard_wait_ns(&guard, at("192.0.2.2"), 1), 0);
    assert_int_equal(tower_password_guard_wait_ns(&guard, at("2001:db8:2:1::1"), 1), 0);
    assert_true(tower_password_guard_wait_ns(&guard, at("2001:db8:1:2::1"), 1) > 0);
    assert_true(tower_password_guard_wait_ns(&guard, at("2001:db8:1:1::2"), 1) > 0);
    assert_true(tower_password_guard_wait_ns(&guard, at("::ffff:192.0.2.1"), 1) > 0);
}

static void the_table_is_bounded_and_forgets_the_oldest(void **state) {
    (void)state;
    char text[INET_ADDRSTRLEN];
    for (int i = 0; i <= TOWER_PASSWORD_GUARD_PLACES; i++) {
        (void)snprintf(text, sizeof text, "10.0.%d.%d", i / 256, i % 256);
        assert_int_equal(tower_password_guard_wrong(&guard, at(text), i), S_NS);
    }
    assert_int_equal(tower_password_guard_wait_ns(&guard, at("10.0.0.0"), 300), 0);
    assert_true(tower_password_guard_wait_ns(&guard, at("10.0.0.1"), 300) > 0);
    assert_true(tower_password_guard_wait_ns(&guard, at("10.0.1.0"), 300) > 0);
}

static void where_it_is_off_nobody_is_held_up(void **state) {
    (void)state;
    guard.first_ns = 0;
    assert_int_equal(tower_password_guard_wrong(&guard, at("192.0.2.1"), 0), 0);
    assert_int_equal(tower_password_guard_wait_ns(&guard, at("192.0.2.1"), 0), 0);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
#define TEST_GUARD(name) cmocka_unit_test_setup(name, set_up_guard)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nobody_is_let_in_where_nobody_is_named),
        TEST(the_single_password_is_good_with_any_name),
        TEST(a_user_needs_his_own_password),
        TEST(a_bad_line_is_named_and_adds_nothing),
        TEST(a_mount_is_a_producers_name),
        TEST_GUARD(each_wrong_one_in_a_row_costs_twice_as_long),
        TEST_GUARD(others_are_not_held_up),
        TEST_GUARD(the_table_is_bounded_and_forgets_the_oldest),
        TEST_GUARD(where_it_is_off_nobody_is_held_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
