/* fanout.c - a fan-out worker: one thread, one epoll, its listeners.
 *
 * The worker sends at each frame whatever its listeners have not had yet. It allocates nothing and
 * waits for nobody: a listener whose socket is full is left out until epoll says it has room.
 */
#include "tower/fanout.h"

#include "tower/log.h"

#include "cadence.h"
#include "fd.h"
#include "listener_table.h"
#include "thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define WAKE_TOKEN UINT64_MAX
#define PHASE_GROUPS_MAX 255
#define NS_PER_MS INT64_C(1000000)
#define SCAN_NS_MAX (1000 * NS_PER_MS)
#define SCAN_NS_MIN (10 * NS_PER_MS)
/* How long a client gets to close its side once ours is shut. */
#define LINGER_NS (100 * NS_PER_MS)
/* What a client may send after its request before it is no longer looked at: 255 times 4 KiB. */
#define READS 255
#define READ_BYTES 4096

struct tower_fanout {
    /* Constant after start. */
    struct tower_fanout_config config;
    int64_t scan_ns;
    int epoll_fd;
    int wake_fd;
    pthread_t thread;

    pthread_mutex_t lock;

    /* Guarded by lock. Of the places themselves those that are free or pending; all others are the
     * worker's. */
    struct tower_listener_table table;
    uint32_t pending; /* places handed over and not yet taken up */
    bool was_started;
    bool is_running; /* listeners are taken */
    bool is_stopping;
    int64_t drain_ns;

    /* Owned by the worker. */
    uint32_t groups[PHASE_GROUPS_MAX]; /* first place of each phase group */
    uint32_t ended_places;             /* a list: given back at the end of the round */
    uint32_t n_groups;                 /* of `groups` in use; written by the worker alone */
    unsigned next_phase;
    uint64_t frames_seen;
    uint32_t n_blocked;
    int64_t now_ns; /* when this round began */
    int64_t next_scan_ns;
    bool is_draining;
    int n_cut; /* listeners that did not get everything at the stop */
    struct epoll_event events[EVENTS];
    uint8_t scratch[READ_BYTES];

    /* Atomic, written under the lock, read by anyone. */
    _Atomic uint64_t listeners;
    _Atomic uint64_t listeners_peak;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;

    /* Atomic, written by the worker, read by anyone. */
    _Atomic uint32_t groups_now;
    _Atomic uint64_t ended[TOWER_LISTENER_END_COUNT];
    _Atomic uint64_t skips;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t sends;
};

static void count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct tower_listener *listener_at(struct tower_fanout *fanout, uint32_t place) {
    return &fanout->table.places[place];
}

int tower_fanout_new(const struct tower_fanout_config *config, struct tower_fanout **ret_fanout) {
    if (!config->clock || !config->air || config->client_timeout_ns <= 0 ||
        config->phase_groups > PHASE_GROUPS_MAX)
        return -EINVAL;
    struct tower_fanout *fanout = calloc(1, sizeof *fanout);
    if (!fanout)
        return -ENOMEM;
    fanout->config = *config;
    fanout->scan_ns = config->client_timeout_ns / 4;
    if (fanout->scan_ns > SCAN_NS_MAX)
        fanout->scan_ns = SCAN_NS_MAX;
    if (fanout->scan_ns < SCAN_NS_MIN)
        fanout->scan_ns = SCAN_NS_MIN;
    fanout->n_groups = config->phase_groups > 0 ? config->phase_groups : 1;
    fanout->groups_now = fanout->n_groups;
    fanout->pending = TOWER_LISTENER_NONE;
    fanout->ended_places = TOWER_LISTENER_NONE;
    for (unsigned i = 0; i < PHASE_GROUPS_MAX; i++)
        fanout->groups[i] = TOWER_LISTENER_NONE;
    fanout->epoll_fd = -1;
    fanout->wake_fd = -1;

    int error = tower_mutex_init(&fanout->lock, 0);
    if (error < 0)
        goto fail_lock;
    error = tower_listener_table_init(&fanout->table, config->max_listeners);
    if (error < 0)
        goto fail;
    fanout->wake_fd = tower_eventfd_new();
    if (fanout->wake_fd < 0) {
        error = fanout->wake_fd;
        goto fail;
    }
    fanout->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TOKEN};
    if (fanout->epoll_fd < 0 ||
        epoll_ctl(fanout->epoll_fd, EPOLL_CTL_ADD, fanout->wake_fd, &event) < 0) {
        error = -errno;
        goto fail;
    }
    error = tower_air_add_waker(config->air, fanout->wake_fd);
    if (error < 0)
        goto fail;
    *ret_fanout = fanout;
    return 0;

fail:
    tower_fd_close(&fanout->epoll_fd);
    tower_fd_close(&fanout->wake_fd);
    tower_listener_table_done(&fanout->table);
    (void)pthread_mutex_destroy(&fanout->lock);
fail_lock:
    free(fanout);
    return error;
}

void tower_fanout_free(struct tower_fanout *fanout) {
    if (!fanout)
        return;
    (void)tower_fanout_stop(fanout, 0);
    tower_fd_close(&fanout->epoll_fd);
    tower_fd_close(&fanout->wake_fd);
    tower_listener_table_done(&fanout->table);
    (void)pthread_mutex_destroy(&fanout->lock);
    free(fanout);
}

/* Is it the listener that an event was for, and not ended meanwhile? */
static bool is_same(const struct tower_listener *listener, uint32_t generation) {
    return listener->fd >= 0 && listener->generation == generation;
}

/* Put the place into the group it is served with, and take it out again. */
static void link_listener(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    uint32_t *first = &fanout->groups[listener->phase];
    listener->previous = TOWER_LISTENER_NONE;
    listener->next = *first;
    if (*first != TOWER_LISTENER_NONE)
        listener_at(fanout, *first)->previous = place;
    *first = place;
}

static void unlink_listener(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    if (listener->next != TOWER_LISTENER_NONE)
        listener_at(fanout, listener->next)->previous = listener->previous;
    if (listener->previous != TOWER_LISTENER_NONE)
        listener_at(fanout, listener->previous)->next = listener->next;
    else
        fanout->groups[listener->phase] = listener->next;
}

static void end_listener(struct tower_fanout *fanout, uint32_t place, enum tower_listener_end why) {
    struct tower_listener *listener = listener_at(fanout, place);
    unlink_listener(fanout, place);
    if (listener->is_blocked)
        fanout->n_blocked--;
    /* Closing takes it out of the epoll too. */
    tower_fd_close(&listener->fd);
    count(&fanout->ended[why], 1);
    /* Events of this round may still name the place: nobody else may have it before they have been
     * looked at. */
    listener->next = fanout->ended_places;
    fanout->ended_places = place;
}

static void give_back_ended_places(struct tower_fanout *fanout) {
    if (fanout->ended_places == TOWER_LISTENER_NONE)
        return;
    pthread_mutex_lock(&fanout->lock);
    while (fanout->ended_places != TOWER_LISTENER_NONE) {
        uint32_t place = fanout->ended_places;
        fanout->ended_places = listener_at(fanout, place)->next;
        tower_listener_table_give(&fanout->table, place);
        atomic_fetch_sub_explicit(&fanout->listeners, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&fanout->lock);
}

static struct epoll_event wanted_events(const struct tower_listener *listener, uint32_t place) {
    struct epoll_event event = {.data.u64 = (uint64_t)listener->generation << 32 | place};
    if (listener->reads_left > 0)
        event.events |= EPOLLIN;
    if (listener->is_blocked)
        event.events |= EPOLLOUT;
    return event;
}

/* Ends the listener where epoll will not have it: nobody would ever hear of it again. */
static void update_events(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    struct epoll_event event = wanted_events(listener, place);
    if (epoll_ctl(fanout->epoll_fd, EPOLL_CTL_MOD, listener->fd, &event) < 0)
        end_listener(fanout, place, TOWER_LISTENER_FAILED);
}

static void set_blocked(struct tower_fanout *fanout, uint32_t place, bool is_blocked) {
    struct tower_listener *listener = listener_at(fanout, place);
    if (listener->is_blocked == is_blocked)
        return;
    listener->is_blocked = is_blocked;
    if (is_blocked) {
        fanout->n_blocked++;
        /* Until now it had room: its time begins here, however long the air was still. */
        listener->progress_ns = fanout->now_ns;
    } else {
        fanout->n_blocked--;
    }
    update_events(fanout, place);
}

static bool is_hang_up(int error) {
    return error == 0 || error == EPIPE || error == ECONNRESET;
}

/* Send the listener the `bytes` that follow its cursor, in one call. Returns true if it took them
 * all; else it waits for room, or has ended. */
static bool send_pieces(struct tower_fanout *fanout, uint32_t place, struct iovec *pieces, int n,
                        int64_t bytes) {
    struct tower_listener *listener = listener_at(fanout, place);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
    ssize_t sent = sendmsg(listener->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    count(&fanout->sends, 1);
    if (sent < 0) {
        if (errno == EAGAIN)
            set_blocked(fanout, place, true);
        else if (errno == ENOBUFS || errno == ENOMEM || errno == EINTR)
            /* The socket has room, the kernel has not: EPOLLOUT would come at once and for ever.
             * The next frame tries again. */
            set_blocked(fanout, place, false);
        else
            end_listener(fanout, place,
                         is_hang_up(errno) ? TOWER_LISTENER_CLOSED : TOWER_LISTENER_FAILED);
        return false;
    }
    listener->cursor += (uint64_t)sent;
    listener->sent_bytes += (uint64_t)sent;
    listener->progress_ns = fanout->now_ns;
    count(&fanout->sent_bytes, (uint64_t)sent);
    uint32_t generation = listener->generation;
    set_blocked(fanout, place, sent < bytes);
    return sent == bytes && is_same(listener, generation);
}

/* Move a listener that was overrun nearer the present, at a frame boundary: what is left of the
 * frame it is in goes out first. Returns false if that has to wait, or it has ended. */
static bool move_on(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    struct tower_air *air = fanout->config.air;
    int64_t rest =
        tower_air_copy_rest(air, listener->cursor, fanout->scratch, sizeof fanout->scratch);
    struct iovec piece = {.iov_base = fanout->scratch, .iov_len = rest > 0 ? (size_t)rest : 0};
    /* Where it is lost, the listener's decoder has to find the next header. */
    if (rest > 0 && !send_pieces(fanout, place, &piece, 1, rest))
        return false;
    listener->cursor = tower_air_back(air, fanout->config.burst_frames);
    listener->skips++;
    count(&fanout->skips, 1);
    return true;
}

/* Send the listener everything from its cursor to the head. May end it. */
static void serve(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    struct tower_air *air = fanout->config.air;
    struct iovec pieces[2];
    int n = 0;
    int64_t bytes = tower_air_peek(air, listener->cursor, SIZE_MAX, pieces, &n);
    if (bytes == -ESTALE) {
        if (!move_on(fanout, place))
            return;
        bytes = tower_air_peek(air, listener->cursor, SIZE_MAX, pieces, &n);
    }
    if (bytes > 0)
        (void)send_pieces(fanout, place, pieces, n, bytes);
    else
        set_blocked(fanout, place, false);
}

static void serve_group(struct tower_fanout *fanout, unsigned phase) {
    uint32_t next;
    for (uint32_t place = fanout->groups[phase]; place != TOWER_LISTENER_NONE; place = next) {
        /* Serving may end this one, and no other. */
        next = listener_at(fanout, place)->next;
        if (!listener_at(fanout, place)->is_blocked)
            serve(fanout, place);
    }
}

/* Serve the groups whose turn came with the frames published since the last round. */
static void serve_due_groups(struct tower_fanout *fanout) {
    uint64_t frames = tower_air_frames(fanout->config.air);
    uint64_t n_groups = fanout->n_groups;
    uint64_t due = frames - fanout->frames_seen;
    if (due > n_groups)
        due = n_groups;
    for (uint64_t i = 0; i < due; i++)
        serve_group(fanout, (unsigned)((frames - i) % n_groups));
    fanout->frames_seen = frames;
}

/* Deal the listeners out again over `n_groups` groups. Who has just been served may wait for as
 * many frames as there were groups and are, once. */
static void regroup(struct tower_fanout *fanout, uint32_t n_groups) {
    uint32_t all = TOWER_LISTENER_NONE;
    for (unsigned phase = 0; phase < fanout->n_groups; phase++) {
        uint32_t place;
        while ((place = fanout->groups[phase]) != TOWER_LISTENER_NONE) {
            unlink_listener(fanout, place);
            listener_at(fanout, place)->next = all;
            all = place;
        }
    }
    fanout->n_groups = n_groups;
    atomic_store_explicit(&fanout->groups_now, n_groups, memory_order_relaxed);
    while (all != TOWER_LISTENER_NONE) {
        uint32_t place = all;
        all = listener_at(fanout, place)->next;
        listener_at(fanout, place)->phase = (uint8_t)(fanout->next_phase++ % n_groups);
        link_listener(fanout, place);
    }
}

/* Where the cadence follows the number of listeners: as many groups as they need now. */
static void adapt_groups(struct tower_fanout *fanout) {
    if (fanout->config.phase_groups > 0)
        return;
    uint32_t n_groups = tower_cadence_groups(get(&fanout->listeners), fanout->n_groups);
    if (n_groups != fanout->n_groups)
        regroup(fanout, n_groups);
}

static void take_up(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    listener->phase = (uint8_t)(fanout->next_phase++ % fanout->n_groups);
    listener->reads_left = READS;
    listener->connected_ns = fanout->now_ns;
    listener->progress_ns = fanout->now_ns;
    link_listener(fanout, place);
    struct epoll_event event = wanted_events(listener, place);
    if (epoll_ctl(fanout->epoll_fd, EPOLL_CTL_ADD, listener->fd, &event) < 0) {
        tower_log_deferred(
            TOWER_LOG_WARNING, "fanout",
            "a listener could not be watched and was closed (errno %lld): if there are "
            "many, raise fs.epoll.max_user_watches",
            errno, 0, 0, 0);
        end_listener(fanout, place, TOWER_LISTENER_FAILED);
        return;
    }
    serve(fanout, place);
}

static void take_up_pending(struct tower_fanout *fanout) {
    pthread_mutex_lock(&fanout->lock);
    uint32_t place = fanout->pending;
    fanout->pending = TOWER_LISTENER_NONE;
    pthread_mutex_unlock(&fanout->lock);
    while (place != TOWER_LISTENER_NONE) {
        uint32_t next = listener_at(fanout, place)->next;
        take_up(fanout, place);
        place = next;
    }
}

/* When draining: whoever has had everything is told that this was the end. */
static void shut_down_if_done(struct tower_fanout *fanout, uint32_t place, uint32_t generation) {
    struct tower_listener *listener = listener_at(fanout, place);
    if (is_same(listener, generation) && !listener->is_blocked)
        (void)shutdown(listener->fd, SHUT_WR);
}

/* Read what the client sends, and forget it. The end of that alone is no farewell: a client may
 * shut its sending side and listen on. */
static void discard_input(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = listener_at(fanout, place);
    ssize_t n = recv(listener->fd, fanout->scratch, sizeof fanout->scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        end_listener(fanout, place,
                     is_hang_up(errno) ? TOWER_LISTENER_CLOSED : TOWER_LISTENER_FAILED);
        return;
    }
    if (n == 0 && fanout->is_draining && !listener->is_blocked) {
        end_listener(fanout, place, TOWER_LISTENER_SHUTDOWN);
        return;
    }
    listener->reads_left = n == 0 ? 0 : (uint8_t)(listener->reads_left - 1);
    if (listener->reads_left == 0)
        update_events(fanout, place);
}

static void handle_event(struct tower_fanout *fanout, const struct epoll_event *event) {
    uint32_t place = (uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32);
    struct tower_listener *listener = listener_at(fanout, place);
    /* An earlier event of this round may have ended it. */
    if (!is_same(listener, generation))
        return;
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        (void)getsockopt(listener->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        enum tower_listener_end why =
            is_hang_up(error) ? TOWER_LISTENER_CLOSED : TOWER_LISTENER_FAILED;
        /* Both sides shut, ours first: that is how a drain ends. */
        if (fanout->is_draining && error == 0)
            why = TOWER_LISTENER_SHUTDOWN;
        end_listener(fanout, place, why);
        return;
    }
    if (event->events & EPOLLOUT) {
        serve(fanout, place);
        if (fanout->is_draining)
            shut_down_if_done(fanout, place, generation);
    }
    if ((event->events & EPOLLIN) && is_same(listener, generation))
        discard_input(fanout, place);
}

/* Once in a while, not at each frame, so that its cost does not grow with the number of listeners
 * times the number of frames. */
static void drop_stuck_listeners(struct tower_fanout *fanout) {
    for (unsigned phase = 0; phase < fanout->n_groups; phase++) {
        uint32_t next;
        for (uint32_t place = fanout->groups[phase]; place != TOWER_LISTENER_NONE; place = next) {
            struct tower_listener *listener = listener_at(fanout, place);
            next = listener->next;
            if (listener->is_blocked &&
                fanout->now_ns - listener->progress_ns >= fanout->config.client_timeout_ns)
                end_listener(fanout, place, TOWER_LISTENER_TIMEOUT);
        }
    }
}

/* In ms for epoll_wait, rounded up so that the deadline has come when it returns. */
static int timeout_ms(int64_t now_ns, int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - now_ns;
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 60000 ? 60000 : (int)ms;
}

/* Wait for events and handle those that are about listeners. Returns how many came; `*ret_woken`
 * says whether the air, a new listener or a stop was among them. */
static int wait_and_handle(struct tower_fanout *fanout, int timeout, bool *ret_woken) {
    /* Says that what was sent in the last round is no longer read. */
    (void)tower_air_head(fanout->config.air);
    int n = epoll_wait(fanout->epoll_fd, fanout->events, EVENTS, timeout);
    fanout->now_ns = tower_clock_now_ns(fanout->config.clock);
    *ret_woken = false;
    for (int i = 0; i < n; i++) {
        if (fanout->events[i].data.u64 == WAKE_TOKEN) {
            tower_eventfd_drain(fanout->wake_fd);
            *ret_woken = true;
        } else {
            handle_event(fanout, &fanout->events[i]);
        }
    }
    give_back_ended_places(fanout);
    return n;
}

static void serve_until_stopped(struct tower_fanout *fanout) {
    fanout->now_ns = tower_clock_now_ns(fanout->config.clock);
    fanout->next_scan_ns = fanout->now_ns + fanout->scan_ns;
    fanout->frames_seen = tower_air_frames(fanout->config.air);
    for (;;) {
        bool is_woken;
        int timeout = fanout->n_blocked > 0 ? timeout_ms(fanout->now_ns, fanout->next_scan_ns) : -1;
        (void)wait_and_handle(fanout, timeout, &is_woken);
        if (is_woken) {
            pthread_mutex_lock(&fanout->lock);
            bool is_stopping = fanout->is_stopping;
            pthread_mutex_unlock(&fanout->lock);
            if (is_stopping)
                return;
            serve_due_groups(fanout);
            take_up_pending(fanout);
            adapt_groups(fanout);
        }
        if (fanout->now_ns >= fanout->next_scan_ns) {
            drop_stuck_listeners(fanout);
            fanout->next_scan_ns = fanout->now_ns + fanout->scan_ns;
        }
        give_back_ended_places(fanout);
    }
}

/* Run the loop until nobody is blocked (or, lingering, nobody is left), or the time is up. A wait
 * that times out ends it too: a virtual clock may be standing still. */
static void drain_until(struct tower_fanout *fanout, bool is_lingering, int64_t deadline_ns) {
    for (;;) {
        uint64_t n_awaited = is_lingering ? get(&fanout->listeners) : fanout->n_blocked;
        int timeout = timeout_ms(fanout->now_ns, deadline_ns);
        bool is_woken;
        if (n_awaited == 0 || timeout == 0 || wait_and_handle(fanout, timeout, &is_woken) == 0)
            return;
    }
}

static void drain(struct tower_fanout *fanout) {
    take_up_pending(fanout);
    fanout->is_draining = true;
    pthread_mutex_lock(&fanout->lock);
    int64_t drain_ns = fanout->drain_ns;
    pthread_mutex_unlock(&fanout->lock);
    for (unsigned phase = 0; phase < fanout->n_groups; phase++) {
        serve_group(fanout, phase);
        for (uint32_t place = fanout->groups[phase]; place != TOWER_LISTENER_NONE;
             place = listener_at(fanout, place)->next)
            shut_down_if_done(fanout, place, listener_at(fanout, place)->generation);
    }
    fanout->now_ns = tower_clock_now_ns(fanout->config.clock);
    give_back_ended_places(fanout);
    drain_until(fanout, false, fanout->now_ns + drain_ns);

    /* A socket closed with input unread sends a reset, which takes away from the client what it has
     * not read yet: so read on until it closes its side, but not for long. */
    drain_until(fanout, true, fanout->now_ns + LINGER_NS);
    for (unsigned phase = 0; phase < fanout->n_groups; phase++) {
        uint32_t place;
        while ((place = fanout->groups[phase]) != TOWER_LISTENER_NONE) {
            fanout->n_cut += listener_at(fanout, place)->is_blocked;
            (void)shutdown(listener_at(fanout, place)->fd, SHUT_WR);
            end_listener(fanout, place, TOWER_LISTENER_SHUTDOWN);
        }
    }
    give_back_ended_places(fanout);
}

static void *run(void *arg) {
    struct tower_fanout *fanout = arg;
    serve_until_stopped(fanout);
    drain(fanout);
    return NULL;
}

int tower_fanout_start(struct tower_fanout *fanout) {
    static _Atomic unsigned n_workers;
    pthread_mutex_lock(&fanout->lock);
    bool was_started = fanout->was_started;
    fanout->was_started = true;
    pthread_mutex_unlock(&fanout->lock);
    if (was_started)
        return -EALREADY;
    char name[16];
    (void)snprintf(name, sizeof name, "fanout-%u", atomic_fetch_add(&n_workers, 1) % 10000);
    int error = tower_thread_start(&fanout->thread, name, run, fanout);
    pthread_mutex_lock(&fanout->lock);
    fanout->is_running = error == 0;
    fanout->was_started = error == 0;
    pthread_mutex_unlock(&fanout->lock);
    return error;
}

int tower_fanout_stop(struct tower_fanout *fanout, int64_t drain_ns) {
    pthread_mutex_lock(&fanout->lock);
    bool is_running = fanout->is_running;
    fanout->is_running = false;
    fanout->is_stopping = true;
    fanout->drain_ns = drain_ns;
    pthread_mutex_unlock(&fanout->lock);
    if (!is_running)
        return 0;
    tower_eventfd_signal(fanout->wake_fd);
    (void)pthread_join(fanout->thread, NULL);
    return fanout->n_cut;
}

int tower_fanout_add(struct tower_fanout *fanout, int fd, uint64_t cursor, uint8_t mount) {
    int error = 0;
    pthread_mutex_lock(&fanout->lock);
    uint32_t place = TOWER_LISTENER_NONE;
    if (!fanout->is_running) {
        error = -ESHUTDOWN;
    } else if ((place = tower_listener_table_take(&fanout->table)) == TOWER_LISTENER_NONE) {
        count(&fanout->refused, 1);
        error = -ENOSPC;
    } else {
        struct tower_listener *listener = listener_at(fanout, place);
        listener->fd = fd;
        listener->cursor = cursor;
        listener->mount = mount;
        listener->next = fanout->pending;
        fanout->pending = place;
        count(&fanout->accepted, 1);
        count(&fanout->listeners, 1);
        if (get(&fanout->listeners) > get(&fanout->listeners_peak))
            atomic_store_explicit(&fanout->listeners_peak, get(&fanout->listeners),
                                  memory_order_relaxed);
    }
    pthread_mutex_unlock(&fanout->lock);
    if (error == 0)
        tower_eventfd_signal(fanout->wake_fd);
    return error;
}

void tower_fanout_get_stats(const struct tower_fanout *fanout,
                            struct tower_fanout_stats *ret_stats) {
    struct tower_fanout_stats stats = {
        .listeners = get(&fanout->listeners),
        .capacity = tower_listener_table_capacity(&fanout->table),
        .phase_groups = atomic_load_explicit(&fanout->groups_now, memory_order_relaxed),
        .listeners_peak = get(&fanout->listeners_peak),
        .accepted = get(&fanout->accepted),
        .refused = get(&fanout->refused),
        .skips = get(&fanout->skips),
        .sent_bytes = get(&fanout->sent_bytes),
        .sends = get(&fanout->sends),
    };
    for (unsigned i = 0; i < TOWER_LISTENER_END_COUNT; i++)
        stats.ended[i] = get(&fanout->ended[i]);
    *ret_stats = stats;
}
