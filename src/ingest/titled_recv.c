/* titled_recv.c - reads what a producer sent: bytes, and the title that may come along with them.
 */
#include "titled_recv.h"

#include "clock_wire.h"
#include "identity_wire.h"
#include "utf8.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel's SCM_MAX_FD: all that can come at once. What has no room here the kernel closes
 * itself, and may wait for it. */
#define DESCRIPTORS_MAX 253

/* Close somebody else's descriptor. A socket may have been told to linger. */
static void let_go(int fd) {
    const struct linger at_once = {.l_onoff = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)close(fd);
}

/* What a producer may enclose. */
struct enclosure {
    struct tower_incoming_title *title; /* NULL: it is not wanted */
    struct tower_incoming_clock *clock;
    struct tower_incoming_identity *identity;
};

/* Only memory can have seals. They are asked for first: that goes to no file system or device that
 * could keep us waiting, and nor does reading memory. */
static bool read_enclosed(int fd, const struct enclosure *into) {
    struct stat status;
    char text[TOWER_TITLE_BYTES_MAX + 1];
    struct tower_incoming_clock clock;
    struct tower_incoming_identity identity;
    if (fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    /* One byte more shows whether the last character is whole. Others may still write to it. */
    ssize_t n = pread(fd, text, sizeof text, 0);
    if (n < 0)
        return false;
    if (tower_clock_wire_read(text, (size_t)n, &clock.report)) {
        clock.is_there = true;
        if (into->clock)
            *into->clock = clock;
        return true;
    }
    if (tower_identity_wire_read(text, (size_t)n, &identity.identity)) {
        identity.is_there = true;
        if (into->identity)
            *into->identity = identity;
        return true;
    }
    size_t bytes = tower_utf8_cut(text, (size_t)n, TOWER_TITLE_BYTES_MAX);
    if (!tower_utf8_is_valid(text, bytes))
        return false;
    if (into->title) {
        memcpy(into->title->text, text, bytes);
        into->title->bytes = bytes;
        into->title->is_there = true;
    }
    return true;
}

/* recvmmsg() by `call` with `flags`; what came along is read and closed. */
static ssize_t receive(int fd, struct tower_recv_call *call, void *ret_data, size_t bytes,
                       int flags, const struct enclosure *into, bool *ret_is_bad) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct msghdr *message = &call->message.msg_hdr;
    call->piece = (struct iovec){.iov_base = ret_data, .iov_len = bytes};
    *message = (struct msghdr){.msg_iov = &call->piece,
                               .msg_iovlen = 1,
                               .msg_control = &control,
                               .msg_controllen = sizeof control};
    *ret_is_bad = false;
    if (recvmmsg(fd, &call->message, 1, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags, NULL) != 1)
        return -1;
    /* There were more than we can have open. */
    if (message->msg_flags & MSG_CTRUNC)
        *ret_is_bad = true;
    bool is_first = true;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int enclosed;
            memcpy(&enclosed, CMSG_DATA(header) + i * sizeof(int), sizeof enclosed);
            if (!is_first || !read_enclosed(enclosed, into))
                *ret_is_bad = true;
            is_first = false;
            let_go(enclosed);
        }
    }
    return (ssize_t)call->message.msg_len;
}

ssize_t tower_titled_recv(int fd, struct tower_recv_call *call, void *ret_data, size_t bytes,
                          struct tower_incoming_title *title, struct tower_incoming_clock *clock,
                          bool *ret_is_bad) {
    const struct enclosure into = {.title = title, .clock = clock};
    return receive(fd, call, ret_data, bytes, 0, &into, ret_is_bad);
}

ssize_t tower_titled_peek(int fd, struct tower_incoming_identity *identity) {
    struct tower_recv_call call = {.message.msg_len = 0};
    const struct enclosure into = {.identity = identity};
    bool is_bad;
    uint8_t byte;
    return receive(fd, &call, &byte, 1, MSG_PEEK, &into, &is_bad);
}
