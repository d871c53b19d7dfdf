/* delay_line.h - encoded frames held back for a fixed number of slots, so that a better one for the
 * same place may still come. One goes in, one comes out: from the start, when silence comes out.
 */
#ifndef TOWER_ENCODER_DELAY_LINE_H
#define TOWER_ENCODER_DELAY_LINE_H

#include "tower/encoder_manager.h"

#include <stdbool.h>

#define TOWER_DELAY_SLOTS_MAX 15

enum tower_delay_maker {
    TOWER_DELAY_PRIMARY, /* the chosen encoder */
    TOWER_DELAY_SPARE,   /* LAME standing in for it */
    TOWER_DELAY_REPAIR,  /* nobody: prepared silence */
};

struct tower_delay_entry {
    bool has_block; /* it stands for block number `block`; else for a frame that was dropped */
    uint64_t block;
    enum tower_delay_maker maker;
    uint8_t frame[TOWER_MP3_FRAME_BYTES_MAX];
};

/* One thread owns all of it. */
struct tower_delay_line {
    size_t frame_bytes; /* constant */
    size_t slots;       /* constant; frames held back, 0: each comes out at once */
    size_t newest;
    struct tower_delay_entry entries[TOWER_DELAY_SLOTS_MAX + 1];
};

/* `slots` of `silence` are in the line, as the work of `maker`. */
void tower_delay_line_init(struct tower_delay_line *line, size_t frame_bytes, size_t slots,
                           const uint8_t *silence, enum tower_delay_maker maker);

/* Put a frame in; then take one out before the next goes in. */
struct tower_delay_entry *tower_delay_line_put(struct tower_delay_line *line,
                                               enum tower_delay_maker maker, const uint8_t *frame);
const struct tower_delay_entry *tower_delay_line_oldest(const struct tower_delay_line *line);

/* The entry for a block, or NULL: not in yet, or out already. */
struct tower_delay_entry *tower_delay_line_find(struct tower_delay_line *line, uint64_t block);

#endif
