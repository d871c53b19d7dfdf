/* handover.h - one programme faded into another, at equal power, a whole frame at a time.
 *
 * Its length is a whole number of frames, so that nothing of either is taken that is not heard.
 */
#ifndef TOWER_INGEST_HANDOVER_H
#define TOWER_INGEST_HANDOVER_H

#include "tower/format.h"

/* How many frames of `frame_samples` a fade of `fade_ns` has: rounded up, 0 for none. */
uint16_t tower_handover_frames(int64_t fade_ns, uint32_t frame_samples);

/* Frame `done` (from 0) of the `frames` of a fade: what goes is at cos and what comes at sin of the
 * same angle, which begins at 0, so that the first sample of all is that of what goes, and of what
 * comes there is none. `goes` or `comes` may be NULL, which is silence. `ret_frame` may be either.
 */
void tower_handover_mix(const int16_t *goes, const int16_t *comes, int16_t *ret_frame,
                        uint32_t frame_samples, uint16_t done, uint16_t frames);

#endif
