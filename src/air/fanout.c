/* fanout.c - a fan-out worker as the others see it: made, started, given listeners, stopped. */
#include "tower/fanout.h"

#include "fanout_worker.h"
#include "fd.h"
#include "thread.h"
#include "wire_bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define SCAN_NS_MAX (1000 * NS_PER_MS)
#define SCAN_NS_MIN (10 * NS_PER_MS)

int tower_fanout_new(const struct tower_fanout_config *config, struct tower_fanout **ret_fanout) {
    if (!config->clock || !config->air || config->client_timeout_ns <= 0 ||
        config->phase_groups > TOWER_FANOUT_GROUPS_MAX)
        return -EINVAL;
    struct tower_fanout *fanout = calloc(1, sizeof *fanout);
    if (!fanout)
        return -ENOMEM;
    fanout->config = *config;
    fanout->scan_ns = config->client_timeout_ns / 4;
    if (fanout->scan_ns > SCAN_NS_MAX)
        fanout->scan_ns = SCAN_NS_MAX;
    if (fanout->scan_ns < SCAN_NS_MIN)
        fanout->scan_ns = SCAN_NS_MIN;
    fanout->n_groups = config->phase_groups > 0 ? config->phase_groups : 1;
    fanout->groups_now = fanout->n_groups;
    fanout->send_time.scale = TOWER_HISTOGRAM_CALLS;
    fanout->pending = TOWER_LISTENER_NONE;
    fanout->ended_places = TOWER_LISTENER_NONE;
    for (unsigned i = 0; i < TOWER_FANOUT_GROUPS_MAX; i++)
        fanout->groups[i] = TOWER_LISTENER_NONE;
    fanout->epoll_fd = -1;
    fanout->wake_fd = -1;

    int error = tower_mutex_init(&fanout->lock, 0);
    if (error < 0)
        goto fail_lock;
    error = tower_listener_table_init(&fanout->table, config->max_listeners);
    if (error < 0)
        goto fail;
    fanout->wake_fd = tower_eventfd_new();
    if (fanout->wake_fd < 0) {
        error = fanout->wake_fd;
        goto fail;
    }
    fanout->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TOWER_FANOUT_WAKE_TOKEN};
    if (fanout->epoll_fd < 0 ||
        epoll_ctl(fanout->epoll_fd, EPOLL_CTL_ADD, fanout->wake_fd, &event) < 0) {
        error = -errno;
        goto fail;
    }
    error = tower_air_add_waker(config->air, fanout->wake_fd);
    if (error < 0)
        goto fail;
    *ret_fanout = fanout;
    return 0;

fail:
    tower_fd_close(&fanout->epoll_fd);
    tower_fd_close(&fanout->wake_fd);
    tower_listener_table_done(&fanout->table);
    (void)pthread_mutex_destroy(&fanout->lock);
fail_lock:
    free(fanout);
    return error;
}

void tower_fanout_free(struct tower_fanout *fanout) {
    if (!fanout)
        return;
    (void)tower_fanout_stop(fanout, 0);
    tower_fd_close(&fanout->epoll_fd);
    tower_fd_close(&fanout->wake_fd);
    tower_listener_table_done(&fanout->table);
    (void)pthread_mutex_destroy(&fanout->lock);
    free(fanout);
}

int tower_fanout_start(struct tower_fanout *fanout) {
    static _Atomic unsigned n_workers;
    pthread_mutex_lock(&fanout->lock);
    bool was_started = fanout->was_started;
    fanout->was_started = true;
    pthread_mutex_unlock(&fanout->lock);
    if (was_started)
        return -EALREADY;
    char name[16];
    (void)snprintf(name, sizeof name, "fanout-%u", atomic_fetch_add(&n_workers, 1) % 10000);
    int error = tower_thread_start(&fanout->thread, name, tower_fanout_run, fanout);
    pthread_mutex_lock(&fanout->lock);
    fanout->is_running = error == 0;
    fanout->was_started = error == 0;
    pthread_mutex_unlock(&fanout->lock);
    return error;
}

int tower_fanout_stop(struct tower_fanout *fanout, int64_t drain_ns) {
    pthread_mutex_lock(&fanout->lock);
    bool is_running = fanout->is_running;
    fanout->is_running = false;
    fanout->is_stopping = true;
    fanout->drain_ns = drain_ns;
    pthread_mutex_unlock(&fanout->lock);
    if (!is_running)
        return 0;
    tower_eventfd_signal(fanout->wake_fd);
    (void)pthread_join(fanout->thread, NULL);
    return fanout->n_cut;
}

void tower_fanout_enter(struct tower_fanout *fanout, uint32_t place) {
    struct tower_listener *listener = tower_fanout_at(fanout, place);
    tower_listener_table_settle(&fanout->table, place);
    listener->next = fanout->pending;
    fanout->pending = place;
    tower_fanout_count(&fanout->with_titles, listener->wants_titles);
    tower_fanout_count(&fanout->listeners, 1);
    tower_fanout_note_peak(fanout, tower_fanout_counted(&fanout->listeners));
}

void tower_fanout_note_peak(struct tower_fanout *fanout, uint64_t listeners) {
    if (listeners <= tower_fanout_counted(&fanout->listeners_peak))
        return;
    atomic_store_explicit(&fanout->listeners_peak, listeners, memory_order_relaxed);
    fanout->table.header->n_peak = (uint32_t)listeners;
}

int tower_fanout_table_fd(const struct tower_fanout *fanout) {
    return fanout->table.region.fd;
}

int tower_fanout_add(struct tower_fanout *fanout, const struct tower_fanout_listener *listener) {
    int error = 0;
    uint64_t wire_bytes = 0;
    /* Where it cannot be had there is no accounting, at the end as at the beginning. */
    (void)tower_wire_bytes(listener->fd, &wire_bytes);
    pthread_mutex_lock(&fanout->lock);
    uint32_t place = TOWER_LISTENER_NONE;
    if (!fanout->is_running) {
        error = -ESHUTDOWN;
    } else if ((place = tower_listener_table_take(&fanout->table)) == TOWER_LISTENER_NONE) {
        tower_fanout_count(&fanout->refused, 1);
        error = -ENOSPC;
    } else {
        struct tower_listener *taken = tower_fanout_at(fanout, place);
        taken->fd = listener->fd;
        taken->cursor = listener->cursor;
        taken->mount = listener->mount;
        taken->wants_titles = listener->wants_titles;
        taken->address = listener->address;
        taken->wire_bytes = wire_bytes;
        tower_icy_init(&taken->icy);
        tower_fanout_enter(fanout, place);
        tower_fanout_count(&fanout->accepted, 1);
    }
    pthread_mutex_unlock(&fanout->lock);
    if (error == 0)
        tower_eventfd_signal(fanout->wake_fd);
    return error;
}

void tower_fanout_get_stats(const struct tower_fanout *fanout,
                            struct tower_fanout_stats *ret_stats) {
    struct tower_fanout_stats stats = {
        .listeners = tower_fanout_counted(&fanout->listeners),
        .blocked = tower_fanout_counted(&fanout->n_blocked),
        .with_titles = tower_fanout_counted(&fanout->with_titles),
        .capacity = tower_listener_table_capacity(&fanout->table),
        .phase_groups = atomic_load_explicit(&fanout->groups_now, memory_order_relaxed),
        .listeners_peak = tower_fanout_counted(&fanout->listeners_peak),
        .accepted = tower_fanout_counted(&fanout->accepted),
        .refused = tower_fanout_counted(&fanout->refused),
        .skips = tower_fanout_counted(&fanout->skips),
        .sent_bytes = tower_fanout_counted(&fanout->sent_bytes),
        .sends = tower_fanout_counted(&fanout->sends),
    };
    for (unsigned i = 0; i < TOWER_LISTENER_END_COUNT; i++)
        stats.ended[i] = tower_fanout_counted(&fanout->ended[i]);
    tower_histogram_snapshot(&fanout->send_time, &stats.send_time);
    *ret_stats = stats;
}
