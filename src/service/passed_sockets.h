/* passed_sockets.h - sockets that whoever started the program opened for it: sd_listen_fds(3). */
#ifndef TOWER_SERVICE_PASSED_SOCKETS_H
#define TOWER_SERVICE_PASSED_SOCKETS_H

#include "tower/config.h"
#include "tower/service.h"

/* Take the descriptors that LISTEN_FDS counts, if LISTEN_PID is this process; make them CLOEXEC,
 * and unset the variables, so that no child takes them for its own. Each is known by its kind: TCP
 * sockets are for HTTP, a Unix stream socket is for PCM. Before any other descriptor is opened and
 * any thread is made. They are the caller's to close. Errors: -EINVAL with one line for a person in
 * `error`: which one is something else, does not listen, or is one too many. */
int tower_passed_sockets_take(struct tower_service_sockets *ret_sockets, char *error,
                              size_t error_bytes);

/* Put into `config` where the sockets listen, as far as there are any: what its host, port and
 * socket path say has no effect then. */
void tower_passed_sockets_apply(const struct tower_service_sockets *sockets,
                                struct tower_config *config);

/* Print a comment line for each socket: where it listens, and which settings it stands for. */
void tower_passed_sockets_print(const struct tower_service_sockets *sockets, FILE *out);

#endif
