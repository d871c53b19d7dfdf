/* format.h - the transmitter's PCM format, the frame, and where a frame came from.
 *
 * Everything between the PCM socket and the encoder is interleaved signed 16-bit little-endian
 * stereo at 48 kHz. A frame is `frame_samples` samples of each channel: 1152 by default, which is
 * 4608 bytes, 24,000,000 ns exactly, and one MPEG-1 Layer III frame.
 */
#ifndef TOWER_FORMAT_H
#define TOWER_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define TOWER_RATE_HZ 48000
#define TOWER_CHANNELS 2
/* Bytes of one sample of every channel. */
#define TOWER_SAMPLE_BYTES 4
/* Samples a channel in one frame, and in one MPEG-1 Layer III frame. */
#define TOWER_FRAME_SAMPLES 1152
/* The largest frame any part must take, in samples a channel and in bytes. */
#define TOWER_FRAME_SAMPLES_MAX 1152
#define TOWER_FRAME_BYTES_MAX (TOWER_FRAME_SAMPLES_MAX * TOWER_SAMPLE_BYTES)
#define TOWER_NS_PER_S INT64_C(1000000000)

/* Where a frame on air came from. */
enum tower_origin {
    TOWER_ORIGIN_LIVE,    /* a producer */
    TOWER_ORIGIN_GRACE,   /* silence while a producer may yet come back */
    TOWER_ORIGIN_FILE,    /* the fallback file */
    TOWER_ORIGIN_TONE,    /* the fallback tone */
    TOWER_ORIGIN_SILENCE, /* silence as the last fallback */
    TOWER_ORIGIN_REPAIR,  /* an encoded frame of silence where none could be made from PCM */
};
#define TOWER_ORIGIN_COUNT 6

/* The lower-case word for `origin` ("live", "grace", ...), "unknown" for anything else.
 * Any thread, never blocks; the string is constant. */
const char *tower_origin_name(enum tower_origin origin);

/* Bytes of a frame of `frame_samples` samples a channel. */
static inline size_t tower_frame_bytes(uint32_t frame_samples) {
    return (size_t)frame_samples * TOWER_SAMPLE_BYTES;
}

/* The time that `samples` samples at `rate_hz` take, in ns, rounded down. Exact for every count:
 * the deadline of chunk or tick k is computed from k * samples and never summed, so that rounding
 * cannot add up (A9). `samples` >= 0, `rate_hz` > 0; good for some 290 years. */
static inline int64_t tower_samples_to_ns(int64_t samples, int64_t rate_hz) {
    int64_t whole_s = samples / rate_hz;
    int64_t rest = samples % rate_hz;
    return whole_s * TOWER_NS_PER_S + rest * TOWER_NS_PER_S / rate_hz;
}

#endif
