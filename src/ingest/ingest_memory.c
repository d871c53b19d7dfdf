/* ingest_memory.c - what of the ingest outlives its process, and how far it is believed. */
#include "ingest_memory.h"

#include "identity_wire.h"
#include "tower/log.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define MAGIC UINT64_C(0x3153474e49574f54) /* "TOWINGS1", little-endian */
#define VERSION 2
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

void tower_ingest_memory_know(struct tower_ingest_entry *entry,
                              const struct tower_producer_identity *identity) {
    memset(entry->name, 0, sizeof entry->name);
    entry->flags = 0;
    if (identity) {
        memcpy(entry->name, identity->name, sizeof entry->name);
        memcpy(entry->label, identity->label, sizeof entry->label);
        entry->flags = (identity->is_live ? TOWER_INGEST_LIVE : 0U) |
                       (identity->is_source ? TOWER_INGEST_SOURCE : 0U);
    }
    store_flag(&entry->is_known, 1);
}

void tower_ingest_memory_keep_title(struct tower_ingest_entry *entry) {
    struct tower_incoming_title *title = &entry->incoming;
    if (!title->is_there)
        return;
    store(&entry->title_bytes, -1);
    memcpy(entry->title, title->text, title->bytes);
    store(&entry->title_bytes, (int32_t)title->bytes);
    title->is_there = false;
}

size_t tower_ingest_memory_drop_frame(struct tower_ingest_entry *entry) {
    entry->incoming.is_there = false;
    return tower_framer_discard(&entry->framer);
}

/* ---- who is on air ---- */

static struct tower_ingest_air air_of(uint64_t word) {
    struct tower_ingest_air air;
    memcpy(&air, &word, sizeof air);
    return air;
}

static uint64_t word_of(struct tower_ingest_air air) {
    uint64_t word;
    memcpy(&word, &air, sizeof word);
    return word;
}

struct tower_ingest_air tower_ingest_memory_air(const struct tower_ingest_memory *memory) {
    return air_of(atomic_load_explicit(&memory->air, memory_order_relaxed));
}

void tower_ingest_memory_set_air(struct tower_ingest_memory *memory, struct tower_ingest_air air) {
    atomic_store_explicit(&memory->air, word_of(air), memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

void tower_ingest_memory_end(struct tower_ingest_memory *memory) {
    tower_ingest_memory_set_air(memory, (struct tower_ingest_air){.on_air = -1, .outgoing = -1});
}

/* ---- bytes ---- */

static struct tower_ingest_entry *note_before(struct tower_ingest_memory *memory, int32_t place,
                                              bool is_throwing) {
    struct tower_ingest_entry *entry = &memory->entries[place];
    memory->read_place = place;
    memory->is_throwing = is_throwing;
    memory->bytes_before = entry->bytes;
    memory->thrown_before = entry->thrown_bytes;
    memory->filled_before = entry->framer.filled_bytes;
    /* A part of a sample was the last that was dropped or thrown away. */
    memory->skip_before = entry->framer.filled_bytes == 0 ? -entry->bytes % TOWER_SAMPLE_BYTES : 0;
    memory->call.message.msg_len = NOT_YET;
    store_flag(&memory->is_receiving, 1);
    return entry;
}

void *tower_ingest_memory_begin_read(struct tower_ingest_memory *memory, int32_t place,
                                     size_t *ret_space_bytes) {
    struct tower_ingest_entry *entry = note_before(memory, place, false);
    void *space = tower_framer_space(&entry->framer, ret_space_bytes);
    if (memory->skip_before > 0)
        *ret_space_bytes = (size_t)memory->skip_before;
    return space;
}

void tower_ingest_memory_begin_throw(struct tower_ingest_memory *memory, int32_t place) {
    (void)note_before(memory, place, true);
}

/* From how things stood before, so that doing it twice is doing it once. */
static void take_bytes(struct tower_ingest_memory *memory, size_t n) {
    struct tower_ingest_entry *entry = &memory->entries[memory->read_place];
    entry->bytes = memory->bytes_before + n;
    if (memory->is_throwing)
        entry->thrown_bytes = memory->thrown_before + n;
    else if (memory->skip_before == 0)
        entry->framer.filled_bytes = (size_t)memory->filled_before + n;
}

size_t tower_ingest_memory_end_read(struct tower_ingest_memory *memory) {
    uint32_t n = memory->call.message.msg_len;
    if (n == NOT_YET)
        n = 0;
    take_bytes(memory, n);
    store_flag(&memory->is_receiving, 0);
    return n;
}

void tower_ingest_memory_begin_delivery(struct tower_ingest_memory *memory, uint64_t pushed,
                                        const int32_t places[2], struct tower_ingest_air after) {
    memory->pushed_before = pushed;
    memory->delivered_places[0] = places[0];
    memory->delivered_places[1] = places[1];
    memory->air_after = word_of(after);
    store_flag(&memory->is_delivering, 1);
}

/* Doing it twice is doing it once. */
static void finish_delivery(struct tower_ingest_memory *memory) {
    for (size_t i = 0; i < 2; i++) {
        if (memory->delivered_places[i] >= 0)
            memory->entries[memory->delivered_places[i]].framer.filled_bytes = 0;
    }
    tower_ingest_memory_set_air(memory, air_of(memory->air_after));
}

void tower_ingest_memory_end_delivery(struct tower_ingest_memory *memory) {
    /* While it is being delivered these say nothing that the router's count does not. */
    finish_delivery(memory);
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

static void check_incoming(struct tower_incoming_title *title) {
    uint8_t is_there;
    memcpy(&is_there, &title->is_there, sizeof is_there);
    if (is_there != 1 || title->bytes > TOWER_TITLE_BYTES_MAX ||
        !tower_utf8_is_valid(title->text, title->bytes))
        title->is_there = false;
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
    if (entry->since_ns > now_ns || entry->since_ns < entry->connected_ns)
        entry->since_ns = entry->connected_ns;
    if (entry->bytes > COUNT_MAX)
        entry->bytes %= TOWER_SAMPLE_BYTES;
    if (entry->thrown_bytes > entry->bytes)
        entry->thrown_bytes = 0;
    if (entry->faded_frames > UINT16_MAX)
        entry->faded_frames = 0;
    entry->flags &= TOWER_INGEST_LIVE | TOWER_INGEST_SOURCE;
    /* Without one it is asked for with the next byte, and nobody says it there. */
    if (atomic_load(&entry->is_known) != 1 || !memchr(entry->name, '\0', sizeof entry->name) ||
        !tower_identity_name_is_valid(entry->name)) {
        memset(entry->name, 0, sizeof entry->name);
        entry->flags = 0;
        atomic_store(&entry->is_known, atomic_load(&entry->is_known) == 1 || entry->bytes > 0);
    }
    if (!memchr(entry->label, '\0', sizeof entry->label) ||
        !tower_identity_label_is_valid(entry->label))
        memset(entry->label, 0, sizeof entry->label);
    check_incoming(&entry->incoming);
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

static bool is_place(const struct tower_ingest_memory *memory, int32_t place) {
    return place >= 0 && place < TOWER_PRODUCERS_MAX &&
           atomic_load(&memory->entries[place].fd) >= 0;
}

/* The read that the process died in: nothing was read, or so much. */
static void finish_read(struct tower_ingest_memory *memory) {
    bool is_receiving = atomic_load(&memory->is_receiving) == 1;
    uint32_t n = memory->call.message.msg_len;
    atomic_store(&memory->is_receiving, 0);
    if (!is_receiving || n == NOT_YET || !is_place(memory, memory->read_place))
        return;
    const struct tower_framer *framer = &memory->entries[memory->read_place].framer;
    bool holds = memory->skip_before > 0
                     ? n <= memory->skip_before && memory->skip_before < TOWER_SAMPLE_BYTES
                     : memory->filled_before <= framer->frame_bytes &&
                           n <= framer->frame_bytes - memory->filled_before;
    if (memory->is_throwing)
        holds = memory->thrown_before <= COUNT_MAX;
    if (holds && memory->bytes_before <= COUNT_MAX)
        take_bytes(memory, n);
}

static bool air_holds(const struct tower_ingest_memory *memory, struct tower_ingest_air air) {
    return is_place(memory, air.on_air) && air.outgoing != air.on_air && air.outgoing >= -1 &&
           (air.outgoing < 0 || is_place(memory, air.outgoing)) &&
           (air.fade_done < air.fade_frames || (air.fade_frames == 0 && air.fade_done == 0)) &&
           (air.outgoing < 0 || air.fade_frames > 0);
}

/* The frame that was being delivered: in the router already, or not. */
static void check_delivery(struct tower_ingest_memory *memory, uint64_t pushed) {
    bool is_delivering = atomic_load(&memory->is_delivering) == 1;
    atomic_store(&memory->is_delivering, 0);
    const int32_t *places = memory->delivered_places;
    if (is_delivering && memory->pushed_before != pushed && places[0] >= -1 && places[1] >= -1 &&
        places[0] < TOWER_PRODUCERS_MAX && places[1] < TOWER_PRODUCERS_MAX)
        finish_delivery(memory);
}

/* Frames may be of another size by now. */
static void check_frames(struct tower_ingest_memory *memory, size_t frame_bytes) {
    struct tower_ingest_air air = tower_ingest_memory_air(memory);
    for (int32_t i = 0; i < TOWER_PRODUCERS_MAX; i++) {
        struct tower_ingest_entry *entry = &memory->entries[i];
        struct tower_framer *framer = &entry->framer;
        if (atomic_load(&entry->fd) >= 0 && framer->frame_bytes == frame_bytes &&
            framer->filled_bytes <= frame_bytes)
            continue;
        size_t filled_bytes = framer->filled_bytes;
        (void)tower_framer_init(framer, frame_bytes);
        entry->incoming.is_there = false;
        if (atomic_load(&entry->fd) < 0)
            continue;
        if (filled_bytes > 0) {
            memory->counters.partial_frames++;
            memory->counters.partial_bytes +=
                filled_bytes <= TOWER_FRAME_BYTES_MAX ? filled_bytes : TOWER_FRAME_BYTES_MAX;
        }
        if (i == air.on_air)
            air.is_new = 1;
        if (i == air.on_air || i == air.outgoing)
            air.state |= TOWER_INGEST_SEAM;
    }
    tower_ingest_memory_set_air(memory, air);
}

static void check_air(struct tower_ingest_memory *memory, size_t frame_bytes, int64_t now_ns) {
    struct tower_ingest_air air = tower_ingest_memory_air(memory);
    int64_t frame_ns =
        tower_samples_to_ns((int64_t)(frame_bytes / TOWER_SAMPLE_BYTES), TOWER_RATE_HZ);
    if ((air.fade_frames - 1) * frame_ns >= TOWER_FADE_MAX_NS) {
        air.fade_frames = 0;
        air.fade_done = 0;
        air.outgoing = -1;
        air.state |= TOWER_INGEST_SEAM;
    }
    /* Who was being faded out may be gone, and who is on air stays. */
    if (is_place(memory, air.on_air) && air.outgoing >= 0 && !is_place(memory, air.outgoing)) {
        air.outgoing = -1;
        air.state |= TOWER_INGEST_SEAM;
    }
    air.is_new = air.is_new != 0;
    air.state &= TOWER_INGEST_SEAM | TOWER_INGEST_ALONE;
    if (air_holds(memory, air))
        tower_ingest_memory_set_air(memory, air);
    else
        tower_ingest_memory_end(memory);
    air = tower_ingest_memory_air(memory);
    /* One on air that has sent nothing has been mute since now. */
    if (air.on_air >= 0 && memory->entries[air.on_air].last_data_ns == INT64_MIN)
        memory->entries[air.on_air].last_data_ns = now_ns;
    if (memory->dead_air_since_ns > now_ns || memory->dead_air_since_ns < 0 || air.on_air < 0)
        memory->dead_air_since_ns = INT64_MIN;
    if (memory->lost_ns > now_ns || memory->lost_ns < 0)
        memory->lost_ns = INT64_MIN;
    if (memory->told_place < 0 || memory->told_place >= TOWER_PRODUCERS_MAX)
        memory->told_frame = UINT64_MAX;
    bool is_chosen_there = false;
    for (size_t i = 0; i < TOWER_PRODUCERS_MAX; i++)
        is_chosen_there |=
            atomic_load(&memory->entries[i].fd) >= 0 && memory->entries[i].id == memory->chosen_id;
    if (!is_chosen_there)
        memory->chosen_id = 0;
}

static void check_counters(struct tower_ingest_counters *counters) {
    uint64_t *counts[] = {&counters->accepted,        &counters->refused,
                          &counters->bytes,           &counters->frames,
                          &counters->partial_frames,  &counters->partial_bytes,
                          &counters->withheld_frames, &counters->titles,
                          &counters->bad_titles,      &counters->takeovers};
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
        error = tower_framer_init(&memory->entries[i].framer, frame_bytes);
        if (error < 0) {
            tower_region_done(region);
            return error;
        }
        atomic_store(&memory->entries[i].fd, -1);
        atomic_store(&memory->entries[i].title_bytes, -1);
    }
    tower_ingest_memory_end(memory);
    memory->dead_air_since_ns = INT64_MIN;
    memory->lost_ns = INT64_MIN;
    memory->told_frame = UINT64_MAX;
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
    finish_read(memory);
    check_delivery(memory, pushed);
    check_air(memory, frame_bytes, now_ns);
    check_frames(memory, frame_bytes);
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
