/* pcm_backlog.h - decoded samples that wait to be written, and the title that goes with one of
 * them.
 */
#ifndef TOWER_SOURCE_PCM_BACKLOG_H
#define TOWER_SOURCE_PCM_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Samples are counted a channel. Owned by one thread. */
struct tower_pcm_backlog {
    int16_t *samples; /* interleaved stereo, a ring */
    size_t capacity;
    size_t start;
    size_t count;
    uint64_t put;      /* ever, with those dropped since */
    uint64_t dropped;  /* the oldest, for want of time or room */
    char *title;       /* NULL: none waits */
    uint64_t title_at; /* the sample that it goes with, by `put` */
};

/* Errors: -ENOMEM. */
int tower_pcm_backlog_init(struct tower_pcm_backlog *backlog, size_t capacity);
void tower_pcm_backlog_done(struct tower_pcm_backlog *backlog);

/* Append. The oldest make room where there is none, and are counted. */
void tower_pcm_backlog_put(struct tower_pcm_backlog *backlog, const int16_t *samples,
                           size_t n_samples);

/* Keep the newest `n_samples`. */
void tower_pcm_backlog_keep(struct tower_pcm_backlog *backlog, size_t n_samples);

/* The title goes with the next sample that is put, in place of one that still waits. Errors:
 * -ENOMEM. */
int tower_pcm_backlog_set_title(struct tower_pcm_backlog *backlog, const char *title);

/* Is it the turn of the title that waits? Returns it, and it waits no more; the caller frees it.
 * NULL: it is not. */
char *tower_pcm_backlog_take_title(struct tower_pcm_backlog *backlog);

/* The samples next in turn, up to where the title is to be taken: how many, `max_samples` at most;
 * they stay until tower_pcm_backlog_pass(). */
size_t tower_pcm_backlog_peek(const struct tower_pcm_backlog *backlog, size_t max_samples,
                              const int16_t **ret_samples);

/* So many of those were written. */
void tower_pcm_backlog_pass(struct tower_pcm_backlog *backlog, size_t n_samples);

#endif
