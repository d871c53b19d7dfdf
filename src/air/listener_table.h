/* listener_table.h - the places for listeners, in a region; free ones are kept in a list. */
#ifndef TOWER_AIR_LISTENER_TABLE_H
#define TOWER_AIR_LISTENER_TABLE_H

#include "tower/listener.h"
#include "tower/region.h"

#include <stdatomic.h>
#include <stddef.h>

/* Stores before it come before those behind it, also for a process that looks at them once this one
 * was killed: the processor undoes none that it has executed, so it is enough to hold the compiler.
 */
#define TOWER_LISTENER_IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

/* No place: the end of a list. */
#define TOWER_LISTENER_NONE UINT32_MAX
#define TOWER_LISTENERS_MAX 1048576

/* How a listener was before the send that its worker did last, or is in the middle of. Of a worker
 * that was killed nobody can say whether it had come to note what that send has done; so whoever
 * goes on with the listener asks the kernel how far it got, and begins from here if the listener
 * does not say as much. */
struct tower_listener_undo {
    uint32_t place; /* or TOWER_LISTENER_NONE; stored last */
    uint32_t generation;
    uint64_t cursor;
    uint64_t wire_bytes;
    uint64_t attempted_bytes; /* on the wire, by this send */
    struct tower_icy icy;
    uint8_t moves;
};

/* What lies at the start of the region; the places follow. */
struct tower_listener_table_header {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t place_bytes;
    uint32_t capacity;

    /* Owned by whoever owns the table. */
    uint32_t first_free;
    uint32_t n_touched; /* places from here on have never been in use */
    uint32_t n_peak;    /* most listeners there were; kept by the fan-out */

    /* Owned by the fan-out's worker. On a line of its own. */
    _Alignas(64) struct tower_listener_undo undo;
};

/* Not thread-safe: whoever owns the table sees to that. */
struct tower_listener_table {
    struct tower_region region;
    struct tower_listener_table_header *header;
    struct tower_listener *places;
};

/* Make a table of `capacity` free places, 1 to TOWER_LISTENERS_MAX.
 * Errors: -EINVAL, -ENOMEM, -EMFILE, -ENFILE. */
int tower_listener_table_init(struct tower_listener_table *table, uint32_t capacity);

/* The table behind `fd`, as a process that was killed left it, to be looked at: what its places and
 * `undo` say is not checked. On success `fd` belongs to the table.
 * Errors: -EINVAL (not a table of this kind), -EBADF, -ENOMEM: `fd` stays the caller's. */
int tower_listener_table_open(struct tower_listener_table *table, int fd);

/* Closes no descriptor but its own. Takes a table that is all zeros. */
void tower_listener_table_done(struct tower_listener_table *table);

uint32_t tower_listener_table_capacity(const struct tower_listener_table *table);

/* Take a free place: cleared, and of another generation than before. Returns its number, or
 * TOWER_LISTENER_NONE if the table is full. It is in use for a later process once
 * tower_listener_table_settle() has been called, when all of it has been filled in. */
uint32_t tower_listener_table_take(struct tower_listener_table *table);
void tower_listener_table_settle(struct tower_listener_table *table, uint32_t place);

/* Give back the place, which must be in use. Its descriptor is the caller's to close. */
void tower_listener_table_give(struct tower_listener_table *table, uint32_t place);

#endif
