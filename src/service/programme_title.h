/* programme_title.h - which title on air is a producer's, in a region that outlives the process: so
 * that it is taken back when its programme ends, and no other's is.
 *
 * A TowerService's encoder thread owns it.
 */
#ifndef TOWER_SERVICE_PROGRAMME_TITLE_H
#define TOWER_SERVICE_PROGRAMME_TITLE_H

#include "tower/region.h"
#include "tower/titles.h"

#include <stdint.h>

struct tower_programme_title {
    uint64_t number;       /* on air, by a producer; 0: none is */
    uint64_t number_ended; /* of the empty one in its place since the programme ended; or 0 */
    uint64_t bytes;
    char text[TOWER_TITLE_BYTES_MAX]; /* the last that came from a producer */
};

struct tower_programme_titles {
    struct tower_region region;
};

/* Go on with the region behind `fd` (0 or below: none), or make one. `newest` is the number of the
 * title on air, or of the last that was: what has a higher one did not come to be. If it does not
 * hold it stays open and the caller's, a warning is logged, and no title is known to be a
 * producer's. Errors: -ENOMEM, -EMFILE, -ENFILE. */
int tower_programme_titles_open(struct tower_programme_titles *titles, int fd, uint64_t newest,
                                struct tower_programme_title *ret_title);
/* Takes one that is all zeros. */
void tower_programme_titles_done(struct tower_programme_titles *titles);

/* Keep it, in place of the last. Before a title goes on air, with the number that it will have, and
 * after: who dies between the two leaves either, and the last but one tells what was if it did not
 * come to be. */
void tower_programme_titles_keep(struct tower_programme_titles *titles,
                                 const struct tower_programme_title *title);

#endif
