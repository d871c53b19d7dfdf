/* pcm_socket_read.c - what producers send, read: who they are, their bytes, what goes with them. */
#include "pcm_socket_state.h"
#include "tower/log.h"

#include <errno.h>

/* So many reads of one that waits in the time of a frame: more than its socket holds, and little
 * beside a core, also where each is of a few bytes. */
#define THROWS_A_FRAME 64

void tower_pcm_socket_ask(struct tower_pcm_socket *socket) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_producer *producer = &socket->producers[i];
        struct tower_incoming_identity incoming = {.is_there = false};
        if (tower_ingest_producer_fd(producer) < 0 || !producer->is_readable ||
            atomic_load_explicit(&producer->entry->is_known, memory_order_relaxed))
            continue;
        if (tower_titled_peek(tower_ingest_producer_fd(producer), &incoming) < 0 &&
            (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            producer->is_readable = errno == EINTR;
            continue;
        }
        tower_ingest_memory_know(producer->entry, incoming.is_there ? &incoming.identity : NULL);
        if (incoming.is_there)
            tower_log(TOWER_LOG_INFO, "ingest", "producer %llu (process %ld) is %s%s",
                      (unsigned long long)producer->entry->id, (long)producer->entry->pid,
                      producer->entry->name, incoming.identity.is_live ? ", live" : "");
    }
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

/* A read that was begun. False: there is no more, and it may be gone. */
static bool read_some(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer,
                      void *space, size_t space_bytes) {
    struct tower_ingest_memory *memory = socket->memory;
    struct tower_incoming_clock clock = {.is_there = false};
    bool is_bad;
    ssize_t result = tower_titled_recv(tower_ingest_producer_fd(producer), &memory->call, space,
                                       space_bytes, &producer->entry->incoming, &clock, &is_bad);
    int error = errno;
    size_t n = tower_ingest_memory_end_read(memory);
    if (result >= 0 && is_bad)
        note_bad_title(socket, producer);
    if (result >= 0 && clock.is_there)
        note_clock(producer, &clock.report);
    if (result > 0) {
        note_read(socket, producer, n);
        return true;
    }
    if (result < 0 && error == EINTR)
        return true;
    if (result < 0 && (error == EAGAIN || error == EWOULDBLOCK))
        producer->is_readable = false;
    else
        tower_pcm_socket_drop(socket, producer, result == 0 ? "ended" : "broke off");
    return false;
}

/* A read ends behind the bytes that a title came with, but may begin before them; since it never
 * goes beyond the frame being filled, the title is that frame's wherever in it the bytes lie. */
bool tower_pcm_socket_fill(struct tower_pcm_socket *socket,
                           struct tower_ingest_producer *producer) {
    while (!tower_ingest_memory_has_frame(producer->entry)) {
        size_t space_bytes;
        if (!producer->is_readable)
            return false;
        void *space = tower_ingest_memory_begin_read(
            socket->memory, tower_ingest_producer_place(socket, producer), &space_bytes);
        if (!read_some(socket, producer, space, space_bytes))
            return false;
    }
    return true;
}

/* It waits; or it is on air and there is no room for its first frame, which is to be of now. */
static bool is_to_be_thrown(struct tower_pcm_socket *socket,
                            const struct tower_ingest_producer *producer) {
    if (tower_ingest_producer_fd(producer) < 0 || !producer->is_readable ||
        !atomic_load_explicit(&producer->entry->is_known, memory_order_relaxed) ||
        !tower_ingest_producer_is_live(producer) || producer == socket->outgoing)
        return false;
    struct tower_ingest_air air = tower_ingest_memory_air(socket->memory);
    if (producer == socket->on_air)
        return air.is_new && !tower_pcm_socket_has_room(socket);
    /* If not, it is about to have enough to take the air; one that has ended never will. */
    return producer->has_ended || air.fade_frames > 0 ||
           !tower_pcm_socket_outranks(socket, producer) ||
           tower_pcm_socket_settles_ns(socket) != INT64_MIN;
}

static void throw_away(struct tower_pcm_socket *socket, struct tower_ingest_producer *producer) {
    struct tower_ingest_entry *entry = producer->entry;
    int64_t now_ns = tower_clock_now_ns(socket->config.clock);
    if (now_ns >= producer->throws_since_ns + socket->frame_ns) {
        producer->throws_since_ns = now_ns;
        producer->throws = 0;
    }
    while (producer->is_readable) {
        if (producer->throws == THROWS_A_FRAME) {
            socket->is_throwing = true;
            return;
        }
        producer->throws++;
        /* Its last title is what is playing, though nobody hears it. */
        tower_ingest_memory_keep_title(entry);
        entry->thrown_bytes += tower_ingest_memory_drop_frame(entry);
        tower_ingest_memory_begin_throw(socket->memory,
                                        tower_ingest_producer_place(socket, producer));
        if (!read_some(socket, producer, socket->thrown, sizeof socket->thrown))
            return;
        tower_ingest_memory_keep_title(entry);
    }
}

void tower_pcm_socket_throw_away(struct tower_pcm_socket *socket) {
    socket->is_throwing = false;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        if (is_to_be_thrown(socket, &socket->producers[i]))
            throw_away(socket, &socket->producers[i]);
    }
}
