/* router_threads.h - the threads around a router: writers, a waiting reader, a poller.
 *
 * They keep what they saw to themselves; the test looks at it once they have been joined.
 */
#ifndef TOWER_TESTS_ROUTER_THREADS_H
#define TOWER_TESTS_ROUTER_THREADS_H

#include "marked_frame.h"
#include "tower/router.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

struct router_writer {
    /* constant while it runs */
    struct tower_router *router;
    pthread_barrier_t *start; /* NULL: begin at once */
    uint32_t id;
    uint32_t n_frames;
    bool is_patient;   /* push a dropped frame again until there is room */
    bool has_partials; /* push a piece of a frame behind each frame */
    pthread_t thread;
    /* atomic, written by the test: give up on a frame that finds no room */
    atomic_bool must_stop;
    /* owned by the thread until it is joined */
    uint64_t n_queued, n_dropped, n_refused, n_wrong;
};

static inline void *router_writer_run(void *arg) {
    struct router_writer *writer = arg;
    struct marked_frame frame;

    if (writer->start != NULL) {
        pthread_barrier_wait(writer->start);
    }
    for (uint32_t i = 0; i < writer->n_frames; i++) {
        int result;

        marked_frame_fill(&frame, writer->id, i);
        do {
            result = tower_router_push_frame(writer->router, &frame, sizeof(frame));
            writer->n_queued += result == 1;
            writer->n_dropped += result == 0;
            writer->n_wrong += result != 0 && result != 1;
            if (result == 0) {
                sched_yield();
            }
        } while (result == 0 && writer->is_patient && !atomic_load(&writer->must_stop));
        if (writer->has_partials) {
            result = tower_router_push_frame(writer->router, &frame, 1 + i % (sizeof(frame) - 1));
            writer->n_refused += result == -EINVAL;
            writer->n_wrong += result != -EINVAL;
        }
    }
    return NULL;
}

static inline int router_writer_start(struct router_writer *writer) {
    return pthread_create(&writer->thread, NULL, router_writer_run, writer);
}

/* Join writers. Those that still find no room, since the reader got less than there is, give up. */
static inline void router_writers_end(struct router_writer *writers, size_t n_writers) {
    for (size_t i = 0; i < n_writers; i++) {
        atomic_store(&writers[i].must_stop, true);
    }
    for (size_t i = 0; i < n_writers; i++) {
        pthread_join(writers[i].thread, NULL);
    }
}

/* A reader in one pop_frame() with a timeout. */
struct router_reader {
    struct tower_router *router;
    struct tower_clock *clock;
    int64_t timeout_ns;
    pthread_t thread;
    /* owned by the thread until it is joined */
    struct marked_frame frame;
    int result;
    int64_t returned_ns;
    /* atomic, written by the thread */
    atomic_bool is_back;
};

static inline void *router_reader_run(void *arg) {
    struct router_reader *reader = arg;

    reader->result =
        tower_router_pop_frame(reader->router, reader->timeout_ns, &reader->frame, NULL);
    reader->returned_ns = tower_clock_now_ns(reader->clock);
    atomic_store(&reader->is_back, true);
    return NULL;
}

static inline int router_reader_start(struct router_reader *reader, struct tower_router *router,
                                      struct tower_clock *clock, int64_t timeout_ns) {
    memset(reader, 0, sizeof(*reader));
    reader->router = router;
    reader->clock = clock;
    reader->timeout_ns = timeout_ns;
    return pthread_create(&reader->thread, NULL, router_reader_run, reader);
}

/* A monitor that asks for the statistics on and on, and checks what must hold at any moment. */
struct router_poller {
    const struct tower_router *router;
    pthread_t thread;
    atomic_bool must_stop;
    /* atomic, written by the thread */
    _Atomic uint64_t n_polls;
    /* owned by the thread until it is joined */
    uint64_t n_over_capacity, n_backwards;
};

static inline void *router_poller_run(void *arg) {
    struct router_poller *poller = arg;
    struct tower_router_stats last = {0};
    struct tower_router_stats now;

    while (!atomic_load(&poller->must_stop)) {
        tower_router_get_stats(poller->router, &now);
        atomic_fetch_add(&poller->n_polls, 1);
        poller->n_over_capacity += now.count > now.capacity;
        poller->n_backwards +=
            now.overflow_count < last.overflow_count || now.pushed_count < last.pushed_count ||
            now.popped_count < last.popped_count || now.partial_count < last.partial_count;
        last = now;
        sched_yield();
    }
    return NULL;
}

static inline int router_poller_start(struct router_poller *poller,
                                      const struct tower_router *router) {
    memset(poller, 0, sizeof(*poller));
    poller->router = router;
    return pthread_create(&poller->thread, NULL, router_poller_run, poller);
}

static inline void router_poller_stop(struct router_poller *poller) {
    atomic_store(&poller->must_stop, true);
    pthread_join(poller->thread, NULL);
}

#endif
