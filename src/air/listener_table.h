/* listener_table.h - the places for listeners, in a region; free ones are kept in a list. */
#ifndef TOWER_AIR_LISTENER_TABLE_H
#define TOWER_AIR_LISTENER_TABLE_H

#include "tower/listener.h"
#include "tower/region.h"

#include <stddef.h>

/* No place: the end of a list. */
#define TOWER_LISTENER_NONE UINT32_MAX
#define TOWER_LISTENERS_MAX 1048576

struct tower_listener_table_header;

/* Not thread-safe: whoever owns the table sees to that. */
struct tower_listener_table {
    struct tower_region region;
    struct tower_listener_table_header *header;
    struct tower_listener *places;
};

/* Make a table of `capacity` free places, 1 to TOWER_LISTENERS_MAX.
 * Errors: -EINVAL, -ENOMEM, -EMFILE, -ENFILE. */
int tower_listener_table_init(struct tower_listener_table *table, uint32_t capacity);
/* Closes no descriptor but its own. Takes a table that is all zeros. */
void tower_listener_table_done(struct tower_listener_table *table);

uint32_t tower_listener_table_capacity(const struct tower_listener_table *table);

/* Take a free place: cleared, in use, and of another generation than before. Returns its number, or
 * TOWER_LISTENER_NONE if the table is full. */
uint32_t tower_listener_table_take(struct tower_listener_table *table);

/* Give back the place, which must be in use. Its descriptor is the caller's to close. */
void tower_listener_table_give(struct tower_listener_table *table, uint32_t place);

#endif
