/* incidents.c - notes in, incidents out. */
#include "incidents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What every Layer III decoder delays by. */
#define DECODER_DELAY_SAMPLES 529
/* Changes of origin that are remembered: an input fault is seen up to dead_air_after late. */
#define RUNS 64
/* How far back it is known how many listeners had been lost. */
#define SAMPLES 64

/* From `at_ns` on the frames on air were of one origin; `totals` are those before. */
struct run {
    int64_t at_ns;
    enum tower_origin origin;
    uint64_t totals[TOWER_ORIGIN_COUNT];
};

struct lost_sample {
    int64_t at_ns;
    uint64_t lost;
};

/* An incident that lasts: how things stood when it began. */
struct span {
    int64_t since_ns;
    uint64_t totals[TOWER_ORIGIN_COUNT];
    uint64_t ticks_skipped;
    uint64_t listeners_lost;
};

/* What the next process goes on with, in the journal's region: plain data. */
struct state {
    int64_t started_ns;

    /* Owned by the pump. */
    struct {
        int64_t tick_at_ns; /* INT64_MIN: none yet */
        bool is_withheld;
        bool has_origin;
        enum tower_origin origin;
        uint64_t written; /* by this process */
        uint64_t totals[TOWER_ORIGIN_COUNT];
    } pump;

    /* Owned by the journal's thread. */
    struct run runs[RUNS];
    uint64_t n_runs;
    struct lost_sample samples[SAMPLES];
    uint64_t n_samples;
    struct tower_incident_counts before; /* what processes before this one counted */
    struct tower_incident_counts counts; /* with that, when last asked for */
    struct {
        bool is_open;
        int64_t to_substitute_ns;
        struct span span;
        int64_t back_ns; /* live again since; INT64_MIN: it is not */
        uint64_t back_frame;
        uint64_t back_totals[TOWER_ORIGIN_COUNT];
    } outage;
    struct span faults[TOWER_INPUT_FAULT_COUNT];
    struct span encoder;
    uint64_t missed_notes; /* of the journal's submissions_lost, up to here */
    uint64_t told_skipped;
    int64_t skipped_seen_ns; /* that more were skipped than told; INT64_MIN: they were not */
    uint64_t told_refused;
    uint64_t told_refused_address;
    int64_t told_refused_ns;
    uint64_t told_fallback_errors;
    bool is_fallback_failed;
    struct span fallback;
};

struct tower_incidents {
    /* Constant after start. */
    struct tower_incidents_config config;
    struct tower_journal *journal;
    struct state *state; /* each field has its owner */
    int64_t tick_ns;
    uint64_t delay_samples;
    uint64_t position_samples;
    bool is_running;
};

static bool settle(void *user, struct tower_incident *incident);
static void look(void *user);

/* Anew, or where the process before left off. Whatever that left is taken for what it says, but may
 * not lead anywhere else. */
static void begin_state(struct tower_incidents *incidents) {
    bool is_carried;
    struct state *state = tower_journal_state(incidents->journal, &is_carried);
    incidents->state = state;
    if (!is_carried)
        state->told_refused_ns = INT64_MIN;
    for (unsigned i = 0; i < RUNS; i++) {
        if ((unsigned)state->runs[i].origin >= TOWER_ORIGIN_COUNT)
            state->runs[i].origin = TOWER_ORIGIN_SILENCE;
    }
    state->before = state->counts;
    /* The first frame tells of its origin, whatever it was before. */
    state->pump.has_origin = false;
    state->pump.is_withheld = false;
    state->pump.tick_at_ns = INT64_MIN;
    state->pump.written = 0;
    state->missed_notes = 0;
    state->skipped_seen_ns = INT64_MIN;
}

int tower_incidents_new(const struct tower_incidents_config *config,
                        struct tower_incidents **ret_incidents) {
    struct tower_incidents *incidents = calloc(1, sizeof *incidents);
    if (!incidents)
        return -ENOMEM;
    incidents->config = *config;
    incidents->tick_ns = tower_samples_to_ns(config->frame_samples, TOWER_RATE_HZ);
    struct tower_journal_config journal = {
        .clock = config->clock,
        .path = config->journal_path,
        .file_bytes = config->journal_bytes,
        .settle = settle,
        .look = look,
        .user = incidents,
        .carried_fd = config->carried_fd,
        .state_bytes = sizeof *incidents->state,
    };
    int error = tower_journal_new(&journal, &incidents->journal);
    if (error < 0) {
        free(incidents);
        return error;
    }
    begin_state(incidents);
    *ret_incidents = incidents;
    return 0;
}

void tower_incidents_free(struct tower_incidents *incidents) {
    if (!incidents)
        return;
    tower_journal_free(incidents->journal);
    free(incidents);
}

struct tower_journal *tower_incidents_journal(struct tower_incidents *incidents) {
    return incidents->journal;
}

static int64_t now_ns(const struct tower_incidents *incidents) {
    return tower_clock_now_ns(incidents->config.clock);
}

static void look_at_counts(struct tower_incidents *incidents) {
    const struct tower_incident_counts *before = &incidents->state->before;
    struct tower_incident_counts counts;
    incidents->config.get_counts(incidents->config.user, &counts);
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        counts.frames_by_origin[i] += before->frames_by_origin[i];
    counts.ticks_skipped += before->ticks_skipped;
    counts.listeners_lost += before->listeners_lost;
    counts.listeners_refused += before->listeners_refused;
    counts.listeners_refused_address += before->listeners_refused_address;
    counts.fallback_errors += before->fallback_errors;
    incidents->state->counts = counts;
}

int tower_incidents_start(struct tower_incidents *incidents, int64_t encoder_delay_ns,
                          uint64_t position_samples, bool is_first) {
    struct tower_incident incident;
    incidents->position_samples = position_samples;
    incidents->delay_samples =
        DECODER_DELAY_SAMPLES +
        (uint64_t)((encoder_delay_ns * TOWER_RATE_HZ + TOWER_NS_PER_S / 2) / TOWER_NS_PER_S);
    if (is_first) {
        incidents->state->started_ns = now_ns(incidents);
        tower_incident_init(&incident, TOWER_INCIDENT_STARTED, incidents->state->started_ns, 0,
                            "transmitter");
        tower_journal_add(incidents->journal, &incident);
    }
    int error = tower_journal_start(incidents->journal);
    incidents->is_running = error == 0;
    return error;
}

void tower_incidents_stop(struct tower_incidents *incidents, uint64_t air_frames) {
    struct tower_incident incident;
    int64_t at_ns = now_ns(incidents);
    if (!incidents->is_running)
        return;
    incidents->is_running = false;
    tower_incident_init(&incident, TOWER_INCIDENT_STOPPED, at_ns, air_frames, "transmitter");
    incident.duration_ns = at_ns - incidents->state->started_ns;
    tower_journal_add(incidents->journal, &incident);
    tower_journal_stop(incidents->journal);
}

/* ---- the pump's ---- */

/* The MP3 frame in which the sound of the pump's frame `written` begins. */
static uint64_t mp3_frame_of(const struct tower_incidents *incidents, uint64_t written) {
    return (incidents->position_samples + written * incidents->config.frame_samples +
            incidents->delay_samples) /
           TOWER_FRAME_SAMPLES;
}

void tower_incidents_note_tick(struct tower_incidents *incidents) {
    int64_t at_ns = now_ns(incidents), before_ns = incidents->state->pump.tick_at_ns;
    incidents->state->pump.tick_at_ns = at_ns;
    incidents->state->pump.is_withheld = false;
    if (before_ns == INT64_MIN || at_ns - before_ns < incidents->tick_ns + TOWER_INCIDENT_STALL_NS)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_STALLED, at_ns,
                        mp3_frame_of(incidents, incidents->state->pump.written), "pump");
    incident.duration_ns = at_ns - before_ns - incidents->tick_ns;
    tower_journal_add(incidents->journal, &incident);
}

void tower_incidents_note_withheld(struct tower_incidents *incidents) {
    incidents->state->pump.is_withheld = true;
}

void tower_incidents_note_written(struct tower_incidents *incidents, enum tower_origin origin) {
    if (!incidents->state->pump.has_origin || incidents->state->pump.origin != origin) {
        struct tower_incident note;
        tower_incident_init(&note, TOWER_INCIDENT_ORIGIN_CHANGED, incidents->state->pump.tick_at_ns,
                            mp3_frame_of(incidents, incidents->state->pump.written), "programme");
        note.count = (uint64_t)origin;
        tower_incident_set_cause(&note,
                                 incidents->state->pump.is_withheld ? "dead-air" : "no-audio");
        note.to_substitute_ns = now_ns(incidents) - incidents->state->pump.tick_at_ns;
        memcpy(note.frames, incidents->state->pump.totals, sizeof incidents->state->pump.totals);
        tower_journal_add(incidents->journal, &note);
        incidents->state->pump.origin = origin;
        incidents->state->pump.has_origin = true;
    }
    incidents->state->pump.written++;
    if ((unsigned)origin < TOWER_ORIGIN_COUNT)
        incidents->state->pump.totals[origin]++;
}

/* ---- the ingest thread's and the encoder's ---- */

void tower_incidents_note_input(struct tower_incidents *incidents,
                                const struct tower_input_event *event, uint64_t frame) {
    struct tower_incident incident;
    tower_incident_init(
        &incident, event->has_begun ? TOWER_INCIDENT_INPUT_FAULT : TOWER_INCIDENT_INPUT_FAULT_OVER,
        event->at_ns, frame, tower_input_fault_name(event->fault));
    (void)snprintf(incident.detail, sizeof incident.detail, "%s",
                   tower_input_fault_text(event->fault));
    incident.duration_ns = event->at_ns - event->since_ns;
    incident.count = (uint64_t)event->fault;
    tower_journal_add(incidents->journal, &incident);
}

void tower_incidents_note_producer(struct tower_incidents *incidents,
                                   const struct tower_producer_info *producer, bool is_on_air,
                                   uint64_t frame) {
    struct tower_incident incident;
    char subject[TOWER_INCIDENT_SUBJECT_BYTES];
    (void)snprintf(subject, sizeof subject, "producer %llu", (unsigned long long)producer->id);
    tower_incident_init(&incident,
                        is_on_air ? TOWER_INCIDENT_PRODUCER_CAME : TOWER_INCIDENT_PRODUCER_WENT,
                        now_ns(incidents), frame, subject);
    (void)snprintf(incident.detail, sizeof incident.detail,
                   is_on_air ? "process %ld" : "process %ld, %llu bytes", (long)producer->pid,
                   (unsigned long long)producer->bytes);
    tower_journal_add(incidents->journal, &incident);
}

void tower_incidents_note_encoder(struct tower_incidents *incidents,
                                  const struct tower_encoder_event *event) {
    struct tower_incident incident;
    bool is_lame = strcmp(event->cause, "lame") == 0;
    tower_incident_init(
        &incident, event->is_back ? TOWER_INCIDENT_ENCODER_BACK : TOWER_INCIDENT_ENCODER_FAILED,
        event->at_ns, event->frame,
        is_lame                                 ? "LAME"
        : strcmp(event->cause, "too-slow") == 0 ? "encoder"
                                                : "ffmpeg");
    tower_incident_set_cause(&incident, event->cause);
    if (!event->is_back)
        (void)snprintf(incident.detail, sizeof incident.detail, "%s", event->detail);
    incident.to_substitute_ns = event->to_substitute_ns;
    incident.duration_ns = event->duration_ns;
    incident.count = event->failures;
    incident.frames[TOWER_INCIDENT_SPARE] = event->frames_spare;
    incident.frames[TOWER_ORIGIN_REPAIR] = event->frames_repair;
    tower_journal_add(incidents->journal, &incident);
}

void tower_incidents_note_replaced(struct tower_incidents *incidents,
                                   const struct tower_incident_replacement *replacement,
                                   uint64_t frame) {
    struct tower_incident incident;
    bool is_keeper = replacement->kind == TOWER_INCIDENT_KEEPER_KILLED;
    tower_incident_init(&incident, replacement->kind, replacement->at_ns, frame,
                        is_keeper ? "keeper" : "worker");
    tower_incident_set_cause(&incident, replacement->cause);
    if (replacement->signal_number != 0)
        (void)snprintf(incident.detail, sizeof incident.detail, "signal %d",
                       replacement->signal_number);
    incident.to_substitute_ns = now_ns(incidents) - replacement->at_ns;
    incident.listeners_lost = replacement->listeners_lost;
    tower_journal_add(incidents->journal, &incident);
}

/* ---- on the journal's thread: how things stood ---- */

static void totals_at(const struct tower_incidents *incidents, int64_t at_ns,
                      uint64_t ret_totals[TOWER_ORIGIN_COUNT]) {
    const struct run *run = NULL, *next = NULL;
    uint64_t first = incidents->state->n_runs > RUNS ? incidents->state->n_runs - RUNS : 0;
    for (uint64_t i = incidents->state->n_runs; i > first; i--) {
        run = &incidents->state->runs[(i - 1) % RUNS];
        if (run->at_ns <= at_ns)
            break;
        next = run;
    }
    memset(ret_totals, 0, TOWER_ORIGIN_COUNT * sizeof *ret_totals);
    if (!run)
        return;
    memcpy(ret_totals, run->totals, sizeof run->totals);
    if (run->at_ns > at_ns)
        return;
    uint64_t frames =
        (uint64_t)((at_ns - run->at_ns + incidents->tick_ns - 1) / incidents->tick_ns);
    uint64_t most = next ? next->totals[run->origin] - run->totals[run->origin] : UINT64_MAX;
    ret_totals[run->origin] += frames < most ? frames : most;
}

/* Listeners lost up to `at_ns`, or a little before. */
static uint64_t lost_at(const struct tower_incidents *incidents, int64_t at_ns) {
    uint64_t first =
        incidents->state->n_samples > SAMPLES ? incidents->state->n_samples - SAMPLES : 0;
    uint64_t lost = 0;
    for (uint64_t i = incidents->state->n_samples; i > first; i--) {
        lost = incidents->state->samples[(i - 1) % SAMPLES].lost;
        if (incidents->state->samples[(i - 1) % SAMPLES].at_ns <= at_ns)
            break;
    }
    return lost;
}

static void open_span(const struct tower_incidents *incidents, int64_t since_ns,
                      struct span *ret_span) {
    ret_span->since_ns = since_ns;
    totals_at(incidents, since_ns, ret_span->totals);
    ret_span->ticks_skipped = incidents->state->counts.ticks_skipped;
    ret_span->listeners_lost = lost_at(incidents, since_ns);
}

/* What stood in since the span began, up to when there were `totals`. */
static void fill_frames(const struct span *span, const uint64_t totals[TOWER_ORIGIN_COUNT],
                        struct tower_incident *incident) {
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        incident->frames[i] = totals[i] - span->totals[i];
    incident->frames[TOWER_ORIGIN_LIVE] = 0;
}

static void fill_losses(const struct tower_incidents *incidents, const struct span *span,
                        struct tower_incident *incident) {
    incident->frames_missed = incidents->state->counts.ticks_skipped - span->ticks_skipped;
    incident->listeners_lost = incidents->state->counts.listeners_lost - span->listeners_lost;
}

/* ---- on the journal's thread: notes ---- */

static void lose_programme(struct tower_incidents *incidents, const struct tower_incident *note) {
    struct tower_incident incident;
    incidents->state->outage.is_open = true;
    incidents->state->outage.to_substitute_ns = note->to_substitute_ns;
    incidents->state->outage.back_ns = INT64_MIN;
    open_span(incidents, note->at_ns, &incidents->state->outage.span);
    tower_incident_init(&incident, TOWER_INCIDENT_PROGRAMME_LOST, note->at_ns, note->frame,
                        "programme");
    tower_incident_set_cause(&incident, note->cause);
    (void)snprintf(incident.detail, sizeof incident.detail, "%s",
                   strcmp(note->cause, "dead-air") == 0 ? "dead air is withheld"
                                                        : "no audio is queued");
    incident.to_substitute_ns = note->to_substitute_ns;
    if (note->count < TOWER_ORIGIN_COUNT)
        incident.frames[note->count] = 1;
    fill_losses(incidents, &incidents->state->outage.span, &incident);
    tower_journal_record(incidents->journal, &incident);
}

static void change_origin(struct tower_incidents *incidents, const struct tower_incident *note) {
    bool is_live = note->count == TOWER_ORIGIN_LIVE;
    bool was_live = note->frames[TOWER_ORIGIN_LIVE] > 0;
    struct run *run = &incidents->state->runs[incidents->state->n_runs++ % RUNS];
    run->at_ns = note->at_ns;
    run->origin = (enum tower_origin)note->count;
    memcpy(run->totals, note->frames, sizeof run->totals);
    /* What is on air before the first programme stands in for none. */
    if (!incidents->state->outage.is_open && !is_live && was_live) {
        lose_programme(incidents, note);
    } else if (incidents->state->outage.is_open && is_live) {
        incidents->state->outage.back_ns = note->at_ns;
        incidents->state->outage.back_frame = note->frame;
        memcpy(incidents->state->outage.back_totals, note->frames, sizeof run->totals);
    } else if (incidents->state->outage.is_open) {
        incidents->state->outage.back_ns = INT64_MIN;
    }
}

static void end_outage(struct tower_incidents *incidents) {
    struct tower_incident incident;
    int64_t back_ns = incidents->state->outage.back_ns;
    tower_incident_init(&incident, TOWER_INCIDENT_PROGRAMME_BACK, back_ns,
                        incidents->state->outage.back_frame, "programme");
    incident.duration_ns = back_ns - incidents->state->outage.span.since_ns;
    fill_frames(&incidents->state->outage.span, incidents->state->outage.back_totals, &incident);
    fill_losses(incidents, &incidents->state->outage.span, &incident);
    incidents->state->outage.is_open = false;
    tower_journal_record(incidents->journal, &incident);
}

static void settle_input(struct tower_incidents *incidents, struct tower_incident *incident) {
    uint64_t totals[TOWER_ORIGIN_COUNT];
    struct span *span = &incidents->state->faults[incident->count % TOWER_INPUT_FAULT_COUNT];
    bool has_begun = incident->kind == TOWER_INCIDENT_INPUT_FAULT;
    incident->count = 0;
    if (has_begun)
        open_span(incidents, incident->at_ns - incident->duration_ns, span);
    totals_at(incidents, incident->at_ns, totals);
    fill_frames(span, totals, incident);
    fill_losses(incidents, span, incident);
    if (!has_begun || !incidents->state->outage.is_open)
        return;
    /* What was queued was heard to its end before a substitute was called for. */
    int64_t after_ns = incidents->state->outage.span.since_ns - span->since_ns;
    incident->to_substitute_ns =
        (after_ns > 0 ? after_ns : 0) + incidents->state->outage.to_substitute_ns;
}

static bool settle(void *user, struct tower_incident *incident) {
    struct tower_incidents *incidents = user;
    look_at_counts(incidents);
    switch (incident->kind) {
    case TOWER_INCIDENT_ORIGIN_CHANGED:
        change_origin(incidents, incident);
        return false;
    case TOWER_INCIDENT_INPUT_FAULT:
    case TOWER_INCIDENT_INPUT_FAULT_OVER:
        settle_input(incidents, incident);
        break;
    case TOWER_INCIDENT_ENCODER_FAILED:
        open_span(incidents, incident->at_ns, &incidents->state->encoder);
        fill_losses(incidents, &incidents->state->encoder, incident);
        break;
    case TOWER_INCIDENT_ENCODER_BACK:
        fill_losses(incidents, &incidents->state->encoder, incident);
        break;
    case TOWER_INCIDENT_WORKER_KILLED:
    case TOWER_INCIDENT_WORKER_STALLED:
    case TOWER_INCIDENT_RELOADED:
    case TOWER_INCIDENT_UPGRADED:
    case TOWER_INCIDENT_KEEPER_KILLED:
        incident->frames_missed =
            incidents->state->counts.ticks_skipped - incidents->state->told_skipped;
        incidents->state->told_skipped = incidents->state->counts.ticks_skipped;
        break;
    case TOWER_INCIDENT_STALLED:
        incident->frames_missed =
            incidents->state->counts.ticks_skipped - incidents->state->told_skipped;
        incident->listeners_lost = incidents->state->counts.listeners_lost -
                                   lost_at(incidents, incident->at_ns - incident->duration_ns);
        incidents->state->told_skipped = incidents->state->counts.ticks_skipped;
        break;
    case TOWER_INCIDENT_STOPPED:
        memcpy(incident->frames, incidents->state->counts.frames_by_origin,
               sizeof incidents->state->counts.frames_by_origin);
        incident->frames_missed = incidents->state->counts.ticks_skipped;
        incident->listeners_lost = incidents->state->counts.listeners_lost;
        break;
    default:
        break;
    }
    return true;
}

/* ---- on the journal's thread: what is looked at now and then ---- */

static void look_at_refused(struct tower_incidents *incidents, int64_t at_ns) {
    uint64_t places = incidents->state->counts.listeners_refused - incidents->state->told_refused;
    uint64_t address =
        incidents->state->counts.listeners_refused_address - incidents->state->told_refused_address;
    if (places + address == 0 ||
        (incidents->state->told_refused_ns != INT64_MIN &&
         at_ns - incidents->state->told_refused_ns < TOWER_INCIDENT_REFUSED_NS))
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_LISTENERS_REFUSED, at_ns,
                        incidents->state->counts.air_frames, "listeners");
    tower_incident_set_cause(&incident, places > 0 ? "places" : "address");
    incident.count = places + address;
    (void)snprintf(incident.detail, sizeof incident.detail,
                   "%llu for want of a place, %llu as too many from their address",
                   (unsigned long long)places, (unsigned long long)address);
    incidents->state->told_refused += places;
    incidents->state->told_refused_address += address;
    incidents->state->told_refused_ns = at_ns;
    tower_journal_record(incidents->journal, &incident);
}

/* A stall has a note of its own, which comes a moment later than the counter; ticks that were each
 * a little late until too much was missed have none. */
static void look_at_skipped(struct tower_incidents *incidents, int64_t at_ns) {
    uint64_t missed = incidents->state->counts.ticks_skipped - incidents->state->told_skipped;
    if (missed == 0) {
        incidents->state->skipped_seen_ns = INT64_MIN;
        return;
    }
    if (incidents->state->skipped_seen_ns == INT64_MIN)
        incidents->state->skipped_seen_ns = at_ns;
    if (at_ns - incidents->state->skipped_seen_ns < TOWER_NS_PER_S)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_STALLED, incidents->state->skipped_seen_ns,
                        incidents->state->counts.air_frames, "pump");
    incident.duration_ns = (int64_t)missed * incidents->tick_ns;
    incident.frames_missed = missed;
    incident.listeners_lost = incidents->state->counts.listeners_lost -
                              lost_at(incidents, incidents->state->skipped_seen_ns);
    (void)snprintf(incident.detail, sizeof incident.detail, "one tick after the other was late");
    incidents->state->told_skipped += missed;
    tower_journal_record(incidents->journal, &incident);
}

static void look_at_fallback(struct tower_incidents *incidents, int64_t at_ns) {
    const struct tower_incident_counts *counts = &incidents->state->counts;
    bool is_ready = counts->is_fallback_ready;
    bool has_new_error = counts->fallback_errors != incidents->state->told_fallback_errors;
    if (incidents->state->is_fallback_failed ? !is_ready : is_ready || !has_new_error)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident,
                        incidents->state->is_fallback_failed ? TOWER_INCIDENT_FALLBACK_BACK
                                                             : TOWER_INCIDENT_FALLBACK_FAILED,
                        at_ns, counts->air_frames, "fallback");
    (void)snprintf(incident.detail, sizeof incident.detail, "%s", incidents->config.fallback_path);
    if (incidents->state->is_fallback_failed) {
        incident.duration_ns = at_ns - incidents->state->fallback.since_ns;
        fill_losses(incidents, &incidents->state->fallback, &incident);
    } else {
        open_span(incidents, at_ns, &incidents->state->fallback);
    }
    incidents->state->is_fallback_failed = !incidents->state->is_fallback_failed;
    incidents->state->told_fallback_errors = counts->fallback_errors;
    tower_journal_record(incidents->journal, &incident);
}

static void sample_lost(struct tower_incidents *incidents, int64_t at_ns) {
    const struct lost_sample *last =
        &incidents->state->samples[(incidents->state->n_samples + SAMPLES - 1) % SAMPLES];
    if (incidents->state->n_samples > 0 && at_ns - last->at_ns < TOWER_NS_PER_S)
        return;
    incidents->state->samples[incidents->state->n_samples++ % SAMPLES] =
        (struct lost_sample){at_ns, incidents->state->counts.listeners_lost};
}

/* Notes were lost, which happens behind a disk that hangs: the last may have been that the
 * programme is back. Then the pump's own counters have to do; they are a little off. */
static void make_up_for_missed_notes(struct tower_incidents *incidents) {
    const struct tower_incident_counts *counts = &incidents->state->counts;
    struct tower_journal_stats stats;
    tower_journal_get_stats(incidents->journal, &stats);
    if (stats.submissions_lost == incidents->state->missed_notes || incidents->state->n_runs == 0)
        return;
    incidents->state->missed_notes = stats.submissions_lost;
    if (incidents->state->runs[(incidents->state->n_runs - 1) % RUNS].origin == counts->origin)
        return;
    struct tower_incident note;
    tower_incident_init(&note, TOWER_INCIDENT_ORIGIN_CHANGED, counts->origin_since_ns,
                        counts->air_frames, "programme");
    note.count = (uint64_t)counts->origin;
    tower_incident_set_cause(&note, "no-audio");
    memcpy(note.frames, counts->frames_by_origin, sizeof counts->frames_by_origin);
    change_origin(incidents, &note);
}

static void look(void *user) {
    struct tower_incidents *incidents = user;
    int64_t at_ns = now_ns(incidents);
    look_at_counts(incidents);
    make_up_for_missed_notes(incidents);
    sample_lost(incidents, at_ns);
    if (incidents->state->outage.is_open && incidents->state->outage.back_ns != INT64_MIN &&
        at_ns - incidents->state->outage.back_ns >= TOWER_INCIDENT_RETURN_NS)
        end_outage(incidents);
    look_at_skipped(incidents, at_ns);
    look_at_refused(incidents, at_ns);
    look_at_fallback(incidents, at_ns);
}
