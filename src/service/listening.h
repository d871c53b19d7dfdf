/* listening.h - the sockets that listen, opened by the process that stays: what comes while there
 * is no worker waits in them for the next.
 */
#ifndef TOWER_SERVICE_LISTENING_H
#define TOWER_SERVICE_LISTENING_H

#include "tower/config.h"
#include "tower/service.h"
#include "unix_listener.h"

/* Plain data: can lie in a region. */
struct tower_listening {
    struct tower_service_sockets sockets;
    /* Those that are not were passed to us, and are never closed. */
    bool http_is_ours;
    bool pcm_is_ours;
    struct tower_unix_listener pcm; /* where it is ours */
    /* What ours was opened for, as it was asked: a name, or port 0, is not what it has. */
    char http_host[256];
    uint16_t http_port;
};

#define TOWER_LISTENING_NONE                                                                       \
    {                                                                                              \
        .sockets = TOWER_SERVICE_SOCKETS_NONE, .pcm = {.fd = -1 }                                  \
    }

/* Open what `config` asks for, as far as there is none yet. Errors: a negative errno with one line
 * in `error`; `listening` is as it was. */
int tower_listening_open(struct tower_listening *listening, const struct tower_config *config,
                         char *error, size_t error_bytes);

/* As tower_listening_open(), for another configuration than the one that `before` was opened for:
 * what stays the same is the same socket in both. */
int tower_listening_change(const struct tower_listening *before, const struct tower_config *config,
                           struct tower_listening *ret_listening, char *error, size_t error_bytes);

/* Close what is ours and is not in `but` too (NULL: nothing is), and remove its file. */
void tower_listening_close(struct tower_listening *listening, const struct tower_listening *but);

#endif
