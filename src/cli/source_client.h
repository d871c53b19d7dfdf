/* source_client.h - one client that sends a programme over HTTP, made a producer.
 *
 * What the client sends is freed of its chunks, decoded and written to the transmitter's PCM
 * socket. One thread, which polls; nothing in it waits for the client.
 */
#ifndef TOWER_CLI_SOURCE_CLIENT_H
#define TOWER_CLI_SOURCE_CLIENT_H

#include "clock_match.h"
#include "tower/clock.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct tower_source_client_config {
    struct tower_clock *clock;
    const char *name;         /* the producer's, see tower/producer_identity.h */
    const char *label;        /* what the client calls it; NULL: nothing */
    const char *socket;       /* path of the transmitter's PCM socket */
    const char *content_type; /* of what the client sends */
    const char *ffmpeg;       /* the program */
    bool is_chunked;
    uint64_t length; /* of the body, if it is not in chunks; 0: it is not known */
    int client_fd;   /* stays the caller's; made non-blocking */
    int begun_fd;    /* a file with what has been read of the body already; -1: none */
    /* Set by a signal: end now. */
    const volatile sig_atomic_t *is_interrupted;
};

/* Why it ended. */
enum tower_source_client_end {
    TOWER_SOURCE_CLIENT_HUNG_UP,
    TOWER_SOURCE_CLIENT_BODY_END, /* the last chunk came, or as much as was announced */
    TOWER_SOURCE_CLIENT_SILENT,   /* nothing came for 10 s */
    TOWER_SOURCE_CLIENT_INTERRUPTED,
    TOWER_SOURCE_CLIENT_BAD_BODY,    /* these are no chunks */
    TOWER_SOURCE_CLIENT_NO_SOUND,    /* what it sent could not be decoded */
    TOWER_SOURCE_CLIENT_TRANSMITTER, /* it went away */
};

struct tower_source_client_result {
    enum tower_source_client_end end;
    char why[200];                       /* in words */
    int64_t ns;                          /* from the beginning to the end */
    uint64_t bytes;                      /* that came from the client */
    uint64_t samples;                    /* a channel, written */
    uint64_t dropped;                    /* samples that the transmitter took too long for */
    uint32_t titles;                     /* given on, its own and those the transmitter sent */
    uint32_t decoder_starts;             /* anew, after a failure */
    struct tower_clock_match_view clock; /* the client's */
};

/* Serve the client to its end. Blocks for as long as that is. Errors, before anything was begun:
 * those of tower_producer_connect(); -ENOTSUP (the content type is not understood), -ENOMEM, -EBADF
 * (no client, or `begun_fd` is no file). */
int tower_source_client_run(const struct tower_source_client_config *config,
                            struct tower_source_client_result *ret_result);

#endif
