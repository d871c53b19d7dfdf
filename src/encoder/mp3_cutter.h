/* mp3_cutter.h - cuts a byte stream into MP3 frames of one shape, and takes nothing else. */
#ifndef TOWER_ENCODER_MP3_CUTTER_H
#define TOWER_ENCODER_MP3_CUTTER_H

#include "tower/encoder_manager.h"

struct tower_mp3_cutter {
    uint32_t bitrate_bps;
    size_t frame_bytes;
    size_t have_bytes; /* of `frame` */
    uint8_t frame[TOWER_MP3_FRAME_BYTES_MAX];
};

/* Frames of `frame_bytes` (at most TOWER_MP3_FRAME_BYTES_MAX) at `bitrate_bps`, MPEG-1 Layer III,
 * 48 kHz, two channels, self-contained. */
void tower_mp3_cutter_init(struct tower_mp3_cutter *cutter, uint32_t bitrate_bps,
                           size_t frame_bytes);

/* Forget a frame begun. */
void tower_mp3_cutter_reset(struct tower_mp3_cutter *cutter);

/* Take bytes off `*data`, `*bytes` of them, up to the end of a frame, and move both on. Returns 1
 * with a whole frame in cutter->frame, good until the next call; 0 if all bytes are taken and the
 * frame is not whole yet. Errors: -EBADMSG if what stands there is no such frame; call no more. */
int tower_mp3_cutter_take(struct tower_mp3_cutter *cutter, const uint8_t **data, size_t *bytes);

#endif
