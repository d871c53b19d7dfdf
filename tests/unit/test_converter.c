/* The converter: bits that stay, lengths that are exact, tones that stay what they were. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/converter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TONE_HZ 997.0
#define AMPLITUDE 16000.0

/* A sample that differs from its neighbours and between channels. */
static int16_t programme(size_t i) {
    return (int16_t)((int)((i * 7919 + i / 300) % 65536) - 32768);
}

/* Everything a converter gives for `in`, fed in pieces of `piece` samples, and drained. */
static int16_t *convert_all(struct tower_converter *converter, const int16_t *in, size_t n_in,
                            unsigned channels, size_t piece, size_t *ret_n) {
    int16_t *all = NULL;
    size_t n_all = 0, capacity = 0;
    for (size_t at = 0;; at += piece) {
        const int16_t *out = NULL;
        size_t n = 0;
        size_t n_piece = at < n_in ? (n_in - at < piece ? n_in - at : piece) : 0;
        assert_int_equal(tower_converter_process(converter, n_piece ? in + at * channels : NULL,
                                                 n_piece, &out, &n),
                         0);
        if (n > 0) {
            if (n_all + n > capacity) {
                capacity = 2 * (n_all + n);
                all = realloc(all, capacity * TOWER_SAMPLE_BYTES);
                assert_non_null(all);
            }
            memcpy(all + n_all * 2, out, n * TOWER_SAMPLE_BYTES);
            n_all += n;
        }
        if (n_piece == 0)
            break;
    }
    *ret_n = n_all;
    return all;
}

static struct tower_converter *converter_new(uint32_t rate_hz, unsigned channels) {
    struct tower_converter *converter;
    assert_int_equal(tower_converter_new(rate_hz, channels, &converter), 0);
    return converter;
}

static void test_transmitters_format_passes_bit_for_bit(void **state) {
    (void)state;
    enum { SAMPLES = 10000 };
    static int16_t in[SAMPLES * 2];
    for (size_t i = 0; i < SAMPLES * 2; i++)
        in[i] = programme(i);
    static const size_t pieces[] = {1, 1152, 4001, SAMPLES};
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        struct tower_converter *converter = converter_new(48000, 2);
        size_t n;
        int16_t *out = convert_all(converter, in, SAMPLES, 2, pieces[p], &n);
        assert_int_equal(n, SAMPLES);
        assert_memory_equal(out, in, sizeof in);
        free(out);
        tower_converter_free(converter);
    }
}

static void test_mono_goes_to_both_sides(void **state) {
    (void)state;
    enum { SAMPLES = 5000 };
    static int16_t in[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++)
        in[i] = programme(i);
    struct tower_converter *converter = converter_new(48000, 1);
    size_t n;
    int16_t *out = convert_all(converter, in, SAMPLES, 1, 777, &n);
    assert_int_equal(n, SAMPLES);
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(out[i * 2], in[i]);
        assert_int_equal(out[i * 2 + 1], in[i]);
    }
    free(out);
    tower_converter_free(converter);

    converter = converter_new(24000, 1);
    out = convert_all(converter, in, SAMPLES, 1, 777, &n);
    assert_int_equal(n, SAMPLES * 2);
    int different = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(out[i * 2], out[i * 2 + 1]);
        different += out[i * 2] != 0;
    }
    assert_true(different > SAMPLES);
    free(out);
    tower_converter_free(converter);
}

/* The sine of TONE_HZ in one channel of stereo: amplitude, phase against the start, what else. */
static void analyse(const int16_t *stereo, size_t n, unsigned channel, double *ret_amplitude,
                    double *ret_phase, double *ret_rest_rms) {
    double sine = 0, cosine = 0, rest = 0;
    double step = 2 * M_PI * TONE_HZ / TOWER_RATE_HZ;
    for (size_t i = 0; i < n; i++) {
        sine += stereo[i * 2 + channel] * sin(step * (double)i) * 2 / (double)n;
        cosine += stereo[i * 2 + channel] * cos(step * (double)i) * 2 / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double other =
            stereo[i * 2 + channel] - sine * sin(step * (double)i) - cosine * cos(step * (double)i);
        rest += other * other / (double)n;
    }
    *ret_amplitude = sqrt(sine * sine + cosine * cosine);
    *ret_phase = atan2(cosine, sine);
    *ret_rest_rms = sqrt(rest);
}

/* A tone keeps its frequency, its amplitude, and its place: no delay in front, nothing missing. */
static void test_tone_keeps_frequency_amplitude_length_and_place(void **state) {
    (void)state;
    static const uint32_t rates[] = {8000, 11025, 22050, 32000, 44100, 88200, 96000, 192000};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        size_t n_in = rates[r] * 2;
        int16_t *in = calloc(n_in, 2 * sizeof *in);
        assert_non_null(in);
        for (size_t i = 0; i < n_in; i++) {
            double turn = TONE_HZ / rates[r] * (double)i;
            in[i * 2] = (int16_t)lrint(AMPLITUDE * sin(2 * M_PI * turn));
            in[i * 2 + 1] = (int16_t)-in[i * 2];
        }
        struct tower_converter *converter = converter_new(rates[r], 2);
        size_t n;
        int16_t *out = convert_all(converter, in, n_in, 2, 1152, &n);
        assert_int_equal(n, 96000);
        /* The tone begins and ends at once, which rings: judge what lies between. */
        size_t skip = 4800; /* whole turns of 997 Hz do not matter: the phase is asked below */
        double step = 2 * M_PI * TONE_HZ / TOWER_RATE_HZ;
        for (unsigned channel = 0; channel < 2; channel++) {
            double amplitude, phase, rest_rms;
            analyse(out + skip * 2, n - 2 * skip, channel, &amplitude, &phase, &rest_rms);
            double expected_phase = step * (double)skip + (channel == 1 ? M_PI : 0);
            double phase_error = remainder(phase - expected_phase, 2 * M_PI);
            assert_true(fabs(amplitude - AMPLITUDE) < AMPLITUDE * 0.002);
            /* A hundredth of a sample. */
            assert_true(fabs(phase_error) < step * 0.01);
            assert_true(rest_rms < 2);
        }
        free(out);
        free(in);
        tower_converter_free(converter);
    }
}

/* n in give n * 48000 / rate out, rounded, however they are cut, and for the smallest n too. */
static void test_lengths_are_exact(void **state) {
    (void)state;
    static const uint32_t rates[] = {1000, 8000, 11025, 44100, 44101, 96000, 384000};
    static const size_t lengths[] = {1, 2, 3, 100, 1151, 44099, 44100, 50021};
    static int16_t in[50021 * 2];
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        in[i] = (int16_t)(programme(i) / 2);
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        for (unsigned channels = 1; channels <= 2; channels++) {
            struct tower_converter *converter = converter_new(rates[r], channels);
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                /* One converter for all: a drained one begins anew. */
                size_t n;
                int16_t *out =
                    convert_all(converter, in, lengths[l], channels, l % 2 ? 1152 : 50021, &n);
                size_t expected = (lengths[l] * 48000 + rates[r] / 2) / rates[r];
                assert_int_equal(n, expected);
                free(out);
            }
            tower_converter_free(converter);
        }
    }
}

/* What comes out does not depend on how what goes in is cut. */
static void test_pieces_make_no_difference(void **state) {
    (void)state;
    enum { SAMPLES = 30000 };
    static int16_t in[SAMPLES * 2];
    for (size_t i = 0; i < SAMPLES * 2; i++)
        in[i] = (int16_t)(programme(i) / 2);
    static const size_t pieces[] = {1, 77, 1152, 8191};
    struct tower_converter *converter = converter_new(44100, 2);
    size_t n_whole;
    int16_t *whole = convert_all(converter, in, SAMPLES, 2, SAMPLES, &n_whole);
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        size_t n;
        int16_t *out = convert_all(converter, in, SAMPLES, 2, pieces[p], &n);
        assert_int_equal(n, n_whole);
        assert_memory_equal(out, whole, n * TOWER_SAMPLE_BYTES);
        free(out);
    }
    free(whole);
    tower_converter_free(converter);
}

static void test_reset_forgets_what_is_held(void **state) {
    (void)state;
    int16_t loud[4000];
    int16_t silence[4000] = {0};
    const int16_t *out;
    size_t n;
    for (size_t i = 0; i < 4000; i++)
        loud[i] = i % 20 < 10 ? 20000 : -20000;
    struct tower_converter *converter = converter_new(44100, 2);
    assert_int_equal(tower_converter_process(converter, loud, 2000, &out, &n), 0);
    tower_converter_reset(converter);
    int16_t *all = convert_all(converter, silence, 2000, 2, 500, &n);
    assert_int_equal(n, (2000 * 48000 + 22050) / 44100);
    for (size_t i = 0; i < n * 2; i++)
        assert_int_equal(all[i], 0); /* silence stays silence: no rest, no dither */
    free(all);
    tower_converter_free(converter);
}

/* Each channel of 3 to 8 is heard on the right side; all together at full scale do not overflow. */
static void test_more_channels_are_mixed_down_without_overflow(void **state) {
    (void)state;
    /* 'l' left, 'r' right, 'b' both, '-' the bass channel: neither. */
    static const char *const sides[9] = {
        [3] = "lrb", [4] = "lrlr", [5] = "lrblr", [6] = "lrb-lr", [7] = "lrb-blr", [8] = "lrb-lrlr",
    };
    for (unsigned channels = 3; channels <= 8; channels++) {
        for (unsigned alone = 0; alone < channels; alone++) {
            struct tower_converter *converter = converter_new(48000, channels);
            int16_t in[8] = {0};
            const int16_t *out;
            size_t n;
            in[alone] = 20000;
            assert_int_equal(tower_converter_process(converter, in, 1, &out, &n), 0);
            assert_int_equal(n, 1);
            char side = sides[channels][alone];
            assert_int_equal(out[0] > 2000, side == 'l' || side == 'b');
            assert_int_equal(out[1] > 2000, side == 'r' || side == 'b');
            assert_int_equal(out[0] == 0, side == 'r' || side == '-');
            assert_int_equal(out[1] == 0, side == 'l' || side == '-');
            tower_converter_free(converter);
        }
        for (int sign = -1; sign <= 1; sign += 2) {
            struct tower_converter *converter = converter_new(48000, channels);
            int16_t in[8];
            const int16_t *out;
            size_t n;
            for (unsigned i = 0; i < 8; i++)
                in[i] = sign > 0 ? INT16_MAX : INT16_MIN;
            assert_int_equal(tower_converter_process(converter, in, 1, &out, &n), 0);
            for (unsigned side = 0; side < 2; side++)
                assert_in_range(out[side] * sign, 32700, 32768);
            tower_converter_free(converter);
        }
    }
    struct tower_converter *converter = converter_new(44100, 6);
    int16_t in[6 * 1000];
    size_t n;
    for (size_t i = 0; i < 6 * 1000; i++)
        in[i] = i % 240 < 120 ? INT16_MAX : INT16_MIN;
    int16_t *out = convert_all(converter, in, 1000, 6, 333, &n);
    assert_int_equal(n, (1000 * 48000 + 22050) / 44100);
    /* A square wave at full scale: one that had wrapped over would have lost its sign. */
    assert_true(out[10 * 2] > 16000 && out[32 * 2] < -16000);
    free(out);
    tower_converter_free(converter);
}

static void test_what_is_out_of_range_is_refused(void **state) {
    (void)state;
    struct tower_converter *untouched = (struct tower_converter *)&untouched;
    struct tower_converter *converter = untouched;
    assert_int_equal(tower_converter_new(999, 2, &converter), -EINVAL);
    assert_int_equal(tower_converter_new(384001, 2, &converter), -EINVAL);
    assert_int_equal(tower_converter_new(48000, 0, &converter), -EINVAL);
    assert_int_equal(tower_converter_new(48000, 9, &converter), -EINVAL);
    assert_ptr_equal(converter, untouched);
    tower_converter_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transmitters_format_passes_bit_for_bit),
        cmocka_unit_test(test_mono_goes_to_both_sides),
        cmocka_unit_test(test_tone_keeps_frequency_amplitude_length_and_place),
        cmocka_unit_test(test_lengths_are_exact),
        cmocka_unit_test(test_pieces_make_no_difference),
        cmocka_unit_test(test_reset_forgets_what_is_held),
        cmocka_unit_test(test_more_channels_are_mixed_down_without_overflow),
        cmocka_unit_test(test_what_is_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
