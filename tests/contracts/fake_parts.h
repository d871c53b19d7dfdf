/* fake_parts.h - the three parts a pump is given, as fakes that record what is asked of them. */
#ifndef TOWER_TESTS_FAKE_PARTS_H
#define TOWER_TESTS_FAKE_PARTS_H

#include "tower/pump.h"

#include <stdbool.h>
#include <string.h>

#define FAKE_RECORDS 1024
#define FAKE_FRAMES 32

struct fake_parts {
    /* constant while the pump runs */
    struct tower_clock *clock;
    size_t frame_bytes;
    int (*on_write)(struct fake_parts *parts, uint64_t n); /* n-th write, from 0; may be NULL */
    uint64_t live_from, live_to; /* pops n with live_from <= n < live_to yield a frame */

    pthread_mutex_t lock;
    /* guarded by lock */
    uint64_t n_pops, n_fallbacks, n_writes;
    uint64_t n_bad_sizes, n_waits;
    size_t n_calls;
    char calls[FAKE_RECORDS]; /* P pop, F fallback, W write, in the order of the calls */
    int64_t write_ns[FAKE_RECORDS];
    uint64_t fallback_tick[FAKE_RECORDS];
    int16_t frames[FAKE_FRAMES][TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS]; /* the first written */
};

/* Sample `i` of the interleaved frame `n` from the live side or from the fallback: two programmes
 * that no shift of one turns into the other. */
static inline int16_t fake_sample(bool is_live, uint64_t n, size_t i) {
    unsigned value = (unsigned)(n * 131 + i * (is_live ? 7 : 11) + (is_live ? 0 : 5000));
    return (int16_t)((int)(value % 8000) - 4000);
}

static inline void fake_fill(const struct fake_parts *parts, bool is_live, uint64_t n,
                             int16_t *ret_frame) {
    for (size_t i = 0; i < parts->frame_bytes / sizeof(int16_t); i++) {
        ret_frame[i] = fake_sample(is_live, n, i);
    }
}

static inline void fake_record_call(struct fake_parts *parts, char call) {
    if (parts->n_calls < FAKE_RECORDS - 1) {
        parts->calls[parts->n_calls++] = call;
    }
}

static inline int fake_pop_frame(void *self, int64_t timeout_ns, void *ret_frame,
                                 unsigned *ret_flags) {
    struct fake_parts *parts = self;
    bool is_live;

    pthread_mutex_lock(&parts->lock);
    uint64_t n = parts->n_pops++;
    is_live = n >= parts->live_from && n < parts->live_to;
    parts->n_waits += timeout_ns != 0;
    fake_record_call(parts, 'P');
    pthread_mutex_unlock(&parts->lock);
    if (is_live) {
        fake_fill(parts, true, n, ret_frame);
        if (ret_flags != NULL) {
            *ret_flags = 0;
        }
    }
    return is_live;
}

static inline enum tower_origin fake_get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    struct fake_parts *parts = self;

    pthread_mutex_lock(&parts->lock);
    uint64_t n = parts->n_fallbacks++;
    if (n < FAKE_RECORDS) {
        parts->fallback_tick[n] = tick;
    }
    fake_record_call(parts, 'F');
    pthread_mutex_unlock(&parts->lock);
    fake_fill(parts, false, n, ret_frame);
    return TOWER_ORIGIN_TONE;
}

static inline int fake_write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    struct fake_parts *parts = self;

    pthread_mutex_lock(&parts->lock);
    uint64_t n = parts->n_writes++;
    if (n < FAKE_RECORDS) {
        parts->write_ns[n] = tower_clock_now_ns(parts->clock);
    }
    if (frame_bytes != parts->frame_bytes) {
        parts->n_bad_sizes++;
    } else if (n < FAKE_FRAMES) {
        memcpy(parts->frames[n], frame, frame_bytes);
    }
    fake_record_call(parts, 'W');
    pthread_mutex_unlock(&parts->lock);
    return parts->on_write != NULL ? parts->on_write(parts, n) : 0;
}

static inline void fake_parts_init(struct fake_parts *parts, struct tower_clock *clock,
                                   uint32_t frame_samples) {
    memset(parts, 0, sizeof(*parts));
    parts->clock = clock;
    parts->frame_bytes = tower_frame_bytes(frame_samples);
    pthread_mutex_init(&parts->lock, NULL);
}

static inline void fake_parts_done(struct fake_parts *parts) {
    pthread_mutex_destroy(&parts->lock);
}

static inline uint64_t fake_parts_writes(struct fake_parts *parts) {
    pthread_mutex_lock(&parts->lock);
    uint64_t n = parts->n_writes;
    pthread_mutex_unlock(&parts->lock);
    return n;
}

/* A pump's configuration with all three parts fakes. */
static inline struct tower_pump_config fake_parts_config(struct fake_parts *parts) {
    return (struct tower_pump_config){
        .clock = parts->clock,
        .frame_samples = (uint32_t)(parts->frame_bytes / TOWER_SAMPLE_BYTES),
        .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
        .pcm_buffer = {parts, fake_pop_frame},
        .fallback = {parts, fake_get_frame},
        .encoder = {parts, fake_write_pcm},
    };
}

#endif
