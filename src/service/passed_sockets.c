/* passed_sockets.c - socket activation. */
#include "passed_sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Where they begin, always. */
#define FIRST_FD 3
#define FDS_MAX (TOWER_HTTP_LISTEN_FDS_MAX + 1)
#define EXPECTED "expected sockets that listen: TCP for HTTP, one Unix stream socket for PCM"

struct error_text {
    char *text;
    size_t bytes;
};

__attribute__((format(printf, 2, 3))) static int fail(struct error_text error, const char *format,
                                                      ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error.text, error.bytes, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* ---- the environment ---- */

/* A whole number from 0 on, or -EINVAL. */
static int read_number(const char *text) {
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || number > INT_MAX)
        return -EINVAL;
    return (int)number;
}

/* How many descriptors are ours, or -EINVAL. */
static int read_count(struct error_text error) {
    const char *count = getenv("LISTEN_FDS"), *whose = getenv("LISTEN_PID");
    if (!count || !whose)
        return 0;
    int pid = read_number(whose), n = read_number(count);
    if (pid < 0 || n < 0)
        return fail(error, "%s: expected a number", pid < 0 ? "LISTEN_PID" : "LISTEN_FDS");
    if (pid != getpid())
        return 0;
    if (n > FDS_MAX)
        return fail(error, "LISTEN_FDS=%d: at most %d sockets can be passed: " EXPECTED, n,
                    FDS_MAX);
    return n;
}

/* ---- the sockets ---- */

static int take_one(int fd, int n, struct tower_service_sockets *sockets, struct error_text error) {
    int family = 0, type = 0, listens = 0;
    socklen_t bytes = sizeof family;
    bool is_socket = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) == 0;
    bytes = sizeof type;
    is_socket = is_socket && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0;
    bytes = sizeof listens;
    if (is_socket && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0)
        listens = 0;
    bool is_inet = family == AF_INET || family == AF_INET6;
    const char *what = NULL;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        what = "is not open";
    else if (!is_socket)
        what = "is no socket";
    else if (type != SOCK_STREAM || (!is_inet && family != AF_UNIX))
        what = "is neither a TCP nor a Unix stream socket";
    else if (!listens)
        what = "does not listen";
    else if (is_inet && sockets->n_http_fds == TOWER_HTTP_LISTEN_FDS_MAX)
        what = "is one TCP socket too many";
    else if (!is_inet && sockets->pcm_fd >= 0)
        what = "is a second Unix socket";
    if (what)
        return fail(error, "LISTEN_FDS=%d: descriptor %d %s: " EXPECTED, n, fd, what);
    if (is_inet)
        sockets->http_fds[sockets->n_http_fds++] = fd;
    else
        sockets->pcm_fd = fd;
    return 0;
}

int tower_passed_sockets_take(struct tower_service_sockets *ret_sockets, char *error,
                              size_t error_bytes) {
    struct tower_service_sockets taken = TOWER_SERVICE_SOCKETS_NONE;
    struct error_text text = {error, error_bytes};
    int n = read_count(text);
    int result = n < 0 ? n : 0;
    for (int i = 0; i < n && result == 0; i++)
        result = take_one(FIRST_FD + i, n, &taken, text);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
    if (result == 0)
        *ret_sockets = taken;
    return result;
}

/* ---- where they listen ---- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

/* The numeric address and the port; "" and 0 where the kernel does not say. */
static uint16_t read_tcp_address(int fd, char ret_host[INET6_ADDRSTRLEN]) {
    union address address = {.any.sa_family = AF_UNSPEC};
    socklen_t bytes = sizeof address;
    ret_host[0] = '\0';
    if (getsockname(fd, &address.any, &bytes) < 0)
        return 0;
    if (address.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address.v6.sin6_addr, ret_host, INET6_ADDRSTRLEN);
        return ntohs(address.v6.sin6_port);
    }
    (void)inet_ntop(AF_INET, &address.v4.sin_addr, ret_host, INET6_ADDRSTRLEN);
    return ntohs(address.v4.sin_port);
}

/* The path; '@' and the name of an abstract socket. */
static void read_path(int fd, char ret_path[sizeof((struct sockaddr_un *)0)->sun_path + 1]) {
    union address address = {.any.sa_family = AF_UNSPEC};
    socklen_t bytes = sizeof address;
    size_t length = 0;
    if (getsockname(fd, &address.any, &bytes) == 0 &&
        bytes > offsetof(struct sockaddr_un, sun_path))
        length = bytes - offsetof(struct sockaddr_un, sun_path);
    memcpy(ret_path, address.local.sun_path, length);
    ret_path[length] = '\0';
    if (length > 0 && ret_path[0] == '\0')
        ret_path[0] = '@';
}

void tower_passed_sockets_apply(const struct tower_service_sockets *sockets,
                                struct tower_config *config) {
    char host[INET6_ADDRSTRLEN], path[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    if (sockets->n_http_fds > 0) {
        config->port = read_tcp_address(sockets->http_fds[0], host);
        (void)snprintf(config->host, sizeof config->host, "%s", host);
    }
    if (sockets->pcm_fd >= 0) {
        read_path(sockets->pcm_fd, path);
        (void)snprintf(config->socket_path, sizeof config->socket_path, "%s", path);
    }
}

void tower_passed_sockets_print(const struct tower_service_sockets *sockets, FILE *out) {
    char host[INET6_ADDRSTRLEN], path[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    for (size_t i = 0; i < sockets->n_http_fds; i++) {
        uint16_t port = read_tcp_address(sockets->http_fds[i], host);
        (void)fprintf(out, strchr(host, ':') ? "; [%s]:%u" : "; %s:%u", host, (unsigned)port);
        (void)fputs(" was passed on already listening, and takes the place of host and port\n",
                    out);
    }
    if (sockets->pcm_fd < 0)
        return;
    read_path(sockets->pcm_fd, path);
    (void)fprintf(out, "; %s was passed on already listening, and takes the place of socket\n",
                  path);
}
