/* tap.h - one tap: the programme, frame by frame, becomes chunks of a rate and size of choice.
 *
 * What it gives out is what GET /pcm sends. Each chunk is `samples` samples of s16le, the channels
 * interleaved. With timestamps a header of TOWER_TAP_HEADER_BYTES stands before each,
 * little-endian:
 *
 *      0  4  "TPCM"
 *      4  2  bytes of this header: 40; skip what is more than you know
 *      6  1  origin of the first sample: enum tower_origin
 *      7  1  flags: TOWER_TAP_JUMP
 *      8  8  sequence: the number of the chunk on this connection, from 0; those lost are counted
 *     16  8  CLOCK_REALTIME in ns when the first sample's tick was due: when it went to the encoder
 *     24  8  MP3 frame of the stream in which the first sample is heard, as in /status air.frames
 *     32  4  samples of each channel that follow
 *     36  4  bytes that follow
 */
#ifndef TOWER_TAP_H
#define TOWER_TAP_H

#include "tower/format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_TAP_RATE_MIN_HZ 8000
#define TOWER_TAP_RATE_MAX_HZ 96000
#define TOWER_TAP_SAMPLES_MIN 16
#define TOWER_TAP_SAMPLES_MAX 65536
#define TOWER_TAP_MAGIC "TPCM"
#define TOWER_TAP_HEADER_BYTES 40
#define TOWER_TAP_WAV_BYTES 44

/* The chunk does not follow on the one sent before it: it is the first, or something was lost, or
 * the pump or the system has set its clock anew. */
#define TOWER_TAP_JUMP 1U

/* What a tap is asked for. */
struct tower_tap_format {
    uint32_t rate_hz;    /* TOWER_TAP_RATE_MIN_HZ to TOWER_TAP_RATE_MAX_HZ */
    uint32_t channels;   /* 1 (the mean of both) or 2 */
    uint32_t samples;    /* a chunk: TOWER_TAP_SAMPLES_MIN to TOWER_TAP_SAMPLES_MAX */
    bool has_timestamps; /* a header before each chunk */
    bool is_wav;         /* the header of a WAV file of unknown length before the first */
};

/* Of a frame of the programme, 48 kHz stereo. */
struct tower_tap_frame {
    int64_t time_ns;           /* CLOCK_REALTIME of its tick */
    uint64_t position_samples; /* where it is heard: a sample of the stream, 1152 an MP3 frame */
    uint32_t origin;           /* enum tower_origin */
};

/* What stands before a chunk. */
struct tower_tap_header {
    uint64_t sequence;
    int64_t time_ns;
    uint64_t air_frame;
    uint32_t samples;
    uint32_t bytes; /* of the samples */
    uint8_t origin;
    uint8_t flags;
};

struct tower_tap;

/* Errors: -EINVAL (out of range, or both a WAV file and timestamps), -ENOMEM. */
int tower_tap_new(const struct tower_tap_format *format, struct tower_tap **ret_tap);
/* Takes NULL. */
void tower_tap_free(struct tower_tap *tap);

/* Bytes of a chunk, with its header. Pure. */
size_t tower_tap_chunk_bytes(const struct tower_tap_format *format);

/* Convert a frame of `n_samples` (at most TOWER_FRAME_SAMPLES_MAX) and hand each chunk that has
 * become whole to `put`, which says whether it took it; one that it did not take is lost, and
 * counted. May allocate, for the first frames. Not from the pump. Errors: -ENOMEM, -EIO (as the
 * converter's); the tap is then no good any more. */
int tower_tap_take(struct tower_tap *tap, const struct tower_tap_frame *frame, const int16_t *pcm,
                   size_t n_samples, bool (*put)(void *user, const uint8_t *chunk, size_t bytes),
                   void *user);

/* `n_samples` samples of 48 kHz went by untaken: what there is of a chunk is given up, the chunks
 * lost are counted, and the next frame begins a new one. */
void tower_tap_skip(struct tower_tap *tap, uint64_t n_samples);

/* Chunks made, and those of them that were lost. */
uint64_t tower_tap_chunks(const struct tower_tap *tap);
uint64_t tower_tap_lost(const struct tower_tap *tap);

/* Write, or read, the header before a chunk. Reading: -EINVAL where it is none. Pure. */
void tower_tap_header_write(const struct tower_tap_header *header,
                            uint8_t ret_bytes[TOWER_TAP_HEADER_BYTES]);
int tower_tap_header_read(const uint8_t bytes[TOWER_TAP_HEADER_BYTES],
                          struct tower_tap_header *ret_header);

/* Write the header of a WAV file whose length nobody knows. Pure. */
void tower_tap_wav_write(const struct tower_tap_format *format,
                         uint8_t ret_bytes[TOWER_TAP_WAV_BYTES]);

#endif
