/* wire_bytes.c - how many bytes a connection has taken, as the kernel counts. */
#include "wire_bytes.h"

#include <errno.h>
#include <linux/sockios.h>
/* Not <netinet/tcp.h>: its struct is from before the bytes were counted. */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Each is some microseconds, and what is under way is acknowledged in no more steps than these. */
#define TRIES 10000

static int get_acknowledged(int fd, uint64_t *ret_bytes) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked)
        return -EOPNOTSUPP;
    *ret_bytes = info.tcpi_bytes_acked;
    return 0;
}

int tower_wire_bytes(int fd, uint64_t *ret_bytes) {
    uint64_t before = 0, after = 0;
    int queued = 0;
    int error = get_acknowledged(fd, &before);
    for (int i = 0; error == 0 && i < TRIES; i++, before = after) {
        if (ioctl(fd, SIOCOUTQ, &queued) < 0 || queued < 0)
            return -EOPNOTSUPP;
        /* What is acknowledged between the two questions would be counted twice, or not at all. */
        error = get_acknowledged(fd, &after);
        if (error == 0 && after == before) {
            *ret_bytes = after + (uint64_t)queued;
            return 0;
        }
    }
    return error < 0 ? error : -EBUSY;
}
