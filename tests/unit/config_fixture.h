/* config_fixture.h - settings read from a file, variables and flags, in an empty folder. */
#ifndef TESTS_CONFIG_FIXTURE_H
#define TESTS_CONFIG_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "settings.h"
#include "tower/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USAGE "Usage: tower test\n"
#define BITRATES                                                                                   \
    "one of 32k, 40k, 48k, 56k, 64k, 80k, 96k, 112k, 128k, 160k, 192k, 224k, 256k, 320k"

static char folder[] = "/tmp/tower-test-config-XXXXXX";
static struct tower_config config;
static char error[1024];

/* Every test begins in an empty folder, with no TOWER_* variable, at the defaults. */
static inline int begin(void **state) {
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

static inline int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static inline int remove_folder(void **state) {
    (void)state;
    (void)unlink("station.ini");
    (void)unlink("jingle.mp3");
    (void)unlink("secret");
    (void)unlink("users");
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static inline void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

static inline int read_bytes(const void *bytes, size_t length) {
    write_bytes("station.ini", bytes, length);
    return tower_config_read_file(&config, "station.ini", error, sizeof error);
}

static inline int read_text(const char *text) {
    return read_bytes(text, strlen(text));
}

static inline int read_environment(void) {
    return tower_config_read_environment(&config, error, sizeof error);
}

/* Parses "serve" and the words of `line`. */
static inline int read_arguments(const char *line) {
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
static inline void assert_untouched(void) {
    struct tower_config fresh;
    tower_config_init(&fresh);
    assert_memory_equal(&config, &fresh, sizeof fresh);
}

static inline void assert_file_refused(const char *text, const char *line) {
    (void)begin(NULL);
    assert_int_equal(read_text(text), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
}

static inline void assert_variable_refused(const char *name, const char *value, const char *line) {
    (void)begin(NULL);
    assert_int_equal(setenv(name, value, 1), 0);
    assert_int_equal(read_environment(), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
    (void)unsetenv(name);
}

static inline void assert_arguments_refused(const char *arguments, const char *line) {
    (void)begin(NULL);
    assert_int_equal(read_arguments(arguments), -EINVAL);
    assert_string_equal(error, line);
    assert_untouched();
}

static inline enum tower_config_origin origin_of(const char *key) {
    return config.from[tower_setting_find(key)].origin;
}

static inline char *printed(void) {
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    tower_config_print(&config, stream);
    assert_int_equal(fclose(stream), 0);
    return text;
}

static inline void assert_same_settings(const struct tower_config *a,
                                        const struct tower_config *b) {
    struct tower_config x = *a, y = *b;
    memset(x.from, 0, sizeof x.from);
    memset(y.from, 0, sizeof y.from);
    memset(x.file_path, 0, sizeof x.file_path);
    memset(y.file_path, 0, sizeof y.file_path);
    assert_memory_equal(&x, &y, sizeof x);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

#endif
