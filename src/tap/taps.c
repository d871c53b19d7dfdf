/* taps.c - the ring that the pump writes, and the thread that serves who taps. */
#include "tower/taps.h"

#include "fd.h"
#include "thread.h"
#include "tower/air.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)
/* Some 110 frames, of which the last quarter is left alone by readers: the thread may be late by
 * two seconds. */
#define RING_BYTES ((size_t)512 * 1024)
#define RING_FRAMES 128
#define EVENTS 64
#define WAKE_TOKEN UINT64_MAX
/* What is kept for a client whose socket is full: so much sound, but two chunks at least. */
#define QUEUE_SECONDS 2
#define SEND_BUFFER_BYTES_MIN 16384
/* What a client may say before it is closed: it has nothing to say. */
#define DISCARD_BYTES_MAX 65536
#define SCAN_NS_MAX (250 * NS_PER_MS)
/* The system's clock may be set; what it is off by is noise below this. */
#define CLOCK_SET_NS (10 * NS_PER_MS)

/* A frame in the ring. */
struct record {
    int64_t due_ns;
    uint64_t position_samples;
    uint64_t origin;
    int16_t samples[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
};
#define RECORD_HEAD_BYTES offsetof(struct record, samples)

struct client {
    int fd;          /* -1: the place is free */
    bool is_blocked; /* epoll looks for room in its socket */
    struct tower_tap *tap;
    uint64_t cursor;
    int64_t progress_ns; /* when it last took something, or last had nothing to take */
    uint64_t chunks;     /* of its tap, as far as they are in the counts */
    uint64_t lost;
    size_t discarded_bytes;
    size_t queue_bytes;
    size_t from, to; /* what is to be sent, in queue */
    uint8_t *queue;
};

struct tower_taps {
    /* Constant after new. */
    struct tower_taps_config config;
    size_t record_bytes;
    struct tower_air *ring;
    int wake_fd;
    int epoll_fd;

    /* Owned by whoever starts and stops. */
    pthread_t thread;
    bool was_started;

    /* Owned by the pump. */
    struct record written;

    pthread_mutex_t lock;
    /* Guarded by lock. */
    bool is_running;
    uint32_t n_added;
    struct client *added; /* config.max_taps: not yet the thread's */

    /* Owned by the thread. */
    struct client *clients; /* config.max_taps */
    int64_t offset_ns;      /* from the clock to CLOCK_REALTIME */
    struct record read;

    /* Atomic. */
    _Atomic bool is_stopping;
    _Atomic uint64_t n_taps; /* those added too; looked at by the pump */
    _Atomic uint64_t accepted, refused, timeouts, chunks, chunks_lost, sent_bytes;
};

static void count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static int64_t system_wall_ns(void *user) {
    struct timespec now;
    (void)user;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * TOWER_NS_PER_S + now.tv_nsec;
}

int tower_taps_new(const struct tower_taps_config *config, struct tower_taps **ret_taps) {
    if (!config->clock || config->max_taps == 0 || config->max_taps > TOWER_TAPS_MAX ||
        config->frame_samples == 0 || config->frame_samples > TOWER_FRAME_SAMPLES_MAX ||
        config->client_timeout_ns <= 0)
        return -EINVAL;
    struct tower_taps *taps = calloc(1, sizeof *taps);
    if (!taps)
        return -ENOMEM;
    taps->config = *config;
    if (!taps->config.wall_ns)
        taps->config.wall_ns = system_wall_ns;
    taps->record_bytes = RECORD_HEAD_BYTES + tower_frame_bytes(config->frame_samples);
    taps->wake_fd = taps->epoll_fd = -1;
    int error = tower_mutex_init(&taps->lock, 0);
    if (error < 0) {
        free(taps);
        return error;
    }
    error = -ENOMEM;
    taps->clients = calloc(config->max_taps, sizeof *taps->clients);
    taps->added = calloc(config->max_taps, sizeof *taps->added);
    if (!taps->clients || !taps->added)
        goto fail;
    for (uint32_t i = 0; i < config->max_taps; i++)
        taps->clients[i].fd = -1;
    error = tower_air_new(RING_BYTES, RING_FRAMES, &taps->ring);
    if (error < 0)
        goto fail;
    taps->wake_fd = tower_eventfd_new();
    error = taps->wake_fd;
    if (error < 0)
        goto fail;
    taps->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TOKEN};
    if (taps->epoll_fd < 0 || epoll_ctl(taps->epoll_fd, EPOLL_CTL_ADD, taps->wake_fd, &event) < 0) {
        error = -errno;
        goto fail;
    }
    error = tower_air_add_waker(taps->ring, taps->wake_fd);
    if (error < 0)
        goto fail;
    *ret_taps = taps;
    return 0;

fail:
    tower_taps_free(taps);
    return error;
}

void tower_taps_free(struct tower_taps *taps) {
    if (!taps)
        return;
    tower_taps_stop(taps);
    tower_fd_close(&taps->epoll_fd);
    tower_fd_close(&taps->wake_fd);
    tower_air_free(taps->ring);
    free(taps->clients);
    free(taps->added);
    (void)pthread_mutex_destroy(&taps->lock);
    free(taps);
}

/* ---- the pump ---- */

void tower_taps_write(struct tower_taps *taps, const int16_t *frame, int64_t due_ns,
                      uint64_t position_samples, enum tower_origin origin) {
    if (get(&taps->n_taps) == 0)
        return;
    taps->written.due_ns = due_ns;
    taps->written.position_samples = position_samples;
    taps->written.origin = (uint64_t)origin;
    memcpy(taps->written.samples, frame, taps->record_bytes - RECORD_HEAD_BYTES);
    (void)tower_air_publish(taps->ring, (const uint8_t *)&taps->written, taps->record_bytes);
}

/* ---- who comes ---- */

bool tower_taps_has_place(const struct tower_taps *taps) {
    return get(&taps->n_taps) < taps->config.max_taps;
}

void tower_taps_note_refused(struct tower_taps *taps) {
    count(&taps->refused, 1);
}

static void free_buffers(struct client *client) {
    tower_tap_free(client->tap);
    free(client->queue);
    client->tap = NULL;
    client->queue = NULL;
}

/* All that a client needs, made before it has a place. */
static int make_client(int fd, const struct tower_tap_format *format, struct client *ret_client) {
    size_t chunk_bytes = tower_tap_chunk_bytes(format);
    size_t second_bytes = (size_t)format->rate_hz * format->channels * sizeof(int16_t);
    size_t chunks = QUEUE_SECONDS * (size_t)format->rate_hz / format->samples;
    struct client client = {.fd = fd};
    int error = tower_tap_new(format, &client.tap);
    if (error < 0)
        return error;
    client.queue_bytes = (chunks < 2 ? 2 : chunks) * chunk_bytes + TOWER_TAP_WAV_BYTES;
    client.queue = malloc(client.queue_bytes);
    if (!client.queue) {
        free_buffers(&client);
        return -ENOMEM;
    }
    if (format->is_wav) {
        tower_tap_wav_write(format, client.queue);
        client.to = TOWER_TAP_WAV_BYTES;
    }
    /* Half a second, which the kernel doubles: what lies there is old before it is read, and nobody
     * can take it back. */
    int bytes = (int)(second_bytes / 2);
    if (bytes < SEND_BUFFER_BYTES_MIN)
        bytes = SEND_BUFFER_BYTES_MIN;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    *ret_client = client;
    return 0;
}

int tower_taps_add(struct tower_taps *taps, int fd, const struct tower_tap_format *format) {
    struct client client;
    int error = make_client(fd, format, &client);
    if (error < 0)
        return error;
    pthread_mutex_lock(&taps->lock);
    if (!taps->is_running) {
        error = -ESHUTDOWN;
    } else if (!tower_taps_has_place(taps)) {
        error = -ENOSPC;
        count(&taps->refused, 1);
    } else {
        taps->added[taps->n_added++] = client;
        count(&taps->n_taps, 1);
        count(&taps->accepted, 1);
    }
    pthread_mutex_unlock(&taps->lock);
    if (error < 0)
        free_buffers(&client);
    else
        tower_eventfd_signal(taps->wake_fd);
    return error;
}

/* ---- the thread ---- */

static void close_client(struct tower_taps *taps, struct client *client) {
    free_buffers(client);
    tower_fd_close(&client->fd);
    atomic_fetch_sub_explicit(&taps->n_taps, 1, memory_order_relaxed);
}

/* The place is counted free after it is, so that there is one for each that was added. */
static struct client *free_place(struct tower_taps *taps) {
    uint32_t i = 0;
    while (taps->clients[i].fd >= 0)
        i++;
    return &taps->clients[i];
}

/* Have those who were added begin at the next frame. */
static void take_added(struct tower_taps *taps, int64_t now_ns, uint64_t head) {
    pthread_mutex_lock(&taps->lock);
    while (taps->n_added > 0) {
        struct client *client = free_place(taps);
        *client = taps->added[--taps->n_added];
        client->cursor = head;
        client->progress_ns = now_ns;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP,
                                    .data.u64 = (uint64_t)(client - taps->clients)};
        if (epoll_ctl(taps->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) < 0)
            close_client(taps, client);
    }
    pthread_mutex_unlock(&taps->lock);
}

/* A chunk is queued whole or not at all. */
static bool put_chunk(void *user, const uint8_t *chunk, size_t bytes) {
    struct client *client = user;
    size_t have = client->to - client->from;
    if (bytes > client->queue_bytes - have)
        return false;
    if (bytes > client->queue_bytes - client->to) {
        memmove(client->queue, client->queue + client->from, have);
        client->from = 0;
        client->to = have;
    }
    memcpy(client->queue + client->to, chunk, bytes);
    client->to += bytes;
    return true;
}

static void watch_room(struct tower_taps *taps, struct client *client, bool is_blocked) {
    if (client->is_blocked == is_blocked)
        return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (is_blocked ? EPOLLOUT : 0U),
                                .data.u64 = (uint64_t)(client - taps->clients)};
    if (epoll_ctl(taps->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) == 0)
        client->is_blocked = is_blocked;
}

/* Send what its socket takes. */
static void flush(struct tower_taps *taps, struct client *client, int64_t now_ns) {
    while (client->from < client->to) {
        ssize_t sent = send(client->fd, client->queue + client->from, client->to - client->from,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            watch_room(taps, client, true);
            return;
        }
        if (sent < 0) {
            close_client(taps, client);
            return;
        }
        client->from += (size_t)sent;
        client->progress_ns = now_ns;
        count(&taps->sent_bytes, (uint64_t)sent);
    }
    client->from = 0;
    client->to = 0;
    client->progress_ns = now_ns;
    watch_room(taps, client, false);
}

static void copy_record(struct tower_taps *taps, const struct iovec *pieces, int n_pieces) {
    uint8_t *to = (uint8_t *)&taps->read;
    for (int i = 0; i < n_pieces; i++) {
        memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
        to += pieces[i].iov_len;
    }
}

/* Take every frame up to `head`. Errors: as for tower_tap_take(). */
static int take_frames(struct tower_taps *taps, struct client *client, uint64_t head) {
    struct iovec pieces[2];
    int n_pieces = 0;
    while (client->cursor < head) {
        int64_t bytes =
            tower_air_peek(taps->ring, client->cursor, taps->record_bytes, pieces, &n_pieces);
        if (bytes != (int64_t)taps->record_bytes) {
            uint64_t frames = (head - client->cursor) / taps->record_bytes;
            tower_tap_skip(client->tap, frames * taps->config.frame_samples);
            client->cursor = head;
            break;
        }
        copy_record(taps, pieces, n_pieces);
        client->cursor += taps->record_bytes;
        struct tower_tap_frame frame = {
            .time_ns = taps->read.due_ns + taps->offset_ns,
            .position_samples = taps->read.position_samples,
            .origin = (uint32_t)taps->read.origin,
        };
        int error = tower_tap_take(client->tap, &frame, taps->read.samples,
                                   taps->config.frame_samples, put_chunk, client);
        if (error < 0)
            return error;
    }
    return 0;
}

static void serve(struct tower_taps *taps, struct client *client, uint64_t head, int64_t now_ns) {
    int error = take_frames(taps, client, head);
    uint64_t chunks = tower_tap_chunks(client->tap), lost = tower_tap_lost(client->tap);
    count(&taps->chunks, chunks - client->chunks);
    count(&taps->chunks_lost, lost - client->lost);
    client->chunks = chunks;
    client->lost = lost;
    if (error < 0) {
        close_client(taps, client);
        return;
    }
    /* One whose socket is full is tried again when epoll says so. */
    if (!client->is_blocked)
        flush(taps, client, now_ns);
    if (client->fd < 0 || now_ns - client->progress_ns <= taps->config.client_timeout_ns)
        return;
    count(&taps->timeouts, 1);
    close_client(taps, client);
}

static void handle_event(struct tower_taps *taps, const struct epoll_event *event, int64_t now_ns) {
    uint8_t bytes[1024];
    struct client *client = &taps->clients[event->data.u64];
    if (client->fd < 0)
        return;
    if (event->events & EPOLLIN) {
        ssize_t n = recv(client->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        client->discarded_bytes += n > 0 ? (size_t)n : 0;
    }
    if ((event->events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) ||
        client->discarded_bytes > DISCARD_BYTES_MAX)
        close_client(taps, client);
    else if (event->events & EPOLLOUT)
        flush(taps, client, now_ns);
}

/* What makes a time on the clock one that people know. Kept as it is until the system's clock has
 * been set, so that times a chunk apart are told as exactly that. */
static void update_offset(struct tower_taps *taps, int64_t now_ns) {
    int64_t offset_ns = taps->config.wall_ns(taps->config.user) - now_ns;
    int64_t off_ns = offset_ns - taps->offset_ns;
    if (off_ns < -CLOCK_SET_NS || off_ns > CLOCK_SET_NS)
        taps->offset_ns = offset_ns;
}

static void turn(struct tower_taps *taps) {
    struct epoll_event events[EVENTS];
    struct tower_clock *clock = taps->config.clock;
    /* Where nobody taps there is nothing to look after. */
    int64_t wait_ns = taps->config.client_timeout_ns / 4;
    if (wait_ns > SCAN_NS_MAX)
        wait_ns = SCAN_NS_MAX;
    int timeout_ms = -1;
    if (get(&taps->n_taps) > 0)
        timeout_ms = tower_clock_poll_timeout_ms(clock, tower_clock_now_ns(clock) + wait_ns);
    int n = epoll_wait(taps->epoll_fd, events, EVENTS, timeout_ms);
    int64_t now_ns = tower_clock_now_ns(clock);
    update_offset(taps, now_ns);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == WAKE_TOKEN)
            tower_eventfd_drain(taps->wake_fd);
        else
            handle_event(taps, &events[i], now_ns);
    }
    uint64_t head = tower_air_head(taps->ring);
    take_added(taps, now_ns, head);
    for (uint32_t i = 0; i < taps->config.max_taps; i++) {
        if (taps->clients[i].fd >= 0)
            serve(taps, &taps->clients[i], head, now_ns);
    }
}

static void *run(void *arg) {
    struct tower_taps *taps = arg;
    while (!atomic_load(&taps->is_stopping))
        turn(taps);
    return NULL;
}

int tower_taps_start(struct tower_taps *taps) {
    if (taps->was_started)
        return -EALREADY;
    int error = tower_thread_start(&taps->thread, "taps", run, taps);
    if (error < 0)
        return error;
    taps->was_started = true;
    pthread_mutex_lock(&taps->lock);
    taps->is_running = true;
    pthread_mutex_unlock(&taps->lock);
    return 0;
}

void tower_taps_stop(struct tower_taps *taps) {
    pthread_mutex_lock(&taps->lock);
    bool was_running = taps->is_running;
    taps->is_running = false;
    pthread_mutex_unlock(&taps->lock);
    if (!was_running)
        return;
    atomic_store(&taps->is_stopping, true);
    tower_eventfd_signal(taps->wake_fd);
    (void)pthread_join(taps->thread, NULL);
    take_added(taps, 0, 0);
    for (uint32_t i = 0; i < taps->config.max_taps; i++) {
        if (taps->clients[i].fd >= 0)
            close_client(taps, &taps->clients[i]);
    }
}

void tower_taps_get_stats(const struct tower_taps *taps, struct tower_taps_stats *ret_stats) {
    *ret_stats = (struct tower_taps_stats){
        .taps = get(&taps->n_taps),
        .capacity = taps->config.max_taps,
        .accepted = get(&taps->accepted),
        .refused = get(&taps->refused),
        .timeouts = get(&taps->timeouts),
        .chunks = get(&taps->chunks),
        .chunks_lost = get(&taps->chunks_lost),
        .sent_bytes = get(&taps->sent_bytes),
    };
}
