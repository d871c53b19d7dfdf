/* What is noted by the parts, as the journal has it. On a virtual clock, with the real journal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "incidents_state.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_NS INT64_C(24000000)

static struct {
    struct tower_clock *clock;
    struct tower_incidents *incidents;
    struct tower_journal *journal;
    uint64_t n_read;
    /* Counters of the other parts: what the pump gave is counted here, too. */
    _Atomic uint64_t frames[TOWER_ORIGIN_COUNT];
    _Atomic uint64_t ticks_skipped, lost, refused, refused_address, fallback_errors;
    _Atomic bool is_fallback_ready;
    _Atomic int origin;
    _Atomic int64_t origin_since_ns;
    _Atomic bool is_hanging;   /* the journal's thread */
    _Atomic bool is_preempted; /* the same, with counts that get old meanwhile */
    _Atomic bool has_counts;   /* it is */
    _Atomic uint64_t requests, lost_state;
    _Atomic bool is_request_upgrade;
    char request_error[64]; /* written before `requests` */
} fixture;

static void get_counts(void *user, struct tower_incident_counts *ret_counts) {
    (void)user;
    while (fixture.is_hanging)
        sched_yield();
    *ret_counts = (struct tower_incident_counts){
        .origin = (enum tower_origin)fixture.origin,
        .origin_since_ns = fixture.origin_since_ns,
        .air_frames = 4242,
        .ticks_skipped = fixture.ticks_skipped,
        .listeners_lost = fixture.lost,
        .listeners_refused = fixture.refused,
        .listeners_refused_address = fixture.refused_address,
        .fallback_errors = fixture.fallback_errors,
        .is_fallback_ready = fixture.is_fallback_ready,
    };
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        ret_counts->frames_by_origin[i] = fixture.frames[i];
    ret_counts->is_request_upgrade = fixture.is_request_upgrade;
    ret_counts->lost_state = fixture.lost_state;
    ret_counts->requests = fixture.requests;
    while (fixture.is_preempted) {
        fixture.has_counts = true;
        sched_yield();
    }
    if (ret_counts->requests > 0)
        memcpy(ret_counts->request_error, fixture.request_error, sizeof fixture.request_error);
}

static int make(int carried_fd) {
    struct tower_incidents_config config = {
        .clock = fixture.clock,
        .frame_samples = 1152,
        .dead_air_after_ns = 10 * TOWER_NS_PER_S,
        .fallback_path = "/music/loop.wav",
        .journal_path = "",
        .carried_fd = carried_fd,
        .get_counts = get_counts,
    };
    if (tower_incidents_new(&config, &fixture.incidents) < 0)
        return -1;
    fixture.journal = tower_incidents_journal(fixture.incidents);
    return tower_incidents_start(fixture.incidents, 0, 0, carried_fd < 0);
}

static int setup(void **state) {
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    if (tower_clock_virtual_new(1000 * TOWER_NS_PER_S, &fixture.clock) < 0)
        return -1;
    return make(-1);
}

/* The process is killed, and another goes on. Of the parts, the pump does as well; what the others
 * count begins anew. */
static void make_another(void) {
    int fd = dup(tower_journal_fd(fixture.journal));
    tower_incidents_free(fixture.incidents);
    fixture.lost = fixture.refused = fixture.refused_address = fixture.fallback_errors = 0;
    assert_int_equal(make(fd), 0);
    assert_int_equal(tower_journal_fd(fixture.journal), fd);
}

static int teardown(void **state) {
    (void)state;
    tower_incidents_free(fixture.incidents);
    tower_clock_free(fixture.clock);
    return 0;
}

static void tick(enum tower_origin origin, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        tower_clock_virtual_advance(fixture.clock, TICK_NS);
        tower_incidents_note_tick(fixture.incidents);
        tower_incidents_note_written(fixture.incidents, origin);
        fixture.frames[origin]++;
        if (fixture.origin != (int)origin)
            fixture.origin_since_ns = tower_clock_now_ns(fixture.clock);
        fixture.origin = (int)origin;
    }
}

/* The next one recorded. */
static struct tower_incident next(void) {
    struct tower_incident incident;
    while (tower_journal_read(fixture.journal, fixture.n_read, &incident, 1) == 0)
        sched_yield();
    fixture.n_read++;
    return incident;
}

static struct tower_incident next_of(enum tower_incident_kind kind) {
    struct tower_incident incident = next();
    assert_string_equal(tower_incident_kind_name(incident.kind), tower_incident_kind_name(kind));
    return incident;
}

static int64_t now_ns(void) {
    return tower_clock_now_ns(fixture.clock);
}

/* Until the journal's thread has looked at how things stand. */
static void await_look(void) {
    for (int i = 0; i < 3; i++) {
        struct tower_incident incident;
        tower_incident_init(&incident, TOWER_INCIDENT_RELOADED, now_ns(), 0, "settings");
        tower_journal_add(fixture.journal, &incident);
        next_of(TOWER_INCIDENT_RELOADED);
    }
}

static void test_programme_lost_and_back(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_TONE, 50);
    tick(TOWER_ORIGIN_LIVE, 100);
    int64_t lost_ns = now_ns() + TICK_NS;
    tick(TOWER_ORIGIN_GRACE, 1);
    struct tower_incident lost = next_of(TOWER_INCIDENT_PROGRAMME_LOST);
    assert_string_equal(lost.cause, "no-audio");
    assert_int_equal(lost.at_ns, lost_ns);
    assert_int_equal(lost.frame, 150);
    assert_true(lost.to_substitute_ns >= 0);
    assert_int_equal(lost.frames[TOWER_ORIGIN_GRACE], 1);
    assert_int_equal(lost.frames[TOWER_ORIGIN_TONE], 0);
    tick(TOWER_ORIGIN_GRACE, 208);
    tick(TOWER_ORIGIN_FILE, 300);
    tick(TOWER_ORIGIN_TONE, 7);
    fixture.lost = 3;
    /* A stutter on the way back is part of it. */
    tick(TOWER_ORIGIN_LIVE, 10);
    await_look();
    tick(TOWER_ORIGIN_GRACE, 2);
    int64_t back_ns = now_ns() + TICK_NS;
    tick(TOWER_ORIGIN_LIVE, 45);
    struct tower_incident back = next_of(TOWER_INCIDENT_PROGRAMME_BACK);
    assert_int_equal(back.at_ns, back_ns);
    assert_int_equal(back.frame, 150 + 209 + 300 + 7 + 10 + 2);
    assert_int_equal(back.duration_ns, back_ns - lost_ns);
    assert_int_equal(back.frames[TOWER_ORIGIN_LIVE], 0);
    assert_int_equal(back.frames[TOWER_ORIGIN_GRACE], 211);
    assert_int_equal(back.frames[TOWER_ORIGIN_FILE], 300);
    assert_int_equal(back.frames[TOWER_ORIGIN_TONE], 7);
    assert_int_equal(back.listeners_lost, 3);
    assert_int_equal(back.frames_missed, 0);
}

static void test_before_the_first_programme_nothing_is_lost(void **state) {
    (void)state;
    tick(TOWER_ORIGIN_GRACE, 200);
    tick(TOWER_ORIGIN_TONE, 200);
    tick(TOWER_ORIGIN_LIVE, 200);
    tower_incidents_stop(fixture.incidents, 600);
    next_of(TOWER_INCIDENT_STARTED);
    struct tower_incident stopped = next_of(TOWER_INCIDENT_STOPPED);
    assert_int_equal(stopped.frame, 600);
    assert_int_equal(stopped.frames[TOWER_ORIGIN_LIVE], 200);
    assert_int_equal(stopped.frames[TOWER_ORIGIN_GRACE], 200);
    assert_int_equal(stopped.frames[TOWER_ORIGIN_TONE], 200);
    assert_int_equal(stopped.duration_ns, 600 * TICK_NS);
}

static void test_withheld_dead_air_is_the_cause(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    tower_clock_virtual_advance(fixture.clock, TICK_NS);
    tower_incidents_note_tick(fixture.incidents);
    tower_incidents_note_withheld(fixture.incidents);
    tower_incidents_note_written(fixture.incidents, TOWER_ORIGIN_GRACE);
    assert_string_equal(next_of(TOWER_INCIDENT_PROGRAMME_LOST).cause, "dead-air");
}

/* The pump before had taken the frame, and died: the next one only writes it. */
static void test_a_frame_of_a_tick_that_another_process_began(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    make_another();
    tower_incidents_note_written(fixture.incidents, TOWER_ORIGIN_GRACE);
    struct tower_incident lost = next_of(TOWER_INCIDENT_PROGRAMME_LOST);
    assert_in_range(lost.to_substitute_ns, 0, TICK_NS);
}

/* A fault is seen after its time; what stood in since it began counts, and not what did before. */
static void test_input_fault_counts_from_its_begin(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_TONE, 30);
    tick(TOWER_ORIGIN_LIVE, 100);
    int64_t since_ns = now_ns();
    tick(TOWER_ORIGIN_LIVE, 10); /* what was queued */
    tick(TOWER_ORIGIN_GRACE, 73);
    next_of(TOWER_INCIDENT_PROGRAMME_LOST);
    struct tower_input_event event = {.fault = TOWER_INPUT_DISCONNECTED,
                                      .has_begun = true,
                                      .at_ns = now_ns() + 1,
                                      .since_ns = since_ns};
    tower_incidents_note_input(fixture.incidents, &event, 213);
    struct tower_incident fault = next_of(TOWER_INCIDENT_INPUT_FAULT);
    assert_string_equal(fault.subject, "disconnected");
    assert_int_equal(fault.frame, 213);
    assert_int_equal(fault.duration_ns, event.at_ns - since_ns);
    assert_int_equal(fault.to_substitute_ns, 11 * TICK_NS);
    assert_int_equal(fault.frames[TOWER_ORIGIN_GRACE], 73);
    assert_int_equal(fault.frames[TOWER_ORIGIN_TONE], 0);
    tick(TOWER_ORIGIN_GRACE, 27);
    tick(TOWER_ORIGIN_TONE, 100);
    tick(TOWER_ORIGIN_LIVE, 42);
    event.has_begun = false;
    event.at_ns = now_ns() + 1;
    tower_incidents_note_input(fixture.incidents, &event, 382);
    fault = next();
    if (fault.kind == TOWER_INCIDENT_PROGRAMME_BACK)
        fault = next();
    assert_int_equal(fault.kind, TOWER_INCIDENT_INPUT_FAULT_OVER);
    assert_int_equal(fault.frames[TOWER_ORIGIN_GRACE], 100);
    assert_int_equal(fault.frames[TOWER_ORIGIN_TONE], 100);
    assert_int_equal(fault.frames[TOWER_ORIGIN_LIVE], 0);
    assert_int_equal(fault.count, 0);
}

/* The journal's thread hangs, and the note that the programme is back finds no room. */
/* More is noted than has room. */
static int64_t note_an_outage_in_vain(void) {
    for (int i = 0; i < 100; i++) {
        tick(TOWER_ORIGIN_GRACE, 1);
        tick(TOWER_ORIGIN_TONE, 1);
    }
    tick(TOWER_ORIGIN_LIVE, 1);
    int64_t back_ns = now_ns();
    tick(TOWER_ORIGIN_LIVE, 100);
    return back_ns;
}

static void expect_that_outage(int64_t back_ns) {
    /* That notes are missing is said among them: where depends on what it hung in. */
    struct tower_incident incident = next();
    if (incident.kind == TOWER_INCIDENT_LINES_LOST)
        incident = next();
    assert_int_equal(incident.kind, TOWER_INCIDENT_PROGRAMME_LOST);
    incident = next();
    if (incident.kind == TOWER_INCIDENT_LINES_LOST)
        incident = next();
    assert_int_equal(incident.kind, TOWER_INCIDENT_PROGRAMME_BACK);
    assert_int_equal(incident.at_ns, back_ns);
    assert_int_equal(incident.frames[TOWER_ORIGIN_GRACE], 100);
    assert_int_equal(incident.frames[TOWER_ORIGIN_TONE], 100);
}

static void test_an_outage_ends_although_its_note_was_lost(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    fixture.is_hanging = true;
    int64_t back_ns = note_an_outage_in_vain();
    fixture.is_hanging = false;
    expect_that_outage(back_ns);
}

static void test_an_outage_ends_although_its_note_was_lost_during_a_look(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    await_look();
    fixture.is_preempted = true;
    while (!fixture.has_counts)
        sched_yield();
    int64_t back_ns = note_an_outage_in_vain();
    fixture.is_preempted = false;
    expect_that_outage(back_ns);
}

static void test_a_machine_that_stood_still(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 10);
    tower_clock_virtual_advance(fixture.clock, 4 * TICK_NS); /* too little to tell */
    tick(TOWER_ORIGIN_LIVE, 10);
    fixture.ticks_skipped = 20;
    tower_clock_virtual_advance(fixture.clock, TOWER_NS_PER_S / 2);
    tick(TOWER_ORIGIN_LIVE, 10);
    struct tower_incident stall = next_of(TOWER_INCIDENT_STALLED);
    assert_int_equal(stall.duration_ns, TOWER_NS_PER_S / 2);
    assert_int_equal(stall.frames_missed, 20);
    assert_int_equal(stall.frame, 20);
}

static void test_ticks_that_were_skipped_bit_by_bit(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 10);
    fixture.ticks_skipped = 11;
    /* Time goes on in steps, since the journal must have seen it twice. */
    struct tower_incident stall;
    while (tower_journal_read(fixture.journal, fixture.n_read, &stall, 1) == 0) {
        tower_clock_virtual_advance(fixture.clock, TICK_NS);
        sched_yield();
    }
    assert_int_equal(stall.kind, TOWER_INCIDENT_STALLED);
    assert_int_equal(stall.frames_missed, 11);
    assert_int_equal(stall.duration_ns, 11 * TICK_NS);
}

static void test_refused_listeners_once_a_minute(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    fixture.refused = 3;
    struct tower_incident refused = next_of(TOWER_INCIDENT_LISTENERS_REFUSED);
    assert_int_equal(refused.count, 3);
    assert_string_equal(refused.cause, "places");
    fixture.refused_address = 5;
    tower_clock_virtual_advance(fixture.clock, 30 * TOWER_NS_PER_S);
    tick(TOWER_ORIGIN_LIVE, 1); /* wakes the journal, which then looks */
    fixture.refused_address = 7;
    tower_clock_virtual_advance(fixture.clock, 31 * TOWER_NS_PER_S);
    refused = next_of(TOWER_INCIDENT_LISTENERS_REFUSED);
    assert_int_equal(refused.count, 7);
    assert_string_equal(refused.cause, "address");
    assert_int_equal(refused.frame, 4242);
}

static void test_fallback_file_fails_once_and_comes_back(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    fixture.fallback_errors = 1;
    struct tower_incident failed = next_of(TOWER_INCIDENT_FALLBACK_FAILED);
    assert_string_equal(failed.detail, "/music/loop.wav");
    fixture.fallback_errors = 5;
    tower_clock_virtual_advance(fixture.clock, 20 * TOWER_NS_PER_S);
    fixture.is_fallback_ready = true;
    struct tower_incident back = next_of(TOWER_INCIDENT_FALLBACK_BACK);
    assert_int_equal(back.duration_ns, 20 * TOWER_NS_PER_S);
}

static void test_encoder_and_producers(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    struct tower_encoder_event event = {.cause = "pipe-closed",
                                        .detail = "lives but closed its pipe; killed",
                                        .frame = 99,
                                        .at_ns = now_ns(),
                                        .to_substitute_ns = 5,
                                        .duration_ns = -1,
                                        .failures = 1,
                                        .frames_spare = 1};
    tower_incidents_note_encoder(fixture.incidents, &event);
    struct tower_incident encoder = next_of(TOWER_INCIDENT_ENCODER_FAILED);
    assert_string_equal(encoder.subject, "ffmpeg");
    assert_string_equal(encoder.cause, "pipe-closed");
    assert_int_equal(encoder.frames[TOWER_INCIDENT_SPARE], 1);
    assert_int_equal(encoder.listeners_lost, 0);
    struct tower_producer_info producer = {.id = 7, .pid = 123, .bytes = 4608};
    tower_incidents_note_producer(fixture.incidents, &producer, true, 5);
    assert_string_equal(next_of(TOWER_INCIDENT_PRODUCER_CAME).subject, "producer 7");
    tower_incidents_note_producer(fixture.incidents, &producer, false, 6);
    struct tower_incident went = next_of(TOWER_INCIDENT_PRODUCER_WENT);
    assert_string_equal(went.detail, "process 123, 4608 bytes");
    assert_int_equal(went.frame, 6);
}

static struct tower_incident note_change(const struct tower_producer_info *went,
                                         const struct tower_producer_info *came) {
    if (went) {
        tower_incidents_note_producer(fixture.incidents, went, false, 5);
        next_of(TOWER_INCIDENT_PRODUCER_WENT);
    }
    tower_incidents_note_producer(fixture.incidents, came, true, 5);
    return next_of(TOWER_INCIDENT_PRODUCER_CAME);
}

static void assert_text_has(const struct tower_incident *incident, const char *words) {
    size_t bytes;
    char *json = tower_incident_json(incident, &bytes);
    assert_non_null(json);
    if (!strstr(json, words))
        fail_msg("%s is not in %s", words, json);
    free(json);
}

static void test_who_took_the_air_and_why(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    const struct tower_producer_info list = {
        .id = 3, .pid = 33, .identity.name = "playlist", .rank = 1};
    const struct tower_producer_info live = {
        .id = 4, .pid = 44, .identity.name = "live", .rank = 0};
    struct tower_producer_info above_list = live, chosen = list;
    above_list.has_taken_over = true;
    chosen.has_taken_over = true;
    chosen.is_chosen = true;

    struct tower_incident first = note_change(NULL, &list);
    assert_string_equal(first.subject, "playlist (producer 3)");
    assert_string_equal(first.cause, "");
    assert_text_has(&first, "\"text\":\"playlist (producer 3) is on air (process 33)\"");

    struct tower_incident above = note_change(&list, &above_list);
    assert_string_equal(above.subject, "live (producer 4)");
    assert_string_equal(above.cause, "by-rank");
    assert_text_has(&above,
                    "live (producer 4) is on air, above the one before by rank (process 44)");

    struct tower_incident by_hand = note_change(&live, &chosen);
    assert_string_equal(by_hand.cause, "by-hand");
    assert_text_has(&by_hand, "playlist (producer 3) is on air, chosen by hand (process 33)");

    /* The one below is back because the other has gone: nobody took anything from anybody. */
    assert_string_equal(note_change(&live, &list).cause, "");

    struct tower_producer_info longest = {.id = 1, .rank = 9};
    memset(longest.identity.name, 'x', TOWER_PRODUCER_NAME_BYTES - 1);
    struct tower_incident cut = note_change(NULL, &longest);
    assert_memory_equal(cut.subject, longest.identity.name, TOWER_PRODUCER_NAME_BYTES - 1);
}

static void note_fault(enum tower_input_fault fault, bool has_begun, int64_t since_ns) {
    struct tower_input_event event = {
        .fault = fault, .has_begun = has_begun, .at_ns = now_ns(), .since_ns = since_ns};
    tower_incidents_note_input(fixture.incidents, &event, 1);
}

static struct tower_incident note_killed(uint64_t generation) {
    struct tower_incident_replacement replacement = {
        .kind = TOWER_INCIDENT_WORKER_KILLED,
        .subject = "worker 1 (process 4711)",
        .generation = generation,
        .cause = "SIGKILL",
        .at_ns = now_ns() - TICK_NS,
        .silent_ns = now_ns() - 2 * TICK_NS,
        .listeners_lost = 3,
    };
    tower_incidents_note_replaced(fixture.incidents, &replacement, 150);
    struct tower_incident killed = next_of(TOWER_INCIDENT_WORKER_KILLED);
    assert_string_equal(killed.cause, "SIGKILL");
    assert_string_equal(killed.subject, "worker 1 (process 4711)");
    assert_int_equal(killed.to_substitute_ns, 2 * TICK_NS);
    assert_int_equal(killed.listeners_lost, 3);
    return killed;
}

static void test_another_process_ends_what_this_one_saw_begin(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    int64_t lost_ns = now_ns() + TICK_NS;
    tick(TOWER_ORIGIN_GRACE, 200);
    next_of(TOWER_INCIDENT_PROGRAMME_LOST);
    note_fault(TOWER_INPUT_DISCONNECTED, true, lost_ns);
    next_of(TOWER_INCIDENT_INPUT_FAULT);
    fixture.lost = 2;
    await_look();
    fixture.ticks_skipped = 5;
    make_another();
    struct tower_incident killed = note_killed(1);
    assert_int_equal(killed.frames_missed, 5);
    assert_int_equal(killed.count, 1);
    tick(TOWER_ORIGIN_GRACE, 10);
    /* It sees the fault by itself, and the journal has it already. */
    note_fault(TOWER_INPUT_DISCONNECTED, true, now_ns());
    fixture.lost = 1;
    tick(TOWER_ORIGIN_LIVE, 45);
    struct tower_incident back = next_of(TOWER_INCIDENT_PROGRAMME_BACK);
    assert_int_equal(back.duration_ns, 210 * TICK_NS);
    assert_int_equal(back.frames[TOWER_ORIGIN_GRACE], 210);
    assert_int_equal(back.frames_missed, 5);
    assert_int_equal(back.listeners_lost, 3);
    note_fault(TOWER_INPUT_DISCONNECTED, false, now_ns());
    struct tower_incident over = next_of(TOWER_INCIDENT_INPUT_FAULT_OVER);
    assert_int_equal(over.duration_ns, now_ns() - lost_ns);
    note_fault(TOWER_INPUT_DISCONNECTED, true, now_ns());
    next_of(TOWER_INCIDENT_INPUT_FAULT);
    tower_clock_virtual_advance(fixture.clock, 5 * TOWER_NS_PER_S);
    await_look();
    tower_incidents_stop(fixture.incidents, 355);
    struct tower_incident stopped = next_of(TOWER_INCIDENT_STOPPED);
    assert_int_equal(stopped.frames[TOWER_ORIGIN_LIVE], 145);
    assert_int_equal(stopped.frames[TOWER_ORIGIN_GRACE], 210);
    assert_int_equal(stopped.frames_missed, 5);
    assert_int_equal(stopped.listeners_lost, 3);
    assert_int_equal(stopped.duration_ns, 355 * TICK_NS + 5 * TOWER_NS_PER_S);
}

static void test_a_fault_that_ended_while_nobody_looked(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    note_fault(TOWER_INPUT_MUTE, true, now_ns() - TOWER_NS_PER_S);
    next_of(TOWER_INCIDENT_INPUT_FAULT);
    await_look();
    make_another();
    (void)note_killed(1);
    tower_clock_virtual_advance(fixture.clock, TOWER_INCIDENT_FAULT_NS - 1);
    await_look();
    tower_clock_virtual_advance(fixture.clock, 1);
    struct tower_incident over = next_of(TOWER_INCIDENT_INPUT_FAULT_OVER);
    assert_string_equal(over.subject, tower_input_fault_name(TOWER_INPUT_MUTE));
    assert_int_equal(over.at_ns, now_ns() - TOWER_INCIDENT_FAULT_NS);
    assert_int_equal(over.duration_ns, TOWER_NS_PER_S);
    await_look();
}

static void test_processes_that_could_not_tell(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    await_look();
    make_another();
    assert_int_equal(note_killed(1).count, 1);
    await_look();
    make_another();
    /* The second tells nothing. */
    make_another();
    struct tower_incident killed = note_killed(3);
    assert_int_equal(killed.count, 2);
    size_t bytes;
    char *line = tower_incident_json(&killed, &bytes);
    assert_non_null(line);
    assert_non_null(strstr(line, ", like 1 before it"));
    free(line);
    await_look();
    make_another();
    assert_int_equal(note_killed(4).count, 1);
}

/* Killed after the line was written, and before what it means was kept. */
static void test_an_outage_that_only_the_journal_knows_of(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    tick(TOWER_ORIGIN_LIVE, 100);
    await_look();
    struct tower_incidents_state before;
    tower_journal_stop(fixture.journal);
    assert_true(tower_journal_saved_state(fixture.journal, &before, sizeof before));
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    tick(TOWER_ORIGIN_TONE, 10);
    struct tower_incident lost = next_of(TOWER_INCIDENT_PROGRAMME_LOST);
    tower_journal_stop(fixture.journal);
    tower_journal_save_state(fixture.journal, &before, sizeof before);
    make_another();
    tick(TOWER_ORIGIN_TONE, 10);
    tick(TOWER_ORIGIN_LIVE, 45);
    struct tower_incident back = next_of(TOWER_INCIDENT_PROGRAMME_BACK);
    assert_int_equal(back.duration_ns, 20 * TICK_NS);
    assert_int_equal(back.at_ns, lost.at_ns + 20 * TICK_NS);
}

/* Whatever else is recorded. */
static void await_turns(void) {
    for (int i = 0; i < 3; i++) {
        struct tower_incident incident;
        struct tower_journal_stats before, after;
        tower_incident_init(&incident, TOWER_INCIDENT_RELOADED, now_ns(), 0, "settings");
        tower_journal_get_stats(fixture.journal, &before);
        tower_journal_add(fixture.journal, &incident);
        do {
            sched_yield();
            tower_journal_get_stats(fixture.journal, &after);
        } while (after.incidents == before.incidents);
    }
}

static void test_nonsense_leads_nowhere(void **state) {
    (void)state;
    union {
        struct tower_incidents_state state;
        unsigned char bytes[sizeof(struct tower_incidents_state)];
    } nonsense;
    unsigned random = 1;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof nonsense.bytes; i++) {
            random = random * 1103515245 + 12345;
            nonsense.bytes[i] = round == 0 ? 0xff : (unsigned char)(random >> 16);
        }
        tower_journal_stop(fixture.journal);
        tower_journal_save_state(fixture.journal, &nonsense, sizeof nonsense);
        make_another();
        tick(TOWER_ORIGIN_LIVE, 3);
        tick(TOWER_ORIGIN_TONE, 3);
        note_fault(TOWER_INPUT_MUTE, true, now_ns());
        note_fault(TOWER_INPUT_MUTE, false, now_ns());
        tick(TOWER_ORIGIN_LIVE, 60);
        await_turns();
        tower_clock_virtual_advance(fixture.clock, 2 * TOWER_NS_PER_S);
        await_turns();
        tower_clock_virtual_advance(fixture.clock, 60 * TOWER_NS_PER_S);
    }
    tower_incidents_stop(fixture.incidents, 1);
}

static void test_what_the_keeper_has_to_tell(void **state) {
    (void)state;
    next_of(TOWER_INCIDENT_STARTED);
    strcpy(fixture.request_error, "station.ini:1: no");
    fixture.requests = 1;
    struct tower_incident refused = next_of(TOWER_INCIDENT_RELOAD_REFUSED);
    assert_string_equal(refused.detail, "station.ini:1: no");
    fixture.is_request_upgrade = true;
    fixture.requests = 2;
    next_of(TOWER_INCIDENT_UPGRADE_REFUSED);
    fixture.lost_state = 1;
    assert_int_equal(next_of(TOWER_INCIDENT_STATE_LOST).count, 1);
    await_look();
    make_another();
    await_look();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_programme_lost_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before_the_first_programme_nothing_is_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_withheld_dead_air_is_the_cause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_frame_of_a_tick_that_another_process_began, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_input_fault_counts_from_its_begin, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_outage_ends_although_its_note_was_lost_during_a_look, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_outage_ends_although_its_note_was_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_machine_that_stood_still, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ticks_that_were_skipped_bit_by_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_listeners_once_a_minute, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fallback_file_fails_once_and_comes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_encoder_and_producers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_took_the_air_and_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_process_ends_what_this_one_saw_begin, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_fault_that_ended_while_nobody_looked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_processes_that_could_not_tell, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_outage_that_only_the_journal_knows_of, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nonsense_leads_nowhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_keeper_has_to_tell, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
