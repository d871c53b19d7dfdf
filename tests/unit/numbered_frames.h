/* numbered_frames.h - frames that bear their number, and the other end of a listener's socket. */
#ifndef TOWER_TESTS_NUMBERED_FRAMES_H
#define TOWER_TESTS_NUMBERED_FRAMES_H

#include "../contracts/bounded_wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NUMBERED_BYTES_MIN 400
#define NUMBERED_BYTES_MAX 460
#define NUMBERED_HEAD_BYTES 8
#define RECEIVE_LIMIT_MS 30000

/* Frames differ in size, as those of 44.1 kHz do, so that boundaries are at odd places. */
static inline size_t numbered_bytes(uint32_t number) {
    return NUMBERED_BYTES_MIN + number * 7 % 61;
}

static inline uint8_t numbered_byte(uint32_t number, size_t place) {
    const uint8_t head[NUMBERED_HEAD_BYTES] = {0xff,
                                               0xfb,
                                               'T',
                                               'w',
                                               (uint8_t)number,
                                               (uint8_t)(number >> 8),
                                               (uint8_t)(number >> 16),
                                               (uint8_t)(number >> 24)};
    return place < NUMBERED_HEAD_BYTES ? head[place] : (uint8_t)((number * 31 + place * 7) & 0x7f);
}

static inline size_t numbered_fill(uint32_t number, uint8_t frame[NUMBERED_BYTES_MAX]) {
    for (size_t i = 0; i < numbered_bytes(number); i++)
        frame[i] = numbered_byte(number, i);
    return numbered_bytes(number);
}

/* What a listener makes of the bytes it gets: frames that begin at a boundary and have no gap. */
struct numbered_reader {
    bool has_begun;
    uint32_t first;   /* number of the first frame */
    uint32_t next;    /* number of the frame it is in, or about to be */
    size_t place;     /* in that frame */
    size_t n_bytes;   /* taken so far */
    bool is_broken;   /* a byte was not the one due */
    uint8_t start[8]; /* until it has begun */
};

static inline void numbered_reader_take(struct numbered_reader *reader, const uint8_t *data,
                                        size_t bytes) {
    for (size_t i = 0; i < bytes; i++, reader->n_bytes++) {
        if (!reader->has_begun) {
            reader->start[reader->n_bytes] = data[i];
            if (reader->n_bytes == NUMBERED_HEAD_BYTES - 1) {
                const uint8_t *s = reader->start;
                reader->has_begun = true;
                reader->first = (uint32_t)s[4] | (uint32_t)s[5] << 8 | (uint32_t)s[6] << 16 |
                                (uint32_t)s[7] << 24;
                reader->next = reader->first;
                reader->place = NUMBERED_HEAD_BYTES;
                for (size_t k = 0; k < NUMBERED_HEAD_BYTES; k++)
                    reader->is_broken |= s[k] != numbered_byte(reader->first, k);
            }
            continue;
        }
        if (reader->place == numbered_bytes(reader->next)) {
            reader->next++;
            reader->place = 0;
        }
        reader->is_broken |= data[i] != numbered_byte(reader->next, reader->place);
        reader->place++;
    }
}

/* Frame `number` has come, to its last byte. */
static inline bool numbered_reader_has(const struct numbered_reader *reader, uint32_t number) {
    return reader->has_begun &&
           (reader->next > number ||
            (reader->next == number && reader->place == numbered_bytes(number)));
}

/* A connected pair over TCP on loopback; the server's end is non-blocking. With `small`, both have
 * buffers of a few KiB. False if that was not possible. */
static inline bool tcp_pair(bool small, int *ret_server, int *ret_client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int bytes = 4096;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int server = -1;
    if (small)
        (void)setsockopt(client, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
        connect(client, (struct sockaddr *)&address, size) == 0)
        server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    close(listener);
    if (server < 0) {
        close(client);
        return false;
    }
    if (small)
        (void)setsockopt(server, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    *ret_server = server;
    *ret_client = client;
    return true;
}

/* Read once, after waiting up to 30 s. Returns what recv() does; -1 with ETIMEDOUT. */
static inline ssize_t receive(int fd, void *data, size_t bytes) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int n;
    do
        n = poll(&poll_fd, 1, RECEIVE_LIMIT_MS);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        errno = ETIMEDOUT;
    return n <= 0 ? -1 : recv(fd, data, bytes, MSG_DONTWAIT);
}

/* Read on until frame `number` has come, the stream is broken, or nothing comes for 30 s. */
static inline bool receive_frame(int fd, struct numbered_reader *reader, uint32_t number) {
    uint8_t data[4096];
    while (!numbered_reader_has(reader, number) && !reader->is_broken) {
        ssize_t n = receive(fd, data, sizeof data);
        if (n <= 0)
            return false;
        numbered_reader_take(reader, data, (size_t)n);
    }
    return !reader->is_broken;
}

#endif
