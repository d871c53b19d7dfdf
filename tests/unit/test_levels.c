/* Levels: peak, RMS, dBFS. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/levels.h"

#include <math.h>

static void test_sine_has_its_peak_and_rms(void **state) {
    (void)state;
    static int16_t samples[2 * 48000];
    struct tower_levels levels;
    for (int i = 0; i < 48000; i++) {
        samples[2 * i] = (int16_t)lrint(16384 * sin(2 * M_PI * 1000 * i / 48000));
        samples[2 * i + 1] = 0;
    }
    tower_levels_reset(&levels);
    tower_levels_add(&levels, samples, 24000);
    tower_levels_add(&levels, samples + 48000, 24000);
    assert_int_equal(levels.n_samples, 48000);
    assert_int_equal(levels.peak[0], 16384);
    assert_int_equal(levels.peak[1], 0);
    assert_true(fabs(tower_levels_rms(&levels, 0) - 16384 / sqrt(2)) < 1);
    assert_true(fabs(tower_levels_dbfs(levels.peak[0]) + 6.0206) < 0.001);
    assert_true(tower_levels_dbfs(tower_levels_rms(&levels, 1)) == -120);
}

static void test_most_negative_sample_is_full_scale(void **state) {
    (void)state;
    int16_t samples[2] = {INT16_MIN, INT16_MAX};
    struct tower_levels levels;
    tower_levels_reset(&levels);
    assert_true(tower_levels_rms(&levels, 0) == 0);
    tower_levels_add(&levels, samples, 1);
    assert_int_equal(levels.peak[0], 32768);
    assert_int_equal(levels.peak[1], 32767);
    assert_true(tower_levels_dbfs(levels.peak[0]) == 0);
}

static void test_measurements_joined_are_as_one(void **state) {
    (void)state;
    const int16_t samples[] = {100, -7, -300, 50, 20, -32768, 5, 6};
    struct tower_levels whole, first, second;
    tower_levels_reset(&whole);
    tower_levels_reset(&first);
    tower_levels_reset(&second);
    tower_levels_add(&whole, samples, 4);
    tower_levels_add(&first, samples, 1);
    tower_levels_add(&second, samples + 2, 3);
    tower_levels_join(&first, &second);
    assert_int_equal(first.n_samples, 4);
    for (unsigned channel = 0; channel < 2; channel++) {
        assert_int_equal(first.peak[channel], whole.peak[channel]);
        assert_true(first.square_sum[channel] == whole.square_sum[channel]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sine_has_its_peak_and_rms),
        cmocka_unit_test(test_most_negative_sample_is_full_scale),
        cmocka_unit_test(test_measurements_joined_are_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
