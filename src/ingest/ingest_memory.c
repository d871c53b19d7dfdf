/* ingest_memory.c - what of the ingest outlives its process, and how far it is believed. */
#include "ingest_memory.h"

#include "tower/log.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define MAGIC UINT64_C(0x3153474e49574f54) /* "TOWINGS1", little-endian */
#define VERSION 1
/* More than anything is ever counted to, with room to add to it. */
#define COUNT_MAX (UINT64_MAX / 16)
/* The kernel has not written how much it gave. */
#define NOT_YET UINT32_MAX

static void store(_Atomic int32_t *where, int32_t value) {
    atomic_store_explicit(where, value, memory_order_release);
    /* Nor may what stands behind it in the program come before it. */
    atomic_signal_fence(memory_order_seq_cst);
}

static void store_flag(_Atomic uint32_t *where, uint32_t value) {
    atomic_store_explicit(where, value, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

/* ---- producers ---- */

struct tower_ingest_entry *tower_ingest_memory_find_free(struct tower_ingest_memory *memory) {
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        if (atomic_load_explicit(&memory->entries[i].fd, memory_order_relaxed) < 0)
            return &memory->entries[i];
    }
    return NULL;
}

void tower_ingest_memory_add(struct tower_ingest_entry *entry, int fd) {
    store(&entry->fd, fd);
}

void tower_ingest_memory_remove(struct tower_ingest_entry *entry) {
    store(&entry->fd, -1);
}

void tower_ingest_memory_keep_title(struct tower_ingest_entry *entry,
                                    const struct tower_incoming_title *title) {
    store(&entry->title_bytes, -1);
    memcpy(entry->title, title->text, title->bytes);
    store(&entry->title_bytes, (int32_t)title->bytes);
}

void tower_ingest_memory_put_on_air(struct tower_ingest_memory *memory, int32_t place,
                                    size_t skip_bytes) {
    memory->framer.filled_bytes = 0;
    memory->title.is_there = false;
    memory->is_new = 1;
    memory->told_frame = UINT64_MAX;
    memory->skip_bytes = skip_bytes;
    store(&memory->on_air, place);
}

void tower_ingest_memory_end(struct tower_ingest_memory *memory) {
    store(&memory->on_air, -1);
    memory->framer.filled_bytes = 0;
    memory->title.is_there = false;
}

/* ---- bytes ---- */

void *tower_ingest_memory_begin_read(struct tower_ingest_memory *memory, size_t *ret_space_bytes) {
    int32_t place = atomic_load_explicit(&memory->on_air, memory_order_relaxed);
    void *space = tower_framer_space(&memory->framer, ret_space_bytes);
    if (memory->skip_bytes > 0)
        *ret_space_bytes = (size_t)memory->skip_bytes;
    memory->bytes_before = memory->entries[place].bytes;
    memory->filled_before = memory->framer.filled_bytes;
    memory->skip_before = memory->skip_bytes;
    memory->call.message.msg_len = NOT_YET;
    store_flag(&memory->is_receiving, 1);
    return space;
}

/* From how things stood before, so that doing it twice is doing it once. */
static void take_bytes(struct tower_ingest_memory *memory, size_t n) {
    int32_t place = atomic_load_explicit(&memory->on_air, memory_order_relaxed);
    memory->entries[place].bytes = memory->bytes_before + n;
    if (memory->skip_before > 0)
        memory->skip_bytes = memory->skip_before - n;
    else
        memory->framer.filled_bytes = (size_t)memory->filled_before + n;
}

size_t tower_ingest_memory_end_read(struct tower_ingest_memory *memory) {
    uint32_t n = memory->call.message.msg_len;
    if (n == NOT_YET)
        n = 0;
    take_bytes(memory, n);
    store_flag(&memory->is_receiving, 0);
    return n;
}

bool tower_ingest_memory_has_frame(const struct tower_ingest_memory *memory) {
    return memory->framer.filled_bytes == memory->framer.frame_bytes;
}

void tower_ingest_memory_begin_delivery(struct tower_ingest_memory *memory, uint64_t pushed) {
    memory->pushed_before = pushed;
    store_flag(&memory->is_delivering, 1);
}

void tower_ingest_memory_end_delivery(struct tower_ingest_memory *memory) {
    /* While it is being delivered these two say nothing that the router's count does not. */
    memory->is_new = 0;
    memory->framer.filled_bytes = 0;
    store_flag(&memory->is_delivering, 0);
}

/* ---- what another process left ---- */

static bool holds(const struct tower_ingest_memory *memory) {
    return memory->magic == MAGIC && memory->version == VERSION && memory->bytes == sizeof *memory;
}

/* Is it the connection that the entry says? Another may have its number. */
static bool is_connection(const struct tower_ingest_entry *entry, int fd) {
    int domain = 0, type = 0, listens = 1;
    socklen_t bytes = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) < 0 || domain != AF_UNIX)
        return false;
    bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 || type != SOCK_STREAM)
        return false;
    bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0 || listens)
        return false;
    struct ucred peer = {0};
    bytes = sizeof peer;
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
    return peer.pid == entry->pid;
}

static bool is_twice(const struct tower_ingest_memory *memory, size_t i) {
    const struct tower_ingest_entry *entry = &memory->entries[i];
    for (size_t j = 0; j < i; j++) {
        const struct tower_ingest_entry *other = &memory->entries[j];
        if (atomic_load(&other->fd) >= 0 &&
            (atomic_load(&other->fd) == atomic_load(&entry->fd) || other->id == entry->id))
            return true;
    }
    return false;
}

static void check_entry(struct tower_ingest_entry *entry, int64_t now_ns) {
    int32_t title_bytes = atomic_load(&entry->title_bytes);
    if (title_bytes < -1 || title_bytes > TOWER_TITLE_BYTES_MAX ||
        (title_bytes > 0 && !tower_utf8_is_valid(entry->title, (size_t)title_bytes)))
        atomic_store(&entry->title_bytes, -1);
    entry->has_bad_title = entry->has_bad_title != 0;
    if (entry->connected_ns > now_ns || entry->connected_ns < 0)
        entry->connected_ns = now_ns;
    if (entry->last_data_ns > now_ns)
        entry->last_data_ns = now_ns;
    if (entry->last_data_ns < 0)
        entry->last_data_ns = INT64_MIN;
    if (entry->bytes > COUNT_MAX)
        entry->bytes %= TOWER_SAMPLE_BYTES;
}

/* Returns how many do not hold. */
static size_t check_entries(struct tower_ingest_memory *memory, int64_t now_ns) {
    size_t lost = 0;
    if (memory->next_id > COUNT_MAX)
        memory->next_id = 0;
    if (memory->next_turn > COUNT_MAX)
        memory->next_turn = 0;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_entry *entry = &memory->entries[i];
        int fd = atomic_load(&entry->fd);
        if (fd < 0) {
            atomic_store(&entry->fd, -1);
            continue;
        }
        /* An id is a token of epoll, where UINT32_MAX and 0 mean something else. */
        if (entry->id == 0 || entry->id == UINT32_MAX || entry->id > COUNT_MAX ||
            is_twice(memory, i) || !is_connection(entry, fd)) {
            atomic_store(&entry->fd, -1);
            lost++;
            continue;
        }
        check_entry(entry, now_ns);
        if (entry->turn > COUNT_MAX)
            entry->turn = 0;
        if (memory->next_id < entry->id)
            memory->next_id = entry->id;
        if (memory->next_turn <= entry->turn)
            memory->next_turn = entry->turn + 1;
    }
    return lost;
}

/* The read that the process died in: nothing was read, or so much. */
static void finish_read(struct tower_ingest_memory *memory) {
    bool is_receiving = atomic_load(&memory->is_receiving) == 1;
    uint32_t n = memory->call.message.msg_len;
    atomic_store(&memory->is_receiving, 0);
    if (!is_receiving || n == NOT_YET)
        return;
    bool holds = memory->skip_before > 0
                     ? n <= memory->skip_before && memory->skip_before < TOWER_SAMPLE_BYTES
                     : memory->filled_before <= memory->framer.frame_bytes &&
                           n <= memory->framer.frame_bytes - memory->filled_before;
    if (holds && memory->bytes_before <= COUNT_MAX)
        take_bytes(memory, n);
}

/* The frame that is there: whole and in the router already, whole and not, or a part. */
static void check_frame(struct tower_ingest_memory *memory, size_t frame_bytes, uint64_t pushed) {
    struct tower_framer *framer = &memory->framer;
    bool is_delivering = atomic_load(&memory->is_delivering) == 1;
    atomic_store(&memory->is_delivering, 0);
    if (framer->frame_bytes != frame_bytes || framer->filled_bytes > frame_bytes) {
        memory->counters.partial_frames++;
        memory->counters.partial_bytes +=
            framer->filled_bytes <= frame_bytes ? framer->filled_bytes : TOWER_FRAME_BYTES_MAX;
        framer->frame_bytes = frame_bytes;
        framer->filled_bytes = 0;
        memory->title.is_there = false;
        memory->is_new = 1;
        int32_t place = atomic_load(&memory->on_air);
        memory->skip_bytes = -memory->entries[place].bytes % TOWER_SAMPLE_BYTES;
    } else if (is_delivering && memory->pushed_before != pushed) {
        memory->is_new = 0;
        framer->filled_bytes = 0;
    }
}

static void check_on_air(struct tower_ingest_memory *memory, size_t frame_bytes, uint64_t pushed,
                         int64_t now_ns) {
    int32_t place = atomic_load(&memory->on_air);
    struct tower_incoming_title *title = &memory->title;
    uint8_t is_there;
    memcpy(&is_there, &title->is_there, sizeof is_there);
    if (is_there != 1 || title->bytes > TOWER_TITLE_BYTES_MAX ||
        !tower_utf8_is_valid(title->text, title->bytes))
        title->is_there = false;
    bool is_on_air =
        place >= 0 && place < TOWER_PRODUCERS_MAX && atomic_load(&memory->entries[place].fd) >= 0;
    if (!is_on_air)
        store(&memory->on_air, -1);
    if (is_on_air) {
        /* One on air that has sent nothing has been mute since now. */
        if (memory->entries[place].last_data_ns == INT64_MIN)
            memory->entries[place].last_data_ns = now_ns;
        finish_read(memory);
        if (memory->skip_bytes >= TOWER_SAMPLE_BYTES)
            memory->skip_bytes = -memory->entries[place].bytes % TOWER_SAMPLE_BYTES;
        memory->is_new = memory->is_new != 0;
        check_frame(memory, frame_bytes, pushed);
    } else {
        (void)tower_framer_init(&memory->framer, frame_bytes);
        title->is_there = false;
        memory->skip_bytes = 0;
    }
    atomic_store(&memory->is_receiving, 0);
    atomic_store(&memory->is_delivering, 0);
    if (memory->dead_air_since_ns > now_ns || memory->dead_air_since_ns < 0)
        memory->dead_air_since_ns = INT64_MIN;
}

static void check_counters(struct tower_ingest_counters *counters) {
    uint64_t *counts[] = {
        &counters->accepted,        &counters->refused,        &counters->bytes,
        &counters->frames,          &counters->partial_frames, &counters->partial_bytes,
        &counters->withheld_frames, &counters->titles,         &counters->bad_titles};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (*counts[i] > COUNT_MAX)
            *counts[i] = 0;
    }
}

static int make(struct tower_region *region, size_t frame_bytes) {
    int error = tower_region_init(region, "tower-ingest", sizeof(struct tower_ingest_memory));
    if (error < 0)
        return error;
    struct tower_ingest_memory *memory = region->memory;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        atomic_store(&memory->entries[i].fd, -1);
        atomic_store(&memory->entries[i].title_bytes, -1);
    }
    atomic_store(&memory->on_air, -1);
    memory->dead_air_since_ns = INT64_MIN;
    error = tower_framer_init(&memory->framer, frame_bytes);
    if (error < 0) {
        tower_region_done(region);
        return error;
    }
    memory->magic = MAGIC;
    memory->version = VERSION;
    memory->bytes = sizeof *memory;
    return 0;
}

int tower_ingest_memory_open(struct tower_region *region, int fd, size_t frame_bytes,
                             uint64_t pushed, int64_t now_ns, size_t *ret_lost) {
    if (fd <= 0)
        return make(region, frame_bytes);
    int error = tower_region_open(region, fd, sizeof(struct tower_ingest_memory));
    if (error == 0 && !holds(region->memory)) {
        error = -EBADMSG;
        region->fd = -1; /* the caller's */
        tower_region_done(region);
    }
    if (error < 0) {
        tower_log(TOWER_LOG_WARNING, "ingest",
                  "what another process left of the producers does not hold (%s)",
                  strerror(-error));
        return make(region, frame_bytes);
    }
    struct tower_ingest_memory *memory = region->memory;
    check_counters(&memory->counters);
    *ret_lost = check_entries(memory, now_ns);
    check_on_air(memory, frame_bytes, pushed, now_ns);
    return 1;
}

size_t tower_pcm_socket_carried_fds(int region_fd, int ret_fds[TOWER_PRODUCERS_MAX]) {
    struct tower_region region;
    size_t n = 0;
    if (region_fd <= 0 ||
        tower_region_open(&region, region_fd, sizeof(struct tower_ingest_memory)) < 0)
        return 0;
    const struct tower_ingest_memory *memory = region.memory;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX && holds(memory); i++) {
        int fd = atomic_load(&memory->entries[i].fd);
        size_t at = 0;
        while (at < n && ret_fds[at] != fd)
            at++;
        if (fd >= 0 && at == n)
            ret_fds[n++] = fd;
    }
    region.fd = -1; /* the caller's */
    tower_region_done(&region);
    return n;
}
