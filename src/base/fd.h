/* fd.h - small things done to descriptors. */
#ifndef TOWER_BASE_FD_H
#define TOWER_BASE_FD_H

/* Close `*fd` if it is open, and set it to -1. errno is kept. */
void tower_fd_close(int *fd);

/* Errors: a negative errno. */
int tower_fd_set_nonblocking(int fd);

/* Make a listening socket that somebody else has opened non-blocking and CLOEXEC.
 * Errors: -EBADF, -ENOTSOCK, -EINVAL (it is no stream socket, or does not listen). */
int tower_fd_borrow_listener(int fd);

/* A non-blocking CLOEXEC eventfd, or a negative errno. */
int tower_eventfd_new(void);

/* Wake whoever polls the eventfd. Never blocks: a counter that is full is wake enough. Any thread,
 * the pump too. */
void tower_eventfd_signal(int fd);

/* Take the eventfd's count back to 0. */
void tower_eventfd_drain(int fd);

#endif
