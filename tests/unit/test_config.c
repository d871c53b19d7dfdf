/* test_config.c - the settings: four layers, the file, every error line. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "settings.h"
#include "source_users.h"
#include "tower/config.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USAGE "Usage: tower test\n"
#define BITRATES                                                                                   \
    "one of 32k, 40k, 48k, 56k, 64k, 80k, 96k, 112k, 128k, 160k, 192k, 224k, 256k, 320k"

/* ---- helpers ---- */

static char folder[] = "/tmp/tower-test-config-XXXXXX";
static struct tower_config config;
static char error[1024];

/* Every test begins in an empty folder, with no TOWER_* variable, at the defaults. */
static int begin(void **state) {
    (void)state;
    for (size_t i = 0; i < tower_settings_count; i++)
        (void)unsetenv(tower_settings[i].variable);
    (void)unsetenv("TOWER_CONFIG");
    (void)setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
    (void)unlink("station.ini");
    tower_config_init(&config);
    error[0] = '\0';
    return 0;
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink("station.ini");
    (void)unlink("jingle.mp3");
    (void)unlink("secret");
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

static int read_bytes(const void *bytes, size_t length) {
    write_bytes("station.ini", bytes, length);
    return tower_config_read_file(&config, "station.ini", error, sizeof error);
}

static int read_text(const char *text) {
    return read_bytes(text, strlen(text));
}

static int read_environment(void) {
    return tower_config_read_environment(&config, error, sizeof error);
}

/* Parses "serve" and the words of `line`. */
static int read_arguments(const char *line) {
    char words[512];
    char *argv[32];
    int argc = 0;
    assert_true(strlen(line) + sizeof "serve " < sizeof words);
    (void)snprintf(words, sizeof words, "serve %s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return tower_config_read_arguments(&config, argc, argv, USAGE, error, sizeof error);
}

/* What failed left no trace. */
static void assert_untouched(void) {
    struct tower_config fresh;
    tower_config_init(&fresh);
    assert_memory_equal(&config, &fresh, sizeof fresh);
}

static void assert_file_refused(const char *text, const char *line) {
    (void)begin(NULL);
    assert_int_equal(read_text(text), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
}

static void assert_variable_refused(const char *name, const char *value, const char *line) {
    (void)begin(NULL);
    assert_int_equal(setenv(name, value, 1), 0);
    assert_int_equal(read_environment(), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
    (void)unsetenv(name);
}

static void assert_arguments_refused(const char *arguments, const char *line) {
    (void)begin(NULL);
    assert_int_equal(read_arguments(arguments), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
}

static enum tower_config_origin origin_of(const char *key) {
    return config.from[tower_setting_find(key)].origin;
}

static char *printed(void) {
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    tower_config_print(&config, stream);
    assert_int_equal(fclose(stream), 0);
    return text;
}

static void assert_same_settings(const struct tower_config *a, const struct tower_config *b) {
    struct tower_config x = *a, y = *b;
    memset(x.from, 0, sizeof x.from);
    memset(y.from, 0, sizeof y.from);
    memset(x.file_path, 0, sizeof x.file_path);
    memset(y.file_path, 0, sizeof y.file_path);
    assert_memory_equal(&x, &y, sizeof x);
}

/* ---- the layers ---- */

static void test_defaults(void **state) {
    (void)state;
    assert_string_equal(config.host, "127.0.0.1");
    assert_int_equal(config.port, 8005);
    assert_string_equal(config.socket_path, "/run/user/77/tower/pcm.sock");
    assert_int_equal(config.encoder, TOWER_ENCODER_LAME);
    assert_int_equal(config.bitrate_bps, 128000);
    assert_string_equal(config.fallback_path, "");
    assert_string_equal(config.ffmpeg, "ffmpeg");
    assert_true(config.tone_hz == 440.0);
    assert_true(config.tone_dbfs == -18.0);
    assert_int_equal(config.frame_samples, 1152);
    assert_int_equal(config.buffer_frames, 100);
    assert_int_equal(config.cushion_frames, 2);
    assert_int_equal(config.grace_ns, INT64_C(5000000000));
    assert_string_equal(config.priorities, "live playlist");
    assert_int_equal(config.settle_ns, 3 * TOWER_NS_PER_S);
    assert_int_equal(config.fade_ns, INT64_C(200000000));
    assert_int_equal(config.resync_after_ns, INT64_C(250000000));
    assert_int_equal(config.burst_ns, INT64_C(2000000000));
    assert_int_equal(config.client_timeout_ns, INT64_C(15000000000));
    assert_int_equal(config.client_buffer_bytes, 65536);
    assert_int_equal(config.max_listeners, 0);
    assert_int_equal(config.max_taps, 16);
    assert_int_equal(config.workers, 0);
    assert_int_equal(config.cadence_ns, 0);
    const int64_t backoff_s[] = {1, 2, 4, 8, 10};
    assert_int_equal(config.encoder_backoff_count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(config.encoder_backoff_ns[i], backoff_s[i] * TOWER_NS_PER_S);
    assert_int_equal(config.encoder_max_restarts, 5);
    assert_true(config.is_realtime);
    assert_int_equal(config.log_level, TOWER_LOG_INFO);
    for (size_t i = 0; i < tower_settings_count; i++)
        assert_int_equal(config.from[i].origin, TOWER_CONFIG_DEFAULT);
}

static void test_a_flag_beats_the_environment_beats_the_file_beats_the_default(void **state) {
    (void)state;
    write_text("station.ini", "port = 1\nbitrate = 64k\ngrace = 1\n");
    (void)setenv("TOWER_PORT", "2", 1);
    (void)setenv("TOWER_PCM_GRACE_SEC", "2", 1);
    assert_int_equal(read_arguments("--port 3 --config station.ini"), 0);
    assert_int_equal(config.port, 3);
    assert_int_equal(config.grace_ns, 2 * TOWER_NS_PER_S);
    assert_int_equal(config.bitrate_bps, 64000);
    assert_int_equal(config.max_listeners, 0);
    assert_int_equal(origin_of("port"), TOWER_CONFIG_FLAG);
    assert_int_equal(origin_of("grace"), TOWER_CONFIG_ENVIRONMENT);
    assert_int_equal(origin_of("bitrate"), TOWER_CONFIG_FILE);
    assert_int_equal(config.from[tower_setting_find("bitrate")].line, 2);
    assert_int_equal(origin_of("max_listeners"), TOWER_CONFIG_DEFAULT);
    assert_string_equal(config.file_path, "station.ini");
}

static void test_the_file_can_be_named_by_a_variable_which_the_flag_beats(void **state) {
    (void)state;
    write_text("station.ini", "port = 1\n");
    (void)setenv("TOWER_CONFIG", "station.ini", 1);
    assert_int_equal(read_arguments(""), 0);
    assert_int_equal(config.port, 1);
    (void)setenv("TOWER_CONFIG", "missing.ini", 1);
    assert_int_equal(read_arguments("--config station.ini"), 0);
    assert_int_equal(read_arguments(""), -ENOENT);
    assert_string_equal(error, "TOWER_CONFIG=missing.ini: cannot be read: No such file or "
                               "directory: expected a config file");
    (void)setenv("TOWER_CONFIG", "", 1);
    assert_int_equal(read_arguments(""), 0);
}

static void test_every_setting_has_its_key_its_variable_and_its_flag(void **state) {
    (void)state;
    write_text("jingle.mp3", "x");
    write_text("users", "alice:wonder\n");
    write_text("secret", "hackme\n");
    static const char *const values[][2] = {
        {"host", "0.0.0.0"},
        {"port", "80"},
        {"socket", "/tmp/pcm.sock"},
        {"encoder", "ffmpeg"},
        {"bitrate", "320k"},
        {"fallback", "jingle.mp3"},
        {"tone_frequency", "1000.5"},
        {"tone_level", "-12.25"},
        {"frame_samples", "1024"},
        {"buffer_frames", "7"},
        {"cushion_frames", "0"},
        {"grace", "0.125"},
        {"priorities", "studio,live"},
        {"settle", "0.5"},
        {"fade_ms", "5000"},
        {"dead_air_after", "0.5"},
        {"dead_air_dbfs", "-45.5"},
        {"dead_air_action", "fallback"},
        {"resync_after_ms", "0"},
        {"burst_ms", "1"},
        {"client_timeout_ms", "100"},
        {"client_buffer_bytes", "4096"},
        {"max_listeners", "1"},
        {"max_listeners_per_address", "20"},
        {"max_taps", "0"},
        {"workers", "3"},
        {"cadence_ms", "auto"},
        {"encoder_backoff_ms", "1,3600000"},
        {"encoder_max_restarts", "0"},
        {"name", "Bj\xc3\xb6rk"},
        {"description", "all-day;all-night"},
        {"genre", "various"},
        {"url", "https://radio.example"},
        {"public_url", "http://[::1]:8000/live"},
        {"password_file", "secret"},
        {"source_password_file", "secret"},
        {"source_users_file", "users"},
        {"journal", "incidents.json"},
        {"journal_bytes", "4096"},
        {"server_header", "no"},
        {"ffmpeg", "/opt/ffmpeg"},
        {"realtime", "no"},
        {"keeper", "no"},
        {"log_level", "debug"},
    };
    assert_int_equal(sizeof values / sizeof *values, tower_settings_count);
    for (size_t i = 0; i < tower_settings_count; i++) {
        const char *key = values[i][0], *value = values[i][1];
        struct tower_config by_file, by_variable;
        char line[128];
        assert_string_equal(tower_settings[i].key, key);
        (void)begin(NULL);
        (void)snprintf(line, sizeof line, "%s = %s\n", key, value);
        assert_int_equal(read_text(line), 0);
        by_file = config;
        (void)begin(NULL);
        (void)setenv(tower_settings[i].variable, value, 1);
        assert_int_equal(read_environment(), 0);
        by_variable = config;
        (void)begin(NULL);
        (void)snprintf(line, sizeof line, "%s %s", tower_settings[i].flag, value);
        assert_int_equal(read_arguments(line), 0);
        assert_same_settings(&by_file, &by_variable);
        assert_same_settings(&by_file, &config);
        assert_int_equal(by_file.from[i].origin, TOWER_CONFIG_FILE);
        assert_int_equal(by_variable.from[i].origin, TOWER_CONFIG_ENVIRONMENT);
        assert_int_equal(config.from[i].origin, TOWER_CONFIG_FLAG);

        /* And it is this setting that it sets, to this value. */
        (void)snprintf(line, sizeof line, "\n%s = %s  ; %s\n", key, value, tower_settings[i].flag);
        char *text = printed();
        char before_text[32768];
        (void)snprintf(before_text, sizeof before_text, "\n%s", text);
        assert_non_null(strstr(before_text, line));
        free(text);
    }
}

/* ---- the file ---- */

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
    int ret = read_text(text);
    if (ret < 0 && strstr(error, "expected a line of at most"))
        skip(); /* an inih whose lines are fixed in length */
    assert_int_equal(ret, 0);
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

/* ---- the environment ---- */

static void test_variables_that_are_refused(void **state) {
    (void)state;
    assert_variable_refused("TOWER_PORT", "99999",
                            "TOWER_PORT=99999: expected a port from 0 to 65535");
    assert_variable_refused("TOWER_BITRATE", "129k", "TOWER_BITRATE=129k: expected " BITRATES);
    assert_variable_refused("TOWER_ENCODER", "opus", "TOWER_ENCODER=opus: expected lame or ffmpeg");
    assert_variable_refused("TOWER_LOG_LEVEL", "loud",
                            "TOWER_LOG_LEVEL=loud: expected one of "
                            "error, warning, info, debug");
    assert_variable_refused("TOWER_REALTIME", "maybe", "TOWER_REALTIME=maybe: expected yes or no");
    assert_variable_refused("TOWER_FRAME_SAMPLES", "512",
                            "TOWER_FRAME_SAMPLES=512: expected 1024 or 1152");
    assert_variable_refused("TOWER_PCM_BUFFER_SIZE", "0",
                            "TOWER_PCM_BUFFER_SIZE=0: expected a "
                            "whole number from 1 to 100000");
    assert_variable_refused("TOWER_TONE_LEVEL", "6",
                            "TOWER_TONE_LEVEL=6: expected a level in dBFS "
                            "from -90 to 0, such as -18 or -12.5");
    assert_variable_refused("TOWER_TONE_FREQUENCY", "5",
                            "TOWER_TONE_FREQUENCY=5: expected a frequency in Hz from 20 to 20000, "
                            "or 0 for silence");
    assert_variable_refused("TOWER_BURST_MS", "2s",
                            "TOWER_BURST_MS=2s: expected a whole number of "
                            "milliseconds from 0 to 10000");
    assert_variable_refused("TOWER_ENCODER_BACKOFF_MS", "1,x",
                            "TOWER_ENCODER_BACKOFF_MS=1,x: expected 1 to 16 whole numbers of "
                            "milliseconds from 1 to 3600000 with commas between, such as "
                            "1000,2000");
    assert_variable_refused("TOWER_HOST", "a b",
                            "TOWER_HOST=a b: expected an address or a name of "
                            "1 to 255 bytes, without white space");
    assert_variable_refused("TOWER_SOCKET_PATH", " x",
                            "TOWER_SOCKET_PATH= x: expected a path of 1 to 107 bytes, without "
                            "control characters, a space at either end, or a ';' at its start or "
                            "after a space");
    assert_variable_refused("TOWER_SILENCE_MP3_PATH", "a\nb",
                            "TOWER_SILENCE_MP3_PATH=a?b: expected a path of at most 4095 bytes, "
                            "without control characters, a space at either end, or a ';' at its "
                            "start or after a space");
}

static void test_an_empty_variable_counts_as_not_set(void **state) {
    (void)state;
    (void)setenv("TOWER_PORT", "", 1);
    assert_int_equal(read_environment(), 0);
    assert_untouched();
}

static void test_other_programs_variables_are_pointed_at_only(void **state) {
    (void)state;
    (void)setenv("TOWER_PROT", "1", 1);
    (void)setenv("TOWER_MUSIC_FOLDER", "secret", 1);
    assert_int_equal(read_arguments(""), 0);
    char *text = printed();
    (void)unsetenv("TOWER_PROT");
    (void)unsetenv("TOWER_MUSIC_FOLDER");
    assert_non_null(strstr(text, "\n; TOWER_PROT is set, and is no setting (did you mean "
                                 "TOWER_PORT?)\n"));
    assert_non_null(strstr(text, "\n; TOWER_MUSIC_FOLDER is set, and is no setting\n"));
    assert_null(strstr(text, "secret"));
    free(text);
}

/* ---- the flags ---- */

static void test_arguments_that_are_refused(void **state) {
    (void)state;
    assert_arguments_refused("--port abc", "--port abc: expected a port from 0 to 65535");
    assert_arguments_refused("--port=", "--port : expected a port from 0 to 65535");
    assert_arguments_refused("--port", "--port: no value: expected a port from 0 to 65535");
    assert_arguments_refused("--config", "--config: no value: expected the path of a config file");
    assert_arguments_refused("--port 1 --prot 80",
                             "unknown flag '--prot' (did you mean '--port'?)");
    assert_arguments_refused("--prot=80", "unknown flag '--prot' (did you mean '--port'?)");
    assert_arguments_refused("-x", "unknown flag '-x' (--help prints all of them)");
    assert_arguments_refused("--port 1 -xy --port 2",
                             "unknown flag '-xy' (--help prints all of them)");
    assert_arguments_refused("--tone 3", "--tone: more than one flag begins like this: expected "
                                         "all of it");
    assert_arguments_refused("--help=me", "--help=me: expected no value");
    assert_arguments_refused("--port 1 song.mp3",
                             "unexpected argument 'song.mp3': expected flags only (--help prints "
                             "all of them)");
    assert_arguments_refused("-- --port",
                             "unexpected argument '--port': expected flags only (--help prints "
                             "all of them)");
    assert_arguments_refused("--socket ;", "--socket ;: expected a path of 1 to 107 bytes, without "
                                           "control characters, a space at either end, or a ';' at "
                                           "its start or after a space");
}

static void test_flags_in_every_form(void **state) {
    (void)state;
    assert_int_equal(read_arguments("--port=1 --tone-level -20 --port 2 --realtime no"), 0);
    assert_int_equal(config.port, 2);
    assert_true(config.tone_dbfs == -20.0);
    assert_false(config.is_realtime);
    assert_int_equal(read_arguments("--fallback="), 0);
    assert_int_equal(origin_of("fallback"), TOWER_CONFIG_FLAG);
}

/* ---- the whole ---- */

static void test_the_cushion_is_smaller_than_the_buffer(void **state) {
    (void)state;
    assert_arguments_refused("--cushion-frames 5 --buffer-frames 5",
                             "--cushion-frames 5: expected less than buffer_frames, which is 5");
    assert_int_equal(read_arguments("--cushion-frames 4 --buffer-frames 5"), 0);
    (void)begin(NULL);
    assert_int_equal(read_arguments("--buffer-frames 1"), 0);
    assert_int_equal(config.cushion_frames, 0);
}

static void test_the_fallback_file_is_there(void **state) {
    (void)state;
    assert_int_equal(read_arguments("--fallback none.mp3"), -ENOENT);
    assert_string_equal(error, "--fallback none.mp3: No such file or directory: expected an audio "
                               "file that can be read");
    write_text("station.ini", "\nfallback = /tmp\n");
    assert_int_equal(read_arguments("--config station.ini"), -EISDIR);
    assert_string_equal(error, "station.ini:2: fallback = /tmp: Is a directory: expected an audio "
                               "file that can be read");
    (void)setenv("TOWER_SILENCE_MP3_PATH", "/dev/null", 1);
    assert_int_equal(read_arguments(""), -EINVAL);
    assert_string_equal(error, "TOWER_SILENCE_MP3_PATH=/dev/null: Not a regular file: expected an "
                               "audio file that can be read");
    assert_untouched();
    (void)unsetenv("TOWER_SILENCE_MP3_PATH");
    write_text("jingle.mp3", "x");
    assert_int_equal(read_arguments("--fallback jingle.mp3"), 0);
}

static void test_a_socket_path_that_cannot_be_named_by_default(void **state) {
    (void)state;
    char runtime[200];
    memset(runtime, 'r', sizeof runtime - 1);
    runtime[0] = '/';
    runtime[sizeof runtime - 1] = '\0';
    (void)setenv("XDG_RUNTIME_DIR", runtime, 1);
    tower_config_init(&config);
    assert_string_equal(config.socket_path, "");
    assert_int_equal(read_arguments(""), -EINVAL);
    assert_int_equal(strncmp(error, "XDG_RUNTIME_DIR=/rrr", 20), 0);
    assert_non_null(strstr(error, "--socket PATH"));
    assert_int_equal(read_arguments("--socket /tmp/s"), 0);
}

static void test_where_a_setting_came_from_in_words(void **state) {
    (void)state;
    char text[256];
    write_text("station.ini", "\nport = 9\n");
    (void)setenv("TOWER_GRACE", "1", 1);
    (void)setenv("TOWER_PCM_GRACE_SEC", "1.50", 1);
    assert_int_equal(read_arguments("--config station.ini --bitrate 64"), 0);
    (void)unsetenv("TOWER_GRACE");
    tower_config_describe(&config, "port", text, sizeof text);
    assert_string_equal(text, "station.ini:2: port = 9");
    tower_config_describe(&config, "grace", text, sizeof text);
    assert_string_equal(text, "TOWER_PCM_GRACE_SEC=1.5");
    tower_config_describe(&config, "bitrate", text, sizeof text);
    assert_string_equal(text, "--bitrate 64k");
    tower_config_describe(&config, "host", text, sizeof text);
    assert_string_equal(text, "host = 127.0.0.1 (the default)");
}

static void test_what_is_printed_is_good_as_a_file(void **state) {
    (void)state;
    write_text("jingle.mp3", "x");
    write_text("station.ini", "\ntone_level = -3.141592653\n");
    (void)setenv("TOWER_PCM_GRACE_SEC", "0.000000007", 1);
    assert_int_equal(read_arguments("--config station.ini --fallback jingle.mp3 --host ::1 "
                                    "--tone-frequency 19999.999999999 --buffer-frames 2 "
                                    "--encoder-backoff-ms 1,2,3 --log-level ERROR"),
                     0);
    char *text = printed();
    assert_non_null(strstr(text, "\nport = 8005  ; default\n"));
    assert_non_null(strstr(text, "\ntone_level = -3.141592653  ; station.ini:2\n"));
    assert_non_null(strstr(text, "\ngrace = 0.000000007  ; TOWER_PCM_GRACE_SEC\n"));
    assert_non_null(strstr(text, "\nlog_level = error  ; --log-level\n"));
    struct tower_config first = config;
    (void)begin(NULL);
    write_text("saved.ini", text);
    free(text);
    int ret = read_arguments("--config saved.ini");
    (void)unlink("saved.ini");
    assert_int_equal(ret, 0);
    assert_same_settings(&first, &config);
    text = printed();
    assert_non_null(strstr(text, "\nport = 8005  ; saved.ini:2\n"));
    free(text);
}

/* ---- help ---- */

static void test_help_prints_the_usage_and_every_setting(void **state) {
    (void)state;
    static const char *const ways[] = {"--help", "-h", "--port 1 --help", "--help --config no.ini"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char text[16384];
        FILE *file = tmpfile();
        assert_non_null(file);
        (void)fflush(stdout);
        int stdout_kept = dup(STDOUT_FILENO);
        assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
        int ret = read_arguments(ways[i]);
        (void)fflush(stdout);
        assert_true(dup2(stdout_kept, STDOUT_FILENO) >= 0);
        (void)close(stdout_kept);
        assert_int_equal(ret, 1);
        assert_untouched();
        rewind(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        (void)fclose(file);
        assert_int_equal(strncmp(text, USAGE, strlen(USAGE)), 0);
        assert_non_null(strstr(text, "--config FILE"));
        for (size_t k = 0; k < tower_settings_count; k++) {
            char line[64];
            (void)snprintf(line, sizeof line, "\n  %s %s\n", tower_settings[k].flag,
                           tower_settings[k].value_name);
            assert_non_null(strstr(text, line));
            (void)snprintf(line, sizeof line, "%s; %s; default ", tower_settings[k].variable,
                           tower_settings[k].key);
            assert_non_null(strstr(text, line));
            assert_non_null(strstr(text, tower_settings[k].help));
        }
    }
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_a_flag_beats_the_environment_beats_the_file_beats_the_default),
        TEST(test_the_file_can_be_named_by_a_variable_which_the_flag_beats),
        TEST(test_every_setting_has_its_key_its_variable_and_its_flag),
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
        TEST(test_variables_that_are_refused),
        TEST(test_an_empty_variable_counts_as_not_set),
        TEST(test_other_programs_variables_are_pointed_at_only),
        TEST(test_arguments_that_are_refused),
        TEST(test_flags_in_every_form),
        TEST(test_the_cushion_is_smaller_than_the_buffer),
        TEST(test_the_fallback_file_is_there),
        TEST(test_a_socket_path_that_cannot_be_named_by_default),
        TEST(test_where_a_setting_came_from_in_words),
        TEST(test_what_is_printed_is_good_as_a_file),
        TEST(test_help_prints_the_usage_and_every_setting),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
