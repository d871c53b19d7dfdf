/* air.c - the air ring: bytes and frame boundaries in a region, one writer, lock-free readers. */
#include "tower/air.h"

#include "tower/log.h"
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
#define INDEX_SLOTS_MIN ((size_t)8)
#define INDEX_SLOTS_MAX ((size_t)1 << 24)
/* Published so far: far more than any station gets to, and far from wrapping round. */
#define HEAD_MAX (UINT64_C(1) << 62)
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

    /* Constant once made or opened. What came before them is not there. */
    uint64_t first_byte;
    uint64_t first_frame; /* the first whose boundary is in the index */

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

struct layout {
    size_t ring_bytes;
    size_t ring_offset;
    size_t index_slots;
    size_t index_offset;
    size_t region_bytes;
};

static int lay_out(size_t ring_bytes, size_t frames, struct layout *ret_layout) {
    /* One slot for the boundary at the head, one that the writer may be at. */
    if (ring_bytes == 0 || ring_bytes > RING_BYTES_MAX || frames > INDEX_SLOTS_MAX - 2)
        return -EINVAL;
    struct layout layout = {
        .ring_bytes = round_up_to_power_of_two(ring_bytes, RING_BYTES_MIN),
        .ring_offset = round_up_to_power_of_two(sizeof(struct air_header), RING_BYTES_MIN),
        .index_slots = round_up_to_power_of_two(frames + 2, INDEX_SLOTS_MIN),
    };
    layout.index_offset = layout.ring_offset + layout.ring_bytes;
    layout.region_bytes = layout.index_offset + layout.index_slots * sizeof(uint64_t);
    *ret_layout = layout;
    return 0;
}

static void attach(struct tower_air *air, const struct tower_region *region,
                   const struct layout *layout) {
    uint8_t *memory = region->memory;
    air->region = *region;
    air->header = region->memory;
    air->ring = memory + layout->ring_offset;
    air->ring_bytes = layout->ring_bytes;
    air->index = (_Atomic uint64_t *)(void *)(memory + layout->index_offset);
    air->index_slots = layout->index_slots;
}

static int make(struct tower_air *air, const struct layout *layout) {
    struct tower_region region;
    int error = tower_region_init(&region, "tower-air", layout->region_bytes);
    if (error < 0)
        return error;
    attach(air, &region, layout);
    air->header->magic = AIR_MAGIC;
    air->header->version = AIR_VERSION;
    air->header->header_bytes = sizeof *air->header;
    air->header->ring_bytes = layout->ring_bytes;
    air->header->ring_offset = layout->ring_offset;
    air->header->index_slots = layout->index_slots;
    air->header->index_offset = layout->index_offset;
    return 0;
}

int tower_air_new(size_t ring_bytes, size_t frames, struct tower_air **ret_air) {
    return tower_air_open(-1, ring_bytes, frames, ret_air);
}

/* ---- going on with what another process left ---- */

static uint64_t boundary(const struct tower_air *air, uint64_t frame) {
    return atomic_load_explicit(&air->index[frame & (air->index_slots - 1)], memory_order_acquire);
}

/* The frame number of the oldest boundary in the index; the writer may be at the one before. */
static uint64_t oldest_indexed(const struct tower_air *air, uint64_t frames) {
    uint64_t oldest = frames > air->index_slots - 2 ? frames - (air->index_slots - 2) : 0;
    return oldest < air->header->first_frame ? air->header->first_frame : oldest;
}

static bool is_power_of_two(uint64_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

/* What the header says of the sizes; false where that is not so, or cannot be. */
static bool read_layout(const struct tower_region *region, struct layout *ret_layout) {
    const struct air_header *header = region->memory;
    if (header->magic != AIR_MAGIC || header->version != AIR_VERSION ||
        header->header_bytes != sizeof *header)
        return false;
    uint64_t ring_bytes = header->ring_bytes, slots = header->index_slots;
    if (!is_power_of_two(ring_bytes) || ring_bytes < RING_BYTES_MIN ||
        ring_bytes > RING_BYTES_MAX || !is_power_of_two(slots) || slots < INDEX_SLOTS_MIN ||
        slots > INDEX_SLOTS_MAX)
        return false;
    (void)lay_out((size_t)ring_bytes, (size_t)slots - 2, ret_layout);
    return header->ring_offset == ret_layout->ring_offset &&
           header->index_offset == ret_layout->index_offset &&
           region->size_bytes >= ret_layout->region_bytes;
}

/* Bring what the writer was killed in the middle of to an end, or take it back: see the order of
 * its stores in tower_air_publish(). False if it cannot have come to be as it is. Doing it twice
 * changes nothing more, as this process may be killed in the middle of it too. */
static bool repair(struct tower_air *air) {
    struct air_header *header = air->header;
    uint64_t head = header->head, frames = header->frames, claimed = header->claimed;
    if (head > HEAD_MAX || claimed < head || claimed - head > air->ring_bytes / 4)
        return false;
    /* The head was stored, and the count not any more. */
    if (boundary(air, frames) != head) {
        if (boundary(air, frames + 1) != head)
            return false;
        header->frames = ++frames;
    }
    if (frames > head || header->first_byte > head || header->first_frame > frames)
        return false;
    /* A frame that was claimed and never published may have been written over the oldest bytes. */
    if (claimed > air->ring_bytes && header->first_byte < claimed - air->ring_bytes)
        header->first_byte = claimed - air->ring_bytes;
    uint64_t first = frames;
    for (uint64_t oldest = oldest_indexed(air, frames); first > oldest; first--) {
        uint64_t begin = boundary(air, first - 1), end = boundary(air, first);
        if (begin >= end || end - begin > air->ring_bytes / 4)
            break;
    }
    if (header->first_frame < first && first > oldest_indexed(air, frames))
        header->first_frame = first;
    return true;
}

static void copy_bytes(struct tower_air *to, const struct tower_air *from, uint64_t begin,
                       uint64_t end) {
    while (begin < end) {
        size_t from_place = (size_t)(begin & (from->ring_bytes - 1));
        size_t to_place = (size_t)(begin & (to->ring_bytes - 1));
        size_t bytes = (size_t)(end - begin);
        if (bytes > from->ring_bytes - from_place)
            bytes = (size_t)from->ring_bytes - from_place;
        if (bytes > to->ring_bytes - to_place)
            bytes = (size_t)to->ring_bytes - to_place;
        memcpy(to->ring + to_place, from->ring + from_place, bytes);
        begin += bytes;
    }
}

/* As much of `from`, which is whole, as there is room for in `to`, which is new. */
static void copy_air(struct tower_air *to, const struct tower_air *from) {
    uint64_t head = from->header->head, frames = from->header->frames;
    uint64_t bytes = head - from->header->first_byte;
    if (bytes > from->ring_bytes)
        bytes = from->ring_bytes;
    if (bytes > to->ring_bytes)
        bytes = to->ring_bytes;
    copy_bytes(to, from, head - bytes, head);
    to->header->first_byte = head - bytes;
    uint64_t oldest = oldest_indexed(from, frames);
    if (oldest < oldest_indexed(to, frames))
        oldest = oldest_indexed(to, frames);
    for (uint64_t frame = oldest; frame <= frames; frame++)
        to->index[frame & (to->index_slots - 1)] = boundary(from, frame);
    to->header->first_frame = oldest;
    to->header->claimed = head;
    to->header->head = head;
    to->header->frames = frames;
}

/* Returns 1 if `air` has what is behind `fd`, 0 if that does not hold. */
static int take_over(struct tower_air *air, int fd, const struct layout *layout) {
    struct tower_region region;
    struct layout before;
    int error = tower_region_open(&region, fd, sizeof(struct air_header));
    if (error < 0)
        return error == -ENOMEM ? error : 0;
    struct tower_air old = {.n_wakers = 0};
    int result = 0;
    if (read_layout(&region, &before)) {
        attach(&old, &region, &before);
        result = repair(&old) ? 1 : 0;
    }
    if (result == 1 && before.ring_bytes == layout->ring_bytes &&
        before.index_slots == layout->index_slots) {
        attach(air, &region, layout);
        return 1;
    }
    if (result == 1 && (error = make(air, layout)) == 0)
        copy_air(air, &old);
    /* Until the caller has done with it the descriptor stays, not the mapping. */
    region.fd = -1;
    tower_region_done(&region);
    return error < 0 ? error : result;
}

int tower_air_open(int fd, size_t ring_bytes, size_t frames, struct tower_air **ret_air) {
    struct layout layout;
    int result = lay_out(ring_bytes, frames, &layout);
    if (result < 0)
        return result;
    struct tower_air *air = calloc(1, sizeof *air);
    if (!air)
        return -ENOMEM;
    if (fd >= 0) {
        result = take_over(air, fd, &layout);
        if (result == 0)
            tower_log(TOWER_LOG_WARNING, "air",
                      "the air ring that was left is not sound: begun anew");
    }
    if (result == 0)
        result = make(air, &layout);
    if (result < 0) {
        free(air);
        return result;
    }
    *ret_air = air;
    return result;
}

int tower_air_fd(const struct tower_air *air) {
    return air->region.fd;
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

    /* In this order, of which a kill leaves any beginning for repair(): the claim, the bytes, the
     * index, the head, the count. An exchange, so that the write below comes after it for whoever
     * looks at it. */
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
    if (limit < air->header->first_byte)
        limit = air->header->first_byte;
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
    if (head - cursor > air->ring_bytes / 4 * 3 || cursor < air->header->first_byte)
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
    return claimed - cursor <= air->ring_bytes && cursor >= air->header->first_byte;
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
