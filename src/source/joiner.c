/* joiner.c - streams of PCM, one behind the other. */
#include "joiner.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void tower_joiner_init(struct tower_joiner *joiner, int64_t fade_samples) {
    *joiner = (struct tower_joiner){.fade_samples = fade_samples};
}

void tower_joiner_done(struct tower_joiner *joiner) {
    tower_converter_free(joiner->converter);
    free(joiner->held);
    *joiner = (struct tower_joiner){0};
}

/* ---- what is held ---- */

static int16_t *held_at(const struct tower_joiner *joiner, int64_t at) {
    return joiner->held + (joiner->offset + (size_t)(at - joiner->taken)) * TOWER_CHANNELS;
}

/* Have room for `n_samples` behind what is held. */
static int reserve(struct tower_joiner *joiner, size_t n_samples) {
    size_t n_held = (size_t)(joiner->made - joiner->taken);
    size_t needed;
    if (joiner->offset > 0 && joiner->offset + n_held + n_samples > joiner->capacity) {
        memmove(joiner->held, held_at(joiner, joiner->taken), n_held * TOWER_SAMPLE_BYTES);
        joiner->offset = 0;
    }
    if (__builtin_add_overflow(joiner->offset + n_held, n_samples, &needed) ||
        needed > SIZE_MAX / 4 / TOWER_SAMPLE_BYTES)
        return -ENOMEM;
    if (needed <= joiner->capacity)
        return 0;
    int16_t *held = realloc(joiner->held, 2 * needed * TOWER_SAMPLE_BYTES);
    if (!held)
        return -ENOMEM;
    joiner->held = held;
    joiner->capacity = 2 * needed;
    return 0;
}

static int16_t limit(double value) {
    if (value >= INT16_MAX)
        return INT16_MAX;
    return value <= INT16_MIN ? INT16_MIN : (int16_t)lrint(value);
}

static void mix_one(struct tower_joiner *joiner, int left, int right) {
    int16_t *sample = held_at(joiner, joiner->mix_at);
    double length = (double)(joiner->mix_end - joiner->mix_begin);
    double turn = M_PI_2 * ((double)(joiner->mix_at - joiner->mix_begin) + 0.5) / length;
    sample[0] = limit(sample[0] * cos(turn) + left * sin(turn));
    sample[1] = limit(sample[1] * cos(turn) + right * sin(turn));
    joiner->mix_at++;
}

static int append(struct tower_joiner *joiner, const int16_t *samples, size_t n_samples) {
    for (; n_samples > 0 && joiner->mix_at < joiner->mix_end; n_samples--) {
        mix_one(joiner, samples[0], samples[1]);
        samples += TOWER_CHANNELS;
    }
    if (n_samples == 0)
        return 0;
    int error = reserve(joiner, n_samples);
    if (error < 0)
        return error;
    memcpy(held_at(joiner, joiner->made), samples, n_samples * TOWER_SAMPLE_BYTES);
    joiner->made += (int64_t)n_samples;
    return 0;
}

/* ---- streams ---- */

static int convert(struct tower_joiner *joiner, const int16_t *samples, size_t n_samples) {
    const int16_t *converted;
    size_t n_converted;
    int error =
        tower_converter_process(joiner->converter, samples, n_samples, &converted, &n_converted);
    return error < 0 || n_converted == 0 ? error : append(joiner, converted, n_converted);
}

/* Take what the converter still holds, and finish a fade whose second half did not come. */
static int finish_stream(struct tower_joiner *joiner) {
    int error = joiner->converter ? convert(joiner, NULL, 0) : 0;
    tower_converter_free(joiner->converter);
    joiner->converter = NULL;
    while (joiner->mix_at < joiner->mix_end)
        mix_one(joiner, 0, 0);
    return error;
}

/* Where the samples end that were given to the converter, though it has not yet given all back. */
static int64_t converter_end(const struct tower_joiner *joiner) {
    uint64_t rate_hz = joiner->rate_hz;
    uint64_t n_in = joiner->converter_in;
    uint64_t n_out =
        n_in / rate_hz * TOWER_RATE_HZ + (n_in % rate_hz * TOWER_RATE_HZ + rate_hz / 2) / rate_hz;
    return joiner->converter_began + (int64_t)n_out;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The end of the stream before is faded out, at most half of what is no fade already, and not what
 * was taken. */
static void begin_fade(struct tower_joiner *joiner) {
    int64_t half = larger(joiner->made - larger(joiner->begin, joiner->mix_end), 0) / 2;
    int64_t length = half < joiner->fade_samples ? half : joiner->fade_samples;
    joiner->mix_begin = larger(joiner->made - length, joiner->taken);
    joiner->mix_at = joiner->mix_begin;
    joiner->mix_end = joiner->made;
    joiner->begin = joiner->mix_begin;
}

int tower_joiner_begin(struct tower_joiner *joiner, uint32_t rate_hz, unsigned channels,
                       int64_t *ret_at) {
    bool goes_on = joiner->converter && joiner->fade_samples == 0 && rate_hz == joiner->rate_hz &&
                   channels == joiner->channels;
    if (goes_on) {
        joiner->begin = larger(converter_end(joiner), joiner->taken);
        *ret_at = joiner->begin;
        return 0;
    }
    struct tower_converter *converter;
    int error = tower_converter_new(rate_hz, channels, &converter);
    if (error < 0)
        return error;
    error = finish_stream(joiner);
    if (error < 0) {
        tower_converter_free(converter);
        return error;
    }
    begin_fade(joiner);
    joiner->converter = converter;
    joiner->rate_hz = rate_hz;
    joiner->channels = channels;
    joiner->converter_began = joiner->begin;
    joiner->converter_in = 0;
    *ret_at = joiner->begin;
    return 0;
}

int tower_joiner_add(struct tower_joiner *joiner, const int16_t *samples, size_t n_samples) {
    if (n_samples == 0)
        return 0;
    joiner->converter_in += n_samples;
    return convert(joiner, samples, n_samples);
}

int tower_joiner_end(struct tower_joiner *joiner) {
    joiner->is_ended = true;
    return finish_stream(joiner);
}

int64_t tower_joiner_ready(const struct tower_joiner *joiner) {
    int64_t end = joiner->made;
    if (joiner->mix_at < joiner->mix_end)
        end = joiner->mix_at;
    else if (!joiner->is_ended)
        end = joiner->made - joiner->fade_samples;
    return larger(end - joiner->taken, 0);
}

void tower_joiner_take(struct tower_joiner *joiner, int16_t *ret_samples, size_t n_samples) {
    memcpy(ret_samples, held_at(joiner, joiner->taken), n_samples * TOWER_SAMPLE_BYTES);
    joiner->offset += n_samples;
    joiner->taken += (int64_t)n_samples;
}
