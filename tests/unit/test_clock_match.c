/* Clocks that disagree: what is estimated, and that what is made keeps to the host's clock. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "clock_match.h"
#include "tower/source.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define CHUNK 1152
#define RATE 48000
#define DAY_S (24 * 60 * 60)
#define CHUNK_NS INT64_C(24000000)
#define MS INT64_C(1000000)

/* ---- a simulated day ---- */

/* The router, in samples: fed by what is made, and emptied by the pump on the host's clock. */
struct depth {
    int64_t begin_ns;
    int64_t ticks; /* done */
    double made;
    double lowest, highest;
};

static void take_until(struct depth *depth, int64_t now_ns) {
    while (depth->begin_ns + (depth->ticks + 1) * CHUNK_NS <= now_ns) {
        depth->ticks++;
        depth->lowest = fmin(depth->lowest, depth->made - (double)(depth->ticks * CHUNK));
    }
}

/* The mock in real time on a virtual clock; samples are counted, not resampled. */
static void run_a_day(double error_ppm) {
    struct tower_clock *clock;
    struct tower_source *source;
    struct tower_clock_match match;
    struct tower_clock_match_view view;
    const struct tower_mock_config config = {.rate_hz = RATE,
                                             .channels = 1,
                                             .chunk_samples = CHUNK,
                                             .seed = 7,
                                             .error_ppm = error_ppm,
                                             .late_max_ns = 5 * MS};
    assert_int_equal(tower_clock_virtual_new(1000, &clock), 0);
    tower_clock_virtual_set_auto(clock, true);
    assert_int_equal(tower_source_open_mock(clock, &config, &source), 0);
    tower_clock_match_init(&match, RATE);
    void *chunk = malloc(tower_source_chunk_bytes(source));
    assert_non_null(chunk);
    uint64_t samples = 0;
    struct depth depth = {.lowest = 1e9, .highest = -1e9};
    int64_t begin_ns = tower_clock_now_ns(clock);
    int64_t passed_ns = 0;
    double worst_ppm = 0, largest_step = 0, last_ratio = 1;
    while (passed_ns < DAY_S * TOWER_NS_PER_S) {
        size_t bytes;
        assert_int_equal(tower_source_read(source, chunk, &bytes), 1);
        samples += CHUNK;
        int64_t now_ns = tower_clock_now_ns(clock);
        passed_ns = now_ns - begin_ns;
        tower_clock_match_observe(&match, now_ns, samples);
        double ratio = tower_clock_match_advance(&match, CHUNK);
        /* On air with a cushion of two frames, as the transmitter has it. */
        if (samples == 3 * CHUNK)
            depth.begin_ns = now_ns;
        if (samples >= 3 * CHUNK)
            take_until(&depth, now_ns);
        depth.made += ratio * CHUNK;
        if (samples >= 3 * CHUNK)
            depth.highest = fmax(depth.highest, depth.made - (double)(depth.ticks * CHUNK));
        tower_clock_match_view(&match, &view);
        if (passed_ns > 60 * TOWER_NS_PER_S) {
            worst_ppm = fmax(worst_ppm, fabs(view.ppm - error_ppm));
            largest_step = fmax(largest_step, fabs(ratio - last_ratio));
        }
        last_ratio = ratio;
    }
    assert_true(view.is_known);
    assert_false(view.is_out_of_range);
    assert_int_equal(view.n_jumps, 0);
    if (worst_ppm > 2)
        fail_msg("after a minute %.2f ppm off", worst_ppm);
    assert_true(view.spread_ppm > 0 && view.spread_ppm < 1);
    assert_true(fabs(view.ppm - error_ppm) < 5 * view.spread_ppm);
    assert_true(fabs(view.correction_ppm + error_ppm) < 20);
    assert_true(largest_step < 20e-6);
    /* None missing; and no more than the cushion, a chunk and what may be late. */
    if (depth.lowest < 0 || depth.highest > 4 * CHUNK + 0.010 * RATE)
        fail_msg("depth from %.0f to %.0f samples", depth.lowest, depth.highest);
    free(chunk);
    tower_source_close(source);
    tower_clock_free(clock);
}

static void test_a_day_at_20_ppm(void **state) {
    (void)state;
    run_a_day(20);
    run_a_day(-20);
}

static void test_a_day_at_100_ppm(void **state) {
    (void)state;
    run_a_day(100);
    run_a_day(-100);
}

static void test_a_day_at_400_ppm(void **state) {
    (void)state;
    run_a_day(400);
    run_a_day(-400);
}

/* ---- what goes wrong ---- */

struct simulated {
    struct tower_clock_match match;
    int64_t captured_ns; /* on the source's clock, of the last chunk */
    uint64_t samples;
    uint64_t random;
    double ppm;
    int64_t extra_late_ns;
};

static struct tower_clock_match_view run_for(struct simulated *simulated, int64_t seconds) {
    struct tower_clock_match_view view;
    for (int64_t i = 0; i < seconds * TOWER_NS_PER_S / CHUNK_NS; i++) {
        simulated->captured_ns += (int64_t)((double)CHUNK_NS / (1 + simulated->ppm / 1e6));
        simulated->samples += CHUNK;
        simulated->random = simulated->random * UINT64_C(6364136223846793005) + 1;
        int64_t late_ns = (int64_t)((simulated->random >> 33) % (uint64_t)(5 * MS));
        tower_clock_match_observe(&simulated->match,
                                  simulated->captured_ns + late_ns + simulated->extra_late_ns,
                                  simulated->samples);
        (void)tower_clock_match_advance(&simulated->match, CHUNK);
    }
    tower_clock_match_view(&simulated->match, &view);
    return view;
}

static void begin(struct simulated *simulated, double ppm) {
    *simulated = (struct simulated){.random = 3, .ppm = ppm};
    tower_clock_match_init(&simulated->match, RATE);
}

static void test_nothing_is_claimed_or_changed_at_first(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 300);
    struct tower_clock_match_view view = run_for(&simulated, 3);
    assert_false(view.is_known);
    assert_true(view.correction_ppm == 0);
    view = run_for(&simulated, 27);
    assert_true(view.is_known);
    assert_true(fabs(view.ppm - 300) < 20);
}

/* A host that stalls for some seconds makes chunks late, and the source's clock no slower. */
static void test_late_chunks_change_nothing(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 50);
    (void)run_for(&simulated, 60);
    simulated.extra_late_ns = 300 * MS;
    struct tower_clock_match_view view = run_for(&simulated, 7);
    assert_true(fabs(view.ppm - 50) < 2);
    simulated.extra_late_ns = 0;
    view = run_for(&simulated, 60);
    assert_true(fabs(view.ppm - 50) < 2);
    assert_int_equal(view.n_jumps, 0);
}

/* A buffer that became longer for good: the rate stays, and what is made comes to its new place. */
static void test_a_lasting_delay_moves_the_place_and_not_the_rate(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 50);
    (void)run_for(&simulated, 120);
    simulated.extra_late_ns = 40 * MS;
    struct tower_clock_match_view view = run_for(&simulated, 60);
    assert_int_equal(view.n_jumps, 1);
    assert_true(fabs(view.ppm - 50) < 2);
    assert_true(fabs(view.correction_ppm + 50 - 200) < 5);
    view = run_for(&simulated, 600);
    assert_true(fabs(view.correction_ppm + 50) < 5);
}

static void test_lost_samples_leave_the_rate_and_are_not_made_up(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, -80);
    (void)run_for(&simulated, 120);
    simulated.captured_ns += 60 * MS;
    tower_clock_match_lose_place(&simulated.match);
    for (int i = 0; i < 60; i++) {
        struct tower_clock_match_view view = run_for(&simulated, 1);
        assert_true(fabs(view.ppm + 80) < 2);
        assert_true(fabs(view.correction_ppm - 80) < 10);
    }
}

/* Lost before there is a line: begun anew, as if nothing had been. */
static void test_a_loss_at_the_beginning_begins_anew(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, -80);
    (void)run_for(&simulated, 5);
    simulated.captured_ns += 700 * MS;
    tower_clock_match_lose_place(&simulated.match);
    struct tower_clock_match_view view = run_for(&simulated, 60);
    assert_true(fabs(view.ppm + 80) < 2);
}

static void test_another_clock_is_learned_anew(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 40);
    (void)run_for(&simulated, 600);
    tower_clock_match_lose_place(&simulated.match);
    simulated.captured_ns += 9000 * MS;
    simulated.ppm = -350;
    struct tower_clock_match_view view = run_for(&simulated, 180);
    assert_true(fabs(view.ppm + 350) < 2);
}

static void test_out_of_range_is_an_alarm_and_ends(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 700);
    struct tower_clock_match_view view = run_for(&simulated, 60);
    assert_true(view.is_out_of_range);
    assert_true(fabs(view.ppm - 700) < 2);
    assert_true(fabs(view.correction_ppm + 700) < 20);
    begin(&simulated, 3000);
    view = run_for(&simulated, 60);
    assert_true(view.is_out_of_range);
    assert_true(fabs(view.ppm - 3000) < 5);
    assert_true(fabs(view.correction_ppm + 1000) < 0.01);
    begin(&simulated, 495);
    assert_false(run_for(&simulated, 60).is_out_of_range);
}

/* As a crystal does that warms up: 10 ppm in an hour. */
static void test_a_slow_drift_is_followed(void **state) {
    (void)state;
    struct simulated simulated;
    struct tower_clock_match_view view;
    begin(&simulated, 20);
    for (int minute = 0; minute < 60; minute++) {
        view = run_for(&simulated, 60);
        simulated.ppm += 10.0 / 60;
    }
    assert_true(fabs(view.ppm - simulated.ppm) < 2);
    assert_int_equal(view.n_jumps, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_day_at_20_ppm),
        cmocka_unit_test(test_a_day_at_100_ppm),
        cmocka_unit_test(test_a_day_at_400_ppm),
        cmocka_unit_test(test_nothing_is_claimed_or_changed_at_first),
        cmocka_unit_test(test_late_chunks_change_nothing),
        cmocka_unit_test(test_a_lasting_delay_moves_the_place_and_not_the_rate),
        cmocka_unit_test(test_lost_samples_leave_the_rate_and_are_not_made_up),
        cmocka_unit_test(test_a_loss_at_the_beginning_begins_anew),
        cmocka_unit_test(test_another_clock_is_learned_anew),
        cmocka_unit_test(test_out_of_range_is_an_alarm_and_ends),
        cmocka_unit_test(test_a_slow_drift_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
