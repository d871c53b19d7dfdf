/* pcm_socket_deliver.c - whole frames into the router, with their titles, and mixed in a fade. */
#include "handover.h"
#include "pcm_socket_state.h"

static void tell_title(struct tower_pcm_socket *socket) {
    const struct tower_ingest_entry *entry = &socket->memory->entries[socket->memory->told_place];
    int32_t bytes = atomic_load_explicit(&entry->title_bytes, memory_order_relaxed);
    if (socket->config.on_title)
        socket->config.on_title(socket->config.user, bytes < 0 ? NULL : entry->title,
                                bytes < 0 ? 0 : (size_t)bytes, socket->memory->told_frame);
}

void tower_pcm_socket_tell_again(struct tower_pcm_socket *socket) {
    const struct tower_ingest_memory *memory = socket->memory;
    struct tower_router_stats router;
    tower_router_get_stats(socket->config.router, &router);
    /* The frame itself may be about to be queued only now. */
    uint64_t end = router.pushed_count + (tower_ingest_memory_air(memory).is_new ? 0 : 1);
    if (memory->told_frame >= router.popped_count && memory->told_frame < end &&
        tower_ingest_producer_fd(&socket->producers[memory->told_place]) >= 0)
        tell_title(socket);
}

static void keep_title(struct tower_pcm_socket *socket, struct tower_ingest_entry *entry) {
    if (!entry->incoming.is_there)
        return;
    tower_ingest_memory_keep_title(entry);
    pthread_mutex_lock(&socket->lock);
    socket->stats.titles++;
    pthread_mutex_unlock(&socket->lock);
}

/* A whole frame is about to be queued, and has a title or begins a turn on air. Nobody else queues
 * any, so its number is the router's count and that of those which the gate holds. */
static void deliver_title(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    struct tower_ingest_memory *memory = socket->memory;
    tower_router_get_stats(socket->config.router, &router);
    memory->told_frame = UINT64_MAX;
    memory->told_place = tower_ingest_producer_place(socket, socket->on_air);
    keep_title(socket, socket->on_air->entry);
    memory->told_frame = router.pushed_count + socket->gate.n_held;
    tell_title(socket);
    socket->tells_title = false;
}

void tower_pcm_socket_note_gate(struct tower_pcm_socket *socket) {
    struct tower_ingest_memory *memory = socket->memory;
    memory->held_frames = socket->gate.n_held;
    if (!socket->gate.is_closed)
        memory->dead_air_since_ns = INT64_MIN;
    else if (memory->dead_air_since_ns == INT64_MIN)
        memory->dead_air_since_ns = tower_clock_now_ns(socket->config.clock);
}

/* How it stands behind the frame that is made of these. */
static struct tower_ingest_air next_air(struct tower_ingest_air air, bool takes_on_air,
                                        bool is_mixed) {
    bool was_alone = (air.state & TOWER_INGEST_ALONE) != 0;
    air.state &= TOWER_INGEST_ALONE;
    if (takes_on_air)
        air.is_new = 0;
    if (!is_mixed || ++air.fade_done < air.fade_frames)
        return air;
    air.outgoing = -1;
    air.fade_done = 0;
    air.fade_frames = 0;
    air.state = was_alone ? TOWER_INGEST_SEAM : 0;
    return air;
}

static const void *frame_of(const struct tower_ingest_producer *producer) {
    return producer->entry->framer.frame;
}

void tower_pcm_socket_deliver(struct tower_pcm_socket *socket, bool takes_on_air,
                              bool takes_outgoing) {
    struct tower_router_stats router;
    struct tower_ingest_memory *memory = socket->memory;
    struct tower_ingest_air air = tower_ingest_memory_air(memory);
    const int32_t places[] = {takes_on_air ? air.on_air : -1, takes_outgoing ? air.outgoing : -1};
    /* A fade begins with what comes: before that there is nothing to fade to. */
    bool is_mixed = air.fade_frames > 0 && (takes_on_air || air.fade_done > 0);
    if (takes_on_air && (socket->on_air->entry->incoming.is_there || socket->tells_title))
        deliver_title(socket);
    if (takes_outgoing)
        keep_title(socket, socket->outgoing->entry);
    const void *frame = frame_of(takes_on_air ? socket->on_air : socket->outgoing);
    if (is_mixed) {
        tower_handover_mix(takes_outgoing ? frame_of(socket->outgoing) : NULL,
                           takes_on_air ? frame_of(socket->on_air) : NULL, socket->mixed,
                           socket->config.frame_samples, air.fade_done, air.fade_frames);
        frame = socket->mixed;
    }
    if (air.state & TOWER_INGEST_SEAM)
        tower_input_gate_mark_discontinuity(&socket->gate);
    bool was_closed = socket->gate.is_closed;
    tower_router_get_stats(socket->config.router, &router);
    tower_ingest_memory_begin_delivery(memory, router.pushed_count, places,
                                       next_air(air, takes_on_air, is_mixed));
    tower_input_gate_put(&socket->gate, frame, tower_clock_now_ns(socket->config.clock));
    tower_ingest_memory_end_delivery(memory);
    tower_pcm_socket_follow_air(socket);
    tower_pcm_socket_note_gate(socket);
    /* Its title may have ended meanwhile. */
    if (was_closed && !socket->gate.is_closed)
        socket->tells_title = true;
    pthread_mutex_lock(&socket->lock);
    socket->stats.frames++;
    pthread_mutex_unlock(&socket->lock);
    tower_router_get_stats(socket->config.router, &router);
    socket->underflows_seen = router.underflow_count;
    socket->hold_until_ns = INT64_MIN;
}
