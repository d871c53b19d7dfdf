/* unix_listener.h - a listening Unix stream socket at a path, and the care the path needs. */
#ifndef TOWER_INGEST_UNIX_LISTENER_H
#define TOWER_INGEST_UNIX_LISTENER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

struct tower_unix_listener {
    int fd; /* non-blocking, CLOEXEC */
    struct sockaddr_un address;
    dev_t device; /* of the socket file, so that only our own is ever removed */
    ino_t inode;
    bool is_borrowed; /* socket and file are somebody else's to close and remove */
};

/* Make the socket file with mode 0660 and listen. Its folder is made where it is missing (one
 * level, 0755). A socket file that nobody listens on is replaced. Blocks for the kernel only.
 * Errors: as tower_pcm_socket_new(). */
int tower_unix_listener_init(struct tower_unix_listener *listener, const char *path);

/* Use a socket that listens already; it and its file stay when this is done. Errors: as
 * tower_pcm_socket_new() says of `listen_fd`. */
int tower_unix_listener_borrow(struct tower_unix_listener *listener, int fd);

/* Close, and remove the file if it is still this one; but not what is borrowed. */
void tower_unix_listener_done(struct tower_unix_listener *listener);

#endif
