/* encoder_manager.c - EncoderManager: one MP3 frame out for every PCM frame in, whatever dies.
 *
 * The encoder thread cuts PCM into numbered blocks of 1152 samples. LAME encodes every block. With
 * ffmpeg as the encoder each of LAME's frames waits in a delay line, and ffmpeg's frame for the
 * same block takes its place if it comes in time. Both are the same codec with the same delay and
 * no memory between frames, so either may follow the other.
 *
 * What was queued or encoded and has not gone on air when the process dies is encoded again by the
 * next one, from the PCM in the queue's region. Its LAME is first shown the blocks before: then it
 * gives what the one that died would have given.
 */
#include "tower/encoder_manager.h"

#include "delay_line.h"
#include "encoder_resume.h"
#include "fd.h"
#include "ffmpeg_supervisor.h"
#include "lame_encoder.h"
#include "outage.h"
#include "thread.h"
#include "tower/frame_ring.h"
#include "tower/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SAMPLES TOWER_FRAME_SAMPLES
/* What the encoder thread may fall behind before PCM is dropped: 1.5 s. */
#define QUEUE_SAMPLES (64 * BLOCK_SAMPLES)
/* ffmpeg answers up to two blocks late by design; the rest is for a machine that is busy. */
#define FFMPEG_DELAY_SLOTS 8
/* An encoder's first frames were made without knowing what came before. */
#define JOIN_SKIP_FRAMES 3
/* ffmpeg goes on air when so many of its frames in a row were LAME's bit for bit: then the change
 * cannot be heard ... */
#define JOIN_AGREEING_FRAMES 2
/* ... or, where its libmp3lame is another build and never agrees, after a second. */
#define JOIN_ANYWAY_FRAMES 42

/* After so many blocks LAME's frames are bit for bit those of one that has run for long; what it
 * remembers longest is how loud the programme was. Eight differ one time in thirty. */
#define HISTORY_BLOCKS 24

/* A frame in the queue bears, beside the ring's own flag, how many were dropped before it. */
#define DROPPED_SHIFT 1
#define DROPPED_MASK TOWER_ENCODER_DROPPED_MASK

static const int64_t default_backoff_ns[] = {1 * TOWER_NS_PER_S, 2 * TOWER_NS_PER_S,
                                             4 * TOWER_NS_PER_S, 8 * TOWER_NS_PER_S,
                                             10 * TOWER_NS_PER_S};

struct tower_encoder_manager {
    /* Constant after new. */
    struct tower_encoder_config config;
    size_t pcm_frame_bytes;
    size_t mp3_frame_bytes;
    int64_t delay_ns;
    int wake_fd;
    struct tower_frame_ring *queue;
    uint64_t position_samples; /* at the start */
    uint8_t silence[TOWER_MP3_FRAME_BYTES_MAX];

    /* Owned by whoever starts and stops. */
    pthread_t thread;
    bool has_thread;

    /* Owned by the encoder thread. */
    struct tower_lame_encoder *lame;        /* NULL: failed, to be made anew */
    struct tower_ffmpeg_supervisor *ffmpeg; /* NULL: LAME is the encoder */
    struct tower_delay_line line;
    int16_t block[BLOCK_SAMPLES * TOWER_CHANNELS];
    size_t block_samples;    /* of `block` */
    uint64_t next_block;     /* its number */
    uint32_t settled_frames; /* of those dropped */
    uint64_t owed_samples;   /* dropped, and not made up for yet */
    /* Where we are in the PCM, for who may have to go on from here. */
    struct tower_encoder_resume *resume;
    struct tower_encoder_place next; /* sample that is taken next; that of the block is ... */
    struct tower_encoder_place block_start; /* ... where its first one was */
    /* Of the frames in the line, and the one behind them: at its number modulo the size. */
    struct tower_encoder_place places[TOWER_DELAY_SLOTS_MAX + 1];
    uint64_t n_put;             /* frames put into the line */
    uint64_t air_frames;        /* given to the output by this and all processes before */
    uint64_t silent_frames;     /* at the end of the line, from when it was made; they go on air */
    uint64_t suppressed_frames; /* yet to be taken from the line and not to go on air */
    bool is_lame_failed;
    bool is_joined;             /* ffmpeg's frames go on air */
    bool has_left;              /* ffmpeg was on air, or failed, before */
    bool has_agreed;            /* ffmpeg's frames were LAME's bit for bit, so far */
    uint64_t agreeing_frames;   /* of ffmpeg's, in a row */
    uint64_t apart_since_frame; /* of ffmpeg's */
    enum tower_delay_maker last_maker;
    struct tower_encoder_outage outage;
    int16_t popped[BLOCK_SAMPLES * TOWER_CHANNELS];

    /* Atomic, written by start() and stop(), read by anyone. */
    _Atomic bool is_running;
    _Atomic bool is_stopping;
    /* Atomic, written by the pump, read by anyone. */
    _Atomic uint64_t frames_in;
    _Atomic uint32_t dropped_frames; /* since the start, modulo 2^32 */
    /* Atomic, written by the encoder thread, read by anyone. */
    _Atomic uint64_t frames_out;
    _Atomic uint64_t frames_by_maker[3];
    _Atomic uint64_t restarts;
    _Atomic uint64_t exits;
    _Atomic uint64_t closes;
    _Atomic uint64_t refusals;
    _Atomic uint64_t mutes;
    _Atomic uint64_t garbage;
    _Atomic int32_t child_pid;
    _Atomic int state;
};

static bool is_config_valid(const struct tower_encoder_config *config) {
    if (!config->clock || !config->output || config->frame_samples == 0 ||
        config->frame_samples > TOWER_FRAME_SAMPLES_MAX ||
        tower_lame_frame_bytes(config->bitrate_bps) == 0 ||
        config->backoff_count > TOWER_ENCODER_BACKOFF_MAX)
        return false;
    return config->kind == TOWER_ENCODER_LAME || config->kind == TOWER_ENCODER_FFMPEG;
}

static void set(_Atomic uint64_t *counter, uint64_t value) {
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ffmpeg's frames are not, or no more, LAME's from its frame `n` on. */
static void part(struct tower_encoder_manager *manager, uint64_t n) {
    manager->is_joined = false;
    manager->has_agreed = false;
    manager->agreeing_frames = 0;
    manager->apart_since_frame = n;
}

/* ffmpeg's frame for a block: on air in LAME's place if it comes in time and joins on cleanly. */
static void take_ffmpeg_frame(void *user, uint64_t block, uint64_t n, const uint8_t *frame) {
    struct tower_encoder_manager *manager = user;
    if (n == 0)
        part(manager, 0);
    struct tower_delay_entry *entry = tower_delay_line_find(&manager->line, block);
    if (!entry) {
        part(manager, n);
        return;
    }
    bool is_same = memcmp(entry->frame, frame, manager->mp3_frame_bytes) == 0;
    /* One that gave LAME's bits and now gives others is at its end, and this is what its encoder
     * still held, in place of a frame whose PCM it never read. */
    if (manager->has_agreed && !is_same && entry->maker != TOWER_DELAY_REPAIR) {
        part(manager, n);
        return;
    }
    manager->agreeing_frames = is_same ? manager->agreeing_frames + 1 : 0;
    manager->has_agreed |= manager->agreeing_frames >= JOIN_AGREEING_FRAMES;
    if (n >= JOIN_SKIP_FRAMES && (manager->agreeing_frames >= JOIN_AGREEING_FRAMES ||
                                  n - manager->apart_since_frame >= JOIN_ANYWAY_FRAMES))
        manager->is_joined = true;
    if (!manager->is_joined)
        return;
    memcpy(entry->frame, frame, manager->mp3_frame_bytes);
    entry->maker = TOWER_DELAY_PRIMARY;
}

static int64_t now_ns(const struct tower_encoder_manager *manager) {
    return tower_clock_now_ns(manager->config.clock);
}

static void fail(struct tower_encoder_manager *manager, const char *cause, const char *detail) {
    tower_encoder_outage_fail(&manager->outage, cause, detail, manager->air_frames,
                              now_ns(manager));
}

static void note_ffmpeg_failure(void *user, enum tower_ffmpeg_failure failure, const char *what) {
    static const char *const causes[] = {
        [TOWER_FFMPEG_EXIT] = "exit",       [TOWER_FFMPEG_CLOSE] = "pipe-closed",
        [TOWER_FFMPEG_MUTE] = "mute",       [TOWER_FFMPEG_REFUSAL] = "not-reading",
        [TOWER_FFMPEG_GARBAGE] = "garbage", [TOWER_FFMPEG_EXCESS] = "excess",
    };
    fail(user, causes[failure], what);
}

static int make_ffmpeg(struct tower_encoder_manager *manager) {
    const struct tower_encoder_config *config = &manager->config;
    bool has_backoff = config->backoff_count > 0;
    struct tower_ffmpeg_config ffmpeg = {
        .clock = config->clock,
        .program = config->ffmpeg,
        .bitrate_bps = config->bitrate_bps,
        .backoff_ns = has_backoff ? config->backoff_ns : default_backoff_ns,
        .backoff_count = has_backoff ? config->backoff_count
                                     : sizeof default_backoff_ns / sizeof default_backoff_ns[0],
        .max_restarts = config->max_restarts,
        .on_frame = take_ffmpeg_frame,
        .on_failure = note_ffmpeg_failure,
        .user = manager,
    };
    return tower_ffmpeg_supervisor_new(&ffmpeg, &manager->ffmpeg);
}

/* Show LAME the blocks up to `place`. What it gives for them is on air already. */
static void show_history(struct tower_encoder_manager *manager,
                         const struct tower_encoder_place *place) {
    uint32_t frame_samples = manager->config.frame_samples;
    uint8_t unwanted[TOWER_MP3_FRAME_BYTES_MAX];
    uint64_t frames = place->frame - tower_encoder_resume_oldest(manager->queue);
    uint64_t blocks = (frames * frame_samples + place->sample) / BLOCK_SAMPLES;
    if (blocks > HISTORY_BLOCKS)
        blocks = HISTORY_BLOCKS;
    uint64_t samples = blocks * BLOCK_SAMPLES;
    frames =
        samples > place->sample ? (samples - place->sample + frame_samples - 1) / frame_samples : 0;
    size_t skip = (size_t)(frames * frame_samples + place->sample - samples);
    int error = tower_frame_ring_rewind(manager->queue, place->frame - frames);
    while (error == 0 && blocks > 0 &&
           tower_frame_ring_pop(manager->queue, manager->popped, NULL, NULL) == 1) {
        while (skip < frame_samples && blocks > 0) {
            size_t n = BLOCK_SAMPLES - manager->block_samples;
            if (n > frame_samples - skip)
                n = frame_samples - skip;
            memcpy(manager->block + manager->block_samples * TOWER_CHANNELS,
                   manager->popped + skip * TOWER_CHANNELS, n * TOWER_SAMPLE_BYTES);
            skip += n;
            manager->block_samples += n;
            if (manager->block_samples < BLOCK_SAMPLES)
                continue;
            (void)tower_lame_encoder_encode(manager->lame, manager->block, unwanted);
            manager->block_samples = 0;
            blocks--;
        }
        skip = 0;
    }
    manager->block_samples = 0;
    (void)tower_frame_ring_rewind(manager->queue, place->frame);
}

/* Begin where another process was, or where the queue is. The silence that a line has in it when it
 * is made goes on air in front of the first sound, and never again. */
static void go_on(struct tower_encoder_manager *manager) {
    const struct tower_encoder_config *config = &manager->config;
    struct tower_frame_ring *queue = manager->queue;
    uint64_t slots = manager->line.slots;
    uint32_t dropped_frames = (uint32_t)tower_frame_ring_dropped(queue);
    struct tower_encoder_place place = {.frame = tower_frame_ring_popped(queue),
                                        .settled_frames = dropped_frames & DROPPED_MASK,
                                        .silent_frames = slots};
    bool is_one_more = false;
    if (tower_encoder_resume_open(queue, config->frame_samples, config->air_frames,
                                  &manager->resume, &place, &is_one_more))
        show_history(manager, &place);
    if (place.silent_frames > slots)
        place.silent_frames = slots;
    if (is_one_more && place.silent_frames > 0) {
        place.silent_frames--;
        is_one_more = false;
    }
    manager->silent_frames = place.silent_frames;
    manager->suppressed_frames = slots - place.silent_frames + is_one_more;
    manager->air_frames = config->air_frames;
    manager->dropped_frames = dropped_frames;
    manager->settled_frames = place.settled_frames;
    manager->owed_samples = place.owed_samples;
    manager->next = manager->block_start = manager->places[0] = place;
    uint64_t unsettled = (dropped_frames - place.settled_frames) & DROPPED_MASK;
    uint64_t suppressed = manager->suppressed_frames;
    uint64_t begun_frames = config->air_frames > suppressed ? config->air_frames - suppressed : 0;
    manager->position_samples =
        begun_frames * BLOCK_SAMPLES + place.owed_samples - place.sample +
        (tower_frame_ring_pushed(queue) - place.frame + unsettled) * config->frame_samples;
    if (!is_one_more)
        tower_encoder_resume_note(manager->resume, config->air_frames, &place);
}

int tower_encoder_manager_new(const struct tower_encoder_config *config,
                              struct tower_encoder_manager **ret_manager) {
    if (!is_config_valid(config))
        return -EINVAL;
    struct tower_encoder_manager *manager = calloc(1, sizeof *manager);
    if (!manager)
        return -ENOMEM;
    manager->config = *config;
    manager->outage.on_event = config->on_event;
    manager->outage.user = config->output_user;
    manager->pcm_frame_bytes = tower_frame_bytes(config->frame_samples);
    manager->mp3_frame_bytes = tower_lame_frame_bytes(config->bitrate_bps);
    manager->wake_fd = tower_eventfd_new();
    int error = manager->wake_fd < 0 ? manager->wake_fd : 0;
    if (error == 0)
        error = tower_lame_encoder_new(config->bitrate_bps, &manager->lame);
    bool is_ffmpeg = config->kind == TOWER_ENCODER_FFMPEG;
    if (error == 0 && is_ffmpeg)
        error = make_ffmpeg(manager);
    /* Last: once the region is ours we cannot fail and close it. */
    if (error == 0)
        error = tower_frame_ring_open(config->carried_fd, QUEUE_SAMPLES / config->frame_samples,
                                      manager->pcm_frame_bytes, TOWER_FRAME_RING_DROP_NEWEST,
                                      &manager->queue, NULL);
    if (error < 0) {
        tower_encoder_manager_free(manager);
        return error;
    }
    size_t slots = is_ffmpeg ? FFMPEG_DELAY_SLOTS : 0;
    memcpy(manager->silence, tower_lame_encoder_silence(manager->lame), manager->mp3_frame_bytes);
    tower_delay_line_init(&manager->line, manager->mp3_frame_bytes, slots, manager->silence,
                          TOWER_DELAY_SPARE);
    manager->last_maker = TOWER_DELAY_SPARE;
    manager->delay_ns = tower_samples_to_ns(
        (int64_t)(tower_lame_encoder_delay_samples(manager->lame) + slots * BLOCK_SAMPLES),
        TOWER_RATE_HZ);
    go_on(manager);
    *ret_manager = manager;
    return 0;
}

void tower_encoder_manager_free(struct tower_encoder_manager *manager) {
    if (!manager)
        return;
    tower_encoder_manager_stop(manager);
    tower_ffmpeg_supervisor_free(manager->ffmpeg);
    tower_frame_ring_free(manager->queue);
    tower_lame_encoder_free(manager->lame);
    tower_fd_close(&manager->wake_fd);
    free(manager);
}

static enum tower_encoder_state ffmpeg_state(const struct tower_encoder_manager *manager,
                                             const struct tower_ffmpeg_stats *stats) {
    if (manager->is_joined && manager->last_maker == TOWER_DELAY_PRIMARY)
        return TOWER_ENCODER_ON_AIR;
    if (stats->is_degraded)
        return TOWER_ENCODER_DEGRADED;
    return manager->has_left ? TOWER_ENCODER_RECOVERING : TOWER_ENCODER_STARTING;
}

static void publish_ffmpeg(struct tower_encoder_manager *manager) {
    struct tower_ffmpeg_stats stats;
    tower_ffmpeg_supervisor_get_stats(manager->ffmpeg, &stats);
    if (stats.state != TOWER_FFMPEG_RUNNING)
        manager->is_joined = false;
    enum tower_encoder_state state = ffmpeg_state(manager, &stats);
    manager->has_left |= state == TOWER_ENCODER_ON_AIR || stats.failures_in_row > 0;
    set(&manager->restarts, stats.starts > 0 ? stats.starts - 1 : 0);
    set(&manager->exits, stats.exits);
    set(&manager->closes, stats.closes);
    set(&manager->refusals, stats.refusals);
    set(&manager->mutes, stats.mutes);
    set(&manager->garbage, stats.garbage);
    atomic_store_explicit(&manager->child_pid, (int32_t)stats.pid, memory_order_relaxed);
    atomic_store_explicit(&manager->state, (int)ffmpeg_state(manager, &stats),
                          memory_order_relaxed);
}

static void publish_lame(struct tower_encoder_manager *manager) {
    enum tower_encoder_state state = TOWER_ENCODER_STARTING;
    if (manager->is_lame_failed)
        state = TOWER_ENCODER_RECOVERING;
    else if (atomic_load_explicit(&manager->frames_by_maker[TOWER_DELAY_PRIMARY],
                                  memory_order_relaxed) > 0)
        state = TOWER_ENCODER_ON_AIR;
    atomic_store_explicit(&manager->state, (int)state, memory_order_relaxed);
}

static void publish(struct tower_encoder_manager *manager) {
    if (manager->ffmpeg)
        publish_ffmpeg(manager);
    else
        publish_lame(manager);
}

/* The place that the frame to go on air next is made from: the oldest in the line, or the one to be
 * put into it next, which is noted for when it is. */
static struct tower_encoder_place *next_place(struct tower_encoder_manager *manager) {
    const uint64_t size = TOWER_DELAY_SLOTS_MAX + 1;
    struct tower_encoder_place *place = &manager->places[++manager->n_put % size];
    *place = manager->block_start;
    place->settled_frames = manager->settled_frames;
    place->owed_samples = manager->owed_samples;
    uint64_t slots = manager->line.slots;
    return &manager->places[(manager->n_put > slots ? manager->n_put - slots : 0) % size];
}

/* For each frame put into the line one goes on air. */
static void emit(struct tower_encoder_manager *manager) {
    const struct tower_delay_entry *entry = tower_delay_line_oldest(&manager->line);
    struct tower_encoder_place *next = next_place(manager);
    if (manager->suppressed_frames > 0) {
        manager->suppressed_frames--;
        return;
    }
    manager->last_maker = entry->maker;
    manager->config.output(manager->config.output_user, entry->frame, manager->mp3_frame_bytes);
    if (manager->silent_frames > 0)
        manager->silent_frames--;
    next->silent_frames = manager->silent_frames;
    /* Who comes after a death between these two finds one frame more on air than is noted. */
    tower_encoder_resume_note(manager->resume, ++manager->air_frames, next);
    count(&manager->frames_by_maker[entry->maker]);
    publish(manager);
    /* What ffmpeg gave before it failed may still be in the line. */
    bool is_back = entry->maker == TOWER_DELAY_PRIMARY && (!manager->ffmpeg || manager->is_joined);
    tower_encoder_outage_emit(&manager->outage, manager->air_frames - 1, entry->maker, is_back,
                              now_ns(manager));
    /* Last, so that who sees the count also sees what it counts. */
    atomic_fetch_add_explicit(&manager->frames_out, 1, memory_order_release);
}

/* Encode `block` by LAME. Returns who made what is in `ret_frame`. */
static enum tower_delay_maker encode_block(struct tower_encoder_manager *manager,
                                           uint8_t *ret_frame) {
    bool had_failed = manager->is_lame_failed;
    int error =
        manager->lame ? 0 : tower_lame_encoder_new(manager->config.bitrate_bps, &manager->lame);
    if (error == 0)
        error = tower_lame_encoder_encode(manager->lame, manager->block, ret_frame);
    manager->is_lame_failed = error < 0;
    if (error == 0)
        return manager->ffmpeg ? TOWER_DELAY_SPARE : TOWER_DELAY_PRIMARY;
    if (!had_failed)
        tower_log(TOWER_LOG_ERROR, "encoder",
                  "LAME failed on a frame (%s); silence goes out for it and LAME is made anew",
                  strerror(-error));
    if (!manager->ffmpeg)
        fail(manager, "lame", "LAME failed on a frame");
    tower_lame_encoder_free(manager->lame);
    manager->lame = NULL;
    memcpy(ret_frame, manager->silence, manager->mp3_frame_bytes);
    return TOWER_DELAY_REPAIR;
}

static void finish_block(struct tower_encoder_manager *manager) {
    uint8_t frame[TOWER_MP3_FRAME_BYTES_MAX];
    enum tower_delay_maker maker = encode_block(manager, frame);
    struct tower_delay_entry *entry = tower_delay_line_put(&manager->line, maker, frame);
    entry->has_block = true;
    entry->block = manager->next_block++;
    manager->block_samples = 0;
    manager->block_start = manager->next;
    if (manager->ffmpeg) {
        tower_ffmpeg_supervisor_feed(manager->ffmpeg, entry->block, manager->block);
        /* What ffmpeg has ready for the frame about to go out must be taken first. */
        tower_ffmpeg_supervisor_step(manager->ffmpeg);
    }
    emit(manager);
}

/* `pcm` NULL: silence. */
static void take_pcm(struct tower_encoder_manager *manager, const int16_t *pcm, size_t n_samples) {
    while (n_samples > 0) {
        size_t room = BLOCK_SAMPLES - manager->block_samples;
        size_t n = n_samples < room ? n_samples : room;
        int16_t *to = manager->block + manager->block_samples * TOWER_CHANNELS;
        if (pcm) {
            memcpy(to, pcm, n * TOWER_SAMPLE_BYTES);
            pcm += n * TOWER_CHANNELS;
            manager->next.sample += (uint32_t)n;
            if (manager->next.sample == manager->config.frame_samples) {
                manager->next.frame++;
                manager->next.sample = 0;
            }
        } else {
            memset(to, 0, n * TOWER_SAMPLE_BYTES);
        }
        manager->block_samples += n;
        n_samples -= n;
        if (manager->block_samples == BLOCK_SAMPLES)
            finish_block(manager);
    }
}

/* Make up for what write_pcm() had to drop, up to when it had dropped `dropped_frames` in all:
 * whole frames by prepared silence, which costs nothing when time is short, and what completes a
 * block begun by silent samples. */
static void settle(struct tower_encoder_manager *manager, uint32_t dropped_frames) {
    uint32_t frames = (dropped_frames - manager->settled_frames) & DROPPED_MASK;
    uint32_t dropped_by_now = atomic_load_explicit(&manager->dropped_frames, memory_order_acquire);
    /* A frame that is taken once more was settled before; and in what another process left there
     * may be anything. */
    if (frames <= ((dropped_by_now - manager->settled_frames) & DROPPED_MASK)) {
        manager->settled_frames = dropped_frames & DROPPED_MASK;
        manager->owed_samples += (uint64_t)frames * manager->config.frame_samples;
    }
    while (manager->owed_samples >= BLOCK_SAMPLES) {
        manager->owed_samples -= BLOCK_SAMPLES;
        (void)tower_delay_line_put(&manager->line, TOWER_DELAY_REPAIR, manager->silence);
        emit(manager);
    }
    if (manager->owed_samples > 0 &&
        manager->block_samples + manager->owed_samples >= BLOCK_SAMPLES) {
        size_t n = BLOCK_SAMPLES - manager->block_samples;
        manager->owed_samples -= n;
        take_pcm(manager, NULL, n);
    }
}

static void take_queue(struct tower_encoder_manager *manager) {
    for (;;) {
        unsigned flags = 0;
        /* Looked at first: where the queue is empty, these were dropped behind all that was in it,
         * and those that may come now lie behind frames that may come now. */
        uint32_t dropped_frames =
            atomic_load_explicit(&manager->dropped_frames, memory_order_acquire);
        if (tower_frame_ring_pop(manager->queue, manager->popped, NULL, &flags) <= 0) {
            settle(manager, dropped_frames);
            return;
        }
        settle(manager, flags >> DROPPED_SHIFT);
        /* Of the first one after another process only the end may be left to take. */
        size_t skip = manager->next.sample;
        take_pcm(manager, manager->popped + skip * TOWER_CHANNELS,
                 manager->config.frame_samples - skip);
        /* A frame may have completed a block only together with what is owed. */
        if (manager->owed_samples > 0)
            settle(manager, manager->settled_frames);
    }
}

/* One turn of the loop. In the last one ffmpeg gets nothing more, and is ended. */
static void turn(struct tower_encoder_manager *manager, bool is_last) {
    if (manager->ffmpeg && !is_last)
        tower_ffmpeg_supervisor_step(manager->ffmpeg);
    take_queue(manager);
    if (manager->ffmpeg && is_last)
        tower_ffmpeg_supervisor_stop(manager->ffmpeg);
    publish(manager);
}

static int64_t next_deadline_ns(const struct tower_encoder_manager *manager) {
    return manager->ffmpeg ? tower_ffmpeg_supervisor_deadline_ns(manager->ffmpeg) : INT64_MAX;
}

static void wait_for_work(struct tower_encoder_manager *manager) {
    struct pollfd fds[1 + TOWER_FFMPEG_POLLFDS] = {{.fd = manager->wake_fd, .events = POLLIN}};
    nfds_t n = 1;
    if (manager->ffmpeg)
        n += tower_ffmpeg_supervisor_pollfds(manager->ffmpeg, fds + 1);
    int64_t deadline_ns = next_deadline_ns(manager);
    (void)poll(fds, n, tower_clock_poll_timeout_ms(manager->config.clock, deadline_ns));
    tower_eventfd_drain(manager->wake_fd);
}

static void *run(void *arg) {
    struct tower_encoder_manager *manager = arg;
    if (manager->config.is_realtime && tower_thread_make_realtime(TOWER_PRIORITY_ENCODER) < 0)
        tower_log(TOWER_LOG_WARNING, "encoder",
                  "no real-time priority for the encoder thread (needs CAP_SYS_NICE or an rtprio "
                  "limit); it goes on without");
    if (manager->ffmpeg)
        tower_ffmpeg_supervisor_start(manager->ffmpeg);
    bool is_last;
    do {
        /* Looked at first: what was written before stop() is then still encoded. */
        is_last = atomic_load_explicit(&manager->is_stopping, memory_order_acquire);
        turn(manager, is_last);
        if (!is_last)
            wait_for_work(manager);
    } while (!is_last);
    return NULL;
}

int64_t tower_encoder_manager_step(struct tower_encoder_manager *manager) {
    turn(manager, false);
    return next_deadline_ns(manager);
}

int tower_encoder_manager_start(struct tower_encoder_manager *manager) {
    if (manager->has_thread)
        return -EALREADY;
    if (manager->config.is_stepped) {
        if (manager->ffmpeg)
            tower_ffmpeg_supervisor_start(manager->ffmpeg);
        atomic_store(&manager->is_running, true);
        return 0;
    }
    atomic_store(&manager->is_stopping, false);
    int error = tower_thread_start(&manager->thread, "encoder", run, manager);
    if (error < 0)
        return error;
    manager->has_thread = true;
    atomic_store(&manager->is_running, true);
    return 0;
}

void tower_encoder_manager_stop(struct tower_encoder_manager *manager) {
    if (manager->config.is_stepped && atomic_exchange(&manager->is_running, false))
        turn(manager, true);
    if (!manager->has_thread)
        return;
    atomic_store(&manager->is_running, false);
    atomic_store(&manager->is_stopping, true);
    tower_eventfd_signal(manager->wake_fd);
    (void)pthread_join(manager->thread, NULL);
    manager->has_thread = false;
}

int tower_encoder_manager_write_pcm(struct tower_encoder_manager *manager, const int16_t *frame,
                                    size_t frame_bytes) {
    if (!frame || frame_bytes != manager->pcm_frame_bytes)
        return -EINVAL;
    if (!atomic_load_explicit(&manager->is_running, memory_order_acquire))
        return -ESHUTDOWN;
    count(&manager->frames_in);
    uint32_t dropped_frames = atomic_load_explicit(&manager->dropped_frames, memory_order_relaxed);
    if (tower_frame_ring_push(manager->queue, frame, frame_bytes,
                              dropped_frames << DROPPED_SHIFT) == 0)
        atomic_store_explicit(&manager->dropped_frames, dropped_frames + 1, memory_order_release);
    if (!manager->config.is_stepped)
        tower_eventfd_signal(manager->wake_fd);
    return 0;
}

int tower_encoder_manager_fd(const struct tower_encoder_manager *manager) {
    return tower_frame_ring_fd(manager->queue);
}

uint64_t tower_encoder_manager_written(const struct tower_encoder_manager *manager) {
    return tower_frame_ring_pushed(manager->queue) + tower_frame_ring_dropped(manager->queue);
}

uint64_t tower_encoder_manager_position_samples(const struct tower_encoder_manager *manager) {
    return manager->position_samples;
}

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void tower_encoder_manager_get_stats(const struct tower_encoder_manager *manager,
                                     struct tower_encoder_stats *ret_stats) {
    uint64_t frames_out = atomic_load_explicit(&manager->frames_out, memory_order_acquire);
    *ret_stats = (struct tower_encoder_stats){
        .kind = manager->config.kind,
        .state =
            (enum tower_encoder_state)atomic_load_explicit(&manager->state, memory_order_relaxed),
        .frames_in = get(&manager->frames_in),
        .frames_out = frames_out,
        .frames_primary = get(&manager->frames_by_maker[TOWER_DELAY_PRIMARY]),
        .frames_spare = get(&manager->frames_by_maker[TOWER_DELAY_SPARE]),
        .frames_repair = get(&manager->frames_by_maker[TOWER_DELAY_REPAIR]),
        .restarts = get(&manager->restarts),
        .exits = get(&manager->exits),
        .closes = get(&manager->closes),
        .refusals = get(&manager->refusals),
        .mutes = get(&manager->mutes),
        .garbage = get(&manager->garbage),
        .child_pid = atomic_load_explicit(&manager->child_pid, memory_order_relaxed),
        .queue_frames = tower_frame_ring_count(manager->queue),
        .delay_ns = manager->delay_ns,
    };
}

const char *tower_encoder_kind_name(enum tower_encoder_kind kind) {
    switch (kind) {
    case TOWER_ENCODER_LAME:
        return "lame";
    case TOWER_ENCODER_FFMPEG:
        return "ffmpeg";
    }
    return "unknown";
}

const char *tower_encoder_state_name(enum tower_encoder_state state) {
    switch (state) {
    case TOWER_ENCODER_STARTING:
        return "starting";
    case TOWER_ENCODER_ON_AIR:
        return "on air";
    case TOWER_ENCODER_RECOVERING:
        return "recovering";
    case TOWER_ENCODER_DEGRADED:
        return "degraded";
    }
    return "unknown";
}
