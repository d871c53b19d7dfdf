/* producer.h - whoever feeds PCM: comes, goes, stalls, writes early, late, in odd sizes, or
 * nothing.
 *
 * One is on air at a time, as the PCM socket has it. What it writes lies in its socket until the
 * ingest thread takes it, through the framer, to the router.
 */
#ifndef TOWER_TESTS_SIM_PRODUCER_H
#define TOWER_TESTS_SIM_PRODUCER_H

#include "invariants.h"
#include "random.h"
#include "tower/framer.h"

struct sim_producer {
    /* The station. */
    struct sim_ledger *ledger;
    struct tower_router *router;
    struct tower_framer framer;
    const struct sim_waves *waves;
    size_t frame_bytes;

    struct sim_random random;
    bool is_stormy;
    int64_t blocked_until_ns; /* the ingest thread does not run */

    bool is_on_air;
    bool is_pushy; /* pushes on where the queue is full; else waits in its socket */
    uint64_t programmes;
    unsigned wave;
    uint64_t first_frame; /* where in the wave it begins */
    uint64_t withheld;    /* so many of its next frames are dead air, and not to be heard */
    size_t chunk_bytes;   /* it writes at a time; 0: a new size each time */
    int64_t jitter_ns;    /* how late it writes */
    int64_t base_ns;      /* when it began */
    int64_t write_ns;     /* when it writes next */
    int64_t change_ns;    /* when something changes: a stall, the end, the next one */
    int64_t end_ns;
    uint64_t written_bytes;               /* of this programme */
    uint64_t taken_bytes;                 /* by the ingest thread */
    uint8_t frame[TOWER_FRAME_BYTES_MAX]; /* the frame that is being taken */
    struct sim_content content;
};

/* Errors: -EINVAL. */
int sim_producer_init(struct sim_producer *producer, struct sim_ledger *ledger,
                      struct tower_router *router, const struct sim_waves *waves, uint64_t seed);

/* Do all that is due by `now_ns`. */
void sim_producer_run(struct sim_producer *producer, int64_t now_ns);

/* Is there something that the ingest thread could give the router? */
bool sim_producer_has_more(const struct sim_producer *producer);

#endif
