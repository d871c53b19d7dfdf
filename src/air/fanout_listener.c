/* fanout_listener.c - what a fan-out worker does for one listener. */
#include "fanout_worker.h"

#include "fd.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Frames of the stream that may be on the way to a client that keeps up: a fifth of a second's. */
#define FRAMES_UNDER_WAY 8

void tower_fanout_link(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    uint32_t *first = &fanout->groups[listener->phase];
    listener->previous = TOWER_LISTENER_NONE;
    listener->next = *first;
    if (*first != TOWER_LISTENER_NONE)
        tower_fanout_at(fanout, *first)->previous = place;
    *first = place;
}

void tower_fanout_unlink(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    if (listener->next != TOWER_LISTENER_NONE)
        tower_fanout_at(fanout, listener->next)->previous = listener->previous;
    if (listener->previous != TOWER_LISTENER_NONE)
        tower_fanout_at(fanout, listener->previous)->next = listener->next;
    else
        fanout->groups[listener->phase] = listener->next;
}

void tower_fanout_end(struct tower_fanout *fanout, uint32_t place, enum tower_listener_end why) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    tower_fanout_unlink(fanout, place);
    if (listener->is_blocked)
        atomic_fetch_sub_explicit(&fanout->n_blocked, 1, memory_order_relaxed);
    /* Closing takes it out of the epoll too. The place must not name the descriptor any more by
     * then: another thread may be given the same number, and this process be killed right there. */
    int fd = listener->fd;
    listener->fd = -1;
    TOWER_LISTENER_IN_ORDER();
    tower_fd_close(&fd);
    fanout->sending_since_ns = TOWER_FANOUT_NOT_KNOWN;
    if (fanout->config.addresses)
        tower_addresses_leave(fanout->config.addresses, listener->address);
    tower_fanout_count(&fanout->ended[why], 1);
    /* Events of this round may still name the place: nobody else may have it before they have been
     * looked at. */
    listener->next = fanout->ended_places;
    fanout->ended_places = place;
}

enum tower_listener_end tower_fanout_why(int error) {
    return error == 0 || error == EPIPE || error == ECONNRESET ? TOWER_LISTENER_CLOSED
                                                               : TOWER_LISTENER_FAILED;
}

bool tower_fanout_watch(struct tower_fanout *fanout, uint32_t place, int operation) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    struct epoll_event event = {.data.u64 = (uint64_t)listener->generation << 32 | place};
    if (listener->reads_left > 0)
        event.events |= EPOLLIN;
    if (listener->is_blocked)
        event.events |= EPOLLOUT;
    fanout->sending_since_ns = TOWER_FANOUT_NOT_KNOWN;
    if (epoll_ctl(fanout->epoll_fd, operation, listener->fd, &event) == 0)
        return true;
    int error = errno;
    tower_fanout_end(fanout, place, TOWER_LISTENER_FAILED);
    errno = error;
    return false;
}

static void set_blocked(struct tower_fanout *fanout, uint32_t place, bool is_blocked) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    if (listener->is_blocked == is_blocked)
        return;
    listener->is_blocked = is_blocked;
    if (is_blocked) {
        tower_fanout_count(&fanout->n_blocked, 1);
        /* Until now it had room: its time begins here, however long the air was still. */
        listener->progress_ns = fanout->now_ns;
    } else {
        atomic_fetch_sub_explicit(&fanout->n_blocked, 1, memory_order_relaxed);
    }
    (void)tower_fanout_watch(fanout, place, EPOLL_CTL_MOD);
}

/* Send the pieces in one call, counted and timed. Mostly there is one, and send() has less to look
 * at. The end of one is the beginning of the next where they follow on
 * each other, so that it takes one look at the clock. */
static ssize_t send_timed(struct tower_fanout *fanout, int fd, struct iovec *pieces, int n) {
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
    int64_t begin_ns = fanout->sending_since_ns;
    if (begin_ns == TOWER_FANOUT_NOT_KNOWN)
        begin_ns = tower_clock_now_ns(fanout->config.clock);
    ssize_t sent =
        n == 1 ? send(fd, pieces->iov_base, pieces->iov_len, flags) : sendmsg(fd, &message, flags);
    int error = errno;
    fanout->sending_since_ns = tower_clock_now_ns(fanout->config.clock);
    tower_histogram_add(&fanout->send_time, fanout->sending_since_ns - begin_ns);
    tower_fanout_count(&fanout->sends, 1);
    errno = error;
    return sent;
}

/* Note how the listener is before `bytes` bytes are sent to it. A kill leaves the record either
 * whole or saying that there is none: and then the send before has been noted in the listener, and
 * this one has not begun. */
static void note_undo(struct tower_fanout *fanout, uint32_t place, size_t bytes) {
    const struct tower_listener *listener = tower_fanout_at(fanout, place);
    struct tower_listener_undo *undo = &fanout->table.header->undo;
    undo->place = TOWER_LISTENER_NONE;
    TOWER_LISTENER_IN_ORDER();
    undo->generation = listener->generation;
    undo->cursor = listener->cursor;
    undo->wire_bytes = listener->wire_bytes;
    undo->attempted_bytes = bytes;
    undo->icy = listener->icy;
    undo->moves = listener->moves;
    TOWER_LISTENER_IN_ORDER();
    undo->place = place;
}

/* Send the listener the `bytes` of stream that follow its cursor, and its titles between them, in
 * one call. Returns true if it took all of the call; else it waits for room, or has ended. */
static bool send_stream(struct tower_fanout *fanout, uint32_t place, struct iovec *pieces, int n,
                        size_t bytes) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    struct tower_icy_woven *woven = &fanout->woven;
    if (listener->wants_titles) {
        tower_icy_weave(&listener->icy, fanout->config.titles, listener->cursor, pieces, n, woven);
        pieces = woven->pieces;
        n = woven->n_pieces;
        bytes = woven->bytes;
    }
    note_undo(fanout, place, bytes);
    ssize_t sent = send_timed(fanout, listener->fd, pieces, n);
    if (sent < 0) {
        if (errno == EAGAIN)
            set_blocked(fanout, place, true);
        else if (errno == ENOBUFS || errno == ENOMEM || errno == EINTR)
            /* The socket has room, the kernel has not: EPOLLOUT would come at once and for ever.
             * The next frame tries again. */
            set_blocked(fanout, place, false);
        else
            tower_fanout_end(fanout, place, tower_fanout_why(errno));
        return false;
    }
    size_t stream_bytes = (size_t)sent;
    if (listener->wants_titles)
        stream_bytes = tower_icy_advance(&listener->icy, woven, (size_t)sent);
    listener->cursor += stream_bytes;
    /* Vouches for what is noted before it. */
    TOWER_LISTENER_IN_ORDER();
    listener->wire_bytes += (uint64_t)sent;
    listener->progress_ns = fanout->now_ns;
    tower_fanout_count(&fanout->sent_bytes, stream_bytes);
    uint32_t generation = listener->generation;
    set_blocked(fanout, place, (size_t)sent < bytes);
    return (size_t)sent == bytes && tower_fanout_is_same(listener, generation);
}

/* Move a listener that was overrun nearer the present, at a frame boundary: what is left of the
 * frame it is in goes out first. Who only ever falls behind is dropped. Returns false if that has
 * to wait, or it has ended. */
static bool move_on(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    struct tower_air *air = fanout->config.air;
    if (listener->moves == TOWER_FANOUT_SKIPS_MAX) {
        tower_fanout_end(fanout, place, TOWER_LISTENER_LAGGED);
        return false;
    }
    int64_t rest =
        tower_air_copy_rest(air, listener->cursor, fanout->scratch, sizeof fanout->scratch);
    struct iovec piece = {.iov_base = fanout->scratch, .iov_len = rest > 0 ? (size_t)rest : 0};
    /* Where it is lost, the listener's decoder has to find the next header. */
    if (rest > 0 && !send_stream(fanout, place, &piece, 1, piece.iov_len))
        return false;
    listener->cursor = tower_air_back(air, fanout->config.burst_frames);
    listener->moves++;
    listener->skips++;
    tower_fanout_count(&fanout->skips, 1);
    return true;
}

/* The listener's socket had room for everything last time. If its client has taken that meanwhile,
 * but for what may be under way, it keeps up again. The socket alone says little: its buffer can
 * take all there is after each move, and so hide a client that reads too slowly for ever. */
static void note_if_caught_up(const struct tower_fanout *fanout, struct tower_listener *listener) {
    const struct tower_air *air = fanout->config.air;
    uint64_t frames = fanout->config.burst_frames / 2;
    if (frames < FRAMES_UNDER_WAY)
        frames = FRAMES_UNDER_WAY;
    uint64_t near = tower_air_back(air, frames);
    int queued_bytes = 0;
    (void)ioctl(listener->fd, SIOCOUTQ, &queued_bytes);
    if ((uint64_t)queued_bytes <= tower_air_back(air, 0) - near)
        listener->moves = 0;
}

void tower_fanout_serve(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    struct tower_air *air = fanout->config.air;
    uint64_t end;
    if (listener->moves > 0 && !listener->is_blocked)
        note_if_caught_up(fanout, listener);
    do {
        struct iovec pieces[2];
        int n = 0;
        int64_t bytes = tower_air_peek(air, listener->cursor, SIZE_MAX, pieces, &n);
        if (bytes == -ESTALE) {
            if (!move_on(fanout, place))
                return;
            bytes = tower_air_peek(air, listener->cursor, SIZE_MAX, pieces, &n);
        }
        if (bytes <= 0) {
            set_blocked(fanout, place, false);
            return;
        }
        end = listener->cursor + (uint64_t)bytes;
        if (!send_stream(fanout, place, pieces, n, (size_t)bytes))
            return;
        /* Once, but for a listener who is due more title blocks than fit into one call. */
    } while (listener->cursor < end);
}
