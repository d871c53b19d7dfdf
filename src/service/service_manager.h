/* service_manager.h - what the transmitter tells the service manager that runs it: sd_notify(3).
 *
 * Spoken without libsystemd, for two reasons: its sd_notify() asks the environment each time, which
 * children must not inherit, and waits where the manager's queue is full. Nothing here waits, has a
 * thread or a clock. One thread at a time. Where no service manager listens, every call does
 * nothing and returns 0.
 */
#ifndef TOWER_SERVICE_SERVICE_MANAGER_H
#define TOWER_SERVICE_SERVICE_MANAGER_H

#include "tower/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#define TOWER_SERVICE_MANAGER_STATUS_BYTES 128

struct tower_service_manager {
    /* Constant after init. */
    int fd; /* CLOEXEC; -1: nobody listens */
    struct sockaddr_un address;
    socklen_t address_bytes;
    int64_t watchdog_ns; /* it acts when it has heard no WATCHDOG=1 for so long; 0: never */

    /* Owned by whoever calls. */
    bool is_ready; /* that has been said */
    bool has_beaten;
    uint64_t ticks_told; /* as of the last WATCHDOG=1 */
    int64_t beat_ns;     /* when that was */
    bool is_status_new;  /* `status` has not been said */
    bool has_said_status;
    int64_t status_ns; /* when the last was said */
    char status[TOWER_SERVICE_MANAGER_STATUS_BYTES];
};

#define TOWER_SERVICE_MANAGER_NONE                                                                 \
    { .fd = -1 }

/* Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID (another's: no watchdog), and unset them, so
 * that no child takes them for its own; before any thread is made. `manager` must be
 * TOWER_SERVICE_MANAGER_NONE, and stays it on failure. Errors: -EINVAL (one of them is not what
 * sd_notify(3) and sd_watchdog_enabled(3) say it is), -EMFILE, -ENFILE, -ENOMEM (no socket). */
int tower_service_manager_init(struct tower_service_manager *manager);
void tower_service_manager_done(struct tower_service_manager *manager);

/* How often tower_service_manager_beat() wants to be called, at least; INT64_MAX: never. */
int64_t tower_service_manager_interval_ns(const struct tower_service_manager *manager);

/* Errors of those that follow: -EAGAIN (its queue is full: say it again later), or whatever else
 * sendto() says. */

/* On air. Said once: again only behind tower_service_manager_reloading(). */
int tower_service_manager_ready(struct tower_service_manager *manager);

/* New settings are being taken up, at `now_ns` of CLOCK_MONOTONIC; _ready() says that they are. */
int tower_service_manager_reloading(struct tower_service_manager *manager, int64_t now_ns);

/* On the way to the end. */
int tower_service_manager_stopping(struct tower_service_manager *manager);

/* Process `pid` is the main one from now on. */
int tower_service_manager_main_pid(struct tower_service_manager *manager, pid_t pid);

/* What `systemctl status` shows from one of the next beats on: one line, of which as much is taken
 * as there is room for. */
void tower_service_manager_status(struct tower_service_manager *manager, const char *text);

/* It is `now_ns` and `ticks` have been put on air, counted from any start. Says that all is well if
 * that is another number than when it was last said, and at most every quarter of the time that the
 * watchdog waits; and the status if it is new, at most once a second. What cannot be said now is
 * said at the next beat. */
void tower_service_manager_beat(struct tower_service_manager *manager, int64_t now_ns,
                                uint64_t ticks);

/* Write a line for tower_service_manager_status(): "On air: live, 12 listeners". */
void tower_service_manager_describe(const struct tower_status *status, char *ret_text,
                                    size_t text_bytes);

#endif
