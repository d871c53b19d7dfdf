/* cadence.c - how many phase groups a worker's listeners are spread over. */
#include "cadence.h"

/* Sends at one frame. At 7 us each and a frame every 24 ms this is 7 % of a core. */
#define SENDS_PER_FRAME 240
/* With this many sends at one frame there is reason to have fewer groups. */
#define SENDS_PER_FRAME_LOW 160

static uint32_t groups_for(uint64_t listeners, uint64_t sends_per_frame) {
    uint64_t groups = (listeners + sends_per_frame - 1) / sends_per_frame;
    if (groups < 1)
        return 1;
    return groups < TOWER_CADENCE_GROUPS_MAX ? (uint32_t)groups : TOWER_CADENCE_GROUPS_MAX;
}

uint32_t tower_cadence_groups(uint64_t listeners, uint32_t groups) {
    uint32_t at_least = groups_for(listeners, SENDS_PER_FRAME);
    uint32_t at_most = groups_for(listeners, SENDS_PER_FRAME_LOW);
    if (groups < at_least)
        return at_least;
    return groups > at_most ? at_most : groups;
}
