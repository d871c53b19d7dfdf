/* Seams in the PCM: router, fallback and pump together, and what they hand to the encoder. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/fallback.h"
#include "tower/pump.h"
#include "tower/router.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FRAME 1152
#define FRAME_BYTES (FRAME * TOWER_SAMPLE_BYTES)
#define TICKS 4000
#define GRACE_FRAMES 10
#define TONE_HZ 440
#define TONE_DBFS (-6)

static struct {
    struct tower_clock *clock;
    struct tower_router *router;
    struct tower_fallback *fallback;
    struct tower_pump *pump;
    int16_t heard[TICKS * FRAME * TOWER_CHANNELS]; /* all that went to the encoder */
    size_t n_heard;                                /* frames */
    double phase;                                  /* of the programme */
} station;

static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    return tower_router_pop_frame(self, timeout_ns, ret_frame, ret_flags);
}

static enum tower_origin get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    return tower_fallback_get_frame(self, tick, ret_frame);
}

static int hear(void *self, const int16_t *frame, size_t frame_bytes) {
    (void)self;
    assert_int_equal(frame_bytes, FRAME_BYTES);
    assert_true(station.n_heard < TICKS);
    memcpy(station.heard + station.n_heard++ * FRAME * TOWER_CHANNELS, frame, frame_bytes);
    return 0;
}

static int setup(void **state) {
    (void)state;
    memset(&station, 0, sizeof station);
    srand(1);
    if (tower_clock_virtual_new(0, &station.clock) < 0 ||
        tower_router_new(station.clock, 20, FRAME_BYTES, &station.router) < 0)
        return -1;
    tower_clock_virtual_set_auto(station.clock, true);
    struct tower_fallback_config fallback = {
        .clock = station.clock,
        .frame_samples = FRAME,
        .grace_ns = GRACE_FRAMES * INT64_C(24000000),
        .tone_hz = TONE_HZ,
        .tone_dbfs = TONE_DBFS,
    };
    if (tower_fallback_new(&fallback, &station.fallback) < 0)
        return -1;
    struct tower_pump_config pump = {
        .clock = station.clock,
        .frame_samples = FRAME,
        .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
        .pcm_buffer = {station.router, pop_frame},
        .fallback = {station.fallback, get_frame},
        .encoder = {NULL, hear},
    };
    return tower_pump_new(&pump, &station.pump);
}

static int teardown(void **state) {
    (void)state;
    tower_pump_free(station.pump);
    tower_fallback_free(station.fallback);
    tower_router_free(station.router);
    tower_clock_free(station.clock);
    return 0;
}

/* Push a frame of a sine that goes on from the frame before it. */
static int push(double hz, double amplitude) {
    int16_t frame[FRAME * TOWER_CHANNELS];
    for (int i = 0; i < FRAME; i++) {
        frame[2 * i] = frame[2 * i + 1] = (int16_t)lrint(amplitude * sin(station.phase));
        station.phase += 2 * M_PI * hz / TOWER_RATE_HZ;
    }
    return tower_router_push_frame(station.router, frame, sizeof frame);
}

static void tick(int n) {
    for (int i = 0; i < n; i++)
        tower_pump_step(station.pump);
}

static int largest_step(void) {
    int largest = 0;
    for (size_t i = TOWER_CHANNELS; i < station.n_heard * FRAME * TOWER_CHANNELS; i++) {
        int step = abs(station.heard[i] - station.heard[i - TOWER_CHANNELS]);
        largest = step > largest ? step : largest;
    }
    return largest;
}

/* The step of a sine by itself. */
static int own_step(double hz, double amplitude) {
    return (int)ceil(2 * amplitude * sin(M_PI * hz / TOWER_RATE_HZ)) + 1;
}

static uint64_t seams(void) {
    struct tower_pump_stats stats;
    tower_pump_get_stats(station.pump, &stats);
    return stats.seams;
}

static void test_live_grace_tone_and_live_again(void **state) {
    (void)state;
    const double amplitude = 20000, hz = 500;
    /* Every length of a visit, so every phase of programme and tone is cut and joined. */
    for (int visit = 0; visit < 40; visit++) {
        for (int i = 0; i < 8 + visit % 5; i++) {
            assert_int_equal(push(hz, amplitude), 1);
            tick(1);
        }
        station.phase += rand();
        tick(GRACE_FRAMES + 3 + visit % 7);
    }
    assert_int_equal(seams(), 40 * 3 - 1);
    assert_in_range(largest_step(), 500, own_step(hz, amplitude));
}

static void test_one_programme_after_another(void **state) {
    (void)state;
    for (int visit = 0; visit < 60; visit++) {
        tower_router_mark_discontinuity(station.router);
        station.phase = rand();
        for (int i = 0; i < 6; i++) {
            assert_int_equal(push(400 + 10 * visit, 15000), 1);
            tick(1);
        }
    }
    assert_int_equal(seams(), 59);
    assert_in_range(largest_step(), 500, own_step(400 + 10 * 59, 15000));
}

static void test_programme_with_frames_dropped_by_a_full_router(void **state) {
    (void)state;
    int dropped = 0;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 30; i++)
            dropped += push(617, 20000) == 0;
        tick(20);
    }
    tick(1);
    assert_true(dropped >= 250);
    assert_in_range(largest_step(), 500, own_step(617, 20000));
}

/* Who looks at the levels ten times a second must not miss a peak. */
static void test_levels_are_those_of_the_last_120_ms(void **state) {
    (void)state;
    for (int i = 0; i < 2 * TOWER_PUMP_LEVEL_FRAMES; i++) {
        assert_int_equal(push(500, i == 0 ? 20000 : 2000), 1);
        tick(1);
        struct tower_pump_stats stats;
        tower_pump_get_stats(station.pump, &stats);
        if (i < TOWER_PUMP_LEVEL_FRAMES)
            assert_in_range(stats.peak[0], 19990, 20000);
        else
            assert_in_range(stats.peak[0], 1990, 2100);
        if (i > TOWER_PUMP_LEVEL_FRAMES)
            assert_in_range(stats.rms[1], 1400, 1430);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_live_grace_tone_and_live_again),
        TEST(test_one_programme_after_another),
        TEST(test_levels_are_those_of_the_last_120_ms),
        TEST(test_programme_with_frames_dropped_by_a_full_router),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
