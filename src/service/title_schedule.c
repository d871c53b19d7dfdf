/* title_schedule.c - from which MP3 frame on a title holds that came with a PCM frame. */
#include "title_schedule.h"

#include "thread.h"
#include "tower/format.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What every Layer III decoder delays by. */
#define DECODER_DELAY_SAMPLES 529
/* No MP3 frame. */
#define NEVER UINT64_MAX
/* How many frames back it is known where they went: some six seconds, of which the encoder can be
 * at most 1.5 behind before it gives PCM up. */
#define POPS_KEPT 256

struct scheduled_title {
    uint64_t frame; /* the router's number */
    enum tower_title_change change;
    size_t bytes;
    char text[TOWER_TITLE_BYTES_MAX];
};

struct tower_title_schedule {
    /* Constant. */
    uint64_t frame_samples;
    uint64_t delay_samples;
    uint64_t first_samples; /* before the first frame that is written */

    /* Owned by the pump. */
    uint64_t written; /* frames that the encoder took */
    bool has_ended;   /* the programme is over, and no other has begun */

    /* Atomic, written by the pump, read by the encoder thread. */
    _Atomic uint64_t popped;                /* frames taken from the router */
    _Atomic uint64_t end_frame;             /* MP3 frame that begins after a programme's end */
    _Atomic uint64_t resume_frame;          /* and that which begins with live audio after it */
    _Atomic uint64_t written_at[POPS_KEPT]; /* the encoder's number of the router's frame n: at n %
                                              POPS_KEPT */

    /* Atomic, written under the lock. */
    _Atomic uint64_t n_titles;

    pthread_mutex_t lock;
    /* Guarded by lock: a queue. */
    uint64_t first_title;
    struct scheduled_title titles[TOWER_TITLE_SCHEDULE_TITLES];
};

int tower_title_schedule_new(uint32_t frame_samples, int64_t encoder_delay_ns,
                             struct tower_title_schedule **ret_schedule) {
    if (frame_samples == 0 || encoder_delay_ns < 0)
        return -EINVAL;
    struct tower_title_schedule *schedule = calloc(1, sizeof *schedule);
    if (!schedule)
        return -ENOMEM;
    int error = tower_mutex_init(&schedule->lock, 0);
    if (error < 0) {
        free(schedule);
        return error;
    }
    schedule->frame_samples = frame_samples;
    schedule->end_frame = NEVER;
    schedule->resume_frame = NEVER;
    schedule->delay_samples =
        DECODER_DELAY_SAMPLES +
        (uint64_t)((encoder_delay_ns * TOWER_RATE_HZ + TOWER_NS_PER_S / 2) / TOWER_NS_PER_S);
    *ret_schedule = schedule;
    return 0;
}

void tower_title_schedule_free(struct tower_title_schedule *schedule) {
    if (!schedule)
        return;
    (void)pthread_mutex_destroy(&schedule->lock);
    free(schedule);
}

void tower_title_schedule_begin(struct tower_title_schedule *schedule, uint64_t popped,
                                uint64_t samples, bool has_ended) {
    schedule->has_ended = has_ended;
    atomic_store_explicit(&schedule->popped, popped, memory_order_relaxed);
    schedule->first_samples = samples;
}

/* ---- ingest ---- */

static struct scheduled_title *title_at(struct tower_title_schedule *schedule, uint64_t i) {
    return &schedule->titles[(schedule->first_title + i) % TOWER_TITLE_SCHEDULE_TITLES];
}

/* With the lock held. */
static void drop_first(struct tower_title_schedule *schedule) {
    schedule->first_title++;
    atomic_fetch_sub_explicit(&schedule->n_titles, 1, memory_order_relaxed);
}

void tower_title_schedule_add(struct tower_title_schedule *schedule, const char *text, size_t bytes,
                              uint64_t frame) {
    pthread_mutex_lock(&schedule->lock);
    uint64_t n = atomic_load_explicit(&schedule->n_titles, memory_order_relaxed);
    if (n == TOWER_TITLE_SCHEDULE_TITLES) {
        drop_first(schedule);
        n--;
    }
    struct scheduled_title *title = title_at(schedule, n);
    title->frame = frame;
    title->change = text ? TOWER_TITLE_IS_NEW : TOWER_TITLE_ENDS;
    title->bytes = bytes < TOWER_TITLE_BYTES_MAX ? bytes : TOWER_TITLE_BYTES_MAX;
    if (text)
        memcpy(title->text, text, title->bytes);
    atomic_store_explicit(&schedule->n_titles, n + 1, memory_order_relaxed);
    pthread_mutex_unlock(&schedule->lock);
}

/* ---- pump ---- */

/* The sample of the stream at which the encoder's frame `written` is heard. */
static uint64_t position_of(const struct tower_title_schedule *schedule, uint64_t written) {
    return schedule->first_samples + written * schedule->frame_samples + schedule->delay_samples;
}

/* The MP3 frame in which the sound of the encoder's frame `written` begins. */
static uint64_t mp3_frame_of(const struct tower_title_schedule *schedule, uint64_t written) {
    return position_of(schedule, written) / TOWER_FRAME_SAMPLES;
}

uint64_t tower_title_schedule_position(const struct tower_title_schedule *schedule) {
    return position_of(schedule, schedule->written);
}

void tower_title_schedule_note_pop(struct tower_title_schedule *schedule, bool is_heard) {
    uint64_t popped = atomic_load_explicit(&schedule->popped, memory_order_relaxed);
    /* With a release: who reads this has to see that its frame's place has changed hands. */
    atomic_store_explicit(&schedule->written_at[popped % POPS_KEPT], schedule->written,
                          memory_order_release);
    atomic_store_explicit(&schedule->popped, popped + 1, memory_order_release);
    if (!is_heard)
        return;
    /* After the frame, so that who sees this knows whether that frame has a title of its own. */
    if (schedule->has_ended)
        atomic_store_explicit(&schedule->resume_frame, mp3_frame_of(schedule, schedule->written),
                              memory_order_release);
    schedule->has_ended = false;
}

void tower_title_schedule_note_write(struct tower_title_schedule *schedule) {
    schedule->written++;
}

void tower_title_schedule_note_end(struct tower_title_schedule *schedule) {
    if (schedule->has_ended)
        return;
    schedule->has_ended = true;
    atomic_store_explicit(&schedule->end_frame, mp3_frame_of(schedule, schedule->written),
                          memory_order_relaxed);
}

/* ---- encoder ---- */

/* Does the sound of the router's frame begin in MP3 frame `mp3_frame`, or did it in one before?
 * What the pump has not taken yet can be in none. */
static bool is_due(const struct tower_title_schedule *schedule, uint64_t frame,
                   uint64_t mp3_frame) {
    uint64_t popped = atomic_load_explicit(&schedule->popped, memory_order_acquire);
    if (frame >= popped)
        return false;
    uint64_t written =
        atomic_load_explicit(&schedule->written_at[frame % POPS_KEPT], memory_order_acquire);
    popped = atomic_load_explicit(&schedule->popped, memory_order_relaxed);
    /* Its place may be another frame's by now. */
    if (popped - frame >= POPS_KEPT)
        return true;
    return mp3_frame_of(schedule, written) <= mp3_frame;
}

/* Has the frame come? Unless the pump has noted another one meanwhile, it has then been told. */
static bool take_due(_Atomic uint64_t *noted, uint64_t frame, uint64_t mp3_frame) {
    return frame <= mp3_frame &&
           atomic_compare_exchange_strong_explicit(noted, &frame, NEVER, memory_order_relaxed,
                                                   memory_order_relaxed);
}

enum tower_title_change tower_title_schedule_take(struct tower_title_schedule *schedule,
                                                  uint64_t mp3_frame, char *ret_text,
                                                  size_t *ret_bytes) {
    enum tower_title_change change = TOWER_TITLE_STAYS;
    uint64_t resume_frame = atomic_load_explicit(&schedule->resume_frame, memory_order_acquire);
    uint64_t end_frame = atomic_load_explicit(&schedule->end_frame, memory_order_relaxed);
    if (take_due(&schedule->end_frame, end_frame, mp3_frame))
        change = TOWER_TITLE_ENDS;
    if (take_due(&schedule->resume_frame, resume_frame, mp3_frame) &&
        (change == TOWER_TITLE_STAYS || resume_frame >= end_frame))
        change = TOWER_TITLE_RESUMES;
    if (atomic_load_explicit(&schedule->n_titles, memory_order_relaxed) == 0)
        return change;
    pthread_mutex_lock(&schedule->lock);
    while (atomic_load_explicit(&schedule->n_titles, memory_order_relaxed) > 0 &&
           is_due(schedule, title_at(schedule, 0)->frame, mp3_frame)) {
        const struct scheduled_title *title = title_at(schedule, 0);
        memcpy(ret_text, title->text, title->bytes);
        *ret_bytes = title->bytes;
        change = title->change;
        drop_first(schedule);
    }
    pthread_mutex_unlock(&schedule->lock);
    return change;
}
