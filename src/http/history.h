/* history.h - what the last quarter of an hour was like, for who opens the page now. */
#ifndef TOWER_HTTP_HISTORY_H
#define TOWER_HTTP_HISTORY_H

#include "tower/status.h"

#include <jansson.h>

#define TOWER_HISTORY_SECONDS 900
#define TOWER_HISTORY_NOTES 100
#define TOWER_HISTORY_NOTE_BYTES 128
/* Kinds of note that only count: each is made at most once a minute. */
#define TOWER_HISTORY_COUNTS 6

/* Owned by the control thread. All zeros to begin with. */
struct tower_history {
    struct tower_history_second {
        uint8_t origin; /* the one furthest from live that was on air in it */
        uint16_t peak;  /* of either channel */
        uint32_t lateness_us;
        uint64_t listeners;
    } seconds[TOWER_HISTORY_SECONDS];
    uint64_t n_seconds; /* so far; the last is at (n_seconds - 1) % TOWER_HISTORY_SECONDS */

    struct tower_history_note {
        int64_t at_ns; /* on the clock */
        char text[TOWER_HISTORY_NOTE_BYTES];
    } notes[TOWER_HISTORY_NOTES];
    uint64_t n_notes;
    struct tower_history_count {
        uint64_t n;       /* as noted last */
        int64_t again_ns; /* not before then */
    } counts[TOWER_HISTORY_COUNTS];

    /* As they were before the last sample. */
    uint64_t n_seconds_before;
    uint64_t n_notes_before;

    int64_t now_ns;
    struct tower_status last;   /* as of the last sample */
    struct tower_status second; /* as of the last second that was entered */
    uint16_t peak;              /* since then */
};

/* Take note of `status`, about ten times a second; a second that is over is entered. */
void tower_history_sample(struct tower_history *history, const struct tower_status *status);

/* Entry `number` of the one and of the other, counted from 0 and not too old to be there, as in
 * tower_history_json(); NULL if there is no memory. */
json_t *tower_history_second_json(const struct tower_history *history, uint64_t number);
json_t *tower_history_note_json(const struct tower_history *history, uint64_t number);

/* {"seconds": [...], "events": [...]}, from malloc; NULL if there is no memory. */
char *tower_history_json(const struct tower_history *history, size_t *ret_bytes);

#endif
