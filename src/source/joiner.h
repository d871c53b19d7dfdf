/* joiner.h - streams of PCM, one behind the other, as one at 48 kHz stereo: without a gap, or the
 * end of one faded into the beginning of the next. */
#ifndef TOWER_SOURCE_JOINER_H
#define TOWER_SOURCE_JOINER_H

#include "tower/converter.h"

#include <stdbool.h>

/* Samples are counted a channel, at 48 kHz, from the first of all. Owned by one thread. */
struct tower_joiner {
    int64_t fade_samples; /* constant; 0: none */

    /* What was made and is not yet taken; between mix_at and mix_end only what is behind is in it,
     * and the beginning of the present stream is to come on top. */
    int16_t *held;
    size_t capacity;
    size_t offset; /* of what is at `taken` in `held` */
    int64_t taken;
    int64_t made;
    int64_t begin; /* of the present stream */
    int64_t mix_begin;
    int64_t mix_at;
    int64_t mix_end;
    bool is_ended;

    /* A converter goes on across streams of the same format: were it to end, the last samples of
     * one and the first of the next would be filtered as if silence were between them. */
    struct tower_converter *converter;
    uint32_t rate_hz;
    unsigned channels;
    int64_t converter_began; /* made so far when it began */
    uint64_t converter_in;   /* samples given to it, at their own rate */
};

void tower_joiner_init(struct tower_joiner *joiner, int64_t fade_samples);
void tower_joiner_done(struct tower_joiner *joiner);

/* Begin the next stream, of 1000 to 384000 Hz and 1 to 8 channels. `*ret_at` is where its first
 * sample comes, which may be before what was made already, as that is faded out, never before what
 * was taken. A fade is of equal power, and no longer than half of the stream before, less the fade
 * that it began with. Errors: -EINVAL, -ENOMEM, -EIO (as of the converter). */
int tower_joiner_begin(struct tower_joiner *joiner, uint32_t rate_hz, unsigned channels,
                       int64_t *ret_at);

/* Append to the stream. Errors: -ENOMEM, -EIO. */
int tower_joiner_add(struct tower_joiner *joiner, const int16_t *samples, size_t n_samples);

/* No other stream comes. Errors: -ENOMEM, -EIO. */
int tower_joiner_end(struct tower_joiner *joiner);

/* How many samples can be taken: what will not be changed any more. */
int64_t tower_joiner_ready(const struct tower_joiner *joiner);

/* Take `n_samples`, at most those that are ready. */
void tower_joiner_take(struct tower_joiner *joiner, int16_t *ret_samples, size_t n_samples);

#endif
