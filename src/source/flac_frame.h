/* flac_frame.h - where a frame of FLAC (RFC 9639, section 9) ends, as its bytes come.
 *
 * A frame does not say how long it is. Its bits are walked through, so that it is known to be whole
 * with its own last byte, not only when the next one begins; the samples are not worked out.
 */
#ifndef TOWER_SOURCE_FLAC_FRAME_H
#define TOWER_SOURCE_FLAC_FRAME_H

#include <stddef.h>
#include <stdint.h>

/* 65535 samples of eight channels with 32 bits, not compressed at all. */
#define TOWER_FLAC_FRAME_BYTES_MAX ((size_t)2 * 1024 * 1024)

/* To be made anew, but for `stream_bits`, at each place where a frame may begin. */
struct tower_flac_frame {
    unsigned stream_bits; /* of a sample, where a frame does not say: as the stream's head does */

    uint32_t block_samples; /* each channel's; once the frame's own header is there */

    /* From here on only flac_frame.c's. */
    unsigned step;
    size_t at_bits; /* how far all is known; may be beyond what there is */
    unsigned n_channels;
    unsigned side_channel; /* the one with a bit more; n_channels or above: there is none */
    unsigned bits;
    unsigned channel;
    /* The residual of a subframe. */
    unsigned partition_order;
    unsigned partitions_left;
    unsigned parameter_bits;
    unsigned parameter;
    uint32_t missing_samples; /* of the first partition: they have been given otherwise */
    uint32_t samples_left;    /* of the partition at hand */
};

/* Go on through the frame that begins at `data`, of which `bytes` bytes have come: not fewer than
 * at the call before, and the same. Returns 1 with how long it is; 0: more of it is needed.
 * Errors: -EBADMSG (no frame begins there, or it is damaged). Pure. */
int tower_flac_frame_walk(struct tower_flac_frame *frame, const uint8_t *data, size_t bytes,
                          size_t *ret_frame_bytes);

#endif
