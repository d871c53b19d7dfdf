/* frame_ring.h - FrameRingBuffer: a bounded queue of whole frames.
 *
 * Many producers, many consumers. Every operation is O(1), copies one frame, and never waits for
 * anything but its own lock, which is held for one copy and inherits priority. Frames lie in a
 * region, so that they can outlive the process.
 */
#ifndef TOWER_FRAME_RING_H
#define TOWER_FRAME_RING_H

#include <stddef.h>
#include <stdint.h>

enum tower_frame_ring_policy {
    TOWER_FRAME_RING_DROP_NEWEST, /* PCM: when full, the frame that arrives is dropped */
    TOWER_FRAME_RING_DROP_OLDEST, /* encoded frames: when full, the oldest queued is dropped */
};

/* A frame that does not follow on from the frame before it: another programme, or after a loss. */
#define TOWER_FRAME_DISCONTINUITY 1u
/* Not for the air: it only takes the time that it lasts. Who takes it takes none. */
#define TOWER_FRAME_WITHHELD 2u

struct tower_frame_ring;

/* Make a ring of `capacity_frames` slots of `slot_bytes` each.
 * Errors: -EINVAL (a zero, or more than 1 GiB in all), -ENOMEM. */
int tower_frame_ring_new(size_t capacity_frames, size_t slot_bytes,
                         enum tower_frame_ring_policy policy, struct tower_frame_ring **ret_ring);
void tower_frame_ring_free(struct tower_frame_ring *ring);

/* Queue a copy of `frame`, 1 to slot_bytes bytes, with `flags`. Returns 1 if the frame is queued
 * (with DROP_OLDEST it always is), 0 if it was dropped because the ring is full; either way a drop
 * is counted, and the first frame queued behind the gap bears TOWER_FRAME_DISCONTINUITY.
 * Errors: -EINVAL for an empty frame or one larger than a slot; nothing is queued or counted. */
int tower_frame_ring_push(struct tower_frame_ring *ring, const void *frame, size_t frame_bytes,
                          unsigned flags);

/* Take the oldest frame. Returns 1 with the frame in `ret_frame` (of at least slot_bytes), its size
 * in `ret_bytes` and flags in `ret_flags` (each may be NULL), 0 if the ring is empty. */
int tower_frame_ring_pop(struct tower_frame_ring *ring, void *ret_frame, size_t *ret_bytes,
                         unsigned *ret_flags);

/* Drop all that is queued, uncounted. */
void tower_frame_ring_clear(struct tower_frame_ring *ring);

/* Frames queued now, slots, bytes a slot, frames dropped since the start. No lock; any thread. */
size_t tower_frame_ring_count(const struct tower_frame_ring *ring);
size_t tower_frame_ring_capacity(const struct tower_frame_ring *ring);
size_t tower_frame_ring_slot_bytes(const struct tower_frame_ring *ring);
uint64_t tower_frame_ring_dropped(const struct tower_frame_ring *ring);

#endif
