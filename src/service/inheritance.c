/* inheritance.c - what a worker has from the one before it. */
#include "inheritance.h"

#include "tower/config.h"
#include "tower/log.h"
#include "tower/pcm_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the descriptors that are worth keeping ---- */

struct fd_list {
    int *fds;
    size_t n;
    size_t room;
};

static int add_fd(struct fd_list *list, int fd) {
    if (fd < 0)
        return 0;
    if (list->n == list->room) {
        size_t room = list->room > 0 ? 2 * list->room : 256;
        int *fds = realloc(list->fds, room * sizeof *fds);
        if (!fds)
            return -ENOMEM;
        list->fds = fds;
        list->room = room;
    }
    list->fds[list->n++] = fd;
    return 0;
}

static int compare_fds(const void *a, const void *b) {
    int left = *(const int *)a, right = *(const int *)b;
    return (left > right) - (left < right);
}

static void close_between(int after, unsigned before) {
    if ((unsigned)after + 1 < before)
        (void)syscall(SYS_close_range, (unsigned)after + 1, before - 1, 0U);
}

static size_t find_producers(const struct tower_inheritance *inheritance,
                             int ret_fds[TOWER_PRODUCERS_MAX]) {
    int fd = tower_inheritance_fd(inheritance, TOWER_CARRIED_PRODUCERS);
    return fd < 0 ? 0 : tower_pcm_socket_carried_fds(fd, ret_fds);
}

static int close_all_but(struct tower_inheritance *inheritance) {
    struct fd_list list = {0};
    int producers[TOWER_PRODUCERS_MAX];
    uint32_t at = 0;
    uint64_t listener_at = 0;
    int fd;
    int error = 0;
    while (error == 0 && (fd = tower_carried_next(inheritance->carried, &at)) >= 0)
        error = add_fd(&list, fd);
    while (error == 0 &&
           (fd = tower_listener_heritage_next(inheritance->listeners, &listener_at)) >= 0)
        error = add_fd(&list, fd);
    size_t n = find_producers(inheritance, producers);
    for (size_t i = 0; i < n && error == 0; i++)
        error = add_fd(&list, producers[i]);
    if (error == 0 && list.n > 0)
        qsort(list.fds, list.n, sizeof *list.fds, compare_fds);
    int last = STDERR_FILENO;
    for (size_t i = 0; i < list.n && error == 0; i++) {
        close_between(last, (unsigned)list.fds[i]);
        if (list.fds[i] > last)
            last = list.fds[i];
    }
    if (error == 0)
        (void)syscall(SYS_close_range, (unsigned)last + 1, ~0U, 0U);
    free(list.fds);
    return error;
}

/* ---- taking over ---- */

static void note_old(struct tower_inheritance *inheritance, int fd) {
    if (fd >= 0 && inheritance->n_old_fds < TOWER_INHERITANCE_OLD_MAX)
        inheritance->old_fds[inheritance->n_old_fds++] = fd;
}

/* No listener may have one of these. */
static void claim(struct tower_inheritance *inheritance) {
    uint32_t at = 0;
    int fd;
    while ((fd = tower_carried_next(inheritance->carried, &at)) >= 0)
        tower_listener_heritage_claim(inheritance->listeners, fd);
    int producers[TOWER_PRODUCERS_MAX];
    size_t n = find_producers(inheritance, producers);
    for (size_t i = 0; i < n; i++)
        tower_listener_heritage_claim(inheritance->listeners, producers[i]);
}

int tower_inheritance_init(struct tower_inheritance *inheritance, struct tower_carried *carried) {
    *inheritance = (struct tower_inheritance){.carried = carried};
    if (!carried)
        return 0;
    int error = tower_listener_heritage_new(&inheritance->listeners);
    if (error < 0)
        return error;
    for (uint32_t i = 0; i < TOWER_CONFIG_WORKERS_MAX; i++) {
        int fd = tower_carried_find(carried, TOWER_CARRIED_LISTENERS, i);
        if (fd >= 0 && tower_listener_heritage_add(inheritance->listeners, fd) < 0) {
            tower_log(TOWER_LOG_ERROR, "service",
                      "a table of listeners does not hold: those in it are lost");
            note_old(inheritance, fd);
        }
    }
    if (tower_carried_report(carried)->generation > 1)
        error = close_all_but(inheritance);
    claim(inheritance);
    tower_carried_begin(carried);
    return error;
}

void tower_inheritance_done(struct tower_inheritance *inheritance) {
    tower_listener_heritage_free(inheritance->listeners);
    *inheritance = (struct tower_inheritance){0};
}

int tower_inheritance_fd(const struct tower_inheritance *inheritance,
                         enum tower_carried_kind kind) {
    return tower_carried_find(inheritance->carried, kind, 0);
}

int tower_inheritance_keep(struct tower_inheritance *inheritance, enum tower_carried_kind kind,
                           uint32_t index, int fd) {
    if (kind != TOWER_CARRIED_LISTENERS) {
        int old_fd = tower_inheritance_fd(inheritance, kind);
        if (old_fd != fd)
            note_old(inheritance, old_fd);
    }
    return tower_carried_keep(inheritance->carried, kind, index, fd);
}

void tower_inheritance_adopt(struct tower_inheritance *inheritance,
                             struct tower_fanout *const *fanouts, size_t n_fanouts) {
    if (inheritance->carried)
        tower_fanout_adopt(fanouts, n_fanouts, inheritance->listeners, &inheritance->adoption);
}

void tower_inheritance_commit(struct tower_inheritance *inheritance) {
    if (!inheritance->carried)
        return;
    tower_carried_commit(inheritance->carried);
    tower_listener_heritage_commit(inheritance->listeners);
    for (unsigned i = 0; i < inheritance->n_old_fds; i++)
        (void)close(inheritance->old_fds[i]);
    inheritance->n_old_fds = 0;
}
