/* journal_memory.h - the last incidents, in a region that can outlive the process.
 *
 * Plain data. One thread writes, under the journal's lock where others read; another process may
 * find it as it was left between any two stores, and checks all of it.
 */
#ifndef TOWER_JOURNAL_JOURNAL_MEMORY_H
#define TOWER_JOURNAL_JOURNAL_MEMORY_H

#include "tower/journal.h"
#include "tower/region.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct tower_journal_state {
    uint64_t bytes; /* 0: nothing */
    unsigned char data[TOWER_JOURNAL_STATE_BYTES];
};

struct tower_journal_memory {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    int64_t began_unix_ms;
    int64_t began_ns;

    /* Atomic, written by the journal's thread, read by anyone. */
    _Atomic uint64_t last_number;
    _Atomic uint64_t lines_lost;
    /* Atomic, written by anyone. */
    _Atomic uint64_t submissions_lost;

    /* Owned by the journal's thread. */
    uint64_t written_number; /* the last that the file has taken, or has lost */
    uint64_t unsaid_lines;   /* lost since a line was last written */
    uint64_t told_submissions_lost;
    _Atomic uint32_t current_state; /* modulo 2 */
    struct tower_journal_state states[2];

    /* Guarded by the journal's lock: number n at n - 1 modulo; one whose number is another is none.
     */
    struct tower_incident kept[TOWER_JOURNAL_KEPT];
};

/* Go on with the region behind `fd` (0 or below: none), or make one: `ret_region` has it, and
 * what does not hold is logged. Errors: -ENOMEM, -EMFILE, -ENFILE. */
int tower_journal_memory_open(struct tower_region *ret_region, int fd, int64_t now_ns,
                              int64_t now_unix_ms);

/* Keep it as the next one, and give it its number. */
void tower_journal_memory_put(struct tower_journal_memory *memory, struct tower_incident *incident);

/* NULL: it is not kept. */
const struct tower_incident *tower_journal_memory_get(const struct tower_journal_memory *memory,
                                                      uint64_t number);

#endif
