/* incidents.c - notes in, incidents out. */
#include "incidents_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What every Layer III decoder delays by. */
#define DECODER_DELAY_SAMPLES 529
/* The first may have old counts, the second is behind all that was queued by then. */
#define DOUBTFUL_LOOKS 3

static bool settle(void *user, struct tower_incident *incident);
static void look(void *user);

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
    };
    int error = tower_journal_new(&journal, &incidents->journal);
    if (error < 0) {
        free(incidents);
        return error;
    }
    incidents->pump.tick_at_ns = INT64_MIN;
    incidents->state.told_refused_ns = INT64_MIN;
    incidents->skipped_seen_ns = INT64_MIN;
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

int tower_incidents_start(struct tower_incidents *incidents, int64_t encoder_delay_ns,
                          uint64_t position_samples, bool is_first) {
    struct tower_incident incident;
    incidents->begun_ns = now_ns(incidents);
    incidents->position_samples = position_samples;
    incidents->delay_samples =
        DECODER_DELAY_SAMPLES +
        (uint64_t)((encoder_delay_ns * TOWER_RATE_HZ + TOWER_NS_PER_S / 2) / TOWER_NS_PER_S);
    if (is_first) {
        incidents->state.started_ns = incidents->begun_ns;
        tower_incident_init(&incident, TOWER_INCIDENT_STARTED, incidents->begun_ns, 0,
                            "transmitter");
        tower_journal_add(incidents->journal, &incident);
    } else {
        tower_incidents_go_on(incidents);
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
    incident.duration_ns = at_ns - incidents->state.started_ns;
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
    int64_t at_ns = now_ns(incidents), before_ns = incidents->pump.tick_at_ns;
    incidents->pump.tick_at_ns = at_ns;
    incidents->pump.is_withheld = false;
    if (before_ns == INT64_MIN || at_ns - before_ns < incidents->tick_ns + TOWER_INCIDENT_STALL_NS)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_STALLED, at_ns,
                        mp3_frame_of(incidents, incidents->pump.written), "pump");
    incident.duration_ns = at_ns - before_ns - incidents->tick_ns;
    tower_journal_add(incidents->journal, &incident);
}

void tower_incidents_note_withheld(struct tower_incidents *incidents) {
    incidents->pump.is_withheld = true;
}

void tower_incidents_note_written(struct tower_incidents *incidents, enum tower_origin origin) {
    /* The first may be of a tick that another process had begun. */
    if (incidents->pump.tick_at_ns == INT64_MIN)
        incidents->pump.tick_at_ns = now_ns(incidents);
    if (!incidents->pump.has_origin || incidents->pump.origin != origin) {
        struct tower_incident note;
        tower_incident_init(&note, TOWER_INCIDENT_ORIGIN_CHANGED, incidents->pump.tick_at_ns,
                            mp3_frame_of(incidents, incidents->pump.written), "programme");
        note.count = (uint64_t)origin;
        tower_incident_set_cause(&note, incidents->pump.is_withheld ? "dead-air" : "no-audio");
        note.to_substitute_ns = now_ns(incidents) - incidents->pump.tick_at_ns;
        memcpy(note.frames, incidents->pump.totals, sizeof incidents->pump.totals);
        tower_journal_add(incidents->journal, &note);
        incidents->pump.origin = origin;
        incidents->pump.has_origin = true;
    }
    incidents->pump.written++;
    if ((unsigned)origin < TOWER_ORIGIN_COUNT)
        incidents->pump.totals[origin]++;
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
    char subject[TOWER_PRODUCER_NAME_BYTES + 48];
    const char *name = producer->identity.name;
    (void)snprintf(subject, sizeof subject, *name ? "%s (producer %llu)" : "%sproducer %llu", name,
                   (unsigned long long)producer->id);
    tower_incident_init(&incident,
                        is_on_air ? TOWER_INCIDENT_PRODUCER_CAME : TOWER_INCIDENT_PRODUCER_WENT,
                        now_ns(incidents), frame, subject);
    if (is_on_air && producer->is_chosen)
        tower_incident_set_cause(&incident, "by-hand");
    else if (is_on_air && producer->has_taken_over)
        tower_incident_set_cause(&incident, "by-rank");
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
    tower_incident_init(&incident, replacement->kind, replacement->at_ns, frame,
                        replacement->subject);
    tower_incident_set_cause(&incident, replacement->cause);
    tower_incident_set_detail(&incident, replacement->detail);
    incident.duration_ns = incident.to_substitute_ns = now_ns(incidents) - replacement->silent_ns;
    incident.listeners_lost = replacement->listeners_lost;
    incident.count = replacement->generation;
    tower_journal_add(incidents->journal, &incident);
}

/* ---- on the journal's thread: how things stood ---- */

static void totals_at(const struct tower_incidents *incidents, int64_t at_ns,
                      uint64_t ret_totals[TOWER_ORIGIN_COUNT]) {
    const struct tower_incidents_run *run = NULL, *next = NULL;
    uint64_t first = incidents->state.n_runs > TOWER_INCIDENTS_RUNS
                         ? incidents->state.n_runs - TOWER_INCIDENTS_RUNS
                         : 0;
    for (uint64_t i = incidents->state.n_runs; i > first; i--) {
        run = &incidents->state.runs[(i - 1) % TOWER_INCIDENTS_RUNS];
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
    uint64_t first = incidents->state.n_samples > TOWER_INCIDENTS_SAMPLES
                         ? incidents->state.n_samples - TOWER_INCIDENTS_SAMPLES
                         : 0;
    uint64_t lost = 0;
    for (uint64_t i = incidents->state.n_samples; i > first; i--) {
        lost = incidents->state.samples[(i - 1) % TOWER_INCIDENTS_SAMPLES].lost;
        if (incidents->state.samples[(i - 1) % TOWER_INCIDENTS_SAMPLES].at_ns <= at_ns)
            break;
    }
    return lost;
}

static void open_span(const struct tower_incidents *incidents, int64_t since_ns,
                      struct tower_incidents_span *ret_span) {
    ret_span->since_ns = since_ns;
    totals_at(incidents, since_ns, ret_span->totals);
    ret_span->ticks_skipped = incidents->state.counts.ticks_skipped;
    ret_span->listeners_lost = lost_at(incidents, since_ns);
}

/* What stood in since the span began, up to when there were `totals`. */
static void fill_frames(const struct tower_incidents_span *span,
                        const uint64_t totals[TOWER_ORIGIN_COUNT],
                        struct tower_incident *incident) {
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        incident->frames[i] = tower_incidents_minus(totals[i], span->totals[i]);
    incident->frames[TOWER_ORIGIN_LIVE] = 0;
}

static void fill_losses(const struct tower_incidents *incidents,
                        const struct tower_incidents_span *span, struct tower_incident *incident) {
    incident->frames_missed =
        tower_incidents_minus(incidents->state.counts.ticks_skipped, span->ticks_skipped);
    incident->listeners_lost =
        tower_incidents_minus(incidents->state.counts.listeners_lost, span->listeners_lost);
}

/* ---- on the journal's thread: notes ---- */

static void lose_programme(struct tower_incidents *incidents, const struct tower_incident *note) {
    struct tower_incident incident;
    incidents->state.outage.is_open = 1;
    incidents->state.outage.to_substitute_ns = note->to_substitute_ns;
    incidents->state.outage.back_ns = INT64_MIN;
    open_span(incidents, note->at_ns, &incidents->state.outage.span);
    tower_incident_init(&incident, TOWER_INCIDENT_PROGRAMME_LOST, note->at_ns, note->frame,
                        "programme");
    tower_incident_set_cause(&incident, note->cause);
    (void)snprintf(incident.detail, sizeof incident.detail, "%s",
                   strcmp(note->cause, "dead-air") == 0 ? "dead air is withheld"
                                                        : "no audio is queued");
    incident.to_substitute_ns = note->to_substitute_ns;
    if (note->count < TOWER_ORIGIN_COUNT)
        incident.frames[note->count] = 1;
    fill_losses(incidents, &incidents->state.outage.span, &incident);
    tower_journal_record(incidents->journal, &incident);
}

static void change_origin(struct tower_incidents *incidents, const struct tower_incident *note) {
    bool is_live = note->count == TOWER_ORIGIN_LIVE;
    bool was_live = note->frames[TOWER_ORIGIN_LIVE] > 0;
    struct tower_incidents_run *run =
        &incidents->state.runs[incidents->state.n_runs++ % TOWER_INCIDENTS_RUNS];
    run->at_ns = note->at_ns;
    run->origin = (enum tower_origin)note->count;
    memcpy(run->totals, note->frames, sizeof run->totals);
    /* What is on air before the first programme stands in for none. */
    if (!incidents->state.outage.is_open && !is_live && was_live) {
        lose_programme(incidents, note);
    } else if (incidents->state.outage.is_open && is_live) {
        incidents->state.outage.back_ns = note->at_ns;
        incidents->state.outage.back_frame = note->frame;
        memcpy(incidents->state.outage.back_totals, note->frames, sizeof run->totals);
    } else if (incidents->state.outage.is_open) {
        incidents->state.outage.back_ns = INT64_MIN;
    }
}

static void end_outage(struct tower_incidents *incidents) {
    struct tower_incident incident;
    int64_t back_ns = incidents->state.outage.back_ns;
    tower_incident_init(&incident, TOWER_INCIDENT_PROGRAMME_BACK, back_ns,
                        incidents->state.outage.back_frame, "programme");
    incident.duration_ns = back_ns - incidents->state.outage.span.since_ns;
    fill_frames(&incidents->state.outage.span, incidents->state.outage.back_totals, &incident);
    fill_losses(incidents, &incidents->state.outage.span, &incident);
    incidents->state.outage.is_open = 0;
    tower_journal_record(incidents->journal, &incident);
}

/* False: it was told already, by another process. */
static bool settle_input(struct tower_incidents *incidents, struct tower_incident *incident) {
    uint64_t totals[TOWER_ORIGIN_COUNT];
    unsigned fault = (unsigned)(incident->count % TOWER_INPUT_FAULT_COUNT);
    struct tower_incidents_span *span = &incidents->state.faults[fault];
    bool has_begun = incident->kind == TOWER_INCIDENT_INPUT_FAULT;
    bool is_left = incidents->is_fault_left[fault];
    incidents->is_fault_left[fault] = false;
    incidents->state.is_fault_told[fault] = has_begun;
    incident->count = 0;
    if (has_begun && is_left)
        return false;
    if (!has_begun)
        incident->duration_ns = incident->at_ns - span->since_ns;
    else
        open_span(incidents, incident->at_ns - incident->duration_ns, span);
    totals_at(incidents, incident->at_ns, totals);
    fill_frames(span, totals, incident);
    fill_losses(incidents, span, incident);
    if (!has_begun || !incidents->state.outage.is_open)
        return true;
    /* What was queued was heard to its end before a substitute was called for. */
    int64_t after_ns = incidents->state.outage.span.since_ns - span->since_ns;
    incident->to_substitute_ns =
        (after_ns > 0 ? after_ns : 0) + incidents->state.outage.to_substitute_ns;
    return true;
}

/* A process that died at once had no time to tell of the one before it. */
static void settle_replacement(struct tower_incidents *incidents, struct tower_incident *incident) {
    struct tower_incidents_state *state = &incidents->state;
    uint64_t untold = tower_incidents_minus(incident->count, state->told_generation);
    if (untold > 0 || state->told_generation == UINT64_MAX)
        state->told_generation = incident->count;
    incident->count = untold > 1 ? untold : 1;
    incident->frames_missed =
        tower_incidents_minus(state->counts.ticks_skipped, state->told_skipped);
    state->told_skipped = state->counts.ticks_skipped;
}

static bool settle(void *user, struct tower_incident *incident) {
    struct tower_incidents *incidents = user;
    tower_incidents_look_at_counts(incidents);
    switch (incident->kind) {
    case TOWER_INCIDENT_ORIGIN_CHANGED:
        change_origin(incidents, incident);
        return false;
    case TOWER_INCIDENT_INPUT_FAULT:
    case TOWER_INCIDENT_INPUT_FAULT_OVER:
        return settle_input(incidents, incident);
    case TOWER_INCIDENT_ENCODER_FAILED:
        open_span(incidents, incident->at_ns, &incidents->state.encoder);
        fill_losses(incidents, &incidents->state.encoder, incident);
        break;
    case TOWER_INCIDENT_ENCODER_BACK:
        fill_losses(incidents, &incidents->state.encoder, incident);
        break;
    case TOWER_INCIDENT_WORKER_KILLED:
    case TOWER_INCIDENT_WORKER_STALLED:
    case TOWER_INCIDENT_RELOADED:
    case TOWER_INCIDENT_UPGRADED:
    case TOWER_INCIDENT_KEEPER_KILLED:
        settle_replacement(incidents, incident);
        break;
    case TOWER_INCIDENT_STALLED:
        incident->frames_missed = tower_incidents_minus(incidents->state.counts.ticks_skipped,
                                                        incidents->state.told_skipped);
        incident->listeners_lost = incidents->state.counts.listeners_lost -
                                   lost_at(incidents, incident->at_ns - incident->duration_ns);
        incidents->state.told_skipped = incidents->state.counts.ticks_skipped;
        break;
    case TOWER_INCIDENT_STOPPED:
        memcpy(incident->frames, incidents->state.counts.frames_by_origin,
               sizeof incidents->state.counts.frames_by_origin);
        incident->frames_missed = incidents->state.counts.ticks_skipped;
        incident->listeners_lost = incidents->state.counts.listeners_lost;
        break;
    default:
        break;
    }
    return true;
}

/* ---- on the journal's thread: what is looked at now and then ---- */

static void look_at_refused(struct tower_incidents *incidents, int64_t at_ns) {
    uint64_t places = tower_incidents_minus(incidents->state.counts.listeners_refused,
                                            incidents->state.told_refused);
    uint64_t address = tower_incidents_minus(incidents->state.counts.listeners_refused_address,
                                             incidents->state.told_refused_address);
    if (places + address == 0 ||
        (incidents->state.told_refused_ns != INT64_MIN &&
         at_ns - incidents->state.told_refused_ns < TOWER_INCIDENT_REFUSED_NS))
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_LISTENERS_REFUSED, at_ns,
                        incidents->state.counts.air_frames, "listeners");
    tower_incident_set_cause(&incident, places > 0 ? "places" : "address");
    incident.count = places + address;
    (void)snprintf(incident.detail, sizeof incident.detail,
                   "%llu for want of a place, %llu as too many from their address",
                   (unsigned long long)places, (unsigned long long)address);
    incidents->state.told_refused += places;
    incidents->state.told_refused_address += address;
    incidents->state.told_refused_ns = at_ns;
    tower_journal_record(incidents->journal, &incident);
}

/* A stall has a note of its own, which comes a moment later than the counter; ticks that were each
 * a little late until too much was missed have none. */
static void look_at_skipped(struct tower_incidents *incidents, int64_t at_ns) {
    uint64_t missed =
        tower_incidents_minus(incidents->state.counts.ticks_skipped, incidents->state.told_skipped);
    if (missed == 0) {
        incidents->skipped_seen_ns = INT64_MIN;
        return;
    }
    if (incidents->skipped_seen_ns == INT64_MIN)
        incidents->skipped_seen_ns = at_ns;
    if (at_ns - incidents->skipped_seen_ns < TOWER_NS_PER_S)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident, TOWER_INCIDENT_STALLED, incidents->skipped_seen_ns,
                        incidents->state.counts.air_frames, "pump");
    incident.duration_ns = (int64_t)missed * incidents->tick_ns;
    incident.frames_missed = missed;
    incident.listeners_lost =
        incidents->state.counts.listeners_lost - lost_at(incidents, incidents->skipped_seen_ns);
    (void)snprintf(incident.detail, sizeof incident.detail, "one tick after the other was late");
    incidents->state.told_skipped += missed;
    tower_journal_record(incidents->journal, &incident);
}

static void look_at_fallback(struct tower_incidents *incidents, int64_t at_ns) {
    const struct tower_incident_counts *counts = &incidents->state.counts;
    bool is_ready = counts->is_fallback_ready;
    bool has_new_error = counts->fallback_errors != incidents->state.told_fallback_errors;
    if (incidents->state.is_fallback_failed ? !is_ready : is_ready || !has_new_error)
        return;
    struct tower_incident incident;
    tower_incident_init(&incident,
                        incidents->state.is_fallback_failed ? TOWER_INCIDENT_FALLBACK_BACK
                                                            : TOWER_INCIDENT_FALLBACK_FAILED,
                        at_ns, counts->air_frames, "fallback");
    (void)snprintf(incident.detail, sizeof incident.detail, "%s", incidents->config.fallback_path);
    if (incidents->state.is_fallback_failed) {
        incident.duration_ns = at_ns - incidents->state.fallback.since_ns;
        fill_losses(incidents, &incidents->state.fallback, &incident);
    } else {
        open_span(incidents, at_ns, &incidents->state.fallback);
    }
    incidents->state.is_fallback_failed = incidents->state.is_fallback_failed == 0;
    incidents->state.told_fallback_errors = counts->fallback_errors;
    tower_journal_record(incidents->journal, &incident);
}

/* Faults that another process saw begin, and this one has had the time to see: they ended while
 * nobody looked. */
static void look_at_left_faults(struct tower_incidents *incidents, int64_t at_ns) {
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++) {
        int64_t seen_within_ns = TOWER_INCIDENT_FAULT_NS;
        if (i == TOWER_INPUT_DEAD_AIR)
            seen_within_ns += incidents->config.dead_air_after_ns;
        if (!incidents->is_fault_left[i] || at_ns - incidents->begun_ns < seen_within_ns)
            continue;
        struct tower_incident incident;
        tower_incident_init(&incident, TOWER_INCIDENT_INPUT_FAULT_OVER, incidents->begun_ns,
                            incidents->position_samples / TOWER_FRAME_SAMPLES,
                            tower_input_fault_name((enum tower_input_fault)i));
        tower_incident_set_detail(&incident, tower_input_fault_text((enum tower_input_fault)i));
        incident.count = i;
        if (settle_input(incidents, &incident))
            tower_journal_record(incidents->journal, &incident);
    }
}

static void look_at_keeper(struct tower_incidents *incidents, int64_t at_ns) {
    const struct tower_incident_counts *counts = &incidents->state.counts;
    struct tower_incident incident;
    if (counts->lost_state > incidents->state.told_lost_state) {
        tower_incident_init(&incident, TOWER_INCIDENT_STATE_LOST, at_ns, counts->air_frames,
                            "worker");
        tower_incident_set_detail(&incident, "workers in a row died before they served");
        incident.count = counts->lost_state - incidents->state.told_lost_state;
        incidents->state.told_lost_state = counts->lost_state;
        tower_journal_record(incidents->journal, &incident);
    }
    if (counts->requests <= incidents->state.told_requests)
        return;
    incidents->state.told_requests = counts->requests;
    if (*counts->request_error == '\0')
        return;
    bool is_upgrade = counts->is_request_upgrade;
    tower_incident_init(&incident,
                        is_upgrade ? TOWER_INCIDENT_UPGRADE_REFUSED : TOWER_INCIDENT_RELOAD_REFUSED,
                        at_ns, counts->air_frames, is_upgrade ? "program" : "settings");
    tower_incident_set_cause(&incident, "refused");
    tower_incident_set_detail(&incident, counts->request_error);
    tower_journal_record(incidents->journal, &incident);
}

static void sample_lost(struct tower_incidents *incidents, int64_t at_ns) {
    const struct tower_incidents_lost_sample *last =
        &incidents->state.samples[(incidents->state.n_samples + TOWER_INCIDENTS_SAMPLES - 1) %
                                  TOWER_INCIDENTS_SAMPLES];
    if (incidents->state.n_samples > 0 && at_ns - last->at_ns < TOWER_NS_PER_S)
        return;
    incidents->state.samples[incidents->state.n_samples++ % TOWER_INCIDENTS_SAMPLES] =
        (struct tower_incidents_lost_sample){at_ns, incidents->state.counts.listeners_lost};
}

/* Notes were lost, which happens behind a disk that hangs: the last may have been that the
 * programme is back. Then the pump's own counters have to do; they are a little off. They were read
 * a moment ago, and notes from before the loss may still be queued: so it is looked at again. */
static void make_up_for_missed_notes(struct tower_incidents *incidents) {
    const struct tower_incident_counts *counts = &incidents->state.counts;
    struct tower_journal_stats stats;
    tower_journal_get_stats(incidents->journal, &stats);
    if (stats.submissions_lost != incidents->missed_notes)
        incidents->doubtful_looks = DOUBTFUL_LOOKS;
    incidents->missed_notes = stats.submissions_lost;
    if (incidents->doubtful_looks == 0 || incidents->state.n_runs == 0)
        return;
    incidents->doubtful_looks--;
    if (incidents->state.runs[(incidents->state.n_runs - 1) % TOWER_INCIDENTS_RUNS].origin ==
        counts->origin)
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
    tower_incidents_look_at_counts(incidents);
    make_up_for_missed_notes(incidents);
    sample_lost(incidents, at_ns);
    if (incidents->state.outage.is_open && incidents->state.outage.back_ns != INT64_MIN &&
        at_ns - incidents->state.outage.back_ns >= TOWER_INCIDENT_RETURN_NS)
        end_outage(incidents);
    look_at_skipped(incidents, at_ns);
    look_at_refused(incidents, at_ns);
    look_at_fallback(incidents, at_ns);
    look_at_left_faults(incidents, at_ns);
    look_at_keeper(incidents, at_ns);
    tower_journal_save_state(incidents->journal, &incidents->state, sizeof incidents->state);
}
