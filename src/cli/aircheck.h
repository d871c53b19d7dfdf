/* aircheck.h - judges an MP3 stream by what arrives of it, and when.
 *
 * Knows nothing of networks: it is fed bytes and arrival times. It cuts the frames itself, decodes
 * them with libmpg123 (which shares no code with the encoders here), and measures both the frames
 * against the clock and the sound that comes out. One thread; memory does not grow, however long
 * it listens.
 */
#ifndef TOWER_CLI_AIRCHECK_H
#define TOWER_CLI_AIRCHECK_H

#include "pcm_meter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tower_aircheck;

struct tower_aircheck_report {
    /* What arrived. */
    uint64_t bytes;
    int64_t listened_ns;       /* from the first byte to the end, or to the last byte so far */
    int64_t longest_gap_ns;    /* between arrivals, and from the last to the end */
    int64_t longest_gap_at_ns; /* when it began, after the first byte */

    /* The frames in it. */
    uint64_t frames;
    double audio_s;         /* they last */
    uint32_t rate_hz;       /* of the last frame; 0: there was none */
    unsigned channels;      /* of the last frame */
    double bitrate_bps;     /* mean */
    uint64_t lost_syncs;    /* times something else stood where a frame had to begin */
    uint64_t junk_bytes;    /* passed over after them */
    uint64_t leading_bytes; /* passed over before the first frame: joined inside one */
    uint64_t tag_bytes;     /* of an ID3v2 tag before the first frame */
    uint64_t format_changes;
    uint64_t reservoir_frames; /* not self-contained: begin in earlier frames */
    uint64_t broken_frames;    /* without the data that they say they have: a decoder plays silence
                                  for them; not those at the start, whose reservoir we missed */

    /* Frames against the clock, the first burst taken off. */
    bool has_clock;        /* it was measured: two arrivals or more after the burst */
    double clock_ppm;      /* > 0: more audio than time; least squares over all arrivals, so that
                              jitter hardly counts and a stall does */
    double clock_mean_ppm; /* the same from the first and the last of them, so that a stall that
                              was made up for does not count */
    double clock_resolution_ppm; /* what one frame more or less makes */
    double clock_s;              /* measured for this long */
    uint64_t clock_frames;       /* arrived in it */
    double clock_expected_frames;
    double burst_s; /* the burst put the listener this far ahead of the clock */

    /* The sound. */
    uint64_t decoded_frames;
    uint64_t decoder_errors;   /* libmpg123 said so */
    char decoder_message[128]; /* the last of them, "" where there was none */
    struct tower_pcm_meter pcm;
};

/* Errors: -ENOMEM, -EIO (libmpg123 won't start). */
int tower_aircheck_new(struct tower_aircheck **ret_check);
void tower_aircheck_free(struct tower_aircheck *check);

/* `bytes` > 0 bytes arrived at `now_ns`, which never goes back. Any bytes whatever. */
void tower_aircheck_feed(struct tower_aircheck *check, const void *data, size_t bytes,
                         int64_t now_ns);

/* Nothing more comes, and it is `now_ns`. Call once, then only get_report() and free(). */
void tower_aircheck_finish(struct tower_aircheck *check, int64_t now_ns);

/* At any time; complete after finish(). */
void tower_aircheck_get_report(const struct tower_aircheck *check,
                               struct tower_aircheck_report *ret_report);

#endif
