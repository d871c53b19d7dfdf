/* pcm_backlog.c - a ring of samples. */
#include "pcm_backlog.h"

#include "tower/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tower_pcm_backlog_init(struct tower_pcm_backlog *backlog, size_t capacity) {
    *backlog = (struct tower_pcm_backlog){.capacity = capacity};
    backlog->samples = calloc(capacity, TOWER_SAMPLE_BYTES);
    return backlog->samples ? 0 : -ENOMEM;
}

void tower_pcm_backlog_done(struct tower_pcm_backlog *backlog) {
    free(backlog->samples);
    free(backlog->title);
    *backlog = (struct tower_pcm_backlog){.samples = NULL};
}

void tower_pcm_backlog_pass(struct tower_pcm_backlog *backlog, size_t n_samples) {
    backlog->start = (backlog->start + n_samples) % backlog->capacity;
    backlog->count -= n_samples;
}

void tower_pcm_backlog_keep(struct tower_pcm_backlog *backlog, size_t n_samples) {
    if (backlog->count <= n_samples)
        return;
    size_t over = backlog->count - n_samples;
    backlog->dropped += over;
    tower_pcm_backlog_pass(backlog, over);
}

void tower_pcm_backlog_put(struct tower_pcm_backlog *backlog, const int16_t *samples,
                           size_t n_samples) {
    backlog->put += n_samples;
    if (n_samples > backlog->capacity) {
        size_t over = n_samples - backlog->capacity;
        backlog->dropped += over;
        samples += over * TOWER_CHANNELS;
        n_samples -= over;
    }
    tower_pcm_backlog_keep(backlog, backlog->capacity - n_samples);
    while (n_samples > 0) {
        size_t end = (backlog->start + backlog->count) % backlog->capacity;
        size_t n = backlog->capacity - end < n_samples ? backlog->capacity - end : n_samples;
        memcpy(backlog->samples + end * TOWER_CHANNELS, samples, n * TOWER_SAMPLE_BYTES);
        backlog->count += n;
        samples += n * TOWER_CHANNELS;
        n_samples -= n;
    }
}

int tower_pcm_backlog_set_title(struct tower_pcm_backlog *backlog, const char *title) {
    char *copy = strdup(title);
    if (!copy)
        return -ENOMEM;
    free(backlog->title);
    backlog->title = copy;
    backlog->title_at = backlog->put;
    return 0;
}

/* Samples in front of the title's. */
static uint64_t until_title(const struct tower_pcm_backlog *backlog) {
    uint64_t next = backlog->put - backlog->count;
    return backlog->title && backlog->title_at > next ? backlog->title_at - next : 0;
}

char *tower_pcm_backlog_take_title(struct tower_pcm_backlog *backlog) {
    if (!backlog->title || until_title(backlog) > 0)
        return NULL;
    char *title = backlog->title;
    backlog->title = NULL;
    return title;
}

size_t tower_pcm_backlog_peek(const struct tower_pcm_backlog *backlog, size_t max_samples,
                              const int16_t **ret_samples) {
    size_t n = backlog->count < max_samples ? backlog->count : max_samples;
    uint64_t before_title = until_title(backlog);
    if (before_title > 0 && n > before_title)
        n = (size_t)before_title;
    if (n > backlog->capacity - backlog->start)
        n = backlog->capacity - backlog->start;
    *ret_samples = backlog->samples + backlog->start * TOWER_CHANNELS;
    return n;
}
