/* tap.c - one tap: rate and channels are converted, and chunks cut. */
#include "tower/tap.h"

#include "tower/converter.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Frames of which it is known when they were: more than libsoxr holds back. */
#define FRAMES_KEPT 64
/* Times are computed from samples and rounded down, so two may be off by one each. */
#define ROUNDING_NS 4
/* A WAV file's length that stands for: until it ends. */
#define WAV_ENDLESS UINT32_MAX

struct kept_frame {
    struct tower_tap_frame frame;
    uint64_t begin; /* its first sample, of those taken since the conversion began */
};

struct tower_tap {
    /* Constant. */
    struct tower_tap_format format;
    size_t header_bytes; /* before each chunk; 0: none */
    size_t chunk_bytes;  /* with that */

    /* Owned by the caller's thread. */
    struct tower_converter *converter;
    struct kept_frame kept[FRAMES_KEPT]; /* frame n at n % FRAMES_KEPT */
    uint64_t n_frames; /* since the conversion began, as all down to chunk_samples */
    uint64_t in_samples;
    uint64_t out_samples;
    uint32_t chunk_samples; /* of the chunk at hand */
    bool is_jump;           /* the next chunk put does not follow on */
    int64_t due_ns;         /* what the time of the next chunk is if it follows on */
    uint64_t n_chunks;
    uint64_t n_lost;
    struct tower_tap_header header; /* of the chunk at hand */
    uint8_t *chunk;
};

static bool is_valid(const struct tower_tap_format *format) {
    return format->rate_hz >= TOWER_TAP_RATE_MIN_HZ && format->rate_hz <= TOWER_TAP_RATE_MAX_HZ &&
           (format->channels == 1 || format->channels == 2) &&
           format->samples >= TOWER_TAP_SAMPLES_MIN && format->samples <= TOWER_TAP_SAMPLES_MAX &&
           !(format->has_timestamps && format->is_wav);
}

size_t tower_tap_chunk_bytes(const struct tower_tap_format *format) {
    return (format->has_timestamps ? TOWER_TAP_HEADER_BYTES : 0) +
           (size_t)format->samples * format->channels * sizeof(int16_t);
}

int tower_tap_new(const struct tower_tap_format *format, struct tower_tap **ret_tap) {
    if (!is_valid(format))
        return -EINVAL;
    struct tower_tap *tap = calloc(1, sizeof *tap);
    if (!tap)
        return -ENOMEM;
    tap->format = *format;
    tap->header_bytes = format->has_timestamps ? TOWER_TAP_HEADER_BYTES : 0;
    tap->chunk_bytes = tower_tap_chunk_bytes(format);
    tap->is_jump = true;
    tap->chunk = malloc(tap->chunk_bytes);
    int error = tap->chunk ? tower_converter_new_from_air(format->rate_hz, format->channels,
                                                          &tap->converter)
                           : -ENOMEM;
    if (error < 0) {
        tower_tap_free(tap);
        return error;
    }
    *ret_tap = tap;
    return 0;
}

void tower_tap_free(struct tower_tap *tap) {
    if (!tap)
        return;
    tower_converter_free(tap->converter);
    free(tap->chunk);
    free(tap);
}

uint64_t tower_tap_chunks(const struct tower_tap *tap) {
    return tap->n_chunks;
}

uint64_t tower_tap_lost(const struct tower_tap *tap) {
    return tap->n_lost;
}

/* ---- headers ---- */

static uint8_t *write_text(uint8_t *to, const char *text) {
    while (*text != '\0')
        *to++ = (uint8_t)*text++;
    return to;
}

static uint8_t *write_16(uint8_t *to, uint16_t value) {
    value = htole16(value);
    return (uint8_t *)memcpy(to, &value, sizeof value) + sizeof value;
}

static uint8_t *write_32(uint8_t *to, uint32_t value) {
    value = htole32(value);
    return (uint8_t *)memcpy(to, &value, sizeof value) + sizeof value;
}

static uint8_t *write_64(uint8_t *to, uint64_t value) {
    value = htole64(value);
    return (uint8_t *)memcpy(to, &value, sizeof value) + sizeof value;
}

static uint32_t read_32(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static uint64_t read_64(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

void tower_tap_header_write(const struct tower_tap_header *header,
                            uint8_t ret_bytes[TOWER_TAP_HEADER_BYTES]) {
    uint8_t *to = write_text(ret_bytes, TOWER_TAP_MAGIC);
    to = write_16(to, TOWER_TAP_HEADER_BYTES);
    *to++ = header->origin;
    *to++ = header->flags;
    to = write_64(to, header->sequence);
    to = write_64(to, (uint64_t)header->time_ns);
    to = write_64(to, header->air_frame);
    to = write_32(to, header->samples);
    (void)write_32(to, header->bytes);
}

int tower_tap_header_read(const uint8_t bytes[TOWER_TAP_HEADER_BYTES],
                          struct tower_tap_header *ret_header) {
    if (memcmp(bytes, TOWER_TAP_MAGIC, 4) != 0 || bytes[4] != TOWER_TAP_HEADER_BYTES ||
        bytes[5] != 0)
        return -EINVAL;
    *ret_header = (struct tower_tap_header){
        .origin = bytes[6],
        .flags = bytes[7],
        .sequence = read_64(bytes + 8),
        .time_ns = (int64_t)read_64(bytes + 16),
        .air_frame = read_64(bytes + 24),
        .samples = read_32(bytes + 32),
        .bytes = read_32(bytes + 36),
    };
    return 0;
}

void tower_tap_wav_write(const struct tower_tap_format *format,
                         uint8_t ret_bytes[TOWER_TAP_WAV_BYTES]) {
    uint32_t sample_bytes = format->channels * (uint32_t)sizeof(int16_t);
    uint8_t *to = write_text(ret_bytes, "RIFF");
    to = write_32(to, WAV_ENDLESS);
    to = write_text(to, "WAVEfmt ");
    to = write_32(to, 16);
    to = write_16(to, 1); /* PCM */
    to = write_16(to, (uint16_t)format->channels);
    to = write_32(to, format->rate_hz);
    to = write_32(to, format->rate_hz * sample_bytes);
    to = write_16(to, (uint16_t)sample_bytes);
    to = write_16(to, 16);
    to = write_text(to, "data");
    (void)write_32(to, WAV_ENDLESS);
}

/* ---- chunks ---- */

/* What stands before the chunk that begins with the sample that comes out next. */
static void begin_chunk(struct tower_tap *tap) {
    uint64_t rate_hz = tap->format.rate_hz;
    uint64_t out = tap->out_samples;
    uint64_t in = out / rate_hz * TOWER_RATE_HZ + out % rate_hz * TOWER_RATE_HZ / rate_hz;
    uint64_t n = tap->n_frames - 1;
    uint64_t oldest = tap->n_frames > FRAMES_KEPT ? tap->n_frames - FRAMES_KEPT : 0;
    while (n > oldest && tap->kept[n % FRAMES_KEPT].begin > in)
        n--;
    const struct kept_frame *kept = &tap->kept[n % FRAMES_KEPT];
    tap->header = (struct tower_tap_header){
        .time_ns = kept->frame.time_ns + tower_samples_to_ns((int64_t)out, (int64_t)rate_hz) -
                   tower_samples_to_ns((int64_t)kept->begin, TOWER_RATE_HZ),
        .air_frame = (kept->frame.position_samples + (in - kept->begin)) / TOWER_FRAME_SAMPLES,
        .samples = tap->format.samples,
        .bytes = (uint32_t)(tap->chunk_bytes - tap->header_bytes),
        .origin = (uint8_t)kept->frame.origin,
    };
}

static void end_chunk(struct tower_tap *tap,
                      bool (*put)(void *user, const uint8_t *chunk, size_t bytes), void *user) {
    int64_t off_ns = tap->header.time_ns - tap->due_ns;
    if (off_ns < -ROUNDING_NS || off_ns > ROUNDING_NS)
        tap->is_jump = true;
    tap->due_ns = tap->header.time_ns +
                  tower_samples_to_ns(tap->format.samples, (int64_t)tap->format.rate_hz);
    tap->header.sequence = tap->n_chunks++;
    tap->header.flags = tap->is_jump ? TOWER_TAP_JUMP : 0;
    if (tap->header_bytes > 0)
        tower_tap_header_write(&tap->header, tap->chunk);
    tap->is_jump = !put(user, tap->chunk, tap->chunk_bytes);
    tap->n_lost += tap->is_jump;
    tap->chunk_samples = 0;
}

static void cut(struct tower_tap *tap, const int16_t *samples, size_t n_samples,
                bool (*put)(void *user, const uint8_t *chunk, size_t bytes), void *user) {
    size_t sample_bytes = tap->format.channels * sizeof *samples;
    while (n_samples > 0) {
        if (tap->chunk_samples == 0)
            begin_chunk(tap);
        size_t n = tap->format.samples - tap->chunk_samples;
        if (n > n_samples)
            n = n_samples;
        memcpy(tap->chunk + tap->header_bytes + tap->chunk_samples * sample_bytes, samples,
               n * sample_bytes);
        samples += n * tap->format.channels;
        n_samples -= n;
        tap->out_samples += n;
        tap->chunk_samples += (uint32_t)n;
        if (tap->chunk_samples == tap->format.samples)
            end_chunk(tap, put, user);
    }
}

int tower_tap_take(struct tower_tap *tap, const struct tower_tap_frame *frame, const int16_t *pcm,
                   size_t n_samples, bool (*put)(void *user, const uint8_t *chunk, size_t bytes),
                   void *user) {
    int16_t mono[TOWER_FRAME_SAMPLES_MAX];
    if (n_samples > TOWER_FRAME_SAMPLES_MAX)
        return -EINVAL;
    if (tap->format.channels == 1) {
        for (size_t i = 0; i < n_samples; i++)
            mono[i] = (int16_t)((pcm[2 * i] + pcm[2 * i + 1]) / 2);
        pcm = mono;
    }
    tap->kept[tap->n_frames % FRAMES_KEPT] = (struct kept_frame){*frame, tap->in_samples};
    tap->n_frames++;
    tap->in_samples += n_samples;
    const int16_t *out = NULL;
    size_t n_out = 0;
    int error = tower_converter_process(tap->converter, pcm, n_samples, &out, &n_out);
    if (error < 0)
        return error;
    cut(tap, out, n_out, put, user);
    return 0;
}

void tower_tap_skip(struct tower_tap *tap, uint64_t n_samples) {
    uint64_t rate_hz = tap->format.rate_hz;
    uint64_t in = tap->in_samples + n_samples;
    uint64_t end = in / TOWER_RATE_HZ * rate_hz + in % TOWER_RATE_HZ * rate_hz / TOWER_RATE_HZ;
    uint64_t begin = tap->out_samples - tap->chunk_samples;
    uint64_t lost = end > begin ? (end - begin + tap->format.samples - 1) / tap->format.samples : 0;
    tap->n_chunks += lost;
    tap->n_lost += lost;
    tap->n_frames = 0;
    tap->in_samples = 0;
    tap->out_samples = 0;
    tap->chunk_samples = 0;
    tap->is_jump = true;
    tower_converter_reset(tap->converter);
}
