/* listener.h - the listener table: one HTTP connection on a mount, in under 128 bytes.
 *
 * The table lies in a region: plain data, so that listeners can outlive the process.
 */
#ifndef TOWER_LISTENER_H
#define TOWER_LISTENER_H

#include <stdint.h>

/* Why a listener went. */
enum tower_listener_end {
    TOWER_LISTENER_CLOSED,   /* hung up */
    TOWER_LISTENER_FAILED,   /* the connection broke */
    TOWER_LISTENER_TIMEOUT,  /* took nothing for client_timeout */
    TOWER_LISTENER_SHUTDOWN, /* the transmitter stopped */
    TOWER_LISTENER_LAGGED,   /* kept falling behind */
};
#define TOWER_LISTENER_END_COUNT 5

/* Where a listener is who gets titles between the bytes of the stream. */
struct tower_icy {
    uint64_t told;        /* number of the title it was told last; 0: none */
    uint16_t until_block; /* bytes of stream before the next metadata block */
    uint16_t block_bytes; /* of the block under way, which gives that title */
    uint16_t block_sent;  /* of them; 0: none is under way */
};

struct tower_listener {
    uint64_t cursor;      /* next byte of the stream it gets */
    uint64_t wire_bytes;  /* that its socket has taken, with the response's header and all blocks;
                           * stored behind `cursor` and `icy`: they say as much */
    int64_t connected_ns; /* on the clock */
    int64_t progress_ns;  /* when it last took a byte */
    int32_t fd;           /* -1: the place is free */
    uint32_t next;        /* place in the table: of the next free one, or the next of its group */
    uint32_t previous;    /* the one before in its group */
    uint32_t generation;  /* of this place: tells a late event of the one before */
    uint32_t skips;       /* times it was moved nearer the present */
    uint8_t is_blocked;   /* its socket is full; EPOLLOUT is armed */
    uint8_t phase;        /* group it is served with */
    uint8_t mount;
    uint8_t is_used;    /* 1: the rest of it is right; stored last */
    uint8_t reads_left; /* reads of what the client still sends; 0: no longer looked at */
    uint8_t moves;      /* nearer the present, since it last was there */
    uint8_t wants_titles;
    uint32_t address; /* its place in the addresses */
    struct tower_icy icy;
};
_Static_assert(sizeof(struct tower_listener) <= 128, "a listener is small");

#endif
