/* pcm_socket.c - the ingest thread: one producer on air, the others waiting, back-pressure. */
#include "tower/pcm_socket.h"

#include "fd.h"
#include "input_gate.h"
#include "thread.h"
#include "tower/framer.h"
#include "titled_recv.h"
#include "tower/log.h"
#include "unix_listener.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define CUSHION_FRAMES_MAX 16
#define EVENTS_AT_ONCE 16
/* How long nobody is accepted after descriptors ran out. */
#define ACCEPT_PAUSE_NS TOWER_NS_PER_S
/* How often that is said. */
#define SAY_AGAIN_NS (60 * TOWER_NS_PER_S)

/* What an epoll event is about: these, or else a producer's id. */
enum { EVENT_WAKE = 0, EVENT_LISTENER = UINT32_MAX };

struct producer {
    int fd; /* -1: the place is free */
    /* An event said that there is something to read, be it the end, and no read has said that there
     * is not. Descriptors are watched edge-triggered: a producer that is not read costs nothing. */
    bool is_readable;
    bool has_ended;     /* it will write no more; what it wrote may still be unread */
    bool has_bad_title; /* it has sent what is none, and that was said */
    uint64_t turn;      /* who came, or made way, earlier goes on air earlier */
    char *last_title;   /* NULL: it has said none */
    size_t last_title_bytes;
    struct tower_producer_info info;
};

struct tower_pcm_socket {
    /* Constant after new. */
    struct tower_pcm_socket_config config;
    size_t frame_bytes;
    int64_t frame_ns;
    int64_t cushion_ns;
    struct tower_unix_listener listener;
    int epoll_fd;
    int wake_fd;

    /* Owned by the ingest thread. */
    struct producer producers[TOWER_PRODUCERS_MAX];
    struct producer *on_air;           /* NULL: nobody */
    struct tower_framer framer;        /* of the producer on air */
    struct tower_incoming_title title; /* of the frame being filled */
    bool is_new_on_air; /* the next frame begins a programme, or goes on with one that was away */
    struct tower_input_gate gate;
    int64_t watch_at_ns; /* when the monitor wants to be told how things stand */
    uint64_t next_id;
    uint64_t next_turn;
    int64_t accept_after_ns;
    int64_t say_again_ns; /* not before then that nobody can be accepted */
    size_t skip_bytes;    /* of the producer on air, up to its next whole sample */
    /* The cushion: nothing is read before. INT64_MIN: nothing is held back. */
    int64_t hold_until_ns;
    uint64_t underflows_seen; /* the router's, when it was last pushed to */

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    _Atomic bool is_stopping;

    pthread_mutex_t lock;
    struct tower_pcm_socket_stats stats; /* guarded by lock; written by the ingest thread */
};

static int watch(struct tower_pcm_socket *socket, int fd, uint32_t events, uint64_t id) {
    struct epoll_event event = {.events = events, .data.u64 = id};
    return epoll_ctl(socket->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int tower_pcm_socket_new(const struct tower_pcm_socket_config *config,
                         struct tower_pcm_socket **ret_socket) {
    if (!config->clock || (!config->path && !config->listen_fd) || !config->router ||
        config->cushion_frames > CUSHION_FRAMES_MAX || config->idle_ns < 0)
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
    socket->hold_until_ns = INT64_MIN;
    socket->listener.fd = -1;
    socket->epoll_fd = -1;
    socket->wake_fd = -1;
    socket->accept_after_ns = INT64_MIN;
    socket->say_again_ns = INT64_MIN;
    socket->watch_at_ns = config->monitor ? 0 : INT64_MAX; /* at once */
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++)
        socket->producers[i].fd = -1;
    int error = -pthread_mutex_init(&socket->lock, NULL);
    if (error < 0) {
        free(socket);
        return error;
    }
    error = tower_framer_init(&socket->framer, socket->frame_bytes);
    if (error < 0)
        goto fail;
    tower_input_gate_init(&socket->gate, config->router, socket->frame_bytes, config->monitor,
                          config->withholds_dead_air);
    socket->wake_fd = tower_eventfd_new();
    error = socket->wake_fd;
    if (error < 0)
        goto fail;
    socket->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    error = socket->epoll_fd < 0 ? -errno : 0;
    if (error < 0)
        goto fail;
    error = config->listen_fd ? tower_unix_listener_borrow(&socket->listener, *config->listen_fd)
                              : tower_unix_listener_init(&socket->listener, config->path);
    if (error < 0)
        goto fail;
    error = watch(socket, socket->wake_fd, EPOLLIN, EVENT_WAKE);
    if (error == 0)
        error = watch(socket, socket->listener.fd, EPOLLIN | EPOLLET, EVENT_LISTENER);
    if (error < 0)
        goto fail;
    *ret_socket = socket;
    return 0;

fail:
    tower_pcm_socket_free(socket);
    return error;
}

void tower_pcm_socket_free(struct tower_pcm_socket *socket) {
    if (!socket)
        return;
    tower_pcm_socket_stop(socket);
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        tower_fd_close(&socket->producers[i].fd);
        free(socket->producers[i].last_title);
    }
    tower_unix_listener_done(&socket->listener);
    tower_fd_close(&socket->epoll_fd);
    tower_fd_close(&socket->wake_fd);
    (void)pthread_mutex_destroy(&socket->lock);
    free(socket);
}

/* ---- towards the router ---- */

/* Its next turn on air begins with it. Without memory it begins without. */
static void keep_title(struct producer *producer, const struct tower_incoming_title *title) {
    char *copy = malloc(title->bytes > 0 ? title->bytes : 1);
    if (copy)
        memcpy(copy, title->text, title->bytes);
    free(producer->last_title);
    producer->last_title = copy;
    producer->last_title_bytes = title->bytes;
}

/* A whole frame is about to be queued, and has a title or begins a turn on air. Nobody else queues
 * any, so its number is the router's count and that of those which the gate holds. */
static void deliver_title(struct tower_pcm_socket *socket) {
    struct tower_router_stats router;
    struct producer *producer = socket->on_air;
    tower_router_get_stats(socket->config.router, &router);
    uint64_t number = router.pushed_count + socket->gate.n_held;
    if (socket->title.is_there) {
        keep_title(producer, &socket->title);
        pthread_mutex_lock(&socket->lock);
        socket->stats.titles++;
        pthread_mutex_unlock(&socket->lock);
    }
    if (socket->config.on_title && socket->title.is_there)
        socket->config.on_title(socket->config.user, socket->title.text, socket->title.bytes,
                                number);
    else if (socket->config.on_title)
        socket->config.on_title(socket->config.user, producer->last_title,
                                producer->last_title_bytes, number);
    socket->title.is_there = false;
    socket->is_new_on_air = false;
}

/* A whole frame came from the producer on air. */
static void deliver(struct tower_pcm_socket *socket, const uint8_t *frame) {
    struct tower_router_stats router;
    if (socket->title.is_there || socket->is_new_on_air)
        deliver_title(socket);
    bool was_closed = socket->gate.is_closed;
    tower_input_gate_put(&socket->gate, frame, tower_clock_now_ns(socket->config.clock));
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

/* Show in the statistics what the table holds, in the order of the turns. */
static void publish_producers(struct tower_pcm_socket *socket) {
    struct producer *sorted[TOWER_PRODUCERS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct producer *producer = &socket->producers[i];
        if (producer->fd < 0)
            continue;
        producer->info.is_on_air = producer == socket->on_air;
        size_t at = n++;
        for (; at > 0 && sorted[at - 1]->info.id > producer->info.id; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = producer;
    }
    pthread_mutex_lock(&socket->lock);
    socket->stats.n_producers = n;
    socket->stats.withheld_frames = socket->gate.withheld_frames;
    for (size_t i = 0; i < n; i++)
        socket->stats.producers[i] = sorted[i]->info;
    pthread_mutex_unlock(&socket->lock);
}

/* The programme on air ends: what is not whole is dropped (R12), and the title with it. */
static void end_programme(struct tower_pcm_socket *socket) {
    size_t partial_bytes = tower_framer_discard(&socket->framer);
    socket->title.is_there = false;
    if (partial_bytes > 0) {
        pthread_mutex_lock(&socket->lock);
        socket->stats.partial_frames++;
        socket->stats.partial_bytes += partial_bytes;
        pthread_mutex_unlock(&socket->lock);
    }
    tower_input_gate_end_programme(&socket->gate, tower_clock_now_ns(socket->config.clock));
    if (socket->config.on_producer)
        socket->config.on_producer(socket->config.user, &socket->on_air->info, false);
    socket->on_air = NULL;
}

static void drop_producer(struct tower_pcm_socket *socket, struct producer *producer,
                          const char *why) {
    bool was_on_air = producer == socket->on_air;
    size_t partial_bytes = was_on_air ? socket->framer.filled_bytes : 0;
    if (was_on_air)
        end_programme(socket);
    tower_fd_close(&producer->fd);
    free(producer->last_title);
    producer->last_title = NULL;
    tower_log(TOWER_LOG_INFO, "ingest",
              "producer %llu (process %ld) %s after %llu bytes%s; %zu bytes of a frame dropped",
              (unsigned long long)producer->info.id, (long)producer->info.pid, why,
              (unsigned long long)producer->info.bytes, was_on_air ? ", was on air" : "",
              partial_bytes);
}

/* Whoever has something to say and came first; NULL: nobody. */
static struct producer *find_next(struct tower_pcm_socket *socket) {
    struct producer *next = NULL;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct producer *producer = &socket->producers[i];
        if (producer->fd >= 0 && producer != socket->on_air && producer->is_readable &&
            (!next || producer->turn < next->turn))
            next = producer;
    }
    return next;
}

static void put_on_air(struct tower_pcm_socket *socket, struct producer *producer) {
    socket->on_air = producer;
    socket->is_new_on_air = true;
    /* One that made way may have done so within a sample. */
    socket->skip_bytes = -producer->info.bytes % TOWER_SAMPLE_BYTES;
    socket->hold_until_ns = INT64_MIN;
    tower_input_gate_mark_discontinuity(&socket->gate);
    if (socket->config.on_producer)
        socket->config.on_producer(socket->config.user, &producer->info, true);
    tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld) is on air",
              (unsigned long long)producer->info.id, (long)producer->info.pid);
}

static void note_read(struct tower_pcm_socket *socket, struct producer *producer, size_t bytes) {
    producer->info.bytes += bytes;
    producer->info.last_data_ns = tower_clock_now_ns(socket->config.clock);
    pthread_mutex_lock(&socket->lock);
    socket->stats.bytes += bytes;
    pthread_mutex_unlock(&socket->lock);
}

static void note_bad_title(struct tower_pcm_socket *socket, struct producer *producer) {
    pthread_mutex_lock(&socket->lock);
    socket->stats.bad_titles++;
    pthread_mutex_unlock(&socket->lock);
    if (!producer->has_bad_title)
        tower_log(TOWER_LOG_WARNING, "ingest",
                  "producer %llu (process %ld) sent a descriptor that is no title (a memory file "
                  "of UTF-8 text, one at a time); it is closed, as are any that follow",
                  (unsigned long long)producer->info.id, (long)producer->info.pid);
    producer->has_bad_title = true;
}

/* Read the producer on air while there is room: until its socket is empty, or it is gone. A read
 * ends behind the bytes that a title came with, but may begin before them; since it never goes
 * beyond the frame being filled, the title is that frame's wherever in it the bytes lie. */
static void read_on_air(struct tower_pcm_socket *socket) {
    struct producer *producer = socket->on_air;
    while (producer->is_readable && tower_input_gate_drain(&socket->gate) &&
           !is_held_back(socket)) {
        size_t space_bytes;
        void *space = tower_framer_space(&socket->framer, &space_bytes);
        if (socket->skip_bytes > 0)
            space_bytes = socket->skip_bytes;
        bool is_bad;
        ssize_t n = tower_titled_recv(producer->fd, space, space_bytes, &socket->title, &is_bad);
        if (n >= 0 && is_bad)
            note_bad_title(socket, producer);
        if (n > 0) {
            note_read(socket, producer, (size_t)n);
            if (socket->skip_bytes > 0)
                socket->skip_bytes -= (size_t)n;
            else if (tower_framer_filled(&socket->framer, (size_t)n) == 1)
                deliver(socket, socket->framer.frame);
        } else if (n == 0) {
            drop_producer(socket, producer, "ended");
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            producer->is_readable = false;
        } else if (errno != EINTR) {
            drop_producer(socket, producer, "broke off");
            return;
        }
    }
}

/* One on air that has been mute for idle_ns makes way for one that has audio. */
static void yield_if_idle(struct tower_pcm_socket *socket) {
    struct producer *producer = socket->on_air;
    if (!producer || producer->is_readable || socket->config.idle_ns == 0 || !find_next(socket))
        return;
    if (tower_clock_now_ns(socket->config.clock) <
        producer->info.last_data_ns + socket->config.idle_ns)
        return;
    tower_log(TOWER_LOG_WARNING, "ingest",
              "producer %llu (process %ld) sends nothing and makes way for one that does",
              (unsigned long long)producer->info.id, (long)producer->info.pid);
    /* The rest of that frame may yet come, and is what the title is for. */
    if (socket->title.is_there)
        keep_title(producer, &socket->title);
    end_programme(socket);
    producer->turn = socket->next_turn++;
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
    yield_if_idle(socket);
    for (;;) {
        if (!socket->on_air) {
            struct producer *next = find_next(socket);
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
    struct producer *place = NULL;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX && !place; i++) {
        if (socket->producers[i].fd < 0)
            place = &socket->producers[i];
    }
    uint64_t id = socket->next_id + 1;
    int error = place ? watch(socket, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, id) : -EUSERS;
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
    socket->next_id = id;
    *place = (struct producer){
        .fd = fd,
        .turn = socket->next_turn++,
        .info = {.id = id,
                 .pid = peer.pid,
                 .connected_ns = tower_clock_now_ns(socket->config.clock),
                 .last_data_ns = INT64_MIN},
    };
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
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            pause_accepting(socket, errno);
        }
        return;
    }
}

static void note_event(struct tower_pcm_socket *socket, uint64_t id, uint32_t events) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct producer *producer = &socket->producers[i];
        if (producer->fd < 0 || producer->info.id != id)
            continue;
        producer->is_readable = true;
        producer->has_ended = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
        /* Who leaves while waiting, with nothing left to play, leaves at once. */
        int unread = 0;
        if (producer != socket->on_air && producer->has_ended &&
            ioctl(producer->fd, FIONREAD, &unread) == 0 && unread == 0)
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
    const struct producer *producer = socket->on_air;
    if (socket->accept_after_ns != INT64_MIN)
        deadline_ns = earlier(deadline_ns, socket->accept_after_ns);
    /* Held back; or back-pressure: no room, so look again when the pump has taken a frame. */
    if (producer && producer->is_readable)
        deadline_ns =
            earlier(deadline_ns, socket->hold_until_ns != INT64_MIN
                                     ? socket->hold_until_ns
                                     : tower_clock_now_ns(socket->config.clock) + socket->frame_ns);
    if (producer && !producer->is_readable && socket->config.idle_ns > 0 && find_next(socket))
        deadline_ns = earlier(deadline_ns, producer->info.last_data_ns + socket->config.idle_ns);
    return deadline_ns;
}

static void *run_ingest(void *arg) {
    struct tower_pcm_socket *socket = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
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
