/* pcm_socket_state.h - the PCM socket from within: what its files share. */
#ifndef TOWER_INGEST_PCM_SOCKET_STATE_H
#define TOWER_INGEST_PCM_SOCKET_STATE_H

#include "ingest_memory.h"
#include "input_gate.h"
#include "priorities.h"
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
    bool has_ended; /* it will write no more; what it wrote may still be unread */
    /* So many reads of it were thrown away in the frame's time that began then. */
    unsigned throws;
    int64_t throws_since_ns;
    struct tower_clock_report clock; /* as it said last, to this process */
    bool has_said_clock;             /* the log has that it is out of range */
    bool has_taken_over;             /* its turn on air is of another that made way */
};

struct tower_pcm_socket {
    /* Constant after new. */
    struct tower_pcm_socket_config config;
    struct tower_priorities priorities;
    size_t frame_bytes;
    int64_t frame_ns;
    int64_t cushion_ns;
    uint16_t fade_frames;
    struct tower_unix_listener listener;
    struct tower_region region;
    struct tower_ingest_memory *memory; /* in it */
    int epoll_fd;
    int wake_fd;

    /* Owned by the ingest thread. */
    struct tower_ingest_producer producers[TOWER_PRODUCERS_MAX];
    struct tower_ingest_producer *on_air;   /* NULL: nobody. As the memory has it, and so is: */
    struct tower_ingest_producer *outgoing; /* who is being faded out; NULL: nobody */
    bool tells_title; /* the next frame begins a programme, or goes on with one that was away */
    bool is_short; /* a programme that waits in its socket was found with less queued than it may */
    bool is_throwing; /* there is more to be thrown away, a frame later */
    bool is_fading;   /* whoever takes the air next waits for that to be over */
    struct tower_input_gate gate;
    int64_t watch_at_ns; /* when the monitor wants to be told how things stand */
    int64_t accept_after_ns;
    int64_t say_again_ns; /* not before then that nobody can be accepted */
    /* The cushion: nothing is read before. INT64_MIN: nothing is held back. */
    int64_t hold_until_ns;
    uint64_t underflows_seen; /* the router's, when it was last pushed to */
    int16_t mixed[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
    uint8_t thrown[16384];

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    _Atomic bool is_stopping;

    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct tower_pcm_socket_stats stats; /* written by the ingest thread */
    int fds[TOWER_PRODUCERS_MAX];        /* of the producers in it; -1: closed since */
    bool has_choice;                     /* and not yet taken by the ingest thread */
    uint64_t choice_id;
};

static inline int tower_ingest_producer_fd(const struct tower_ingest_producer *producer) {
    return atomic_load_explicit(&producer->entry->fd, memory_order_relaxed);
}

static inline int32_t tower_ingest_producer_place(const struct tower_pcm_socket *socket,
                                                  const struct tower_ingest_producer *producer) {
    return producer ? (int32_t)(producer - socket->producers) : -1;
}

static inline bool tower_ingest_producer_is_live(const struct tower_ingest_producer *producer) {
    return (producer->entry->flags & TOWER_INGEST_LIVE) != 0;
}

/* Have epoll tell of `events` at `fd` by `id`. Errors: those of epoll_ctl(). */
int tower_pcm_socket_watch(struct tower_pcm_socket *socket, int fd, uint32_t events, uint64_t id);

/* Everything below is for the ingest thread. */

/* ---- pcm_socket_air.c ---- */

/* Make it so in memory, and here. */
void tower_pcm_socket_set_air(struct tower_pcm_socket *socket, struct tower_ingest_air air);
/* It is so in memory: make it so here. */
void tower_pcm_socket_follow_air(struct tower_pcm_socket *socket);
/* Close its connection; whatever it was, it is no more. */
void tower_pcm_socket_drop(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer,
                           const char *why);
/* Something of it waits to be read, or did until now. */
bool tower_pcm_socket_has_audio(struct tower_pcm_socket *socket,
                                const struct tower_ingest_producer *producer);
uint32_t tower_pcm_socket_rank(const struct tower_pcm_socket *socket,
                               const struct tower_ingest_producer *producer);
/* Would it take the air by rank, if it had audio enough and all had settled? */
bool tower_pcm_socket_outranks(const struct tower_pcm_socket *socket,
                               const struct tower_ingest_producer *producer);
/* When whoever outranks the one on air may take its place; INT64_MIN: it may. */
int64_t tower_pcm_socket_settles_ns(const struct tower_pcm_socket *socket);
/* Another frame of the one on air may be put into the router. */
bool tower_pcm_socket_has_room(struct tower_pcm_socket *socket);
/* Do all that can be done without waiting. */
void tower_pcm_socket_serve(struct tower_pcm_socket *socket);

/* ---- pcm_socket_read.c ---- */

/* Look at who they are that have begun to send. */
void tower_pcm_socket_ask(struct tower_pcm_socket *socket);
/* Read `producer` until its frame is whole: returns whether it is. It may be gone if not. */
bool tower_pcm_socket_fill(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer);
/* Read those that are live and wait, and throw it away. */
void tower_pcm_socket_throw_away(struct tower_pcm_socket *socket);

/* ---- pcm_socket_deliver.c ---- */

/* A title that another process told of, while its frame waits in the router: who was told is gone.
 */
void tower_pcm_socket_tell_again(struct tower_pcm_socket *socket);
/* Put the next frame into the router, where there is room, of the whole frames of the one on air,
 * of the outgoing one, or both. */
void tower_pcm_socket_deliver(struct tower_pcm_socket *socket, bool takes_on_air,
                              bool takes_outgoing);
void tower_pcm_socket_note_gate(struct tower_pcm_socket *socket);

/* ---- pcm_socket.c ---- */

struct tower_producer_info tower_pcm_socket_info(struct tower_pcm_socket *socket,
                                                 const struct tower_ingest_producer *producer);
/* Show in the statistics what the table holds, in the order they came. */
void tower_pcm_socket_publish(struct tower_pcm_socket *socket);

#endif
