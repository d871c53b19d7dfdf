/* incidents.h - what becomes an incident, and what listeners had of it.
 *
 * The parts note what happens where it happens; how long it lasted, which frames stood in and who
 * was lost is worked out on the journal's thread, where nobody waits.
 */
#ifndef TOWER_SERVICE_INCIDENTS_H
#define TOWER_SERVICE_INCIDENTS_H

#include "tower/encoder_manager.h"
#include "tower/input_monitor.h"
#include "tower/journal.h"
#include "tower/pcm_socket.h"

/* Back is what has been live for so long without a gap. */
#define TOWER_INCIDENT_RETURN_NS TOWER_NS_PER_S
/* A pump that comes so much too late was not run. */
#define TOWER_INCIDENT_STALL_NS (TOWER_NS_PER_S / 10)
/* Listeners refused are told of so often. */
#define TOWER_INCIDENT_REFUSED_NS (60 * TOWER_NS_PER_S)
/* An input fault that was there before this process is seen again within so long, and dead air
 * dead_air_after later, or is over. */
#define TOWER_INCIDENT_FAULT_NS (35 * TOWER_NS_PER_S)

/* Counters since the start, as they stand. */
struct tower_incident_counts {
    uint64_t frames_by_origin[TOWER_ORIGIN_COUNT];
    enum tower_origin origin; /* of the last of them */
    int64_t origin_since_ns;
    uint64_t air_frames;
    uint64_t ticks_skipped;
    uint64_t listeners_lost;    /* ended by the transmitter */
    uint64_t listeners_refused; /* no place was left */
    uint64_t listeners_refused_address;
    uint64_t fallback_errors;
    bool is_fallback_ready;
    /* Of the keeper; 0: there is none. */
    uint64_t lost_state; /* times that what a worker was to go on with was given up */
    uint64_t requests;   /* reloads and upgrades asked for, the last of which: */
    bool is_request_upgrade;
    char request_error[TOWER_INCIDENT_DETAIL_BYTES]; /* why it was refused; "": it was not */
};

struct tower_incidents_config {
    struct tower_clock *clock;
    uint32_t frame_samples;
    int64_t dead_air_after_ns;
    const char *fallback_path; /* "": none */
    const char *journal_path;  /* "": in memory alone */
    uint64_t journal_bytes;
    int carried_fd; /* the journal's region that another process left; 0 or below: none */
    /* On the journal's thread. */
    void (*get_counts)(void *user, struct tower_incident_counts *ret_counts);
    void *user;
};

struct tower_incidents;

/* Errors: as tower_journal_new(). Everything in `config` must outlive it. */
int tower_incidents_new(const struct tower_incidents_config *config,
                        struct tower_incidents **ret_incidents);
/* Takes NULL. */
void tower_incidents_free(struct tower_incidents *incidents);

struct tower_journal *tower_incidents_journal(struct tower_incidents *incidents);

/* Errors: as tower_journal_start(). `encoder_delay_ns`: from PCM to MP3; `position_samples`: where
 * the first that is written begins; `is_first`: no process was there before this one. */
int tower_incidents_start(struct tower_incidents *incidents, int64_t encoder_delay_ns,
                          uint64_t position_samples, bool is_first);
/* After all else has stopped, with the number of frames that went on air. */
void tower_incidents_stop(struct tower_incidents *incidents, uint64_t air_frames);

/* Pump thread; no lock, no wait. A tick begins; its live frame is dead air and withheld; the
 * encoder took the frame of this tick. */
void tower_incidents_note_tick(struct tower_incidents *incidents);
void tower_incidents_note_withheld(struct tower_incidents *incidents);
void tower_incidents_note_written(struct tower_incidents *incidents, enum tower_origin origin);

/* Ingest thread. `frame` is the one that goes on air now. */
void tower_incidents_note_input(struct tower_incidents *incidents,
                                const struct tower_input_event *event, uint64_t frame);
void tower_incidents_note_producer(struct tower_incidents *incidents,
                                   const struct tower_producer_info *producer, bool is_on_air,
                                   uint64_t frame);

/* Encoder thread. */
void tower_incidents_note_encoder(struct tower_incidents *incidents,
                                  const struct tower_encoder_event *event);

/* Why there is another process now. */
struct tower_incident_replacement {
    enum tower_incident_kind kind;
    char subject[TOWER_INCIDENT_SUBJECT_BYTES]; /* which process is gone */
    char cause[TOWER_INCIDENT_CAUSE_BYTES];     /* of a death: what it died by */
    char detail[TOWER_INCIDENT_DETAIL_BYTES];
    uint64_t generation;     /* of that process: counted from 1 */
    int64_t at_ns;           /* when it was replaced; a death is noticed at once */
    int64_t silent_ns;       /* from when on nothing went on air, as well as that is known */
    uint64_t listeners_lost; /* who could not be taken over */
};
/* Encoder thread. The first frame after that, number `frame`, goes on air now. */
void tower_incidents_note_replaced(struct tower_incidents *incidents,
                                   const struct tower_incident_replacement *replacement,
                                   uint64_t frame);

#endif
