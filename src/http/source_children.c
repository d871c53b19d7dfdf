/* source_children.c - the processes that source clients are handed to. */
#include "source_children.h"

#include "fd.h"
#include "tower/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that has decoded nothing by then has given up. */
#define APPEARS_WITHIN_NS (20 * INT64_C(1000000000))
#define BODY_FD 3
#define SECRET_VARIABLE "TOWER_SOURCE_PASSWORD="

/* A memory file with `body`, to be read from its beginning, above the descriptors that the child
 * has set up; or a negative errno. */
static int open_body(const void *body, size_t body_bytes) {
    int fd = memfd_create("source-body", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = pwrite(fd, body, body_bytes, 0);
    int error = n < 0 ? -errno : n == (ssize_t)body_bytes ? 0 : -EIO;
    int high_fd = error == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, BODY_FD + 1) : -1;
    if (error == 0 && high_fd < 0)
        error = -errno;
    (void)close(fd);
    return error < 0 ? error : high_fd;
}

/* Our environment without the password; the array is the caller's to free. NULL: no memory. */
static char **open_environment(void) {
    size_t n = 0;
    while (environ && environ[n])
        n++;
    char **copy = calloc(n + 1, sizeof *copy);
    size_t n_copied = 0;
    for (size_t i = 0; copy && i < n; i++) {
        if (strncmp(environ[i], SECRET_VARIABLE, sizeof SECRET_VARIABLE - 1) != 0)
            copy[n_copied++] = environ[i];
    }
    return copy;
}

static int set_attributes(posix_spawnattr_t *attributes) {
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int error = posix_spawnattr_setsigdefault(attributes, &all);
    if (error == 0)
        error = posix_spawnattr_setsigmask(attributes, &none);
    if (error == 0)
        error = posix_spawnattr_setpgroup(attributes, 0);
    if (error == 0)
        error = posix_spawnattr_setflags(
            attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    return error;
}

/* Everything that is open here is CLOEXEC, but for what libraries may have opened. */
static int set_actions(posix_spawn_file_actions_t *actions, int client_fd, int body_fd) {
    int error = posix_spawn_file_actions_adddup2(actions, client_fd, STDIN_FILENO);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(actions, body_fd, BODY_FD);
    if (error == 0)
        error = posix_spawn_file_actions_addclosefrom_np(actions, BODY_FD + 1);
    return error;
}

static int spawn(const struct tower_source_start *start, int body_fd, char *const *environment,
                 pid_t *ret_pid) {
    char length[24];
    (void)snprintf(length, sizeof length, "%" PRIu64, start->length);
    char *framing[] = {NULL, NULL};
    if (start->is_chunked) {
        framing[0] = "--chunked";
    } else if (start->length > 0) {
        framing[0] = "--length";
        framing[1] = length;
    }
    char *arguments[] = {(char *)start->program,
                         "source-client",
                         "--name",
                         (char *)start->name,
                         "--label",
                         (char *)start->label,
                         "--socket",
                         (char *)start->socket_path,
                         "--content-type",
                         (char *)start->content_type,
                         "--ffmpeg",
                         (char *)start->ffmpeg,
                         framing[0],
                         framing[1],
                         NULL};
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    int error = posix_spawnattr_init(&attributes);
    if (error != 0)
        return -error;
    error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        error = set_attributes(&attributes);
        if (error == 0)
            error = set_actions(&actions, start->fd, body_fd);
        if (error == 0)
            error =
                posix_spawn(ret_pid, start->program, &actions, &attributes, arguments, environment);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    (void)posix_spawnattr_destroy(&attributes);
    return -error;
}

int tower_source_children_start(struct tower_source_children *children,
                                const struct tower_source_start *start, int64_t now_ns) {
    struct tower_source_child *child = NULL;
    for (size_t i = 0; i < TOWER_SOURCE_CHILDREN_MAX && !child; i++) {
        if (children->all[i].pid == 0)
            child = &children->all[i];
    }
    if (!child)
        return -ENOSPC;
    int body_fd = open_body(start->body, start->body_bytes);
    if (body_fd < 0)
        return body_fd;
    char **environment = open_environment();
    pid_t pid = 0;
    int error = environment ? spawn(start, body_fd, environment, &pid) : -ENOMEM;
    free(environment);
    tower_fd_close(&body_fd);
    if (error < 0)
        return error;
    *child = (struct tower_source_child){.pid = pid, .started_ns = now_ns};
    memcpy(child->name, start->name, strnlen(start->name, sizeof child->name - 1));
    return 0;
}

bool tower_sources_have(const struct tower_pcm_socket_stats *producers, const char *name) {
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        const struct tower_producer_identity *identity = &producers->producers[i].identity;
        if (identity->is_source && strcmp(identity->name, name) == 0)
            return true;
    }
    return false;
}

/* The one that was started is the one that reaps, so no other child of ours has its number. */
static void reap(struct tower_source_child *child) {
    int status = 0;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return;
    if (pid > 0 && WIFSIGNALED(status))
        tower_log(TOWER_LOG_WARNING, "source", "the process %ld of the source client %s: %s",
                  (long)child->pid, child->name, strsignal(WTERMSIG(status)));
    child->pid = 0;
}

void tower_source_children_look(struct tower_source_children *children,
                                const struct tower_pcm_socket_stats *producers) {
    for (size_t i = 0; i < TOWER_SOURCE_CHILDREN_MAX; i++) {
        struct tower_source_child *child = &children->all[i];
        if (child->pid == 0)
            continue;
        child->has_appeared = child->has_appeared || tower_sources_have(producers, child->name);
        reap(child);
    }
}

static bool is_starting(const struct tower_source_child *child, int64_t now_ns) {
    return child->pid != 0 && !child->has_appeared &&
           now_ns - child->started_ns < APPEARS_WITHIN_NS;
}

struct tower_source_child *tower_source_children_find(struct tower_source_children *children,
                                                      const char *name, int64_t now_ns) {
    for (size_t i = 0; i < TOWER_SOURCE_CHILDREN_MAX; i++) {
        struct tower_source_child *child = &children->all[i];
        if (is_starting(child, now_ns) && (!name || strcmp(child->name, name) == 0))
            return child;
    }
    return NULL;
}

size_t tower_source_children_count(const struct tower_source_children *children,
                                   const struct tower_pcm_socket_stats *producers, int64_t now_ns) {
    size_t n = 0;
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++)
        n += producers->producers[i].identity.is_source;
    for (size_t i = 0; i < TOWER_SOURCE_CHILDREN_MAX; i++)
        n += is_starting(&children->all[i], now_ns) &&
             !tower_sources_have(producers, children->all[i].name);
    return n;
}
