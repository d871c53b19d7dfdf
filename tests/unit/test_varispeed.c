/* Varispeed: a tone stays a pure tone, and lengths are as the ratio says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/format.h"
#include "varispeed.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TONE_HZ 997.0
#define AMPLITUDE 30000.0
#define CHUNK 1152
#define SECONDS 60

static struct tower_varispeed *varispeed_new(void) {
    struct tower_varispeed *varispeed;
    assert_int_equal(tower_varispeed_new(&varispeed), 0);
    return varispeed;
}

/* The ratio as it is steered: by `ppm`, and from time to time by a little more or less. */
static double steered(size_t chunk, double ppm) {
    size_t block = chunk / 170;
    double wander_ppm = 2 * sin((double)block * 1.7);
    return 1 + (ppm + wander_ppm) / 1e6;
}

/* What remains of `n` samples at 48 kHz when the sine that fits best is taken away, in dB below it.
 * Of `hz`, nearly: the frequency is searched for. */
static double distortion_db(const int16_t *stereo, size_t n, double hz) {
    double best = 0;
    double step = 0.08;
    for (int round = 0; round < 8; round++) {
        double centre = hz;
        step /= 4;
        for (int i = -4; i <= 4; i++) {
            double cc = 0, ss = 0, cs = 0, xc = 0, xs = 0, xx = 0;
            double trial = centre + i * step;
            for (size_t at = 0; at < n; at++) {
                double turn = 2 * M_PI * trial * (double)at / TOWER_RATE_HZ;
                double c = cos(turn), s = sin(turn), x = stereo[2 * at];
                cc += c * c, ss += s * s, cs += c * s, xc += x * c, xs += x * s, xx += x * x;
            }
            double determinant = cc * ss - cs * cs;
            double a = (xc * ss - xs * cs) / determinant, b = (xs * cc - xc * cs) / determinant;
            double fitted = a * xc + b * xs;
            double db = 10 * log10((xx - fitted) / fitted);
            if (db < best) {
                best = db;
                hz = trial;
            }
        }
    }
    return best;
}

static void judge_a_minute(double ppm) {
    struct tower_varispeed *varispeed = varispeed_new();
    static int16_t made[(SECONDS + 1) * TOWER_RATE_HZ * TOWER_CHANNELS];
    size_t n_made = 0;
    double due = 0;
    for (size_t chunk = 0; chunk < SECONDS * TOWER_RATE_HZ / CHUNK; chunk++) {
        int16_t in[CHUNK * TOWER_CHANNELS];
        for (size_t i = 0; i < CHUNK; i++) {
            double turn = TONE_HZ * (double)(chunk * CHUNK + i) / TOWER_RATE_HZ;
            in[2 * i] = (int16_t)lrint(AMPLITUDE * sin(2 * M_PI * turn));
            in[2 * i + 1] = 0;
        }
        const int16_t *out;
        size_t n;
        assert_int_equal(
            tower_varispeed_process(varispeed, in, CHUNK, steered(chunk, ppm), &out, &n), 0);
        memcpy(made + n_made * TOWER_CHANNELS, out, n * TOWER_SAMPLE_BYTES);
        n_made += n;
        due += steered(chunk, ppm) * CHUNK;
    }
    /* As many as were due, but for what it still holds. */
    if ((double)n_made > due + 2 || (double)n_made < due - 100)
        fail_msg("%zu samples for %.1f", n_made, due);
    for (size_t i = 0; i < n_made; i++)
        assert_true(made[2 * i + 1] == 0); /* silence stays that, and sides apart */
    /* In windows as short as the ratio is still, since a change of it is a change of pitch. */
    for (size_t at = TOWER_RATE_HZ; at + 9600 < n_made; at += 5 * TOWER_RATE_HZ) {
        double db = distortion_db(made + at * TOWER_CHANNELS, 9600, TONE_HZ * (1 - ppm / 1e6));
        if (db > -80)
            fail_msg("%.1f dB at %.1f s", db, (double)at / TOWER_RATE_HZ);
    }
    tower_varispeed_free(varispeed);
}

static void test_a_tone_stays_pure(void **state) {
    (void)state;
    judge_a_minute(20);
    judge_a_minute(-100);
    judge_a_minute(400);
    judge_a_minute(-400);
}

static void test_full_scale_is_clipped_and_does_not_wrap(void **state) {
    (void)state;
    struct tower_varispeed *varispeed = varispeed_new();
    static int16_t in[48000 * TOWER_CHANNELS];
    for (size_t i = 0; i < 48000; i++)
        in[2 * i] = in[2 * i + 1] = i / 100 % 2 ? INT16_MAX : INT16_MIN;
    const int16_t *out;
    size_t n;
    assert_int_equal(tower_varispeed_process(varispeed, in, 48000, 1.0001, &out, &n), 0);
    assert_true(n > 47000 && n < 48100);
    for (size_t i = 200; i + 100 < n; i += 100) {
        size_t middle = i - i % 100 + 50;
        assert_true(abs(out[2 * middle]) > 30000);
    }
    tower_varispeed_free(varispeed);
}

static void test_a_ratio_that_is_none_is_refused(void **state) {
    (void)state;
    struct tower_varispeed *varispeed = varispeed_new();
    const int16_t in[TOWER_CHANNELS] = {0};
    const int16_t *out = NULL;
    size_t n = 7;
    assert_int_equal(tower_varispeed_process(varispeed, in, 1, (double)NAN, &out, &n), -EINVAL);
    assert_int_equal(tower_varispeed_process(varispeed, in, 1, 0, &out, &n), -EINVAL);
    assert_int_equal(tower_varispeed_process(varispeed, in, 1, 2, &out, &n), -EINVAL);
    assert_int_equal(n, 7);
    assert_int_equal(tower_varispeed_process(varispeed, in, 0, 1, &out, &n), 0);
    assert_int_equal(n, 0);
    tower_varispeed_free(varispeed);
    tower_varispeed_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tone_stays_pure),
        cmocka_unit_test(test_full_scale_is_clipped_and_does_not_wrap),
        cmocka_unit_test(test_a_ratio_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
