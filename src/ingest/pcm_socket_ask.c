/* pcm_socket_ask.c - what other threads ask of the ingest thread. */
#include "fd.h"
#include "pcm_socket_state.h"
#include "utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void tower_pcm_socket_get_stats(struct tower_pcm_socket *socket,
                                struct tower_pcm_socket_stats *ret_stats) {
    pthread_mutex_lock(&socket->lock);
    *ret_stats = socket->stats;
    pthread_mutex_unlock(&socket->lock);
}

static bool is_called(const struct tower_producer_info *producer, const char *name) {
    char *end;
    if (*name != '#')
        return strcmp(producer->identity.name, name) == 0;
    return name[1] >= '1' && name[1] <= '9' && strtoull(name + 1, &end, 10) == producer->id &&
           *end == '\0';
}

/* On air before one with audio, and that before another; NULL: there is none. */
static const struct tower_producer_info *find_called(const struct tower_pcm_socket_stats *stats,
                                                     const char *name) {
    const struct tower_producer_info *found = NULL;
    for (size_t i = 0; i < stats->n_producers; i++) {
        const struct tower_producer_info *producer = &stats->producers[i];
        if (is_called(producer, name) &&
            (!found || (producer->is_on_air && !found->is_on_air) ||
             (producer->has_audio && !found->has_audio && !found->is_on_air)))
            found = producer;
    }
    return found;
}

int tower_pcm_socket_choose(struct tower_pcm_socket *socket, const char *name) {
    uint64_t id = 0;
    int error = 0;
    pthread_mutex_lock(&socket->lock);
    if (name && *name != '\0') {
        const struct tower_producer_info *producer = find_called(&socket->stats, name);
        if (!producer)
            error = -ENOENT;
        else if (!producer->has_audio && !producer->is_on_air)
            error = -EAGAIN;
        else
            id = producer->id;
    }
    if (error == 0) {
        socket->has_choice = true;
        socket->choice_id = id;
    }
    pthread_mutex_unlock(&socket->lock);
    if (error == 0)
        tower_eventfd_signal(socket->wake_fd);
    return error;
}

/* Returns as send() does; it goes as a whole or not at all, being much less than half the buffer of
 * a socket. */
static ssize_t send_title(int fd, const char *text, size_t bytes) {
    uint8_t message[2 + TOWER_TITLE_BYTES_MAX] = {(uint8_t)(bytes & 0xff), (uint8_t)(bytes >> 8)};
    memcpy(message + 2, text, bytes);
    return send(fd, message, 2 + bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int tower_pcm_socket_send_title(struct tower_pcm_socket *socket, const char *name,
                                const char *text) {
    size_t bytes = strlen(text);
    int error = -ENOENT;
    if (!tower_utf8_is_valid(text, bytes))
        return -EINVAL;
    bytes = tower_utf8_cut(text, bytes, TOWER_TITLE_BYTES_MAX);
    /* Under the lock its descriptor stays its own. */
    pthread_mutex_lock(&socket->lock);
    for (size_t i = 0; i < socket->stats.n_producers && error == -ENOENT; i++) {
        const struct tower_producer_info *producer = &socket->stats.producers[i];
        if (!producer->identity.is_source || socket->fds[i] < 0 ||
            strcmp(producer->identity.name, name) != 0)
            continue;
        error = 0;
        if (send_title(socket->fds[i], text, bytes) < 0)
            error = errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : -ENOENT;
    }
    pthread_mutex_unlock(&socket->lock);
    return error;
}
