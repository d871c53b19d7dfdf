/* status.h - the state of the whole transmitter at one moment, as plain data.
 *
 * TowerService fills it in; /status and `tower status` show it.
 */
#ifndef TOWER_STATUS_H
#define TOWER_STATUS_H

#include "tower/encoder_manager.h"
#include "tower/fallback.h"
#include "tower/fanout.h"
#include "tower/input_monitor.h"
#include "tower/pcm_socket.h"
#include "tower/pump.h"
#include "tower/router.h"
#include "tower/station.h"
#include "tower/taps.h"
#include "tower/titles.h"

enum tower_service_state {
    TOWER_SERVICE_STARTING, /* nothing has gone on air yet */
    TOWER_SERVICE_ON_AIR,   /* a frame went on air within the last second */
    TOWER_SERVICE_STALLED,  /* none did */
    TOWER_SERVICE_STOPPING,
};

/* Why a worker was replaced. */
enum tower_replacement {
    TOWER_REPLACED_KILLED,   /* it died by a signal */
    TOWER_REPLACED_ENDED,    /* it ended, unasked */
    TOWER_REPLACED_STALLED,  /* it put no frame on air for 2 s */
    TOWER_REPLACED_RELOADED, /* it was asked for: another configuration */
    TOWER_REPLACED_UPGRADED, /* it was asked for: another program */
    TOWER_REPLACED_KEEPER,   /* its keeper died, and it went on as one */
};
#define TOWER_REPLACEMENT_COUNT 6
#define TOWER_REQUEST_ERROR_BYTES 512

/* The process that keeps the one that serves. */
struct tower_keeper_status {
    int64_t pid;                                   /* 0: there is none, and the rest says nothing */
    int64_t worker_pid;                            /* of the one that serves */
    uint64_t generation;                           /* of it, counted from 1 */
    uint64_t replaced[TOWER_REPLACEMENT_COUNT];    /* those before it, by why */
    enum tower_replacement why;                    /* the last one was; from generation 2 on */
    int64_t replaced_ns;                           /* when, on the clock */
    uint64_t lost_state;                           /* times what is carried was given up */
    uint64_t requests;                             /* reloads and upgrades that were asked for */
    enum tower_replacement request;                /* which of the two the last was */
    char request_error[TOWER_REQUEST_ERROR_BYTES]; /* why the last was refused; "": it was not */
};

/* Source clients: who sends sound over HTTP. */
struct tower_sources_stats {
    uint64_t running;          /* now */
    uint64_t accepted;         /* handed to a process of their own, of this worker's */
    uint64_t refused_password; /* a wrong one, or tried again too soon */
    uint64_t refused_busy;     /* the mount was in use, or all places were */
    uint64_t refused_type;     /* of what they would send */
};

struct tower_status {
    enum tower_service_state state;
    int64_t now_ns;     /* on the clock */
    int64_t started_ns; /* on the clock */
    uint32_t frame_samples;
    uint32_t bitrate_bps;
    uint64_t air_frames; /* encoded frames on air since the start */
    uint64_t air_bytes;
    int64_t last_air_ns; /* when the last was; INT64_MIN: never */
    struct tower_pump_stats pump;
    struct tower_router_stats router;
    struct tower_fallback_stats fallback;
    struct tower_encoder_stats encoder;
    struct tower_pcm_socket_stats producers;
    struct tower_input_stats input;
    struct tower_fanout_stats listeners; /* of all workers together */
    struct tower_taps_stats taps;
    struct tower_title title; /* on air now; number 0: none */
    struct tower_keeper_status keeper;
    /* Filled in by the HTTP server. */
    struct tower_station station;
    uint64_t listeners_refused_address; /* too many from theirs; not in listeners.refused */
    struct tower_sources_stats sources;
};

/* "starting", "on air", "stalled", "stopping". */
const char *tower_service_state_name(enum tower_service_state state);

/* "on air", "waiting" (it has audio) or "idle" (it has none). */
const char *tower_producer_state_name(const struct tower_producer_info *producer);

/* "killed", "ended", "stalled", "reloaded", "upgraded", "keeper". */
const char *tower_replacement_name(enum tower_replacement why);

#endif
