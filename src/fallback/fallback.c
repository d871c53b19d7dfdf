/* fallback.c - FallbackGenerator: grace, then file, tone or silence. */
#include "tower/fallback.h"

#include "file_reader.h"
#include "tone.h"
#include "tower/frame_ring.h"
#include "tower/transition.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RESUME_WAIT_NS (TOWER_NS_PER_S / 10)
#define RESUME_LOOK_NS (TOWER_NS_PER_S / 1000)

struct tower_fallback {
    /* Constant. */
    uint32_t frame_samples;
    size_t frame_bytes;
    uint64_t grace_frames;
    struct tower_file_reader *file; /* NULL: no file is set */
    bool has_tone;

    /* Owned by the pump. */
    struct tower_tone tone;
    uint64_t next_tick;     /* the tick that would carry the outage on */
    uint64_t outage_frames; /* frames given in this outage */
    bool was_file;          /* the last one was the file's */
    struct tower_transition join;

    /* Atomic: written by the pump, read by anyone. */
    _Atomic uint64_t outages;
};

/* Frames in `duration_ns`, rounded up. By samples: a frame need not be a whole number of ns, and
 * rounding that would add up. */
static uint64_t frames_in(int64_t duration_ns, uint32_t frame_samples) {
    int64_t rest_ns = duration_ns % TOWER_NS_PER_S;
    int64_t rest_samples = (rest_ns * TOWER_RATE_HZ + TOWER_NS_PER_S - 1) / TOWER_NS_PER_S;
    int64_t samples = duration_ns / TOWER_NS_PER_S * TOWER_RATE_HZ + rest_samples;
    return (uint64_t)((samples + frame_samples - 1) / frame_samples);
}

int tower_fallback_new(const struct tower_fallback_config *config,
                       struct tower_fallback **ret_fallback) {
    if (!config->clock || config->frame_samples == 0 ||
        config->frame_samples > TOWER_FRAME_SAMPLES_MAX || config->grace_ns < 0)
        return -EINVAL;
    struct tower_fallback *fallback = calloc(1, sizeof *fallback);
    if (!fallback)
        return -ENOMEM;
    fallback->frame_samples = config->frame_samples;
    fallback->frame_bytes = tower_frame_bytes(config->frame_samples);
    fallback->grace_frames = frames_in(config->grace_ns, config->frame_samples);
    fallback->next_tick = UINT64_MAX;
    int error = 0;
    if (config->tone_hz != 0) {
        error = tower_tone_init(&fallback->tone, config->tone_hz, config->tone_dbfs);
        fallback->has_tone = true;
    }
    if (error == 0 && config->file_path && *config->file_path)
        error = tower_file_reader_new(config->clock, config->file_path, config->ffmpeg,
                                      config->frame_samples, &fallback->file);
    if (error < 0) {
        free(fallback);
        return error;
    }
    *ret_fallback = fallback;
    return 0;
}

void tower_fallback_free(struct tower_fallback *fallback) {
    if (!fallback)
        return;
    tower_file_reader_free(fallback->file);
    free(fallback);
}

void tower_fallback_resume(struct tower_fallback *fallback, uint64_t next_tick,
                           uint64_t outage_frames) {
    if (outage_frames == 0)
        return;
    fallback->next_tick = next_tick;
    fallback->outage_frames =
        outage_frames < fallback->grace_frames ? outage_frames : fallback->grace_frames;
    struct tower_fallback_stats stats;
    tower_fallback_get_stats(fallback, &stats);
    /* In real time, as the disk is. A moment more is better than a bit of tone before the file. */
    struct tower_clock *real = tower_clock_real();
    int64_t until_ns = tower_clock_now_ns(real) + RESUME_WAIT_NS;
    while (fallback->file && fallback->outage_frames == fallback->grace_frames &&
           !stats.is_file_ready && stats.file_errors == 0 && tower_clock_now_ns(real) < until_ns) {
        (void)tower_clock_sleep_until(real, tower_clock_now_ns(real) + RESUME_LOOK_NS);
        tower_fallback_get_stats(fallback, &stats);
    }
}

/* A machine that stood still for a second has made the reader go back to the file's start, and the
 * outage goes on: a seam that nobody else knows of. */
static bool get_file_frame(struct tower_fallback *fallback, bool was_file, int16_t *ret_frame) {
    unsigned flags = 0;
    if (!fallback->file || !tower_file_reader_pop_frame(fallback->file, ret_frame, &flags))
        return false;
    if (!was_file)
        tower_transition_init(&fallback->join);
    tower_transition_process(&fallback->join, ret_frame, fallback->frame_samples,
                             was_file && (flags & TOWER_FRAME_DISCONTINUITY));
    fallback->was_file = true;
    return true;
}

enum tower_origin tower_fallback_get_frame(struct tower_fallback *fallback, uint64_t tick,
                                           int16_t *ret_frame) {
    bool was_file = fallback->was_file && tick == fallback->next_tick;
    fallback->was_file = false;
    if (tick != fallback->next_tick) {
        fallback->outage_frames = 0;
        atomic_fetch_add_explicit(&fallback->outages, 1, memory_order_relaxed);
    }
    fallback->next_tick = tick + 1;
    if (fallback->outage_frames < fallback->grace_frames) {
        fallback->outage_frames++;
        memset(ret_frame, 0, fallback->frame_bytes);
        return TOWER_ORIGIN_GRACE;
    }
    if (get_file_frame(fallback, was_file, ret_frame))
        return TOWER_ORIGIN_FILE;
    if (fallback->has_tone) {
        tower_tone_fill(&fallback->tone, ret_frame, fallback->frame_samples);
        return TOWER_ORIGIN_TONE;
    }
    memset(ret_frame, 0, fallback->frame_bytes);
    return TOWER_ORIGIN_SILENCE;
}

void tower_fallback_get_stats(const struct tower_fallback *fallback,
                              struct tower_fallback_stats *ret_stats) {
    struct tower_file_reader_stats file = {0};
    if (fallback->file)
        tower_file_reader_get_stats(fallback->file, &file);
    *ret_stats = (struct tower_fallback_stats){
        .outages = atomic_load_explicit(&fallback->outages, memory_order_relaxed),
        .file_opens = file.opens,
        .file_loops = file.loops,
        .file_errors = file.errors,
        .is_file_ready = file.is_ready,
    };
}
