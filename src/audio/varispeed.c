/* varispeed.c - libsamplerate between s16 and s16. */
#include "varispeed.h"

#include "tower/format.h"

#include <errno.h>
#include <samplerate.h>
#include <stdlib.h>

#define RATIO_MIN 0.9
#define RATIO_MAX 1.1
/* Samples a channel at a time: how long a change of the ratio takes. */
#define BLOCK_SAMPLES 1152
/* What a block can make at most, and some to spare. */
#define MADE_SAMPLES (BLOCK_SAMPLES * 5 / 4)

struct tower_varispeed {
    SRC_STATE *state;

    /* Owned by the caller's thread. */
    float in[BLOCK_SAMPLES * TOWER_CHANNELS];
    float made[MADE_SAMPLES * TOWER_CHANNELS];
    int16_t *out;
    size_t out_capacity;
};

int tower_varispeed_new(struct tower_varispeed **ret_varispeed) {
    int error;
    struct tower_varispeed *varispeed = calloc(1, sizeof *varispeed);
    if (!varispeed)
        return -ENOMEM;
    varispeed->state = src_new(SRC_SINC_MEDIUM_QUALITY, TOWER_CHANNELS, &error);
    if (!varispeed->state) {
        free(varispeed);
        return -ENOMEM;
    }
    *ret_varispeed = varispeed;
    return 0;
}

void tower_varispeed_free(struct tower_varispeed *varispeed) {
    if (!varispeed)
        return;
    (void)src_delete(varispeed->state);
    free(varispeed->out);
    free(varispeed);
}

void tower_varispeed_reset(struct tower_varispeed *varispeed) {
    (void)src_reset(varispeed->state);
}

static int reserve(struct tower_varispeed *varispeed, size_t n_samples) {
    size_t bytes;
    if (n_samples <= varispeed->out_capacity)
        return 0;
    if (__builtin_mul_overflow(n_samples, (size_t)TOWER_SAMPLE_BYTES, &bytes))
        return -ENOMEM;
    int16_t *out = realloc(varispeed->out, bytes);
    if (!out)
        return -ENOMEM;
    varispeed->out = out;
    varispeed->out_capacity = n_samples;
    return 0;
}

int tower_varispeed_process(struct tower_varispeed *varispeed, const int16_t *in, size_t n_samples,
                            double ratio, const int16_t **ret_out, size_t *ret_n_samples) {
    /* Written so that a NaN is refused too. */
    if (!(ratio >= RATIO_MIN && ratio <= RATIO_MAX))
        return -EINVAL;
    size_t n_blocks = n_samples / BLOCK_SAMPLES + 1;
    size_t room;
    if (__builtin_mul_overflow(n_blocks, (size_t)MADE_SAMPLES, &room))
        return -ENOMEM;
    int error = reserve(varispeed, room);
    if (error < 0)
        return error;
    size_t n_made = 0;
    while (n_samples > 0) {
        size_t n = n_samples < BLOCK_SAMPLES ? n_samples : BLOCK_SAMPLES;
        SRC_DATA data = {
            .data_in = varispeed->in,
            .data_out = varispeed->made,
            .input_frames = (long)n,
            .output_frames = MADE_SAMPLES,
            .src_ratio = ratio,
        };
        src_short_to_float_array(in, varispeed->in, (int)(n * TOWER_CHANNELS));
        if (src_process(varispeed->state, &data) != 0 || data.input_frames_used != (long)n)
            return -EIO;
        size_t n_given = (size_t)data.output_frames_gen;
        src_float_to_short_array(varispeed->made, varispeed->out + n_made * TOWER_CHANNELS,
                                 (int)(n_given * TOWER_CHANNELS));
        n_made += n_given;
        in += n * TOWER_CHANNELS;
        n_samples -= n;
    }
    *ret_out = varispeed->out;
    *ret_n_samples = n_made;
    return 0;
}
