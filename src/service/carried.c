/* carried.c - what outlives a worker. */
#include "carried.h"

#include "tower/region.h"

#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x746f776572637279) /* "towercry" */
#define VERSION 1
#define ENTRIES_MAX 128
/* Of one struct tower_service_sockets: those for HTTP, and one for PCM. */
#define SOCKETS_MAX (TOWER_HTTP_LISTEN_FDS_MAX + 1)

struct entry {
    uint32_t kind;
    uint32_t index;
    int32_t fd;
};

struct tower_carried_set {
    uint32_t n;
    struct entry entries[ENTRIES_MAX];
};

struct memory {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;

    /* The set that is found is sets[current % 2]; the worker makes the other. */
    _Atomic uint32_t current;
    struct tower_carried_set sets[2];

    /* Atomic, written by the keeper, read by the worker. */
    _Atomic bool is_stopping;

    /* Atomic, written by the worker, read by the keeper. */
    _Atomic uint32_t ready_generation;
    _Atomic uint64_t frames;

    struct tower_keeper_report report;
    struct tower_keeper_descriptors descriptors;

    /* Written by the worker, read by the keeper: one that is half another is shown for a second. */
    char description[TOWER_SERVICE_MANAGER_STATUS_BYTES];

    /* Written by the keeper, read by the worker: odd while it is written. */
    _Atomic uint64_t request_sequence;
    uint32_t request; /* what it was */
    char request_error[TOWER_REQUEST_ERROR_BYTES];
};

struct tower_carried {
    struct tower_region region;
    struct memory *memory;
};

static int wrap(const struct tower_region *region, struct tower_carried **ret_carried) {
    struct tower_carried *carried = malloc(sizeof *carried);
    if (!carried)
        return -ENOMEM;
    *carried = (struct tower_carried){.region = *region, .memory = region->memory};
    *ret_carried = carried;
    return 0;
}

int tower_carried_new(struct tower_carried **ret_carried) {
    struct tower_region region;
    int error = tower_region_init(&region, "tower-carried", sizeof(struct memory));
    if (error < 0)
        return error;
    struct memory *memory = region.memory;
    memory->magic = MAGIC;
    memory->version = VERSION;
    memory->bytes = sizeof *memory;
    memory->descriptors =
        (struct tower_keeper_descriptors){.listening = TOWER_LISTENING_NONE,
                                          .listening_before = TOWER_LISTENING_NONE,
                                          .manager = TOWER_SERVICE_MANAGER_NONE};
    error = wrap(&region, ret_carried);
    if (error < 0)
        tower_region_done(&region);
    return error;
}

int tower_carried_open(int fd, struct tower_carried **ret_carried) {
    struct tower_region region;
    int error = tower_region_open(&region, fd, sizeof(struct memory));
    if (error < 0)
        return error;
    const struct memory *memory = region.memory;
    bool is_ours = memory->magic == MAGIC && memory->version == VERSION &&
                   memory->bytes == sizeof *memory && memory->sets[0].n <= ENTRIES_MAX &&
                   memory->sets[1].n <= ENTRIES_MAX;
    error = is_ours ? wrap(&region, ret_carried) : -EINVAL;
    if (error < 0) {
        region.fd = -1;
        tower_region_done(&region);
    }
    return error;
}

void tower_carried_free(struct tower_carried *carried) {
    if (!carried)
        return;
    tower_region_done(&carried->region);
    free(carried);
}

int tower_carried_fd(const struct tower_carried *carried) {
    return carried->region.fd;
}

/* ---- descriptors ---- */

static struct tower_carried_set *current_set(const struct tower_carried *carried) {
    struct memory *memory = carried->memory;
    return &memory->sets[atomic_load_explicit(&memory->current, memory_order_acquire) % 2];
}

static struct tower_carried_set *next_set(const struct tower_carried *carried) {
    struct memory *memory = carried->memory;
    return &memory->sets[(atomic_load_explicit(&memory->current, memory_order_acquire) + 1) % 2];
}

int tower_carried_find(const struct tower_carried *carried, enum tower_carried_kind kind,
                       uint32_t index) {
    if (!carried)
        return -1;
    const struct tower_carried_set *set = current_set(carried);
    for (uint32_t i = 0; i < set->n && i < ENTRIES_MAX; i++) {
        const struct entry *entry = &set->entries[i];
        if (entry->kind == (uint32_t)kind && entry->index == index)
            return entry->fd > 2 ? entry->fd : -1;
    }
    return -1;
}

int tower_carried_keep(struct tower_carried *carried, enum tower_carried_kind kind, uint32_t index,
                       int fd) {
    if (!carried || fd < 0)
        return 0;
    struct tower_carried_set *set = next_set(carried);
    if (set->n >= ENTRIES_MAX)
        return -ENOSPC;
    set->entries[set->n++] = (struct entry){.kind = (uint32_t)kind, .index = index, .fd = fd};
    return 0;
}

void tower_carried_begin(struct tower_carried *carried) {
    if (carried)
        next_set(carried)->n = 0;
}

void tower_carried_commit(struct tower_carried *carried) {
    if (carried)
        atomic_fetch_add_explicit(&carried->memory->current, 1, memory_order_release);
}

int tower_carried_next(const struct tower_carried *carried, uint32_t *at) {
    const struct tower_carried_set *set = current_set(carried);
    const struct tower_keeper_descriptors *own = &carried->memory->descriptors;
    const struct tower_service_sockets *sockets[] = {&own->listening.sockets,
                                                     &own->listening_before.sockets};
    const int others[] = {own->manager.fd, carried->region.fd};
    for (;;) {
        uint32_t i = (*at)++;
        if (i < ENTRIES_MAX) {
            if (i < set->n && set->entries[i].fd >= 0)
                return set->entries[i].fd;
            continue;
        }
        i -= ENTRIES_MAX;
        if (i < 2 * SOCKETS_MAX) {
            const struct tower_service_sockets *one = sockets[i / SOCKETS_MAX];
            uint32_t k = i % SOCKETS_MAX;
            if (k == SOCKETS_MAX - 1 && one->pcm_fd >= 0)
                return one->pcm_fd;
            if (k < one->n_http_fds && one->http_fds[k] >= 0)
                return one->http_fds[k];
            continue;
        }
        i -= 2 * SOCKETS_MAX;
        if (i >= sizeof others / sizeof *others)
            return -1;
        if (others[i] >= 0)
            return others[i];
    }
}

void tower_carried_forget_state(struct tower_carried *carried) {
    current_set(carried)->n = 0;
    carried->memory->report.lost_state++;
}

struct tower_carried_set *tower_carried_save(const struct tower_carried *carried) {
    struct tower_carried_set *saved = malloc(sizeof *saved);
    if (saved)
        *saved = *current_set(carried);
    return saved;
}

void tower_carried_restore(struct tower_carried *carried, const struct tower_carried_set *saved) {
    *next_set(carried) = *saved;
    tower_carried_commit(carried);
}

/* ---- life ---- */

void tower_carried_set_stopping(struct tower_carried *carried, bool is_stopping) {
    atomic_store(&carried->memory->is_stopping, is_stopping);
}

bool tower_carried_is_stopping(const struct tower_carried *carried) {
    return atomic_load(&carried->memory->is_stopping);
}

void tower_carried_set_ready(struct tower_carried *carried, uint32_t generation) {
    atomic_store(&carried->memory->ready_generation, generation);
}

bool tower_carried_is_ready(const struct tower_carried *carried, uint32_t generation) {
    return atomic_load(&carried->memory->ready_generation) == generation;
}

void tower_carried_beat(struct tower_carried *carried, uint64_t frames) {
    if (carried)
        atomic_store_explicit(&carried->memory->frames, frames, memory_order_relaxed);
}

uint64_t tower_carried_beats(const struct tower_carried *carried) {
    return atomic_load_explicit(&carried->memory->frames, memory_order_relaxed);
}

struct tower_keeper_descriptors *tower_carried_descriptors(struct tower_carried *carried) {
    return &carried->memory->descriptors;
}

struct tower_keeper_report *tower_carried_report(struct tower_carried *carried) {
    return &carried->memory->report;
}

void tower_carried_describe(struct tower_carried *carried, const char *text) {
    (void)snprintf(carried->memory->description, sizeof carried->memory->description, "%s", text);
}

void tower_carried_description(const struct tower_carried *carried,
                               char ret_text[TOWER_SERVICE_MANAGER_STATUS_BYTES]) {
    memcpy(ret_text, carried->memory->description, TOWER_SERVICE_MANAGER_STATUS_BYTES);
    ret_text[TOWER_SERVICE_MANAGER_STATUS_BYTES - 1] = '\0';
}

void tower_carried_tell_request(struct tower_carried *carried, enum tower_replacement what,
                                const char *error) {
    struct memory *memory = carried->memory;
    /* Told on as JSON: what another program had to say may be in it. */
    size_t length = tower_utf8_cut(error, strlen(error), sizeof memory->request_error - 1);
    if (!tower_utf8_is_valid(error, length)) {
        error = "the log says why";
        length = strlen(error);
    }
    uint64_t writing = atomic_load(&memory->request_sequence) | 1;
    atomic_store(&memory->request_sequence, writing);
    memory->request = (uint32_t)what;
    memcpy(memory->request_error, error, length);
    memory->request_error[length] = '\0';
    atomic_store(&memory->request_sequence, writing + 1);
}

/* Returns how many there were. */
static uint64_t read_request(const struct memory *memory,
                             char ret_error[TOWER_REQUEST_ERROR_BYTES]) {
    for (;;) {
        uint64_t sequence = atomic_load(&memory->request_sequence);
        memcpy(ret_error, memory->request_error, TOWER_REQUEST_ERROR_BYTES);
        ret_error[TOWER_REQUEST_ERROR_BYTES - 1] = '\0';
        /* A keeper that died while it wrote leaves it odd: what is there is cut text at worst. */
        if (sequence % 2 == 1 || atomic_load(&memory->request_sequence) == sequence)
            return sequence / 2;
    }
}

void tower_carried_get_status(const struct tower_carried *carried,
                              struct tower_keeper_status *ret_status) {
    const struct tower_keeper_report *report = &carried->memory->report;
    *ret_status = (struct tower_keeper_status){
        .pid = report->keeper_pid,
        .worker_pid = report->worker_pid,
        .generation = report->generation,
        .why = report->why,
        .replaced_ns = report->generation > 1 ? report->replaced_ns : INT64_MIN,
    };
    memcpy(ret_status->replaced, report->replaced, sizeof ret_status->replaced);
    ret_status->lost_state = report->lost_state;
    ret_status->requests = read_request(carried->memory, ret_status->request_error);
    ret_status->request = carried->memory->request == TOWER_REPLACED_UPGRADED
                              ? TOWER_REPLACED_UPGRADED
                              : TOWER_REPLACED_RELOADED;
}
