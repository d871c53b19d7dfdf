/* mp3_side.h - does an MP3 frame hold what its side information says it holds? A decoder that finds
 * it does not plays silence and keeps quiet about it. */
#ifndef TOWER_CLI_MP3_SIDE_H
#define TOWER_CLI_MP3_SIDE_H

#include "tower/mp3.h"

struct tower_mp3_reservoir {
    size_t left_bytes; /* of the main data so far, not used by any frame yet */
};

enum tower_mp3_side_result {
    TOWER_MP3_SIDE_GOOD,
    TOWER_MP3_SIDE_BORROWS, /* its main data begins earlier than any that we have free */
    TOWER_MP3_SIDE_BROKEN,  /* its granules ask for more bits, or spectral lines, than there are */
};

/* Check the whole frame at `frame` (header->frame_bytes long) and take it into the reservoir, which
 * is all zero at first and set to zero where frames may be missing. Pure; any bytes whatever. */
enum tower_mp3_side_result tower_mp3_side_check(const uint8_t *frame,
                                                const struct tower_mp3_header *header,
                                                struct tower_mp3_reservoir *reservoir);

#endif
