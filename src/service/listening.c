/* listening.c - the sockets that listen. */
#include "listening.h"

#include "fd.h"
#include "tcp_listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int fail(char *error, size_t error_bytes, const struct tower_config *config, const char *key,
                int number, const char *advice) {
    char setting[TOWER_CONFIG_PATH_BYTES + 128];
    tower_config_describe(config, key, setting, sizeof setting);
    (void)snprintf(
        error, error_bytes, "%s: %s; %s", setting,
        number == -ENOENT && strcmp(key, "host") == 0 ? "no such host" : strerror(-number), advice);
    return number;
}

static const char *socket_advice(int error) {
    switch (error) {
    case -EADDRINUSE:
        return "another transmitter listens there: stop it, or choose another path with --socket";
    case -ENOTSOCK:
        return "a file that is no socket is there: remove it, or choose another path with --socket";
    case -ENAMETOOLONG:
        return "a socket path has at most 107 bytes: choose a shorter one with --socket";
    default:
        return "choose a path that can be written with --socket";
    }
}

static int open_pcm(struct tower_listening *listening, const struct tower_config *config,
                    char *error, size_t error_bytes) {
    int result = tower_unix_listener_init(&listening->pcm, config->socket_path);
    if (result < 0)
        return fail(error, error_bytes, config, "socket", result, socket_advice(result));
    listening->sockets.pcm_fd = listening->pcm.fd;
    listening->pcm_is_ours = true;
    return 0;
}

static int open_http(struct tower_listening *listening, const struct tower_config *config,
                     char *error, size_t error_bytes) {
    struct tower_tcp_listener listener;
    int result = tower_tcp_listener_init(&listener, config->host, config->port);
    if (result == -EADDRINUSE || result == -EACCES)
        return fail(error, error_bytes, config, "port", result,
                    "something else listens there or it is not ours: choose another --port");
    if (result < 0)
        return fail(error, error_bytes, config, "host", result,
                    "choose an address of this machine with --host");
    listening->sockets.http_fds[0] = listener.fds[0];
    listening->sockets.n_http_fds = 1;
    listening->http_is_ours = true;
    (void)snprintf(listening->http_host, sizeof listening->http_host, "%s", config->host);
    listening->http_port = config->port;
    return 0;
}

int tower_listening_open(struct tower_listening *listening, const struct tower_config *config,
                         char *error, size_t error_bytes) {
    struct tower_listening opened = *listening;
    int result = 0;
    if (opened.sockets.pcm_fd < 0)
        result = open_pcm(&opened, config, error, error_bytes);
    if (result == 0 && opened.sockets.n_http_fds == 0)
        result = open_http(&opened, config, error, error_bytes);
    if (result < 0) {
        tower_listening_close(&opened, listening);
        return result;
    }
    *listening = opened;
    return 0;
}

int tower_listening_change(const struct tower_listening *before, const struct tower_config *config,
                           struct tower_listening *ret_listening, char *error, size_t error_bytes) {
    struct tower_listening now = *before;
    if (before->pcm_is_ours && strcmp(before->pcm.address.sun_path, config->socket_path) != 0) {
        now.sockets.pcm_fd = now.pcm.fd = -1;
        now.pcm_is_ours = false;
    }
    if (before->http_is_ours &&
        (before->http_port != config->port || strcmp(before->http_host, config->host) != 0)) {
        now.sockets.n_http_fds = 0;
        now.http_is_ours = false;
    }
    int result = tower_listening_open(&now, config, error, error_bytes);
    if (result == 0)
        *ret_listening = now;
    return result;
}

void tower_listening_close(struct tower_listening *listening, const struct tower_listening *but) {
    bool keeps_pcm = but && but->sockets.pcm_fd == listening->sockets.pcm_fd;
    bool keeps_http = but && but->sockets.n_http_fds > 0 &&
                      but->sockets.http_fds[0] == listening->sockets.http_fds[0];
    if (listening->pcm_is_ours && !keeps_pcm)
        tower_unix_listener_done(&listening->pcm);
    if (listening->http_is_ours && !keeps_http && listening->sockets.n_http_fds > 0)
        tower_fd_close(&listening->sockets.http_fds[0]);
    *listening = (struct tower_listening)TOWER_LISTENING_NONE;
}
