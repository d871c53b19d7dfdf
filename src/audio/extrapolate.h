/* extrapolate.h - what a wave would have gone on to be. */
#ifndef TOWER_AUDIO_EXTRAPOLATE_H
#define TOWER_AUDIO_EXTRAPOLATE_H

#include <stddef.h>
#include <stdint.h>

/* The most samples that are looked at, or foretold. */
#define TOWER_EXTRAPOLATE_SAMPLES_MAX 480

/* Foretell `n_ahead` samples that follow on from the `n_past` at `past`, by linear prediction:
 * tones go on, noise dies away. Every `stride`-th value of `past` and `ret_ahead` is used (2 for
 * one channel of stereo). More than TOWER_EXTRAPOLATE_SAMPLES_MAX of either is our own mistake.
 * Takes some 0.1 ms and no memory but the stack: for the pump, at a seam. Source: J. P. Burg,
 * "Maximum entropy spectral analysis", 1967 (the lattice method). */
void tower_extrapolate(const int16_t *past, size_t n_past, int16_t *ret_ahead, size_t n_ahead,
                       size_t stride);

#endif
