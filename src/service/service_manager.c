/* service_manager.c - datagrams to the service manager. */
#include "service_manager.h"

#include "fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_BYTES (TOWER_SERVICE_MANAGER_STATUS_BYTES + 32)
#define NS_PER_US INT64_C(1000)
#define STATUS_EVERY_NS TOWER_NS_PER_S
#define LOOK_EVERY_NS (TOWER_NS_PER_S / 4)
/* An answer that comes a little late, twice, must still be in time. */
#define BEATS_A_WATCHDOG 4

/* ---- the environment ---- */

/* Read a whole number above 0; -EINVAL if it is none or is above `most`. */
static int read_number(const char *text, int64_t most, int64_t *ret_number) {
    char *end;
    errno = 0;
    int64_t number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text < '0' || *text > '9' || number <= 0 ||
        number > most)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

/* A path, or the name of an abstract socket behind an '@'. */
static int read_address(const char *text, struct tower_service_manager *manager) {
    struct sockaddr_un *address = &manager->address;
    size_t length = strlen(text);
    if ((*text != '/' && *text != '@') || length < 2 || length >= sizeof address->sun_path)
        return -EINVAL;
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, text, length);
    manager->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (*text == '@')
        address->sun_path[0] = '\0';
    else
        manager->address_bytes++;
    return 0;
}

static int read_watchdog(int64_t *ret_watchdog_ns) {
    const char *wait_us = getenv("WATCHDOG_USEC"), *whose = getenv("WATCHDOG_PID");
    int64_t us = 0, pid = 0;
    if (!wait_us)
        return 0;
    int error = read_number(wait_us, INT64_MAX / NS_PER_US, &us);
    if (error == 0 && whose)
        error = read_number(whose, INT32_MAX, &pid);
    if (error == 0 && (!whose || pid == getpid()))
        *ret_watchdog_ns = us * NS_PER_US;
    return error;
}

int tower_service_manager_init(struct tower_service_manager *manager) {
    struct tower_service_manager made = TOWER_SERVICE_MANAGER_NONE;
    const char *where = getenv("NOTIFY_SOCKET");
    int error = 0;
    bool is_there = where && *where != '\0';
    if (is_there)
        error = read_address(where, &made);
    if (is_there && error == 0)
        error = read_watchdog(&made.watchdog_ns);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    if (error < 0 || !is_there)
        return error;
    made.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made.fd < 0)
        return -errno;
    *manager = made;
    return 0;
}

void tower_service_manager_done(struct tower_service_manager *manager) {
    tower_fd_close(&manager->fd);
}

/* ---- what is said ---- */

/* Not connected: what listens at the address may be a new one. */
static int say(const struct tower_service_manager *manager, const char *message) {
    ssize_t n;
    if (manager->fd < 0)
        return 0;
    do
        n = sendto(manager->fd, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL,
                   (const struct sockaddr *)&manager->address, manager->address_bytes);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int64_t tower_service_manager_interval_ns(const struct tower_service_manager *manager) {
    int64_t beat_ns = manager->watchdog_ns / BEATS_A_WATCHDOG;
    if (manager->fd < 0)
        return INT64_MAX;
    return beat_ns > 0 && beat_ns < LOOK_EVERY_NS ? beat_ns : LOOK_EVERY_NS;
}

int tower_service_manager_ready(struct tower_service_manager *manager) {
    if (manager->is_ready)
        return 0;
    int error = say(manager, "READY=1");
    manager->is_ready = error == 0;
    return error;
}

int tower_service_manager_reloading(struct tower_service_manager *manager, int64_t now_ns) {
    char message[MESSAGE_BYTES];
    (void)snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                   now_ns / NS_PER_US);
    int error = say(manager, message);
    if (error == 0)
        manager->is_ready = false;
    return error;
}

int tower_service_manager_stopping(struct tower_service_manager *manager) {
    return say(manager, "STOPPING=1\nSTATUS=Stopping");
}

int tower_service_manager_main_pid(struct tower_service_manager *manager, pid_t pid) {
    char message[MESSAGE_BYTES];
    (void)snprintf(message, sizeof message, "MAINPID=%ld", (long)pid);
    return say(manager, message);
}

void tower_service_manager_status(struct tower_service_manager *manager, const char *text) {
    char line[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    (void)snprintf(line, sizeof line, "%s", text);
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, manager->status) == 0)
        return;
    memcpy(manager->status, line, sizeof line);
    manager->is_status_new = true;
}

void tower_service_manager_beat(struct tower_service_manager *manager, int64_t now_ns,
                                uint64_t ticks) {
    if (manager->watchdog_ns > 0 && ticks != manager->ticks_told &&
        (!manager->has_beaten ||
         now_ns - manager->beat_ns >= manager->watchdog_ns / BEATS_A_WATCHDOG) &&
        say(manager, "WATCHDOG=1") == 0) {
        manager->has_beaten = true;
        manager->beat_ns = now_ns;
        manager->ticks_told = ticks;
    }
    if (!manager->is_status_new ||
        (manager->has_said_status && now_ns - manager->status_ns < STATUS_EVERY_NS))
        return;
    char message[MESSAGE_BYTES];
    (void)snprintf(message, sizeof message, "STATUS=%s", manager->status);
    if (say(manager, message) == 0) {
        manager->is_status_new = false;
        manager->has_said_status = true;
        manager->status_ns = now_ns;
    }
}

void tower_service_manager_describe(const struct tower_status *status, char *ret_text,
                                    size_t text_bytes) {
    uint64_t listeners = status->listeners.listeners;
    switch (status->state) {
    case TOWER_SERVICE_STARTING:
        (void)snprintf(ret_text, text_bytes, "Starting");
        return;
    case TOWER_SERVICE_STALLED:
        (void)snprintf(ret_text, text_bytes, "Stalled: no frame has gone on air for over a second");
        return;
    case TOWER_SERVICE_STOPPING:
        (void)snprintf(ret_text, text_bytes, "Stopping");
        return;
    case TOWER_SERVICE_ON_AIR:
        (void)snprintf(ret_text, text_bytes, "On air: %s, %" PRIu64 " listener%s",
                       tower_origin_name(status->pump.origin), listeners,
                       listeners == 1 ? "" : "s");
        return;
    }
}
