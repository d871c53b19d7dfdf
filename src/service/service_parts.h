/* service_parts.h - what a TowerService is made of, for the files that it is made of. */
#ifndef TOWER_SERVICE_SERVICE_PARTS_H
#define TOWER_SERVICE_SERVICE_PARTS_H

#include "tower/addresses.h"
#include "tower/air.h"
#include "tower/http_server.h"
#include "tower/service.h"
#include "tower/taps.h"
#include "tower/titles.h"

#include "incidents.h"
#include "inheritance.h"
#include "listening.h"
#include "programme_title.h"
#include "source_users.h"
#include "title_schedule.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct tower_service {
    /* Constant after new. The parts, in the order they are built. */
    struct tower_config config;
    char password[TOWER_CONFIG_PASSWORD_BYTES]; /* "": none */
    struct tower_source_users source_users;
    char pcm_path[TOWER_CONFIG_PATH_BYTES]; /* where producers come */
    char program[TOWER_CONFIG_PATH_BYTES];  /* this one; "": not known */
    struct tower_listening listening;       /* opened here; none where sockets were given */
    struct tower_service_sockets sockets;
    struct tower_carried *carried; /* NULL: nothing is */
    struct tower_clock *clock;
    struct tower_router *router;
    struct tower_input_monitor *monitor;
    struct tower_fallback *fallback;
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_addresses *addresses; /* NULL: without a limit */
    struct tower_fanout *fanouts[TOWER_CONFIG_WORKERS_MAX];
    size_t n_fanouts;
    struct tower_encoder_manager *encoder;
    struct tower_title_schedule *title_schedule;
    struct tower_pump *pump;
    struct tower_pcm_socket *ingest;
    struct tower_taps *taps; /* NULL: nobody taps */
    struct tower_http_server *http;
    struct tower_incidents *incidents;
    struct tower_incident_replacement replacement; /* STARTED: this is no other's successor */

    /* Owned by the pump. */
    enum tower_origin origin; /* of the frame at hand */

    /* Owned by the encoder thread. */
    bool has_aired;
    struct tower_programme_titles programme_titles;
    struct tower_programme_title programme_title;

    /* Atomic: written by start and stop, or by the encoder thread; read by anyone. */
    _Atomic int64_t started_ns;
    _Atomic bool is_stopping;
    _Atomic int64_t last_air_ns;
};

/* Write "what detail: the reason; advice" for a person. Returns `number`, a negative errno. */
int tower_service_fail(char *error, size_t error_bytes, int number, const char *what,
                       const char *detail, const char *advice);

/* The counters as they stand; `user` is the service. Any thread that may wait. */
void tower_service_get_counts(void *user, struct tower_incident_counts *ret_counts);

#endif
