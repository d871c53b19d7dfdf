/* heritage.h - the listeners that a process left, taken over by the next one.
 *
 * Their sockets are open still, in a descriptor table that outlived that process; where each of
 * them is in the stream says the table of the fan-out that had them. Each goes on at the very byte
 * it had come to, also the one whose send the process was killed in the middle of.
 *
 * What is read here may have been written by a crashing program: whatever does not hold costs its
 * listener, and no other.
 */
#ifndef TOWER_HERITAGE_H
#define TOWER_HERITAGE_H

#include "tower/fanout.h"

#include <stddef.h>
#include <stdint.h>

struct tower_listener_heritage;

/* What became of the listeners there were. */
struct tower_adoption {
    uint32_t taken;    /* over */
    uint32_t unsound;  /* left: what was known of them does not hold, or their socket is gone */
    uint32_t no_place; /* left: there are fewer places now */
    uint32_t moved;    /* of those taken over: were ahead of the air, and are at its end now */
};

/* One thread, whose all the functions here are. Errors: -ENOMEM. */
int tower_listener_heritage_new(struct tower_listener_heritage **ret_heritage);
/* Closes nothing. Takes NULL. */
void tower_listener_heritage_free(struct tower_listener_heritage *heritage);

/* Add the table behind `table_fd`, from tower_fanout_table_fd() of a process that has ended: all of
 * it, with every send it was in. On success `table_fd` belongs to the heritage. The table is only
 * read. Errors, with `table_fd` still the caller's: -EINVAL (not a table of this kind), -EBADF,
 * -ENOMEM. */
int tower_listener_heritage_add(struct tower_listener_heritage *heritage, int table_fd);

/* The descriptors that the listeners there are say to have: one a call, in any order, -1 at the
 * end. `*at` begins with 0. They may name anything, and one thing twice. */
int tower_listener_heritage_next(const struct tower_listener_heritage *heritage, uint64_t *at);

/* Descriptor `fd` is known to be something else: whatever listener names it does not hold. */
void tower_listener_heritage_claim(struct tower_listener_heritage *heritage, int fd);

/* Share the listeners out among the `n_fanouts` fan-outs, which have the same air, titles and
 * addresses and have not been started: once for a heritage. They are counted by address, but none
 * is left for being one too many. Closes nothing, so that until it is committed another process
 * could do the same once more. */
void tower_fanout_adopt(struct tower_fanout *const *fanouts, size_t n_fanouts,
                        struct tower_listener_heritage *heritage,
                        struct tower_adoption *ret_adoption);

/* From now on the listeners are found in the new tables, and there alone: close the sockets of
 * those left, and the tables. Before any of the fan-outs is started, as what they send is not noted
 * in the old tables. */
void tower_listener_heritage_commit(struct tower_listener_heritage *heritage);

#endif
