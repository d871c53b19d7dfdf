/* pcm_socket.c - the ingest thread: who comes and goes, when there is something to do. */
#include "fd.h"
#include "pcm_socket_state.h"
#include "thread.h"
#include "tower/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define EVENTS_AT_ONCE 16
/* How long nobody is accepted after descriptors ran out. */
#define ACCEPT_PAUSE_NS TOWER_NS_PER_S
/* How often that is said. */
#define SAY_AGAIN_NS (60 * TOWER_NS_PER_S)
/* How soon a router is looked at again that has little in it, or in a fade. */
#define SHORT_PAUSE_NS INT64_C(1000000)

/* ---- what others see ---- */

struct tower_producer_info tower_pcm_socket_info(struct tower_pcm_socket *socket,
                                                 const struct tower_ingest_producer *producer) {
    const struct tower_ingest_entry *entry = producer->entry;
    struct tower_producer_info info = {
        .id = entry->id,
        .pid = entry->pid,
        .is_on_air = producer == socket->on_air,
        .connected_ns = entry->connected_ns,
        .last_data_ns = entry->last_data_ns,
        .bytes = entry->bytes,
        .clock = producer->clock,
        .identity = {.is_live = (entry->flags & TOWER_INGEST_LIVE) != 0,
                     .is_source = (entry->flags & TOWER_INGEST_SOURCE) != 0},
        .rank = tower_pcm_socket_rank(socket, producer),
        .is_chosen = entry->id == socket->memory->chosen_id,
        .has_taken_over = producer->has_taken_over,
        .has_audio = tower_pcm_socket_has_audio(socket, producer),
        .since_ns = entry->since_ns,
        .thrown_bytes = entry->thrown_bytes,
    };
    memcpy(info.identity.name, entry->name, sizeof info.identity.name);
    memcpy(info.identity.label, entry->label, sizeof info.identity.label);
    return info;
}

static void show_chosen(struct tower_pcm_socket_stats *stats,
                        const struct tower_producer_info *producer) {
    if (producer->identity.name[0] != '\0')
        memcpy(stats->chosen, producer->identity.name, sizeof stats->chosen);
    else
        (void)snprintf(stats->chosen, sizeof stats->chosen, "#%llu",
                       (unsigned long long)producer->id);
}

void tower_pcm_socket_publish(struct tower_pcm_socket *socket) {
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
    stats->chosen[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        stats->producers[i] = tower_pcm_socket_info(socket, sorted[i]);
        socket->fds[i] = tower_ingest_producer_fd(sorted[i]);
        if (stats->producers[i].is_chosen)
            show_chosen(stats, &stats->producers[i]);
    }
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
        .takeovers = stats->takeovers,
    };
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
    place->thrown_bytes = 0;
    place->connected_ns = tower_clock_now_ns(socket->config.clock);
    place->since_ns = place->connected_ns;
    place->last_data_ns = INT64_MIN;
    place->has_bad_title = 0;
    place->title_bytes = -1;
    place->faded_frames = 0;
    memset(place->name, 0, sizeof place->name);
    place->flags = 0;
    place->is_known = 0;
    (void)tower_ingest_memory_drop_frame(place);
    struct tower_ingest_producer *producer = &socket->producers[place - memory->entries];
    producer->is_readable = false;
    producer->has_ended = false;
    producer->has_taken_over = false;
    producer->throws = 0;
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
        if (producer != socket->on_air && producer != socket->outgoing && producer->has_ended &&
            !tower_ingest_memory_has_frame(producer->entry) &&
            ioctl(tower_ingest_producer_fd(producer), FIONREAD, &unread) == 0 && unread == 0)
            tower_pcm_socket_drop(socket, producer, "left");
        return;
    }
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) {
    return a_ns < b_ns ? a_ns : b_ns;
}

/* Somebody waits for others to have settled, and sends nothing that would be an event. */
static bool is_settling(struct tower_pcm_socket *socket) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) >= 0 && producer->is_readable &&
            tower_pcm_socket_outranks(socket, producer))
            return tower_pcm_socket_settles_ns(socket) != INT64_MIN;
    }
    return false;
}

/* Somebody on air that sends nothing is to make way. */
static bool is_awaited(struct tower_pcm_socket *socket) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) >= 0 && producer != socket->on_air &&
            tower_pcm_socket_has_audio(socket, producer))
            return true;
    }
    return false;
}

/* When there is something to do without an event. */
static int64_t next_deadline_ns(struct tower_pcm_socket *socket) {
    int64_t deadline_ns = socket->watch_at_ns;
    int64_t now_ns = tower_clock_now_ns(socket->config.clock);
    const struct tower_ingest_producer *producer = socket->on_air;
    int64_t pause_ns = socket->is_short || socket->outgoing ? SHORT_PAUSE_NS : socket->frame_ns;
    if (socket->accept_after_ns != INT64_MIN)
        deadline_ns = earlier(deadline_ns, socket->accept_after_ns);
    if (!producer)
        return deadline_ns;
    /* Held back; or back-pressure: no room, so look again when the pump has taken a frame; or one
     * of two is waited for until it has taken the last. */
    if (producer->is_readable || tower_ingest_memory_has_frame(producer->entry) || socket->outgoing)
        deadline_ns =
            earlier(deadline_ns,
                    socket->hold_until_ns != INT64_MIN ? socket->hold_until_ns : now_ns + pause_ns);
    if (!producer->is_readable && socket->config.idle_ns > 0 && is_awaited(socket))
        deadline_ns = earlier(deadline_ns, producer->entry->last_data_ns + socket->config.idle_ns);
    if (is_settling(socket))
        deadline_ns = earlier(deadline_ns, tower_pcm_socket_settles_ns(socket));
    /* It is also over when those in it fall mute, which is no event. */
    if (socket->is_fading)
        deadline_ns = earlier(deadline_ns, now_ns + socket->frame_ns);
    /* Not at once: who waits and floods is not to have a core for it. */
    if (socket->is_throwing)
        deadline_ns = earlier(deadline_ns, now_ns + socket->frame_ns);
    return deadline_ns;
}

static void *run_ingest(void *arg) {
    struct tower_pcm_socket *socket = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    /* The pump has said already where that is not allowed. */
    if (socket->config.is_realtime)
        (void)tower_thread_make_realtime(TOWER_PRIORITY_INGEST);
    tower_pcm_socket_tell_again(socket);
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
        tower_pcm_socket_serve(socket);
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
