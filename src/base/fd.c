/* fd.c - small things done to descriptors. */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

void tower_fd_close(int *fd) {
    if (*fd < 0)
        return;
    int saved = errno;
    (void)close(*fd);
    errno = saved;
    *fd = -1;
}

int tower_fd_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

int tower_fd_borrow_listener(int fd) {
    int type = 0, listens = 0;
    socklen_t bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0)
        return -errno;
    bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0)
        return -errno;
    if (type != SOCK_STREAM || !listens)
        return -EINVAL;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return tower_fd_set_nonblocking(fd);
}

int tower_eventfd_new(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void tower_eventfd_signal(int fd) {
    uint64_t one = 1;
    /* The only failure of a non-blocking eventfd is a full counter, and that wakes as well. */
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

void tower_eventfd_drain(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}
