/* inheritance.h - what a worker has from the one before it: found, taken over part by part, and
 * then made its own in one step.
 */
#ifndef TOWER_SERVICE_INHERITANCE_H
#define TOWER_SERVICE_INHERITANCE_H

#include "carried.h"
#include "tower/fanout.h"
#include "tower/heritage.h"

/* What an old region that is not taken over is still good for: until the commit, the next worker.
 */
#define TOWER_INHERITANCE_OLD_MAX 80

struct tower_inheritance {
    struct tower_carried *carried; /* NULL: there is no keeper, and everything is made anew */
    struct tower_listener_heritage *listeners;
    struct tower_adoption adoption; /* what became of them */
    int old_fds[TOWER_INHERITANCE_OLD_MAX];
    unsigned n_old_fds;
};

/* Look at what `carried` names, and close every descriptor of the process that is neither named
 * there nor by what it names: the worker before left them open. Before anything else is opened, and
 * any other thread is made. `carried` may be NULL. Errors: -ENOMEM. */
int tower_inheritance_init(struct tower_inheritance *inheritance, struct tower_carried *carried);

/* Closes nothing that was not committed. Takes one that is all zeros. */
void tower_inheritance_done(struct tower_inheritance *inheritance);

/* The region of that kind that is to be gone on with, or -1. */
int tower_inheritance_fd(const struct tower_inheritance *inheritance, enum tower_carried_kind kind);

/* The part of that kind has been made, with `fd` as its region. Errors: -ENOSPC. */
int tower_inheritance_keep(struct tower_inheritance *inheritance, enum tower_carried_kind kind,
                           uint32_t index, int fd);

/* Have the listeners go on in `fanouts`, none of which runs yet. */
void tower_inheritance_adopt(struct tower_inheritance *inheritance,
                             struct tower_fanout *const *fanouts, size_t n_fanouts);

/* What was kept is now what outlives us, and nothing else. Before anything starts. */
void tower_inheritance_commit(struct tower_inheritance *inheritance);

#endif
