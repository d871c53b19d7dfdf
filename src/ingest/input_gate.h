/* input_gate.h - the last step before the router: withholds dead air, where that is asked for.
 *
 * A frame that is withheld goes through the router like any other, marked
 * TOWER_FRAME_WITHHELD, so that it takes its time there and the producer's pace stays what it is;
 * whoever takes it takes none. While dead air lasts the last few frames are held back here: when
 * the programme returns, those it began with are still at hand, and the one before them.
 */
#ifndef TOWER_INGEST_INPUT_GATE_H
#define TOWER_INGEST_INPUT_GATE_H

#include "tower/input_monitor.h"
#include "tower/router.h"

/* The frames that end dead air, and one before them, so that it is this quiet one that is faded in
 * and the attack behind it is whole. */
#define TOWER_INPUT_GATE_FRAMES (TOWER_INPUT_RETURN_FRAMES + 1)

/* Owned by one thread. */
struct tower_input_gate {
    struct tower_router *router;         /* constant */
    struct tower_input_monitor *monitor; /* constant; NULL: nothing is looked for */
    size_t frame_bytes;                  /* constant */
    bool withholds;                      /* constant */
    bool is_closed;                      /* dead air is being withheld */
    bool is_discontinuity;               /* the next frame put begins another programme */
    uint64_t withheld_frames;
    size_t first; /* of the slots in turn, the oldest that is taken */
    size_t n_held;
    struct {
        unsigned flags;
        uint8_t frame[TOWER_FRAME_BYTES_MAX];
    } slots[TOWER_INPUT_GATE_FRAMES];
};

/* Frames are of `frame_bytes`, at most TOWER_FRAME_BYTES_MAX, and the router's. */
void tower_input_gate_init(struct tower_input_gate *gate, struct tower_router *router,
                           size_t frame_bytes, struct tower_input_monitor *monitor, bool withholds);

/* Dead air that another gate withheld since `since_ns` is there still. Before the first frame. */
void tower_input_gate_resume(struct tower_input_gate *gate, int64_t since_ns, int64_t now_ns);

/* Move what need not be held any longer on into the router, as far as there is room. Returns
 * whether another frame can be put without a loss. */
bool tower_input_gate_drain(struct tower_input_gate *gate);

/* A frame of the producer on air has come at `now_ns`; there must be room for it. */
void tower_input_gate_put(struct tower_input_gate *gate, const uint8_t *frame, int64_t now_ns);

/* The producer on air went or made way. What is held of dead air moves on as such, at the next
 * drain where the router is full. */
void tower_input_gate_end_programme(struct tower_input_gate *gate, int64_t now_ns);

/* The next frame put begins another programme. */
void tower_input_gate_mark_discontinuity(struct tower_input_gate *gate);

#endif
