/* lame_encoder.h - LAME in process: 1152 samples in, one self-contained MP3 frame out.
 *
 * Constant bitrate, no bit reservoir, no Xing header, 48 kHz joint stereo, quality 5: what the
 * ffmpeg child is asked for too, so that both give the same bits for the same samples.
 */
#ifndef TOWER_ENCODER_LAME_ENCODER_H
#define TOWER_ENCODER_LAME_ENCODER_H

#include <stddef.h>
#include <stdint.h>

/* LAME's quality, 0 (best, slow) to 9. ffmpeg is told the same. */
#define TOWER_LAME_QUALITY 5

struct tower_lame_encoder;

/* Bytes of each frame at `bitrate_bps`, or 0 if that is not one of MPEG-1 Layer III's. At 48 kHz
 * there is no padding: every frame has the same size. */
size_t tower_lame_frame_bytes(uint32_t bitrate_bps);

/* Make an encoder, fed with silence so that from the first call on each gives a frame. Allocates
 * all that it will need. Errors: -EINVAL (no such bitrate), -ENOMEM, -EIO (LAME refused). */
int tower_lame_encoder_new(uint32_t bitrate_bps, struct tower_lame_encoder **ret_encoder);
void tower_lame_encoder_free(struct tower_lame_encoder *encoder);

/* Encode 1152 samples of interleaved stereo into `ret_frame`, of tower_lame_frame_bytes(). The
 * frame is the one whose last new input was the 1152 samples before these. One thread; does not
 * allocate. Errors: -EIO (LAME failed, or gave something else than one frame): make it anew. */
int tower_lame_encoder_encode(struct tower_lame_encoder *encoder, const int16_t *pcm,
                              uint8_t *ret_frame);

/* One frame of silence, constant, of tower_lame_frame_bytes(). */
const uint8_t *tower_lame_encoder_silence(const struct tower_lame_encoder *encoder);

/* How much later a sample lies in the encoded stream than in what was fed, decoder's share not
 * counted: LAME's own delay and the silence it was primed with. */
unsigned tower_lame_encoder_delay_samples(const struct tower_lame_encoder *encoder);

#endif
