/* converter.c - channels are mixed to one or two, and libsoxr changes the rate. */
#include "tower/converter.h"

#include <errno.h>
#include <math.h>
#include <soxr.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MIN_HZ 1000
#define RATE_MAX_HZ 384000
#define CHANNELS_MAX 8
#define WEIGHT_BITS 16
/* Samples a channel mixed at a time, on the way to libsoxr. */
#define MIX_SAMPLES 1024
/* Room beyond the computed size of the output: libsoxr gives its samples in blocks. */
#define SPARE_SAMPLES 4096

struct tower_converter {
    /* Constant. */
    uint32_t rate_hz;
    uint32_t out_rate_hz;
    unsigned channels;
    bool stays_mono; /* one channel in is one channel out */
    /* Share of each channel in each side, of a whole of 1 << WEIGHT_BITS; for more than two. */
    int32_t weights[TOWER_CHANNELS][CHANNELS_MAX];
    soxr_t soxr; /* NULL: the rate stays. Mono goes through as mono, the rest as stereo */

    /* Owned by the caller's thread. */
    int16_t *out; /* interleaved stereo */
    size_t out_capacity;
    size_t out_samples;
    uint64_t n_in; /* samples a channel of this stream, taken and given */
    uint64_t n_out;
    bool has_failed; /* libsoxr could not be reset */
};

/* ---- channels ---- */

enum place { LEFT, RIGHT, CENTRE, BASS, SIDE_LEFT, SIDE_RIGHT, BACK };

/* The order of channels in WAV and FLAC files, from three channels on. */
static const enum place layouts[CHANNELS_MAX + 1][CHANNELS_MAX] = {
    [3] = {LEFT, RIGHT, CENTRE},
    [4] = {LEFT, RIGHT, SIDE_LEFT, SIDE_RIGHT},
    [5] = {LEFT, RIGHT, CENTRE, SIDE_LEFT, SIDE_RIGHT},
    [6] = {LEFT, RIGHT, CENTRE, BASS, SIDE_LEFT, SIDE_RIGHT},
    [7] = {LEFT, RIGHT, CENTRE, BASS, BACK, SIDE_LEFT, SIDE_RIGHT},
    [8] = {LEFT, RIGHT, CENTRE, BASS, SIDE_LEFT, SIDE_RIGHT, SIDE_LEFT, SIDE_RIGHT},
};

/* How loud a channel is on the left side, before the sum is brought to one. The bass channel only
 * doubles what small loudspeakers can't play, and is left out, as is usual (ITU-R BS.775). */
static double loudness_left(enum place place) {
    switch (place) {
    case LEFT:
        return 1;
    case CENTRE:
    case SIDE_LEFT:
        return M_SQRT1_2;
    case BACK:
        return 0.5;
    default:
        return 0;
    }
}

static enum place mirrored(enum place place) {
    switch (place) {
    case LEFT:
        return RIGHT;
    case RIGHT:
        return LEFT;
    case SIDE_LEFT:
        return SIDE_RIGHT;
    case SIDE_RIGHT:
        return SIDE_LEFT;
    default:
        return place;
    }
}

/* Weights that add up to no more than the whole: the sum of any samples is a sample. */
static void set_weights(struct tower_converter *converter) {
    for (unsigned side = 0; side < TOWER_CHANNELS; side++) {
        double loudness[CHANNELS_MAX];
        double sum = 0;
        for (unsigned channel = 0; channel < converter->channels; channel++) {
            enum place place = layouts[converter->channels][channel];
            loudness[channel] = loudness_left(side == 0 ? place : mirrored(place));
            sum += loudness[channel];
        }
        for (unsigned channel = 0; channel < converter->channels; channel++)
            converter->weights[side][channel] =
                (int32_t)floor(loudness[channel] / sum * (1 << WEIGHT_BITS));
    }
}

static void mix_down(const struct tower_converter *converter, const int16_t *in, size_t n_samples,
                     int16_t *out) {
    for (size_t i = 0; i < n_samples; i++, in += converter->channels) {
        for (unsigned side = 0; side < TOWER_CHANNELS; side++) {
            int64_t sum = 1 << (WEIGHT_BITS - 1);
            for (unsigned channel = 0; channel < converter->channels; channel++)
                sum += (int64_t)converter->weights[side][channel] * in[channel];
            out[i * TOWER_CHANNELS + side] = (int16_t)(sum >> WEIGHT_BITS);
        }
    }
}

/* Mono to both sides, in place, from the end on so that nothing is overwritten unread. */
static void spread_mono(int16_t *samples, size_t n_samples) {
    for (size_t i = n_samples; i-- > 0;) {
        samples[i * 2 + 1] = samples[i];
        samples[i * 2] = samples[i];
    }
}

/* ---- the converter ---- */

static int make(uint32_t rate_hz, uint32_t out_rate_hz, unsigned channels, bool stays_mono,
                struct tower_converter **ret_converter) {
    struct tower_converter *converter = calloc(1, sizeof *converter);
    if (!converter)
        return -ENOMEM;
    converter->rate_hz = rate_hz;
    converter->out_rate_hz = out_rate_hz;
    converter->channels = channels;
    converter->stays_mono = stays_mono;
    if (channels > TOWER_CHANNELS)
        set_weights(converter);
    if (rate_hz != out_rate_hz) {
        /* No dither: silence stays silence, and an encoder comes behind, not an ear. */
        soxr_io_spec_t io = soxr_io_spec(SOXR_INT16_I, SOXR_INT16_I);
        io.flags = SOXR_NO_DITHER;
        soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
        soxr_error_t error = NULL;
        converter->soxr = soxr_create(rate_hz, out_rate_hz, channels == 1 ? 1 : TOWER_CHANNELS,
                                      &error, &io, &quality, NULL);
        if (!converter->soxr) {
            free(converter);
            return -ENOMEM;
        }
    }
    *ret_converter = converter;
    return 0;
}

int tower_converter_new(uint32_t rate_hz, unsigned channels,
                        struct tower_converter **ret_converter) {
    if (rate_hz < RATE_MIN_HZ || rate_hz > RATE_MAX_HZ || channels < 1 || channels > CHANNELS_MAX)
        return -EINVAL;
    return make(rate_hz, TOWER_RATE_HZ, channels, false, ret_converter);
}

int tower_converter_new_from_air(uint32_t rate_hz, unsigned channels,
                                 struct tower_converter **ret_converter) {
    if (rate_hz < RATE_MIN_HZ || rate_hz > RATE_MAX_HZ || channels < 1 || channels > TOWER_CHANNELS)
        return -EINVAL;
    return make(TOWER_RATE_HZ, rate_hz, channels, true, ret_converter);
}

void tower_converter_free(struct tower_converter *converter) {
    if (!converter)
        return;
    soxr_delete(converter->soxr);
    free(converter->out);
    free(converter);
}

void tower_converter_reset(struct tower_converter *converter) {
    converter->n_in = 0;
    converter->n_out = 0;
    converter->has_failed = converter->soxr && soxr_clear(converter->soxr) != NULL;
}

/* Have room for `n_samples` more behind what is in `out`. */
static int reserve(struct tower_converter *converter, size_t n_samples) {
    size_t capacity, bytes;
    if (__builtin_add_overflow(converter->out_samples, n_samples, &capacity) ||
        __builtin_mul_overflow(capacity, (size_t)TOWER_SAMPLE_BYTES, &bytes))
        return -ENOMEM;
    if (capacity <= converter->out_capacity)
        return 0;
    int16_t *out = realloc(converter->out, bytes);
    if (!out)
        return -ENOMEM;
    converter->out = out;
    converter->out_capacity = capacity;
    return 0;
}

/* Samples a channel that `n_in` make, rounded. Computed without the product, which could overflow
 * in a stream of years. */
static uint64_t expected_samples(const struct tower_converter *converter, uint64_t n_in) {
    uint64_t rate_hz = converter->rate_hz;
    uint64_t out_rate_hz = converter->out_rate_hz;
    return n_in / rate_hz * out_rate_hz + (n_in % rate_hz * out_rate_hz + rate_hz / 2) / rate_hz;
}

/* Give `in`, of one or two channels, to libsoxr, and take what it has; NULL: it was the last. */
static int resample(struct tower_converter *converter, const int16_t *in, size_t n_samples) {
    unsigned channels = converter->channels == 1 ? 1 : TOWER_CHANNELS;
    size_t taken = 0;
    size_t n_taken, n_given, n_room;
    do {
        int error = reserve(converter, SPARE_SAMPLES);
        if (error < 0)
            return error;
        n_room = converter->out_capacity - converter->out_samples;
        /* Here mono still lies one value a sample: spread_mono() comes when all is there. */
        if (soxr_process(converter->soxr, in ? in + taken * channels : NULL, n_samples - taken,
                         &n_taken, converter->out + converter->out_samples * channels, n_room,
                         &n_given) != NULL)
            return -EIO;
        taken += n_taken;
        converter->out_samples += n_given;
        if (n_taken == 0 && n_given == 0 && taken < n_samples)
            return -EIO;
    } while (taken < n_samples || n_given == n_room || (!in && n_given > 0));
    return 0;
}

static int convert(struct tower_converter *converter, const int16_t *in, size_t n_samples) {
    int error = 0;
    if (!converter->soxr) {
        error = reserve(converter, n_samples);
        if (error < 0)
            return error;
        if (converter->channels > TOWER_CHANNELS)
            mix_down(converter, in, n_samples, converter->out);
        else
            memcpy(converter->out, in, n_samples * converter->channels * sizeof *in);
        converter->out_samples = n_samples;
        return 0;
    }
    if (converter->channels <= TOWER_CHANNELS)
        return resample(converter, in, n_samples);
    int16_t mixed[MIX_SAMPLES * TOWER_CHANNELS];
    while (n_samples > 0 && error == 0) {
        size_t n = n_samples < MIX_SAMPLES ? n_samples : MIX_SAMPLES;
        mix_down(converter, in, n, mixed);
        error = resample(converter, mixed, n);
        in += n * converter->channels;
        n_samples -= n;
    }
    return error;
}

/* The end of a stream, and exactly as many samples as it must have. */
static int drain(struct tower_converter *converter) {
    if (!converter->soxr || converter->n_in == 0)
        return 0;
    int error = resample(converter, NULL, 0);
    if (error < 0)
        return error;
    uint64_t expected = expected_samples(converter, converter->n_in);
    size_t left = expected > converter->n_out ? (size_t)(expected - converter->n_out) : 0;
    if (left > converter->out_samples) {
        size_t missing = left - converter->out_samples;
        unsigned channels = converter->channels == 1 ? 1 : TOWER_CHANNELS;
        error = reserve(converter, missing);
        if (error < 0)
            return error;
        memset(converter->out + converter->out_samples * channels, 0,
               missing * channels * sizeof *converter->out);
    }
    converter->out_samples = left;
    return 0;
}

int tower_converter_process(struct tower_converter *converter, const int16_t *in, size_t n_samples,
                            const int16_t **ret_out, size_t *ret_n_samples) {
    if (converter->has_failed)
        return -EIO;
    converter->out_samples = 0;
    int error = 0;
    if (!in)
        error = drain(converter);
    else if (n_samples > 0)
        error = convert(converter, in, n_samples);
    if (error < 0)
        return error;
    if (converter->channels == 1 && !converter->stays_mono && converter->out_samples > 0)
        spread_mono(converter->out, converter->out_samples);
    if (in) {
        converter->n_in += n_samples;
        converter->n_out += converter->out_samples;
    } else {
        tower_converter_reset(converter);
    }
    *ret_out = converter->out;
    *ret_n_samples = converter->out_samples;
    return 0;
}
