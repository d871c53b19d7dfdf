/* pcm_stream.c - WAV and L16 as they come over a wire. */
#include "pcm_stream.h"

#include "bounds.h"
#include "tower/converter.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 8 /* the head of a WAV chunk */
#define FORM_BYTES 4  /* "WAVE", behind the head of the whole */
#define FORMAT_BYTES_MIN 16
#define FORMAT_BYTES_MAX 40
#define SUBFORMAT_AT 24
#define FORMAT_INTEGER 1
#define FORMAT_FLOAT 3
#define FORMAT_EXTENSIBLE 0xfffe
/* From here on a length is that of a file nobody knew the end of. */
#define LENGTH_UNKNOWN UINT32_C(0x7ffff000)
#define WORD_BYTES_MAX 8 /* of one channel */
#define BLOCK_SAMPLES 512

enum place { CHUNK, FORM, FORMAT, SKIPPED, DATA };

struct tower_pcm_stream {
    tower_pcm_stream_listener *listener;
    void *user;
    struct tower_converter *converter; /* NULL: the format is not known yet */
    uint32_t rate_hz;
    unsigned channels;
    unsigned word_bytes;
    bool is_float;
    bool is_big_endian;

    /* WAV */
    enum place place;
    bool is_wave; /* "RIFF" and "WAVE" have been seen */
    bool is_endless;
    uint64_t left_bytes; /* of this chunk */
    bool is_padded;      /* a byte more follows it */
    uint8_t head[FORMAT_BYTES_MAX];
    size_t head_bytes;

    uint8_t part[TOWER_SOURCE_CHANNELS_MAX * WORD_BYTES_MAX]; /* of a sample not yet whole */
    size_t part_bytes;
};

static uint32_t number_at(const uint8_t *at, unsigned bytes) {
    uint32_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number |= (uint32_t)at[i] << (8 * i);
    return number;
}

/* Samples of this format come now. */
static int set_format(struct tower_pcm_stream *stream, uint32_t rate_hz, unsigned channels,
                      unsigned word_bytes, bool is_float) {
    struct tower_converter *converter = NULL;
    bool is_same = stream->converter && rate_hz == stream->rate_hz && channels == stream->channels;
    if (!is_same) {
        int error = tower_pcm_stream_end(stream);
        if (error == 0)
            error = tower_converter_new(rate_hz, channels, &converter);
        if (error < 0)
            return error;
        tower_converter_free(stream->converter);
        stream->converter = converter;
    }
    stream->rate_hz = rate_hz;
    stream->channels = channels;
    stream->word_bytes = word_bytes;
    stream->is_float = is_float;
    stream->part_bytes = 0;
    return 0;
}

static int make(tower_pcm_stream_listener *listener, void *user,
                struct tower_pcm_stream **ret_stream) {
    struct tower_pcm_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    stream->listener = listener;
    stream->user = user;
    *ret_stream = stream;
    return 0;
}

int tower_pcm_stream_new_wav(tower_pcm_stream_listener *listener, void *user,
                             struct tower_pcm_stream **ret_stream) {
    return make(listener, user, ret_stream);
}

int tower_pcm_stream_new_l16(uint32_t rate_hz, unsigned channels,
                             tower_pcm_stream_listener *listener, void *user,
                             struct tower_pcm_stream **ret_stream) {
    struct tower_pcm_stream *stream;
    int error = make(listener, user, &stream);
    if (error < 0)
        return error;
    stream->is_big_endian = true;
    stream->place = DATA;
    stream->is_endless = true;
    error = set_format(stream, rate_hz, channels, sizeof(int16_t), false);
    if (error < 0)
        tower_pcm_stream_free(stream);
    else
        *ret_stream = stream;
    return error;
}

void tower_pcm_stream_free(struct tower_pcm_stream *stream) {
    if (!stream)
        return;
    tower_converter_free(stream->converter);
    free(stream);
}

/* ---- samples ---- */

static int16_t from_float(double value) {
    /* Written so that what is no number is silence. */
    if (!(value > -1))
        return value <= -1 ? INT16_MIN : 0;
    return value < INT16_MAX / 32768.0 ? (int16_t)lrint(value * 32768) : INT16_MAX;
}

static int16_t word_at(const struct tower_pcm_stream *stream, const uint8_t *at) {
    if (stream->is_big_endian)
        return (int16_t)((uint16_t)at[0] << 8 | at[1]);
    if (stream->is_float && stream->word_bytes == sizeof(float)) {
        uint32_t bits = number_at(at, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return from_float((double)value);
    }
    if (stream->is_float) {
        uint64_t bits = (uint64_t)number_at(at + 4, 4) << 32 | number_at(at, 4);
        double value;
        memcpy(&value, &bits, sizeof value);
        return from_float(value);
    }
    if (stream->word_bytes == 1)
        return (int16_t)((at[0] - 128) * 256);
    /* The two highest bytes of it. */
    return (int16_t)number_at(at + stream->word_bytes - 2, 2);
}

static int give(struct tower_pcm_stream *stream, const int16_t *words, size_t n_samples) {
    const int16_t *out;
    size_t n_out;
    int error = tower_converter_process(stream->converter, words, n_samples, &out, &n_out);
    if (error == 0 && n_out > 0)
        stream->listener(stream->user, out, n_out);
    return error;
}

static int convert(struct tower_pcm_stream *stream, const uint8_t *data, size_t n_samples) {
    int16_t words[BLOCK_SAMPLES * TOWER_SOURCE_CHANNELS_MAX];
    while (n_samples > 0) {
        size_t n = n_samples < BLOCK_SAMPLES ? n_samples : BLOCK_SAMPLES;
        for (size_t i = 0; i < n * stream->channels; i++, data += stream->word_bytes)
            words[i] = word_at(stream, data);
        int error = give(stream, words, n);
        if (error < 0)
            return error;
        n_samples -= n;
    }
    return 0;
}

static int take_samples(struct tower_pcm_stream *stream, const uint8_t *data, size_t bytes) {
    size_t sample_bytes = (size_t)stream->channels * stream->word_bytes;
    assert(sample_bytes > 0);
    if (stream->part_bytes > 0) {
        size_t missing = sample_bytes - stream->part_bytes;
        size_t n = bytes < missing ? bytes : missing;
        memcpy(stream->part + stream->part_bytes, data, n);
        stream->part_bytes += n;
        data += n;
        bytes -= n;
        if (stream->part_bytes < sample_bytes)
            return 0;
        stream->part_bytes = 0;
        int error = convert(stream, stream->part, 1);
        if (error < 0)
            return error;
    }
    size_t rest = bytes % sample_bytes;
    memcpy(stream->part, data + bytes - rest, rest);
    stream->part_bytes = rest;
    return convert(stream, data, bytes / sample_bytes);
}

/* ---- WAV ---- */

/* The head at hand has its bytes, `wanted` of them. */
static bool fill_head(struct tower_pcm_stream *stream, size_t wanted, const uint8_t **at,
                      size_t *left) {
    size_t missing = wanted - stream->head_bytes;
    size_t n = *left < missing ? *left : missing;
    memcpy(stream->head + stream->head_bytes, *at, n);
    stream->head_bytes += n;
    *at += n;
    *left -= n;
    if (stream->head_bytes < wanted)
        return false;
    stream->head_bytes = 0;
    return true;
}

static int begin_chunk(struct tower_pcm_stream *stream) {
    const char *name = (const char *)stream->head;
    uint32_t bytes = number_at(stream->head + 4, 4);
    bool is_whole = memcmp(name, "RIFF", 4) == 0 || memcmp(name, "RF64", 4) == 0;
    if (!stream->is_wave && !is_whole)
        return -EPROTO;
    stream->left_bytes = bytes;
    stream->is_padded = bytes % 2 != 0;
    if (is_whole) {
        stream->place = FORM;
    } else if (memcmp(name, "fmt ", 4) == 0) {
        if (bytes < FORMAT_BYTES_MIN)
            return -EPROTO;
        stream->place = FORMAT;
    } else if (memcmp(name, "data", 4) == 0) {
        if (!stream->converter)
            return -EPROTO;
        stream->part_bytes = 0;
        stream->is_endless = bytes == 0 || bytes >= LENGTH_UNKNOWN;
        stream->place = DATA;
    } else {
        stream->place = SKIPPED;
    }
    return 0;
}

static int read_format(struct tower_pcm_stream *stream, size_t bytes) {
    const uint8_t *head = stream->head;
    uint32_t kind = number_at(head, 2);
    uint32_t channels = number_at(head + 2, 2);
    uint32_t rate_hz = number_at(head + 4, 4);
    uint32_t bits = number_at(head + 14, 2);
    if (kind == FORMAT_EXTENSIBLE && bytes >= SUBFORMAT_AT + 2)
        kind = number_at(head + SUBFORMAT_AT, 2);
    bool is_integer =
        kind == FORMAT_INTEGER && (bits == 8 || bits == 16 || bits == 24 || bits == 32);
    bool is_float = kind == FORMAT_FLOAT && (bits == 32 || bits == 64);
    if (!is_integer && !is_float)
        return -ENOTSUP;
    int error = set_format(stream, rate_hz, channels, bits / 8, is_float);
    return error == -EINVAL ? -ENOTSUP : error;
}

/* What is between samples. */
static int take_head(struct tower_pcm_stream *stream, const uint8_t **at, size_t *left) {
    size_t format_bytes =
        stream->left_bytes < FORMAT_BYTES_MAX ? (size_t)stream->left_bytes : FORMAT_BYTES_MAX;
    int error = 0;
    switch (stream->place) {
    case CHUNK:
        return fill_head(stream, CHUNK_BYTES, at, left) ? begin_chunk(stream) : 0;
    case FORM:
        if (!fill_head(stream, FORM_BYTES, at, left))
            return 0;
        stream->is_wave = memcmp(stream->head, "WAVE", FORM_BYTES) == 0;
        stream->place = CHUNK;
        return stream->is_wave ? 0 : -EPROTO;
    case FORMAT:
        if (!fill_head(stream, format_bytes, at, left))
            return 0;
        error = read_format(stream, format_bytes);
        stream->left_bytes -= format_bytes;
        stream->place = SKIPPED;
        return error;
    case SKIPPED:
    case DATA:
        break;
    }
    return 0;
}

/* A run of bytes of the chunk at hand: its samples, or what nobody asked for. */
static int take_run(struct tower_pcm_stream *stream, const uint8_t **at, size_t *left) {
    bool is_data = stream->place == DATA;
    size_t n = *left;
    int error = 0;
    if (!(is_data && stream->is_endless) && n > stream->left_bytes)
        n = (size_t)stream->left_bytes;
    if (is_data && n > 0)
        error = take_samples(stream, *at, n);
    *at += n;
    *left -= n;
    if (is_data && stream->is_endless)
        return error;
    stream->left_bytes -= n;
    if (stream->left_bytes == 0) {
        stream->left_bytes = stream->is_padded ? 1 : 0;
        stream->is_padded = false;
        stream->place = stream->left_bytes > 0 ? SKIPPED : CHUNK;
    }
    return error;
}

int tower_pcm_stream_take(struct tower_pcm_stream *stream, const uint8_t *data, size_t bytes) {
    int error = 0;
    while (bytes > 0 && error == 0) {
        if (stream->place == DATA || stream->place == SKIPPED)
            error = take_run(stream, &data, &bytes);
        else
            error = take_head(stream, &data, &bytes);
    }
    return error;
}

int tower_pcm_stream_end(struct tower_pcm_stream *stream) {
    const int16_t *out;
    size_t n_out;
    if (!stream->converter)
        return 0;
    int error = tower_converter_process(stream->converter, NULL, 0, &out, &n_out);
    if (error == 0 && n_out > 0)
        stream->listener(stream->user, out, n_out);
    return error;
}
