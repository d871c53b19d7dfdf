/* service.h - TowerService: builds every part, starts and stops them in order, owns the state. */
#ifndef TOWER_SERVICE_H
#define TOWER_SERVICE_H

#include "tower/config.h"
#include "tower/http_server.h"
#include "tower/journal.h"
#include "tower/status.h"

struct tower_service;

/* Sockets that listen already, to be used in place of those that the settings `host`, `port` and
 * `socket` ask for. */
struct tower_service_sockets {
    int http_fds[TOWER_HTTP_LISTEN_FDS_MAX];
    size_t n_http_fds; /* 0: none */
    int pcm_fd;        /* -1: none */
};

#define TOWER_SERVICE_SOCKETS_NONE                                                                 \
    { .pcm_fd = -1 }

/* Build everything and start nothing: memory, encoders, sockets. Whatever can be wrong with the
 * settings or the machine is found here. `sockets` (NULL: none) are borrowed until free and stay
 * open. Errors: a negative errno with one line in `error`. */
int tower_service_new(const struct tower_config *config,
                      const struct tower_service_sockets *sockets, struct tower_clock *clock,
                      struct tower_service **ret_service, char *error, size_t error_bytes);
void tower_service_free(struct tower_service *service);

/* Start, in this order: journal, fan-out, encoders, pump, ingest, HTTP (A0). Errors: as above; what
 * had been started is stopped again. */
int tower_service_start(struct tower_service *service, char *error, size_t error_bytes);

/* Stop in the reverse order: no new listeners, no new audio, the last frames encoded and sent.
 * Returns 0 if that took no more than 2 s, else -ETIMEDOUT; either way it is stopped. */
int tower_service_stop(struct tower_service *service);

/* The port in use. */
uint16_t tower_service_port(const struct tower_service *service);

/* The journal of incidents, for who has one to add. */
struct tower_journal *tower_service_journal(struct tower_service *service);

/* The state now; `user` is the service. Any thread but the pump's and the fan-out's. */
void tower_service_get_status(void *user, struct tower_status *ret_status);

#endif
