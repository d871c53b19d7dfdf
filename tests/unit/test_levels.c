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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sine_has_its_peak_and_rms),
        cmocka_unit_test(test_most_negative_sample_is_full_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
