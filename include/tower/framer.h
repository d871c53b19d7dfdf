/* framer.h - bytes as they come into whole frames. */
#ifndef TOWER_FRAMER_H
#define TOWER_FRAMER_H

#include "tower/format.h"

/* Reads go straight into the space of the frame that is being filled: no second copy. */
struct tower_framer {
    size_t frame_bytes;
    size_t filled_bytes; /* of the frame being filled; < frame_bytes between calls */
    uint8_t frame[TOWER_FRAME_BYTES_MAX];
};

/* Errors: -EINVAL (0, or over TOWER_FRAME_BYTES_MAX). */
int tower_framer_init(struct tower_framer *framer, size_t frame_bytes);

/* Where the next bytes go, and how many fit. */
void *tower_framer_space(struct tower_framer *framer, size_t *ret_bytes);

/* `bytes` were put there (at most the space). Returns 1 when that made the frame whole: it is in
 * framer->frame and good until the next call of any of these; 0 if not. -EINVAL: more than fits. */
int tower_framer_filled(struct tower_framer *framer, size_t bytes);

/* Forget the part of a frame there is (R12); returns its size in bytes, 0 if there was none. */
size_t tower_framer_discard(struct tower_framer *framer);

#endif
