/* fallback.h - FallbackGenerator: what goes on air when nobody feeds.
 *
 * Owns the progression of an outage: silence for the grace period, then the file, the tone or
 * silence, in that order of choice, taken at the start and again whenever one fails. Always
 * returns a whole frame; never fails, never waits.
 */
#ifndef TOWER_FALLBACK_H
#define TOWER_FALLBACK_H

#include "tower/clock.h"
#include "tower/format.h"

struct tower_fallback;

struct tower_fallback_config {
    struct tower_clock *clock;
    uint32_t frame_samples; /* TOWER_FRAME_SAMPLES or less */
    int64_t grace_ns;       /* >= 0; rounded up to whole frames */
    const char *file_path;  /* NULL or "": no file */
    const char *ffmpeg;     /* for files that libsndfile can't read; NULL: "ffmpeg" */
    double tone_hz;         /* 0: no tone, silence instead */
    double tone_dbfs;       /* peak level, <= 0 */
};

struct tower_fallback_stats {
    uint64_t outages;     /* times live audio ran dry */
    uint64_t file_opens;  /* times it was opened: at first, after an outage, after an error */
    uint64_t file_loops;  /* times the file began again */
    uint64_t file_errors; /* times it could not be opened or read on */
    bool is_file_ready;   /* decoded frames are waiting */
};

/* Make one; with a file, start the thread that decodes it ahead of need (two seconds) and, when it
 * fails, tries it again every 5 s. The file loops without a seam, and begins at its start in an
 * outage. A file that cannot be read is logged and is no error here: the tone stands in.
 * Errors: -EINVAL (a setting out of range), -ENOMEM, -EAGAIN (no thread). */
int tower_fallback_new(const struct tower_fallback_config *config,
                       struct tower_fallback **ret_fallback);
void tower_fallback_free(struct tower_fallback *fallback);

/* An outage goes on that another generator had `outage_frames` (0: none does) frames of, and whose
 * next tick is `next_tick`: without another grace, or the whole of it. Before the first frame; if
 * the file's turn has come it waits for that to be ready, 0.1 s at most. */
void tower_fallback_resume(struct tower_fallback *fallback, uint64_t next_tick,
                           uint64_t outage_frames);

/* The frame for tick number `tick` of frame_samples, and its origin. A run of consecutive ticks is
 * one outage; a gap in the numbers means live audio was back, and the next outage begins with its
 * grace. Called by the pump: no wait, no allocation. */
enum tower_origin tower_fallback_get_frame(struct tower_fallback *fallback, uint64_t tick,
                                           int16_t *ret_frame);

/* Any thread; no lock. */
void tower_fallback_get_stats(const struct tower_fallback *fallback,
                              struct tower_fallback_stats *ret_stats);

#endif
