/* pcm_stream.h - PCM that comes piece by piece, in a WAV file or bare, made 48 kHz stereo. */
#ifndef TOWER_SOURCE_PCM_STREAM_H
#define TOWER_SOURCE_PCM_STREAM_H

#include <stddef.h>
#include <stdint.h>

struct tower_pcm_stream;

/* Given samples at 48 kHz stereo, `n_samples` a channel. */
typedef void tower_pcm_stream_listener(void *user, const int16_t *samples, size_t n_samples);

/* WAV: integers of 8 to 32 bits or floats, 1000 to 384000 Hz, 1 to 8 channels, of any length; one
 * file may follow another. Errors: -ENOMEM. */
int tower_pcm_stream_new_wav(tower_pcm_stream_listener *listener, void *user,
                             struct tower_pcm_stream **ret_stream);
/* audio/L16 (RFC 2586): 16 bit, big-endian. Errors: -EINVAL (rate or channels out of range),
 * -ENOMEM. */
int tower_pcm_stream_new_l16(uint32_t rate_hz, unsigned channels,
                             tower_pcm_stream_listener *listener, void *user,
                             struct tower_pcm_stream **ret_stream);
void tower_pcm_stream_free(struct tower_pcm_stream *stream);

/* Take all of it. Errors, after which no more is to be taken: -EPROTO (it is no WAV), -ENOTSUP (of
 * a kind that is not for us), -ENOMEM, -EIO (as of the converter). */
int tower_pcm_stream_take(struct tower_pcm_stream *stream, const uint8_t *data, size_t bytes);

/* No more comes: give what the converter holds. Errors: -ENOMEM, -EIO. */
int tower_pcm_stream_end(struct tower_pcm_stream *stream);

#endif
