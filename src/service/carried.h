/* carried.h - what outlives a worker: which descriptors are worth keeping, and what its keeper and
 * the next worker should know of it.
 *
 * Lies in a region that the keeper makes. Keeper and worker have one table of descriptors
 * (CLONE_FILES), so a number written down here by one worker is good in the next.
 */
#ifndef TOWER_SERVICE_CARRIED_H
#define TOWER_SERVICE_CARRIED_H

#include "listening.h"
#include "service_manager.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What the region behind a descriptor is. */
enum tower_carried_kind {
    TOWER_CARRIED_AIR = 1,
    TOWER_CARRIED_TITLES,
    TOWER_CARRIED_LISTENERS, /* one for each fan-out worker */
    TOWER_CARRIED_ROUTER,
    TOWER_CARRIED_FALLBACK,
    TOWER_CARRIED_PUMP,
    TOWER_CARRIED_ENCODER,
    TOWER_CARRIED_PRODUCERS,
    TOWER_CARRIED_JOURNAL,
    TOWER_CARRIED_PROGRAMME, /* whose title is on air */
};

/* What the keeper tells. Written by the keeper while there is no worker (reload_error, and those
 * behind it: at any time), read by the worker. */
struct tower_keeper_report {
    pid_t keeper_pid;
    pid_t worker_pid;
    uint32_t generation; /* of the worker: counted from 1 */
    uint64_t replaced[TOWER_REPLACEMENT_COUNT];
    enum tower_replacement why; /* the last was replaced; from generation 2 on */
    pid_t replaced_pid;         /* of that process; of the keeper, if it was that */
    uint32_t replaced_generation;
    int signal_number;    /* that it died by; 0: none */
    int exit_code;        /* that it ended with */
    int64_t replaced_ns;  /* when, on the clock */
    uint64_t frames_then; /* on air, when it was */
    uint64_t lost_state;  /* times that what was carried had to be given up */
};

struct tower_carried;

/* Errors: -ENOMEM, -EMFILE, -ENFILE. */
int tower_carried_new(struct tower_carried **ret_carried);

/* That of the program which was executed before this one, in the same process. On success `fd`
 * belongs to it. Errors: -EINVAL (it is none, or another version's), and of the kernel. */
int tower_carried_open(int fd, struct tower_carried **ret_carried);
void tower_carried_free(struct tower_carried *carried);
int tower_carried_fd(const struct tower_carried *carried);

/* ---- descriptors; `carried` may be NULL in each: nothing is carried ---- */

/* The descriptor that was kept as the `index`th of its kind by the last worker that committed, or
 * -1. Only tells: it may be a closed one, or a wrong one. */
int tower_carried_find(const struct tower_carried *carried, enum tower_carried_kind kind,
                       uint32_t index);

/* Begin to make a set. By the worker. */
void tower_carried_begin(struct tower_carried *carried);

/* Note `fd` for the set that is being made; -1 is passed over. By the worker, before it commits.
 * Errors: -ENOSPC. */
int tower_carried_keep(struct tower_carried *carried, enum tower_carried_kind kind, uint32_t index,
                       int fd);

/* From now on the set that was made is the one that is found. One store: a worker that dies before
 * it leaves everything as it found it. */
void tower_carried_commit(struct tower_carried *carried);

/* Visit the descriptors of the set that is found now, and those of the keeper: `*at` begins with 0.
 * Returns -1 at the end. */
int tower_carried_next(const struct tower_carried *carried, uint32_t *at);

/* Forget all regions: what was carried has killed worker after worker. By the keeper while there is
 * no worker. */
void tower_carried_forget_state(struct tower_carried *carried);

/* Copy the set that is found now, to be brought back with the other. By the keeper. */
struct tower_carried_set *tower_carried_save(const struct tower_carried *carried);
void tower_carried_restore(struct tower_carried *carried, const struct tower_carried_set *saved);

/* ---- life ---- */

/* Has the keeper asked the worker to end in order? By the keeper, read by the worker. */
void tower_carried_set_stopping(struct tower_carried *carried, bool is_stopping);
bool tower_carried_is_stopping(const struct tower_carried *carried);

/* The worker `generation` has begun to serve. */
void tower_carried_set_ready(struct tower_carried *carried, uint32_t generation);
bool tower_carried_is_ready(const struct tower_carried *carried, uint32_t generation);

/* So many frames are on air. Any thread of the worker; never waits. `carried` may be NULL. */
void tower_carried_beat(struct tower_carried *carried, uint64_t frames);
uint64_t tower_carried_beats(const struct tower_carried *carried);

/* What the keeper has open itself, and no worker may close; it goes on to the program that is
 * executed in its place. By the keeper; the worker may read it, but for the manager. */
struct tower_keeper_descriptors {
    struct tower_listening listening;
    struct tower_listening listening_before; /* while it may yet be taken back */
    struct tower_service_manager manager;
};
struct tower_keeper_descriptors *tower_carried_descriptors(struct tower_carried *carried);

struct tower_keeper_report *tower_carried_report(struct tower_carried *carried);

/* A line about how things stand, for the service manager: by the worker, for the keeper. */
void tower_carried_describe(struct tower_carried *carried, const char *text);
void tower_carried_description(const struct tower_carried *carried,
                               char ret_text[TOWER_SERVICE_MANAGER_STATUS_BYTES]);

/* Why the last reload or upgrade (`what`) was refused, for whoever asked; "" if it was not. Counts
 * those that were asked for. By the keeper. */
void tower_carried_tell_request(struct tower_carried *carried, enum tower_replacement what,
                                const char *error);

/* What those who ask are told of the keeper. Any thread of the worker. */
void tower_carried_get_status(const struct tower_carried *carried,
                              struct tower_keeper_status *ret_status);

#endif
