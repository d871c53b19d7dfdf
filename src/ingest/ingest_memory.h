/* ingest_memory.h - what of the ingest outlives its process: the producers, and the frame that is
 * being filled, with every byte of it counted once.
 *
 * Written by the ingest thread alone. The process may be killed between any two instructions, and
 * within a call of the kernel, which then comes to its end: what was stored by then is there. So a
 * read is begun by noting how things stood before it; how much it gave the kernel writes here as
 * well, before it returns; and what follows from the two can be worked out as often as need be. A
 * whole frame stays here until it is in the router, whose count says whether it is.
 */
#ifndef TOWER_INGEST_INGEST_MEMORY_H
#define TOWER_INGEST_INGEST_MEMORY_H

#include "titled_recv.h"
#include "tower/framer.h"
#include "tower/pcm_socket.h"
#include "tower/region.h"

#include <stdatomic.h>

/* A producer's connection. */
struct tower_ingest_entry {
    _Atomic int32_t fd; /* -1: the place is free */
    int32_t pid;
    uint64_t id;
    uint64_t turn; /* who came, or made way, earlier goes on air earlier */
    uint64_t bytes;
    int64_t connected_ns;
    int64_t last_data_ns;              /* INT64_MIN: none yet */
    uint32_t has_bad_title;            /* 0 or 1: it has sent what is none, and that was said */
    _Atomic int32_t title_bytes;       /* -1: it has said none */
    char title[TOWER_TITLE_BYTES_MAX]; /* the last; its next turn on air begins with it */
};

struct tower_ingest_counters {
    uint64_t accepted; /* as in struct tower_pcm_socket_stats, to the end */
    uint64_t refused;
    uint64_t bytes;
    uint64_t frames;
    uint64_t partial_frames;
    uint64_t partial_bytes;
    uint64_t withheld_frames;
    uint64_t titles;
    uint64_t bad_titles;
};

/* All of it, in the region. */
struct tower_ingest_memory {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;

    struct tower_ingest_counters counters; /* as last shown; a little may be missing */
    uint64_t next_id;                      /* one less than that */
    uint64_t next_turn;
    struct tower_ingest_entry entries[TOWER_PRODUCERS_MAX];

    /* Of the producer on air. */
    _Atomic int32_t on_air;     /* its place; -1: nobody, and the rest of these say nothing */
    uint32_t is_new;            /* 0 or 1: none of its frames is in the router */
    uint64_t told_frame;        /* the router's number of that which its title began with */
    int64_t dead_air_since_ns;  /* that is withheld; INT64_MIN: there is none */
    uint64_t held_frames;       /* in the gate, which is no part of this */
    uint64_t skip_bytes;        /* up to its next whole sample */
    struct tower_framer framer; /* filled_bytes == frame_bytes: whole, and not in the router */
    struct tower_incoming_title title; /* of the frame being filled */

    /* The read under way. */
    _Atomic uint32_t is_receiving;
    uint64_t bytes_before;
    uint64_t filled_before;
    uint64_t skip_before;
    struct tower_recv_call call;

    /* The whole frame that is being put into the router. */
    _Atomic uint32_t is_delivering;
    uint64_t pushed_before; /* frames ever queued there, before it */
};

/* Go on with the region behind `fd` (0 or below: none) or make one, for frames of `frame_bytes` and
 * a router into which `pushed` were ever put. Returns 1 with what was left, in which every field is
 * in its bounds, every entry is an open connection, and each but once; how many entries were not is
 * in `ret_lost`, and their descriptors are left alone. 0 if nothing was left that holds.
 * Errors: -ENOMEM, -EMFILE. */
int tower_ingest_memory_open(struct tower_region *region, int fd, size_t frame_bytes,
                             uint64_t pushed, int64_t now_ns, size_t *ret_lost);

/* A place that is free, or NULL. */
struct tower_ingest_entry *tower_ingest_memory_find_free(struct tower_ingest_memory *memory);
/* From here on `entry`, else filled in, is the producer at `fd`; from here on it is free. The
 * second before the descriptor is closed: its number may be somebody else's at once. */
void tower_ingest_memory_add(struct tower_ingest_entry *entry, int fd);
void tower_ingest_memory_remove(struct tower_ingest_entry *entry);
void tower_ingest_memory_keep_title(struct tower_ingest_entry *entry,
                                    const struct tower_incoming_title *title);

/* The producer at `place` is on air, and `skip_bytes` up to its next sample; nobody is. */
void tower_ingest_memory_put_on_air(struct tower_ingest_memory *memory, int32_t place,
                                    size_t skip_bytes);
void tower_ingest_memory_end(struct tower_ingest_memory *memory);

/* Around a read from the producer on air by memory->call; `space_bytes` fit. The second takes what
 * the kernel says it gave, and returns that. */
void *tower_ingest_memory_begin_read(struct tower_ingest_memory *memory, size_t *ret_space_bytes);
size_t tower_ingest_memory_end_read(struct tower_ingest_memory *memory);

/* A whole frame is there. */
bool tower_ingest_memory_has_frame(const struct tower_ingest_memory *memory);
/* Around putting it into the router. */
void tower_ingest_memory_begin_delivery(struct tower_ingest_memory *memory, uint64_t pushed);
void tower_ingest_memory_end_delivery(struct tower_ingest_memory *memory);

#endif
