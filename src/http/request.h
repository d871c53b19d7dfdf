/* request.h - what a client asks for. */
#ifndef TOWER_HTTP_REQUEST_H
#define TOWER_HTTP_REQUEST_H

#include "source_users.h"

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Bounds on what a client may send; beyond them it is refused with 431, 414 and 413. */
#define TOWER_HTTP_HEADER_BYTES_MAX 8192
#define TOWER_HTTP_TARGET_BYTES_MAX 2048
#define TOWER_HTTP_BODY_BYTES_MAX 8192
/* Of a header field whose value is kept. */
#define TOWER_HTTP_FIELD_BYTES_MAX 512

/* The header fields that make a difference to an answer. */
enum tower_request_field {
    TOWER_REQUEST_HOST,
    TOWER_REQUEST_AUTHORIZATION,
    TOWER_REQUEST_EXPECT,
    TOWER_REQUEST_CONTENT_TYPE,
    TOWER_REQUEST_ICE_NAME,
    TOWER_REQUEST_ICY_METADATA,
    TOWER_REQUEST_FORWARDED_HOST,  /* X-Forwarded-Host */
    TOWER_REQUEST_FORWARDED_PROTO, /* X-Forwarded-Proto */
    TOWER_REQUEST_FIELD_COUNT,
};

/* Owned by the control thread. */
struct tower_request {
    int refusal; /* 0: well-formed; else the status that says why not, such as 400 */
    const char *reason;
    unsigned method; /* enum http_method; GET until the header is whole */
    unsigned minor_version;
    bool keeps_alive;             /* the client would send another one */
    bool is_chunked;              /* the body comes in chunks (RFC 9112 7.1) */
    uint64_t length;              /* of the body, where that is said; else 0 */
    const struct sockaddr *peer;  /* who asks */
    const struct sockaddr *local; /* of us, as the client reached it */
    char target[TOWER_HTTP_TARGET_BYTES_MAX + 1];
    size_t target_bytes;
    /* "" where it was not sent, or is too long to mean anything. */
    char fields[TOWER_REQUEST_FIELD_COUNT][TOWER_HTTP_FIELD_BYTES_MAX];
    char body[TOWER_HTTP_BODY_BYTES_MAX]; /* of POST; that of PUT and SOURCE is left where it is */
    size_t body_bytes;
};

/* The field that the header line called `name` fills; TOWER_REQUEST_FIELD_COUNT for any other. */
enum tower_request_field tower_request_find_field(const char *name);

/* The path in the target, be that "/stream?x=1" or "http://host/stream"; "" for none. Borrowed from
 * the request, and not ended by a NUL. */
void tower_request_path(const struct tower_request *request, const char **ret_path,
                        size_t *ret_bytes);

/* Write the value of `key` in the query, with %XX and + undone, to `ret_value` with a NUL behind.
 * Returns its bytes. Errors: -ENOENT (not there), -EINVAL (a % without two digits, or a NUL),
 * -ENOSPC (longer than `value_bytes` - 1). */
int tower_request_query(const struct tower_request *request, const char *key, char *ret_value,
                        size_t value_bytes);

/* A name and a password, as HTTP's Basic scheme has them (RFC 7617). */
struct tower_request_login {
    unsigned char bytes[TOWER_HTTP_FIELD_BYTES_MAX];
    struct tower_credentials given; /* borrowed from `bytes` */
};

/* Returns false if the request bears none that can be read. */
bool tower_request_login(const struct tower_request *request,
                         struct tower_request_login *ret_login);

/* Write the address by which the client reaches this server, without a slash at its end:
 * `public_url` if that is not "", else what it asked for, else the address it came to. */
void tower_request_base_url(const struct tower_request *request, const char *public_url,
                            char *ret_url, size_t url_bytes);

#endif
