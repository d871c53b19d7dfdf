/* heritage.c - the listeners that a process left, taken over by the next one. */
#include "tower/heritage.h"

#include "fanout_worker.h"
#include "fd.h"
#include "title_history.h"
#include "wire_bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Descriptors that a listener can have: more than any kernel is told to allow. */
#define FDS_MAX ((size_t)1 << 24)
/* In one send: all of the largest ring, with blocks. */
#define ATTEMPTED_MAX (UINT64_C(1) << 31)

struct tower_listener_heritage {
    struct tower_listener_table *tables;
    size_t n_tables;
    size_t n_fds;     /* that the sets have room for */
    uint8_t *claimed; /* a set: of a listener that was taken over, or of somebody else */
    uint8_t *left;    /* a set: named by a listener that was left */
};

static bool is_in(const uint8_t *set, int fd) {
    return set[fd / 8] >> (fd % 8) & 1;
}

static void put_in(uint8_t *set, int fd) {
    set[fd / 8] = (uint8_t)(set[fd / 8] | 1 << (fd % 8));
}

int tower_listener_heritage_new(struct tower_listener_heritage **ret_heritage) {
    struct rlimit limit = {.rlim_cur = FDS_MAX};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    struct tower_listener_heritage *heritage = calloc(1, sizeof *heritage);
    if (!heritage)
        return -ENOMEM;
    heritage->n_fds = limit.rlim_cur < FDS_MAX ? (size_t)limit.rlim_cur : FDS_MAX;
    heritage->claimed = calloc(2, heritage->n_fds / 8 + 1);
    if (!heritage->claimed) {
        free(heritage);
        return -ENOMEM;
    }
    heritage->left = heritage->claimed + heritage->n_fds / 8 + 1;
    *ret_heritage = heritage;
    return 0;
}

void tower_listener_heritage_free(struct tower_listener_heritage *heritage) {
    if (!heritage)
        return;
    for (size_t i = 0; i < heritage->n_tables; i++) {
        heritage->tables[i].region.fd = -1;
        tower_listener_table_done(&heritage->tables[i]);
    }
    free(heritage->tables);
    free(heritage->claimed);
    free(heritage);
}

int tower_listener_heritage_add(struct tower_listener_heritage *heritage, int table_fd) {
    struct tower_listener_table *tables =
        realloc(heritage->tables, (heritage->n_tables + 1) * sizeof *tables);
    if (!tables)
        return -ENOMEM;
    heritage->tables = tables;
    int error = tower_listener_table_open(&tables[heritage->n_tables], table_fd);
    if (error < 0)
        return error;
    heritage->n_tables++;
    return 0;
}

/* The next place of a listener, from `*at` on, which then is behind it; NULL at the end. */
static const struct tower_listener *next_listener(const struct tower_listener_heritage *heritage,
                                                  uint64_t *at, size_t *ret_table) {
    for (size_t i = (size_t)(*at >> 32); i < heritage->n_tables; i++, *at = (uint64_t)i << 32) {
        const struct tower_listener_table *table = &heritage->tables[i];
        uint32_t place = (uint32_t)*at;
        for (; place < table->header->n_touched; place++) {
            const struct tower_listener *listener = &table->places[place];
            /* One that was about to be given back has none any more. */
            if (listener->is_used && listener->fd >= 0) {
                *at = (uint64_t)i << 32 | (place + 1);
                *ret_table = i;
                return listener;
            }
        }
    }
    return NULL;
}

int tower_listener_heritage_next(const struct tower_listener_heritage *heritage, uint64_t *at) {
    size_t table;
    const struct tower_listener *listener = next_listener(heritage, at, &table);
    return listener ? listener->fd : -1;
}

void tower_listener_heritage_claim(struct tower_listener_heritage *heritage, int fd) {
    if (fd >= 0 && (size_t)fd < heritage->n_fds)
        put_in(heritage->claimed, fd);
}

/* An end of a connection. */
static bool is_connection(int fd) {
    int type = 0, is_listening = 1;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
        return false;
    size = sizeof is_listening;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) == 0 && !is_listening;
}

/* Bring the listener to where it is now, if it is the one that its worker sent to last: to how it
 * was before that send, and on by what the kernel took of it. Not where the worker had noted all
 * that: the titles that went out with it may be forgotten by now. */
static bool redo_send(struct tower_listener *listener, const struct tower_listener_undo *undo,
                      const struct tower_titles *titles) {
    uint64_t wire_bytes;
    int error = tower_wire_bytes(listener->fd, &wire_bytes);
    if (error == -EOPNOTSUPP || (error == 0 && wire_bytes == listener->wire_bytes))
        return true;
    if (error < 0 || wire_bytes < undo->wire_bytes || undo->attempted_bytes > ATTEMPTED_MAX ||
        wire_bytes - undo->wire_bytes > undo->attempted_bytes || !tower_icy_is_sound(&undo->icy))
        return false;
    uint64_t taken = wire_bytes - undo->wire_bytes;
    listener->icy = undo->icy;
    if (listener->wants_titles)
        taken = tower_icy_pass(&listener->icy, titles, undo->cursor, taken);
    listener->cursor = undo->cursor + taken;
    listener->wire_bytes = wire_bytes;
    listener->moves = undo->moves;
    return true;
}

/* The others are where their table says they are; but for a table from before another process has
 * sent: that had copied it, and died before its own was any good. What the kernel has taken beyond
 * what the table says went out from there. */
static void pass_what_went_out(struct tower_listener *listener, const struct tower_titles *titles) {
    const struct tower_listener_undo as_noted = {
        .cursor = listener->cursor,
        .wire_bytes = listener->wire_bytes,
        .attempted_bytes = ATTEMPTED_MAX,
        .icy = listener->icy,
        .moves = listener->moves,
    };
    (void)redo_send(listener, &as_noted, titles);
}

/* Make of what a table says of a listener what can be gone on with. False if it does not hold. */
static bool restore(struct tower_listener *listener, const struct tower_listener_undo *undo,
                    bool is_undone, const struct tower_fanout *fanout) {
    const struct tower_titles *titles = fanout->config.titles;
    int64_t now_ns = tower_clock_now_ns(fanout->config.clock);
    if (listener->is_used != 1 || listener->wants_titles > 1)
        return false;
    if (!is_undone)
        pass_what_went_out(listener, titles);
    else if (!redo_send(listener, undo, titles))
        return false;
    if (listener->moves > TOWER_FANOUT_SKIPS_MAX || !tower_icy_is_sound(&listener->icy))
        return false;
    if (!titles || listener->icy.told > tower_titles_at(titles, UINT64_MAX))
        listener->icy.told = 0;
    if (listener->connected_ns < 0 || listener->connected_ns > now_ns)
        listener->connected_ns = 0;
    return true;
}

static uint32_t enter_address(const struct tower_fanout *fanout, int fd) {
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    uint32_t address = TOWER_ADDRESS_NONE;
    /* Who is one too many by now was there before, and is not counted. */
    if (fanout->config.addresses && getpeername(fd, (struct sockaddr *)&peer, &size) == 0)
        (void)tower_addresses_enter(fanout->config.addresses, (struct sockaddr *)&peer, &address);
    return address;
}

/* The one with the fewest listeners that has a place left, or NULL. */
static struct tower_fanout *find_place(struct tower_fanout *const *fanouts, size_t n_fanouts) {
    struct tower_fanout *found = NULL;
    for (size_t i = 0; i < n_fanouts; i++) {
        uint64_t listeners = tower_fanout_counted(&fanouts[i]->listeners);
        if (listeners < tower_listener_table_capacity(&fanouts[i]->table) &&
            (!found || listeners < tower_fanout_counted(&found->listeners)))
            found = fanouts[i];
    }
    return found;
}

/* Give the listener a place. Returns whether it had to be moved. */
static bool settle(struct tower_fanout *fanout, const struct tower_listener *listener) {
    pthread_mutex_lock(&fanout->lock);
    uint32_t place = tower_listener_table_take(&fanout->table);
    struct tower_listener *taken = tower_fanout_at(fanout, place);
    taken->fd = listener->fd;
    taken->cursor = listener->cursor;
    taken->mount = listener->mount;
    taken->wants_titles = listener->wants_titles;
    taken->wire_bytes = listener->wire_bytes;
    taken->connected_ns = listener->connected_ns;
    taken->skips = listener->skips;
    taken->moves = listener->moves;
    taken->icy = listener->icy;
    taken->address = enter_address(fanout, listener->fd);
    /* Who is too far behind is moved when it is served, and gets the rest of its frame first. */
    bool is_ahead = taken->cursor > tower_air_head(fanout->config.air);
    if (is_ahead) {
        taken->cursor = tower_air_back(fanout->config.air, fanout->config.burst_frames);
        taken->skips++;
        tower_fanout_count(&fanout->skips, 1);
    }
    tower_fanout_enter(fanout, place);
    pthread_mutex_unlock(&fanout->lock);
    tower_eventfd_signal(fanout->wake_fd);
    return is_ahead;
}

/* The most there were in all is kept, in equal shares. */
static void share_peak(struct tower_fanout *const *fanouts, size_t n_fanouts,
                       const struct tower_listener_heritage *heritage, uint64_t taken) {
    uint64_t peak = 0;
    for (size_t i = 0; i < heritage->n_tables; i++) {
        const struct tower_listener_table_header *header = heritage->tables[i].header;
        peak += header->n_peak < header->capacity ? header->n_peak : header->capacity;
    }
    uint64_t more = peak > taken ? peak - taken : 0;
    for (size_t i = 0; i < n_fanouts; i++) {
        uint64_t share = (more + n_fanouts - i - 1) / (n_fanouts - i);
        more -= share;
        pthread_mutex_lock(&fanouts[i]->lock);
        tower_fanout_note_peak(fanouts[i], tower_fanout_counted(&fanouts[i]->listeners) + share);
        pthread_mutex_unlock(&fanouts[i]->lock);
    }
}

void tower_fanout_adopt(struct tower_fanout *const *fanouts, size_t n_fanouts,
                        struct tower_listener_heritage *heritage,
                        struct tower_adoption *ret_adoption) {
    struct tower_adoption adoption = {.taken = 0};
    const struct tower_listener *from;
    uint64_t at = 0;
    size_t table;
    while ((from = next_listener(heritage, &at, &table))) {
        struct tower_listener listener = *from;
        const struct tower_listener_undo *undo = &heritage->tables[table].header->undo;
        bool is_undone = undo->place == (uint32_t)(from - heritage->tables[table].places) &&
                         undo->generation == listener.generation;
        if ((size_t)listener.fd >= heritage->n_fds || is_in(heritage->claimed, listener.fd) ||
            !is_connection(listener.fd)) {
            adoption.unsound++;
            continue;
        }
        struct tower_fanout *fanout = find_place(fanouts, n_fanouts);
        bool is_sound = fanout && restore(&listener, undo, is_undone, fanout);
        if (is_sound) {
            put_in(heritage->claimed, listener.fd);
            adoption.moved += settle(fanout, &listener);
            adoption.taken++;
            continue;
        }
        put_in(heritage->left, listener.fd);
        if (fanout)
            adoption.unsound++;
        else
            adoption.no_place++;
    }
    share_peak(fanouts, n_fanouts, heritage, adoption.taken);
    *ret_adoption = adoption;
}

void tower_listener_heritage_commit(struct tower_listener_heritage *heritage) {
    for (int fd = 0; (size_t)fd < heritage->n_fds; fd++) {
        int left = fd;
        if (is_in(heritage->left, fd) && !is_in(heritage->claimed, fd))
            tower_fd_close(&left);
    }
    for (size_t i = 0; i < heritage->n_tables; i++)
        tower_listener_table_done(&heritage->tables[i]);
    heritage->n_tables = 0;
}
