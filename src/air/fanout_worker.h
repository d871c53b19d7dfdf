/* fanout_worker.h - what a fan-out worker is made of, for the files that it is made of. */
#ifndef TOWER_AIR_FANOUT_WORKER_H
#define TOWER_AIR_FANOUT_WORKER_H

#include "tower/fanout.h"

#include "icy.h"
#include "listener_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

#define TOWER_FANOUT_EVENTS 256
#define TOWER_FANOUT_WAKE_TOKEN UINT64_MAX
#define TOWER_FANOUT_GROUPS_MAX 255
#define TOWER_FANOUT_SCRATCH_BYTES 4096
#define TOWER_FANOUT_NOT_KNOWN INT64_MIN

struct tower_fanout {
    /* Constant after start. */
    struct tower_fanout_config config;
    int64_t scan_ns;
    int epoll_fd;
    int wake_fd;
    pthread_t thread;

    pthread_mutex_t lock;

    /* Guarded by lock. Of the places themselves those that are free or pending; all others are the
     * worker's. */
    struct tower_listener_table table;
    uint32_t pending; /* places handed over and not yet taken up */
    bool was_started;
    bool is_running; /* listeners are taken */
    bool is_stopping;
    int64_t drain_ns;

    /* Owned by the worker. */
    uint32_t groups[TOWER_FANOUT_GROUPS_MAX]; /* first place of each phase group */
    uint32_t ended_places;                    /* a list: given back at the end of the round */
    uint32_t n_groups;                        /* of `groups` in use; written by the worker alone */
    unsigned next_phase;
    uint64_t frames_seen;
    int64_t now_ns; /* when this round began */
    /* When the last send ended, if nothing that takes long has come between; else NOT_KNOWN. */
    int64_t sending_since_ns;
    int64_t next_scan_ns;
    bool is_draining;
    int n_cut; /* listeners that did not get everything at the stop */
    struct epoll_event events[TOWER_FANOUT_EVENTS];
    struct tower_icy_woven woven;
    uint8_t scratch[TOWER_FANOUT_SCRATCH_BYTES];

    /* Atomic, written under the lock, read by anyone. */
    _Atomic uint64_t listeners;
    _Atomic uint64_t listeners_peak;
    _Atomic uint64_t with_titles;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;

    /* Atomic, written by the worker, read by anyone. */
    _Atomic uint32_t groups_now;
    _Atomic uint64_t n_blocked;
    _Atomic uint64_t ended[TOWER_LISTENER_END_COUNT];
    _Atomic uint64_t skips;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t sends;
    struct tower_histogram send_time;
};

static inline void tower_fanout_count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t tower_fanout_counted(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline struct tower_listener *tower_fanout_at(struct tower_fanout *fanout, uint32_t place) {
    return &fanout->table.places[place];
}

/* Is it the listener that an event was for, and not ended meanwhile? */
static inline bool tower_fanout_is_same(const struct tower_listener *listener,
                                        uint32_t generation) {
    return listener->fd >= 0 && listener->generation == generation;
}

/* The place has been taken and filled in: let the worker take it up. Under the lock. */
void tower_fanout_enter(struct tower_fanout *fanout, uint32_t place);

/* There are, or were, so many listeners at once. Under the lock. */
void tower_fanout_note_peak(struct tower_fanout *fanout, uint64_t listeners);

/* What the worker's thread runs, from start to stop: takes the struct tower_fanout. */
void *tower_fanout_run(void *arg);

/* ---- one listener; the worker's thread alone ---- */

/* Put the place into the group it is served with, and take it out again. */
void tower_fanout_link(struct tower_fanout *fanout, uint32_t place);
void tower_fanout_unlink(struct tower_fanout *fanout, uint32_t place);

/* Have epoll look for what the listener waits for now: `operation` is EPOLL_CTL_ADD or _MOD. Ends
 * the listener where epoll will not have it, as nobody would ever hear of it again: then returns
 * false, with errno. */
bool tower_fanout_watch(struct tower_fanout *fanout, uint32_t place, int operation);

/* Send the listener everything from its cursor to the head. May end it, and no other. */
void tower_fanout_serve(struct tower_fanout *fanout, uint32_t place);

/* Close the listener's connection. Its place is given back at the end of the round. */
void tower_fanout_end(struct tower_fanout *fanout, uint32_t place, enum tower_listener_end why);

/* Why a listener ended whose connection ended with `error`, 0 where that was in order. */
enum tower_listener_end tower_fanout_why(int error);

#endif
