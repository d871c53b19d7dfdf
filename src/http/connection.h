/* connection.h - one client's connection: what it sends becomes requests, what we answer bytes. */
#ifndef TOWER_HTTP_CONNECTION_H
#define TOWER_HTTP_CONNECTION_H

#include "request.h"
#include "response.h"

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum tower_connection_state {
    TOWER_CONNECTION_READING,   /* a request is awaited, or part of it is there */
    TOWER_CONNECTION_HELD,      /* its answer is ready, and held back */
    TOWER_CONNECTION_ANSWERING, /* nothing is read until the answer has gone out */
    TOWER_CONNECTION_EVENTS,    /* gets events, with nothing more to ask */
    TOWER_CONNECTION_LINGERING, /* answered and shut; reads on until the client closes too */
};

/* Owned by the control thread. */
struct tower_connection {
    int fd; /* -1: the place is free */
    uint32_t generation;
    uint32_t next_free;
    uint32_t watched; /* events that epoll looks for */
    enum tower_connection_state state;
    int64_t deadline_ns; /* of what the state is about */
    uint64_t n_requests; /* answered so far */
    size_t discarded_bytes;
    bool has_missed_events;

    struct sockaddr_storage peer, local;
    http_parser parser;
    struct tower_request request;
    char field_name[24];            /* of the header line being read, cut */
    enum tower_request_field field; /* that it fills; TOWER_REQUEST_FIELD_COUNT: none */
    bool is_in_value;
    bool is_field_cut;    /* its value is longer than there is room for */
    bool awaits_continue; /* the client sends the body once it is told to (RFC 9110 10.1.1) */
    bool has_headers;     /* the header of this request is whole */
    bool is_complete;     /* and its body */
    size_t header_bytes;  /* of this request, so far */
    size_t input_start, input_end; /* what is in `input` and not yet parsed */
    char input[TOWER_HTTP_HEADER_BYTES_MAX];

    struct tower_response response;
};

/* Begin with a connected, non-blocking socket, which the connection owns from now on. */
void tower_connection_open(struct tower_connection *connection, int fd);
/* Close the socket, if it is still ours, and let go of the response. */
void tower_connection_close(struct tower_connection *connection);
/* Give the socket away: returns it, and closes the connection without it. */
int tower_connection_release(struct tower_connection *connection);

/* Has the client begun a request that is not whole yet? */
bool tower_connection_is_mid_request(const struct tower_connection *connection);

/* Look for a request in what was read. Returns 1 with connection->request filled in, be it
 * well-formed or refused (then nothing more can be read from here); 0 if more must be read. */
int tower_connection_next_request(struct tower_connection *connection);
/* Forget the request, after its answer; what the client sent behind it is kept. */
void tower_connection_reset_request(struct tower_connection *connection);

/* Read once. Returns the bytes, 0 at the end of input. Errors: -EAGAIN, or what broke. */
ssize_t tower_connection_read(struct tower_connection *connection);
/* Read and forget. As above. */
ssize_t tower_connection_discard(struct tower_connection *connection);

/* Send what is left of the response. Returns 1 when all is sent, 0 if the socket is full. Errors:
 * what broke. */
int tower_connection_write(struct tower_connection *connection);

#endif
