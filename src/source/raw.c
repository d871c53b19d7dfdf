/* raw.c - raw PCM from a descriptor. */
#include "tower/source.h"

#include "bounds.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct raw_source {
    struct tower_source base;

    /* Constant after open. */
    int fd;
    size_t sample_bytes; /* of all channels */

    /* Owned by the reader: a chunk in the making, kept where a signal interrupts the wait. */
    uint8_t *held;
    size_t held_bytes;
    bool is_at_end;
    int end; /* what a read returns behind the last chunk */
};

/* Read once, waiting for as long as it takes. Returns 0, or -EINTR. */
static int read_more(struct raw_source *raw, size_t chunk_bytes) {
    ssize_t n = read(raw->fd, raw->held + raw->held_bytes, chunk_bytes - raw->held_bytes);
    if (n > 0) {
        raw->held_bytes += (size_t)n;
        return 0;
    }
    if (n < 0 && errno == EINTR)
        return -EINTR;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        /* Whoever shares the descriptor has made it non-blocking. */
        struct pollfd readable = {.fd = raw->fd, .events = POLLIN};
        return poll(&readable, 1, -1) < 0 && errno == EINTR ? -EINTR : 0;
    }
    if (n < 0) {
        raw->end = -EIO;
        (void)snprintf(raw->base.error, sizeof raw->base.error, "%s", strerror(errno));
    }
    raw->is_at_end = true;
    return 0;
}

static int raw_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct raw_source *raw = (struct raw_source *)source;
    size_t chunk_bytes = tower_source_chunk_bytes(source);
    while (raw->held_bytes < chunk_bytes && !raw->is_at_end) {
        int error = read_more(raw, chunk_bytes);
        if (error < 0)
            return error;
    }
    size_t bytes = raw->held_bytes - raw->held_bytes % raw->sample_bytes;
    raw->held_bytes = 0;
    if (bytes == 0)
        return raw->end;
    memcpy(ret_chunk, raw->held, bytes);
    *ret_bytes = bytes;
    return 1;
}

static void raw_close(struct tower_source *source) {
    struct raw_source *raw = (struct raw_source *)source;
    free(raw->held);
    free(raw);
}

static const struct tower_source_ops raw_ops = {.read = raw_read, .close = raw_close};

int tower_source_open_raw(const struct tower_raw_config *config, struct tower_source **ret_source) {
    size_t chunk_samples =
        config->chunk_samples ? config->chunk_samples : TOWER_SOURCE_CHUNK_SAMPLES_DEFAULT;
    if (config->fd < 0 || config->rate_hz < TOWER_SOURCE_RATE_MIN_HZ ||
        config->rate_hz > TOWER_SOURCE_RATE_MAX_HZ || config->channels < 1 ||
        config->channels > TOWER_SOURCE_CHANNELS_MAX ||
        chunk_samples > TOWER_SOURCE_CHUNK_SAMPLES_MAX)
        return -EINVAL;
    struct raw_source *raw = calloc(1, sizeof *raw);
    if (!raw)
        return -ENOMEM;
    raw->base = (struct tower_source){
        .ops = &raw_ops,
        .info = {.rate_hz = config->rate_hz,
                 .channels = config->channels,
                 .chunk_samples = chunk_samples,
                 .length_samples = -1},
    };
    raw->fd = config->fd;
    raw->sample_bytes = config->channels * sizeof(int16_t);
    raw->held = malloc(tower_source_chunk_bytes(&raw->base));
    if (!raw->held) {
        free(raw);
        return -ENOMEM;
    }
    *ret_source = &raw->base;
    return 0;
}
