/* frame_ring.c - FrameRingBuffer: slots in a region, one lock, counters that are read without it.
 */
#include "tower/frame_ring.h"

#include "thread.h"
#include "tower/region.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x31474e4952524554) /* "TERRING1", little-endian */
#define BYTES_MAX ((size_t)1 << 30)

struct slot {
    uint32_t frame_bytes;
    uint32_t flags;
    uint8_t frame[];
};

/* What lies in the region: plain data, so that it means the same to whoever maps it. */
struct storage {
    uint64_t magic;
    uint64_t capacity_frames;
    uint64_t slot_bytes;
    uint64_t stride_bytes;

    /* Written under the lock, read by anyone. */
    _Atomic uint64_t pushed; /* frames ever queued: the next goes to slot pushed % capacity */
    _Atomic uint64_t popped; /* frames ever taken or dropped from the front */
    _Atomic uint64_t dropped;
    uint64_t is_gap; /* guarded by the lock: a frame was lost behind the newest one queued */
    uint64_t slots[];
};

struct tower_frame_ring {
    enum tower_frame_ring_policy policy; /* constant */
    struct tower_region region;          /* constant */
    struct storage *storage;             /* constant; in the region */
    pthread_mutex_t lock;
};

int tower_frame_ring_new(size_t capacity_frames, size_t slot_bytes,
                         enum tower_frame_ring_policy policy, struct tower_frame_ring **ret_ring) {
    if (capacity_frames == 0 || slot_bytes == 0 || slot_bytes > BYTES_MAX)
        return -EINVAL;
    size_t stride_bytes = (sizeof(struct slot) + slot_bytes + 7) & ~(size_t)7;
    if (capacity_frames > BYTES_MAX / stride_bytes)
        return -EINVAL;
    struct tower_frame_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return -ENOMEM;
    ring->policy = policy;
    int error = tower_region_init(&ring->region, "tower-frames",
                                  sizeof *ring->storage + capacity_frames * stride_bytes);
    if (error < 0)
        goto fail_region;
    error = tower_mutex_init(&ring->lock, 0);
    if (error < 0)
        goto fail_lock;
    ring->storage = ring->region.memory;
    ring->storage->magic = MAGIC;
    ring->storage->capacity_frames = capacity_frames;
    ring->storage->slot_bytes = slot_bytes;
    ring->storage->stride_bytes = stride_bytes;
    *ret_ring = ring;
    return 0;

fail_lock:
    tower_region_done(&ring->region);
fail_region:
    free(ring);
    return error;
}

void tower_frame_ring_free(struct tower_frame_ring *ring) {
    if (!ring)
        return;
    (void)pthread_mutex_destroy(&ring->lock);
    tower_region_done(&ring->region);
    free(ring);
}

static struct slot *slot_at(struct storage *storage, uint64_t position) {
    uint64_t index = position % storage->capacity_frames;
    return (struct slot *)((uint8_t *)storage->slots + index * storage->stride_bytes);
}

/* Queue the frame behind the newest, where there is room for it; with the lock held. */
static void append(struct storage *storage, uint64_t pushed, const void *frame, size_t frame_bytes,
                   unsigned flags) {
    struct slot *slot = slot_at(storage, pushed);
    slot->frame_bytes = (uint32_t)frame_bytes;
    slot->flags = flags | (storage->is_gap ? TOWER_FRAME_DISCONTINUITY : 0);
    memcpy(slot->frame, frame, frame_bytes);
    storage->is_gap = 0;
    atomic_store_explicit(&storage->pushed, pushed + 1, memory_order_release);
}

int tower_frame_ring_push(struct tower_frame_ring *ring, const void *frame, size_t frame_bytes,
                          unsigned flags) {
    struct storage *storage = ring->storage;
    if (!frame || frame_bytes == 0 || frame_bytes > storage->slot_bytes)
        return -EINVAL;
    int is_queued = 1;
    pthread_mutex_lock(&ring->lock);
    uint64_t pushed = atomic_load_explicit(&storage->pushed, memory_order_relaxed);
    uint64_t popped = atomic_load_explicit(&storage->popped, memory_order_relaxed);
    if (pushed - popped >= storage->capacity_frames) {
        atomic_fetch_add_explicit(&storage->dropped, 1, memory_order_relaxed);
        if (ring->policy == TOWER_FRAME_RING_DROP_NEWEST) {
            storage->is_gap = 1;
            is_queued = 0;
        } else {
            /* The gap is in front of what is now the oldest; with one slot that is this frame. */
            atomic_store_explicit(&storage->popped, popped + 1, memory_order_relaxed);
            if (storage->capacity_frames > 1)
                slot_at(storage, popped + 1)->flags |= TOWER_FRAME_DISCONTINUITY;
            else
                storage->is_gap = 1;
        }
    }
    if (is_queued)
        append(storage, pushed, frame, frame_bytes, flags);
    pthread_mutex_unlock(&ring->lock);
    return is_queued;
}

int tower_frame_ring_pop(struct tower_frame_ring *ring, void *ret_frame, size_t *ret_bytes,
                         unsigned *ret_flags) {
    struct storage *storage = ring->storage;
    int is_taken = 0;
    pthread_mutex_lock(&ring->lock);
    uint64_t popped = atomic_load_explicit(&storage->popped, memory_order_relaxed);
    if (popped != atomic_load_explicit(&storage->pushed, memory_order_relaxed)) {
        const struct slot *slot = slot_at(storage, popped);
        memcpy(ret_frame, slot->frame, slot->frame_bytes);
        if (ret_bytes)
            *ret_bytes = slot->frame_bytes;
        if (ret_flags)
            *ret_flags = slot->flags;
        atomic_store_explicit(&storage->popped, popped + 1, memory_order_release);
        is_taken = 1;
    }
    pthread_mutex_unlock(&ring->lock);
    return is_taken;
}

void tower_frame_ring_clear(struct tower_frame_ring *ring) {
    struct storage *storage = ring->storage;
    pthread_mutex_lock(&ring->lock);
    atomic_store(&storage->popped, atomic_load(&storage->pushed));
    storage->is_gap = 0;
    pthread_mutex_unlock(&ring->lock);
}

size_t tower_frame_ring_count(const struct tower_frame_ring *ring) {
    const struct storage *storage = ring->storage;
    /* popped first: it only grows towards pushed, so the difference cannot come out negative.
     * Pushes and pops in between can make it too large, and it is cut to what is possible. */
    uint64_t popped = atomic_load_explicit(&storage->popped, memory_order_acquire);
    uint64_t pushed = atomic_load_explicit(&storage->pushed, memory_order_acquire);
    uint64_t count = pushed - popped;
    return (size_t)(count < storage->capacity_frames ? count : storage->capacity_frames);
}

size_t tower_frame_ring_capacity(const struct tower_frame_ring *ring) {
    return (size_t)ring->storage->capacity_frames;
}

size_t tower_frame_ring_slot_bytes(const struct tower_frame_ring *ring) {
    return (size_t)ring->storage->slot_bytes;
}

uint64_t tower_frame_ring_dropped(const struct tower_frame_ring *ring) {
    return atomic_load_explicit(&ring->storage->dropped, memory_order_relaxed);
}
