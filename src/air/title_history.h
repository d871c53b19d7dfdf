/* title_history.h - which title holds where in the stream, for those who send it. */
#ifndef TOWER_AIR_TITLE_HISTORY_H
#define TOWER_AIR_TITLE_HISTORY_H

#include "tower/titles.h"

/* How many titles are remembered. */
#define TOWER_TITLES_KEPT 32

/* The number of the title that the stream's byte `cursor` belongs to: known once that byte is
 * published. 0 if it has none, or none that is remembered. Any thread, no lock. */
uint64_t tower_titles_at(const struct tower_titles *titles, uint64_t cursor);

/* Copy the metadata block of title `number` to `ret_block`, of TOWER_ICY_BLOCK_BYTES_MAX bytes.
 * Returns its size in bytes. Any thread, no lock. Errors: -ESTALE (not remembered any more;
 * `ret_block` may have been written to). */
int tower_titles_copy_block(const struct tower_titles *titles, uint64_t number, uint8_t *ret_block);

#endif
