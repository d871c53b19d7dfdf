/* router.h - AudioInputRouter: the bounded queue between producers and the transmitter.
 *
 * Carries out R1-R24. It is a FrameRingBuffer (drop newest) with a timed wait, a check of the frame
 * size, and statistics around it. It knows nothing of sockets (R19).
 */
#ifndef TOWER_ROUTER_H
#define TOWER_ROUTER_H

#include "tower/clock.h"
#include "tower/frame_ring.h"

#define TOWER_ROUTER_CAPACITY_DEFAULT 100
#define TOWER_ROUTER_CAPACITY_MAX 100000

struct tower_router;

/* R23: each field is read on its own, without a lock. */
struct tower_router_stats {
    uint64_t count;           /* frames queued now, 0 to capacity */
    uint64_t capacity;        /* frames that fit */
    uint64_t overflow_count;  /* frames dropped because the queue was full (R7) */
    uint64_t partial_count;   /* pushes refused because they were not one whole frame (R12) */
    uint64_t pushed_count;    /* frames queued since the start */
    uint64_t popped_count;    /* frames taken since the start */
    uint64_t underflow_count; /* times the reader came and found none (R10) */
};

/* Make a router for frames of exactly `frame_bytes`. `capacity_frames` 0 stands for the environment
 * variable TOWER_PCM_BUFFER_SIZE or, where that is not set, 100 (R5). `clock` is borrowed.
 * Errors: -EINVAL (a size of 0, a capacity over TOWER_ROUTER_CAPACITY_MAX, or an environment
 * variable that is not such a number), -ENOMEM. */
int tower_router_new(struct tower_clock *clock, size_t capacity_frames, size_t frame_bytes,
                     struct tower_router **ret_router);
/* The same, going on with the frames and counters that another router left in the region behind
 * `fd`, as tower_frame_ring_open() does. */
int tower_router_open(struct tower_clock *clock, int fd, size_t capacity_frames, size_t frame_bytes,
                      struct tower_router **ret_router, uint64_t *ret_lost_frames);
void tower_router_free(struct tower_router *router);

/* The descriptor of the region; the router's to close. */
int tower_router_fd(const struct tower_router *router);

/* Queue a copy of one frame (R6). Any thread, many at once; never waits (R3). Returns 1 if queued,
 * 0 if the queue was full and this frame, the newest, was dropped and counted (R7).
 * Errors: -EINVAL if `frame_bytes` is not exactly a frame or `frame` is NULL; counted in
 * partial_count and discarded (R12). */
int tower_router_push_frame(struct tower_router *router, const void *frame, size_t frame_bytes);

/* The same for a frame that bears `flags` of frame_ring.h. */
int tower_router_push_marked_frame(struct tower_router *router, const void *frame,
                                   size_t frame_bytes, unsigned flags);

/* Say that the next frame pushed begins another programme: it will bear
 * TOWER_FRAME_DISCONTINUITY, so that the pump can join it on without a click. Any thread. */
void tower_router_mark_discontinuity(struct tower_router *router);

/* Take the oldest frame (R6, R9). `timeout_ns` <= 0 returns at once; otherwise waits up to that
 * long on the router's clock, never longer. Returns 1 with the frame (always a whole one, R13) in
 * `ret_frame` and its flags in `ret_flags` (may be NULL), 0 for no frame. One reader (R17). */
int tower_router_pop_frame(struct tower_router *router, int64_t timeout_ns, void *ret_frame,
                           unsigned *ret_flags);

/* R6: the other name of tower_router_pop_frame(). */
int tower_router_get_frame(struct tower_router *router, int64_t timeout_ns, void *ret_frame,
                           unsigned *ret_flags);

/* R23, R24: no lock, no wait, any thread, as often as one likes. */
void tower_router_get_stats(const struct tower_router *router,
                            struct tower_router_stats *ret_stats);

#endif
