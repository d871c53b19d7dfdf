/* delay_line.c - encoded frames held back for a fixed number of slots. */
#include "delay_line.h"

#include <assert.h>
#include <string.h>

void tower_delay_line_init(struct tower_delay_line *line, size_t frame_bytes, size_t slots,
                           const uint8_t *silence, enum tower_delay_maker maker) {
    assert(slots <= TOWER_DELAY_SLOTS_MAX && frame_bytes <= TOWER_MP3_FRAME_BYTES_MAX);
    memset(line, 0, sizeof *line);
    line->frame_bytes = frame_bytes;
    line->slots = slots;
    for (size_t i = 0; i <= slots; i++)
        (void)tower_delay_line_put(line, maker, silence);
}

struct tower_delay_entry *tower_delay_line_put(struct tower_delay_line *line,
                                               enum tower_delay_maker maker, const uint8_t *frame) {
    line->newest = (line->newest + 1) % (line->slots + 1);
    struct tower_delay_entry *entry = &line->entries[line->newest];
    entry->has_block = false;
    entry->maker = maker;
    memcpy(entry->frame, frame, line->frame_bytes);
    return entry;
}

const struct tower_delay_entry *tower_delay_line_oldest(const struct tower_delay_line *line) {
    return &line->entries[(line->newest + 1) % (line->slots + 1)];
}

struct tower_delay_entry *tower_delay_line_find(struct tower_delay_line *line, uint64_t block) {
    for (size_t i = 0; i <= line->slots; i++) {
        struct tower_delay_entry *entry = &line->entries[i];
        if (entry->has_block && entry->block == block)
            return entry;
    }
    return NULL;
}
