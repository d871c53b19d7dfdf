/* tcp_listener.h - the TCP socket that clients connect to. */
#ifndef TOWER_HTTP_TCP_LISTENER_H
#define TOWER_HTTP_TCP_LISTENER_H

#include <stdint.h>

/* Make a non-blocking socket that listens on `host` (a numeric IPv4 or IPv6 address, or a name,
 * whose first address that can be had is taken; "::" is everybody, IPv4 too) and `port` (0: any
 * free one, which `ret_port` says). It is the caller's to close. A name may take time to look up.
 * Errors: as those of tower_http_server_new(). */
int tower_tcp_listen(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port);

#endif
