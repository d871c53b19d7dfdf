/* FallbackGenerator: grace, then file, tone or silence; always a whole frame, never a step. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/fallback.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAME 1152
#define PATIENCE_S 30

struct fixture {
    struct tower_clock *clock; /* virtual */
    struct tower_fallback *fallback;
    char path[64];
    uint64_t tick;
    int16_t frame[FRAME * 2];
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    *state = fixture;
    strcpy(fixture->path, "/tmp/tower-test-XXXXXX.wav");
    int fd = mkstemps(fixture->path, 4);
    if (fd < 0)
        return -1;
    close(fd);
    return tower_clock_virtual_new(0, &fixture->clock);
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    tower_fallback_free(fixture->fallback);
    tower_clock_free(fixture->clock);
    (void)unlink(fixture->path);
    free(fixture);
    return 0;
}

static void make_with(struct fixture *fixture, int64_t grace_ns, const char *file_path,
                      const char *ffmpeg, double tone_hz) {
    struct tower_fallback_config config = {
        .clock = fixture->clock,
        .frame_samples = FRAME,
        .grace_ns = grace_ns,
        .file_path = file_path,
        .ffmpeg = ffmpeg,
        .tone_hz = tone_hz,
        .tone_dbfs = -6,
    };
    assert_int_equal(tower_fallback_new(&config, &fixture->fallback), 0);
}

static void make(struct fixture *fixture, int64_t grace_ns, const char *file_path, double tone_hz) {
    make_with(fixture, grace_ns, file_path, NULL, tone_hz);
}

/* A file that libsndfile cannot read, and a decoder for it that runs `line`, in `ret_script`. */
static void write_strange_file(struct fixture *fixture, const char *line, char ret_script[64]) {
    FILE *file = fopen(fixture->path, "wb");
    assert_non_null(file);
    fputs("no audio that libsndfile knows", file);
    assert_int_equal(fclose(file), 0);
    strcpy(ret_script, "/tmp/tower-test-XXXXXX.sh");
    int fd = mkstemps(ret_script, 3);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "#!/bin/sh\n%s\n", line) > 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    assert_int_equal(close(fd), 0);
}

static enum tower_origin next(struct fixture *fixture) {
    memset(fixture->frame, 0x55, sizeof fixture->frame);
    return tower_fallback_get_frame(fixture->fallback, fixture->tick++, fixture->frame);
}

static bool is_silent(const struct fixture *fixture) {
    for (int i = 0; i < FRAME * 2; i++) {
        if (fixture->frame[i] != 0)
            return false;
    }
    return true;
}

static void put_u32(FILE *file, uint32_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        fputc((int)(value >> (8 * i) & 255), file);
}

/* A WAV file of `periods` whole periods of a sine that takes `period_samples`, from phase 0. */
static void write_sine(const char *path, uint32_t rate_hz, uint32_t channels, int periods,
                       int period_samples, double amplitude) {
    uint32_t n = (uint32_t)(periods * period_samples);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("RIFF", file);
    put_u32(file, 36 + n * channels * 2, 4);
    fputs("WAVEfmt ", file);
    put_u32(file, 16, 4);
    put_u32(file, 1, 2);
    put_u32(file, channels, 2);
    put_u32(file, rate_hz, 4);
    put_u32(file, rate_hz * channels * 2, 4);
    put_u32(file, channels * 2, 2);
    put_u32(file, 16, 2);
    fputs("data", file);
    put_u32(file, n * channels * 2, 4);
    for (uint32_t i = 0; i < n; i++) {
        long value = lrint(amplitude * sin(2 * M_PI * i / period_samples));
        for (uint32_t channel = 0; channel < channels; channel++)
            put_u32(file, (uint32_t)(uint16_t)value, 2);
    }
    assert_int_equal(fclose(file), 0);
}

typedef bool condition(const struct tower_fallback_stats *stats, uint64_t wanted);

static bool is_ready(const struct tower_fallback_stats *stats, uint64_t wanted) {
    return stats->is_file_ready == (wanted != 0);
}

static bool has_errors(const struct tower_fallback_stats *stats, uint64_t wanted) {
    return stats->file_errors >= wanted;
}

/* Wait, in real time, for what the reader thread does. */
static void await(struct fixture *fixture, condition *is_met, uint64_t wanted) {
    struct tower_clock *real = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(real) + PATIENCE_S * TOWER_NS_PER_S;
    for (;;) {
        struct tower_fallback_stats stats;
        tower_fallback_get_stats(fixture->fallback, &stats);
        if (is_met(&stats, wanted))
            return;
        assert_true(tower_clock_now_ns(real) < limit_ns);
        (void)tower_clock_sleep_until(real, tower_clock_now_ns(real) + 1000000);
    }
}

static void test_grace_is_silence_for_just_its_time(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 5 * TOWER_NS_PER_S, NULL, 440);
    /* 5 s are 208.33 frames: 209 of silence. */
    for (int i = 0; i < 209; i++) {
        assert_int_equal(next(fixture), TOWER_ORIGIN_GRACE);
        assert_true(is_silent(fixture));
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
    /* Live audio was on for one tick: the next outage has its own grace. */
    fixture->tick++;
    assert_int_equal(next(fixture), TOWER_ORIGIN_GRACE);
    struct tower_fallback_stats stats;
    tower_fallback_get_stats(fixture->fallback, &stats);
    assert_int_equal(stats.outages, 2);
}

/* A frame of 1000 samples is 20833333.3 ns: 240 of them are 5 s, and not a 241st. */
static void test_grace_of_whole_frames_is_not_a_frame_longer(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        uint32_t frame_samples;
        int64_t grace_ns;
        int frames;
    } cases[] = {
        {1000, 5 * TOWER_NS_PER_S, 240},
        {1000, 5 * TOWER_NS_PER_S + 1, 241},
        {1024, 8 * TOWER_NS_PER_S, 375},
        {1024, 64, 1},
        {1152, 24000000, 1},
        {1152, 24000001, 2},
        {1152, 3600 * TOWER_NS_PER_S, 150000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tower_fallback_config config = {.clock = fixture->clock,
                                               .frame_samples = cases[i].frame_samples,
                                               .grace_ns = cases[i].grace_ns,
                                               .tone_hz = 440};
        struct tower_fallback *fallback;
        assert_int_equal(tower_fallback_new(&config, &fallback), 0);
        int frames = 0;
        while (tower_fallback_get_frame(fallback, (uint64_t)frames, fixture->frame) ==
               TOWER_ORIGIN_GRACE)
            frames++;
        assert_int_equal(frames, cases[i].frames);
        tower_fallback_free(fallback);
    }
}

static void test_tone_has_its_pitch_level_and_no_step_between_frames(void **state) {
    struct fixture *fixture = *state;
    const double hz = 440.5, amplitude = 32767 * pow(10, -6 / 20.0);
    make(fixture, 0, NULL, hz);
    int16_t before = 0;
    uint64_t n = 0;
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
        for (int j = 0; j < FRAME; j++, n++) {
            int16_t left = fixture->frame[2 * j];
            assert_int_equal(left, fixture->frame[2 * j + 1]);
            assert_true(abs(left - before) <= 2 * M_PI * hz / 48000 * amplitude + 2);
            /* The very sine, also after 48 s: the phase has not crept. */
            double expected = amplitude * sin(2 * M_PI * fmod((double)n * hz / 48000, 1));
            assert_true(fabs(left - expected) < 2.5);
            before = left;
        }
    }
}

static void test_without_a_tone_there_is_silence(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 0, NULL, 0);
    assert_int_equal(next(fixture), TOWER_ORIGIN_SILENCE);
    assert_true(is_silent(fixture));
}

/* Take `frames` from the file, waiting for its reader wherever it is behind; the largest step. */
static int largest_file_step(struct fixture *fixture, int frames) {
    int largest = 0;
    int16_t before = 0;
    for (int i = 0; i < frames; i++) {
        await(fixture, is_ready, 1);
        assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
        /* The very start of the file is not a seam, and a resampler rings there. */
        for (int j = i == 0 ? FRAME / 2 : 0; j < FRAME; j++) {
            if (i == 0 && j == FRAME / 2)
                before = fixture->frame[2 * j];
            int step = abs(fixture->frame[2 * j] - before);
            largest = step > largest ? step : largest;
            before = fixture->frame[2 * j];
        }
    }
    return largest;
}

static void test_file_loops_without_a_seam(void **state) {
    struct fixture *fixture = *state;
    /* 100 Hz for 0.1 s; 50 frames are a dozen times round. */
    write_sine(fixture->path, 48000, 2, 10, 480, 20000);
    make(fixture, 0, fixture->path, 440);
    assert_in_range(largest_file_step(fixture, 50), 200, 20000 * 2 * M_PI / 480 + 2);
    struct tower_fallback_stats stats;
    tower_fallback_get_stats(fixture->fallback, &stats);
    assert_true(stats.file_loops >= 11);
}

static void test_file_of_another_rate_loops_without_a_seam(void **state) {
    struct fixture *fixture = *state;
    write_sine(fixture->path, 44100, 1, 10, 441, 20000);
    make(fixture, 0, fixture->path, 440);
    assert_in_range(largest_file_step(fixture, 50), 200, 20000 * 2 * M_PI / 480 + 4);
}

static void test_file_whose_ends_do_not_meet_is_joined(void **state) {
    struct fixture *fixture = *state;
    /* Ends a quarter period short: a bare loop would step by the whole amplitude. */
    write_sine(fixture->path, 48000, 2, 1, 4800, 20000);
    assert_int_equal(truncate(fixture->path, 44 + 4 * 3600), 0);
    make(fixture, 0, fixture->path, 440);
    assert_in_range(largest_file_step(fixture, 50), 20, 200);
}

static void test_next_outage_begins_at_the_start_of_the_file(void **state) {
    struct fixture *fixture = *state;
    int16_t first[FRAME * 2];
    write_sine(fixture->path, 48000, 2, 1, 480000, 20000);
    make(fixture, 0, fixture->path, 440);
    await(fixture, is_ready, 1);
    assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
    memcpy(first, fixture->frame, sizeof first);
    for (int i = 0; i < 20; i++) {
        await(fixture, is_ready, 1);
        assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
    }
    assert_memory_not_equal(first, fixture->frame, sizeof first);
    /* Nothing is taken for a second: the reader goes back. It may see the last frame taken only
     * after the clock was moved, so move it until it has. */
    struct tower_fallback_stats stats;
    tower_fallback_get_stats(fixture->fallback, &stats);
    assert_int_equal(stats.file_opens, 1);
    int64_t limit_ns = tower_clock_now_ns(tower_clock_real()) + PATIENCE_S * TOWER_NS_PER_S;
    while (stats.file_opens == 1) {
        assert_true(tower_clock_now_ns(tower_clock_real()) < limit_ns);
        assert_int_equal(tower_clock_virtual_await_sleepers(fixture->clock, 1), 0);
        tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
        tower_fallback_get_stats(fixture->fallback, &stats);
    }
    await(fixture, is_ready, 1);
    fixture->tick += 100;
    assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
    assert_memory_equal(first, fixture->frame, sizeof first);
}

/* A machine that stands still for a second within an outage: the reader takes the outage for over
 * and goes back to the start, and the pump goes on where it was. */
static void test_file_that_begins_again_within_an_outage_is_joined(void **state) {
    struct fixture *fixture = *state;
    struct tower_fallback_stats stats = {0};
    /* After 21 frames a quarter of a period is over: the start is 20000 away. */
    write_sine(fixture->path, 48000, 2, 10, 96000, 20000);
    make(fixture, 0, fixture->path, 440);
    int16_t before = 0;
    for (int i = 0; i < 21; i++) {
        await(fixture, is_ready, 1);
        assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
        before = fixture->frame[FRAME * 2 - 2];
    }
    assert_in_range(before, 19900, 20000);
    int64_t limit_ns = tower_clock_now_ns(tower_clock_real()) + PATIENCE_S * TOWER_NS_PER_S;
    while (stats.file_opens < 2) {
        assert_true(tower_clock_now_ns(tower_clock_real()) < limit_ns);
        assert_int_equal(tower_clock_virtual_await_sleepers(fixture->clock, 1), 0);
        tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
        tower_fallback_get_stats(fixture->fallback, &stats);
    }
    int largest = 0;
    for (int i = 0; i < 10; i++) {
        await(fixture, is_ready, 1);
        assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
        for (int j = 0; j < FRAME; j++) {
            int step = abs(fixture->frame[2 * j] - before);
            largest = step > largest ? step : largest;
            before = fixture->frame[2 * j];
        }
    }
    assert_in_range(largest, 1, 100);
}

static void test_file_that_fails_gives_way_to_the_tone_and_is_tried_again(void **state) {
    struct fixture *fixture = *state;
    unlink(fixture->path);
    make(fixture, 0, fixture->path, 440);
    await(fixture, has_errors, 1);
    assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
    write_sine(fixture->path, 48000, 2, 10, 480, 20000);
    assert_int_equal(tower_clock_virtual_await_sleepers(fixture->clock, 1), 0);
    assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
    tower_clock_virtual_advance(fixture->clock, 5 * TOWER_NS_PER_S);
    await(fixture, is_ready, 1);
    assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
}

static void test_file_without_audio_is_no_fallback(void **state) {
    struct fixture *fixture = *state;
    write_sine(fixture->path, 48000, 2, 0, 480, 0);
    make(fixture, 0, fixture->path, 440);
    await(fixture, has_errors, 1);
    assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
}

static void test_file_that_fails_half_way_is_not_heard_twice_over(void **state) {
    struct fixture *fixture = *state;
    char script[64];
    struct tower_fallback_stats stats;
    /* Ten frames and a bit, then it breaks, each time; nothing is on air of it meanwhile. */
    write_strange_file(fixture, "head -c 50000 /dev/zero; exit 1", script);
    make_with(fixture, 0, fixture->path, script, 440);
    for (uint64_t tries = 1; tries < 4; tries++) {
        await(fixture, has_errors, tries);
        assert_int_equal(tower_clock_virtual_await_sleepers(fixture->clock, 1), 0);
        tower_clock_virtual_advance(fixture->clock, 5 * TOWER_NS_PER_S);
    }
    await(fixture, has_errors, 4);
    tower_fallback_get_stats(fixture->fallback, &stats);
    assert_int_equal(stats.file_opens, 4);
    for (int i = 0; i < 10; i++)
        assert_int_equal(next(fixture), TOWER_ORIGIN_FILE);
    assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
    (void)unlink(script);
}

static void test_decoder_that_hangs_does_not_hold_up_the_end(void **state) {
    struct fixture *fixture = *state;
    char script[64];
    write_strange_file(fixture, "rm $0; exec sleep 600", script);
    make_with(fixture, 0, fixture->path, script, 440);
    assert_int_equal(next(fixture), TOWER_ORIGIN_TONE);
    /* Asked to stop before it came to the decoder, the thread would not hang at all. */
    int64_t limit_ns = tower_clock_now_ns(tower_clock_real()) + PATIENCE_S * TOWER_NS_PER_S;
    while (access(script, F_OK) == 0)
        assert_true(tower_clock_now_ns(tower_clock_real()) < limit_ns);
    alarm(PATIENCE_S);
    tower_fallback_free(fixture->fallback);
    alarm(0);
    fixture->fallback = NULL;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_grace_is_silence_for_just_its_time),
        TEST(test_grace_of_whole_frames_is_not_a_frame_longer),
        TEST(test_tone_has_its_pitch_level_and_no_step_between_frames),
        TEST(test_without_a_tone_there_is_silence),
        TEST(test_file_loops_without_a_seam),
        TEST(test_file_of_another_rate_loops_without_a_seam),
        TEST(test_file_whose_ends_do_not_meet_is_joined),
        TEST(test_next_outage_begins_at_the_start_of_the_file),
        TEST(test_file_that_begins_again_within_an_outage_is_joined),
        TEST(test_file_that_fails_gives_way_to_the_tone_and_is_tried_again),
        TEST(test_file_without_audio_is_no_fallback),
        TEST(test_file_that_fails_half_way_is_not_heard_twice_over),
        TEST(test_decoder_that_hangs_does_not_hold_up_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
