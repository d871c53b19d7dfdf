/* air.c - the air ring: bytes and frame boundaries in a region, one writer, lock-free readers. */
#include "tower/air.h"

#include "tower/region.h"

#include "fd.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define AIR_MAGIC UINT64_C(0x746f776572616972) /* "towerair" */
#define AIR_VERSION 1
#define RING_BYTES_MIN ((size_t)4096)
#define RING_BYTES_MAX ((size_t)1 << 30)
#define INDEX_SLOTS_MAX ((size_t)1 << 24)
#define WAKERS_MAX 64
#define CACHE_LINE 64

/* What lies at the start of the region; the index and the ring follow. */
struct air_header {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t ring_bytes;   /* a power of two */
    uint64_t ring_offset;  /* of the ring in the region */
    uint64_t index_slots;  /* a power of two */
    uint64_t index_offset; /* of the index in the region */

    /* Atomic, written by the writer, read by anyone. */
    _Alignas(CACHE_LINE) _Atomic uint64_t head; /* bytes published */
    _Atomic uint64_t frames;                    /* frames published */
    _Atomic uint64_t claimed;                   /* the head as it will be after a write under way */

    /* Atomic, written by readers, read by the writer. On a line of its own, so that readers who
     * come by do not take the head away from each other. */
    _Alignas(CACHE_LINE) _Atomic uint64_t rounds; /* times a reader was done with its pieces */
};

struct tower_air {
    /* Constant after the writer has started. */
    struct tower_region region;
    struct air_header *header;
    _Atomic uint64_t *index; /* slot k: where frame k begins; frame number `frames` too */
    uint8_t *ring;
    uint64_t ring_bytes;
    uint64_t index_slots;
    int wakers[WAKERS_MAX];
    unsigned n_wakers;
};

static size_t round_up_to_power_of_two(size_t value, size_t minimum) {
    size_t power = minimum;
    while (power < value)
        power *= 2;
    return power;
}

int tower_air_new(size_t ring_bytes, size_t frames, struct tower_air **ret_air) {
    /* One slot for the boundary at the head, one that the writer may be at. */
    if (ring_bytes == 0 || ring_bytes > RING_BYTES_MAX || frames > INDEX_SLOTS_MAX - 2)
        return -EINVAL;
    size_t ring_size = round_up_to_power_of_two(ring_bytes, RING_BYTES_MIN);
    size_t slots = round_up_to_power_of_two(frames + 2, 8);
    size_t ring_offset = round_up_to_power_of_two(sizeof(struct air_header), RING_BYTES_MIN);
    size_t index_offset = ring_offset + ring_size;

    struct tower_air *air = calloc(1, sizeof *air);
    if (!air)
        return -ENOMEM;
    int error =
        tower_region_init(&air->region, "tower-air", index_offset + slots * sizeof *air->index);
    if (error < 0) {
        free(air);
        return error;
    }
    uint8_t *memory = air->region.memory;
    air->header = (struct air_header *)air->region.memory;
    air->header->magic = AIR_MAGIC;
    air->header->version = AIR_VERSION;
    air->header->header_bytes = sizeof *air->header;
    air->header->ring_bytes = ring_size;
    air->header->ring_offset = ring_offset;
    air->header->index_slots = slots;
    air->header->index_offset = index_offset;
    air->ring = memory + ring_offset;
    air->ring_bytes = ring_size;
    air->index = (_Atomic uint64_t *)(void *)(memory + index_offset);
    air->index_slots = slots;
    *ret_air = air;
    return 0;
}

void tower_air_free(struct tower_air *air) {
    if (!air)
        return;
    tower_region_done(&air->region);
    free(air);
}

int tower_air_add_waker(struct tower_air *air, int fd) {
    if (air->n_wakers == WAKERS_MAX)
        return -ENOSPC;
    air->wakers[air->n_wakers++] = fd;
    return 0;
}

int tower_air_publish(struct tower_air *air, const uint8_t *frame, size_t bytes) {
    if (!frame || bytes == 0 || bytes > air->ring_bytes / 4)
        return -EINVAL;
    struct air_header *header = air->header;
    uint64_t head = atomic_load_explicit(&header->head, memory_order_relaxed);
    uint64_t frames = atomic_load_explicit(&header->frames, memory_order_relaxed);

    /* What readers did with the bytes that are now written over came before their last
     * tower_air_head(); this puts it before the write below as the memory model has it. That enough
     * time has passed is seen to by tower_air_peek(). */
    (void)atomic_load_explicit(&header->rounds, memory_order_acquire);

    /* An exchange, so that the write below comes after it for whoever looks at it. */
    (void)atomic_exchange_explicit(&header->claimed, head + bytes, memory_order_acq_rel);
    size_t place = (size_t)(head & (air->ring_bytes - 1));
    size_t first = air->ring_bytes - place < bytes ? air->ring_bytes - place : bytes;
    memcpy(air->ring + place, frame, first);
    memcpy(air->ring, frame + first, bytes - first);

    atomic_store_explicit(&air->index[(frames + 1) & (air->index_slots - 1)], head + bytes,
                          memory_order_release);
    atomic_store_explicit(&header->head, head + bytes, memory_order_release);
    atomic_store_explicit(&header->frames, frames + 1, memory_order_release);
    for (unsigned i = 0; i < air->n_wakers; i++)
        tower_eventfd_signal(air->wakers[i]);
    return 0;
}

uint64_t tower_air_head(const struct tower_air *air) {
    atomic_fetch_add_explicit(&air->header->rounds, 1, memory_order_release);
    return atomic_load_explicit(&air->header->head, memory_order_acquire);
}

uint64_t tower_air_frames(const struct tower_air *air) {
    return atomic_load_explicit(&air->header->frames, memory_order_acquire);
}

static uint64_t boundary(const struct tower_air *air, uint64_t frame) {
    return atomic_load_explicit(&air->index[frame & (air->index_slots - 1)], memory_order_acquire);
}

/* The first boundary at or after `cursor` among those of the frames `low` to `high`, which rise;
 * that of `high` where there is none. */
static uint64_t find_boundary(const struct tower_air *air, uint64_t low, uint64_t high,
                              uint64_t cursor) {
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (boundary(air, middle) < cursor)
            low = middle + 1;
        else
            high = middle;
    }
    return boundary(air, high);
}

/* The frame number of the oldest boundary in the index; the writer may be at the one before. */
static uint64_t oldest_indexed(const struct tower_air *air, uint64_t frames) {
    return frames > air->index_slots - 2 ? frames - (air->index_slots - 2) : 0;
}

/* The first boundary at or after `cursor`, at most `frames_back` frames before the head. Starts
 * over if the writer came round the whole index meanwhile, and so may have changed what was read.
 */
static uint64_t look_up(const struct tower_air *air, uint64_t frames_back, uint64_t cursor) {
    for (;;) {
        uint64_t frames = tower_air_frames(air);
        uint64_t low = oldest_indexed(air, frames);
        if (frames_back < frames - low)
            low = frames - frames_back;
        uint64_t found = find_boundary(air, low, frames, cursor);
        if (oldest_indexed(air, tower_air_frames(air)) <= low)
            return found;
    }
}

uint64_t tower_air_back(const struct tower_air *air, uint64_t frames) {
    uint64_t head = atomic_load_explicit(&air->header->head, memory_order_acquire);
    uint64_t limit = head > air->ring_bytes / 2 ? head - air->ring_bytes / 2 : 0;
    return look_up(air, frames, limit);
}

uint64_t tower_air_align(const struct tower_air *air, uint64_t cursor) {
    uint64_t found = look_up(air, UINT64_MAX, cursor);
    /* The head is a boundary, also while its frame has not been counted yet. */
    return found >= cursor ? found : atomic_load_explicit(&air->header->head, memory_order_acquire);
}

int64_t tower_air_peek(const struct tower_air *air, uint64_t cursor, size_t max_bytes,
                       struct iovec ret_pieces[2], int *ret_n) {
    uint64_t head = atomic_load_explicit(&air->header->head, memory_order_acquire);
    if (cursor > head)
        return -EINVAL;
    /* The last quarter before the overwriting is left alone: the frame being written now may take
     * up some of it, and a reader needs time to use what it gets. */
    if (head - cursor > air->ring_bytes / 4 * 3)
        return -ESTALE;
    size_t bytes = (size_t)(head - cursor);
    if (bytes > max_bytes)
        bytes = max_bytes;
    size_t place = (size_t)(cursor & (air->ring_bytes - 1));
    size_t first = air->ring_bytes - place < bytes ? air->ring_bytes - place : bytes;
    int n = 0;
    if (first > 0)
        ret_pieces[n++] = (struct iovec){.iov_base = air->ring + place, .iov_len = first};
    if (bytes > first)
        ret_pieces[n++] = (struct iovec){.iov_base = air->ring, .iov_len = bytes - first};
    *ret_n = n;
    return (int64_t)bytes;
}

/* Are the bytes from `cursor` on still what was published there? */
static bool is_intact(const struct tower_air *air, uint64_t cursor) {
    /* Adding nothing, where a load would let reads that came before it move behind it. */
    uint64_t claimed = atomic_fetch_add_explicit(&air->header->claimed, 0, memory_order_acq_rel);
    return claimed - cursor <= air->ring_bytes;
}

int64_t tower_air_copy_rest(const struct tower_air *air, uint64_t cursor, uint8_t *ret_data,
                            size_t max_bytes) {
    uint64_t end = tower_air_align(air, cursor);
    if (end < cursor || end - cursor > max_bytes || !is_intact(air, cursor))
        return -ESTALE;
    size_t bytes = (size_t)(end - cursor);
    size_t place = (size_t)(cursor & (air->ring_bytes - 1));
    size_t first = air->ring_bytes - place < bytes ? air->ring_bytes - place : bytes;
    memcpy(ret_data, air->ring + place, first);
    memcpy(ret_data + first, air->ring, bytes - first);
    return is_intact(air, cursor) ? (int64_t)bytes : -ESTALE;
}
