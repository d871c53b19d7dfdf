/* source_children.h - the processes that source clients are handed to.
 *
 * Each is `tower source-client`, a producer like any other: it outlives the process that started
 * it. What is known here is only for as long as the PCM socket does not know of it.
 */
#ifndef TOWER_HTTP_SOURCE_CHILDREN_H
#define TOWER_HTTP_SOURCE_CHILDREN_H

#include "tower/pcm_socket.h"
#include "tower/titles.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Source clients at once. */
#define TOWER_SOURCES_MAX 8
/* More than there may be sources: of some that have ended it is not known yet. */
#define TOWER_SOURCE_CHILDREN_MAX (2 * TOWER_SOURCES_MAX)

struct tower_source_child {
    pid_t pid; /* 0: the place is free */
    char name[TOWER_PRODUCER_NAME_BYTES];
    int64_t started_ns;
    bool has_appeared;                     /* the PCM socket has shown it */
    char title[TOWER_TITLE_BYTES_MAX + 1]; /* to be sent once it has; "": none */
};

/* Owned by the control thread. Begins as all zeros. */
struct tower_source_children {
    struct tower_source_child all[TOWER_SOURCE_CHILDREN_MAX];
};

/* What a child is started with. */
struct tower_source_start {
    const char *program;
    const char *name;
    const char *label; /* what the client calls itself; "": nothing */
    const char *socket_path;
    const char *content_type;
    const char *ffmpeg;
    bool is_chunked;
    uint64_t length;  /* of all of its body; 0: that was not said */
    int fd;           /* the client; stays the caller's */
    const void *body; /* of it, read already */
    size_t body_bytes;
};

/* Start a process for a client: the client is its stdin, a memory file with `body` its descriptor
 * 3, stderr is ours, and nothing else is open. It has a process group of its own, the default
 * signals, our environment without the variable that bears a password, and is not ended with us.
 * Blocks until the program has been found and loaded, some milliseconds. Errors: -ENOSPC (no place
 * in the table), what spawning says (-ENOENT, -EACCES, -EAGAIN, -ENOMEM), -EMFILE. */
int tower_source_children_start(struct tower_source_children *children,
                                const struct tower_source_start *start, int64_t now_ns);

/* Reap those that have ended, and note which of them are in `producers`. Never waits. */
void tower_source_children_look(struct tower_source_children *children,
                                const struct tower_pcm_socket_stats *producers);

/* The child by that name which was started within the last 20 s, runs, and has not appeared; NULL:
 * there is none. `name` NULL: any. */
struct tower_source_child *tower_source_children_find(struct tower_source_children *children,
                                                      const char *name, int64_t now_ns);

/* Source clients there are: those in `producers`, and those that have not appeared yet. */
size_t tower_source_children_count(const struct tower_source_children *children,
                                   const struct tower_pcm_socket_stats *producers, int64_t now_ns);

/* Is one called that in `producers`? */
bool tower_sources_have(const struct tower_pcm_socket_stats *producers, const char *name);

#endif
