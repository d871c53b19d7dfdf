/* producer.c - the producer's side of the PCM socket. */
#include "tower/producer.h"

#include "clock_wire.h"
#include "fd.h"
#include "identity_wire.h"
#include "tower/format.h"
#include "tower/titles.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_FOLDER "/run"
/* Twice that is what it has: what kernels allow by default. */
#define SEND_BYTES 212992
#define SOCKET_NAME "/tower/pcm.sock"

struct tower_producer {
    int fd;
    int identity_fd; /* a memory file that goes with the first byte, alone; -1: none */
    int title_fd;    /* a memory file that goes with the next byte; -1: none */
    int clock_fd;    /* the same; goes when there is no title */
    uint64_t written_bytes;
};

int tower_socket_path_default(char *ret_path, size_t path_bytes) {
    const char *folder = getenv("XDG_RUNTIME_DIR");
    /* The XDG specification has a relative path ignored. */
    if (!folder || *folder != '/')
        folder = DEFAULT_FOLDER;
    size_t length = strlen(folder) + strlen(SOCKET_NAME);
    if (length >= path_bytes || length >= sizeof((struct sockaddr_un *)0)->sun_path)
        return -ENAMETOOLONG;
    (void)snprintf(ret_path, path_bytes, "%s%s", folder, SOCKET_NAME);
    return 0;
}

static int fill_address(struct sockaddr_un *address, const char *path) {
    const char *variable = getenv("TOWER_SOCKET_PATH");
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!path && variable && *variable)
        path = variable;
    if (!path)
        return tower_socket_path_default(address->sun_path, sizeof address->sun_path);
    size_t length = strlen(path);
    if (length == 0)
        return -ENOENT;
    if (length >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length + 1);
    return 0;
}

int tower_producer_connect(const char *path, struct tower_producer **ret_producer) {
    struct sockaddr_un address;
    int error = fill_address(&address, path);
    if (error < 0)
        return error;
    struct tower_producer *producer = calloc(1, sizeof *producer);
    if (!producer)
        return -ENOMEM;
    producer->identity_fd = -1;
    producer->title_fd = -1;
    producer->clock_fd = -1;
    /* Not to wait in connect() where the listener's queue is full. */
    producer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (producer->fd < 0 ||
        connect(producer->fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        error = -errno;
        tower_fd_close(&producer->fd);
        free(producer);
        return error;
    }
    *ret_producer = producer;
    return 0;
}

/* Put it into a memory file that nobody can change, in place of what is in `*fd`. */
static int enclose(int *fd, const char *name, const void *bytes, size_t n_bytes) {
    int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0)
        return -errno;
    if (write(file, bytes, n_bytes) != (ssize_t)n_bytes) {
        tower_fd_close(&file);
        return -ENOMEM;
    }
    (void)fcntl(file, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    tower_fd_close(fd);
    *fd = file;
    return 0;
}

int tower_producer_set_clock(struct tower_producer *producer,
                             const struct tower_clock_report *report) {
    uint8_t bytes[TOWER_CLOCK_WIRE_BYTES];
    tower_clock_wire_write(report, bytes);
    return enclose(&producer->clock_fd, "tower-clock", bytes, sizeof bytes);
}

int tower_producer_set_identity(struct tower_producer *producer,
                                const struct tower_producer_identity *identity) {
    uint8_t bytes[TOWER_IDENTITY_WIRE_BYTES];
    const int send_bytes = SEND_BYTES;
    if (!memchr(identity->name, '\0', sizeof identity->name) ||
        !tower_identity_name_is_valid(identity->name) ||
        !memchr(identity->label, '\0', sizeof identity->label) ||
        !tower_identity_label_is_valid(identity->label))
        return -EINVAL;
    if (producer->written_bytes > 0)
        return -EALREADY;
    tower_identity_wire_write(identity, bytes);
    int error = enclose(&producer->identity_fd, "tower-identity", bytes, sizeof bytes);
    if (error == 0)
        (void)setsockopt(producer->fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
    return error;
}

int tower_producer_set_title(struct tower_producer *producer, const char *text) {
    size_t bytes = strlen(text);
    if (!tower_utf8_is_valid(text, bytes))
        return -EINVAL;
    bytes = tower_utf8_cut(text, bytes, TOWER_TITLE_BYTES_MAX);
    return enclose(&producer->title_fd, "tower-title", text, bytes);
}

/* Send some of it, together with what is in `*enclosed`. Returns as send() does. */
static ssize_t send_with(struct tower_producer *producer, int *enclosed, const uint8_t *bytes,
                         size_t n_bytes) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), enclosed, sizeof(int));
    ssize_t n = sendmsg(producer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == ETOOMANYREFS) {
        /* The sound is what matters. */
        tower_fd_close(enclosed);
        return send(producer->fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (n > 0)
        tower_fd_close(enclosed);
    return n;
}

static ssize_t send_some(struct tower_producer *producer, const uint8_t *bytes, size_t n_bytes) {
    /* A byte of its own, so that a title has the next one. */
    if (producer->identity_fd >= 0)
        return send_with(producer, &producer->identity_fd, bytes, 1);
    if (producer->title_fd >= 0)
        return send_with(producer, &producer->title_fd, bytes, n_bytes);
    if (producer->clock_fd >= 0)
        return send_with(producer, &producer->clock_fd, bytes, n_bytes);
    return send(producer->fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Send all of it, waiting for room. Returns 0 or the error; what was sent is counted either way. */
static int send_all(struct tower_producer *producer, const uint8_t *bytes, size_t n_bytes) {
    while (n_bytes > 0) {
        ssize_t n = send_some(producer, bytes, n_bytes);
        if (n >= 0) {
            bytes += n;
            n_bytes -= (size_t)n;
            producer->written_bytes += (uint64_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return -errno;
        struct pollfd writable = {.fd = producer->fd, .events = POLLOUT};
        if (poll(&writable, 1, -1) < 0)
            return -errno;
    }
    return 0;
}

int tower_producer_write(struct tower_producer *producer, const int16_t *samples,
                         size_t n_samples) {
    /* A signal may have come in the middle of a sample, which is the first one now. */
    size_t done_bytes = producer->written_bytes % TOWER_SAMPLE_BYTES;
    if (n_samples == 0)
        return 0;
    return send_all(producer, (const uint8_t *)samples + done_bytes,
                    n_samples * TOWER_SAMPLE_BYTES - done_bytes);
}

uint64_t tower_producer_written(const struct tower_producer *producer) {
    return producer->written_bytes / TOWER_SAMPLE_BYTES;
}

int tower_producer_fd(const struct tower_producer *producer) {
    return producer->fd;
}

static void pad(struct tower_producer *producer, uint64_t frame_bytes) {
    static const uint8_t silence[TOWER_FRAME_BYTES_MAX];
    uint64_t over_bytes = producer->written_bytes % frame_bytes;
    uint64_t left_bytes = over_bytes > 0 ? frame_bytes - over_bytes : 0;
    while (left_bytes > 0) {
        size_t n = left_bytes < sizeof silence ? (size_t)left_bytes : sizeof silence;
        if (send_all(producer, silence, n) < 0)
            return;
        left_bytes -= n;
    }
}

void tower_producer_close(struct tower_producer *producer, uint32_t frame_samples) {
    if (!producer)
        return;
    /* What pads the end is not what the title was for. */
    tower_fd_close(&producer->identity_fd);
    tower_fd_close(&producer->title_fd);
    tower_fd_close(&producer->clock_fd);
    if (frame_samples > 0)
        pad(producer, (uint64_t)frame_samples * TOWER_SAMPLE_BYTES);
    tower_fd_close(&producer->fd);
    free(producer);
}
