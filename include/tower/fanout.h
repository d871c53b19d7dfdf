/* fanout.h - a fan-out worker: sends a mount's air to its listeners.
 *
 * One thread, one epoll, its own listener table; as many workers as one likes share an air ring.
 * Waits for no listener: one whose socket is full is left until it has room.
 */
#ifndef TOWER_FANOUT_H
#define TOWER_FANOUT_H

#include "tower/addresses.h"
#include "tower/air.h"
#include "tower/clock.h"
#include "tower/histogram.h"
#include "tower/listener.h"
#include "tower/titles.h"

#include <stdbool.h>

/* Bytes of stream between two metadata blocks, for listeners who want titles. */
#define TOWER_ICY_METAINT 16000
/* A listener who is overrun is moved nearer the present so many times, without having caught up
 * meanwhile; the next time it is dropped. */
#define TOWER_FANOUT_SKIPS_MAX 4
/* So many listeners that come one behind the other go to one worker, and there into one group. The
 * kernel keeps their sockets side by side, and sending to them in turn costs less. */
#define TOWER_FANOUT_RUN 16

struct tower_fanout;

struct tower_fanout_config {
    struct tower_clock *clock;
    struct tower_air *air;
    struct tower_titles *titles;       /* of that air; NULL: it has none */
    struct tower_addresses *addresses; /* left by listeners that end; NULL: nobody counts */
    uint32_t max_listeners;            /* places in the table, 1 to 1048576 */
    int64_t client_timeout_ns;         /* without progress; then dropped */
    uint64_t burst_frames;             /* how far back a listener is put who was overrun */
    /* Listeners are spread over so many groups, and one group is served at each frame: 1 is the
     * least delay, more are fewer sends. 0: as many as the number of listeners asks for. */
    uint32_t phase_groups; /* 0 to 255 */
};

struct tower_fanout_stats {
    uint64_t listeners;    /* now */
    uint64_t blocked;      /* of them: whose socket is full */
    uint64_t with_titles;  /* of them: who get titles */
    uint64_t capacity;     /* places in the table */
    uint32_t phase_groups; /* now */
    uint64_t listeners_peak;
    uint64_t accepted; /* since the start */
    uint64_t refused;  /* the table was full */
    uint64_t ended[TOWER_LISTENER_END_COUNT];
    uint64_t skips;      /* moves nearer the present */
    uint64_t sent_bytes; /* of stream */
    uint64_t sends;      /* send calls */
    /* Of every send call, with what it took to get from the one before to it. */
    struct tower_histogram_snapshot send_time;
};

/* What is handed over with tower_fanout_add(). */
struct tower_fanout_listener {
    int fd;            /* connected, non-blocking, with its response header sent */
    uint64_t cursor;   /* byte of the stream it begins with */
    uint8_t mount;     /* kept for it */
    bool wants_titles; /* a metadata block follows each TOWER_ICY_METAINT bytes of stream */
    uint32_t address;  /* its place in the addresses, or TOWER_ADDRESS_NONE */
};

/* Registers itself as a waker of `air`: before the air's writer starts; freed after it has ended.
 * Errors: -EINVAL, -ENOMEM, -EMFILE, -ENOSPC (too many workers on this air). */
int tower_fanout_new(const struct tower_fanout_config *config, struct tower_fanout **ret_fanout);
void tower_fanout_free(struct tower_fanout *fanout);

/* Of the region its listeners lie in: for the next process, see tower/heritage.h. Stays the
 * fan-out's. */
int tower_fanout_table_fd(const struct tower_fanout *fanout);

/* Errors: -EALREADY (it was started before), -EAGAIN (no thread). */
int tower_fanout_start(struct tower_fanout *fanout);

/* Send every listener what is on air up to now, waiting at most `drain_ns` in all for those whose
 * sockets are full, shut their connections down in order (up to 100 ms more for the clients to
 * answer), close them, end the thread. Returns how many listeners were cut short, 0 if none was or
 * if it does not run. A worker that was stopped cannot be started again. */
int tower_fanout_stop(struct tower_fanout *fanout, int64_t drain_ns);

/* Take `listener` over: it gets the stream from its cursor on. On success the socket belongs to the
 * worker, and so does the place in the addresses, which it leaves when the listener ends. Any
 * thread; a short lock. Errors: -ENOSPC (no place left), -ESHUTDOWN (not running): both stay the
 * caller's. */
int tower_fanout_add(struct tower_fanout *fanout, const struct tower_fanout_listener *listener);

/* Any thread, no lock. */
void tower_fanout_get_stats(const struct tower_fanout *fanout,
                            struct tower_fanout_stats *ret_stats);

#endif
