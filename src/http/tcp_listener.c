/* tcp_listener.c - the TCP socket that clients connect to. */
#include "tcp_listener.h"

#include "fd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#define BACKLOG 4096

static int resolve(const char *host, uint16_t port, struct addrinfo **ret_list) {
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    switch (getaddrinfo(host, service, &hints, ret_list)) {
    case 0:
        return 0;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return errno == EMFILE || errno == ENFILE ? -EMFILE : -ENOENT;
    default:
        return -ENOENT;
    }
}

/* A socket that listens on `address`, or a negative errno. */
static int listen_on(const struct addrinfo *address) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int on = 1, off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* "::" means everybody, whatever the machine's default is. */
    if (address->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int error = -errno;
        tower_fd_close(&fd);
        return error;
    }
    return fd;
}

int tower_tcp_listen(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port) {
    struct addrinfo *list = NULL;
    int error = resolve(host, port, &list);
    if (error < 0)
        return error;
    int fd = -ENOENT;
    for (const struct addrinfo *address = list; address && fd < 0; address = address->ai_next)
        fd = listen_on(address);
    freeaddrinfo(list);
    if (fd < 0)
        return fd;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof bound;
    if (getsockname(fd, &bound.any, &size) < 0) {
        error = -errno;
        tower_fd_close(&fd);
        return error;
    }
    *ret_fd = fd;
    *ret_port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    return 0;
}
