/* http_body.h - the body of an HTTP request as it comes: as it is, with a length or without, or in
 * chunks (RFC 9112, 7.1). */
#ifndef TOWER_SOURCE_HTTP_BODY_H
#define TOWER_SOURCE_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a line that holds a chunk's size, with its extensions, and of all trailers together. */
#define TOWER_HTTP_BODY_LINE_BYTES_MAX 4096

enum tower_http_body_place {
    TOWER_HTTP_BODY_SIZE, /* of a chunk: its digits */
    TOWER_HTTP_BODY_EXTENSION,
    TOWER_HTTP_BODY_SIZE_LF, /* the line feed behind the carriage return */
    TOWER_HTTP_BODY_DATA,
    TOWER_HTTP_BODY_DATA_CR,
    TOWER_HTTP_BODY_DATA_LF,
    TOWER_HTTP_BODY_TRAILER, /* at the start of a line */
    TOWER_HTTP_BODY_TRAILER_TEXT,
    TOWER_HTTP_BODY_LAST_LF,
    TOWER_HTTP_BODY_END,
};

/* Owned by one thread. */
struct tower_http_body {
    bool is_chunked; /* constant */
    enum tower_http_body_place place;
    bool has_length;      /* constant: not in chunks, and as long as was said */
    uint64_t chunk_bytes; /* still to come of this chunk, or of the body that has a length */
    unsigned n_digits;
    size_t line_bytes; /* of this line, or of the trailers, so far */
};

/* `length`: of a body that is not in chunks; 0: it was not said. */
void tower_http_body_init(struct tower_http_body *body, bool is_chunked, uint64_t length);

/* Take some of the `*left` bytes at `*at`, which are moved on. Returns 1 and, in what was taken, a
 * run of the content: never none. 0: all was taken, no (more) content is in it, or the body is at
 * its end, which `place` then says; what is behind it is not taken. Errors: -EBADMSG (these are no
 * chunks), -EMSGSIZE (a chunk of 2^60 bytes, or TOWER_HTTP_BODY_LINE_BYTES_MAX), of which no more
 * is to be taken. Pure. */
int tower_http_body_take(struct tower_http_body *body, const uint8_t **at, size_t *left,
                         const uint8_t **ret_content, size_t *ret_bytes);

#endif
