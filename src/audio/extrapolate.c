/* extrapolate.c - linear prediction with Burg's method, which is stable by construction. */
#include "extrapolate.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define SAMPLES_MAX TOWER_EXTRAPOLATE_SAMPLES_MAX
/* Enough for a chord of a dozen partials. */
#define ORDER 32
/* Below any sample's own square: silence predicts silence instead of dividing by zero. */
#define ENERGY_FLOOR 1e-3
/* Each pole drawn in a little, so that what is foretold rather dies away than grows. */
#define DAMPING 0.9998

/* Find coefficients so that x[i] is about -(c[1] x[i-1] + ... + c[ORDER] x[i-ORDER]). */
static void fit(const double *x, size_t n, double ret_coefficients[ORDER + 1]) {
    double forward[SAMPLES_MAX], backward[SAMPLES_MAX];
    memcpy(forward, x, n * sizeof *x);
    memcpy(backward, x, n * sizeof *x);
    double *c = ret_coefficients;
    memset(c, 0, (ORDER + 1) * sizeof *c);
    c[0] = 1;
    for (size_t m = 1; m <= ORDER && m < n; m++) {
        double cross = 0, energy = ENERGY_FLOOR;
        for (size_t i = m; i < n; i++) {
            cross += forward[i] * backward[i - 1];
            energy += forward[i] * forward[i] + backward[i - 1] * backward[i - 1];
        }
        double reflection = -2 * cross / energy;
        double before[ORDER + 1];
        memcpy(before, c, sizeof before);
        for (size_t j = 1; j <= m; j++)
            c[j] += reflection * before[m - j];
        for (size_t i = n - 1; i >= m; i--) {
            double old_forward = forward[i];
            forward[i] += reflection * backward[i - 1];
            backward[i] = backward[i - 1] + reflection * old_forward;
        }
    }
}

static int16_t to_sample(double value) {
    if (value >= INT16_MAX)
        return INT16_MAX;
    if (value <= INT16_MIN)
        return INT16_MIN;
    return (int16_t)lrint(value);
}

void tower_extrapolate(const int16_t *past, size_t n_past, int16_t *ret_ahead, size_t n_ahead,
                       size_t stride) {
    assert(n_past <= SAMPLES_MAX && n_ahead <= SAMPLES_MAX);
    /* The past, with room for ORDER zeros before it, and what follows on from it. */
    double wave[ORDER + 2 * SAMPLES_MAX] = {0};
    double coefficients[ORDER + 1];
    double *x = wave + ORDER;
    for (size_t i = 0; i < n_past; i++)
        x[i] = past[i * stride];
    fit(x, n_past, coefficients);
    double damping = 1;
    for (size_t j = 1; j <= ORDER; j++)
        coefficients[j] *= damping *= DAMPING;
    for (size_t i = 0; i < n_ahead; i++) {
        double value = 0;
        for (size_t j = 1; j <= ORDER; j++)
            value -= coefficients[j] * x[(ptrdiff_t)(n_past + i) - (ptrdiff_t)j];
        x[n_past + i] = value;
        ret_ahead[i * stride] = to_sample(value);
    }
}
