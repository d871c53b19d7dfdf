/* killed_air.h - an air of numbered frames, for those who kill its process. */
#ifndef TOWER_TESTS_KILLED_AIR_H
#define TOWER_TESTS_KILLED_AIR_H

#include "tower/air.h"
#include "tower/titles.h"

#include "numbered_frames.h"

#define S_NS INT64_C(1000000000)

static inline uint64_t start_of(uint64_t number) {
    uint64_t start = 0;
    for (uint32_t i = 0; i < number; i++)
        start += numbered_bytes(i);
    return start;
}

static inline void publish(struct tower_air *air, struct tower_titles *titles) {
    uint8_t frame[NUMBERED_BYTES_MAX];
    uint32_t number = (uint32_t)tower_air_frames(air);
    size_t bytes = numbered_fill(number, frame);
    tower_titles_mark(titles, number, tower_air_head(air));
    (void)tower_air_publish(air, frame, bytes);
}

#endif
