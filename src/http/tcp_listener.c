/* tcp_listener.c - the TCP sockets that clients connect to. */
#include "tcp_listener.h"

#include "fd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
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

/* The port of a socket, or a negative errno; -EINVAL if it is not of TCP. */
static int port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof bound;
    if (getsockname(fd, &bound.any, &size) < 0)
        return -errno;
    switch (bound.any.sa_family) {
    case AF_INET:
        return ntohs(bound.v4.sin_port);
    case AF_INET6:
        return ntohs(bound.v6.sin6_port);
    default:
        return -EINVAL;
    }
}

int tower_tcp_listener_init(struct tower_tcp_listener *listener, const char *host, uint16_t port) {
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
    int bound = port_of(fd);
    if (bound < 0) {
        tower_fd_close(&fd);
        return bound;
    }
    *listener = (struct tower_tcp_listener){.fds = {fd}, .n_fds = 1, .port = (uint16_t)bound};
    return 0;
}

int tower_tcp_listener_borrow(struct tower_tcp_listener *listener, const int *fds, size_t n_fds) {
    struct tower_tcp_listener made = {.n_fds = n_fds, .is_borrowed = true};
    if (n_fds == 0 || n_fds > TOWER_HTTP_LISTEN_FDS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n_fds; i++) {
        int error = tower_fd_borrow_listener(fds[i]);
        int port = error < 0 ? error : port_of(fds[i]);
        if (port < 0)
            return port;
        made.fds[i] = fds[i];
        if (i == 0)
            made.port = (uint16_t)port;
    }
    *listener = made;
    return 0;
}

void tower_tcp_listener_done(struct tower_tcp_listener *listener) {
    for (size_t i = 0; i < listener->n_fds && !listener->is_borrowed; i++)
        tower_fd_close(&listener->fds[i]);
    listener->n_fds = 0;
}

int tower_tcp_listener_watch(const struct tower_tcp_listener *listener, int epoll_fd, int operation,
                             uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    for (size_t i = 0; i < listener->n_fds; i++) {
        if (epoll_ctl(epoll_fd, operation, listener->fds[i], &event) < 0)
            return -errno;
    }
    return 0;
}

int tower_tcp_listener_accept(struct tower_tcp_listener *listener) {
    for (size_t i = 0; i < listener->n_fds; i++) {
        size_t at = listener->next;
        listener->next = (at + 1) % listener->n_fds;
        int fd = accept4(listener->fds[at], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN)
            return -errno;
    }
    return -EAGAIN;
}
