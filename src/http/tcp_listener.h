/* tcp_listener.h - the TCP sockets that clients connect to: one of our own, or those we were given.
 */
#ifndef TOWER_HTTP_TCP_LISTENER_H
#define TOWER_HTTP_TCP_LISTENER_H

#include "tower/http_server.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tower_tcp_listener {
    int fds[TOWER_HTTP_LISTEN_FDS_MAX]; /* non-blocking, CLOEXEC */
    size_t n_fds;
    size_t next;      /* asked first for a connection */
    bool is_borrowed; /* they are somebody else's to close */
    uint16_t port;    /* of the first */
};

/* Make a socket that listens on `host` (a numeric IPv4 or IPv6 address, or a name, whose first
 * address that can be had is taken; "::" is everybody, IPv4 too) and `port` (0: any free one). A
 * name may take time to look up. Errors: as those of tower_http_server_new(). */
int tower_tcp_listener_init(struct tower_tcp_listener *listener, const char *host, uint16_t port);

/* Use sockets that listen already; they stay open when this is done. Errors: -EINVAL (none, or more
 * than TOWER_HTTP_LISTEN_FDS_MAX, or one does not listen for TCP), -EBADF, -ENOTSOCK. */
int tower_tcp_listener_borrow(struct tower_tcp_listener *listener, const int *fds, size_t n_fds);

/* Closes what is its own. */
void tower_tcp_listener_done(struct tower_tcp_listener *listener);

/* epoll_ctl() for each of the sockets. Errors: its own; the sockets before that one are done. */
int tower_tcp_listener_watch(const struct tower_tcp_listener *listener, int epoll_fd, int operation,
                             uint32_t events, uint64_t token);

/* The next connection (non-blocking, CLOEXEC), the sockets in turn; -EAGAIN if nobody waits at any,
 * or whatever else accept4() says. */
int tower_tcp_listener_accept(struct tower_tcp_listener *listener);

#endif
