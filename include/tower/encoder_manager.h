/* encoder_manager.h - EncoderManager: the only owner of the encoders.
 *
 * PCM frames in, MP3 frames out, one for one, whatever happens to an encoder. An encoder thread
 * does the work; write_pcm() only queues. LAME in process is always running: as the encoder, or as
 * the spare that carries the air while ffmpeg is down, starting or late.
 */
#ifndef TOWER_ENCODER_MANAGER_H
#define TOWER_ENCODER_MANAGER_H

#include "tower/clock.h"
#include "tower/format.h"

enum tower_encoder_kind { TOWER_ENCODER_LAME, TOWER_ENCODER_FFMPEG };

enum tower_encoder_state {
    TOWER_ENCODER_STARTING,   /* the chosen encoder has not given its first frame */
    TOWER_ENCODER_ON_AIR,     /* the chosen encoder is on air */
    TOWER_ENCODER_RECOVERING, /* it failed; the spare is on air while it is started again */
    TOWER_ENCODER_DEGRADED,   /* it failed too often; the spare stays, a try now and then */
};

#define TOWER_ENCODER_BACKOFF_MAX 16
/* The largest MP3 frame at 48 kHz: 320 kbit/s. */
#define TOWER_MP3_FRAME_BYTES_MAX 960

struct tower_encoder_manager;

/* Called on the encoder thread with each MP3 frame, in order. Must not block. */
typedef void tower_encoder_output(void *user, const uint8_t *mp3_frame, size_t bytes);

/* The chosen encoder failed and something stands in for it, or it is on air again. An outage has
 * one event at its begin and one at its end, however often the encoder fails meanwhile. */
struct tower_encoder_event {
    bool is_back;
    /* How it failed first: "exit", "pipe-closed", "mute", "not-reading", "garbage" or "excess" of
     * ffmpeg, "lame", "too-slow" (the encoder thread fell behind). A literal. */
    const char *cause;
    const char *detail; /* the same for people; only during the call */
    uint64_t frame;     /* MP3 frame, counted from 0: the first that is not the encoder's; the first
                           that is again */
    int64_t at_ns;      /* when it was seen to have failed; when it was on air again */
    int64_t to_substitute_ns; /* from then to that frame, 0 if it went out before; below 0: of none
                                 that stood in */
    int64_t duration_ns;      /* is_back: since it failed; else below 0 */
    uint64_t failures;        /* so far */
    uint64_t frames_spare;    /* that stood in so far */
    uint64_t frames_repair;
};

struct tower_encoder_config {
    struct tower_clock *clock;
    enum tower_encoder_kind kind;
    uint32_t frame_samples; /* of a PCM frame; 1 to TOWER_FRAME_SAMPLES_MAX */
    uint32_t bitrate_bps;   /* 32000 to 320000, one of MPEG-1 Layer III's */
    const char *ffmpeg;     /* the program; NULL: "ffmpeg" */
    int64_t backoff_ns[TOWER_ENCODER_BACKOFF_MAX]; /* before the 1st, 2nd, ... restart */
    size_t backoff_count;  /* 0: 1, 2, 4, 8, 10 s; the last is used on and on */
    uint32_t max_restarts; /* in a row, without a minute on air; then degraded */
    bool is_realtime;      /* ask for SCHED_FIFO below the pump's; go on where refused */
    bool is_stepped;       /* no thread: whoever starts it calls tower_encoder_manager_step() */
    tower_encoder_output *output;
    void *output_user;
    /* The region that another manager left (0 or below: none), and how many frames `output` has put
     * on air so far: what was written to that one and has not gone on air goes out first, encoded
     * again, in the first turn of the thread. */
    int carried_fd;
    uint64_t air_frames;
    /* Called on the encoder thread, for the same user. Must not block. May be NULL. */
    void (*on_event)(void *user, const struct tower_encoder_event *event);
};

struct tower_encoder_stats {
    enum tower_encoder_kind kind;
    enum tower_encoder_state state;
    uint64_t frames_in;      /* PCM frames taken from the pump */
    uint64_t frames_out;     /* MP3 frames given */
    uint64_t frames_primary; /* of them, by the chosen encoder */
    uint64_t frames_spare;   /* of them, by LAME standing in for ffmpeg */
    uint64_t
        frames_repair;   /* of them, prepared silence: the encoder itself failed or fell behind */
    uint64_t restarts;   /* of the ffmpeg child */
    uint64_t exits;      /* it ended by itself or was killed */
    uint64_t closes;     /* it lived, but closed a pipe: killed */
    uint64_t refusals;   /* it lived, but stopped reading PCM: killed */
    uint64_t mutes;      /* it lived and read, but stopped giving MP3: killed */
    uint64_t garbage;    /* what it wrote was not MP3 as asked: killed */
    int32_t child_pid;   /* 0: none */
    size_t queue_frames; /* PCM frames waiting for the encoder thread */
    int64_t delay_ns;    /* PCM in to MP3 out, by design: the encoder's own delay and, with
                            ffmpeg, the frames held back so that the spare can step in */
};

/* Make the encoders; nothing runs yet. If the carried region holds it is this manager's, and
 * tower_encoder_manager_fd() is carried_fd; if not, or if frames were of another size, that stays
 * open and the caller's, a warning is logged, and frames of silence go out for what was in it, as
 * far as that is known. Takes some 10 ms with a carried one, else 1. Errors: -EINVAL (a setting out
 * of range), -ENOMEM, -EIO (LAME refused the settings), -EMFILE. */
int tower_encoder_manager_new(const struct tower_encoder_config *config,
                              struct tower_encoder_manager **ret_manager);
void tower_encoder_manager_free(struct tower_encoder_manager *manager);

/* The descriptor of the region; the manager's to close. */
int tower_encoder_manager_fd(const struct tower_encoder_manager *manager);

/* PCM frames that write_pcm() ever took, of this manager and those whose region it has. Any thread;
 * no lock. */
uint64_t tower_encoder_manager_written(const struct tower_encoder_manager *manager);

/* Which sample the first of the PCM frame is that is written first: counted so that sample s is
 * heard, but for the decoder's share, in MP3 frame (s + the samples of delay_ns) / 1152 on air. 0
 * if none are on air. Constant. */
uint64_t tower_encoder_manager_position_samples(const struct tower_encoder_manager *manager);

/* Start the encoder thread (which starts ffmpeg, if that is the encoder).
 * Errors: -EALREADY, -EAGAIN (no thread). */
int tower_encoder_manager_start(struct tower_encoder_manager *manager);

/* Encode what is queued, end ffmpeg, stop the thread. Takes under 200 ms. */
void tower_encoder_manager_stop(struct tower_encoder_manager *manager);

/* One turn of the encoder thread's loop without its wait, for a simulation (is_stepped). Returns
 * when the next is due even if nothing is written and ffmpeg is silent; INT64_MAX: never. */
int64_t tower_encoder_manager_step(struct tower_encoder_manager *manager);

/* Queue one PCM frame (A3). Never blocks, allocates nothing; called by the pump. Returns 0 also
 * while an encoder is dead: the manager absorbs that, and makes up with a frame of silence for any
 * it had to drop because its own queue was full.
 * Errors: -EINVAL (not one whole frame), -ESHUTDOWN (not started, or stopped). */
int tower_encoder_manager_write_pcm(struct tower_encoder_manager *manager, const int16_t *frame,
                                    size_t frame_bytes);

/* Any thread, never blocks. */
void tower_encoder_manager_get_stats(const struct tower_encoder_manager *manager,
                                     struct tower_encoder_stats *ret_stats);

/* "lame", "ffmpeg"; "starting", "on air", "recovering", "degraded". */
const char *tower_encoder_kind_name(enum tower_encoder_kind kind);
const char *tower_encoder_state_name(enum tower_encoder_state state);

#endif
