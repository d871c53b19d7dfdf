/* Extrapolation: tones go on as they were, silence stays silent, nothing grows. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "extrapolate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N TOWER_EXTRAPOLATE_SAMPLES_MAX

static double chord(int i) {
    return 6000 * (sin(0.02 * i + 0.5) + sin(0.071 * i + 1) + sin(0.3 * i + 2));
}

static void test_chord_goes_on_as_it_was(void **state) {
    (void)state;
    int16_t past[N], ahead[N];
    for (int i = 0; i < N; i++)
        past[i] = (int16_t)lrint(chord(i));
    tower_extrapolate(past, N, ahead, N, 1);
    /* It is not left behind: the first samples are the chord's own, within the steps it makes. */
    for (int i = 0; i < 32; i++)
        assert_true(fabs(ahead[i] - chord(N + i)) < 400);
    for (int i = 1; i < N; i++)
        assert_true(abs(ahead[i] - ahead[i - 1]) < 2600);
}

static void test_silence_and_little_past_give_silence(void **state) {
    (void)state;
    int16_t past[N] = {0}, ahead[N];
    memset(ahead, 0x55, sizeof ahead);
    tower_extrapolate(past, N, ahead, N, 1);
    for (int i = 0; i < N; i++)
        assert_int_equal(ahead[i], 0);
    tower_extrapolate(past, 0, ahead, 10, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ahead[i], 0);
}

static void test_nothing_grows(void **state) {
    (void)state;
    int16_t past[N], ahead[N];
    srand(1);
    for (int kind = 0; kind < 200; kind++) {
        int peak = 0;
        for (int i = 0; i < N; i++) {
            /* Noise, noise in bursts, impulses, steps, full scale. */
            int value = rand() % 65536 - 32768;
            if (kind % 5 == 1)
                value = i / 50 % 2 ? value / 4 : 0;
            else if (kind % 5 == 2)
                value = i % (kind + 3) == 0 ? 30000 : 0;
            else if (kind % 5 == 3)
                value = i > kind ? 20000 : -20000;
            else if (kind % 5 == 4)
                value = i % 2 ? INT16_MIN : INT16_MAX;
            past[i] = (int16_t)value;
            peak = abs(value) > peak ? abs(value) : peak;
        }
        tower_extrapolate(past, N, ahead, N, 1);
        for (int i = 0; i < N; i++)
            assert_true(abs(ahead[i]) <= peak + peak / 4);
    }
}

static void test_stride_keeps_channels_apart(void **state) {
    (void)state;
    int16_t past[2 * N], ahead[2 * N], alone[N], expected[N];
    for (int i = 0; i < N; i++) {
        alone[i] = past[2 * i] = (int16_t)lrint(chord(i));
        past[2 * i + 1] = (int16_t)(rand() % 100);
    }
    memset(ahead, 0x55, sizeof ahead);
    tower_extrapolate(alone, N, expected, N, 1);
    tower_extrapolate(past, N, ahead, N, 2);
    for (int i = 0; i < N; i++) {
        assert_int_equal(ahead[2 * i], expected[i]);
        assert_int_equal(ahead[2 * i + 1], 0x5555);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chord_goes_on_as_it_was),
        cmocka_unit_test(test_silence_and_little_past_give_silence),
        cmocka_unit_test(test_nothing_grows),
        cmocka_unit_test(test_stride_keeps_channels_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
