/* pcm_socket_open.c - the PCM socket made, or gone on with from what another process left; and
 * done.
 */
#include "fd.h"
#include "handover.h"
#include "pcm_socket_state.h"
#include "thread.h"
#include "tower/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define CUSHION_FRAMES_MAX 16

int tower_pcm_socket_watch(struct tower_pcm_socket *socket, int fd, uint32_t events, uint64_t id) {
    struct epoll_event event = {.events = events, .data.u64 = id};
    return epoll_ctl(socket->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Those who are connected. Epoll tells anew who has something to read. */
static void resume_producers(struct tower_pcm_socket *socket) {
    tower_pcm_socket_follow_air(socket);
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_producer *producer = &socket->producers[i];
        if (tower_ingest_producer_fd(producer) < 0)
            continue;
        if (tower_pcm_socket_watch(socket, tower_ingest_producer_fd(producer),
                                   EPOLLIN | EPOLLRDHUP | EPOLLET, producer->entry->id) < 0) {
            if (producer == socket->on_air || producer == socket->outgoing)
                tower_ingest_memory_end(socket->memory);
            tower_pcm_socket_follow_air(socket);
            tower_ingest_memory_remove(producer->entry);
            socket->stats.lost_producers++;
            continue;
        }
        socket->stats.carried_producers++;
    }
    /* A frame of his may be whole already, and wait for no event. */
    if (socket->on_air)
        socket->on_air->is_readable = true;
    if (socket->outgoing)
        socket->outgoing->is_readable = true;
}

static void resume(struct tower_pcm_socket *socket) {
    struct tower_ingest_memory *memory = socket->memory;
    struct tower_router_stats router;
    const struct tower_ingest_counters *counters = &memory->counters;
    socket->stats.accepted = counters->accepted;
    socket->stats.refused = counters->refused;
    socket->stats.bytes = counters->bytes;
    socket->stats.frames = counters->frames;
    socket->stats.partial_frames = counters->partial_frames;
    socket->stats.partial_bytes = counters->partial_bytes;
    socket->stats.titles = counters->titles;
    socket->stats.bad_titles = counters->bad_titles;
    socket->stats.takeovers = counters->takeovers;
    socket->gate.withheld_frames = counters->withheld_frames;
    if (memory->held_frames <= TOWER_INPUT_GATE_FRAMES)
        socket->stats.lost_frames = memory->held_frames;
    memory->held_frames = 0;
    resume_producers(socket);
    /* The pump has found nothing since; but it is no fault of the producer's. */
    tower_router_get_stats(socket->config.router, &router);
    socket->underflows_seen = router.underflow_count;
    int64_t since_ns = memory->dead_air_since_ns;
    memory->dead_air_since_ns = INT64_MIN;
    if (!socket->on_air)
        return;
    socket->tells_title = tower_ingest_memory_air(memory).is_new;
    if (since_ns != INT64_MIN) {
        tower_input_gate_resume(&socket->gate, since_ns, tower_clock_now_ns(socket->config.clock));
        if (socket->gate.is_closed)
            memory->dead_air_since_ns = since_ns;
    }
}

static int open_memory(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    size_t lost = 0;
    tower_router_get_stats(socket->config.router, &router);
    int is_left = tower_ingest_memory_open(&socket->region, socket->config.carried_fd,
                                           socket->frame_bytes, router.pushed_count,
                                           tower_clock_now_ns(socket->config.clock), &lost);
    if (is_left < 0)
        return is_left;
    socket->memory = socket->region.memory;
    socket->stats.lost_producers = lost;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++)
        socket->producers[i].entry = &socket->memory->entries[i];
    return is_left;
}

/* What was carried, and could not be taken over after all, is the caller's. */
static void let_go(struct tower_pcm_socket *socket) {
    if (socket->region.memory && socket->region.fd == socket->config.carried_fd) {
        socket->region.fd = -1;
        socket->memory = NULL;
    }
}

static int open_all(struct tower_pcm_socket *socket) {
    const struct tower_pcm_socket_config *config = &socket->config;
    socket->wake_fd = tower_eventfd_new();
    if (socket->wake_fd < 0)
        return socket->wake_fd;
    socket->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (socket->epoll_fd < 0)
        return -errno;
    int is_left = open_memory(socket);
    if (is_left < 0)
        return is_left;
    int error = config->listen_fd
                    ? tower_unix_listener_borrow(&socket->listener, *config->listen_fd)
                    : tower_unix_listener_init(&socket->listener, config->path);
    if (error == 0)
        error = tower_pcm_socket_watch(socket, socket->wake_fd, EPOLLIN, EVENT_WAKE);
    if (error == 0)
        error =
            tower_pcm_socket_watch(socket, socket->listener.fd, EPOLLIN | EPOLLET, EVENT_LISTENER);
    if (error == 0 && is_left)
        resume(socket);
    return error;
}

int tower_pcm_socket_new(const struct tower_pcm_socket_config *config,
                         struct tower_pcm_socket **ret_socket) {
    if (!config->clock || (!config->path && !config->listen_fd) || !config->router ||
        config->frame_samples == 0 || config->frame_samples > TOWER_FRAME_SAMPLES_MAX ||
        config->cushion_frames > CUSHION_FRAMES_MAX || config->idle_ns < 0 ||
        config->settle_ns < 0 || config->fade_ns < 0 || config->fade_ns > TOWER_FADE_MAX_NS ||
        tower_priorities_read(NULL, config->priorities) < 0)
        return -EINVAL;
    struct tower_router_stats router;
    tower_router_get_stats(config->router, &router);
    if (config->cushion_frames >= router.capacity && config->cushion_frames > 0)
        return -EINVAL;
    struct tower_pcm_socket *socket = calloc(1, sizeof *socket);
    if (!socket)
        return -ENOMEM;
    socket->config = *config;
    socket->frame_bytes = tower_frame_bytes(config->frame_samples);
    socket->frame_ns = tower_samples_to_ns(config->frame_samples, TOWER_RATE_HZ);
    socket->cushion_ns = config->cushion_frames * socket->frame_ns;
    socket->fade_frames = tower_handover_frames(config->fade_ns, config->frame_samples);
    (void)tower_priorities_read(&socket->priorities, config->priorities);
    socket->hold_until_ns = INT64_MIN;
    socket->listener.fd = -1;
    socket->epoll_fd = -1;
    socket->wake_fd = -1;
    socket->accept_after_ns = INT64_MIN;
    socket->say_again_ns = INT64_MIN;
    socket->watch_at_ns = config->monitor ? 0 : INT64_MAX; /* at once */
    tower_input_gate_init(&socket->gate, config->router, socket->frame_bytes, config->monitor,
                          config->withholds_dead_air);
    int error = tower_mutex_init(&socket->lock, 0);
    if (error < 0) {
        free(socket);
        return error;
    }
    error = open_all(socket);
    if (error < 0) {
        let_go(socket);
        tower_pcm_socket_free(socket);
        return error;
    }
    *ret_socket = socket;
    return 0;
}

void tower_pcm_socket_free(struct tower_pcm_socket *socket) {
    if (!socket)
        return;
    tower_pcm_socket_stop(socket);
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX && socket->memory; i++) {
        int fd = tower_ingest_producer_fd(&socket->producers[i]);
        tower_ingest_memory_remove(socket->producers[i].entry);
        tower_fd_close(&fd);
    }
    tower_unix_listener_done(&socket->listener);
    tower_fd_close(&socket->epoll_fd);
    tower_fd_close(&socket->wake_fd);
    tower_region_done(&socket->region);
    (void)pthread_mutex_destroy(&socket->lock);
    free(socket);
}

int tower_pcm_socket_fd(const struct tower_pcm_socket *socket) {
    return socket->region.fd;
}

int tower_pcm_socket_listen_fd(const struct tower_pcm_socket *socket) {
    return socket->listener.fd;
}
