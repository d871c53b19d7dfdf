/* The transition: no seam makes a larger step than the programmes around it do themselves. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/transition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FRAME TOWER_FRAME_SAMPLES
#define FRAMES 8
#define N (FRAME * FRAMES)
/* What a join may step by, however flat the programmes. */
#define JOIN_STEP 32

/* A tone on the left and another on the right, from a phase on. */
static void fill_tone(int16_t *samples, size_t n, double left_hz, double right_hz, double amplitude,
                      double phase) {
    for (size_t i = 0; i < n; i++) {
        samples[2 * i] =
            (int16_t)lrint(amplitude * sin(phase + 2 * M_PI * left_hz * (double)i / TOWER_RATE_HZ));
        samples[2 * i + 1] = (int16_t)lrint(
            amplitude * sin(phase + 2 * M_PI * right_hz * (double)i / TOWER_RATE_HZ));
    }
}

static int largest_step(const int16_t *samples, size_t n) {
    int largest = 0;
    for (size_t i = 2; i < 2 * n; i++) {
        int step = abs(samples[i] - samples[i - 2]);
        largest = step > largest ? step : largest;
    }
    return largest;
}

/* Pass half of `samples`, a seam, and the other half through, in pieces of `piece` samples. */
static void pass(int16_t *samples, size_t piece) {
    struct tower_transition transition;
    tower_transition_init(&transition);
    for (size_t at = 0; at < N; at += piece) {
        size_t n = N - at < piece ? N - at : piece;
        tower_transition_process(&transition, samples + 2 * at, n, at == N / 2);
    }
}

static void test_seam_between_tones_steps_no_more_than_the_tones(void **state) {
    (void)state;
    static int16_t samples[2 * N];
    const double hz[] = {50, 220, 440, 997, 3000};
    for (unsigned a = 0; a < 5; a++) {
        for (unsigned b = 0; b < 5; b++) {
            for (int turn = 0; turn < 16; turn++) {
                fill_tone(samples, N / 2, hz[a], hz[(a + 1) % 5], 20000, 0);
                fill_tone(samples + N, N / 2, hz[b], hz[(b + 2) % 5], 12000, turn * M_PI / 8);
                int before = largest_step(samples, N / 2);
                int after = largest_step(samples + N, N / 2);
                int own = before > after ? before : after;
                assert_true(own >= JOIN_STEP);
                pass(samples, FRAME);
                assert_in_range(largest_step(samples, N), 0, own);
            }
        }
    }
}

static void test_tone_ends_in_silence_without_a_click(void **state) {
    (void)state;
    static int16_t samples[2 * N];
    for (int turn = 0; turn < 32; turn++) {
        /* Whole turns to the seam, so that `turn` is the phase it is cut at. */
        fill_tone(samples, N / 2, 125, 500, 30000, turn * M_PI / 16);
        int own = largest_step(samples, N / 2);
        memset(samples + N, 0, N * sizeof *samples);
        pass(samples, FRAME);
        assert_in_range(largest_step(samples, N), 0, own);
        /* It has died away after the join and is silent from there on. */
        for (size_t i = N + 2 * TOWER_TRANSITION_SAMPLES; i < 2 * N; i++)
            assert_int_equal(samples[i], 0);
    }
}

static void test_programme_that_begins_softly_passes_bit_for_bit(void **state) {
    (void)state;
    static int16_t samples[2 * N], original[2 * N];
    memset(samples, 0, sizeof samples);
    fill_tone(samples + N, N / 2, 440, 440, 20000, 0);
    memcpy(original, samples, sizeof samples);
    pass(samples, FRAME);
    assert_memory_equal(samples, original, sizeof samples);
}

static void test_loud_start_after_silence_is_faded_in(void **state) {
    (void)state;
    static int16_t samples[2 * N];
    memset(samples, 0, sizeof samples);
    fill_tone(samples + N, N / 2, 440, 440, 20000, M_PI / 2);
    int own = largest_step(samples + N, N / 2);
    pass(samples, FRAME);
    assert_in_range(largest_step(samples, N), 0, own);
}

static void test_without_a_seam_nothing_is_touched(void **state) {
    (void)state;
    static int16_t samples[2 * N], original[2 * N];
    struct tower_transition transition;
    tower_transition_init(&transition);
    for (size_t i = 0; i < 2 * N; i++)
        samples[i] = (int16_t)(rand() % 65536 - 32768);
    memcpy(original, samples, sizeof samples);
    tower_transition_process(&transition, samples, N, false);
    assert_memory_equal(samples, original, sizeof samples);
}

static void test_pieces_of_any_size_give_the_same(void **state) {
    (void)state;
    static int16_t whole[2 * N], pieces[2 * N];
    fill_tone(whole, N / 2, 440, 300, 20000, 0);
    fill_tone(whole + N, N / 2, 1000, 200, 20000, 1);
    memcpy(pieces, whole, sizeof whole);
    pass(whole, FRAME);
    pass(pieces, FRAME / 9); /* 128 samples: a join lasts for several */
    /* The look at what follows a seam is at 32 samples, which every piece has. */
    assert_memory_equal(whole, pieces, sizeof whole);
}

static void test_seam_within_a_join_does_not_click_either(void **state) {
    (void)state;
    static int16_t samples[2 * N];
    struct tower_transition transition;
    tower_transition_init(&transition);
    int own = 0;
    /* Three programmes, the second for less than a join. */
    const size_t at[] = {0, N / 2, N / 2 + 100, N};
    const double hz[] = {440, 700, 300};
    for (int i = 0; i < 3; i++) {
        fill_tone(samples + 2 * at[i], at[i + 1] - at[i], hz[i], hz[i], 20000, 1.0 + i);
        int step = largest_step(samples + 2 * at[i], at[i + 1] - at[i]);
        own = step > own ? step : own;
    }
    for (int i = 0; i < 3; i++)
        tower_transition_process(&transition, samples + 2 * at[i], at[i + 1] - at[i], true);
    assert_in_range(largest_step(samples, N), 0, own);
}

static void test_seam_that_is_left_alone_ends_a_join(void **state) {
    (void)state;
    static int16_t before[2 * N], between[2 * 100], after[2 * N], original[2 * N];
    struct tower_transition transition;
    tower_transition_init(&transition);
    for (size_t i = 0; i < 2 * N; i++)
        before[i] = 3000;
    tower_transition_process(&transition, before, N, false);
    tower_transition_process(&transition, between, 100, true);
    /* What follows goes on from what was heard, and not from what was joined to. */
    int16_t heard = between[2 * 99];
    assert_in_range(heard, 1000, 2999);
    for (size_t i = 0; i < 2 * N; i++)
        after[i] = heard;
    memcpy(original, after, sizeof after);
    tower_transition_process(&transition, after, N, true);
    assert_memory_equal(after, original, sizeof after);
}

static void test_levels_far_apart_meet_gently(void **state) {
    (void)state;
    static int16_t samples[2 * N];
    for (size_t i = 0; i < 2 * N; i++)
        samples[i] = i < N ? INT16_MIN : INT16_MAX;
    pass(samples, FRAME);
    assert_in_range(largest_step(samples, N), 1, JOIN_STEP);
    assert_int_equal(samples[2 * N - 1], INT16_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seam_between_tones_steps_no_more_than_the_tones),
        cmocka_unit_test(test_tone_ends_in_silence_without_a_click),
        cmocka_unit_test(test_programme_that_begins_softly_passes_bit_for_bit),
        cmocka_unit_test(test_loud_start_after_silence_is_faded_in),
        cmocka_unit_test(test_without_a_seam_nothing_is_touched),
        cmocka_unit_test(test_pieces_of_any_size_give_the_same),
        cmocka_unit_test(test_seam_within_a_join_does_not_click_either),
        cmocka_unit_test(test_seam_that_is_left_alone_ends_a_join),
        cmocka_unit_test(test_levels_far_apart_meet_gently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
