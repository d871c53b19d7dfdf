/* frame_ring.c - FrameRingBuffer: slots in a region, one lock, counters that are read without it.
 */
#include "tower/frame_ring.h"

#include "thread.h"
#include "tower/log.h"
#include "tower/region.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x31474e4952524554) /* "TERRING1", little-endian */
#define VERSION 2
#define BYTES_MAX ((size_t)1 << 30)
/* Numbers that a ring does not reach in its life, with room to add to them. */
#define NUMBERS_MAX (UINT64_MAX / 4)

struct slot {
    uint32_t frame_bytes;
    uint32_t flags;
    uint8_t frame[];
};

/* What lies in the region: plain data, so that it means the same to whoever maps it.
 *
 * Its process may be killed between any two instructions. What it had stored by then is there, what
 * comes behind in the program is not; so all that matters is the order of the stores, and that is
 * the compiler's, which release stores hold to it. A frame is there from the store to `pushed` on,
 * and gone from that to `popped` on; all that these stand for is in place before.
 */
struct storage {
    uint64_t magic;
    uint64_t version;
    uint64_t capacity_frames;
    uint64_t slot_bytes;
    uint64_t stride_bytes;

    /* Written under the lock, read by anyone. */
    _Atomic uint64_t pushed; /* frames ever queued: the next goes to slot pushed % capacity */
    _Atomic uint64_t popped; /* frames ever taken or dropped from the front */
    _Atomic uint64_t dropped;
    _Atomic uint64_t is_gap; /* a frame was lost behind the newest one queued */
    uint64_t note[TOWER_FRAME_RING_NOTE_BYTES / sizeof(uint64_t)];
    uint64_t slots[];
};

struct tower_frame_ring {
    enum tower_frame_ring_policy policy; /* constant */
    struct tower_region region;          /* constant */
    struct storage *storage;             /* constant; in the region */
    pthread_mutex_t lock;
};

static size_t stride_of(size_t slot_bytes) {
    return (sizeof(struct slot) + slot_bytes + 7) & ~(size_t)7;
}

static bool are_sizes_valid(uint64_t capacity_frames, uint64_t slot_bytes) {
    return capacity_frames > 0 && slot_bytes > 0 && slot_bytes <= BYTES_MAX &&
           capacity_frames <= BYTES_MAX / stride_of((size_t)slot_bytes);
}

static struct slot *slot_at(struct storage *storage, uint64_t position) {
    uint64_t index = position % storage->capacity_frames;
    return (struct slot *)((uint8_t *)storage->slots + index * storage->stride_bytes);
}

static int make_region(struct tower_frame_ring *ring, size_t capacity_frames, size_t slot_bytes) {
    size_t stride_bytes = stride_of(slot_bytes);
    int error = tower_region_init(&ring->region, "tower-frames",
                                  sizeof *ring->storage + capacity_frames * stride_bytes);
    if (error < 0)
        return error;
    ring->storage = ring->region.memory;
    ring->storage->magic = MAGIC;
    ring->storage->version = VERSION;
    ring->storage->capacity_frames = capacity_frames;
    ring->storage->slot_bytes = slot_bytes;
    ring->storage->stride_bytes = stride_bytes;
    return 0;
}

/* ---- what another process left ---- */

static bool holds(const struct tower_region *region) {
    const struct storage *storage = region->memory;
    if (storage->magic != MAGIC || storage->version != VERSION ||
        !are_sizes_valid(storage->capacity_frames, storage->slot_bytes) ||
        storage->stride_bytes != stride_of(storage->slot_bytes) ||
        (region->size_bytes - sizeof *storage) / storage->stride_bytes < storage->capacity_frames)
        return false;
    uint64_t pushed = atomic_load(&storage->pushed);
    uint64_t popped = atomic_load(&storage->popped);
    return pushed <= NUMBERS_MAX && popped <= pushed &&
           pushed - popped <= storage->capacity_frames &&
           atomic_load(&storage->dropped) <= NUMBERS_MAX;
}

/* A frame that does not hold keeps its place, for others count frames: it becomes silence, with a
 * gap on either side. Of those from number `from` up to `to`; returns how many. */
static uint64_t repair_slots(struct storage *storage, uint64_t from, uint64_t to) {
    uint64_t lost = 0;
    bool is_gap = false;
    for (uint64_t number = from; number < to; number++) {
        struct slot *slot = slot_at(storage, number);
        bool is_bad = slot->frame_bytes == 0 || slot->frame_bytes > storage->slot_bytes;
        if (is_bad) {
            slot->frame_bytes = (uint32_t)storage->slot_bytes;
            slot->flags = 0;
            memset(slot->frame, 0, storage->slot_bytes);
        }
        if (is_bad || is_gap)
            slot->flags |= TOWER_FRAME_DISCONTINUITY;
        is_gap = is_bad;
        lost += is_bad;
    }
    if (is_gap && to == atomic_load(&storage->pushed))
        atomic_store(&storage->is_gap, 1);
    return lost;
}

/* Into a ring made anew, from one of other sizes. Returns how many frames are lost. */
static uint64_t copy_frames(struct storage *to, struct storage *from) {
    uint64_t pushed = atomic_load(&from->pushed);
    uint64_t queued = pushed - atomic_load(&from->popped);
    uint64_t kept = queued < to->capacity_frames ? queued : to->capacity_frames;
    if (to->slot_bytes != from->slot_bytes)
        kept = 0;
    for (uint64_t number = pushed - kept; number < pushed; number++)
        memcpy(slot_at(to, number), slot_at(from, number), to->stride_bytes);
    bool is_gap = kept < queued;
    if (is_gap && kept > 0)
        slot_at(to, pushed - kept)->flags |= TOWER_FRAME_DISCONTINUITY;
    memcpy(to->note, from->note, sizeof to->note);
    atomic_store(&to->pushed, pushed);
    atomic_store(&to->popped, pushed - kept);
    atomic_store(&to->dropped, atomic_load(&from->dropped));
    atomic_store(&to->is_gap, atomic_load(&from->is_gap) || (is_gap && kept == 0));
    return queued - kept;
}

/* Have a region, the one behind `fd` or one made anew. */
static int take_region(struct tower_frame_ring *ring, int fd, size_t capacity_frames,
                       size_t slot_bytes, uint64_t *ret_lost_frames) {
    struct tower_region old = {.fd = -1};
    *ret_lost_frames = 0;
    int error = fd > 0 ? tower_region_open(&old, fd, sizeof *ring->storage) : -ENOENT;
    if (error == 0 && !holds(&old))
        error = -EBADMSG;
    if (error < 0 && fd > 0)
        tower_log(TOWER_LOG_WARNING, "audio",
                  "the frames that another process left do not hold (%s); beginning without",
                  strerror(-error));
    if (error == 0) {
        struct storage *storage = old.memory;
        *ret_lost_frames =
            repair_slots(storage, atomic_load(&storage->popped), atomic_load(&storage->pushed));
        if (storage->capacity_frames == capacity_frames && storage->slot_bytes == slot_bytes) {
            ring->region = old;
            ring->storage = storage;
            return 0;
        }
    }
    int made = make_region(ring, capacity_frames, slot_bytes);
    if (made == 0 && error == 0)
        *ret_lost_frames += copy_frames(ring->storage, old.memory);
    /* Its descriptor stays: until others have our word for it, a death here must find it. */
    old.fd = -1;
    tower_region_done(&old);
    return made;
}

int tower_frame_ring_open(int fd, size_t capacity_frames, size_t slot_bytes,
                          enum tower_frame_ring_policy policy, struct tower_frame_ring **ret_ring,
                          uint64_t *ret_lost_frames) {
    uint64_t lost_frames;
    if (!are_sizes_valid(capacity_frames, slot_bytes))
        return -EINVAL;
    struct tower_frame_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return -ENOMEM;
    ring->policy = policy;
    int error = tower_mutex_init(&ring->lock, 0);
    if (error < 0)
        goto fail_lock;
    error = take_region(ring, fd, capacity_frames, slot_bytes, &lost_frames);
    if (error < 0)
        goto fail_region;
    if (ret_lost_frames)
        *ret_lost_frames = lost_frames;
    *ret_ring = ring;
    return 0;

fail_region:
    (void)pthread_mutex_destroy(&ring->lock);
fail_lock:
    free(ring);
    return error;
}

int tower_frame_ring_new(size_t capacity_frames, size_t slot_bytes,
                         enum tower_frame_ring_policy policy, struct tower_frame_ring **ret_ring) {
    return tower_frame_ring_open(-1, capacity_frames, slot_bytes, policy, ret_ring, NULL);
}

void tower_frame_ring_free(struct tower_frame_ring *ring) {
    if (!ring)
        return;
    (void)pthread_mutex_destroy(&ring->lock);
    tower_region_done(&ring->region);
    free(ring);
}

int tower_frame_ring_fd(const struct tower_frame_ring *ring) {
    return ring->region.fd;
}

void *tower_frame_ring_note(struct tower_frame_ring *ring) {
    return ring->storage->note;
}

/* Queue the frame behind the newest, where there is room for it; with the lock held. */
static void append(struct storage *storage, uint64_t pushed, const void *frame, size_t frame_bytes,
                   unsigned flags) {
    struct slot *slot = slot_at(storage, pushed);
    bool is_gap = atomic_load_explicit(&storage->is_gap, memory_order_relaxed) != 0;
    slot->frame_bytes = (uint32_t)frame_bytes;
    slot->flags = flags | (is_gap ? TOWER_FRAME_DISCONTINUITY : 0);
    memcpy(slot->frame, frame, frame_bytes);
    atomic_store_explicit(&storage->pushed, pushed + 1, memory_order_release);
    /* Behind it: a gap that is told twice is no harm, one that is never told is a click. */
    if (is_gap)
        atomic_store_explicit(&storage->is_gap, 0, memory_order_release);
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
        if (ring->policy == TOWER_FRAME_RING_DROP_NEWEST) {
            atomic_store_explicit(&storage->is_gap, 1, memory_order_release);
            is_queued = 0;
        } else {
            /* The gap is in front of what is now the oldest; with one slot that is this frame. */
            if (storage->capacity_frames > 1)
                slot_at(storage, popped + 1)->flags |= TOWER_FRAME_DISCONTINUITY;
            else
                atomic_store_explicit(&storage->is_gap, 1, memory_order_release);
            atomic_store_explicit(&storage->popped, popped + 1, memory_order_release);
        }
        atomic_fetch_add_explicit(&storage->dropped, 1, memory_order_release);
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

int tower_frame_ring_rewind(struct tower_frame_ring *ring, uint64_t number) {
    struct storage *storage = ring->storage;
    pthread_mutex_lock(&ring->lock);
    uint64_t pushed = atomic_load_explicit(&storage->pushed, memory_order_relaxed);
    /* The slot that comes next may have been half written when its process was killed. */
    bool is_there = number <= pushed && pushed - number < storage->capacity_frames;
    if (is_there) {
        /* Another process may have left them. */
        (void)repair_slots(storage, number,
                           atomic_load_explicit(&storage->popped, memory_order_relaxed));
        atomic_store_explicit(&storage->popped, number, memory_order_release);
    }
    pthread_mutex_unlock(&ring->lock);
    return is_there ? 0 : -ESTALE;
}

void tower_frame_ring_clear(struct tower_frame_ring *ring) {
    struct storage *storage = ring->storage;
    pthread_mutex_lock(&ring->lock);
    atomic_store(&storage->popped, atomic_load(&storage->pushed));
    atomic_store(&storage->is_gap, 0);
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

uint64_t tower_frame_ring_pushed(const struct tower_frame_ring *ring) {
    return atomic_load_explicit(&ring->storage->pushed, memory_order_acquire);
}

uint64_t tower_frame_ring_popped(const struct tower_frame_ring *ring) {
    return atomic_load_explicit(&ring->storage->popped, memory_order_acquire);
}

uint64_t tower_frame_ring_dropped(const struct tower_frame_ring *ring) {
    return atomic_load_explicit(&ring->storage->dropped, memory_order_relaxed);
}
