/* Loudness: what is measured, what is made of it, what is kept of it, and the thread that does so.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "loudness.h"
#include "tower/format.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static _Atomic bool never;

static int begin(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/tower-loud-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command); /* NOLINT(cert-env33-c): a test's own folder */
}

static const char *in_folder(const char *name) {
    static char paths[16][400];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A sine of `hz` on every channel; returns the path. */
static const char *write_sine(const char *name, int rate_hz, int channels, double hz, double dbfs,
                              double seconds) {
    const char *path = in_folder(name);
    SF_INFO info = {
        .samplerate = rate_hz, .channels = channels, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    assert_non_null(file);
    double scale = 32767 * pow(10, dbfs / 20);
    for (int i = 0; i < (int)(seconds * rate_hz); i++) {
        short sample[8];
        for (int channel = 0; channel < channels; channel++)
            sample[channel] = (short)lrint(scale * sin(2 * M_PI * hz * i / rate_hz));
        assert_int_equal(sf_writef_short(file, sample, 1), 1);
    }
    assert_int_equal(sf_close(file), 0);
    return path;
}

static struct tower_loudness measure(const char *path) {
    struct tower_loudness loudness;
    assert_int_equal(
        tower_loudness_measure(tower_clock_real(), NULL, path, &never, NULL, NULL, &loudness), 0);
    return loudness;
}

/* EBU Tech 3341: a stereo sine of 1 kHz at -23 dBFS is -23 LUFS. Mono is sent to both sides. */
static void test_a_sine_is_as_loud_as_the_standard_says(void **state) {
    (void)state;
    static const struct {
        int rate_hz, channels;
        double dbfs;
    } cases[] = {{48000, 2, -23}, {48000, 2, -33}, {44100, 1, -23}, {32000, 2, -10}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tower_loudness loudness = measure(
            write_sine("a.wav", cases[i].rate_hz, cases[i].channels, 1000, cases[i].dbfs, 4));
        assert_true(fabs(loudness.lufs - cases[i].dbfs) < 0.2);
        assert_true(fabs(loudness.peak_dbfs - cases[i].dbfs) < 0.3);
    }
}

static void test_a_true_peak_lies_between_samples(void **state) {
    (void)state;
    /* A quarter of the rate, sampled at 45 degrees: no sample is above 0.707 of it. */
    int16_t samples[48000 * 2];
    const char *path = in_folder("p.wav");
    SF_INFO info = {.samplerate = 48000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    assert_non_null(file);
    for (int i = 0; i < 48000; i++)
        samples[2 * i] = samples[2 * i + 1] = (int16_t)(i % 4 < 2 ? 16384 : -16384);
    assert_int_equal(sf_writef_short(file, samples, 48000), 48000);
    assert_int_equal(sf_close(file), 0);
    double peak_dbfs = measure(path).peak_dbfs;
    assert_true(peak_dbfs > -4 && peak_dbfs < -2); /* the samples' is -6 */
}

static void test_silence_and_what_is_no_audio(void **state) {
    (void)state;
    struct tower_loudness loudness = measure(write_sine("a.wav", 48000, 2, 1000, -HUGE_VAL, 1));
    assert_true(loudness.lufs == -HUGE_VAL && loudness.peak_dbfs == -HUGE_VAL);
    assert_true(tower_loudness_gain(&loudness, -16, true) == 1);
    assert_int_equal(tower_loudness_measure(tower_clock_real(), NULL, in_folder("none.wav"), &never,
                                            NULL, NULL, &loudness),
                     -ENOENT);
    _Atomic bool at_once = true;
    assert_int_equal(tower_loudness_measure(tower_clock_real(), NULL, in_folder("a.wav"), &at_once,
                                            NULL, NULL, &loudness),
                     -ECANCELED);
}

static void expect_gain_db(double lufs, double peak_dbfs, bool is_whole, double gain_db) {
    const struct tower_loudness loudness = {lufs, peak_dbfs};
    double gain = tower_loudness_gain(&loudness, -16, is_whole);
    assert_true(fabs(20 * log10(gain) - gain_db) < 1e-9);
}

static void test_gain_goes_to_the_target_but_no_peak_above_one_below_full_scale(void **state) {
    (void)state;
    expect_gain_db(-30, -20, true, 14);
    expect_gain_db(-8, 0, true, -8);
    expect_gain_db(-30, -6, true, 5);
    expect_gain_db(-16, 0.5, true, -1.5);
    expect_gain_db(-16, -0.5, true, -0.5);
    expect_gain_db(-30, -20, false, 0); /* the rest may be louder */
    expect_gain_db(-8, 0, false, -8);
}

/* ---- the cache ---- */

static void test_what_is_kept_is_found_until_the_file_changes(void **state) {
    (void)state;
    const char *cache = in_folder("made/when/needed/loudness");
    const char *path = write_sine("a b.wav", 48000, 1, 1000, -20, 0.1);
    struct tower_loudness loudness = {-17.25, -3.5}, found;
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), -ENOENT);
    assert_int_equal(tower_loudness_cache_store(cache, path, &loudness), 0);
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), 0);
    assert_true(found.lufs == -17.25 && found.peak_dbfs == -3.5);
    loudness.lufs = loudness.peak_dbfs = -HUGE_VAL;
    assert_int_equal(tower_loudness_cache_store(cache, path, &loudness), 0);
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), 0);
    assert_true(found.lufs == -HUGE_VAL && found.peak_dbfs == -HUGE_VAL);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), -ENOENT);
    assert_int_equal(tower_loudness_cache_find(cache, in_folder("none"), &found), -ENOENT);
}

static void test_a_damaged_cache_is_passed_over_and_mended(void **state) {
    (void)state;
    const char *cache = in_folder("loudness");
    const char *path = write_sine("a.wav", 48000, 1, 1000, -20, 0.1);
    struct tower_loudness loudness = {-17, -3}, found;
    FILE *file = fopen(cache, "we");
    assert_non_null(file);
    (void)fputs("rubbish\n\n1 2 3 4 relative\n1 2 nan inf /x\n99999999999999999999999 1 -1 -1 /y\n",
                file);
    for (int i = 0; i < 10000; i++)
        (void)fputc('x', file);
    (void)fputs("\n12 34 -10 -1 /kept\n12 34 -10 -1 /torn", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), -ENOENT);
    assert_int_equal(tower_loudness_cache_store(cache, path, &loudness), 0);
    assert_int_equal(tower_loudness_cache_find(cache, path, &found), 0);
    char text[1000] = "";
    file = fopen(cache, "re");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    assert_int_equal(fclose(file), 0);
    assert_true(n < 400 && strstr(text, "/kept\n") && !strstr(text, "torn"));
}

static void test_the_cache_is_bounded(void **state) {
    (void)state;
    const char *cache = in_folder("loudness");
    const char *path = write_sine("a.wav", 48000, 1, 1000, -20, 0.1);
    const struct tower_loudness loudness = {-17, -3};
    char line[400];
    FILE *file = fopen(cache, "we");
    assert_non_null(file);
    for (int i = 0; i < TOWER_LOUDNESS_CACHE_ENTRIES_MAX + 10; i++)
        (void)fprintf(file, "1 1 -10 -1 /%d\n", i);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(tower_loudness_cache_store(cache, path, &loudness), 0);
    file = fopen(cache, "re");
    assert_non_null(file);
    int n = 0;
    while (fgets(line, sizeof line, file))
        assert_true(n++ > 0 || strcmp(line, "1 1 -10 -1 /11\n") == 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(n, TOWER_LOUDNESS_CACHE_ENTRIES_MAX);
}

static void test_where_the_cache_is(void **state) {
    (void)state;
    assert_int_equal(setenv("HOME", "/home/a", 1), 0);
    assert_int_equal(setenv("XDG_CACHE_HOME", "/c", 1), 0);
    char *path = tower_loudness_cache_path();
    assert_string_equal(path, "/c/tower/loudness");
    free(path);
    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    path = tower_loudness_cache_path();
    assert_string_equal(path, "/home/a/.cache/tower/loudness");
    free(path);
    assert_int_equal(unsetenv("HOME"), 0);
    assert_null(tower_loudness_cache_path());
}

/* ---- the thread ---- */

static void test_the_meter_measures_what_is_asked_and_keeps_it(void **state) {
    (void)state;
    const char *cache = in_folder("cache/loudness");
    const char *loud = write_sine("loud.wav", 48000, 2, 1000, -6, 2);
    const char *quiet = write_sine("quiet.wav", 48000, 2, 1000, -36, 2);
    struct tower_loudness_meter *meter;
    struct tower_loudness loudness, found;
    bool is_whole = false;
    assert_int_equal(tower_loudness_meter_new(tower_clock_real(), NULL, cache, &meter), 0);
    assert_int_equal(tower_loudness_meter_get(meter, loud, 0, &loudness, &is_whole), -ENOENT);
    tower_loudness_meter_ask(meter, loud);
    tower_loudness_meter_ask(meter, in_folder("none.wav"));
    tower_loudness_meter_ask(meter, quiet);
    assert_int_equal(
        tower_loudness_meter_get(meter, quiet, 60 * TOWER_NS_PER_S, &loudness, &is_whole), 0);
    assert_true(is_whole && fabs(loudness.lufs + 36) < 0.2);
    assert_int_equal(tower_loudness_meter_get(meter, loud, 0, &loudness, &is_whole), 0);
    assert_true(is_whole && fabs(loudness.lufs + 6) < 0.2);
    assert_int_equal(
        tower_loudness_meter_get(meter, in_folder("none.wav"), 0, &loudness, &is_whole), -EIO);
    assert_int_equal(tower_loudness_cache_find(cache, loud, &found), 0);
    assert_true(fabs(found.lufs + 6) < 0.2);
    /* What the cache says is believed. */
    const struct tower_loudness other = {-11, -1};
    const char *third = write_sine("third.wav", 48000, 2, 1000, -6, 1);
    assert_int_equal(tower_loudness_cache_store(cache, third, &other), 0);
    tower_loudness_meter_ask(meter, third);
    assert_int_equal(
        tower_loudness_meter_get(meter, third, 60 * TOWER_NS_PER_S, &loudness, &is_whole), 0);
    assert_true(loudness.lufs == -11);
    tower_loudness_meter_free(meter);
}

static void test_more_is_asked_than_is_remembered_and_it_ends_at_once(void **state) {
    (void)state;
    struct tower_loudness_meter *meter;
    struct tower_loudness loudness;
    bool is_whole;
    assert_int_equal(tower_loudness_meter_new(tower_clock_real(), NULL, NULL, &meter), 0);
    char name[32];
    const char *path = write_sine("long.wav", 48000, 2, 1000, -6, 60);
    tower_loudness_meter_ask(meter, path);
    for (int i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "%d.wav", i);
        tower_loudness_meter_ask(meter, in_folder(name));
    }
    assert_int_equal(tower_loudness_meter_get(meter, in_folder("3.wav"), 0, &loudness, &is_whole),
                     -ENOENT);
    tower_loudness_meter_free(meter);
    tower_loudness_meter_free(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_a_sine_is_as_loud_as_the_standard_says),
        TEST(test_a_true_peak_lies_between_samples),
        TEST(test_silence_and_what_is_no_audio),
        TEST(test_gain_goes_to_the_target_but_no_peak_above_one_below_full_scale),
        TEST(test_what_is_kept_is_found_until_the_file_changes),
        TEST(test_a_damaged_cache_is_passed_over_and_mended),
        TEST(test_the_cache_is_bounded),
        TEST(test_where_the_cache_is),
        TEST(test_the_meter_measures_what_is_asked_and_keeps_it),
        TEST(test_more_is_asked_than_is_remembered_and_it_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
