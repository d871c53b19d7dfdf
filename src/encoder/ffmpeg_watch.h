/* ffmpeg_watch.h - what the supervisor decides, apart from the process and its pipes: when a child
 * is started, whether it does its duty, when it has failed, and how long to wait after that.
 *
 * A state machine and nothing else: it is told what happened and what time it is, and touches no
 * clock, descriptor or process. So each of its decisions can be tried without ffmpeg.
 */
#ifndef TOWER_ENCODER_FFMPEG_WATCH_H
#define TOWER_ENCODER_FFMPEG_WATCH_H

#include "tower/encoder_manager.h"

#include <stdbool.h>
#include <sys/types.h>

#define TOWER_FFMPEG_START_TIMEOUT_NS (5 * TOWER_NS_PER_S)
#define TOWER_FFMPEG_STALL_TIMEOUT_NS (TOWER_NS_PER_S / 2)
/* On air for so long, the row of failures is forgotten. */
#define TOWER_FFMPEG_SETTLED_NS (60 * TOWER_NS_PER_S)
/* An ending process closes its pipes just before it can be waited for. */
#define TOWER_FFMPEG_CLOSING_NS (TOWER_NS_PER_S / 10)
/* While it is fed it is looked at every 24 ms. Who comes late to a deadline, and has not looked for
 * so long, had no time himself. */
#define TOWER_FFMPEG_UNSEEN_NS (TOWER_NS_PER_S / 10)

enum tower_ffmpeg_state {
    TOWER_FFMPEG_STOPPED,
    TOWER_FFMPEG_WAITING,  /* for the time of the next start */
    TOWER_FFMPEG_STARTING, /* the child runs and has given no frame yet */
    TOWER_FFMPEG_RUNNING,  /* it gives frames */
    TOWER_FFMPEG_CLOSING,  /* it seems to be ending: to be gone in a moment, or be killed */
};

enum tower_ffmpeg_failure {
    TOWER_FFMPEG_EXIT,    /* it ended by itself or was killed by others, or could not be started */
    TOWER_FFMPEG_CLOSE,   /* it lives on, but closed stdin or stdout */
    TOWER_FFMPEG_MUTE,    /* it lives and reads, but gives no MP3 */
    TOWER_FFMPEG_REFUSAL, /* it lives, but stopped reading PCM */
    TOWER_FFMPEG_GARBAGE, /* it wrote what was not MP3 as asked */
    TOWER_FFMPEG_EXCESS,  /* it lives, and gave more MP3 than there was PCM for */
};

struct tower_ffmpeg_stats {
    enum tower_ffmpeg_state state;
    bool is_degraded;
    uint32_t failures_in_row;
    uint64_t starts; /* tried, also of a program that isn't there */
    uint64_t exits;  /* of each failure, how often */
    uint64_t closes;
    uint64_t mutes;
    uint64_t refusals;
    uint64_t garbage; /* with excess */
    uint64_t frames;  /* it gave, in all */
    pid_t pid;        /* 0: none */
};

/* All of it is owned by the one thread that calls; a copy of it is another machine in the same
 * state. */
struct tower_ffmpeg_watch {
    /* Constant after init. */
    int64_t backoff_ns[TOWER_ENCODER_BACKOFF_MAX];
    size_t backoff_count;
    uint32_t max_restarts;

    struct tower_ffmpeg_stats stats;
    int64_t start_at_ns;      /* WAITING: when to start */
    int64_t closing_until_ns; /* CLOSING: when to kill */
    int64_t running_since_ns; /* RUNNING: since the first frame */
    bool has_excess;          /* it gave more frames than there was PCM for */

    uint64_t first_block;  /* the first this child was fed */
    uint64_t fed_blocks;   /* to this child */
    uint64_t child_frames; /* by this child */
    uint64_t unanswered;   /* blocks fed since the last frame */
    int64_t unanswered_since_ns;
    int64_t judged_ns; /* when it was last looked at whether it does its duty */
};

/* STOPPED. Waits before the 1st, 2nd, ... restart in `backoff_ns`, the last of them used on and on;
 * degraded after `max_restarts` in a row, and then a try every last wait. Errors: -EINVAL (no
 * backoff, more than TOWER_ENCODER_BACKOFF_MAX, one below 0). */
int tower_ffmpeg_watch_init(struct tower_ffmpeg_watch *watch, const int64_t *backoff_ns,
                            size_t backoff_count, uint32_t max_restarts);

/* From now on there is to be a child: WAITING, for nothing. Does nothing if so already. */
void tower_ffmpeg_watch_begin(struct tower_ffmpeg_watch *watch, int64_t now_ns);
/* There is none, and is not to be: STOPPED. */
void tower_ffmpeg_watch_end(struct tower_ffmpeg_watch *watch);

/* There is a child that has not been given up. */
bool tower_ffmpeg_watch_has_child(const struct tower_ffmpeg_watch *watch);

/* Is a child to be started? Only once the last one has been reaped. */
bool tower_ffmpeg_watch_is_start_due(const struct tower_ffmpeg_watch *watch, int64_t now_ns);
/* It is tried: what is known of the last one is forgotten. Then either of started(), failed(). */
void tower_ffmpeg_watch_try(struct tower_ffmpeg_watch *watch);
void tower_ffmpeg_watch_started(struct tower_ffmpeg_watch *watch, pid_t pid);

/* The child was given block `block`. Numbers follow on. */
void tower_ffmpeg_watch_fed(struct tower_ffmpeg_watch *watch, uint64_t block, int64_t now_ns);

/* The child gave a frame. Returns true with the block it is for and its number from this child;
 * false if it is not to be used: there was no PCM for it, and closing() is to be called. */
bool tower_ffmpeg_watch_take_frame(struct tower_ffmpeg_watch *watch, int64_t now_ns,
                                   uint64_t *ret_block, uint64_t *ret_n);

/* The child's end of a pipe is closed, or it gave an excess: it may just be ending, and has a
 * moment to be gone. */
void tower_ffmpeg_watch_closing(struct tower_ffmpeg_watch *watch, int64_t now_ns);

/* The child lives: is it to be given up? `has_backlog` says that PCM waits for it. Returns true
 * with how it failed; failed() is then to be called. Else false. */
bool tower_ffmpeg_watch_judge(struct tower_ffmpeg_watch *watch, int64_t now_ns, bool has_backlog,
                              enum tower_ffmpeg_failure *ret_failure);

/* The child is gone, or no use any more: WAITING. Returns for how long. */
int64_t tower_ffmpeg_watch_failed(struct tower_ffmpeg_watch *watch,
                                  enum tower_ffmpeg_failure failure, int64_t now_ns);

/* When there is something to decide even if nothing happens; INT64_MAX: never. `is_reaped` says
 * that no child is left that was given up. */
int64_t tower_ffmpeg_watch_deadline_ns(const struct tower_ffmpeg_watch *watch, bool is_reaped);

#endif
