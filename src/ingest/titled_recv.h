/* titled_recv.h - reads what a producer sent: bytes, and the title that may come along with them.
 */
#ifndef TOWER_INGEST_TITLED_RECV_H
#define TOWER_INGEST_TITLED_RECV_H

#include "tower/clock_report.h"
#include "tower/producer_identity.h"
#include "tower/titles.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/* A title on its way in. */
struct tower_incoming_title {
    bool is_there;
    size_t bytes;
    char text[TOWER_TITLE_BYTES_MAX + 1]; /* UTF-8, no terminator */
};

/* A call as the kernel sees it. How many bytes it gave stands in message.msg_len before it returns:
 * in shared memory it is there also when the process was killed in the call. */
struct tower_recv_call {
    struct mmsghdr message;
    struct iovec piece;
};

/* A clock report on its way in. */
struct tower_incoming_clock {
    bool is_there;
    struct tower_clock_report report;
};

/* Who a producer says it is, on its way in. */
struct tower_incoming_identity {
    bool is_there;
    struct tower_producer_identity identity;
};

/* As recv() without waiting, by `call`; message.msg_len is left alone where nothing was read. A
 * memory file that comes along is a title: its first TOWER_TITLE_BYTES_MAX bytes, cut at a
 * character, replace what is in `title`; or a clock report, which replaces `clock`; or an
 * identity, which is left to tower_titled_peek(). Whatever else comes along (a descriptor of
 * another kind, one that cannot be read, text that is not UTF-8, a second descriptor) leaves it as
 * it is and sets
 * `*ret_is_bad`. No descriptor stays open. Memory alone is looked into, and sockets are closed
 * without lingering, so nothing waits; but what a network or FUSE file system does when a file of
 * its own is closed is not in our hands. */
ssize_t tower_titled_recv(int fd, struct tower_recv_call *call, void *ret_data, size_t bytes,
                          struct tower_incoming_title *title, struct tower_incoming_clock *clock,
                          bool *ret_is_bad);

/* See who it is that sends: `identity` is replaced by what came with the next byte, if that is one.
 * Takes nothing away. Returns as recv() of one byte. What waits, and what is closed: as above. */
ssize_t tower_titled_peek(int fd, struct tower_incoming_identity *identity);

#endif
