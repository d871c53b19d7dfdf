/* The playlist source: from file to file without a step, what is skipped, crossfades, loudness. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "loudness.h"
#include "playlist_source.h"
#include "tower/format.h"

#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLES_MAX (48000 * 40)
#define TURNS_MAX 64
#define WAV16 (SF_FORMAT_WAV | SF_FORMAT_PCM_16)
#define FLAC16 (SF_FORMAT_FLAC | SF_FORMAT_PCM_16)

static char folder[64];
static char said[16][400];
static size_t n_said;

/* What was heard, and what it was. */
static int16_t heard[SAMPLES_MAX][2];
static size_t n_heard;
static struct {
    size_t at;
    size_t number;
    char name[64];
    char title[64];
    int64_t length;
} turns[TURNS_MAX];
static size_t n_turns;
static char last_error[192];

static int begin(void **state) {
    (void)state;
    n_said = 0;
    (void)snprintf(folder, sizeof folder, "/tmp/tower-turn-XXXXXX");
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

static const char *write_text(const char *name, const char *text) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

/* Of a sine that is the same in all files, the part from `from_s` to `to_s`. */
static void write_part(const char *name, int format, int rate_hz, int channels, double hz,
                       double peak, double from_s, double to_s) {
    SF_INFO info = {.samplerate = rate_hz, .channels = channels, .format = format};
    SNDFILE *file = sf_open(in_folder(name), SFM_WRITE, &info);
    assert_non_null(file);
    for (long i = lrint(from_s * rate_hz); i < lrint(to_s * rate_hz); i++) {
        short sample[2];
        sample[0] = sample[1] = (short)lrint(peak * sin(2 * M_PI * hz * (double)i / rate_hz));
        assert_int_equal(sf_writef_short(file, sample, 1), 1);
    }
    assert_int_equal(sf_close(file), 0);
}

/* 40 files of a millisecond each, and a list of them. */
static const char *write_many_parts(int rate_hz) {
    const char *list = in_folder("many.m3u");
    FILE *file = fopen(list, "we");
    assert_non_null(file);
    for (int i = 0; i < 40; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%d.wav", i);
        write_part(name, WAV16, rate_hz, 2, 440, 20000, i * 0.001, (i + 1) * 0.001);
        assert_true(fprintf(file, "%s\n", name) > 0);
    }
    assert_int_equal(fclose(file), 0);
    return in_folder("many.m3u");
}

static void say(void *context, const char *what, const char *why) {
    (void)context;
    assert_true(n_said < 16);
    (void)snprintf(said[n_said++], sizeof said[0], "%s: %s", what, why);
}

static const char *base_name(const char *path) {
    return strrchr(path, '/') + 1;
}

/* Play it to its end, or until `limit` samples were heard. Returns what the last read did. */
static int play(const struct tower_playlist_config *config, size_t limit) {
    static int16_t chunk[1152 * 2];
    struct tower_playlist_config all = *config;
    struct tower_source *source;
    struct tower_playlist_now now = {0};
    char why[200] = "";
    size_t bytes;
    int got;
    n_heard = n_turns = 0;
    all.say = say;
    int error = tower_source_open_playlist(tower_clock_real(), &all, &source, why, sizeof why);
    if (error < 0)
        fail_msg("%s: %s", config->path, why);
    assert_int_equal(source->info.rate_hz, 48000);
    assert_int_equal(source->info.channels, 2);
    assert_int_equal(tower_source_rewind(source), -ENOTSUP);
    while (((got = tower_source_read(source, chunk, &bytes)) == 1 || got == -EINTR) &&
           n_heard < limit) {
        uint64_t turn = now.turn;
        if (got == -EINTR)
            continue;
        assert_true(bytes > 0 && bytes % 4 == 0 && n_heard + bytes / 4 <= SAMPLES_MAX);
        tower_playlist_source_get_now(source, &now);
        if (now.turn != turn) {
            assert_int_equal(now.turn, turn + 1);
            assert_true(n_turns < TURNS_MAX);
            turns[n_turns].at = n_heard;
            turns[n_turns].number = now.number;
            turns[n_turns].length = now.length_samples;
            (void)snprintf(turns[n_turns].name, 64, "%s", base_name(now.path));
            (void)snprintf(turns[n_turns++].title, 64, "%s", now.title ? now.title : "");
            assert_int_equal(now.position_samples, bytes / 4);
        }
        memcpy(heard[n_heard], chunk, bytes);
        n_heard += bytes / 4;
    }
    (void)snprintf(last_error, sizeof last_error, "%s", source->error);
    tower_source_close(source);
    return got;
}

static void expect_turn(size_t turn, const char *name, size_t at) {
    assert_true(turn < n_turns);
    assert_string_equal(turns[turn].name, name);
    assert_int_equal(turns[turn].at, at);
}

/* The sine from `from` to `to`, and how far off the worst sample is. */
static double worst_error(double hz, double peak, size_t from, size_t to) {
    double worst = 0;
    for (size_t i = from; i < to; i++) {
        double off = fabs(heard[i][0] - peak * sin(2 * M_PI * hz * (double)i / 48000));
        assert_true(abs(heard[i][0] - heard[i][1]) <= 1);
        worst = off > worst ? off : worst;
    }
    return worst;
}

static double loudness_of(size_t from, size_t to) {
    const char *path = in_folder("heard.wav");
    SF_INFO info = {.samplerate = 48000, .channels = 2, .format = WAV16};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    static _Atomic bool never;
    struct tower_loudness loudness;
    assert_non_null(file);
    assert_int_equal(sf_writef_short(file, heard[from], (sf_count_t)(to - from)), to - from);
    assert_int_equal(sf_close(file), 0);
    assert_int_equal(
        tower_loudness_measure(tower_clock_real(), NULL, path, &never, NULL, NULL, &loudness), 0);
    assert_int_equal(unlink(path), 0);
    assert_true(loudness.peak_dbfs < -0.9);
    return loudness.lufs;
}

/* ---- from file to file ---- */

static void test_files_of_one_format_join_as_if_they_were_one(void **state) {
    (void)state;
    /* An album cut anywhere: not where the sine is 0. */
    write_part("1.wav", WAV16, 44100, 2, 997, 12000, 0, 1.2347);
    write_part("2.flac", FLAC16, 44100, 2, 997, 12000, 1.2347, 1.2350);
    write_part("3.wav", WAV16, 44100, 2, 997, 12000, 1.2350, 4);
    const char *list = write_text("a.m3u", "1.wav\n2.flac\n#EXTINF:1,Third\n3.wav\n");
    assert_int_equal(play(&(struct tower_playlist_config){.path = list}, SIZE_MAX), 0);
    assert_int_equal(n_heard, 4 * 48000);
    /* But for the very ends, where the filter hears silence before and behind. */
    assert_true(worst_error(997, 12000, 200, n_heard - 200) < 3);
    assert_int_equal(n_turns, 3);
    expect_turn(0, "1.wav", 0);
    expect_turn(1, "2.flac", (size_t)lround(54450 / 44100.0 * 48000));
    expect_turn(2, "3.wav", (size_t)lround(54464 / 44100.0 * 48000));
    assert_string_equal(turns[2].title, "Third");
    assert_int_equal(turns[2].length, lrint(2.765 * 44100) * 48000 / 44100);
    assert_int_equal(turns[1].number, 2);
    assert_int_equal(n_said, 0);
}

static void test_files_of_different_formats_join_without_a_step(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 1000, 12000, 0, 1.5);
    write_part("2.flac", FLAC16, 44100, 1, 1000, 12000, 1.5, 3);
    write_part("3.au", SF_FORMAT_AU | SF_FORMAT_PCM_16, 32000, 2, 1000, 12000, 3, 4);
    const char *list = write_text("a.m3u", "1.wav\n2.flac\n3.au\n");
    assert_int_equal(play(&(struct tower_playlist_config){.path = list}, SIZE_MAX), 0);
    assert_int_equal(n_heard, 4 * 48000);
    expect_turn(1, "2.flac", 72000);
    expect_turn(2, "3.au", 144000);
    /* The steepest that the sine is: 12000 * 2 pi 1000 / 48000 = 1571 from sample to sample. */
    for (size_t i = 1; i < n_heard; i++)
        assert_true(abs(heard[i][0] - heard[i - 1][0]) < 1571 * 1.2);
    assert_true(worst_error(1000, 12000, 0, 72000) < 1); /* bit for bit */
    assert_true(worst_error(1000, 12000, 72500, 143500) < 5);
    assert_true(worst_error(1000, 12000, 144500, n_heard - 500) < 5);
}

static void test_48_khz_stereo_is_bit_for_bit_through_many_short_files(void **state) {
    (void)state;
    const char *list = write_many_parts(48000);
    assert_int_equal(play(&(struct tower_playlist_config){.path = list}, SIZE_MAX), 0);
    assert_int_equal(n_heard, 40 * 48);
    assert_int_equal(n_turns, 40);
    for (size_t i = 0; i < n_heard; i++)
        assert_int_equal(heard[i][0], lrint(20000 * sin(2 * M_PI * 440 * (double)i / 48000)));
    for (size_t i = 0; i < n_turns; i++)
        assert_int_equal(turns[i].at, i * 48);
}

static void test_short_files_that_the_converter_holds_back_have_their_places(void **state) {
    (void)state;
    const char *list = write_many_parts(24000);
    for (int64_t fade_ms = 0; fade_ms <= 10; fade_ms += 10) {
        assert_int_equal(
            play(&(struct tower_playlist_config){.path = list, .crossfade_ns = fade_ms * 1000000},
                 SIZE_MAX),
            0);
        assert_int_equal(n_turns, 40);
        for (size_t i = 0; i < n_turns && fade_ms == 0; i++)
            assert_int_equal(turns[i].at, i * 48);
    }
}

static void test_what_cannot_be_read_is_passed_over_with_a_line(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 500, 9000, 0, 0.5);
    write_part("2.wav", WAV16, 48000, 2, 500, 9000, 0.5, 1);
    write_part("empty.wav", WAV16, 48000, 2, 500, 9000, 0, 0);
    (void)write_text("text.mp3", "no audio at all\n");
    (void)mkdir(in_folder("sub"), 0700);
    const char *list = write_text("a.m3u", "none.wav\n1.wav\ntext.mp3\nempty.wav\nsub\na.m3u\n"
                                           "http://example.org/\n2.wav\ngone.wav\n");
    assert_int_equal(play(&(struct tower_playlist_config){.path = list}, SIZE_MAX), 0);
    assert_int_equal(n_heard, 48000);
    assert_true(worst_error(500, 9000, 0, n_heard) < 1);
    expect_turn(1, "2.wav", 24000);
    assert_int_equal(turns[1].number, 7);
    static const char *const names[] = {"a.m3u", "none.wav", "text.mp3", "empty.wav",
                                        "sub",   "a.m3u",    "gone.wav"};
    assert_int_equal(n_said, sizeof names / sizeof *names);
    for (size_t i = 0; i < n_said; i++)
        assert_non_null(strstr(said[i], names[i]));
    assert_non_null(strstr(said[1], "no such file"));
}

static void test_a_file_that_breaks_off_is_followed_by_the_next(void **state) {
    (void)state;
    struct stat status;
    write_part("1.flac", FLAC16, 48000, 2, 500, 9000, 0, 4);
    write_part("2.wav", WAV16, 48000, 2, 500, 9000, 0, 1);
    assert_int_equal(stat(in_folder("1.flac"), &status), 0);
    assert_int_equal(truncate(in_folder("1.flac"), status.st_size / 2), 0);
    assert_int_equal(play(&(struct tower_playlist_config){.path = folder}, SIZE_MAX), 0);
    assert_int_equal(n_said, 1);
    assert_non_null(strstr(said[0], "1.flac: reading failed after"));
    assert_true(n_heard > 48000 * 2 && n_heard < 48000 * 4);
    expect_turn(1, "2.wav", n_heard - 48000);
    assert_int_equal(heard[n_heard - 48000 + 24][0], 9000); /* a quarter of a turn */
}

static void test_where_nothing_can_be_read_it_ends_with_an_error(void **state) {
    (void)state;
    const char *list = write_text("a.m3u", "none.wav\ngone.wav\n");
    for (int is_looped = 0; is_looped < 2; is_looped++) {
        n_said = 0;
        assert_int_equal(
            play(&(struct tower_playlist_config){.path = list, .is_looped = is_looped}, SIZE_MAX),
            -EIO);
        assert_int_equal(n_said, 2);
        assert_non_null(strstr(last_error, "none of its 2 files"));
    }
}

static void test_a_loop_goes_on_and_ends_when_all_files_are_gone(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 500, 9000, 0, 0.5);
    write_part("2.wav", WAV16, 48000, 2, 500, 9000, 0.5, 1);
    const char *list = write_text("a.m3u", "1.wav\n2.wav\n");
    const struct tower_playlist_config config = {.path = list, .is_looped = true};
    (void)play(&config, 48000 * 5);
    assert_true(worst_error(500, 9000, 0, 48000 * 5) < 1);
    assert_true(n_turns >= 10);
    expect_turn(9, "2.wav", 48000 * 9 / 2);
    assert_int_equal(turns[8].number, 1);
}

static void test_a_folder_shuffled_again_and_again(void **state) {
    (void)state;
    char name[32];
    char first[TURNS_MAX][64];
    for (int i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "%d.wav", i);
        write_part(name, WAV16, 48000, 2, 500, 9000, 0, 0.01);
    }
    const struct tower_playlist_config config = {
        .path = folder, .is_looped = true, .is_shuffled = true, .seed = 3};
    (void)play(&config, 480 * 50 - 1);
    assert_int_equal(n_turns, 50);
    for (size_t i = 0; i < n_turns; i++) {
        memcpy(first[i], turns[i].name, sizeof first[i]);
        assert_true(i == 0 || strcmp(turns[i].name, turns[i - 1].name) != 0);
        for (size_t k = i / 5 * 5; k < i; k++) /* in a round each comes once */
            assert_string_not_equal(turns[i].name, turns[k].name);
    }
    (void)play(&config, 480 * 50 - 1);
    for (size_t i = 0; i < n_turns; i++)
        assert_string_equal(turns[i].name, first[i]);
}

/* ---- crossfade ---- */

static void test_a_crossfade_is_of_equal_power(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 1000, 8000, 0, 3);
    write_part("2.wav", WAV16, 48000, 2, 1730, 8000, 0, 3);
    const char *list = write_text("a.m3u", "1.wav\n2.wav\n");
    const struct tower_playlist_config config = {.path = list, .crossfade_ns = TOWER_NS_PER_S};
    assert_int_equal(play(&config, SIZE_MAX), 0);
    assert_int_equal(n_heard, 5 * 48000);
    expect_turn(1, "2.wav", 2 * 48000);
    assert_true(worst_error(1000, 8000, 0, 2 * 48000) < 1);
    for (size_t from = 0; from + 4800 <= n_heard; from += 4800) {
        double sum = 0;
        for (size_t i = from; i < from + 4800; i++)
            sum += (double)heard[i][0] * heard[i][0];
        assert_true(fabs(sqrt(sum / 4800) - 8000 / M_SQRT2) < 60);
    }
    /* The end of the second is not faded: nothing follows. */
    for (size_t i = n_heard - 100; i < n_heard; i++) {
        double turn = (double)(i - 2 * 48000) / 48000;
        assert_true(fabs(heard[i][0] - 8000 * sin(2 * M_PI * 1730 * turn)) < 1);
    }
}

static void test_a_crossfade_longer_than_the_files(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 1000, 8000, 0, 0.5);
    write_part("2.wav", WAV16, 44100, 1, 1000, 8000, 0, 0.3);
    write_part("3.wav", WAV16, 48000, 2, 1000, 8000, 0, 2);
    const char *list = write_text("a.m3u", "1.wav\n2.wav\n3.wav\n");
    const struct tower_playlist_config config = {.path = list, .crossfade_ns = 5 * TOWER_NS_PER_S};
    assert_int_equal(play(&config, SIZE_MAX), 0);
    assert_int_equal(n_turns, 3);
    /* Half of each: of the second 2400 samples are behind the fade that it begins with. */
    expect_turn(1, "2.wav", 12000);
    expect_turn(2, "3.wav", 12000 + 14400 - 1200);
    assert_int_equal(n_heard, 12000 + 14400 - 1200 + 96000);
    const struct tower_playlist_config wrong = {.path = list, .crossfade_ns = 31 * TOWER_NS_PER_S};
    struct tower_source *untouched = NULL;
    assert_int_equal(tower_source_open_playlist(tower_clock_real(), &wrong, &untouched, NULL, 0),
                     -EINVAL);
    assert_null(untouched);
}

/* ---- loudness ---- */

static void test_loud_and_quiet_files_come_out_as_loud_as_asked_for(void **state) {
    (void)state;
    write_part("1loud.wav", WAV16, 48000, 2, 1000, 30000, 0, 4);
    write_part("2quiet.flac", FLAC16, 44100, 1, 1000, 300, 0, 4);
    write_part("3silent.wav", WAV16, 48000, 2, 1000, 0, 0, 1);
    char *cache = strdup(in_folder(".cache/loudness"));
    assert_non_null(cache);
    const struct tower_playlist_config config = {
        .path = folder, .is_levelled = true, .target_lufs = -16, .cache = cache};
    /* However slow the machine is, all is known when their turn comes. */
    static const char *const names[] = {"1loud.wav", "2quiet.flac", "3silent.wav"};
    for (size_t i = 0; i < 3; i++) {
        static _Atomic bool never;
        struct tower_loudness found;
        const char *path = in_folder(names[i]);
        assert_int_equal(
            tower_loudness_measure(tower_clock_real(), NULL, path, &never, NULL, NULL, &found), 0);
        assert_int_equal(tower_loudness_cache_store(cache, path, &found), 0);
    }
    assert_int_equal(play(&config, SIZE_MAX), 0);
    free(cache);
    assert_int_equal(n_heard, 9 * 48000);
    assert_true(fabs(loudness_of(0, 4 * 48000) + 16) < 0.5);
    assert_true(fabs(loudness_of(4 * 48000, 8 * 48000) + 16) < 0.5);
    for (size_t i = 8 * 48000 + 1000; i < n_heard; i++)
        assert_int_equal(heard[i][0], 0);
}

static void test_a_single_file_is_a_list_of_one(void **state) {
    (void)state;
    write_part("1.wav", WAV16, 48000, 2, 1000, 10000, 0, 1);
    assert_int_equal(play(&(struct tower_playlist_config){.path = in_folder("1.wav")}, SIZE_MAX),
                     0);
    assert_int_equal(n_heard, 48000);
    assert_true(worst_error(1000, 10000, 0, n_heard) < 1);
}

static void test_a_paced_list_takes_its_time_on_its_clock(void **state) {
    (void)state;
    static int16_t chunk[1152 * 2];
    struct tower_clock *clock;
    struct tower_source *source;
    size_t bytes;
    int got;
    write_part("1.wav", WAV16, 48000, 2, 1000, 10000, 0, 1);
    write_part("2.wav", WAV16, 48000, 2, 1000, 10000, 0, 1);
    assert_int_equal(tower_clock_virtual_new(0, &clock), 0);
    tower_clock_virtual_set_auto(clock, true);
    const struct tower_playlist_config config = {.path = folder, .is_paced = true};
    assert_int_equal(tower_source_open_playlist(clock, &config, &source, NULL, 0), 0);
    while ((got = tower_source_read(source, chunk, &bytes)) == 1) {
    }
    assert_int_equal(got, 0);
    assert_int_equal(tower_clock_now_ns(clock), 2 * TOWER_NS_PER_S);
    tower_source_close(source);
    tower_clock_free(clock);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_files_of_one_format_join_as_if_they_were_one),
        TEST(test_files_of_different_formats_join_without_a_step),
        TEST(test_48_khz_stereo_is_bit_for_bit_through_many_short_files),
        TEST(test_short_files_that_the_converter_holds_back_have_their_places),
        TEST(test_what_cannot_be_read_is_passed_over_with_a_line),
        TEST(test_a_file_that_breaks_off_is_followed_by_the_next),
        TEST(test_where_nothing_can_be_read_it_ends_with_an_error),
        TEST(test_a_loop_goes_on_and_ends_when_all_files_are_gone),
        TEST(test_a_folder_shuffled_again_and_again),
        TEST(test_a_crossfade_is_of_equal_power),
        TEST(test_a_crossfade_longer_than_the_files),
        TEST(test_loud_and_quiet_files_come_out_as_loud_as_asked_for),
        TEST(test_a_single_file_is_a_list_of_one),
        TEST(test_a_paced_list_takes_its_time_on_its_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
