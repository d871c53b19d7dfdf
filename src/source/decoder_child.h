/* decoder_child.h - an ffmpeg child that decodes a file to PCM on its stdout. */
#ifndef TOWER_SOURCE_DECODER_CHILD_H
#define TOWER_SOURCE_DECODER_CHILD_H

#include "child.h"
#include "tower/clock.h"

#include <stddef.h>
#include <sys/types.h>

/* Owned by the thread that started it, and ends with that thread at the latest. */
struct tower_decoder_child {
    struct tower_clock *clock;
    struct tower_child child;
    int end;        /* what a read returns behind the last byte; 1: not there yet */
    char last[160]; /* the last whole line it wrote to stderr, fit to be shown */
    char line[160]; /* the line at hand; what does not fit is left out */
    size_t in_line; /* bytes in it */
};

/* A struct tower_decoder_child with nothing in it. */
#define TOWER_DECODER_CHILD_NONE                                                                   \
    { .child = TOWER_CHILD_NONE }

/* Start `program` to decode `path` to s16le, 48 kHz, stereo. On failure `decoder` is as it was.
 * Errors: as of tower_child_start(); -ENOMEM. */
int tower_decoder_child_start(struct tower_decoder_child *decoder, struct tower_clock *clock,
                              const char *program, const char *path);

/* Read up to `bytes` of PCM, waiting until there is some. Returns how many, 0 at the end of the
 * file. Errors: -EIO (the decoder failed, or stays without saying anything more; see `last`),
 * -EINTR (a signal; read again). */
ssize_t tower_decoder_child_read(struct tower_decoder_child *decoder, void *ret_pcm, size_t bytes);

/* End it, wherever it is. Takes one that is not there. */
void tower_decoder_child_stop(struct tower_decoder_child *decoder);

#endif
