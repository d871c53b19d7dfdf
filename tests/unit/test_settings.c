/* test_settings.c - the table of settings: every kind of value, and the manual. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "settings.h"
#include "tower/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tower_config config;

static int begin(void **state) {
    (void)state;
    (void)setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
    tower_config_init(&config);
    return 0;
}

/* What failed left no trace. */
static void assert_untouched(void) {
    struct tower_config fresh;
    tower_config_init(&fresh);
    assert_memory_equal(&config, &fresh, sizeof fresh);
}

static void test_every_default_is_a_value_of_its_setting(void **state) {
    (void)state;
    for (size_t i = 0; i < tower_settings_count; i++) {
        if (tower_settings[i].default_text)
            assert_int_equal(
                tower_setting_parse(&tower_settings[i], tower_settings[i].default_text, &config),
                0);
    }
}

/* ---- values ---- */

static int parse(const char *key, const char *text) {
    return tower_setting_parse(&tower_settings[tower_setting_find(key)], text, &config);
}

static void assert_all_refused(const char *key, const char *const *texts) {
    for (; *texts; texts++) {
        if (parse(key, *texts) != -EINVAL)
            fail_msg("%s = %s was taken", key, *texts);
    }
    assert_untouched();
}

static void test_numbers_are_read_strictly(void **state) {
    (void)state;
    assert_all_refused("port", (const char *const[]){"", " 1", "1 ", "+1", "-1", "0x50", "1e3",
                                                     "80.0", "65536", "99999999999999999999", "-",
                                                     "one", "8005;", "8005,", "\xd9\xa1", NULL});
    assert_all_refused("grace", (const char *const[]){"", "nan", "inf", "-inf", "1e1", "0x1", "1.",
                                                      ".5", "5s", "1,5", "-0.1", "86400.000000001",
                                                      "1.0000000001", "99999999999999999999999",
                                                      "1.5.", "--1", "+1", " 1", NULL});
    assert_all_refused("tone_level",
                       (const char *const[]){"0.1", "-90.1", "-18dB", "--18", "", "-", NULL});
    assert_all_refused("tone_frequency", (const char *const[]){"19.9", "20000.5", "-440", "440Hz",
                                                               "0.5", "440.", "", NULL});
    assert_all_refused("buffer_frames", (const char *const[]){"0", "100001", "4294967297", NULL});
    assert_all_refused("frame_samples", (const char *const[]){"1", "1153", "4294968448", NULL});
    assert_all_refused("priorities",
                       (const char *const[]){"Live", "live live", "a/b", "live;playlist",
                                             "a123456789012345678901234567890123",
                                             "a b c d e f g h i j k l m n o p q", NULL});
    assert_int_equal(parse("priorities", ""), 0);
    assert_int_equal(parse("port", "0"), 0);
    assert_int_equal(config.port, 0);
    assert_int_equal(parse("port", "65535"), 0);
    assert_int_equal(config.port, 65535);
    assert_int_equal(parse("tone_frequency", "0"), 0);
    assert_true(config.tone_hz == 0.0);
    assert_int_equal(parse("tone_level", "-0.5"), 0);
    assert_true(config.tone_dbfs == -0.5);
    assert_int_equal(parse("grace", "86400"), 0);
    assert_int_equal(config.grace_ns, 86400 * TOWER_NS_PER_S);
    assert_int_equal(parse("grace", "0.000000001"), 0);
    assert_int_equal(config.grace_ns, 1);
}

static void test_bitrates(void **state) {
    (void)state;
    static const char *const same[] = {"192k", "192K", "192000", "192"};
    for (size_t i = 0; i < 4; i++) {
        config.bitrate_bps = 0;
        assert_int_equal(parse("bitrate", same[i]), 0);
        assert_int_equal(config.bitrate_bps, 192000);
    }
    (void)begin(NULL);
    assert_all_refused("bitrate", (const char *const[]){"", "k", "129k", "128000k", "128kk", "-128",
                                                        "1280", "0", "128 k", "8k", "384k",
                                                        "000000000000000000128", NULL});
}

static void test_words_in_either_case(void **state) {
    (void)state;
    static const char *const yes[] = {"yes", "TRUE", "On", "1"};
    static const char *const no[] = {"no", "False", "OFF", "0"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(parse("realtime", no[i]), 0);
        assert_false(config.is_realtime);
        assert_int_equal(parse("realtime", yes[i]), 0);
        assert_true(config.is_realtime);
    }
    assert_int_equal(parse("log_level", "WARNING"), 0);
    assert_int_equal(config.log_level, TOWER_LOG_WARNING);
    assert_int_equal(parse("encoder", "FFmpeg"), 0);
    assert_int_equal(config.encoder, TOWER_ENCODER_FFMPEG);
    (void)begin(NULL);
    assert_all_refused("realtime", (const char *const[]){"", "y", "2", "yes ", NULL});
    assert_all_refused("log_level", (const char *const[]){"", "verbose", "0", NULL});
}

static void test_backoff_lists(void **state) {
    (void)state;
    assert_int_equal(parse("encoder_backoff_ms", "5, 7 ,9"), 0);
    assert_int_equal(config.encoder_backoff_count, 3);
    assert_int_equal(config.encoder_backoff_ns[1], 7000000);
    assert_int_equal(config.encoder_backoff_ns[3], 0);
    assert_int_equal(parse("encoder_backoff_ms", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,16"), 0);
    assert_int_equal(config.encoder_backoff_count, TOWER_ENCODER_BACKOFF_MAX);
    (void)begin(NULL);
    assert_all_refused("encoder_backoff_ms",
                       (const char *const[]){"", ",", "1,", ",1", "1,,2", "0", "3600001", "1;2",
                                             "1 2", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,17", "1,-2",
                                             "1,2.5", "   ", NULL});
}

static void test_texts_are_what_a_line_of_the_file_can_bear(void **state) {
    (void)state;
    char longest[TOWER_CONFIG_PATH_BYTES + 1];
    memset(longest, 'a', sizeof longest);
    longest[TOWER_CONFIG_PATH_BYTES] = '\0';
    assert_int_equal(parse("fallback", longest), -EINVAL);
    longest[TOWER_CONFIG_PATH_BYTES - 1] = '\0';
    assert_int_equal(parse("fallback", longest), 0);
    assert_string_equal(config.fallback_path, longest);
    (void)begin(NULL);
    longest[108] = '\0';
    assert_int_equal(parse("socket", longest), -EINVAL);
    longest[107] = '\0';
    assert_int_equal(parse("socket", longest), 0);
    (void)begin(NULL);
    assert_all_refused("fallback", (const char *const[]){" a", "a ", "a\nport = 1", "a\tb", "\x7f",
                                                         ";a", "a ;b", " ", NULL});
    assert_all_refused("host", (const char *const[]){"", "a b", "a\n", NULL});
    assert_all_refused("socket", (const char *const[]){"", NULL});
    assert_all_refused("ffmpeg", (const char *const[]){"", NULL});
    /* Not UTF-8; control characters in two bytes; no characters at all. */
    assert_all_refused("name",
                       (const char *const[]){"", "\xff", "Radio \xc3", "a\xc2\x9bz", "\xc2\x80",
                                             "a\xef\xbf\xbe", "\xef\xbf\xbf", NULL});
    assert_int_equal(parse("name", "\xc2\xa0\xef\xbf\xbd\xef\xbe\xbe\xf0\x9f\x93\xbb"), 0);
    (void)begin(NULL);
    assert_int_equal(parse("fallback", "/music/#1; a = b [c] \"d\" \xc3\xa4.mp3"), 0);
    assert_int_equal(parse("fallback", ""), 0);
    assert_string_equal(config.fallback_path, "");
}

/* ---- the table ---- */

static char manual[65536];

static void read_manual(void) {
    FILE *file = fopen(TOWER_MANUAL, "re");
    assert_non_null(file);
    size_t length = fread(manual, 1, sizeof manual - 1, file);
    (void)fclose(file);
    assert_in_range(length, 1, sizeof manual - 2);
    manual[length] = '\0';
}

/* What the manual says under `heading`, up to the next one. */
static char *copy_item(const char *heading) {
    const char *item = strstr(manual, heading);
    if (!item)
        fail_msg("not in the manual: %s", heading);
    item += strlen(heading) - 1;
    size_t length = 0;
    while (item[length] != '\0' && strncmp(item + length, "\n.It ", 5) != 0 &&
           strncmp(item + length, "\n.El\n", 5) != 0)
        length++;
    char *copy = strndup(item, length + 1);
    assert_non_null(copy);
    return copy;
}

static void test_every_setting_stands_in_the_manual(void **state) {
    (void)state;
    read_manual();
    for (size_t i = 0; i < tower_settings_count; i++) {
        const struct tower_setting *setting = &tower_settings[i];
        char line[192];
        (void)snprintf(line, sizeof line, "\n.It Cm %s , Fl %s Ar %s , Ev %s\n", setting->key,
                       setting->flag + 1, setting->value_name, setting->variable);
        char *item = copy_item(line);
        bool is_negative = setting->default_text && setting->default_text[0] == '-';
        if (setting->default_text)
            (void)snprintf(line, sizeof line, "\nDefault: %s%s\n", is_negative ? "\\" : "",
                           setting->default_text[0] == '\0' ? "none" : setting->default_text);
        else
            (void)snprintf(line, sizeof line, "\nDefault:\n");
        if (!strstr(item, line))
            fail_msg("%s: the manual lacks: %s", setting->key, line + 1);
        free(item);
    }
    /* And nothing stands there that is not. */
    size_t n_items = 0;
    for (const char *at = manual; (at = strstr(at, " , Ev TOWER_")); at++)
        n_items++;
    assert_int_equal(n_items, tower_settings_count);
}

static void test_flags_and_variables_follow_from_the_key(void **state) {
    (void)state;
    for (size_t i = 0; i < tower_settings_count; i++) {
        char flag[64];
        (void)snprintf(flag, sizeof flag, "--%s", tower_settings[i].key);
        for (char *c = flag; *c != '\0'; c++)
            *c = *c == '_' ? '-' : *c;
        assert_string_equal(tower_settings[i].flag, flag);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(tower_settings[i].variable, tower_settings[k].variable);
    }
}

static void test_the_nearest_word(void **state) {
    (void)state;
    static const char *const words[] = {"serve", "check", NULL, "feed", "status", "aircheck"};
    assert_string_equal(tower_word_nearest("srve", words, 6), "serve");
    assert_string_equal(tower_word_nearest("esrve", words, 6), "serve");
    assert_string_equal(tower_word_nearest("FEED", words, 6), "feed");
    assert_string_equal(tower_word_nearest("statsu", words, 6), "status");
    assert_null(tower_word_nearest("stop", words, 6));
    assert_null(tower_word_nearest("", words, 6));
    char longest[300];
    memset(longest, 's', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(tower_word_nearest(longest, words, 6));
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_every_default_is_a_value_of_its_setting),
        TEST(test_numbers_are_read_strictly),
        TEST(test_bitrates),
        TEST(test_words_in_either_case),
        TEST(test_backoff_lists),
        TEST(test_texts_are_what_a_line_of_the_file_can_bear),
        TEST(test_every_setting_stands_in_the_manual),
        TEST(test_flags_and_variables_follow_from_the_key),
        TEST(test_the_nearest_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
