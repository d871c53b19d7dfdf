/* feed_options.h - the command line of `tower feed`. */
#ifndef TOWER_CLI_FEED_OPTIONS_H
#define TOWER_CLI_FEED_OPTIONS_H

#include "tower/producer_identity.h"
#include "tower/source.h"

#include <stdbool.h>
#include <sys/un.h>

enum tower_feed_kind {
    TOWER_FEED_MOCK,
    TOWER_FEED_FILE,
    TOWER_FEED_PLAYLIST,
    TOWER_FEED_STDIN,
    TOWER_FEED_MIC
};

struct tower_feed_options {
    enum tower_feed_kind kind;
    enum tower_mock_content content; /* of the mock */
    const char *path;                /* of the file or playlist */
    const char *device;              /* of the microphone; NULL: the default */
    bool lists_devices;              /* instead of anything else */
    const char *name;                /* of the source, for messages */
    struct tower_producer_identity identity;
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    bool is_looped;
    bool is_paced;
    bool is_shuffled;     /* of a playlist, and so are these: */
    uint64_t seed;        /* of the shuffling */
    int64_t crossfade_ns; /* 0: none */
    bool is_levelled;
    double target_lufs;
    uint32_t rate_hz;  /* of the mock, of stdin and of the microphone */
    unsigned channels; /* of the mock, of stdin and of the microphone */
    uint32_t frame_samples;
    bool sends_title;
    const char *title; /* UTF-8; NULL: what the file says */
};

/* Read the command line; `ret_options` points into it. Returns -1 to go on, else the exit code: 0
 * if --help was printed to stdout, 2 if one line on stderr said what is wrong. Uses getopt: one
 * thread at a time. */
int tower_feed_options_read(struct tower_feed_options *ret_options, int argc, char **argv);

#endif
