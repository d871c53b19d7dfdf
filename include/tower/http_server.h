/* http_server.h - the control loop: takes connections, answers requests, hands streams over.
 *
 * One thread and one epoll. A request for the stream gets its header here and then belongs to a
 * fan-out worker; everything else is answered here, from read-only views but for titles and who is
 * on air.
 */
#ifndef TOWER_HTTP_SERVER_H
#define TOWER_HTTP_SERVER_H

#include "tower/addresses.h"
#include "tower/air.h"
#include "tower/clock.h"
#include "tower/fanout.h"
#include "tower/journal.h"
#include "tower/status.h"
#include "tower/taps.h"
#include "tower/titles.h"

#include <netinet/in.h>
#include <stddef.h>

#define TOWER_HTTP_LISTEN_FDS_MAX 16

struct tower_http_server;
struct tower_source_users; /* src/http/source_users.h */

/* Source clients, who send sound over HTTP. Borrowed. */
struct tower_http_sources {
    const struct tower_source_users *users; /* who may; NULL: nobody */
    const char *program;                    /* this one, to be run as `tower source-client` */
    const char *socket_path;                /* of the PCM socket */
    const char *ffmpeg;
    /* Can that content type be decoded? Pure. */
    bool (*knows_type)(const char *content_type);
    /* Send a title to the source client of that name; called on the server's thread; `user` is the
     * server's. Errors: -ENOENT (there is none), -EAGAIN (it does not read), -EINVAL (not UTF-8).
     * NULL: there is no way to. */
    int (*send_title)(void *user, const char *name, const char *text);
};

struct tower_http_server_config {
    struct tower_clock *clock;
    const char *host; /* numeric IPv4 or IPv6 address, or a name */
    uint16_t port;    /* 0: any free one */
    /* TCP sockets that listen already, used in place of one for `host` and `port` where there are
     * any: borrowed until free, never closed, made non-blocking and CLOEXEC. */
    const int *listen_fds;
    size_t n_listen_fds; /* at most TOWER_HTTP_LISTEN_FDS_MAX */
    struct tower_air *air;
    struct tower_fanout *const *fanouts; /* borrowed, as the array is */
    size_t n_fanouts;
    uint64_t burst_frames;             /* a new listener starts this far back */
    uint32_t client_buffer_bytes;      /* SO_SNDBUF of a listener; 0: the kernel's choice */
    struct tower_titles *titles;       /* NULL: nobody sets or hears titles */
    struct tower_addresses *addresses; /* NULL: an address may have any number of listeners */
    struct tower_journal *journal;     /* NULL: there is none to show */
    struct tower_taps *taps;           /* NULL: nobody taps */
    struct tower_station station;
    const char *public_url;    /* where clients reach this server; "": as they ask */
    const char *password;      /* to set titles and say who is on air; "": nobody may */
    int64_t wrong_password_ns; /* its answer is held back so long, and longer for each further one
                                  from that address; 0: not at all */
    struct tower_http_sources sources;
    uint32_t bitrate_bps;       /* of the stream */
    bool names_server;          /* say in each answer which program this is */
    uint32_t max_connections;   /* requests read or answered at once; 1 to 65536 */
    int64_t request_timeout_ns; /* for a whole request to come, and between two of them */
    /* Put the producer of that name, or "#ID", on air; "": by rank again. Called on this thread.
     * NULL: there is none. Errors: -ENOENT (none such is connected), -EAGAIN (it has nothing to
     * play). */
    int (*choose_producer)(void *user, const char *name);
    /* Fills in the state of the transmitter; called on this thread. */
    void (*get_status)(void *user, struct tower_status *ret_status);
    void *user;
};

/* Bind and listen; nobody is answered yet. Errors: -EADDRINUSE, -EADDRNOTAVAIL, -EACCES,
 * -ENOENT (no such host), -EINVAL (also: one of `listen_fds` does not listen for TCP), -EBADF,
 * -ENOTSOCK (it is closed, it is no socket), -ENOMEM, -EMFILE. */
int tower_http_server_new(const struct tower_http_server_config *config,
                          struct tower_http_server **ret_server);
void tower_http_server_free(struct tower_http_server *server);

/* The port it listens on, the first if there are several. */
uint16_t tower_http_server_port(const struct tower_http_server *server);

/* Listeners turned away since the start: because every place was taken, and because there were too
 * many from their address. Any thread; no lock. */
void tower_http_server_get_refused(const struct tower_http_server *server, uint64_t *ret_places,
                                   uint64_t *ret_address);

/* Errors: -EALREADY, -EAGAIN (no thread). */
int tower_http_server_start(struct tower_http_server *server);

/* Take no more connections, finish the answers under way (at most 200 ms), end the thread. */
void tower_http_server_stop(struct tower_http_server *server);

#endif
