/* pcm_socket_state.h - the PCM socket from within: what its two files share. */
#ifndef TOWER_INGEST_PCM_SOCKET_STATE_H
#define TOWER_INGEST_PCM_SOCKET_STATE_H

#include "ingest_memory.h"
#include "input_gate.h"
#include "tower/pcm_socket.h"
#include "unix_listener.h"

#include <pthread.h>
#include <stdatomic.h>

/* What an epoll event is about: these, or else a producer's id. */
enum { EVENT_WAKE = 0, EVENT_LISTENER = UINT32_MAX };

struct tower_ingest_producer {
    struct tower_ingest_entry *entry; /* constant */
    /* An event said that there is something to read, be it the end, and no read has said that there
     * is not. Descriptors are watched edge-triggered: a producer that is not read costs nothing. */
    bool is_readable;
    bool has_ended;                  /* it will write no more; what it wrote may still be unread */
    struct tower_clock_report clock; /* as it said last, to this process */
    bool has_said_clock;             /* the log has that it is out of range */
};

struct tower_pcm_socket {
    /* Constant after new. */
    struct tower_pcm_socket_config config;
    size_t frame_bytes;
    int64_t frame_ns;
    int64_t cushion_ns;
    struct tower_unix_listener listener;
    struct tower_region region;
    struct tower_ingest_memory *memory; /* in it */
    int epoll_fd;
    int wake_fd;

    /* Owned by the ingest thread. */
    struct tower_ingest_producer producers[TOWER_PRODUCERS_MAX];
    struct tower_ingest_producer *on_air; /* NULL: nobody */
    bool is_new_on_air; /* the next frame begins a programme, or goes on with one that was away */
    struct tower_input_gate gate;
    int64_t watch_at_ns; /* when the monitor wants to be told how things stand */
    int64_t accept_after_ns;
    int64_t say_again_ns; /* not before then that nobody can be accepted */
    /* The cushion: nothing is read before. INT64_MIN: nothing is held back. */
    int64_t hold_until_ns;
    uint64_t underflows_seen; /* the router's, when it was last pushed to */

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    _Atomic bool is_stopping;

    pthread_mutex_t lock;
    struct tower_pcm_socket_stats stats; /* guarded by lock; written by the ingest thread */
};

static inline int tower_ingest_producer_fd(const struct tower_ingest_producer *producer) {
    return atomic_load_explicit(&producer->entry->fd, memory_order_relaxed);
}

/* Have epoll tell of `events` at `fd` by `id`. Errors: those of epoll_ctl(). */
int tower_pcm_socket_watch(struct tower_pcm_socket *socket, int fd, uint32_t events, uint64_t id);

#endif
