/* http_server.c - the control loop: accepts, reads, answers, hands streams over. */
#include "tower/http_server.h"

#include "tower/log.h"

#include "connection.h"
#include "events.h"
#include "fd.h"
#include "routes.h"
#include "tcp_listener.h"
#include "thread.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EVENTS 64
#define LISTEN_TOKEN UINT64_MAX
#define WAKE_TOKEN (UINT64_MAX - 1)
#define CONNECTIONS_MAX 65536
#define NO_CONNECTION UINT32_MAX
/* Done for one client, and accepted, before others have their turn: one request is read, answered
 * and sent in four, so that one who has sent a hundred gets one answer when all others get one. */
#define STEPS_A_TURN 4
#define ACCEPTS_A_TURN 64
#define NS_PER_MS INT64_C(1000000)
#define STOP_NS (200 * NS_PER_MS)
/* How long, and for how many bytes, a client that was answered may take to close. */
#define LINGER_NS (1000 * NS_PER_MS)
#define LINGER_BYTES (256 * 1024)
/* Without a place left, a request, or the taking of an answer, may last so long. */
#define SLOW_NS (500 * NS_PER_MS)
/* With no descriptor left: how long nobody is accepted, and how often that is said. */
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
#define SAY_AGAIN_NS (60000 * NS_PER_MS)
/* How often the transmitter's state is looked at, for the history and for who gets events; and how
 * often those get all of it. */
#define SAMPLE_NS (100 * NS_PER_MS)
#define SAMPLES_A_STATUS 10

struct tower_http_server {
    /* Constant after start. */
    struct tower_http_server_config config;
    int epoll_fd;
    int wake_fd;
    pthread_t thread;

    /* Owned by whoever starts and stops. */
    bool was_started;
    bool is_running;

    /* Atomic, written by whoever stops, read by the control thread. */
    _Atomic bool is_stopping;

    /* Owned by the control thread. */
    struct tower_tcp_listener listener;
    bool is_accepting; /* epoll looks at the listener */
    bool is_finishing; /* stopping: answers under way are all that is left */
    int64_t now_ns;
    int64_t accept_again_ns;  /* INT64_MIN: not paused */
    int64_t say_again_ns;     /* not before then that descriptors have run out */
    int64_t next_deadline_ns; /* no connection's deadline is before it */
    uint32_t first_free;
    uint32_t n_touched; /* connections from here on have never been in use */
    uint32_t n_used;
    uint32_t n_event_clients;
    size_t n_handed_over; /* listeners, to workers */
    int64_t next_sample_ns;
    uint64_t n_samples;
    struct tower_status last; /* as of the last sample */
    struct tower_history history;
    struct tower_routes routes;
    struct tower_connection *connections;
};

static int add_to_epoll(int epoll_fd, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static bool are_sound(const struct tower_http_sources *sources) {
    return !sources->users ||
           (sources->program && sources->socket_path && sources->ffmpeg && sources->knows_type);
}

int tower_http_server_new(const struct tower_http_server_config *config,
                          struct tower_http_server **ret_server) {
    if (!config->clock || (!config->host && config->n_listen_fds == 0) || !config->air ||
        !config->get_status || !config->station.name || !config->station.description ||
        !config->station.genre || !config->station.url || !config->public_url ||
        !config->password || config->wrong_password_ns < 0 || !are_sound(&config->sources) ||
        (config->n_fanouts > 0 && !config->fanouts) || config->max_connections == 0 ||
        config->max_connections > CONNECTIONS_MAX || config->request_timeout_ns <= 0)
        return -EINVAL;
    struct tower_http_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->config = *config;
    server->routes.config = &server->config;
    server->routes.history = &server->history;
    server->routes.guard.first_ns = config->wrong_password_ns;
    server->first_free = NO_CONNECTION;
    server->next_deadline_ns = INT64_MAX;
    server->accept_again_ns = INT64_MIN;
    server->say_again_ns = INT64_MIN;
    server->epoll_fd = server->wake_fd = -1;

    int error = -ENOMEM;
    /* Zeroed by the kernel as it is needed: connections that never come cost nothing. */
    server->connections = calloc(config->max_connections, sizeof *server->connections);
    if (!server->connections)
        goto fail;
    if (config->n_listen_fds > 0)
        error =
            tower_tcp_listener_borrow(&server->listener, config->listen_fds, config->n_listen_fds);
    else
        error = tower_tcp_listener_init(&server->listener, config->host, config->port);
    if (error < 0)
        goto fail;
    server->wake_fd = tower_eventfd_new();
    error = server->wake_fd;
    if (error < 0)
        goto fail;
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0) {
        error = -errno;
        goto fail;
    }
    error = add_to_epoll(server->epoll_fd, server->wake_fd, EPOLLIN, WAKE_TOKEN);
    if (error == 0)
        error = tower_tcp_listener_watch(&server->listener, server->epoll_fd, EPOLL_CTL_ADD,
                                         EPOLLIN, LISTEN_TOKEN);
    if (error < 0)
        goto fail;
    server->is_accepting = true;
    *ret_server = server;
    return 0;

fail:
    tower_http_server_free(server);
    return error;
}

void tower_http_server_free(struct tower_http_server *server) {
    if (!server)
        return;
    tower_http_server_stop(server);
    tower_tcp_listener_done(&server->listener);
    tower_fd_close(&server->epoll_fd);
    tower_fd_close(&server->wake_fd);
    tower_routes_history_changed(&server->routes);
    free(server->connections);
    free(server);
}

uint16_t tower_http_server_port(const struct tower_http_server *server) {
    return server->listener.port;
}

void tower_http_server_get_refused(const struct tower_http_server *server, uint64_t *ret_places,
                                   uint64_t *ret_address) {
    *ret_places = atomic_load_explicit(&server->routes.n_refused, memory_order_relaxed);
    *ret_address = atomic_load_explicit(&server->routes.n_refused_address, memory_order_relaxed);
}

static uint64_t token_of(const struct tower_http_server *server,
                         const struct tower_connection *connection) {
    return (uint64_t)connection->generation << 32 | (uint64_t)(connection - server->connections);
}

static bool has_place(const struct tower_http_server *server) {
    return server->n_used < server->config.max_connections;
}

static struct tower_connection *take_place(struct tower_http_server *server) {
    uint32_t place = server->first_free;
    if (place != NO_CONNECTION)
        server->first_free = server->connections[place].next_free;
    else
        place = server->n_touched++;
    server->n_used++;
    return &server->connections[place];
}

static void give_place(struct tower_http_server *server, struct tower_connection *connection) {
    connection->next_free = server->first_free;
    server->first_free = (uint32_t)(connection - server->connections);
    server->n_used--;
}

static void close_connection(struct tower_http_server *server,
                             struct tower_connection *connection) {
    if (connection->state == TOWER_CONNECTION_EVENTS)
        server->n_event_clients--;
    tower_connection_close(connection);
    give_place(server, connection);
}

static void set_deadline(struct tower_http_server *server, struct tower_connection *connection,
                         int64_t after_ns) {
    connection->deadline_ns = server->now_ns + after_ns;
    if (connection->deadline_ns < server->next_deadline_ns)
        server->next_deadline_ns = connection->deadline_ns;
}

/* Look for `events` on it from now on; closes it where epoll will not. */
static void watch(struct tower_http_server *server, struct tower_connection *connection,
                  uint32_t events) {
    if (connection->watched == events)
        return;
    struct epoll_event event = {.events = events, .data.u64 = token_of(server, connection)};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        close_connection(server, connection);
    else
        connection->watched = events;
}

/* The response header has gone out: the socket goes to a worker, in turn. */
static void hand_over(struct tower_http_server *server, struct tower_connection *connection) {
    const struct tower_http_server_config *config = &server->config;
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
    if (config->client_buffer_bytes > 0) {
        int bytes =
            config->client_buffer_bytes > INT_MAX ? INT_MAX : (int)config->client_buffer_bytes;
        (void)setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    struct tower_fanout_listener listener = {
        .cursor = tower_air_back(config->air, config->burst_frames),
        .wants_titles = connection->response.has_titles,
        .address = TOWER_ADDRESS_NONE,
    };
    int error = 0;
    if (config->addresses)
        error =
            tower_addresses_enter(config->addresses, connection->request.peer, &listener.address);
    listener.fd = tower_connection_release(connection);
    give_place(server, connection);
    bool is_taken = false;
    size_t first = server->n_handed_over++ / TOWER_FANOUT_RUN;
    for (size_t i = 0; i < config->n_fanouts && error == 0 && !is_taken; i++)
        is_taken =
            tower_fanout_add(config->fanouts[(first + i) % config->n_fanouts], &listener) == 0;
    if (is_taken)
        return;
    /* There was a place when the header was made: only a stop, somebody else who adds listeners, or
     * several at once from one address get us here. */
    if (config->addresses)
        tower_addresses_leave(config->addresses, listener.address);
    tower_fd_close(&listener.fd);
}

/* Likewise, of a tap. */
static void hand_to_taps(struct tower_http_server *server, struct tower_connection *connection) {
    struct tower_tap_format format = connection->response.tap;
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
    int fd = tower_connection_release(connection);
    give_place(server, connection);
    if (tower_taps_add(server->config.taps, fd, &format) < 0)
        tower_fd_close(&fd);
}

/* Likewise, of a source client, with what it has sent behind its request. */
static void hand_to_source(struct tower_http_server *server, struct tower_connection *connection) {
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
    (void)tower_routes_start_source(&server->routes, &connection->request, &connection->response,
                                    connection->fd, connection->input + connection->input_start,
                                    connection->input_end - connection->input_start);
    close_connection(server, connection);
}

static void start_answer(struct tower_http_server *server, struct tower_connection *connection) {
    connection->state = TOWER_CONNECTION_ANSWERING;
    connection->n_requests++;
    set_deadline(server, connection, server->config.request_timeout_ns);
}

/* It goes out at the deadline; until then nothing of the client is read. */
static void hold_answer(struct tower_http_server *server, struct tower_connection *connection) {
    connection->state = TOWER_CONNECTION_HELD;
    set_deadline(server, connection, connection->response.hold_ns);
    watch(server, connection, 0);
}

/* Put into the connection's answer how things are, or were at the last sample. Returns false, and
 * closes it, where there is no memory. */
static bool tell_all(struct tower_http_server *server, struct tower_connection *connection) {
    struct tower_response *response = &connection->response;
    response->body = tower_events_all(&server->last, &response->body_bytes);
    connection->has_missed_events = false;
    if (!response->body) {
        close_connection(server, connection);
        return false;
    }
    set_deadline(server, connection, server->config.request_timeout_ns);
    return true;
}

/* The connection gets events from now on, first of all how things are. That takes no sample of its
 * own: each would go to all who are there, however often somebody comes. */
static bool begin_events(struct tower_http_server *server, struct tower_connection *connection) {
    connection->state = TOWER_CONNECTION_EVENTS;
    server->n_event_clients++;
    return tell_all(server, connection);
}

/* The answer has gone out. Returns false if the connection is no longer ours to look at. */
static bool finish_answer(struct tower_http_server *server, struct tower_connection *connection) {
    enum tower_response_next next = connection->response.next;
    if (next == TOWER_RESPONSE_STREAM && !server->is_finishing) {
        hand_over(server, connection);
        return false;
    }
    if (next == TOWER_RESPONSE_TAP && !server->is_finishing) {
        hand_to_taps(server, connection);
        return false;
    }
    if (next == TOWER_RESPONSE_SOURCE && !server->is_finishing) {
        hand_to_source(server, connection);
        return false;
    }
    tower_response_done(&connection->response);
    if (next == TOWER_RESPONSE_EVENTS && !server->is_finishing) {
        return begin_events(server, connection);
    }
    if (next == TOWER_RESPONSE_KEEP_ALIVE && !server->is_finishing) {
        tower_connection_reset_request(connection);
        connection->state = TOWER_CONNECTION_READING;
        set_deadline(server, connection, server->config.request_timeout_ns);
        return true;
    }
    /* Closing with input unread would send a reset, and the answer might be lost with it. */
    (void)shutdown(connection->fd, SHUT_WR);
    connection->state = TOWER_CONNECTION_LINGERING;
    set_deadline(server, connection, LINGER_NS);
    return true;
}

static bool has_output(const struct tower_connection *connection) {
    return connection->response.body_bytes > 0;
}

/* Send what is left of the last events; what the client may say is not listened to. */
static bool step_events(struct tower_http_server *server, struct tower_connection *connection) {
    if (has_output(connection)) {
        int sent = tower_connection_write(connection);
        if (sent < 0) {
            close_connection(server, connection);
            return false;
        }
        if (sent > 0) {
            tower_response_done(&connection->response);
            connection->deadline_ns = INT64_MAX;
        }
    }
    ssize_t n = tower_connection_discard(connection);
    if (n == -EAGAIN)
        watch(server, connection, EPOLLIN | (has_output(connection) ? EPOLLOUT : 0U));
    else if (n <= 0 || connection->discarded_bytes > LINGER_BYTES)
        close_connection(server, connection);
    return n > 0 && connection->fd >= 0;
}

/* One step on. Returns true if another may follow at once; otherwise the connection waits for epoll
 * or is gone. */
static bool step(struct tower_http_server *server, struct tower_connection *connection) {
    ssize_t n;
    switch (connection->state) {
    case TOWER_CONNECTION_READING:
        if (tower_connection_next_request(connection)) {
            /* When places run short none is kept for a request that may never come. */
            bool may_keep_alive = has_place(server) && !server->is_finishing;
            uint32_t event_places = server->config.max_connections / 2;
            server->routes.event_places =
                event_places > server->n_event_clients ? event_places - server->n_event_clients : 0;
            if (tower_routes_answer(&server->routes, &connection->request, may_keep_alive,
                                    &connection->response) < 0) {
                close_connection(server, connection);
                return false;
            }
            if (connection->response.hold_ns > 0) {
                hold_answer(server, connection);
                return false;
            }
            start_answer(server, connection);
            return true;
        }
        n = tower_connection_read(connection);
        if (n > 0)
            return true;
        if (n == -EAGAIN)
            watch(server, connection, EPOLLIN);
        else
            close_connection(server, connection);
        return false;
    case TOWER_CONNECTION_HELD:
        return false;
    case TOWER_CONNECTION_ANSWERING:
        n = tower_connection_write(connection);
        if (n > 0)
            return finish_answer(server, connection);
        if (n == 0)
            watch(server, connection, EPOLLOUT);
        else
            close_connection(server, connection);
        return false;
    case TOWER_CONNECTION_EVENTS:
        return step_events(server, connection);
    case TOWER_CONNECTION_LINGERING:
        n = tower_connection_discard(connection);
        if (n == -EAGAIN)
            watch(server, connection, EPOLLIN);
        else if (n <= 0 || connection->discarded_bytes > LINGER_BYTES)
            close_connection(server, connection);
        else
            return true;
        return false;
    }
    return false;
}

static void advance(struct tower_http_server *server, struct tower_connection *connection) {
    for (int i = 0; i < STEPS_A_TURN; i++) {
        if (!step(server, connection))
            return;
    }
    /* More to do, after the others: a socket that has room comes straight back. */
    watch(server, connection, EPOLLIN | EPOLLOUT);
}

/* Answered with nothing under way, or long enough about something that an honest client does in a
 * moment: those who send, or take, a byte now and then must not keep everybody else out. */
static bool is_dispensable(const struct tower_http_server *server,
                           const struct tower_connection *connection) {
    int64_t begun_ns = connection->deadline_ns - server->config.request_timeout_ns;
    if (connection->fd < 0 || connection->state == TOWER_CONNECTION_EVENTS)
        return false;
    if (connection->state == TOWER_CONNECTION_LINGERING ||
        connection->state == TOWER_CONNECTION_HELD ||
        (connection->state == TOWER_CONNECTION_READING && connection->n_requests > 0 &&
         !tower_connection_is_mid_request(connection)))
        return true;
    return server->now_ns - begun_ns >= SLOW_NS;
}

/* The connection that can best be done without: of the dispensable ones the one whose time is up
 * first. NULL if there is none. */
static struct tower_connection *find_dispensable(struct tower_http_server *server) {
    struct tower_connection *found = NULL;
    for (uint32_t i = 0; i < server->n_touched; i++) {
        struct tower_connection *connection = &server->connections[i];
        if (is_dispensable(server, connection) &&
            (!found || connection->deadline_ns < found->deadline_ns))
            found = connection;
    }
    return found;
}

/* Make room by closing one connection. */
static bool evict(struct tower_http_server *server) {
    struct tower_connection *connection = find_dispensable(server);
    if (connection)
        close_connection(server, connection);
    return connection != NULL;
}

/* Look at the listening sockets while there is a place, and not while it could only fail. */
static void update_accepting(struct tower_http_server *server) {
    if (server->accept_again_ns <= server->now_ns)
        server->accept_again_ns = INT64_MIN;
    bool wanted = server->accept_again_ns == INT64_MIN &&
                  (has_place(server) || find_dispensable(server) != NULL);
    if (wanted == server->is_accepting)
        return;
    if (tower_tcp_listener_watch(&server->listener, server->epoll_fd, EPOLL_CTL_MOD,
                                 wanted ? EPOLLIN : 0U, LISTEN_TOKEN) == 0)
        server->is_accepting = wanted;
}

static void pause_accepting(struct tower_http_server *server, int error) {
    server->accept_again_ns = server->now_ns + ACCEPT_PAUSE_NS;
    (void)evict(server);
    if (server->now_ns < server->say_again_ns)
        return;
    server->say_again_ns = server->now_ns + SAY_AGAIN_NS;
    tower_log(TOWER_LOG_WARNING, "http",
              "no new connection can be accepted just now: %s; those there are go on, new ones "
              "wait; raise the limit of open files (ulimit -n, LimitNOFILE=) to serve more",
              strerror(error));
}

static void open_connection(struct tower_http_server *server, int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct tower_connection *connection = take_place(server);
    tower_connection_open(connection, fd);
    connection->watched = EPOLLIN;
    if (add_to_epoll(server->epoll_fd, fd, EPOLLIN, token_of(server, connection)) < 0)
        close_connection(server, connection);
    else
        set_deadline(server, connection, server->config.request_timeout_ns);
}

static void accept_connections(struct tower_http_server *server) {
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (!has_place(server) && !evict(server))
            return;
        int fd = tower_tcp_listener_accept(&server->listener);
        if (fd >= 0) {
            open_connection(server, fd);
            continue;
        }
        if (fd == -EAGAIN)
            return;
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            pause_accepting(server, -fd);
            return;
        }
        /* Anything else is about that one connection, which was gone before we came. */
    }
}

static void expire(struct tower_http_server *server, struct tower_connection *connection) {
    struct tower_request *request = &connection->request;
    if (connection->state == TOWER_CONNECTION_HELD) {
        start_answer(server, connection);
        advance(server, connection);
        return;
    }
    if (connection->state != TOWER_CONNECTION_READING ||
        !tower_connection_is_mid_request(connection)) {
        close_connection(server, connection);
        return;
    }
    request->refusal = 408;
    request->reason = "the request did not come in time";
    request->keeps_alive = false;
    if (tower_routes_answer(&server->routes, request, false, &connection->response) < 0) {
        close_connection(server, connection);
        return;
    }
    start_answer(server, connection);
    advance(server, connection);
}

static void expire_connections(struct tower_http_server *server) {
    if (server->now_ns < server->next_deadline_ns)
        return;
    server->next_deadline_ns = INT64_MAX;
    for (uint32_t i = 0; i < server->n_touched; i++) {
        struct tower_connection *connection = &server->connections[i];
        if (connection->fd < 0)
            continue;
        if (connection->deadline_ns <= server->now_ns)
            expire(server, connection);
        else if (connection->deadline_ns < server->next_deadline_ns)
            server->next_deadline_ns = connection->deadline_ns;
    }
}

/* Give the connection `text`. Who has not taken the last one yet misses this one, and gets
 * everything once it has. */
static void send_events(struct tower_http_server *server, struct tower_connection *connection,
                        const char *text, size_t bytes) {
    if (has_output(connection)) {
        connection->has_missed_events = true;
        return;
    }
    struct tower_response *response = &connection->response;
    if (connection->has_missed_events) {
        if (tell_all(server, connection))
            advance(server, connection);
        return;
    }
    response->body = malloc(bytes);
    if (!response->body) {
        close_connection(server, connection);
        return;
    }
    memcpy(response->body, text, response->body_bytes = bytes);
    set_deadline(server, connection, server->config.request_timeout_ns);
    advance(server, connection);
}

/* Look at the transmitter's state, and tell who wants to know. */
static void sample(struct tower_http_server *server) {
    if (server->now_ns < server->next_sample_ns || server->is_finishing)
        return;
    server->next_sample_ns += SAMPLE_NS;
    if (server->next_sample_ns <= server->now_ns)
        server->next_sample_ns = server->now_ns + SAMPLE_NS;
    struct tower_status last = server->last;
    tower_routes_get_status(&server->routes, &server->last);
    tower_routes_look_after_sources(&server->routes, &server->last);
    tower_history_sample(&server->history, &server->last);
    tower_routes_history_changed(&server->routes);
    bool is_time_for_status = server->n_samples++ % SAMPLES_A_STATUS == 0;
    if (server->n_event_clients == 0)
        return;
    size_t bytes = 0;
    char *text =
        tower_events_news(&last, &server->last, &server->history, is_time_for_status, &bytes);
    for (uint32_t i = 0; i < server->n_touched; i++) {
        struct tower_connection *connection = &server->connections[i];
        if (connection->fd < 0 || connection->state != TOWER_CONNECTION_EVENTS)
            continue;
        if (text)
            send_events(server, connection, text, bytes);
        else /* no memory: the next time all of them are told how things are */
            connection->has_missed_events = true;
    }
    free(text);
}

static int timeout_ms(const struct tower_http_server *server, int64_t deadline_ns) {
    if (server->n_used > 0 && server->next_deadline_ns < deadline_ns)
        deadline_ns = server->next_deadline_ns;
    if (server->accept_again_ns != INT64_MIN && server->accept_again_ns < deadline_ns)
        deadline_ns = server->accept_again_ns;
    if (!server->is_finishing && server->next_sample_ns < deadline_ns)
        deadline_ns = server->next_sample_ns;
    /* Full: before long somebody may be done without. */
    if (!server->is_accepting && !server->is_finishing &&
        server->now_ns + ACCEPT_PAUSE_NS < deadline_ns)
        deadline_ns = server->now_ns + ACCEPT_PAUSE_NS;
    return tower_clock_poll_timeout_ms(server->config.clock, deadline_ns);
}

static void handle_connection_event(struct tower_http_server *server,
                                    const struct epoll_event *event) {
    struct tower_connection *connection = &server->connections[(uint32_t)event->data.u64];
    if (connection->fd < 0 || connection->generation != (uint32_t)(event->data.u64 >> 32))
        return;
    if (event->events & (EPOLLERR | EPOLLHUP))
        close_connection(server, connection);
    else
        advance(server, connection);
}

/* Wait until something happens or `deadline_ns`, and deal with it. Returns how many events came. */
static int turn(struct tower_http_server *server, int64_t deadline_ns) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(server->epoll_fd, events, EVENTS, timeout_ms(server, deadline_ns));
    server->now_ns = tower_clock_now_ns(server->config.clock);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == LISTEN_TOKEN)
            accept_connections(server);
        else if (events[i].data.u64 == WAKE_TOKEN)
            tower_eventfd_drain(server->wake_fd);
        else
            handle_connection_event(server, &events[i]);
    }
    sample(server);
    expire_connections(server);
    update_accepting(server);
    return n;
}

/* Let the answers under way go out, for a bounded time; close everything. */
static void finish(struct tower_http_server *server) {
    server->is_finishing = true;
    /* Those that are not ours stay open, and whoever comes now waits there. */
    (void)tower_tcp_listener_watch(&server->listener, server->epoll_fd, EPOLL_CTL_DEL, 0,
                                   LISTEN_TOKEN);
    tower_tcp_listener_done(&server->listener);
    server->accept_again_ns = INT64_MIN;
    for (uint32_t i = 0; i < server->n_touched; i++) {
        struct tower_connection *connection = &server->connections[i];
        if (connection->fd >= 0 && (connection->state == TOWER_CONNECTION_READING ||
                                    connection->state == TOWER_CONNECTION_HELD ||
                                    connection->state == TOWER_CONNECTION_EVENTS))
            close_connection(server, connection);
    }
    server->now_ns = tower_clock_now_ns(server->config.clock);
    int64_t deadline_ns = server->now_ns + STOP_NS;
    /* A wait that times out ends it too: a virtual clock may be standing still. */
    while (server->n_used > 0 && server->now_ns < deadline_ns && turn(server, deadline_ns) > 0)
        ;
    for (uint32_t i = 0; i < server->n_touched; i++) {
        if (server->connections[i].fd >= 0)
            close_connection(server, &server->connections[i]);
    }
}

static void *run(void *arg) {
    struct tower_http_server *server = arg;
    while (!atomic_load(&server->is_stopping))
        (void)turn(server, INT64_MAX);
    finish(server);
    return NULL;
}

int tower_http_server_start(struct tower_http_server *server) {
    if (server->was_started)
        return -EALREADY;
    server->now_ns = tower_clock_now_ns(server->config.clock);
    server->next_sample_ns = server->now_ns;
    int error = tower_thread_start(&server->thread, "http", run, server);
    server->was_started = server->is_running = error == 0;
    return error;
}

void tower_http_server_stop(struct tower_http_server *server) {
    if (!server->is_running)
        return;
    server->is_running = false;
    atomic_store(&server->is_stopping, true);
    tower_eventfd_signal(server->wake_fd);
    (void)pthread_join(server->thread, NULL);
}
