/* ffmpeg_watch.c - the decisions about the ffmpeg child. */
#include "ffmpeg_watch.h"

#include "tower/format.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int tower_ffmpeg_watch_init(struct tower_ffmpeg_watch *watch, const int64_t *backoff_ns,
                            size_t backoff_count, uint32_t max_restarts) {
    if (backoff_count == 0 || backoff_count > TOWER_ENCODER_BACKOFF_MAX)
        return -EINVAL;
    for (size_t i = 0; i < backoff_count; i++) {
        if (backoff_ns[i] < 0)
            return -EINVAL;
    }
    memset(watch, 0, sizeof *watch);
    memcpy(watch->backoff_ns, backoff_ns, backoff_count * sizeof backoff_ns[0]);
    watch->backoff_count = backoff_count;
    watch->max_restarts = max_restarts;
    return 0;
}

void tower_ffmpeg_watch_begin(struct tower_ffmpeg_watch *watch, int64_t now_ns) {
    if (watch->stats.state != TOWER_FFMPEG_STOPPED)
        return;
    watch->stats.state = TOWER_FFMPEG_WAITING;
    watch->start_at_ns = now_ns;
}

void tower_ffmpeg_watch_end(struct tower_ffmpeg_watch *watch) {
    watch->stats.state = TOWER_FFMPEG_STOPPED;
    watch->stats.pid = 0;
}

bool tower_ffmpeg_watch_has_child(const struct tower_ffmpeg_watch *watch) {
    return watch->stats.state >= TOWER_FFMPEG_STARTING;
}

bool tower_ffmpeg_watch_is_start_due(const struct tower_ffmpeg_watch *watch, int64_t now_ns) {
    return watch->stats.state == TOWER_FFMPEG_WAITING && now_ns >= watch->start_at_ns;
}

void tower_ffmpeg_watch_try(struct tower_ffmpeg_watch *watch) {
    watch->stats.starts++;
    watch->fed_blocks = 0;
    watch->child_frames = 0;
    watch->unanswered = 0;
    watch->has_excess = false;
}

void tower_ffmpeg_watch_started(struct tower_ffmpeg_watch *watch, pid_t pid) {
    watch->stats.state = TOWER_FFMPEG_STARTING;
    watch->stats.pid = pid;
}

void tower_ffmpeg_watch_fed(struct tower_ffmpeg_watch *watch, uint64_t block, int64_t now_ns) {
    if (watch->fed_blocks == 0)
        watch->first_block = block;
    assert(block == watch->first_block + watch->fed_blocks);
    watch->fed_blocks++;
    if (watch->unanswered++ == 0)
        watch->unanswered_since_ns = now_ns;
}

bool tower_ffmpeg_watch_take_frame(struct tower_ffmpeg_watch *watch, int64_t now_ns,
                                   uint64_t *ret_block, uint64_t *ret_n) {
    uint64_t n = watch->child_frames;
    /* An ffmpeg that ends in order, as on SIGTERM, empties its encoder first: so it has a moment to
     * be gone, and nothing more of it is taken. */
    if (watch->has_excess || n + 1 >= watch->fed_blocks) {
        watch->has_excess = true;
        return false;
    }
    watch->child_frames++;
    watch->stats.frames++;
    watch->unanswered = 0;
    if (watch->stats.state == TOWER_FFMPEG_STARTING) {
        watch->stats.state = TOWER_FFMPEG_RUNNING;
        watch->running_since_ns = now_ns;
    }
    *ret_block = watch->first_block + n + 1;
    *ret_n = n;
    return true;
}

void tower_ffmpeg_watch_closing(struct tower_ffmpeg_watch *watch, int64_t now_ns) {
    if (watch->stats.state == TOWER_FFMPEG_CLOSING)
        return;
    watch->stats.state = TOWER_FFMPEG_CLOSING;
    watch->closing_until_ns = now_ns + TOWER_FFMPEG_CLOSING_NS;
}

static int64_t silence_limit_ns(const struct tower_ffmpeg_watch *watch) {
    return watch->stats.state == TOWER_FFMPEG_STARTING ? TOWER_FFMPEG_START_TIMEOUT_NS
                                                       : TOWER_FFMPEG_STALL_TIMEOUT_NS;
}

/* Enough PCM for the stall timeout has gone unanswered: so a pump that stands still, or ourselves
 * waking up late, is not laid at the child's door. */
static bool is_owing(const struct tower_ffmpeg_watch *watch) {
    return tower_samples_to_ns((int64_t)watch->unanswered * TOWER_FRAME_SAMPLES, TOWER_RATE_HZ) >=
           TOWER_FFMPEG_STALL_TIMEOUT_NS;
}

bool tower_ffmpeg_watch_judge(struct tower_ffmpeg_watch *watch, int64_t now_ns, bool has_backlog,
                              enum tower_ffmpeg_failure *ret_failure) {
    if (watch->stats.state == TOWER_FFMPEG_CLOSING) {
        if (now_ns < watch->closing_until_ns)
            return false;
        *ret_failure = watch->has_excess ? TOWER_FFMPEG_EXCESS : TOWER_FFMPEG_CLOSE;
        return true;
    }
    int64_t overdue_ns = now_ns - watch->unanswered_since_ns - silence_limit_ns(watch);
    int64_t unseen_ns = now_ns - watch->judged_ns;
    watch->judged_ns = now_ns;
    if (is_owing(watch) && overdue_ns > 0 && unseen_ns > TOWER_FFMPEG_UNSEEN_NS) {
        /* We were to look at the deadline, and wake up only now: what it wrote has just been read,
         * but what it waited for has just been written. */
        watch->unanswered_since_ns += overdue_ns + TOWER_FFMPEG_STALL_TIMEOUT_NS;
        return false;
    }
    if (is_owing(watch) && overdue_ns >= 0) {
        *ret_failure = has_backlog ? TOWER_FFMPEG_REFUSAL : TOWER_FFMPEG_MUTE;
        return true;
    }
    if (watch->stats.state == TOWER_FFMPEG_RUNNING && watch->stats.failures_in_row > 0 &&
        now_ns - watch->running_since_ns >= TOWER_FFMPEG_SETTLED_NS) {
        watch->stats.failures_in_row = 0;
        watch->stats.is_degraded = false;
    }
    return false;
}

static uint64_t *counter_of(struct tower_ffmpeg_stats *stats, enum tower_ffmpeg_failure failure) {
    switch (failure) {
    case TOWER_FFMPEG_EXIT:
        return &stats->exits;
    case TOWER_FFMPEG_CLOSE:
        return &stats->closes;
    case TOWER_FFMPEG_MUTE:
        return &stats->mutes;
    case TOWER_FFMPEG_REFUSAL:
        return &stats->refusals;
    case TOWER_FFMPEG_GARBAGE:
    case TOWER_FFMPEG_EXCESS:
        break;
    }
    return &stats->garbage;
}

int64_t tower_ffmpeg_watch_failed(struct tower_ffmpeg_watch *watch,
                                  enum tower_ffmpeg_failure failure, int64_t now_ns) {
    struct tower_ffmpeg_stats *stats = &watch->stats;
    ++*counter_of(stats, failure);
    if (stats->failures_in_row < UINT32_MAX)
        stats->failures_in_row++;
    stats->is_degraded = stats->failures_in_row > watch->max_restarts;
    size_t last = watch->backoff_count - 1;
    size_t row = stats->failures_in_row - 1;
    int64_t wait_ns = watch->backoff_ns[stats->is_degraded || row > last ? last : row];
    watch->start_at_ns = now_ns + wait_ns;
    stats->state = TOWER_FFMPEG_WAITING;
    stats->pid = 0;
    return wait_ns;
}

int64_t tower_ffmpeg_watch_deadline_ns(const struct tower_ffmpeg_watch *watch, bool is_reaped) {
    switch (watch->stats.state) {
    case TOWER_FFMPEG_STOPPED:
        break;
    case TOWER_FFMPEG_WAITING:
        /* Its pidfd tells when the last one is gone. */
        return is_reaped ? watch->start_at_ns : INT64_MAX;
    case TOWER_FFMPEG_CLOSING:
        return watch->closing_until_ns;
    case TOWER_FFMPEG_STARTING:
    case TOWER_FFMPEG_RUNNING:
        if (is_owing(watch))
            return watch->unanswered_since_ns + silence_limit_ns(watch);
        break;
    }
    return INT64_MAX;
}
