/* varispeed.h - 48 kHz stereo a little faster or slower, by a ratio that may change all the time.
 */
#ifndef TOWER_AUDIO_VARISPEED_H
#define TOWER_AUDIO_VARISPEED_H

#include <stddef.h>
#include <stdint.h>

struct tower_varispeed;

/* Errors: -ENOMEM. */
int tower_varispeed_new(struct tower_varispeed **ret_varispeed);
void tower_varispeed_free(struct tower_varispeed *varispeed);

/* Forget what was resampled: what comes next begins behind silence, with its own ratio. */
void tower_varispeed_reset(struct tower_varispeed *varispeed);

/* Resample `n_samples` samples of interleaved stereo, output to input by `ratio` (0.9 to 1.1),
 * which is reached by and by within them. All are taken; what is made lags some 50 samples behind.
 * The result lies in the varispeed until the next call. May allocate; not from the pump.
 * Errors: -EINVAL (the ratio), -ENOMEM, -EIO (libsamplerate failed). */
int tower_varispeed_process(struct tower_varispeed *varispeed, const int16_t *in, size_t n_samples,
                            double ratio, const int16_t **ret_out, size_t *ret_n_samples);

#endif
