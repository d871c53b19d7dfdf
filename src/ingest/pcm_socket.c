/* pcm_socket.c - the ingest thread: one producer on air, the others waiting, back-pressure. */
#include "fd.h"
#include "pcm_socket_state.h"
#include "thread.h"
#include "tower/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define EVENTS_AT_ONCE 16
/* How long nobody is accepted after descriptors ran out. */
#define ACCEPT_PAUSE_NS TOWER_NS_PER_S
/* How often that is said. */
#define SAY_AGAIN_NS (60 * TOWER_NS_PER_S)

/* ---- towards the router ---- */

static void tell_title(struct tower_pcm_socket *socket) {
    const struct tower_ingest_entry *entry = socket->on_air->entry;
    int32_t bytes = atomic_load_explicit(&entry->title_bytes, memory_order_relaxed);
    if (socket->config.on_title)
        socket->config.on_title(socket->config.user, bytes < 0 ? NULL : entry->title,
                                bytes < 0 ? 0 : (size_t)bytes, socket->memory->told_frame);
}

/* One that another process told of, while its frame waits in the router: who was told is gone. */
static void tell_again(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    tower_router_get_stats(socket->config.router, &router);
    if (socket->on_air && socket->memory->told_frame >= router.popped_count &&
        socket->memory->told_frame < router.pushed_count)
        tell_title(socket);
}

/* A whole frame is about to be queued, and has a title or begins a turn on air. Nobody else queues
 * any, so its number is the router's count and that of those which the gate holds. */
static void deliver_title(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    struct tower_ingest_memory *memory = socket->memory;
    struct tower_ingest_entry *entry = socket->on_air->entry;
    tower_router_get_stats(socket->config.router, &router);
    if (memory->title.is_there) {
        tower_ingest_memory_keep_title(entry, &memory->title);
        pthread_mutex_lock(&socket->lock);
        socket->stats.titles++;
        pthread_mutex_unlock(&socket->lock);
    }
    memory->told_frame = router.pushed_count + socket->gate.n_held;
    tell_title(socket);
    memory->title.is_there = false;
    socket->is_new_on_air = false;
}

static void note_gate(struct tower_pcm_socket *socket) {
    struct tower_ingest_memory *memory = socket->memory;
    memory->held_frames = socket->gate.n_held;
    if (!socket->gate.is_closed)
        memory->dead_air_since_ns = INT64_MIN;
    else if (memory->dead_air_since_ns == INT64_MIN)
        memory->dead_air_since_ns = tower_clock_now_ns(socket->config.clock);
}

/* A whole frame of the producer on air is there, and room for it. */
static void deliver(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    struct tower_ingest_memory *memory = socket->memory;
    if (memory->title.is_there || socket->is_new_on_air)
        deliver_title(socket);
    bool was_closed = socket->gate.is_closed;
    tower_router_get_stats(socket->config.router, &router);
    tower_ingest_memory_begin_delivery(memory, router.pushed_count);
    tower_input_gate_put(&socket->gate, memory->framer.frame,
                         tower_clock_now_ns(socket->config.clock));
    tower_ingest_memory_end_delivery(memory);
    note_gate(socket);
    /* Its title may have ended meanwhile. */
    if (was_closed && !socket->gate.is_closed)
        socket->is_new_on_air = true;
    pthread_mutex_lock(&socket->lock);
    socket->stats.frames++;
    pthread_mutex_unlock(&socket->lock);
    tower_router_get_stats(socket->config.router, &router);
    socket->underflows_seen = router.underflow_count;
    socket->hold_until_ns = INT64_MIN;
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
    int64_t now_ns = tower_clock_now_ns(socket->config.clock);
    if (socket->hold_until_ns == INT64_MIN || now_ns > socket->hold_until_ns + socket->cushion_ns)
        socket->hold_until_ns = now_ns + socket->cushion_ns;
    return now_ns < socket->hold_until_ns;
}

/* ---- producers ---- */

static struct tower_producer_info info_of(const struct tower_ingest_producer *producer,
                                          bool is_on_air) {
    const struct tower_ingest_entry *entry = producer->entry;
    return (struct tower_producer_info){
        .id = entry->id,
        .pid = entry->pid,
        .is_on_air = is_on_air,
        .connected_ns = entry->connected_ns,
        .last_data_ns = entry->last_data_ns,
        .bytes = entry->bytes,
        .clock = producer->clock,
    };
}

static void tell_producer(struct tower_pcm_socket *socket, bool is_on_air) {
    struct tower_producer_info info = info_of(socket->on_air, is_on_air);
    if (socket->config.on_producer)
        socket->config.on_producer(socket->config.user, &info, is_on_air);
}

/* Show in the statistics what the table holds, in the order of the turns. */
static void publish_producers(struct tower_pcm_socket *socket) {
    const struct tower_ingest_producer *sorted[TOWER_PRODUCERS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) < 0)
            continue;
        size_t at = n++;
        for (; at > 0 && sorted[at - 1]->entry->id > producer->entry->id; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = producer;
    }
    struct tower_pcm_socket_stats *stats = &socket->stats;
    pthread_mutex_lock(&socket->lock);
    stats->n_producers = n;
    stats->withheld_frames = socket->gate.withheld_frames;
    for (size_t i = 0; i < n; i++)
        stats->producers[i] = info_of(sorted[i], sorted[i] == socket->on_air);
    pthread_mutex_unlock(&socket->lock);
    /* Nobody else writes to them, so reading needs no lock. */
    socket->memory->counters = (struct tower_ingest_counters){
        .accepted = stats->accepted,
        .refused = stats->refused,
        .bytes = stats->bytes,
        .frames = stats->frames,
        .partial_frames = stats->partial_frames,
        .partial_bytes = stats->partial_bytes,
        .withheld_frames = stats->withheld_frames,
        .titles = stats->titles,
        .bad_titles = stats->bad_titles,
    };
}

/* The programme on air ends: what is not whole is dropped (R12), and the title with it. */
static void end_programme(struct tower_pcm_socket *socket) {
    size_t partial_bytes = socket->memory->framer.filled_bytes;
    tower_ingest_memory_end(socket->memory);
    if (partial_bytes > 0) {
        pthread_mutex_lock(&socket->lock);
        socket->stats.partial_frames++;
        socket->stats.partial_bytes += partial_bytes;
        pthread_mutex_unlock(&socket->lock);
    }
    tower_input_gate_end_programme(&socket->gate, tower_clock_now_ns(socket->config.clock));
    note_gate(socket);
    tell_producer(socket, false);
    socket->on_air = NULL;
}

static void drop_producer(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer,
                          const char *why) {
    bool was_on_air = producer == socket->on_air;
    size_t partial_bytes = was_on_air ? socket->memory->framer.filled_bytes : 0;
    if (was_on_air)
        end_programme(socket);
    int fd = tower_ingest_producer_fd(producer);
    tower_ingest_memory_remove(producer->entry);
    tower_fd_close(&fd);
    tower_log(TOWER_LOG_INFO, "ingest",
              "producer %llu (process %ld) %s after %llu bytes%s; %zu bytes of a frame dropped",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid, why,
              (unsigned long long)producer->entry->bytes, was_on_air ? ", was on air" : "",
              partial_bytes);
}

/* Whoever has something to say and came first; NULL: nobody. */
static struct tower_ingest_producer *find_next(struct tower_pcm_socket *socket) {
    struct tower_ingest_producer *next = NULL;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) >= 0 && producer != socket->on_air &&
            producer->is_readable && (!next || producer->entry->turn < next->entry->turn))
            next = producer;
    }
    return next;
}

static void put_on_air(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer) {
    socket->on_air = producer;
    socket->is_new_on_air = true;
    /* One that made way may have done so within a sample. */
    tower_ingest_memory_put_on_air(socket->memory, (int32_t)(producer - socket->producers),
                                   -producer->entry->bytes % TOWER_SAMPLE_BYTES);
    socket->hold_until_ns = INT64_MIN;
    tower_input_gate_mark_discontinuity(&socket->gate);
    tell_producer(socket, true);
    tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld) is on air",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid);
}

static void note_read(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer,
                      size_t bytes) {
    producer->entry->last_data_ns = tower_clock_now_ns(socket->config.clock);
    pthread_mutex_lock(&socket->lock);
    socket->stats.bytes += bytes;
    pthread_mutex_unlock(&socket->lock);
}

static void note_bad_title(struct tower_pcm_socket *socket,
                           struct tower_ingest_producer *producer) {
    pthread_mutex_lock(&socket->lock);
    socket->stats.bad_titles++;
    pthread_mutex_unlock(&socket->lock);
    if (!producer->entry->has_bad_title)
        tower_log(TOWER_LOG_WARNING, "ingest",
                  "producer %llu (process %ld) sent a descriptor that is no title (a memory file "
                  "of UTF-8 text, one at a time); it is closed, as are any that follow",
                  (unsigned long long)producer->entry->id, (long)producer->entry->pid);
    producer->entry->has_bad_title = 1;
}

/* Said once of each producer: whoever goes in and out of range could fill the log. */
static void note_clock(struct tower_ingest_producer *producer,
                       const struct tower_clock_report *report) {
    producer->clock = *report;
    if (!report->is_out_of_range || producer->has_said_clock)
        return;
    producer->has_said_clock = true;
    tower_log(TOWER_LOG_WARNING, "ingest",
              "the clock of the source of producer %llu (process %ld) is out of range: %+.0f ppm "
              "off this host's",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid, report->ppm);
}

/* Read the producer on air while there is room: until its socket is empty, or it is gone. A read
 * ends behind the bytes that a title came with, but may begin before them; since it never goes
 * beyond the frame being filled, the title is that frame's wherever in it the bytes lie. */
static void read_on_air(struct tower_pcm_socket *socket) {
    struct tower_ingest_producer *producer = socket->on_air;
    struct tower_ingest_memory *memory = socket->memory;
    while (tower_input_gate_drain(&socket->gate)) {
        if (tower_ingest_memory_has_frame(memory))
            deliver(socket);
        if (!producer->is_readable || !tower_input_gate_drain(&socket->gate) ||
            is_held_back(socket))
            return;
        size_t space_bytes;
        void *space = tower_ingest_memory_begin_read(memory, &space_bytes);
        struct tower_incoming_clock clock = {.is_there = false};
        bool is_bad;
        ssize_t result = tower_titled_recv(tower_ingest_producer_fd(producer), &memory->call, space,
                                           space_bytes, &memory->title, &clock, &is_bad);
        int error = errno;
        size_t n = tower_ingest_memory_end_read(memory);
        if (result >= 0 && is_bad)
            note_bad_title(socket, producer);
        if (result >= 0 && clock.is_there)
            note_clock(producer, &clock.report);
        if (result > 0) {
            note_read(socket, producer, n);
        } else if (result == 0) {
            drop_producer(socket, producer, "ended");
            return;
        } else if (error == EAGAIN || error == EWOULDBLOCK) {
            producer->is_readable = false;
        } else if (error != EINTR) {
            drop_producer(socket, producer, "broke off");
            return;
        }
    }
}

/* One on air that has been mute for idle_ns makes way for one that has audio. */
static void yield_if_idle(struct tower_pcm_socket *socket) {
    struct tower_ingest_producer *producer = socket->on_air;
    if (!producer || producer->is_readable || socket->config.idle_ns == 0 || !find_next(socket))
        return;
    if (tower_clock_now_ns(socket->config.clock) <
        producer->entry->last_data_ns + socket->config.idle_ns)
        return;
    tower_log(TOWER_LOG_WARNING, "ingest",
              "producer %llu (process %ld) sends nothing and makes way for one that does",
              (unsigned long long)producer->entry->id, (long)producer->entry->pid);
    /* The rest of that frame may yet come, and is what the title is for. */
    if (socket->memory->title.is_there)
        tower_ingest_memory_keep_title(producer->entry, &socket->memory->title);
    end_programme(socket);
    producer->entry->turn = socket->memory->next_turn++;
}

static void watch_input(struct tower_pcm_socket *socket) {
    struct tower_input_monitor *monitor = socket->config.monitor;
    if (monitor)
        socket->watch_at_ns = tower_input_monitor_watch(
            monitor, socket->stats.n_producers > 0, socket->on_air && socket->on_air->is_readable,
            tower_clock_now_ns(socket->config.clock));
}

/* Do all that can be done without waiting. */
static void serve(struct tower_pcm_socket *socket) {
    (void)tower_input_gate_drain(&socket->gate);
    note_gate(socket);
    yield_if_idle(socket);
    for (;;) {
        if (!socket->on_air) {
            struct tower_ingest_producer *next = find_next(socket);
            if (!next)
                break;
            put_on_air(socket, next);
        }
        read_on_air(socket);
        if (socket->on_air)
            break;
    }
    publish_producers(socket);
    watch_input(socket);
}

/* ---- the loop ---- */

static void add_producer(struct tower_pcm_socket *socket, int fd) {
    struct tower_ingest_memory *memory = socket->memory;
    struct tower_ingest_entry *place = tower_ingest_memory_find_free(memory);
    uint64_t id = memory->next_id + 1;
    int error =
        place ? tower_pcm_socket_watch(socket, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, id) : -EUSERS;
    if (error < 0) {
        pthread_mutex_lock(&socket->lock);
        socket->stats.refused++;
        pthread_mutex_unlock(&socket->lock);
        tower_log(TOWER_LOG_WARNING, "ingest", "a producer was turned away: %s",
                  place ? strerror(-error) : "as many are connected as there are places");
        tower_fd_close(&fd);
        return;
    }
    struct ucred peer = {0};
    socklen_t peer_bytes = sizeof peer;
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes);
    memory->next_id = id;
    place->pid = peer.pid;
    place->id = id;
    place->turn = memory->next_turn++;
    place->bytes = 0;
    place->connected_ns = tower_clock_now_ns(socket->config.clock);
    place->last_data_ns = INT64_MIN;
    place->has_bad_title = 0;
    place->title_bytes = -1;
    struct tower_ingest_producer *producer = &socket->producers[place - memory->entries];
    producer->is_readable = false;
    producer->has_ended = false;
    producer->clock = (struct tower_clock_report){.is_known = false};
    producer->has_said_clock = false;
    tower_ingest_memory_add(place, fd);
    pthread_mutex_lock(&socket->lock);
    socket->stats.accepted++;
    pthread_mutex_unlock(&socket->lock);
    tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld) connected",
              (unsigned long long)id, (long)peer.pid);
}

static void pause_accepting(struct tower_pcm_socket *socket, int error) {
    int64_t now_ns = tower_clock_now_ns(socket->config.clock);
    socket->accept_after_ns = now_ns + ACCEPT_PAUSE_NS;
    if (now_ns < socket->say_again_ns)
        return;
    socket->say_again_ns = now_ns + SAY_AGAIN_NS;
    tower_log(TOWER_LOG_ERROR, "ingest",
              "cannot accept producers: %s; those there are go on, new ones wait", strerror(error));
}

/* Accept all who knock. When descriptors have run out, those connected go on, and the rest are
 * asked to wait: the listener is edge-triggered, so it is looked at again when the pause is over.
 */
static void accept_producers(struct tower_pcm_socket *socket) {
    socket->accept_after_ns = INT64_MIN;
    for (;;) {
        int fd = accept4(socket->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add_producer(socket, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            pause_accepting(socket, errno);
        return;
    }
}

static void note_event(struct tower_pcm_socket *socket, uint64_t id, uint32_t events) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) < 0 || producer->entry->id != id)
            continue;
        producer->is_readable = true;
        producer->has_ended = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
        /* Who leaves while waiting, with nothing left to play, leaves at once. */
        int unread = 0;
        if (producer != socket->on_air && producer->has_ended &&
            ioctl(tower_ingest_producer_fd(producer), FIONREAD, &unread) == 0 && unread == 0)
            drop_producer(socket, producer, "left");
        return;
    }
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) {
    return a_ns < b_ns ? a_ns : b_ns;
}

/* When there is something to do without an event. */
static int64_t next_deadline_ns(struct tower_pcm_socket *socket) {
    int64_t deadline_ns = socket->watch_at_ns;
    const struct tower_ingest_producer *producer = socket->on_air;
    if (socket->accept_after_ns != INT64_MIN)
        deadline_ns = earlier(deadline_ns, socket->accept_after_ns);
    /* Held back; or back-pressure: no room, so look again when the pump has taken a frame. */
    if (producer && producer->is_readable)
        deadline_ns =
            earlier(deadline_ns, socket->hold_until_ns != INT64_MIN
                                     ? socket->hold_until_ns
                                     : tower_clock_now_ns(socket->config.clock) + socket->frame_ns);
    if (producer && !producer->is_readable && socket->config.idle_ns > 0 && find_next(socket))
        deadline_ns = earlier(deadline_ns, producer->entry->last_data_ns + socket->config.idle_ns);
    return deadline_ns;
}

static void *run_ingest(void *arg) {
    struct tower_pcm_socket *socket = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    tell_again(socket);
    while (!atomic_load(&socket->is_stopping)) {
        int timeout_ms =
            tower_clock_poll_timeout_ms(socket->config.clock, next_deadline_ns(socket));
        int n = epoll_wait(socket->epoll_fd, events, EVENTS_AT_ONCE, timeout_ms);
        for (int i = 0; i < n; i++) {
            uint64_t id = events[i].data.u64;
            if (id == EVENT_WAKE)
                tower_eventfd_drain(socket->wake_fd);
            else if (id == EVENT_LISTENER)
                accept_producers(socket);
            else
                note_event(socket, id, events[i].events);
        }
        if (socket->accept_after_ns != INT64_MIN &&
            tower_clock_now_ns(socket->config.clock) >= socket->accept_after_ns)
            accept_producers(socket);
        serve(socket);
    }
    return NULL;
}

int tower_pcm_socket_start(struct tower_pcm_socket *socket) {
    if (socket->is_started)
        return -EALREADY;
    atomic_store(&socket->is_stopping, false);
    int error = tower_thread_start(&socket->thread, "ingest", run_ingest, socket);
    if (error < 0)
        return error;
    socket->is_started = true;
    return 0;
}

void tower_pcm_socket_stop(struct tower_pcm_socket *socket) {
    if (!socket->is_started)
        return;
    atomic_store(&socket->is_stopping, true);
    tower_eventfd_signal(socket->wake_fd);
    (void)pthread_join(socket->thread, NULL);
    socket->is_started = false;
}

void tower_pcm_socket_get_stats(struct tower_pcm_socket *socket,
                                struct tower_pcm_socket_stats *ret_stats) {
    pthread_mutex_lock(&socket->lock);
    *ret_stats = socket->stats;
    pthread_mutex_unlock(&socket->lock);
}
