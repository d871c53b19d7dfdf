/* pcm_socket_air.c - who is on air: by who came first, by rank, by hand; and how it changes. */
#include "fd.h"
#include "pcm_socket_state.h"
#include "tower/log.h"

#include <sys/ioctl.h>

/* Of a producer that has a name at most so many frames are read ahead: its audio waits in its
 * socket. */
#define READ_AHEAD_FRAMES 12
/* One that is live, and sent something so short a time ago, sends. */
#define FRESH_NS TOWER_NS_PER_S

static int64_t now(const struct tower_pcm_socket *socket) {
    return tower_clock_now_ns(socket->config.clock);
}

void tower_pcm_socket_follow_air(struct tower_pcm_socket *socket) {
    struct tower_ingest_air air = tower_ingest_memory_air(socket->memory);
    socket->on_air = air.on_air >= 0 ? &socket->producers[air.on_air] : NULL;
    socket->outgoing = air.outgoing >= 0 ? &socket->producers[air.outgoing] : NULL;
}

void tower_pcm_socket_set_air(struct tower_pcm_socket *socket, struct tower_ingest_air air) {
    tower_ingest_memory_set_air(socket->memory, air);
    tower_pcm_socket_follow_air(socket);
}

static void tell_producer(struct tower_pcm_socket *socket,
                          const struct tower_ingest_producer *producer, bool is_on_air) {
    struct tower_producer_info info = tower_pcm_socket_info(socket, producer);
    info.is_on_air = is_on_air;
    if (socket->config.on_producer)
        socket->config.on_producer(socket->config.user, &info, is_on_air);
}

/* ---- who ---- */

uint32_t tower_pcm_socket_rank(const struct tower_pcm_socket *socket,
                               const struct tower_ingest_producer *producer) {
    return tower_priorities_rank(&socket->priorities, producer->entry->name);
}

static bool is_chosen(const struct tower_pcm_socket *socket,
                      const struct tower_ingest_producer *producer) {
    return producer->entry->id == socket->memory->chosen_id;
}

bool tower_pcm_socket_has_audio(struct tower_pcm_socket *socket,
                                const struct tower_ingest_producer *producer) {
    int64_t last_data_ns = producer->entry->last_data_ns;
    bool is_read = tower_ingest_producer_is_live(producer) || producer == socket->on_air;
    return producer->is_readable || tower_ingest_memory_has_frame(producer->entry) ||
           (is_read && !producer->has_ended && last_data_ns != INT64_MIN &&
            now(socket) < last_data_ns + FRESH_NS);
}

static bool comes_before(const struct tower_pcm_socket *socket,
                         const struct tower_ingest_producer *a,
                         const struct tower_ingest_producer *b) {
    uint32_t a_rank = tower_pcm_socket_rank(socket, a), b_rank = tower_pcm_socket_rank(socket, b);
    if (is_chosen(socket, a) || is_chosen(socket, b))
        return is_chosen(socket, a);
    return a_rank != b_rank ? a_rank < b_rank : a->entry->turn < b->entry->turn;
}

/* The best of those who have something to say, and of whom `is_it` (NULL: whoever); NULL: nobody.
 */
static struct tower_ingest_producer *
find_best(struct tower_pcm_socket *socket,
          bool (*is_it)(struct tower_pcm_socket *, const struct tower_ingest_producer *)) {
    struct tower_ingest_producer *best = NULL;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) >= 0 && producer != socket->on_air &&
            atomic_load_explicit(&producer->entry->is_known, memory_order_relaxed) &&
            tower_pcm_socket_has_audio(socket, producer) && (!is_it || is_it(socket, producer)) &&
            (!best || comes_before(socket, producer, best)))
            best = producer;
    }
    return best;
}

static struct tower_ingest_producer *find_next(struct tower_pcm_socket *socket) {
    return find_best(socket, NULL);
}

bool tower_pcm_socket_outranks(const struct tower_pcm_socket *socket,
                               const struct tower_ingest_producer *producer) {
    return socket->on_air && producer != socket->on_air && !is_chosen(socket, socket->on_air) &&
           tower_pcm_socket_rank(socket, producer) < tower_pcm_socket_rank(socket, socket->on_air);
}

int64_t tower_pcm_socket_settles_ns(const struct tower_pcm_socket *socket) {
    const struct tower_ingest_memory *memory = socket->memory;
    if (!socket->on_air || memory->lost_ns == INT64_MIN ||
        memory->lost_rank >= tower_pcm_socket_rank(socket, socket->on_air) ||
        now(socket) >= memory->lost_ns + socket->config.settle_ns)
        return INT64_MIN;
    return memory->lost_ns + socket->config.settle_ns;
}

/* Nobody makes way for one that has less than a frame to say. */
static bool is_challenger(struct tower_pcm_socket *socket,
                          const struct tower_ingest_producer *producer) {
    int unread = 0;
    return tower_pcm_socket_outranks(socket, producer) &&
           ioctl(tower_ingest_producer_fd(producer), FIONREAD, &unread) == 0 && unread >= 0 &&
           producer->entry->framer.filled_bytes + (size_t)unread >= socket->frame_bytes;
}

/* ---- changes ---- */

/* The highest of those who lost the air lately is who the others are not to be disturbed by, for as
 * long as it is lately: lower ones that go meanwhile do not make it so anew. */
static void note_lost(struct tower_pcm_socket *socket,
                      const struct tower_ingest_producer *producer) {
    struct tower_ingest_memory *memory = socket->memory;
    uint32_t rank = tower_pcm_socket_rank(socket, producer);
    bool is_over =
        memory->lost_ns == INT64_MIN || now(socket) >= memory->lost_ns + socket->config.settle_ns;
    if (is_over || rank <= memory->lost_rank) {
        memory->lost_rank = rank;
        memory->lost_ns = now(socket);
    }
    if (is_chosen(socket, producer))
        memory->chosen_id = 0;
}

static void count_partial(struct tower_pcm_socket *socket, size_t partial_bytes) {
    if (partial_bytes == 0)
        return;
    pthread_mutex_lock(&socket->lock);
    socket->stats.partial_frames++;
    socket->stats.partial_bytes += partial_bytes;
    pthread_mutex_unlock(&socket->lock);
}

/* The programme of `producer`, which is on air, ends: what is not whole is dropped (R12), and the
 * title with it. One that was being faded out will go on from where that had come to. */
static size_t end_programme(struct tower_pcm_socket *socket,
                            struct tower_ingest_producer *producer) {
    struct tower_ingest_air air = tower_ingest_memory_air(socket->memory);
    if (socket->outgoing)
        socket->outgoing->entry->faded_frames = air.fade_done;
    note_lost(socket, producer);
    tower_ingest_memory_end(socket->memory);
    tower_pcm_socket_follow_air(socket);
    size_t partial_bytes = tower_ingest_memory_drop_frame(producer->entry);
    count_partial(socket, partial_bytes);
    producer->entry->since_ns = now(socket);
    tower_input_gate_end_programme(&socket->gate, now(socket));
    tower_pcm_socket_note_gate(socket);
    tell_producer(socket, producer, false);
    return partial_bytes;
}

/* What comes goes on alone, and the wave of the other breaks off. */
static void lose_outgoing(struct tower_pcm_socket *socket) {
    struct tower_ingest_air air = tower_ingest_memory_air(socket->memory);
    air.outgoing = -1;
    air.state |= TOWER_INGEST_SEAM;
    tower_pcm_socket_set_air(socket, air);
}

void tower_pcm_socket_drop(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer,
                           const char *why) {
    bool was_on_air = producer == socket->on_air;
    size_t partial_bytes;
    if (was_on_air) {
        partial_bytes = end_programme(socket, producer);
    } else {
        if (producer == socket->outgoing)
            lose_outgoing(socket);
        partial_bytes = tower_ingest_memory_drop_frame(producer->entry);
        count_partial(socket, partial_bytes);
    }
    int fd = tower_ingest_producer_fd(producer);
    /* Who sends it a title does so under the lock. */
    pthread_mutex_lock(&socket->lock);
    for (size_t i = 0; i < socket->stats.n_producers; i++) {
        if (socket->fds[i] == fd)
            socket->fds[i] = -1;
    }
    pthread_mutex_unlock(&socket->lock);
    tower_ingest_memory_remove(producer->entry);
    tower_fd_close(&fd);
    tower_log(TOWER_LOG_INFO, "ingest",
              "producer %llu (process %ld) %s after %llu bytes%s; %zu bytes of a frame dropped",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid, why,
              (unsigned long long)producer->entry->bytes, was_on_air ? ", was on air" : "",
              partial_bytes);
}

static void begin_turn(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer) {
    producer->entry->since_ns = now(socket);
    socket->tells_title = true;
    socket->hold_until_ns = INT64_MIN;
    tell_producer(socket, producer, true);
    tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld%s%s) is on air",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid,
              producer->entry->name[0] ? ", " : "", producer->entry->name);
}

/* On air behind a seam. One that was faded out is faded in, from where that had come to. */
static struct tower_ingest_air air_behind_seam(struct tower_pcm_socket *socket,
                                               const struct tower_ingest_producer *producer) {
    uint32_t faded_frames = producer->entry->faded_frames;
    struct tower_ingest_air air = {
        .on_air = (int8_t)tower_ingest_producer_place(socket, producer),
        .outgoing = -1,
        .is_new = 1,
        .state = TOWER_INGEST_SEAM,
    };
    if (faded_frames == 0 || socket->fade_frames == 0)
        return air;
    air.fade_frames = socket->fade_frames;
    if (faded_frames < socket->fade_frames)
        air.fade_done = (uint16_t)(socket->fade_frames - faded_frames);
    return air;
}

static void put_on_air(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer) {
    tower_pcm_socket_set_air(socket, air_behind_seam(socket, producer));
    producer->entry->faded_frames = 0;
    producer->has_taken_over = false;
    begin_turn(socket, producer);
}

/* Both have audio, and what is heard is the one that makes way. */
static bool can_fade(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    tower_router_get_stats(socket->config.router, &router);
    return socket->fade_frames > 0 && !socket->gate.is_closed &&
           (socket->on_air->is_readable || tower_ingest_memory_has_frame(socket->on_air->entry) ||
            router.count > 0);
}

static void take_over(struct tower_pcm_socket *socket, struct tower_ingest_producer *next) {
    struct tower_ingest_producer *last = socket->on_air;
    struct tower_ingest_air air = air_behind_seam(socket, next);
    tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld%s%s) makes way, %s",
              (unsigned long long)last->entry->id, (long)last->entry->pid,
              last->entry->name[0] ? ", " : "", last->entry->name,
              is_chosen(socket, next) ? "since another was chosen" : "to one of a higher rank");
    if (can_fade(socket)) {
        air.outgoing = (int8_t)tower_ingest_producer_place(socket, last);
        air.state = 0;
        air.fade_done = 0;
        air.fade_frames = socket->fade_frames;
        /* Where it stays off the air. */
        last->entry->faded_frames = socket->fade_frames;
    }
    last->entry->since_ns = now(socket);
    tower_input_gate_end_programme(&socket->gate, now(socket));
    tower_pcm_socket_note_gate(socket);
    tell_producer(socket, last, false);
    tower_pcm_socket_set_air(socket, air);
    next->entry->faded_frames = 0;
    next->has_taken_over = true;
    pthread_mutex_lock(&socket->lock);
    socket->stats.takeovers++;
    pthread_mutex_unlock(&socket->lock);
    begin_turn(socket, next);
}

static struct tower_ingest_producer *find_chosen(struct tower_pcm_socket *socket) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        if (tower_ingest_producer_fd(&socket->producers[i]) >= 0 &&
            is_chosen(socket, &socket->producers[i]))
            return &socket->producers[i];
    }
    return NULL;
}

/* A fade that somebody keeps going comes to its end first. */
static bool is_fading(struct tower_pcm_socket *socket) {
    return tower_ingest_memory_air(socket->memory).fade_frames > 0 &&
           (tower_pcm_socket_has_audio(socket, socket->on_air) ||
            (socket->outgoing && tower_pcm_socket_has_audio(socket, socket->outgoing)));
}

static void consider_takeover(struct tower_pcm_socket *socket) {
    socket->is_fading = socket->on_air && is_fading(socket);
    if (!socket->on_air || socket->is_fading)
        return;
    struct tower_ingest_producer *next = find_chosen(socket);
    if (next == socket->on_air)
        return;
    if (next && !tower_pcm_socket_has_audio(socket, next))
        next = NULL;
    if (!next) {
        socket->memory->chosen_id = 0;
        if (tower_pcm_socket_settles_ns(socket) == INT64_MIN)
            next = find_best(socket, is_challenger);
    }
    if (next)
        take_over(socket, next);
}

static void take_choice(struct tower_pcm_socket *socket) {
    pthread_mutex_lock(&socket->lock);
    bool has_choice = socket->has_choice;
    uint64_t id = socket->choice_id;
    socket->has_choice = false;
    pthread_mutex_unlock(&socket->lock);
    if (has_choice)
        socket->memory->chosen_id = id;
}

/* One on air that has been mute for idle_ns makes way for one that has audio. */
static void yield_if_idle(struct tower_pcm_socket *socket) {
    struct tower_ingest_producer *producer = socket->on_air;
    if (!producer || producer->is_readable || socket->config.idle_ns == 0 || !find_next(socket))
        return;
    if (now(socket) < producer->entry->last_data_ns + socket->config.idle_ns)
        return;
    tower_log(TOWER_LOG_WARNING, "ingest",
              "producer %llu (process %ld) sends nothing and makes way for one that does",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid);
    /* The rest of that frame may yet come, and is what the title is for. */
    tower_ingest_memory_keep_title(producer->entry);
    (void)end_programme(socket, producer);
    producer->entry->turn = socket->memory->next_turn++;
}

/* ---- frames ---- */

bool tower_pcm_socket_has_room(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    if (!tower_input_gate_drain(&socket->gate))
        return false;
    if (!socket->on_air || (socket->on_air->entry->name[0] == '\0' && !socket->outgoing))
        return true;
    tower_router_get_stats(socket->config.router, &router);
    return router.count < READ_AHEAD_FRAMES;
}

/* There is something to read: is it held back? A programme that has run dry has already been heard
 * to stop; a little later and steady is better than stopping again at the next late write. It waits
 * in its socket, and for a time rather than an amount: a producer that writes in large pieces is
 * no safer from a late one. One that has ended cannot be late, and what the gate holds is a cushion
 * as well. A hold that is long over and brought no frame was for something else.
 */
static bool is_held_back(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    tower_router_get_stats(socket->config.router, &router);
    if (socket->cushion_ns == 0 || socket->on_air->has_ended || router.count > 0 ||
        socket->gate.n_held > 0 || router.underflow_count == socket->underflows_seen) {
        socket->hold_until_ns = INT64_MIN;
        return false;
    }
    if (socket->hold_until_ns == INT64_MIN ||
        now(socket) > socket->hold_until_ns + socket->cushion_ns)
        socket->hold_until_ns = now(socket) + socket->cushion_ns;
    return now(socket) < socket->hold_until_ns;
}

/* The outgoing one alone goes on in its fade, or no longer does: what came beside it breaks off, or
 * comes back. */
static void note_alone(struct tower_pcm_socket *socket, bool is_alone) {
    struct tower_ingest_air air = tower_ingest_memory_air(socket->memory);
    if (air.fade_done == 0 || is_alone == ((air.state & TOWER_INGEST_ALONE) != 0))
        return;
    air.state = TOWER_INGEST_SEAM | (is_alone ? TOWER_INGEST_ALONE : 0);
    tower_pcm_socket_set_air(socket, air);
}

/* Two programmes, each at its own pace: a frame of both, if that can be waited for. It can until
 * the pump has taken the last one there was, which leaves a tick's time to notice it: two that are
 * paced send their frames some time within a tick of each other, and have no more than one queued.
 */
static bool deliver_faded(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    bool has_outgoing = tower_pcm_socket_fill(socket, socket->outgoing);
    if (!socket->outgoing)
        return true;
    bool has_on_air = tower_pcm_socket_fill(socket, socket->on_air);
    if (!socket->on_air || (!has_on_air && !has_outgoing))
        return false;
    tower_router_get_stats(socket->config.router, &router);
    if (!(has_on_air && has_outgoing) && router.count > 0)
        return false;
    if (!has_outgoing) {
        lose_outgoing(socket);
        return true;
    }
    note_alone(socket, !has_on_air);
    tower_pcm_socket_deliver(socket, has_on_air, true);
    return true;
}

/* False: there is no more to be done now, or nobody on air any more. */
static bool deliver_next(struct tower_pcm_socket *socket) {
    if (!tower_pcm_socket_has_room(socket))
        return false;
    if (socket->outgoing)
        return deliver_faded(socket);
    struct tower_ingest_producer *producer = socket->on_air;
    if (!tower_ingest_memory_has_frame(producer->entry) &&
        (!producer->is_readable || is_held_back(socket) ||
         !tower_pcm_socket_fill(socket, producer)))
        return false;
    tower_pcm_socket_deliver(socket, true, false);
    return true;
}

static void watch_input(struct tower_pcm_socket *socket) {
    struct tower_input_monitor *monitor = socket->config.monitor;
    if (monitor)
        socket->watch_at_ns =
            tower_input_monitor_watch(monitor, socket->stats.n_producers > 0,
                                      socket->on_air && socket->on_air->is_readable, now(socket));
}

/* A pump that makes up for missed ticks takes at once what there is, and then waits for no longer
 * than a moment: who keeps little for it looks again soon. */
static void note_shortage(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    tower_router_get_stats(socket->config.router, &router);
    socket->is_short = router.count < READ_AHEAD_FRAMES / 2 && router.capacity > READ_AHEAD_FRAMES;
}

void tower_pcm_socket_serve(struct tower_pcm_socket *socket) {
    note_shortage(socket);
    (void)tower_input_gate_drain(&socket->gate);
    tower_pcm_socket_note_gate(socket);
    tower_pcm_socket_ask(socket);
    take_choice(socket);
    yield_if_idle(socket);
    consider_takeover(socket);
    for (;;) {
        if (!socket->on_air) {
            struct tower_ingest_producer *next = find_next(socket);
            if (!next)
                break;
            put_on_air(socket, next);
        }
        while (socket->on_air && deliver_next(socket))
            ;
        if (socket->on_air)
            tower_pcm_socket_throw_away(socket);
        if (socket->on_air)
            break;
    }
    tower_pcm_socket_publish(socket);
    watch_input(socket);
}
