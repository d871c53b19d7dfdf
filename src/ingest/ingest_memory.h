/* ingest_memory.h - what of the ingest outlives its process: the producers, and the frames that are
 * being filled, with every byte of them counted once.
 *
 * Written by the ingest thread alone. The process may be killed between any two instructions, and
 * within a call of the kernel, which then comes to its end: what was stored by then is there. So a
 * read is begun by noting how things stood before it; how much it gave the kernel writes here as
 * well, before it returns; and what follows from the two can be worked out as often as need be. A
 * whole frame stays here until it is in the router, whose count says whether it is. Who is on air,
 * and how far a fade has come, is one word, so that it changes in one instruction.
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
    uint64_t thrown_bytes; /* of them */
    int64_t connected_ns;
    int64_t last_data_ns;   /* INT64_MIN: none yet */
    int64_t since_ns;       /* on air, or waiting */
    uint32_t has_bad_title; /* 0 or 1: it has sent what is none, and that was said */
    /* 0 or 1: it has been looked at who it is, before its first byte was taken. */
    _Atomic uint32_t is_known;
    uint32_t flags; /* of enum tower_ingest_flag */
    char name[TOWER_PRODUCER_NAME_BYTES];
    char label[TOWER_PRODUCER_LABEL_BYTES];
    /* So many frames of a fade it was faded out for, when it lost the air; 0: it was not. */
    uint32_t faded_frames;
    _Atomic int32_t title_bytes;       /* -1: it has said none */
    char title[TOWER_TITLE_BYTES_MAX]; /* the last; its next turn on air begins with it */

    /* The frame being filled, which begins with a whole sample. One that lost the air to another
     * goes on with it. */
    struct tower_framer framer;           /* filled_bytes == frame_bytes: whole */
    struct tower_incoming_title incoming; /* of that frame */
};

enum tower_ingest_flag { TOWER_INGEST_LIVE = 1, TOWER_INGEST_SOURCE = 2 };

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
    uint64_t takeovers;
};

/* Who is on air, and how. */
struct tower_ingest_air {
    int8_t on_air;   /* a place; -1: nobody, and the rest of these say nothing */
    int8_t outgoing; /* the place of one that is being faded out; -1: none */
    uint8_t is_new;  /* 0 or 1: none of its frames is in the router */
    uint8_t state;   /* of enum tower_ingest_state */
    /* Of a fade, in frames; 0 of 0: there is none. One without an outgoing is a fade in. */
    uint16_t fade_done;
    uint16_t fade_frames;
};
_Static_assert(sizeof(struct tower_ingest_air) == sizeof(uint64_t), "one word");
_Static_assert(TOWER_PRODUCERS_MAX <= INT8_MAX, "a place has room");

enum tower_ingest_state {
    TOWER_INGEST_SEAM = 1,  /* the next frame does not follow on from the last */
    TOWER_INGEST_ALONE = 2, /* the last frame was of the outgoing one alone */
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

    _Atomic uint64_t air;      /* a struct tower_ingest_air */
    uint64_t chosen_id;        /* of who is to be on air, by hand; 0: it goes by rank */
    int64_t lost_ns;           /* when one of lost_rank last lost the air; INT64_MIN: never */
    uint32_t lost_rank;        /* the highest of who did lately */
    int32_t told_place;        /* whose title was told last */
    uint64_t told_frame;       /* the router's number of that which it began with */
    int64_t dead_air_since_ns; /* that is withheld; INT64_MIN: there is none */
    uint64_t held_frames;      /* in the gate, which is no part of this */

    /* The read under way. */
    _Atomic uint32_t is_receiving;
    int32_t read_place;
    uint32_t is_throwing; /* 0 or 1: what is read is thrown away */
    uint64_t bytes_before;
    uint64_t thrown_before;
    uint64_t filled_before;
    uint64_t skip_before;
    struct tower_recv_call call;

    /* The whole frame that is being put into the router. */
    _Atomic uint32_t is_delivering;
    int32_t delivered_places[2]; /* whose frames are in it; -1: nobody's */
    uint64_t pushed_before;      /* frames ever queued there, before it */
    uint64_t air_after;
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
/* It said that it is that; NULL: it has said nothing. */
void tower_ingest_memory_know(struct tower_ingest_entry *entry,
                              const struct tower_producer_identity *identity);
/* The title of the frame being filled, if there is one, is its last one from here on. */
void tower_ingest_memory_keep_title(struct tower_ingest_entry *entry);
/* The part of a frame that there is is dropped, with its title. Returns its bytes. */
size_t tower_ingest_memory_drop_frame(struct tower_ingest_entry *entry);

struct tower_ingest_air tower_ingest_memory_air(const struct tower_ingest_memory *memory);
void tower_ingest_memory_set_air(struct tower_ingest_memory *memory, struct tower_ingest_air air);
/* Nobody is on air. */
void tower_ingest_memory_end(struct tower_ingest_memory *memory);

/* Around a read from the producer at `place` by memory->call, into its frame; `space_bytes` fit.
 * The third takes what the kernel says it gave, and returns that. The second is for what is thrown
 * away, while no part of a frame is there. */
void *tower_ingest_memory_begin_read(struct tower_ingest_memory *memory, int32_t place,
                                     size_t *ret_space_bytes);
void tower_ingest_memory_begin_throw(struct tower_ingest_memory *memory, int32_t place);
size_t tower_ingest_memory_end_read(struct tower_ingest_memory *memory);

/* A whole frame is there. */
static inline bool tower_ingest_memory_has_frame(const struct tower_ingest_entry *entry) {
    return entry->framer.filled_bytes == entry->framer.frame_bytes;
}

/* Around putting the whole frames of the producers at `places` (-1: none), or what was made of
 * them, into the router; it is `after` that then. */
void tower_ingest_memory_begin_delivery(struct tower_ingest_memory *memory, uint64_t pushed,
                                        const int32_t places[2], struct tower_ingest_air after);
void tower_ingest_memory_end_delivery(struct tower_ingest_memory *memory);

#endif
