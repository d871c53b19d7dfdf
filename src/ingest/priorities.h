/* priorities.h - which producer goes on air before which, by their names. */
#ifndef TOWER_INGEST_PRIORITIES_H
#define TOWER_INGEST_PRIORITIES_H

#include "tower/producer_identity.h"

#include <stddef.h>
#include <stdint.h>

#define TOWER_PRIORITIES_MAX 16

struct tower_priorities {
    size_t n;
    char names[TOWER_PRIORITIES_MAX][TOWER_PRODUCER_NAME_BYTES]; /* the highest first */
};

/* Names with white space or commas between; NULL or "": none. `ret_priorities` may be NULL. Errors:
 * -EINVAL (what is no name, a name twice, more than TOWER_PRIORITIES_MAX). */
int tower_priorities_read(struct tower_priorities *ret_priorities, const char *text);

/* The rank of a name, 0 for the highest; of every name that is not listed, and of "", the one below
 * them all. */
uint32_t tower_priorities_rank(const struct tower_priorities *priorities, const char *name);

#endif
