/* response.c - answers. */
#include "response.h"

#include "tower/version.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tower_response_phrase(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Payload Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

/* Append to the header; one that does not fit leaves head_bytes at the size of the buffer. */
static void append(struct tower_response *response, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void append(struct tower_response *response, const char *format, ...) {
    size_t room = sizeof response->head - response->head_bytes;
    if (room == 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(response->head + response->head_bytes, room, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= room)
        response->head_bytes = sizeof response->head;
    else
        response->head_bytes += (size_t)n;
}

static void append_status(struct tower_response *response, int status,
                          const struct tower_response_options *options) {
    append(response, "HTTP/1.%u %d %s\r\n", options->minor_version == 0 ? 0U : 1U, status,
           tower_response_phrase(status));
    if (options->names_server)
        append(response, "Server: tower/%s\r\n", tower_version());
}

static void append_rest(struct tower_response *response,
                        const struct tower_response_options *options) {
    if (options->allows_any_origin)
        append(response, "Access-Control-Allow-Origin: *\r\n");
    append(response, "%s\r\n", options->extra ? options->extra : "");
}

int tower_response_make(struct tower_response *response, int status, const char *content_type,
                        char *body, size_t body_bytes,
                        const struct tower_response_options *options) {
    tower_response_done(response);
    if (!body)
        return -ENOMEM;
    append_status(response, status, options);
    append(response,
           "Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\nContent-Length: %zu\r\n"
           "Cache-Control: %s\r\nConnection: %s\r\n",
           content_type, body_bytes, options->cache_control ? options->cache_control : "no-store",
           options->keeps_alive ? "keep-alive" : "close");
    append_rest(response, options);
    if (response->head_bytes == sizeof response->head) {
        free(body);
        response->head_bytes = 0;
        return -ENOSPC;
    }
    response->next = options->keeps_alive ? TOWER_RESPONSE_KEEP_ALIVE : TOWER_RESPONSE_CLOSE;
    if (options->is_head) {
        free(body);
    } else {
        response->body = body;
        response->body_bytes = body_bytes;
    }
    return 0;
}

int tower_response_make_text(struct tower_response *response, int status,
                             const struct tower_response_options *options, const char *format,
                             ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int n = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (n < 0)
        return -ENOMEM;
    return tower_response_make(response, status, "text/plain; charset=utf-8", text, (size_t)n,
                               options);
}

int tower_response_make_empty(struct tower_response *response, int status,
                              const struct tower_response_options *options) {
    tower_response_done(response);
    append_status(response, status, options);
    append(response, "Connection: %s\r\n", options->keeps_alive ? "keep-alive" : "close");
    append_rest(response, options);
    if (response->head_bytes == sizeof response->head) {
        response->head_bytes = 0;
        return -ENOSPC;
    }
    response->next = options->keeps_alive ? TOWER_RESPONSE_KEEP_ALIVE : TOWER_RESPONSE_CLOSE;
    return 0;
}

int tower_response_make_endless(struct tower_response *response, const char *content_type,
                                enum tower_response_next next,
                                const struct tower_response_options *options) {
    tower_response_done(response);
    append_status(response, 200, options);
    /* A proxy that gathers what it passes on (nginx does) would hold it back. */
    append(response,
           "Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\n"
           "Cache-Control: no-cache, no-store\r\nX-Accel-Buffering: no\r\n"
           "Accept-Ranges: none\r\nConnection: close\r\n",
           content_type);
    append_rest(response, options);
    if (response->head_bytes == sizeof response->head) {
        response->head_bytes = 0;
        return -ENOSPC;
    }
    response->next = options->is_head ? TOWER_RESPONSE_CLOSE : next;
    return 0;
}

void tower_response_make_source(struct tower_response *response, const char *name,
                                bool awaits_continue) {
    tower_response_done(response);
    append(response, "%sHTTP/1.0 200 OK\r\n\r\n",
           awaits_continue ? "HTTP/1.1 100 Continue\r\n\r\n" : "");
    memcpy(response->source, name, strnlen(name, sizeof response->source - 1) + 1);
    response->next = TOWER_RESPONSE_SOURCE;
}

void tower_response_done(struct tower_response *response) {
    free(response->body);
    response->body = NULL;
    response->body_bytes = 0;
    response->head_bytes = 0;
    response->sent_bytes = 0;
    response->next = TOWER_RESPONSE_CLOSE;
    response->has_titles = false;
    response->hold_ns = 0;
}
