/* router.c - AudioInputRouter: a ring buffer with a timed wait, a size check and statistics. */
#include "tower/router.h"

#include "thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* In the ring's region, so that the counters go on with the frames. */
struct counters {
    /* Atomic; written under the lock, read by anyone. */
    _Atomic uint64_t partial;
    _Atomic uint64_t underflow;
};
_Static_assert(sizeof(struct counters) <= TOWER_FRAME_RING_NOTE_BYTES, "the note is too small");

struct tower_router {
    /* Constant. */
    struct tower_clock *clock;
    size_t frame_bytes;
    struct tower_frame_ring *ring;
    struct counters *counters;

    pthread_mutex_t lock; /* R15: makes every operation atomic against every other */
    pthread_cond_t queued;
    /* Guarded by lock. */
    bool is_discontinuity; /* the next frame begins another programme */
    unsigned waiters;
};

/* R5. Errors: -EINVAL. */
static int default_capacity(size_t *ret_capacity_frames) {
    const char *text = getenv("TOWER_PCM_BUFFER_SIZE");
    if (!text || !*text) {
        *ret_capacity_frames = TOWER_ROUTER_CAPACITY_DEFAULT;
        return 0;
    }
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || value < 1 || value > TOWER_ROUTER_CAPACITY_MAX)
        return -EINVAL;
    *ret_capacity_frames = (size_t)value;
    return 0;
}

int tower_router_open(struct tower_clock *clock, int fd, size_t capacity_frames, size_t frame_bytes,
                      struct tower_router **ret_router, uint64_t *ret_lost_frames) {
    if (!clock || frame_bytes == 0 || capacity_frames > TOWER_ROUTER_CAPACITY_MAX)
        return -EINVAL;
    int error = capacity_frames == 0 ? default_capacity(&capacity_frames) : 0;
    if (error < 0)
        return error;
    struct tower_router *router = calloc(1, sizeof *router);
    if (!router)
        return -ENOMEM;
    router->clock = clock;
    router->frame_bytes = frame_bytes;
    error = tower_mutex_init(&router->lock, 1);
    if (error < 0)
        goto fail_lock;
    error = tower_clock_cond_init(&router->queued);
    if (error < 0)
        goto fail_cond;
    /* Last: once the region is ours we cannot fail and close it. */
    error = tower_frame_ring_open(fd, capacity_frames, frame_bytes, TOWER_FRAME_RING_DROP_NEWEST,
                                  &router->ring, ret_lost_frames);
    if (error < 0)
        goto fail_ring;
    router->counters = tower_frame_ring_note(router->ring);
    *ret_router = router;
    return 0;

fail_ring:
    (void)pthread_cond_destroy(&router->queued);
fail_cond:
    (void)pthread_mutex_destroy(&router->lock);
fail_lock:
    free(router);
    return error;
}

int tower_router_new(struct tower_clock *clock, size_t capacity_frames, size_t frame_bytes,
                     struct tower_router **ret_router) {
    return tower_router_open(clock, -1, capacity_frames, frame_bytes, ret_router, NULL);
}

int tower_router_fd(const struct tower_router *router) {
    return tower_frame_ring_fd(router->ring);
}

void tower_router_free(struct tower_router *router) {
    if (!router)
        return;
    (void)pthread_cond_destroy(&router->queued);
    (void)pthread_mutex_destroy(&router->lock);
    tower_frame_ring_free(router->ring);
    free(router);
}

int tower_router_push_frame(struct tower_router *router, const void *frame, size_t frame_bytes) {
    return tower_router_push_marked_frame(router, frame, frame_bytes, 0);
}

int tower_router_push_marked_frame(struct tower_router *router, const void *frame,
                                   size_t frame_bytes, unsigned flags) {
    if (!frame || frame_bytes != router->frame_bytes) {
        atomic_fetch_add_explicit(&router->counters->partial, 1, memory_order_relaxed);
        return -EINVAL;
    }
    pthread_mutex_lock(&router->lock);
    if (router->is_discontinuity)
        flags |= TOWER_FRAME_DISCONTINUITY;
    int is_queued = tower_frame_ring_push(router->ring, frame, frame_bytes, flags);
    if (is_queued == 1) {
        router->is_discontinuity = false;
        if (router->waiters > 0)
            pthread_cond_signal(&router->queued);
    }
    pthread_mutex_unlock(&router->lock);
    return is_queued;
}

void tower_router_mark_discontinuity(struct tower_router *router) {
    pthread_mutex_lock(&router->lock);
    router->is_discontinuity = true;
    pthread_mutex_unlock(&router->lock);
}

int tower_router_pop_frame(struct tower_router *router, int64_t timeout_ns, void *ret_frame,
                           unsigned *ret_flags) {
    pthread_mutex_lock(&router->lock);
    int is_taken = tower_frame_ring_pop(router->ring, ret_frame, NULL, ret_flags);
    if (!is_taken && timeout_ns > 0) {
        int64_t now_ns = tower_clock_now_ns(router->clock);
        int64_t deadline_ns = timeout_ns < INT64_MAX - now_ns ? now_ns + timeout_ns : INT64_MAX;
        int error = 0;
        router->waiters++;
        while (!is_taken && error == 0) {
            error = tower_clock_cond_wait_until(router->clock, &router->queued, &router->lock,
                                                deadline_ns);
            is_taken = tower_frame_ring_pop(router->ring, ret_frame, NULL, ret_flags);
        }
        router->waiters--;
    }
    if (!is_taken)
        atomic_fetch_add_explicit(&router->counters->underflow, 1, memory_order_relaxed);
    pthread_mutex_unlock(&router->lock);
    return is_taken;
}

int tower_router_get_frame(struct tower_router *router, int64_t timeout_ns, void *ret_frame,
                           unsigned *ret_flags) {
    return tower_router_pop_frame(router, timeout_ns, ret_frame, ret_flags);
}

void tower_router_get_stats(const struct tower_router *router,
                            struct tower_router_stats *ret_stats) {
    *ret_stats = (struct tower_router_stats){
        .count = tower_frame_ring_count(router->ring),
        .capacity = tower_frame_ring_capacity(router->ring),
        .overflow_count = tower_frame_ring_dropped(router->ring),
        .partial_count = atomic_load_explicit(&router->counters->partial, memory_order_relaxed),
        .pushed_count = tower_frame_ring_pushed(router->ring),
        .popped_count = tower_frame_ring_popped(router->ring),
        .underflow_count = atomic_load_explicit(&router->counters->underflow, memory_order_relaxed),
    };
}
