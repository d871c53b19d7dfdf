/* response.h - an answer: its header and body as bytes to send. */
#ifndef TOWER_HTTP_RESPONSE_H
#define TOWER_HTTP_RESPONSE_H

#include "tower/producer_identity.h"
#include "tower/tap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_RESPONSE_HEAD_BYTES 4096

enum tower_response_next {
    TOWER_RESPONSE_KEEP_ALIVE, /* the next request may come */
    TOWER_RESPONSE_CLOSE,
    TOWER_RESPONSE_STREAM, /* the socket goes to a fan-out worker */
    TOWER_RESPONSE_EVENTS, /* events follow, without end */
    TOWER_RESPONSE_TAP,    /* the socket goes to the taps */
    TOWER_RESPONSE_SOURCE, /* and to a process of its own */
};

struct tower_response {
    enum tower_response_next next;
    bool has_titles;                        /* of a stream: with titles in it */
    struct tower_tap_format tap;            /* of a tap */
    char source[TOWER_PRODUCER_NAME_BYTES]; /* of a source client: its name as a producer */
    int64_t hold_ns;                        /* the answer is to be held back so long */
    char head[TOWER_RESPONSE_HEAD_BYTES];
    size_t head_bytes;
    char *body; /* on the heap; NULL: none */
    size_t body_bytes;
    size_t sent_bytes; /* of head and body together */
};

/* What kind of answer to make. */
struct tower_response_options {
    unsigned minor_version; /* of the client's HTTP/1.x */
    bool is_head;           /* asked with HEAD: the header alone */
    bool keeps_alive;
    bool allows_any_origin;    /* a page from anywhere may read it */
    bool names_server;         /* say which program this is */
    const char *cache_control; /* NULL: "no-store" */
    const char *extra;         /* further header lines, each with CRLF; NULL: none */
};

/* Make an answer with `body` of `body_bytes`, from malloc; it belongs to the response, also on
 * failure. Errors: -ENOMEM (body is NULL), -ENOSPC (the header does not fit). */
int tower_response_make(struct tower_response *response, int status, const char *content_type,
                        char *body, size_t body_bytes,
                        const struct tower_response_options *options);

/* The same with a line or more of plain text, made as by printf. */
int tower_response_make_text(struct tower_response *response, int status,
                             const struct tower_response_options *options, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* An answer without a body, as 204 is. Errors: -ENOSPC. */
int tower_response_make_empty(struct tower_response *response, int status,
                              const struct tower_response_options *options);

/* The header of an answer without an end: `next` says of what: STREAM, EVENTS or TAP. After HEAD
 * the connection is closed. Errors: -ENOSPC. */
int tower_response_make_endless(struct tower_response *response, const char *content_type,
                                enum tower_response_next next,
                                const struct tower_response_options *options);

/* The answer to a source client that may send: `name` is what it is called as a producer. As
 * Icecast has it, since clients look for no other: HTTP/1.0, at once, behind the nod that
 * `awaits_continue` says is waited for, and without a length: who sends a file would take it for
 * the end, and stop. */
void tower_response_make_source(struct tower_response *response, const char *name,
                                bool awaits_continue);

/* Free the body. Takes one that is all zeros. */
void tower_response_done(struct tower_response *response);

/* "Not Found" for 404; "Unknown" for a status that this program does not send. */
const char *tower_response_phrase(int status);

#endif
