/* cadence.h - how many phase groups a worker's listeners are spread over. */
#ifndef TOWER_AIR_CADENCE_H
#define TOWER_AIR_CADENCE_H

#include <stdint.h>

/* One group is served at each frame: 20 groups are one send every 480 ms at frames of 24 ms. */
#define TOWER_CADENCE_GROUPS_MAX 20

/* The groups for `listeners` listeners, where there are `groups` now: as few as keep the number of
 * sends in bounds, so that few listeners have the least delay and many cost the least CPU. Fewer
 * again only when they would do for some listeners more, so that it does not go to and fro. Pure.
 */
uint32_t tower_cadence_groups(uint64_t listeners, uint32_t groups);

#endif
