/* input_gate.c - withholds dead air, and lets all of the returning programme pass. */
#include "input_gate.h"

#include <string.h>

void tower_input_gate_init(struct tower_input_gate *gate, struct tower_router *router,
                           size_t frame_bytes, struct tower_input_monitor *monitor,
                           bool withholds) {
    memset(gate, 0, sizeof *gate);
    gate->router = router;
    gate->frame_bytes = frame_bytes;
    gate->monitor = monitor;
    gate->withholds = withholds && monitor;
}

void tower_input_gate_resume(struct tower_input_gate *gate, int64_t since_ns, int64_t now_ns) {
    if (!gate->withholds || !tower_input_monitor_resume_dead_air(gate->monitor, since_ns, now_ns))
        return;
    gate->is_closed = true;
}

static bool router_has_room(const struct tower_input_gate *gate) {
    struct tower_router_stats router;
    tower_router_get_stats(gate->router, &router);
    return router.count < router.capacity;
}

static void push(struct tower_input_gate *gate, const uint8_t *frame, unsigned flags) {
    if (flags & TOWER_FRAME_WITHHELD)
        gate->withheld_frames++;
    (void)tower_router_push_marked_frame(gate->router, frame, gate->frame_bytes, flags);
}

static void push_oldest(struct tower_input_gate *gate) {
    unsigned flags = gate->slots[gate->first].flags | (gate->is_closed ? TOWER_FRAME_WITHHELD : 0);
    push(gate, gate->slots[gate->first].frame, flags);
    gate->first = (gate->first + 1) % TOWER_INPUT_GATE_FRAMES;
    gate->n_held--;
}

static void hold(struct tower_input_gate *gate, const uint8_t *frame, unsigned flags) {
    size_t place = (gate->first + gate->n_held) % TOWER_INPUT_GATE_FRAMES;
    gate->slots[place].flags = flags;
    memcpy(gate->slots[place].frame, frame, gate->frame_bytes);
    gate->n_held++;
}

/* Are there frames that only wait for a place in the router? */
static bool is_pending(const struct tower_input_gate *gate) {
    return !gate->is_closed && gate->n_held > 0;
}

bool tower_input_gate_drain(struct tower_input_gate *gate) {
    while (is_pending(gate) && router_has_room(gate))
        push_oldest(gate);
    if (gate->is_closed && gate->n_held < TOWER_INPUT_GATE_FRAMES)
        return true;
    return !is_pending(gate) && router_has_room(gate);
}

void tower_input_gate_put(struct tower_input_gate *gate, const uint8_t *frame, int64_t now_ns) {
    unsigned flags = gate->is_discontinuity ? TOWER_FRAME_DISCONTINUITY : 0;
    gate->is_discontinuity = false;
    bool is_dead = false;
    if (gate->monitor) {
        tower_input_monitor_show(gate->monitor, frame, now_ns);
        is_dead = gate->withholds && tower_input_monitor_has(gate->monitor, TOWER_INPUT_DEAD_AIR);
    }
    if (!gate->is_closed && !is_dead) {
        push(gate, frame, flags);
        return;
    }
    if (gate->n_held == TOWER_INPUT_GATE_FRAMES)
        push_oldest(gate);
    hold(gate, frame, flags);
    gate->is_closed = is_dead;
    (void)tower_input_gate_drain(gate);
}

void tower_input_gate_end_programme(struct tower_input_gate *gate, int64_t now_ns) {
    /* They keep their places: who counts frames through the router counts these. */
    for (size_t i = 0; gate->is_closed && i < gate->n_held; i++)
        gate->slots[(gate->first + i) % TOWER_INPUT_GATE_FRAMES].flags |= TOWER_FRAME_WITHHELD;
    gate->is_closed = false;
    if (gate->monitor)
        tower_input_monitor_end_programme(gate->monitor, now_ns);
    (void)tower_input_gate_drain(gate);
}

void tower_input_gate_mark_discontinuity(struct tower_input_gate *gate) {
    gate->is_discontinuity = true;
}
