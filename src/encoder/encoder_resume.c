/* encoder_resume.c - how far the encoder's PCM has gone on air. */
#include "encoder_resume.h"

#include "delay_line.h"
#include "tower/format.h"
#include "tower/log.h"

#include <stdatomic.h>
#include <string.h>

#define MAGIC UINT64_C(0x31434e45574f5430) /* "0TOWENC1", little-endian */
#define VERSION 1
/* The most that is made up for: what the queue holds and a minute that was dropped before. */
#define OWED_MAX_SAMPLES (UINT64_C(64) * TOWER_RATE_HZ)

struct record {
    uint64_t air_frames;
    struct tower_encoder_place place;
};

/* The record that is not `current` is filled, and becomes it by one store. */
struct tower_encoder_resume {
    uint64_t magic;
    uint32_t version;
    uint32_t frame_samples;
    _Atomic uint32_t current; /* of `records`; NONE: neither is filled */
    struct record records[2];
};
enum { NONE = 2 };
_Static_assert(sizeof(struct tower_encoder_resume) <= TOWER_FRAME_RING_NOTE_BYTES,
               "the note is too small");

void tower_encoder_resume_note(struct tower_encoder_resume *resume, uint64_t air_frames,
                               const struct tower_encoder_place *place) {
    uint32_t next = atomic_load_explicit(&resume->current, memory_order_relaxed) == 0 ? 1 : 0;
    resume->records[next].air_frames = air_frames;
    resume->records[next].place = *place;
    atomic_store_explicit(&resume->current, next, memory_order_release);
}

uint64_t tower_encoder_resume_oldest(const struct tower_frame_ring *queue) {
    uint64_t pushed = tower_frame_ring_pushed(queue);
    /* One less than there are slots: the next one may be half written. */
    uint64_t kept = tower_frame_ring_capacity(queue) - 1;
    return pushed > kept ? pushed - kept : 0;
}

/* Samples from the place up to the frame `number`. */
static uint64_t samples_to(const struct tower_encoder_place *place, uint64_t number,
                           uint32_t frame_samples) {
    return (number - place->frame) * frame_samples - place->sample;
}

static bool place_holds(const struct tower_encoder_place *place, uint32_t frame_samples,
                        uint64_t pushed) {
    return place->frame <= pushed && place->sample < frame_samples &&
           (place->frame < pushed || place->sample == 0) &&
           place->owed_samples <= OWED_MAX_SAMPLES &&
           place->silent_frames <= TOWER_DELAY_SLOTS_MAX &&
           pushed - place->frame <= OWED_MAX_SAMPLES / frame_samples;
}

static bool note_holds(const struct tower_encoder_resume *resume) {
    return resume->magic == MAGIC && resume->version == VERSION && resume->frame_samples > 0 &&
           resume->frame_samples <= TOWER_FRAME_SAMPLES_MAX && atomic_load(&resume->current) < NONE;
}

static void clear(struct tower_encoder_resume *resume, uint32_t frame_samples) {
    atomic_store(&resume->current, NONE);
    resume->magic = MAGIC;
    resume->version = VERSION;
    resume->frame_samples = frame_samples;
}

/* What the queue does not have any more is made up for by silence. */
static void advance(struct tower_encoder_place *place, uint64_t oldest, uint32_t frame_samples) {
    if (place->frame >= oldest)
        return;
    uint64_t lost_samples = samples_to(place, oldest, frame_samples);
    place->owed_samples += lost_samples;
    place->frame = oldest;
    place->sample = 0;
    tower_log(TOWER_LOG_WARNING, "encoder",
              "%llu samples of what another process had queued are not there any more; silence "
              "goes out for them",
              (unsigned long long)lost_samples);
}

bool tower_encoder_resume_open(struct tower_frame_ring *queue, uint32_t frame_samples,
                               uint64_t air_frames, struct tower_encoder_resume **ret_resume,
                               struct tower_encoder_place *ret_place, bool *ret_is_one_more) {
    struct tower_encoder_resume *resume = tower_frame_ring_note(queue);
    uint64_t pushed = tower_frame_ring_pushed(queue);
    struct record record;
    bool is_left = note_holds(resume);
    if (is_left) {
        memcpy(&record, &resume->records[atomic_load(&resume->current)], sizeof record);
        is_left = place_holds(&record.place, resume->frame_samples, pushed);
    }
    uint32_t old_samples = resume->frame_samples;
    *ret_resume = resume;
    /* With frames of another size the queue is a new one, which nobody else goes on from yet. */
    if (!is_left || old_samples != frame_samples)
        clear(resume, frame_samples);
    if (!is_left)
        return false;
    struct tower_encoder_place *place = &record.place;
    advance(place, old_samples == frame_samples ? tower_encoder_resume_oldest(queue) : pushed,
            old_samples);
    uint32_t dropped = (uint32_t)tower_frame_ring_dropped(queue) & TOWER_ENCODER_DROPPED_MASK;
    if (((dropped - place->settled_frames) & TOWER_ENCODER_DROPPED_MASK) >
        OWED_MAX_SAMPLES / frame_samples)
        place->settled_frames = dropped;
    *ret_place = *place;
    *ret_is_one_more = air_frames == record.air_frames + 1;
    if (air_frames != record.air_frames && !*ret_is_one_more)
        tower_log(TOWER_LOG_WARNING, "encoder",
                  "%llu frames are on air and not the %llu that the encoder had given: going on "
                  "where it was",
                  (unsigned long long)air_frames, (unsigned long long)record.air_frames);
    return true;
}
