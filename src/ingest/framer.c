/* framer.c - bytes as they come into whole frames. */
#include "tower/framer.h"

#include <errno.h>

int tower_framer_init(struct tower_framer *framer, size_t frame_bytes) {
    if (frame_bytes == 0 || frame_bytes > sizeof framer->frame)
        return -EINVAL;
    framer->frame_bytes = frame_bytes;
    framer->filled_bytes = 0;
    return 0;
}

void *tower_framer_space(struct tower_framer *framer, size_t *ret_bytes) {
    *ret_bytes = framer->frame_bytes - framer->filled_bytes;
    return framer->frame + framer->filled_bytes;
}

int tower_framer_filled(struct tower_framer *framer, size_t bytes) {
    if (bytes > framer->frame_bytes - framer->filled_bytes)
        return -EINVAL;
    framer->filled_bytes += bytes;
    if (framer->filled_bytes < framer->frame_bytes)
        return 0;
    framer->filled_bytes = 0;
    return 1;
}

size_t tower_framer_discard(struct tower_framer *framer) {
    size_t bytes = framer->filled_bytes;
    framer->filled_bytes = 0;
    return bytes;
}
