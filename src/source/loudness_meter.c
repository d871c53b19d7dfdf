/* loudness_meter.c - the thread that measures files ahead of their turn. */
#include "loudness.h"

#include "thread.h"
#include "tower/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOTS 4
#define NICE 10
#define END_LIMIT_NS (2 * TOWER_NS_PER_S)

enum slot_state { SLOT_EMPTY, SLOT_WAITS, SLOT_AT_WORK, SLOT_KNOWN, SLOT_FAILED };

struct slot {
    enum slot_state state;
    uint64_t asked; /* the how manieth question it is */
    char *path;
    bool has_part;
    struct tower_loudness loudness; /* of all, or of a part while at work */
};

struct tower_loudness_meter {
    /* Constant after start. */
    struct tower_clock *clock;
    char *ffmpeg; /* NULL: the default */
    char *cache;  /* NULL: none */
    pthread_t thread;

    _Atomic bool is_ending; /* written by who frees it */

    /* Guarded by lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct slot slots[SLOTS];
    uint64_t n_asked;
};

static struct slot *find(struct tower_loudness_meter *meter, const char *path) {
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &meter->slots[i];
        if (slot->state != SLOT_EMPTY && strcmp(slot->path, path) == 0)
            return slot;
    }
    return NULL;
}

/* ---- the thread ---- */

static struct slot *next_waiting(struct tower_loudness_meter *meter) {
    struct slot *next = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &meter->slots[i];
        if (slot->state == SLOT_WAITS && (!next || slot->asked < next->asked))
            next = slot;
    }
    return next;
}

/* The one slot at work is not given to another question. */
static struct slot *at_work(struct tower_loudness_meter *meter) {
    for (size_t i = 0; i < SLOTS; i++) {
        if (meter->slots[i].state == SLOT_AT_WORK)
            return &meter->slots[i];
    }
    return NULL;
}

static void note_part(void *context, const struct tower_loudness *so_far) {
    struct tower_loudness_meter *meter = context;
    (void)pthread_mutex_lock(&meter->lock);
    struct slot *slot = at_work(meter);
    slot->has_part = true;
    slot->loudness = *so_far;
    (void)pthread_mutex_unlock(&meter->lock);
}

static int find_or_measure(struct tower_loudness_meter *meter, const char *path,
                           struct tower_loudness *ret_loudness) {
    if (meter->cache && tower_loudness_cache_find(meter->cache, path, ret_loudness) == 0)
        return 0;
    int error = tower_loudness_measure(meter->clock, meter->ffmpeg, path, &meter->is_ending,
                                       note_part, meter, ret_loudness);
    /* What cannot be kept is measured again the next time. */
    if (error == 0 && meter->cache)
        (void)tower_loudness_cache_store(meter->cache, path, ret_loudness);
    return error;
}

static void *run(void *arg) {
    struct tower_loudness_meter *meter = arg;
    /* What is on air comes first; a decoder started from here inherits it. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    (void)pthread_mutex_lock(&meter->lock);
    while (!atomic_load(&meter->is_ending)) {
        struct slot *slot = next_waiting(meter);
        if (!slot) {
            (void)pthread_cond_wait(&meter->changed, &meter->lock);
            continue;
        }
        slot->state = SLOT_AT_WORK;
        const char *path = slot->path;
        struct tower_loudness loudness;
        (void)pthread_mutex_unlock(&meter->lock);
        int error = find_or_measure(meter, path, &loudness);
        (void)pthread_mutex_lock(&meter->lock);
        if (error == 0)
            slot->loudness = loudness;
        slot->state = error == 0 ? SLOT_KNOWN : SLOT_FAILED;
        (void)pthread_cond_broadcast(&meter->changed);
    }
    (void)pthread_mutex_unlock(&meter->lock);
    return NULL;
}

/* ---- the caller ---- */

int tower_loudness_meter_new(struct tower_clock *clock, const char *ffmpeg, const char *cache,
                             struct tower_loudness_meter **ret_meter) {
    struct tower_loudness_meter *meter = calloc(1, sizeof *meter);
    if (!meter)
        return -ENOMEM;
    meter->clock = clock;
    meter->ffmpeg = ffmpeg ? strdup(ffmpeg) : NULL;
    meter->cache = cache ? strdup(cache) : NULL;
    int error = (ffmpeg && !meter->ffmpeg) || (cache && !meter->cache)
                    ? -ENOMEM
                    : -pthread_mutex_init(&meter->lock, NULL);
    if (error < 0)
        goto free_meter;
    error = tower_clock_cond_init(&meter->changed);
    if (error < 0)
        goto destroy_lock;
    error = tower_thread_start(&meter->thread, "loudness", run, meter);
    if (error < 0)
        goto destroy_changed;
    *ret_meter = meter;
    return 0;
destroy_changed:
    (void)pthread_cond_destroy(&meter->changed);
destroy_lock:
    (void)pthread_mutex_destroy(&meter->lock);
free_meter:
    free(meter->ffmpeg);
    free(meter->cache);
    free(meter);
    return error;
}

void tower_loudness_meter_free(struct tower_loudness_meter *meter) {
    if (!meter)
        return;
    (void)pthread_mutex_lock(&meter->lock);
    atomic_store(&meter->is_ending, true);
    (void)pthread_cond_broadcast(&meter->changed);
    (void)pthread_mutex_unlock(&meter->lock);
    if (tower_thread_join_within(meter->thread, END_LIMIT_NS) < 0) {
        /* It still uses all of this. */
        (void)pthread_detach(meter->thread);
        return;
    }
    (void)pthread_cond_destroy(&meter->changed);
    (void)pthread_mutex_destroy(&meter->lock);
    for (size_t i = 0; i < SLOTS; i++)
        free(meter->slots[i].path);
    free(meter->ffmpeg);
    free(meter->cache);
    free(meter);
}

void tower_loudness_meter_ask(struct tower_loudness_meter *meter, const char *path) {
    char *copy = strdup(path);
    struct slot *oldest = NULL;
    (void)pthread_mutex_lock(&meter->lock);
    struct slot *known = find(meter, path);
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &meter->slots[i];
        if (slot->state != SLOT_AT_WORK && (!oldest || slot->asked < oldest->asked))
            oldest = slot;
    }
    meter->n_asked++;
    if (known) {
        /* What failed is tried again. */
        if (known->state == SLOT_FAILED)
            known->state = SLOT_WAITS;
        known->asked = meter->n_asked;
    } else if (copy && oldest) {
        free(oldest->path);
        *oldest = (struct slot){.state = SLOT_WAITS, .asked = meter->n_asked, .path = copy};
        copy = NULL;
    }
    (void)pthread_cond_broadcast(&meter->changed);
    (void)pthread_mutex_unlock(&meter->lock);
    free(copy);
}

int tower_loudness_meter_get(struct tower_loudness_meter *meter, const char *path, int64_t wait_ns,
                             struct tower_loudness *ret_loudness, bool *ret_is_whole) {
    int64_t deadline_ns = tower_clock_now_ns(meter->clock) + wait_ns;
    int error = -ENOENT;
    (void)pthread_mutex_lock(&meter->lock);
    struct slot *slot = find(meter, path);
    while (slot && (slot->state == SLOT_WAITS || slot->state == SLOT_AT_WORK)) {
        if (tower_clock_cond_wait_until(meter->clock, &meter->changed, &meter->lock, deadline_ns) ==
            -ETIMEDOUT)
            break;
        slot = find(meter, path);
    }
    if (slot) {
        bool is_whole = slot->state == SLOT_KNOWN;
        bool is_known = is_whole || (slot->state == SLOT_AT_WORK && slot->has_part);
        error = slot->state == SLOT_FAILED ? -EIO : -EAGAIN;
        if (is_known) {
            *ret_loudness = slot->loudness;
            *ret_is_whole = is_whole;
            error = 0;
        }
    }
    (void)pthread_mutex_unlock(&meter->lock);
    return error;
}
