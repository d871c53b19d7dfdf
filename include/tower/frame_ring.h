/* frame_ring.h - FrameRingBuffer: a bounded queue of whole frames.
 *
 * Many producers, many consumers. Every operation is O(1), copies one frame, and never waits for
 * anything but its own lock, which is held for one copy and inherits priority. Frames lie in a
 * region, so that they can outlive the process: one that is killed, at whatever instruction, leaves
 * each frame queued or not, and taken or not.
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
/* The same, going on with what another ring left in the region behind `fd` (0 or below: none), if
 * that holds: then the region is this ring's, and tower_frame_ring_fd() is `fd`. Where it was of
 * another capacity the ring is made anew with the newest frames that fit, and with its numbers and
 * note; where its slots were of another size, with those two alone; where it does not hold, with
 * nothing, and a warning is logged. In these cases `fd` stays open and the caller's. A frame that
 * does not hold becomes one of zeros and a gap. Frames that were lost are in `ret_lost_frames` (may
 * be NULL). Errors: as tower_frame_ring_new(). */
int tower_frame_ring_open(int fd, size_t capacity_frames, size_t slot_bytes,
                          enum tower_frame_ring_policy policy, struct tower_frame_ring **ret_ring,
                          uint64_t *ret_lost_frames);
void tower_frame_ring_free(struct tower_frame_ring *ring);

/* The descriptor of the region; the ring's to close. */
int tower_frame_ring_fd(const struct tower_frame_ring *ring);

/* Room in the region for whoever owns the ring, zeros at first. What another process left there is
 * whatever it left. */
#define TOWER_FRAME_RING_NOTE_BYTES 256
void *tower_frame_ring_note(struct tower_frame_ring *ring);

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

/* Frames have numbers, from 0, the first ever queued: make frame `number` the oldest queued, be it
 * one that is queued or one that has been taken and not yet been written over. For the one who
 * takes frames. Errors: -ESTALE if it is not there any more, or not yet (the number to come is). */
int tower_frame_ring_rewind(struct tower_frame_ring *ring, uint64_t number);

/* Drop all that is queued, uncounted. */
void tower_frame_ring_clear(struct tower_frame_ring *ring);

/* Frames queued now, slots, bytes a slot, frames queued, taken and dropped since the start. No
 * lock; any thread. */
size_t tower_frame_ring_count(const struct tower_frame_ring *ring);
size_t tower_frame_ring_capacity(const struct tower_frame_ring *ring);
size_t tower_frame_ring_slot_bytes(const struct tower_frame_ring *ring);
uint64_t tower_frame_ring_pushed(const struct tower_frame_ring *ring);
uint64_t tower_frame_ring_popped(const struct tower_frame_ring *ring);
uint64_t tower_frame_ring_dropped(const struct tower_frame_ring *ring);

#endif
