/* http_body.c - undoes the chunks of a request's body, and finds its end. */
#include "http_body.h"

#include <errno.h>

/* More digits than this say more than anybody sends, and would overflow soon. */
#define DIGITS_MAX 15

void tower_http_body_init(struct tower_http_body *body, bool is_chunked, uint64_t length) {
    bool has_length = !is_chunked && length > 0;
    *body = (struct tower_http_body){.is_chunked = is_chunked,
                                     .has_length = has_length,
                                     .chunk_bytes = has_length ? length : 0,
                                     .place = TOWER_HTTP_BODY_SIZE};
}

static int digit_of(uint8_t byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

static int expect(struct tower_http_body *body, uint8_t byte, uint8_t expected,
                  enum tower_http_body_place next) {
    if (byte != expected)
        return -EBADMSG;
    body->place = next;
    return 0;
}

static int take_size(struct tower_http_body *body, uint8_t byte) {
    int digit = digit_of(byte);
    if (digit >= 0) {
        /* Zeros in front are no size. */
        if (body->chunk_bytes > 0 && ++body->n_digits >= DIGITS_MAX)
            return -EMSGSIZE;
        body->chunk_bytes = body->chunk_bytes << 4 | (uint64_t)digit;
        return 0;
    }
    if (body->line_bytes == 1)
        return -EBADMSG;
    if (byte == '\r')
        body->place = TOWER_HTTP_BODY_SIZE_LF;
    else if (byte == ';' || byte == ' ' || byte == '\t')
        body->place = TOWER_HTTP_BODY_EXTENSION;
    else
        return -EBADMSG;
    return 0;
}

static int take_size_end(struct tower_http_body *body, uint8_t byte) {
    if (byte != '\n')
        return -EBADMSG;
    body->line_bytes = 0;
    body->n_digits = 0;
    body->place = body->chunk_bytes > 0 ? TOWER_HTTP_BODY_DATA : TOWER_HTTP_BODY_TRAILER;
    return 0;
}

/* A byte that is not of the content. */
static int take_byte(struct tower_http_body *body, uint8_t byte) {
    bool is_line = body->place != TOWER_HTTP_BODY_DATA_CR && body->place != TOWER_HTTP_BODY_DATA_LF;
    if (is_line && ++body->line_bytes > TOWER_HTTP_BODY_LINE_BYTES_MAX)
        return -EMSGSIZE;
    switch (body->place) {
    case TOWER_HTTP_BODY_SIZE:
        return take_size(body, byte);
    case TOWER_HTTP_BODY_EXTENSION:
        if (byte == '\r')
            body->place = TOWER_HTTP_BODY_SIZE_LF;
        else if (byte == '\n')
            return -EBADMSG;
        return 0;
    case TOWER_HTTP_BODY_SIZE_LF:
        return take_size_end(body, byte);
    case TOWER_HTTP_BODY_DATA_CR:
        return expect(body, byte, '\r', TOWER_HTTP_BODY_DATA_LF);
    case TOWER_HTTP_BODY_DATA_LF:
        return expect(body, byte, '\n', TOWER_HTTP_BODY_SIZE);
    case TOWER_HTTP_BODY_TRAILER:
        body->place = byte == '\r' ? TOWER_HTTP_BODY_LAST_LF : TOWER_HTTP_BODY_TRAILER_TEXT;
        return byte == '\n' ? -EBADMSG : 0;
    case TOWER_HTTP_BODY_TRAILER_TEXT:
        if (byte == '\n')
            body->place = TOWER_HTTP_BODY_TRAILER;
        return 0;
    case TOWER_HTTP_BODY_LAST_LF:
        return expect(body, byte, '\n', TOWER_HTTP_BODY_END);
    case TOWER_HTTP_BODY_DATA:
    case TOWER_HTTP_BODY_END:
        break;
    }
    return 0;
}

int tower_http_body_take(struct tower_http_body *body, const uint8_t **at, size_t *left,
                         const uint8_t **ret_content, size_t *ret_bytes) {
    while (*left > 0 && body->place != TOWER_HTTP_BODY_END) {
        if (!body->is_chunked || body->place == TOWER_HTTP_BODY_DATA) {
            bool has_end = body->is_chunked || body->has_length;
            size_t bytes = *left;
            if (has_end && bytes > body->chunk_bytes)
                bytes = (size_t)body->chunk_bytes;
            *ret_content = *at;
            *ret_bytes = bytes;
            *at += bytes;
            *left -= bytes;
            if (has_end)
                body->chunk_bytes -= bytes;
            if (has_end && body->chunk_bytes == 0)
                body->place = body->has_length ? TOWER_HTTP_BODY_END : TOWER_HTTP_BODY_DATA_CR;
            return 1;
        }
        int error = take_byte(body, **at);
        if (error < 0)
            return error;
        ++*at;
        --*left;
    }
    return 0;
}
