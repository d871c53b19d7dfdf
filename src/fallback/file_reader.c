/* file_reader.c - a thread that keeps two seconds of the fallback file decoded in a frame ring. */
#include "file_reader.h"

#include "thread.h"
#include "tower/converter.h"
#include "tower/frame_ring.h"
#include "tower/log.h"
#include "tower/source.h"
#include "tower/transition.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AHEAD_SAMPLES (2 * TOWER_RATE_HZ)
#define CHUNK_SAMPLES 4096
#define RETRY_NS (5 * TOWER_NS_PER_S)
/* Nothing taken for so long: the outage is over, and the next one begins at the file's start. */
#define IDLE_NS TOWER_NS_PER_S
/* How long the thread may take to stop. */
#define STOP_LIMIT_NS INT64_C(500000000)

struct tower_file_reader {
    /* Constant. */
    struct tower_clock *clock;
    char *path;
    char *ffmpeg; /* NULL: the default */
    size_t frame_samples;
    struct tower_frame_ring *ring; /* filled by the thread, emptied by the pump */
    pthread_t thread;

    /* Owned by the thread. The way of a sample: source, remix, transition, resample, frame. */
    struct tower_source *source;        /* NULL: not open, and so are the two below */
    struct tower_converter *remix;      /* to stereo, at the file's rate */
    struct tower_converter *resample;   /* to 48 kHz, run on over the end of the file */
    int16_t *chunk;                     /* of source; NULL with it */
    struct tower_transition transition; /* joins the start on to the end */
    bool is_seam;                       /* the next samples are the start again */
    bool has_read;                      /* some samples came since the start */
    bool is_first;                      /* the next frame is the first since it was opened */
    bool has_complained;                /* the failure at hand has been logged */
    const int16_t *converted;           /* what resample gave and no frame has yet */
    size_t n_converted;
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
    size_t frame_filled; /* samples a channel */
    uint64_t seen_taken; /* n_taken, when it was last looked at */
    int64_t taken_ns;    /* when something was last seen to have been taken */
    bool is_moved;       /* the ring no longer begins with the start of the file */

    pthread_mutex_t lock;
    pthread_cond_t taken;
    bool is_stopping; /* guarded by lock */

    _Atomic uint64_t n_taken; /* frames taken; written by the pump, read by the thread */

    /* Atomic: written by the thread, read by anyone. */
    _Atomic uint64_t opens;
    _Atomic uint64_t loops;
    _Atomic uint64_t errors;
};

static void close_file(struct tower_file_reader *reader) {
    tower_source_close(reader->source);
    tower_converter_free(reader->remix);
    tower_converter_free(reader->resample);
    free(reader->chunk);
    reader->source = NULL;
    reader->remix = NULL;
    reader->resample = NULL;
    reader->chunk = NULL;
    reader->n_converted = 0;
    reader->frame_filled = 0;
}

/* Count a failure, and say so once until the file is whole again. */
static void fail(struct tower_file_reader *reader, const char *why) {
    atomic_fetch_add(&reader->errors, 1);
    if (!reader->has_complained)
        tower_log(TOWER_LOG_WARNING, "fallback",
                  "%s: %s; the tone stands in, trying again every 5 s", reader->path, why);
    reader->has_complained = true;
    close_file(reader);
}

static int open_file(struct tower_file_reader *reader) {
    char why[256] = "";
    struct tower_file_config config = {
        .path = reader->path,
        .chunk_samples = CHUNK_SAMPLES,
        .ffmpeg = reader->ffmpeg,
    };
    int error = tower_source_open_file(reader->clock, &config, &reader->source, why, sizeof why);
    if (error == 0)
        error = tower_converter_new(TOWER_RATE_HZ, reader->source->info.channels, &reader->remix);
    if (error == 0)
        error =
            tower_converter_new(reader->source->info.rate_hz, TOWER_CHANNELS, &reader->resample);
    if (error == 0 && !(reader->chunk = malloc(tower_source_chunk_bytes(reader->source))))
        error = -ENOMEM;
    if (error < 0) {
        fail(reader, *why ? why : strerror(-error));
        return error;
    }
    atomic_fetch_add(&reader->opens, 1);
    /* What an attempt that failed half-way has left does not go on with the start of the file. */
    tower_frame_ring_clear(reader->ring);
    tower_transition_init(&reader->transition);
    reader->is_seam = false;
    reader->has_read = false;
    reader->is_first = true;
    return 0;
}

/* Behind the end of the file: its start again. */
static int begin_again(struct tower_file_reader *reader) {
    if (!reader->has_read) {
        fail(reader, "there is no audio in it");
        return -ENODATA;
    }
    int error = tower_source_rewind(reader->source);
    if (error < 0) {
        fail(reader, strerror(-error));
        return error;
    }
    atomic_fetch_add(&reader->loops, 1);
    reader->is_seam = true;
    reader->has_read = false;
    return 0;
}

/* Have some converted samples ready. */
static int convert_more(struct tower_file_reader *reader) {
    size_t bytes = 0;
    int got = tower_source_read(reader->source, reader->chunk, &bytes);
    if (got == 0)
        return begin_again(reader);
    if (got < 0) {
        fail(reader, *reader->source->error ? reader->source->error : strerror(-got));
        return got;
    }
    reader->has_read = true;
    const int16_t *stereo;
    size_t n_stereo;
    size_t n_chunk = bytes / (reader->source->info.channels * sizeof(int16_t));
    int error = tower_converter_process(reader->remix, reader->chunk, n_chunk, &stereo, &n_stereo);
    if (error == 0 && n_stereo > 0) {
        /* A converter that has nothing to do may hand back its input, which is the chunk: it is
         * ours to change, and so is what lies in the converter until the next call. */
        tower_transition_process(&reader->transition, (int16_t *)stereo, n_stereo, reader->is_seam);
        reader->is_seam = false;
        error = tower_converter_process(reader->resample, stereo, n_stereo, &reader->converted,
                                        &reader->n_converted);
    }
    if (error < 0)
        fail(reader, strerror(-error));
    return error;
}

/* Fill the frame and queue it. */
static int queue_frame(struct tower_file_reader *reader) {
    while (reader->frame_filled < reader->frame_samples) {
        if (reader->n_converted == 0) {
            int error = convert_more(reader);
            if (error < 0)
                return error;
            continue;
        }
        size_t n = reader->frame_samples - reader->frame_filled;
        if (n > reader->n_converted)
            n = reader->n_converted;
        memcpy(reader->frame + reader->frame_filled * TOWER_CHANNELS, reader->converted,
               n * TOWER_SAMPLE_BYTES);
        reader->frame_filled += n;
        reader->converted += n * TOWER_CHANNELS;
        reader->n_converted -= n;
    }
    reader->frame_filled = 0;
    reader->has_complained = false;
    (void)tower_frame_ring_push(reader->ring, reader->frame,
                                reader->frame_samples * TOWER_SAMPLE_BYTES,
                                reader->is_first ? TOWER_FRAME_DISCONTINUITY : 0);
    reader->is_first = false;
    return 0;
}

static bool is_full(const struct tower_file_reader *reader) {
    return tower_frame_ring_count(reader->ring) == tower_frame_ring_capacity(reader->ring);
}

/* Fill the ring, or fail. */
static int fill(struct tower_file_reader *reader) {
    int error = reader->source ? 0 : open_file(reader);
    while (error == 0 && !is_full(reader))
        error = queue_frame(reader);
    return error;
}

/* Has the pump taken frames since the last look? */
static void note_taken(struct tower_file_reader *reader, int64_t now_ns) {
    uint64_t taken = atomic_load(&reader->n_taken);
    if (taken == reader->seen_taken)
        return;
    reader->seen_taken = taken;
    reader->taken_ns = now_ns;
    reader->is_moved = true;
}

/* The outage is over: begin at the start in the next one. Without the lock, which the pump takes:
 * closing may have a decoder to end. */
static void go_to_start(struct tower_file_reader *reader) {
    close_file(reader);
    tower_frame_ring_clear(reader->ring);
    reader->is_moved = false;
}

static void *run_reader(void *arg) {
    struct tower_file_reader *reader = arg;
    pthread_mutex_lock(&reader->lock);
    while (!reader->is_stopping) {
        pthread_mutex_unlock(&reader->lock);
        int error = fill(reader);
        int64_t now_ns = tower_clock_now_ns(reader->clock);
        int64_t until_ns = INT64_MAX;
        note_taken(reader, now_ns);
        if (error < 0)
            until_ns = now_ns + RETRY_NS;
        else if (reader->is_moved)
            until_ns = reader->taken_ns + IDLE_NS;

        pthread_mutex_lock(&reader->lock);
        int wait_error = 0;
        while (!reader->is_stopping && wait_error == 0 && (error < 0 || is_full(reader)))
            wait_error =
                tower_clock_cond_wait_until(reader->clock, &reader->taken, &reader->lock, until_ns);
        if (error == 0 && wait_error < 0 && !reader->is_stopping && is_full(reader)) {
            pthread_mutex_unlock(&reader->lock);
            go_to_start(reader);
            pthread_mutex_lock(&reader->lock);
        }
    }
    pthread_mutex_unlock(&reader->lock);
    close_file(reader);
    return NULL;
}

static void free_memory(struct tower_file_reader *reader) {
    tower_frame_ring_free(reader->ring);
    free(reader->path);
    free(reader->ffmpeg);
    free(reader);
}

int tower_file_reader_new(struct tower_clock *clock, const char *path, const char *ffmpeg,
                          uint32_t frame_samples, struct tower_file_reader **ret_reader) {
    struct tower_file_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->clock = clock;
    reader->frame_samples = frame_samples;
    int error = -ENOMEM;
    if (!(reader->path = strdup(path)) || (ffmpeg && !(reader->ffmpeg = strdup(ffmpeg))))
        goto fail_memory;
    error = tower_frame_ring_new(AHEAD_SAMPLES / frame_samples, tower_frame_bytes(frame_samples),
                                 TOWER_FRAME_RING_DROP_NEWEST, &reader->ring);
    if (error < 0)
        goto fail_memory;
    error = tower_mutex_init(&reader->lock, 0);
    if (error < 0)
        goto fail_memory;
    error = tower_clock_cond_init(&reader->taken);
    if (error < 0)
        goto fail_cond;
    error = tower_thread_start(&reader->thread, "fallback", run_reader, reader);
    if (error < 0)
        goto fail_thread;
    *ret_reader = reader;
    return 0;

fail_thread:
    (void)pthread_cond_destroy(&reader->taken);
fail_cond:
    (void)pthread_mutex_destroy(&reader->lock);
fail_memory:
    free_memory(reader);
    return error;
}

void tower_file_reader_free(struct tower_file_reader *reader) {
    if (!reader)
        return;
    pthread_mutex_lock(&reader->lock);
    reader->is_stopping = true;
    pthread_cond_signal(&reader->taken);
    pthread_mutex_unlock(&reader->lock);
    /* A disk or a decoder that hangs must not keep the program from ending. What the thread uses
     * is left to it, should it ever wake. */
    if (tower_thread_join_within(reader->thread, STOP_LIMIT_NS) < 0) {
        tower_log(TOWER_LOG_WARNING, "fallback", "%s: reading it hangs, and is given up",
                  reader->path);
        (void)pthread_detach(reader->thread);
        return;
    }
    (void)pthread_cond_destroy(&reader->taken);
    (void)pthread_mutex_destroy(&reader->lock);
    free_memory(reader);
}

int tower_file_reader_pop_frame(struct tower_file_reader *reader, int16_t *ret_frame,
                                unsigned *ret_flags) {
    int is_taken = tower_frame_ring_pop(reader->ring, ret_frame, NULL, ret_flags);
    if (is_taken) {
        atomic_fetch_add(&reader->n_taken, 1);
        pthread_mutex_lock(&reader->lock);
        pthread_cond_signal(&reader->taken);
        pthread_mutex_unlock(&reader->lock);
    }
    return is_taken;
}

void tower_file_reader_get_stats(const struct tower_file_reader *reader,
                                 struct tower_file_reader_stats *ret_stats) {
    *ret_stats = (struct tower_file_reader_stats){
        .opens = atomic_load(&reader->opens),
        .loops = atomic_load(&reader->loops),
        .errors = atomic_load(&reader->errors),
        .is_ready = tower_frame_ring_count(reader->ring) > 0,
    };
}
