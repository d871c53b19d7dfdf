/* stream_decoder.h - an encoded stream, as it comes, made 48 kHz stereo: by a child of ffmpeg that
 * is looked after, or by ourselves.
 *
 * All of it belongs to the one thread that polls. It waits for nothing but for a child to be
 * loaded, some milliseconds.
 */
#ifndef TOWER_SOURCE_STREAM_DECODER_H
#define TOWER_SOURCE_STREAM_DECODER_H

#include "tower/clock.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors that it polls. */
#define TOWER_STREAM_DECODER_FDS 4

struct tower_stream_decoder_config {
    struct tower_clock *clock;
    const char *ffmpeg;       /* the program; borrowed */
    const char *content_type; /* such as "audio/L16;rate=44100;channels=2" */
    const char *name;         /* whose stream it is, for the log; borrowed */
    void *user;
    /* Given samples, `n_samples` a channel, from tower_stream_decoder_give(), _end() or _step(). */
    void (*on_pcm)(void *user, const int16_t *samples, size_t n_samples);
    /* The stream says what is playing from about the next samples on: UTF-8, "" for nothing. */
    void (*on_title)(void *user, const char *title);
};

struct tower_stream_decoder;

/* Is it a content type that can be decoded? The type without regard to capitals; parameters are
 * looked at only where they matter. Pure. */
bool tower_stream_decoder_knows(const char *content_type);

/* Errors: -ENOTSUP (the content type is not understood), -ENOMEM. */
int tower_stream_decoder_new(const struct tower_stream_decoder_config *config,
                             struct tower_stream_decoder **ret_decoder);
void tower_stream_decoder_free(struct tower_stream_decoder *decoder);

/* Is there room for more of the stream? */
bool tower_stream_decoder_has_room(const struct tower_stream_decoder *decoder);

/* Take some of the `*left` bytes of the stream at `*at`, which are moved on; all of them if there
 * is room. Errors: as of tower_stream_decoder_step(). */
int tower_stream_decoder_give(struct tower_stream_decoder *decoder, const uint8_t **at,
                              size_t *left);

/* No more comes: decode what there is to its end. Errors: as of tower_stream_decoder_step(). */
int tower_stream_decoder_end(struct tower_stream_decoder *decoder);

/* Is all of it decoded, and given? */
bool tower_stream_decoder_is_done(const struct tower_stream_decoder *decoder);

/* Fill in what to poll for; -1 where there is nothing. `wants_pcm`: there is room for samples. */
void tower_stream_decoder_poll(const struct tower_stream_decoder *decoder, bool wants_pcm,
                               struct pollfd fds[TOWER_STREAM_DECODER_FDS]);

/* When to call tower_stream_decoder_step() even if nothing happens; INT64_MAX: never. */
int64_t tower_stream_decoder_deadline_ns(const struct tower_stream_decoder *decoder);

/* Do what can be done after a poll. Errors, after which it is of no more use, with `what` to say
 * why in tower_stream_decoder_error(): -EIO (a decoder gave no sound five times in a row, or there
 * is none), -EPROTO (it is not what the content type says), -ENOTSUP (of a kind that is not for
 * us), -ENOMEM. */
int tower_stream_decoder_step(struct tower_stream_decoder *decoder, bool wants_pcm,
                              const struct pollfd fds[TOWER_STREAM_DECODER_FDS]);

/* Why it is of no more use, in words. */
const char *tower_stream_decoder_error(const struct tower_stream_decoder *decoder);

/* How many times a decoder was started anew after it had failed. */
uint32_t tower_stream_decoder_restarts(const struct tower_stream_decoder *decoder);

#endif
