/* unix_listener.c - a listening Unix stream socket at a path. */
#include "unix_listener.h"

#include "fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 16
#define MODE 0660

/* Make the folder that `path` lies in, if it is missing. */
static int make_folder(const char *path) {
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return 0;
    *slash = '\0';
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}

/* Does somebody listen at `address`? 1, 0, or a negative errno where that can't be told. */
static int is_live(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int result = 1;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        if (errno == ECONNREFUSED)
            result = 0;
        else if (errno != EAGAIN) /* EAGAIN: its backlog is full, so it lives */
            result = -errno;
    }
    tower_fd_close(&fd);
    return result;
}

/* Remove what a dead transmitter left at the path. */
static int clear_path(const struct sockaddr_un *address) {
    struct stat status;
    if (lstat(address->sun_path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -ENOTSOCK;
    int live = is_live(address);
    if (live < 0)
        return live;
    if (live)
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Bind and listen. The mode is set before anybody can connect. */
static int bind_and_listen(struct tower_unix_listener *listener) {
    struct sockaddr_un *address = &listener->address;
    struct stat status;
    if (bind(listener->fd, (struct sockaddr *)address, sizeof *address) < 0)
        return -errno;
    if (stat(address->sun_path, &status) < 0)
        return -errno;
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    if (chmod(address->sun_path, MODE) < 0 || listen(listener->fd, BACKLOG) < 0) {
        int error = -errno;
        (void)unlink(address->sun_path);
        return error;
    }
    return 0;
}

int tower_unix_listener_init(struct tower_unix_listener *listener, const char *path) {
    struct tower_unix_listener made = {.fd = -1, .address = {.sun_family = AF_UNIX}};
    size_t length = strlen(path);
    if (length == 0)
        return -EINVAL;
    if (length >= sizeof made.address.sun_path)
        return -ENAMETOOLONG;
    memcpy(made.address.sun_path, path, length + 1);
    int error = make_folder(path);
    if (error == 0)
        error = clear_path(&made.address);
    if (error < 0)
        return error;
    made.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made.fd < 0)
        return -errno;
    error = bind_and_listen(&made);
    if (error < 0) {
        tower_fd_close(&made.fd);
        return error;
    }
    *listener = made;
    return 0;
}

int tower_unix_listener_borrow(struct tower_unix_listener *listener, int fd) {
    struct tower_unix_listener made = {.fd = fd, .is_borrowed = true};
    socklen_t bytes = sizeof made.address;
    int error = tower_fd_borrow_listener(fd);
    if (error < 0)
        return error;
    if (getsockname(fd, (struct sockaddr *)&made.address, &bytes) < 0)
        return -errno;
    if (made.address.sun_family != AF_UNIX)
        return -EINVAL;
    *listener = made;
    return 0;
}

void tower_unix_listener_done(struct tower_unix_listener *listener) {
    struct stat status;
    if (listener->is_borrowed)
        listener->fd = -1;
    if (listener->fd < 0)
        return;
    if (lstat(listener->address.sun_path, &status) == 0 && status.st_dev == listener->device &&
        status.st_ino == listener->inode)
        (void)unlink(listener->address.sun_path);
    tower_fd_close(&listener->fd);
}
