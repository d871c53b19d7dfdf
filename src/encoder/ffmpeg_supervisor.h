/* ffmpeg_supervisor.h - FFmpegSupervisor: one ffmpeg child, fed, drained, watched, restarted.
 *
 * It has no thread: its owner, one thread, feeds it PCM and calls step() whenever one of its
 * descriptors is ready, its deadline has come, or something was fed. The process and its pipes are
 * seen to here; what is decided about them is in ffmpeg_watch.h. Nothing here blocks but the start
 * of the child (some milliseconds) and stop(). SIGPIPE must be blocked or ignored in the owner's
 * thread.
 *
 * PCM goes in as blocks of 1152 samples, numbered by the owner without a gap. Like LAME in process,
 * ffmpeg gives its first frame after two blocks: if the child was started with block s, its n-th
 * frame (from 0) holds what LAME, primed with one silent frame, gives for block s + n + 1.
 */
#ifndef TOWER_ENCODER_FFMPEG_SUPERVISOR_H
#define TOWER_ENCODER_FFMPEG_SUPERVISOR_H

#include "ffmpeg_watch.h"

#include <poll.h>

#define TOWER_FFMPEG_POLLFDS 4

/* Called with each frame: for which block it is, and its number `n` from this child. */
typedef void tower_ffmpeg_frame(void *user, uint64_t block, uint64_t n, const uint8_t *frame);

struct tower_ffmpeg_config {
    struct tower_clock *clock;
    const char *program; /* NULL: "ffmpeg" */
    uint32_t bitrate_bps;
    const int64_t *backoff_ns; /* before the 1st, 2nd, ... restart; the last is used on and on */
    size_t backoff_count;      /* 1 to TOWER_ENCODER_BACKOFF_MAX */
    uint32_t max_restarts;     /* in a row; then degraded: a try every last backoff */
    tower_ffmpeg_frame *on_frame;
    /* It failed: how, and the same for people. May be NULL. */
    void (*on_failure)(void *user, enum tower_ffmpeg_failure failure, const char *what);
    void *user;
};

struct tower_ffmpeg_supervisor;

/* Everything in `config` is copied but the clock and `user`, which must outlive it. Errors: -EINVAL
 * (a setting out of range), -ENOMEM. */
int tower_ffmpeg_supervisor_new(const struct tower_ffmpeg_config *config,
                                struct tower_ffmpeg_supervisor **ret_supervisor);
/* Stops it first. Takes NULL. */
void tower_ffmpeg_supervisor_free(struct tower_ffmpeg_supervisor *supervisor);

/* From now on there is to be a child; the next step() starts it. Does nothing if so already. */
void tower_ffmpeg_supervisor_start(struct tower_ffmpeg_supervisor *supervisor);

/* SIGKILL, reap, close. Waits only for the kernel. */
void tower_ffmpeg_supervisor_stop(struct tower_ffmpeg_supervisor *supervisor);

/* Give the child block number `block`; dropped where there is no child. Numbers follow on. */
void tower_ffmpeg_supervisor_feed(struct tower_ffmpeg_supervisor *supervisor, uint64_t block,
                                  const int16_t *pcm);

/* Do all there is to do now: take frames, write PCM, log, start, notice a failure. */
void tower_ffmpeg_supervisor_step(struct tower_ffmpeg_supervisor *supervisor);

/* What to poll for, into `ret_fds`; returns how many. */
size_t tower_ffmpeg_supervisor_pollfds(const struct tower_ffmpeg_supervisor *supervisor,
                                       struct pollfd ret_fds[TOWER_FFMPEG_POLLFDS]);

/* When step() is due even if no descriptor is ready; INT64_MAX: never. */
int64_t tower_ffmpeg_supervisor_deadline_ns(const struct tower_ffmpeg_supervisor *supervisor);

void tower_ffmpeg_supervisor_get_stats(const struct tower_ffmpeg_supervisor *supervisor,
                                       struct tower_ffmpeg_stats *ret_stats);

#endif
