/* A varispeed that is put in and taken out: the sound goes on as if nothing were. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "speed_switch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PART 96000
#define CAPACITY (PART * 8)
#define AMPLITUDE 20000.0
#define TURN (2 * M_PI * 997 / TOWER_RATE_HZ)

static struct tower_speed_switch speed;
static struct tower_pcm_backlog backlog;
static int16_t sent[CAPACITY * TOWER_CHANNELS];
static size_t n_sent;

static int begin(void **state) {
    (void)state;
    n_sent = 0;
    for (size_t i = 0; i < CAPACITY; i++) {
        sent[2 * i] = (int16_t)lrint(AMPLITUDE * sin(TURN * (double)i));
        sent[2 * i + 1] = (int16_t)lrint(AMPLITUDE * cos(TURN * (double)i));
    }
    if (tower_pcm_backlog_init(&backlog, CAPACITY) < 0)
        return -1;
    return tower_speed_switch_init(&speed);
}

static int end(void **state) {
    (void)state;
    tower_speed_switch_done(&speed);
    tower_pcm_backlog_done(&backlog);
    return 0;
}

static void send(size_t n_samples, size_t piece, double ratio) {
    while (n_samples > 0) {
        size_t n = n_samples < piece ? n_samples : piece;
        assert_int_equal(
            tower_speed_switch_put(&speed, &backlog, sent + n_sent * TOWER_CHANNELS, n, ratio), 0);
        n_sent += n;
        n_samples -= n;
    }
}

/* Where in the tone a sample of it is, from both channels. */
static double phase_at(size_t at) {
    return atan2(backlog.samples[2 * at], backlog.samples[2 * at + 1]);
}

/* From each sample to the next the tone goes on by as much as it should. */
static void assert_no_seam(size_t from, size_t to, double off_max_samples) {
    for (size_t i = from + 1; i < to; i++) {
        double step = remainder(phase_at(i) - phase_at(i - 1) - TURN, 2 * M_PI) / TURN;
        if (fabs(step) > off_max_samples)
            fail_msg("at %zu of %zu: %.3f samples off", i, to, step);
        double level = hypot(backlog.samples[2 * i], backlog.samples[2 * i + 1]);
        assert_true(fabs(level - AMPLITUDE) < 20);
    }
}

static void test_without_a_ratio_it_passes_bit_for_bit(void **state) {
    (void)state;
    send(PART, 4096, 0);
    send(PART, 1, 0);
    assert_int_equal(backlog.count, 2 * PART);
    assert_memory_equal(backlog.samples, sent, (size_t)2 * PART * TOWER_SAMPLE_BYTES);
}

static void put_in_and_take_out(size_t piece, double ratio) {
    send(PART, piece, 0);
    send(PART, piece, ratio);
    assert_in_range(tower_speed_switch_held(&speed), 1, 100);
    send(PART, piece, 0);
    assert_int_equal(tower_speed_switch_held(&speed), 0);
    double expected = PART * (2 + ratio);
    assert_true(fabs((double)backlog.count - expected) <= 2);
    /* Up to its place, and behind it. */
    assert_memory_equal(backlog.samples, sent, (size_t)PART * TOWER_SAMPLE_BYTES);
    assert_memory_equal(backlog.samples + (backlog.count - PART) * TOWER_CHANNELS,
                        sent + (n_sent - PART) * TOWER_CHANNELS, (size_t)PART * TOWER_SAMPLE_BYTES);
    size_t out = backlog.count - PART;
    assert_no_seam(0, out - 200, 0.03);
    /* Where the sample next in turn lies between two, the nearer one is taken. */
    assert_no_seam(out - 200, backlog.count, 1.05);
}

static void test_it_goes_in_and_out_between_two_samples(void **state) {
    (void)state;
    put_in_and_take_out(4096, 1.0004);
}

static void test_it_does_so_in_small_pieces_too(void **state) {
    (void)state;
    put_in_and_take_out(7, 0.9996);
}

static void test_one_that_was_in_for_a_moment_has_changed_nothing(void **state) {
    (void)state;
    send(PART, 4096, 0);
    send(20, 20, 1);
    assert_int_equal(tower_speed_switch_held(&speed), 20);
    send(PART, 4096, 0);
    assert_int_equal(backlog.count, n_sent);
    assert_memory_equal(backlog.samples, sent, n_sent * TOWER_SAMPLE_BYTES);
}

static void test_taken_out_at_the_end_it_keeps_nothing(void **state) {
    (void)state;
    send(PART, 4096, 1);
    tower_speed_switch_take_out(&speed, &backlog);
    assert_int_equal(tower_speed_switch_held(&speed), 0);
    assert_in_range(backlog.count, PART - 1, PART + 1);
    tower_speed_switch_take_out(&speed, &backlog);
    assert_in_range(backlog.count, PART - 1, PART + 1);
    /* And it can be put in again. */
    send(PART, 4096, 1);
    assert_no_seam(PART, backlog.count, 1.05);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_a_ratio_it_passes_bit_for_bit, begin, end),
        cmocka_unit_test_setup_teardown(test_it_goes_in_and_out_between_two_samples, begin, end),
        cmocka_unit_test_setup_teardown(test_it_does_so_in_small_pieces_too, begin, end),
        cmocka_unit_test_setup_teardown(test_one_that_was_in_for_a_moment_has_changed_nothing,
                                        begin, end),
        cmocka_unit_test_setup_teardown(test_taken_out_at_the_end_it_keeps_nothing, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
