/* The input gate: dead air goes through the router and is not heard; all that returns is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "input_gate.h"

#include <stdlib.h>
#include <string.h>

#define FRAME 1152
#define FRAME_BYTES (FRAME * TOWER_SAMPLE_BYTES)
#define FRAME_NS INT64_C(24000000)
/* Dead air begins with the tenth quiet frame. */
#define DEAD_FRAMES 10

struct fixture {
    struct tower_router *router;
    struct tower_input_monitor *monitor;
    struct tower_input_gate gate;
    int64_t now_ns;
    int n_put; /* frames, numbered from 1 */
};

static void make(struct fixture *fixture, size_t capacity_frames, bool withholds) {
    struct tower_input_monitor_config config = {
        .frame_samples = FRAME, .dead_air_after_ns = DEAD_FRAMES * FRAME_NS, .dead_air_dbfs = -40};
    assert_int_equal(
        tower_router_new(tower_clock_real(), capacity_frames, FRAME_BYTES, &fixture->router), 0);
    assert_int_equal(tower_input_monitor_new(&config, &fixture->monitor), 0);
    tower_input_gate_init(&fixture->gate, fixture->router, FRAME_BYTES, fixture->monitor,
                          withholds);
}

static int setup(void **state) {
    *state = calloc(1, sizeof(struct fixture));
    return *state ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    tower_input_monitor_free(fixture->monitor);
    tower_router_free(fixture->router);
    free(fixture);
    return 0;
}

/* Its first sample bears its number, so a quiet one is no larger than that. */
static void put(struct fixture *fixture, int frames, int16_t peak) {
    int16_t frame[FRAME * TOWER_CHANNELS];
    for (; frames > 0; frames--) {
        assert_true(tower_input_gate_drain(&fixture->gate));
        for (int i = 0; i < FRAME * TOWER_CHANNELS; i++)
            frame[i] = (int16_t)(i % 14 == 0 ? peak : -peak);
        frame[0] = (int16_t)++fixture->n_put;
        fixture->now_ns += FRAME_NS;
        tower_input_gate_put(&fixture->gate, (const uint8_t *)frame, fixture->now_ns);
    }
}

/* The next frame that comes out of the router is number `number`. Returns its flags. */
static unsigned pop(struct fixture *fixture, int number) {
    int16_t frame[FRAME * TOWER_CHANNELS];
    unsigned flags = 0;
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, &flags), 1);
    assert_int_equal(frame[0], number);
    return flags;
}

static void expect_empty(struct fixture *fixture) {
    int16_t frame[FRAME * TOWER_CHANNELS];
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
}

static void test_programme_passes_at_once(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 8, true);
    tower_input_gate_mark_discontinuity(&fixture->gate);
    for (int i = 1; i <= 50; i++) {
        put(fixture, 1, i % 20 < DEAD_FRAMES - 1 ? 0 : 5000);
        assert_int_equal(pop(fixture, i), i == 1 ? TOWER_FRAME_DISCONTINUITY : 0);
        expect_empty(fixture);
    }
    assert_int_equal(fixture->gate.withheld_frames, 0);
}

static void test_nothing_is_withheld_where_it_is_not_asked_for(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, false);
    put(fixture, 50, 0);
    assert_true(tower_input_monitor_has(fixture->monitor, TOWER_INPUT_DEAD_AIR));
    for (int i = 1; i <= 50; i++)
        assert_int_equal(pop(fixture, i), 0);
}

static void test_all_of_the_returning_programme_and_one_quiet_frame_before(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 200, true);
    put(fixture, 5, 5000);
    put(fixture, 40, 0);   /* 6 to 45; 15 is the tenth */
    put(fixture, 7, 5000); /* 46 is the first that is heard again, 48 the one that settles it */
    for (int i = 1; i <= 52; i++)
        assert_int_equal(pop(fixture, i), i < 15 || i >= 45 ? 0 : TOWER_FRAME_WITHHELD);
    expect_empty(fixture);
    assert_int_equal(fixture->gate.withheld_frames, 30);
}

static void test_the_programme_is_held_back_no_longer_than_is_needed(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 200, true);
    put(fixture, DEAD_FRAMES - 1, 0);
    for (int i = 1; i < DEAD_FRAMES; i++)
        assert_int_equal(pop(fixture, i), 0);
    put(fixture, TOWER_INPUT_GATE_FRAMES, 0);
    expect_empty(fixture);
    /* From here one comes out for each that goes in, so that the producer keeps its pace. */
    for (int i = DEAD_FRAMES; i < 100; i++) {
        put(fixture, 1, 0);
        assert_int_equal(pop(fixture, i), TOWER_FRAME_WITHHELD);
        expect_empty(fixture);
    }
    put(fixture, 2, 5000);
    assert_int_equal(pop(fixture, 100), TOWER_FRAME_WITHHELD);
    assert_int_equal(pop(fixture, 101), TOWER_FRAME_WITHHELD);
    expect_empty(fixture);
    put(fixture, 1, 5000);
    /* 102 was quiet and goes by before; 103 to 106 are one quiet one and the three. */
    assert_int_equal(pop(fixture, 102), TOWER_FRAME_WITHHELD);
    for (int i = 103; i <= 106; i++)
        assert_int_equal(pop(fixture, i), 0);
    expect_empty(fixture);
    put(fixture, 1, 5000);
    assert_int_equal(pop(fixture, 107), 0);
}

/* A programme that is there again before the router has a place: it waits here, and its producer
 * in its socket. */
static void test_a_full_router_loses_nothing(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 1, true);
    int next = 1;
    for (int i = 0; i < 200; i++) {
        int16_t peak = i % 40 < 20 ? 0 : 5000;
        while (!tower_input_gate_drain(&fixture->gate))
            (void)pop(fixture, next++);
        put(fixture, 1, peak);
    }
    while (next <= 200) {
        (void)tower_input_gate_drain(&fixture->gate);
        (void)pop(fixture, next++);
    }
    struct tower_router_stats stats;
    tower_router_get_stats(fixture->router, &stats);
    assert_int_equal(stats.overflow_count, 0);
    assert_int_equal(stats.pushed_count, 200);
}

static void test_what_is_held_of_one_programme_stays_before_the_next(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 4, true);
    put(fixture, DEAD_FRAMES - 7, 0);
    for (int i = 1; i <= DEAD_FRAMES - 7; i++)
        (void)pop(fixture, i);
    put(fixture, 4, 0);
    for (int i = 4; i <= 7; i++)
        (void)pop(fixture, i);
    put(fixture, 4, 0); /* 8, 9; 10 and 11 are held */
    (void)pop(fixture, 8);
    put(fixture, 2, 5000); /* 12, 13: not yet enough */
    tower_input_gate_end_programme(&fixture->gate, fixture->now_ns);
    tower_input_gate_mark_discontinuity(&fixture->gate);
    assert_false(tower_input_monitor_has(fixture->monitor, TOWER_INPUT_DEAD_AIR));
    /* 9 to 12 are in the router, 13 is not, and the next programme has to wait for it. */
    assert_false(tower_input_gate_drain(&fixture->gate));
    assert_int_equal(pop(fixture, 9), 0);
    assert_false(tower_input_gate_drain(&fixture->gate)); /* its place is taken by 13 */
    for (int i = 10; i <= 13; i++)
        assert_int_equal(pop(fixture, i), TOWER_FRAME_WITHHELD);
    put(fixture, 2, 5000);
    assert_int_equal(pop(fixture, 14), TOWER_FRAME_DISCONTINUITY);
    assert_int_equal(pop(fixture, 15), 0);
}

static void test_without_a_monitor(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(tower_router_new(tower_clock_real(), 50, FRAME_BYTES, &fixture->router), 0);
    tower_input_gate_init(&fixture->gate, fixture->router, FRAME_BYTES, NULL, true);
    put(fixture, 40, 0);
    tower_input_gate_end_programme(&fixture->gate, fixture->now_ns);
    put(fixture, 10, 0);
    assert_false(tower_input_gate_drain(&fixture->gate));
    for (int i = 1; i <= 50; i++)
        assert_int_equal(pop(fixture, i), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_programme_passes_at_once),
        TEST(test_nothing_is_withheld_where_it_is_not_asked_for),
        TEST(test_all_of_the_returning_programme_and_one_quiet_frame_before),
        TEST(test_the_programme_is_held_back_no_longer_than_is_needed),
        TEST(test_a_full_router_loses_nothing),
        TEST(test_what_is_held_of_one_programme_stays_before_the_next),
        TEST(test_without_a_monitor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
