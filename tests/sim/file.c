/* file.c - a fallback file, in file_reader.h's place: there or not, as the world has it. */
#include "file_reader.h"

#include "tower/frame_ring.h"
#include "world.h"

#include <errno.h>
#include <stdlib.h>

#define IDLE_NS TOWER_NS_PER_S

struct tower_file_reader {
    size_t frame_bytes;
    uint64_t next;
    int64_t taken_ns;
};

int tower_file_reader_new(struct tower_clock *clock, const char *path, const char *ffmpeg,
                          uint32_t frame_samples, struct tower_file_reader **ret_reader) {
    (void)clock;
    (void)path;
    (void)ffmpeg;
    struct tower_file_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->frame_bytes = tower_frame_bytes(frame_samples);
    *ret_reader = reader;
    return 0;
}

void tower_file_reader_free(struct tower_file_reader *reader) {
    free(reader);
}

int tower_file_reader_pop_frame(struct tower_file_reader *reader, int16_t *ret_frame,
                                unsigned *ret_flags) {
    if (!sim_file_has_frame()) {
        reader->next = 0;
        return 0;
    }
    if (sim_now_ns() - reader->taken_ns >= IDLE_NS)
        reader->next = 0;
    reader->taken_ns = sim_now_ns();
    *ret_flags = reader->next == 0 ? TOWER_FRAME_DISCONTINUITY : 0;
    struct sim_content content = sim_file_frame(reader->next++);
    sim_content_fill(&content, ret_frame, reader->frame_bytes);
    return 1;
}

void tower_file_reader_get_stats(const struct tower_file_reader *reader,
                                 struct tower_file_reader_stats *ret_stats) {
    (void)reader;
    *ret_stats = (struct tower_file_reader_stats){.is_ready = sim_file_has_frame()};
}
