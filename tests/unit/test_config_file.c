/* test_config_file.c - the settings' file, and the files of passwords. */
#include "config_fixture.h"
#include "source_users.h"
#include "utf8.h"

#include <sys/stat.h>

static void test_what_a_file_may_look_like(void **state) {
    (void)state;
    static const char *const texts[] = {
        "port = 9\nhost = ::1\n",
        "port = 9\r\nhost = ::1\r\n",
        "port = 9\nhost = ::1",
        "\xef\xbb\xbfport = 9\nhost = ::1\n",
        "\xef\xbb\xbf[tower]\nport = 9\nhost = ::1\n",
        "[tower]\nport=9\nhost=::1\n",
        "  [tower]  ; ours\n\tport = 9 ; on air\n    host = ::1\n",
        "port: 9\n[tower]\nhost = ::1\n",
        "# a\n; b\n\n   \n\t\r\nport = 9\n\n[tower] # x\nhost = ::1   \t\n;",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        (void)begin(NULL);
        if (read_text(texts[i]) != 0)
            fail_msg("%s: %s", texts[i], error);
        assert_int_equal(config.port, 9);
        assert_string_equal(config.host, "::1");
    }
    (void)begin(NULL);
    assert_int_equal(read_text(""), 0);
    assert_int_equal(read_text("fallback =\n"), 0);
    assert_int_equal(origin_of("fallback"), TOWER_CONFIG_FILE);
}

static void test_lines_of_the_file_that_are_refused(void **state) {
    (void)state;
    assert_file_refused("\n\nport = 1\n\n\n\nbitrate = 129k\n",
                        "station.ini:7: bitrate = 129k: expected " BITRATES);
    assert_file_refused("\n\nprot = 1\nport = 99999\n",
                        "station.ini:3: unknown setting 'prot' (did you mean 'port'?)");
    assert_file_refused("max-listeners = 1\n",
                        "station.ini:1: unknown setting 'max-listeners' (did you mean "
                        "'max_listeners'?)");
    assert_file_refused("colour = blue\n", "station.ini:1: unknown setting 'colour' (see 'tower "
                                           "serve --help' for all of them)");
    assert_file_refused("= 5\n", "station.ini:1: unknown setting '' (see 'tower serve --help' for "
                                 "all of them)");
    assert_file_refused("port = 1\nhost = a\nport = 2\n",
                        "station.ini:3: port = 2: expected port only once, line 1 has it too");
    assert_file_refused("port = 1\n[tower]\nport = 1\n",
                        "station.ini:3: port = 1: expected port only once, line 1 has it too");
    assert_file_refused("port\n", "station.ini:1: 'port': expected key = value, [tower] or a "
                                  "comment");
    assert_file_refused("port = 1\r\n\r\njunk\r\nport = 99999\r\n",
                        "station.ini:3: 'junk?': expected key = value, [tower] or a comment");
    assert_file_refused("port = 1\nlast", "station.ini:2: 'last': expected key = value, [tower] or "
                                          "a comment");
    assert_file_refused("port =\n", "station.ini:1: port = : expected a port from 0 to 65535");
    assert_file_refused("port = ; 80\n", "station.ini:1: port = : expected a port from 0 to 65535");
    assert_file_refused("port = 80 81\n",
                        "station.ini:1: port = 80 81: expected a port from 0 to 65535");
    /* inih would take the second line for more of the first. */
    assert_file_refused("host = a\n  b\n",
                        "station.ini:2: 'b': expected key = value, [tower] or a comment");
    assert_file_refused("grace = soon\n", "station.ini:1: grace = soon: expected a number of "
                                          "seconds from 0 to 86400, such as 5 or 2.5");
    /* The first one ends it. */
    assert_file_refused("port = a\nport = b\nnonsense\n[no]\n",
                        "station.ini:1: port = a: expected a port from 0 to 65535");
}

static void test_sections_that_are_refused(void **state) {
    (void)state;
    assert_file_refused("port = 1\n[towel]\nport = 2\n",
                        "station.ini:2: unknown section '[towel]': expected [tower]");
    assert_file_refused("[empty]\n", "station.ini:1: unknown section '[empty]': expected [tower]");
    assert_file_refused("[]\n", "station.ini:1: unknown section '[]': expected [tower]");
    assert_file_refused("[tower\n", "station.ini:1: unknown section '[tower': expected [tower]");
    assert_file_refused("[tower] port = 1\n",
                        "station.ini:1: unknown section '[tower] port = 1': expected [tower]");
    assert_file_refused("[tow]\n", "station.ini:1: unknown section '[tow]': expected [tower]");
}

static void test_an_error_is_one_line_of_bounded_length(void **state) {
    (void)state;
    assert_file_refused("port = a\x1b[2Jb\n",
                        "station.ini:1: port = a?[2Jb: expected a port from 0 to 65535");
    /* Nor such as stand in two bytes, nor what is no UTF-8; a cut falls between characters. */
    assert_file_refused("port = \xc3\xa9\xc2\x9b\xe9\n",
                        "station.ini:1: port = \xc3\xa9??: expected a port from 0 to 65535");
    char text[2000] = "port = ";
    for (size_t i = 7; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    assert_int_equal(read_text(text), -EINVAL);
    assert_true(tower_utf8_is_valid(error, strlen(error)));
    text[7] = 'a';
    memmove(text + 8, text + 9, sizeof text - 9);
    assert_int_equal(read_text(text), -EINVAL);
    assert_true(tower_utf8_is_valid(error, strlen(error)));
    memset(text, 'a', sizeof text);
    memcpy(text, "port = ", 7);
    text[sizeof text - 1] = '\0';
    assert_int_equal(read_text(text), -EINVAL);
    assert_true(strlen(error) < 700);
    assert_null(strchr(error, '\n'));
    assert_non_null(strstr(error, "aaa...: expected a port from 0 to 65535"));
    /* And into however little room there is. */
    char small[8] = "1234567";
    assert_int_equal(tower_config_read_file(&config, "station.ini", small, 4), -EINVAL);
    assert_string_equal(small, "sta");
    assert_string_equal(small + 4, "567");
}

static void test_a_huge_line_is_refused_where_it_is(void **state) {
    (void)state;
    size_t length = 1 << 20;
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'x', length);
    memcpy(text, "port = 1\n", 9);
    assert_int_equal(read_bytes(text, length), -EINVAL);
    assert_memory_equal(error, "station.ini:2: 'xxx", 19);
    memcpy(text + 9 + 31, "\xc3\xa9", 2);
    assert_int_equal(read_bytes(text, length), -EINVAL);
    assert_true(tower_utf8_is_valid(error, strlen(error)));
    assert_non_null(strstr(error, "expected a line of at most "));
    assert_untouched();
    memset(text, ' ', length);
    assert_int_equal(read_bytes(text, length), 0);
    free(text);
}

static void test_a_path_as_long_as_a_setting_takes_fits_in_a_line(void **state) {
    (void)state;
    char text[TOWER_CONFIG_PATH_BYTES + 32] = "fallback = ";
    memset(text + 11, 'p', TOWER_CONFIG_PATH_BYTES - 1);
    assert_int_equal(read_text(text), 0);
    assert_int_equal(strlen(config.fallback_path), TOWER_CONFIG_PATH_BYTES - 1);
}

static void test_bytes_that_are_no_text(void **state) {
    (void)state;
    assert_int_equal(read_bytes("port = 1\n\0\n", 11), -EINVAL);
    assert_string_equal(error, "station.ini:2: a NUL byte: expected a text file");
    assert_untouched();
    assert_int_equal(tower_config_read_file(&config, "/dev/zero", error, sizeof error), -EINVAL);
    assert_string_equal(error, "/dev/zero:1: a NUL byte: expected a text file");
    assert_int_equal(tower_config_read_file(&config, "/dev/null", error, sizeof error), 0);
}

static void test_files_that_cannot_be_read(void **state) {
    (void)state;
    assert_int_equal(tower_config_read_file(&config, "missing.ini", error, sizeof error), -ENOENT);
    assert_string_equal(error, "missing.ini: cannot be read: No such file or directory: expected a "
                               "config file");
    assert_int_equal(tower_config_read_file(&config, "/tmp", error, sizeof error), -EISDIR);
    assert_string_equal(error, "/tmp: cannot be read: Is a directory: expected a config file");
    assert_int_equal(tower_config_read_file(&config, "", error, sizeof error), -EINVAL);
    if (geteuid() != 0) {
        write_text("station.ini", "");
        assert_int_equal(chmod("station.ini", 0), 0);
        assert_int_equal(tower_config_read_file(&config, "station.ini", error, sizeof error),
                         -EACCES);
    }
    assert_untouched();
}

static void test_whatever_is_in_the_file_it_is_taken_or_refused_with_a_line(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "port",     "=",   "8005",  " ",   "\n",      "[",    "tower", "]",
        ";",        "#",   "\r\n",  ":",   "bitrate", "128k", "\t",    "\xef\xbb\xbf",
        "fallback", "-18", "grace", "0.5", "\x80",    "\x01", ","};
    const size_t n_pieces = sizeof pieces / sizeof *pieces;
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        char text[512] = "";
        size_t length = 0;
        unsigned count = (seed >> 16) % 40;
        for (unsigned i = 0; i < count; i++) {
            seed = seed * 1664525u + 1013904223u;
            const char *piece = pieces[(seed >> 16) % n_pieces];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
        seed = seed * 1664525u + 1013904223u;
        tower_config_init(&config);
        error[0] = '\0';
        int ret = read_bytes(text, length);
        if (ret == 0) {
            assert_string_equal(error, "");
            continue;
        }
        assert_int_equal(ret, -EINVAL);
        assert_int_equal(strncmp(error, "station.ini:", 12), 0);
        assert_untouched();
    }
}

static void test_a_password_file_has_the_password_in_its_first_line(void **state) {
    (void)state;
    char password[TOWER_CONFIG_PASSWORD_BYTES] = "before";
    assert_int_equal(tower_config_read_password(&config, password, error, sizeof error), 0);
    assert_string_equal(password, "");
    static const char *const good[][2] = {
        {"hackme", "hackme"}, {"hackme\n", "hackme"}, {" a b \r\nmore\n", " a b "}};
    assert_int_equal(read_text("password_file = secret\n"), 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        write_text("secret", good[i][0]);
        assert_int_equal(tower_config_read_password(&config, password, error, sizeof error), 0);
        assert_string_equal(password, good[i][1]);
    }
    char longest[TOWER_CONFIG_PASSWORD_BYTES + 1] = "";
    memset(longest, 'x', TOWER_CONFIG_PASSWORD_BYTES - 1);
    write_text("secret", longest);
    assert_int_equal(tower_config_read_password(&config, password, error, sizeof error), 0);
    assert_string_equal(password, longest);
    longest[TOWER_CONFIG_PASSWORD_BYTES - 1] = 'x';
    const char *const bad[] = {"", "\n", "\nhackme\n", "hack\tme\n", longest};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("secret", bad[i]);
        assert_int_equal(tower_config_read_password(&config, password, error, sizeof error),
                         -EINVAL);
        assert_null(strstr(error, "hack"));
    }
    assert_string_equal(error, "station.ini:1: password_file = secret: No password in its first "
                               "line: expected a file whose first line is a password of 1 to 255 "
                               "bytes");
    /* Told at once, not when somebody sets a title. */
    (void)unlink("secret");
    assert_int_equal(read_arguments("--password-file secret"), -ENOENT);
}

/* The users there are, or -1, with what is said of the failure in `error`. */
static int read_users(void) {
    static struct tower_source_users users;
    memset(&users, 0, sizeof users);
    int ret = tower_config_read_source_users(&config, &users, error, sizeof error);
    assert_true(ret <= 0);
    return ret < 0 ? -1 : (int)users.n;
}

static void test_source_clients_have_a_password_or_one_each(void **state) {
    (void)state;
    (void)unsetenv("TOWER_SOURCE_PASSWORD");
    assert_int_equal(read_users(), 0);
    (void)setenv("TOWER_SOURCE_PASSWORD", "", 1);
    assert_int_equal(read_users(), 0);
    (void)setenv("TOWER_SOURCE_PASSWORD", "hack\tme", 1);
    assert_int_equal(read_users(), -1);
    assert_string_equal(error, "TOWER_SOURCE_PASSWORD is no password: expected 1 to 255 bytes "
                               "without control characters");
    (void)setenv("TOWER_SOURCE_PASSWORD", "hackme", 1);
    assert_int_equal(read_users(), 1);
    assert_int_equal(read_text("source_password_file = secret\nsource_users_file = users\n"), 0);
    write_text("secret", "sesame\n");
    write_text("users", "# us\r\nalice:wonder\r\n\nbob:builder:live,studio");
    assert_int_equal(read_users(), 3);
    assert_int_equal(tower_config_read_source_users(&config, NULL, error, sizeof error), 0);
    static const struct {
        const char *users;
        const char *says;
    } bad[] = {
        {"", "no user in it"},
        {"# nobody\n", "no user in it"},
        {"alice:wonder\nbob\n", "line 2 has no user:password"},
        {"alice:wonder\n\nalice:land\n", "line 3 has a user who is there already"},
        {"alice:won\tder\n", "line 1 has a control character"},
        {"alice:wonder:a/b\n", "line 1 has a mount"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("users", bad[i].users);
        assert_int_equal(read_users(), -1);
        assert_int_equal(strncmp(error, "station.ini:2: source_users_file = users: ", 42), 0);
        assert_non_null(strstr(error, bad[i].says));
        assert_null(strstr(error, "won"));
        assert_null(strchr(error, '\n'));
    }
    write_text("users", "alice:wonder\n");
    write_text("secret", "\n");
    assert_int_equal(read_users(), -1);
    assert_non_null(strstr(error, "source_password_file = secret: No password in its first line"));
    (void)unlink("users");
    assert_int_equal(read_users(), -1);
    assert_non_null(strstr(error, "No such file"));
    (void)unlink("secret");
    assert_int_equal(read_arguments("--source-users-file users"), -ENOENT);
    (void)unsetenv("TOWER_SOURCE_PASSWORD");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_what_a_file_may_look_like),
        TEST(test_lines_of_the_file_that_are_refused),
        TEST(test_sections_that_are_refused),
        TEST(test_an_error_is_one_line_of_bounded_length),
        TEST(test_a_huge_line_is_refused_where_it_is),
        TEST(test_a_path_as_long_as_a_setting_takes_fits_in_a_line),
        TEST(test_bytes_that_are_no_text),
        TEST(test_files_that_cannot_be_read),
        TEST(test_whatever_is_in_the_file_it_is_taken_or_refused_with_a_line),
        TEST(test_a_password_file_has_the_password_in_its_first_line),
        TEST(test_source_clients_have_a_password_or_one_each),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
