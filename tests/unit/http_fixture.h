/* http_fixture.h - as much of an HTTP client as a test of the server needs. */
#ifndef TOWER_TESTS_HTTP_FIXTURE_H
#define TOWER_TESTS_HTTP_FIXTURE_H

#include "numbered_frames.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_HEAD_BYTES 2048
#define ANSWER_BODY_BYTES 65536

struct answer {
    int status; /* 0: none came */
    char head[ANSWER_HEAD_BYTES];
    char body[ANSWER_BODY_BYTES];
    size_t body_bytes;
};

/* A socket connected to the server, or -1. */
static inline int http_connect(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline bool http_send(int fd, const char *text) {
    size_t bytes = strlen(text);
    return send(fd, text, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

/* The value of a header line, up to its end; NULL where there is none. `name` with its colon. */
static inline const char *http_header(const struct answer *answer, const char *name) {
    const char *line = answer->head;
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (strncasecmp(line, name, strlen(name)) == 0)
            return line + strlen(name) + strspn(line + strlen(name), " ");
    }
    return NULL;
}

static inline bool http_header_is(const struct answer *answer, const char *name,
                                  const char *value) {
    const char *found = http_header(answer, name);
    return found && strncmp(found, value, strlen(value)) == 0 &&
           strncmp(found + strlen(value), "\r\n", 2) == 0;
}

/* Read a header up to its empty line, byte by byte so that nothing behind it is taken. */
static inline bool http_read_head(int fd, struct answer *answer) {
    size_t n = 0;
    memset(answer, 0, sizeof *answer);
    while (n < ANSWER_HEAD_BYTES - 1) {
        if (receive(fd, answer->head + n, 1) != 1)
            return false;
        n++;
        if (n >= 4 && memcmp(answer->head + n - 4, "\r\n\r\n", 4) == 0)
            return sscanf(answer->head, "HTTP/1.%*1d %d ", &answer->status) == 1;
    }
    return false;
}

static inline bool http_read_body(int fd, struct answer *answer, size_t bytes) {
    while (answer->body_bytes < bytes && answer->body_bytes < ANSWER_BODY_BYTES - 1) {
        ssize_t n = receive(fd, answer->body + answer->body_bytes, bytes - answer->body_bytes);
        if (n <= 0)
            return false;
        answer->body_bytes += (size_t)n;
    }
    return true;
}

/* Read a whole answer with a Content-Length. */
static inline bool http_read_answer(int fd, struct answer *answer, bool is_head) {
    if (!http_read_head(fd, answer))
        return false;
    const char *length = http_header(answer, "Content-Length:");
    return length && (is_head || http_read_body(fd, answer, (size_t)strtoul(length, NULL, 10)));
}

/* The server has closed in order, with nothing more to say. */
static inline bool http_is_at_end(int fd) {
    char byte;
    return receive(fd, &byte, 1) == 0;
}

#endif
