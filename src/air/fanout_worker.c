/* fanout_worker.c - the loop of a fan-out worker: one thread, one epoll, its listeners.
 *
 * The worker sends at each frame whatever its listeners have not had yet. It allocates nothing and
 * waits for nobody: a listener whose socket is full is left out until epoll says it has room.
 */
#include "fanout_worker.h"

#include "tower/log.h"

#include "cadence.h"
#include "fd.h"

#include <errno.h>
#include <sys/socket.h>

#define NS_PER_MS INT64_C(1000000)
/* How long a client gets to close its side once ours is shut. */
#define LINGER_NS (100 * NS_PER_MS)
/* What a client may send after its request before it is no longer looked at: 255 times 4 KiB. */
#define READS 255

static void give_back_ended_places(struct tower_fanout *fanout) {
    if (fanout->ended_places == TOWER_LISTENER_NONE)
        return;
    pthread_mutex_lock(&fanout->lock);
    while (fanout->ended_places != TOWER_LISTENER_NONE) {
        uint32_t place = fanout->ended_places;
        struct tower_listener *listener = tower_fanout_at(fanout, place);
        fanout->ended_places = listener->next;
        if (listener->wants_titles)
            atomic_fetch_sub_explicit(&fanout->with_titles, 1, memory_order_relaxed);
        tower_listener_table_give(&fanout->table, place);
        atomic_fetch_sub_explicit(&fanout->listeners, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&fanout->lock);
}

static void serve_group(struct tower_fanout *fanout, unsigned phase) {
    uint32_t next;
    fanout->sending_since_ns = TOWER_FANOUT_NOT_KNOWN;
    for (uint32_t place = fanout->groups[phase]; place != TOWER_LISTENER_NONE; place = next) {
        /* Serving may end this one, and no other. */
        next = tower_fanout_at(fanout, place)->next;
        /* Its memory comes while the kernel sends this one's. */
        if (next != TOWER_LISTENER_NONE)
            __builtin_prefetch(tower_fanout_at(fanout, next), 1);
        if (!tower_fanout_at(fanout, place)->is_blocked)
            tower_fanout_serve(fanout, place);
    }
}

/* Serve the groups whose turn came with the frames published since the last round, in that order:
 * who has waited longest is the first. */
static void serve_due_groups(struct tower_fanout *fanout) {
    uint64_t frames = tower_air_frames(fanout->config.air);
    uint64_t n_groups = fanout->n_groups;
    uint64_t due = frames - fanout->frames_seen;
    if (due > n_groups)
        due = n_groups;
    for (uint64_t frame = frames - due + 1; frame <= frames; frame++)
        serve_group(fanout, (unsigned)(frame % n_groups));
    fanout->frames_seen = frames;
}

/* Deal the listeners out again over `n_groups` groups, in the order of their next turn: whoever has
 * waited longest is among the first, so that nobody waits for more frames than there are groups, or
 * were. */
static void regroup(struct tower_fanout *fanout, uint32_t n_groups) {
    uint32_t all = TOWER_LISTENER_NONE;
    uint64_t left = 0;
    for (uint64_t turn = fanout->n_groups; turn > 0; turn--) {
        unsigned phase = (unsigned)((fanout->frames_seen + turn) % fanout->n_groups);
        uint32_t place;
        while ((place = fanout->groups[phase]) != TOWER_LISTENER_NONE) {
            tower_fanout_unlink(fanout, place);
            tower_fanout_at(fanout, place)->next = all;
            all = place;
            left++;
        }
    }
    fanout->n_groups = n_groups;
    atomic_store_explicit(&fanout->groups_now, n_groups, memory_order_relaxed);
    for (uint64_t turn = 1; turn <= n_groups; turn++) {
        uint64_t share = (left + n_groups - turn) / (n_groups - turn + 1);
        left -= share;
        for (; share > 0; share--) {
            uint32_t place = all;
            all = tower_fanout_at(fanout, place)->next;
            tower_fanout_at(fanout, place)->phase =
                (uint8_t)((fanout->frames_seen + turn) % n_groups);
            tower_fanout_link(fanout, place);
        }
    }
}

/* Where the cadence follows the number of listeners: as many groups as they need now. */
static void adapt_groups(struct tower_fanout *fanout) {
    if (fanout->config.phase_groups > 0)
        return;
    uint32_t n_groups =
        tower_cadence_groups(tower_fanout_counted(&fanout->listeners), fanout->n_groups);
    if (n_groups != fanout->n_groups)
        regroup(fanout, n_groups);
}

static void take_up(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    listener->phase = (uint8_t)(fanout->next_phase++ / TOWER_FANOUT_RUN % fanout->n_groups);
    listener->reads_left = READS;
    /* Known of one that another process had before. */
    if (listener->connected_ns == 0)
        listener->connected_ns = fanout->now_ns;
    listener->progress_ns = fanout->now_ns;
    tower_fanout_link(fanout, place);
    if (!tower_fanout_watch(fanout, place, EPOLL_CTL_ADD)) {
        tower_log_deferred(
            TOWER_LOG_WARNING, "fanout",
            "a listener could not be watched and was closed (errno %lld): if there are "
            "many, raise fs.epoll.max_user_watches",
            errno, 0, 0, 0);
        return;
    }
    tower_fanout_serve(fanout, place);
}

static void take_up_pending(struct tower_fanout *fanout) {
    pthread_mutex_lock(&fanout->lock);
    uint32_t place = fanout->pending;
    fanout->pending = TOWER_LISTENER_NONE;
    pthread_mutex_unlock(&fanout->lock);
    while (place != TOWER_LISTENER_NONE) {
        uint32_t next = tower_fanout_at(fanout, place)->next;
        take_up(fanout, place);
        place = next;
    }
}

/* When draining: whoever has had everything is told that this was the end. */
static void shut_down_if_done(struct tower_fanout *fanout, uint32_t place, uint32_t generation) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    if (tower_fanout_is_same(listener, generation) && !listener->is_blocked)
        (void)shutdown(listener->fd, SHUT_WR);
}

/* Read what the client sends, and forget it. The end of that alone is no farewell: a client may
 * shut its sending side and listen on. */
static void discard_input(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    ssize_t n = recv(listener->fd, fanout->scratch, sizeof fanout->scratch, MSG_DONTWAIT);
    fanout->sending_since_ns = TOWER_FANOUT_NOT_KNOWN;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        tower_fanout_end(fanout, place, tower_fanout_why(errno));
        return;
    }
    if (n == 0 && fanout->is_draining && !listener->is_blocked) {
        tower_fanout_end(fanout, place, TOWER_LISTENER_SHUTDOWN);
        return;
    }
    listener->reads_left = n == 0 ? 0 : (uint8_t)(listener->reads_left - 1);
    if (listener->reads_left == 0)
        (void)tower_fanout_watch(fanout, place, EPOLL_CTL_MOD);
}

static void handle_event(struct tower_fanout *fanout, const struct epoll_event *event) {
    uint32_t place = (uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32);
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    /* An earlier event of this round may have ended it. */
    if (!tower_fanout_is_same(listener, generation))
        return;
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        (void)getsockopt(listener->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        enum tower_listener_end why = tower_fanout_why(error);
        /* Both sides shut, ours first: that is how a drain ends. */
        if (fanout->is_draining && error == 0)
            why = TOWER_LISTENER_SHUTDOWN;
        tower_fanout_end(fanout, place, why);
        return;
    }
    if (event->events & EPOLLOUT) {
        tower_fanout_serve(fanout, place);
        if (fanout->is_draining)
            shut_down_if_done(fanout, place, generation);
    }
    if ((event->events & EPOLLIN) && tower_fanout_is_same(listener, generation))
        discard_input(fanout, place);
}

/* Once in a while, not at each frame, so that its cost does not grow with the number of listeners
 * times the number of frames. */
static void drop_stuck_listeners(struct tower_fanout *fanout) {
    for (unsigned phase = 0; phase < fanout->n_groups; phase++) {
        uint32_t next;
        for (uint32_t place = fanout->groups[phase]; place != TOWER_LISTENER_NONE; place = next) {
            struct tower_listener *listener = tower_fanout_at(fanout, place);
            next = listener->next;
            if (listener->is_blocked &&
                fanout->now_ns - listener->progress_ns >= fanout->config.client_timeout_ns)
                tower_fanout_end(fanout, place, TOWER_LISTENER_TIMEOUT);
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
    int n = epoll_wait(fanout->epoll_fd, fanout->events, TOWER_FANOUT_EVENTS, timeout);
    fanout->now_ns = tower_clock_now_ns(fanout->config.clock);
    fanout->sending_since_ns = fanout->now_ns;
    *ret_woken = false;
    for (int i = 0; i < n; i++) {
        if (fanout->events[i].data.u64 == TOWER_FANOUT_WAKE_TOKEN) {
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
        int timeout = tower_fanout_counted(&fanout->n_blocked) > 0
                          ? timeout_ms(fanout->now_ns, fanout->next_scan_ns)
                          : -1;
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
            /* All of them are far from any cache. */
            if (tower_fanout_counted(&fanout->n_blocked) > 0)
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
        uint64_t n_awaited = is_lingering ? tower_fanout_counted(&fanout->listeners)
                                          : tower_fanout_counted(&fanout->n_blocked);
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
             place = tower_fanout_at(fanout, place)->next)
            shut_down_if_done(fanout, place, tower_fanout_at(fanout, place)->generation);
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
            fanout->n_cut += tower_fanout_at(fanout, place)->is_blocked;
            (void)shutdown(tower_fanout_at(fanout, place)->fd, SHUT_WR);
            tower_fanout_end(fanout, place, TOWER_LISTENER_SHUTDOWN);
        }
    }
    give_back_ended_places(fanout);
}

void *tower_fanout_run(void *arg) {
    struct tower_fanout *fanout = arg;
    serve_until_stopped(fanout);
    drain(fanout);
    return NULL;
}
