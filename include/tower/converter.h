/* converter.h - any PCM s16 to the transmitter's, 48 kHz stereo, and back to any rate. */
#ifndef TOWER_CONVERTER_H
#define TOWER_CONVERTER_H

#include "tower/format.h"

#include <stdbool.h>

struct tower_converter;

/* Make a converter from s16le of `rate_hz` (1000 to 384000) and `channels` (1 to 8) to 48 kHz
 * stereo: mono goes to both sides, more than two are mixed down. 48 kHz stereo passes bit for bit.
 * Rates are converted by libsoxr at high quality, without loss at either end and without delay: n
 * samples in give n * 48000 / rate_hz out, rounded.
 * Errors: -EINVAL (a rate or channel count out of range), -ENOMEM. */
int tower_converter_new(uint32_t rate_hz, unsigned channels,
                        struct tower_converter **ret_converter);
/* The other way: from 48 kHz of `channels` (1 or 2) to `rate_hz` of as many. The result of
 * tower_converter_process() is then interleaved samples of `channels`. Errors: as above. */
int tower_converter_new_from_air(uint32_t rate_hz, unsigned channels,
                                 struct tower_converter **ret_converter);
void tower_converter_free(struct tower_converter *converter);

/* Convert `n_samples` samples a channel; all of them are taken. `in` NULL with 0 samples drains
 * what the converter still holds, at the end of a stream; the next samples begin a new one. The
 * result, `*ret_n_samples` samples a channel of interleaved stereo, lies in the converter until the
 * next call. May allocate; not from the pump. Errors: -ENOMEM, -EIO (libsoxr failed); after one,
 * tower_converter_reset(). */
int tower_converter_process(struct tower_converter *converter, const int16_t *in, size_t n_samples,
                            const int16_t **ret_out, size_t *ret_n_samples);

/* Forget what is held: the next samples begin a new stream. */
void tower_converter_reset(struct tower_converter *converter);

#endif
