/* The journal: what is submitted is kept and written, in order, whole, bounded, or counted. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "journal_memory.h"
#include "tower/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_BYTES (1 << 20)

static struct {
    char folder[64], path[96], old_path[96];
    struct tower_clock *clock;
    struct tower_journal *journal;
    char text[TEXT_BYTES];
    struct tower_incident read[TOWER_JOURNAL_KEPT + 1];
} fixture;

static int setup(void **state) {
    (void)state;
    strcpy(fixture.folder, "/tmp/tower-test-XXXXXX");
    if (!mkdtemp(fixture.folder))
        return -1;
    (void)snprintf(fixture.path, sizeof fixture.path, "%s/journal", fixture.folder);
    (void)snprintf(fixture.old_path, sizeof fixture.old_path, "%s/journal.1", fixture.folder);
    fixture.journal = NULL;
    return tower_clock_virtual_new(1000 * TOWER_NS_PER_S, &fixture.clock);
}

static int teardown(void **state) {
    (void)state;
    tower_journal_free(fixture.journal);
    tower_clock_free(fixture.clock);
    (void)unlink(fixture.path);
    (void)unlink(fixture.old_path);
    return rmdir(fixture.folder);
}

static void make_with(struct tower_journal_config config) {
    config.clock = fixture.clock;
    assert_int_equal(tower_journal_new(&config, &fixture.journal), 0);
}

static void make(uint64_t file_bytes) {
    make_with((struct tower_journal_config){.path = fixture.path, .file_bytes = file_bytes});
}

/* Restart with the same file. */
static void make_again(uint64_t file_bytes) {
    tower_journal_free(fixture.journal);
    fixture.journal = NULL;
    make(file_bytes);
}

static struct tower_incident make_incident(enum tower_incident_kind kind, uint64_t frame) {
    struct tower_incident incident;
    tower_incident_init(&incident, kind, tower_clock_now_ns(fixture.clock), frame, "subject");
    return incident;
}

static void add(enum tower_incident_kind kind, uint64_t frame) {
    struct tower_incident incident = make_incident(kind, frame);
    tower_journal_add(fixture.journal, &incident);
}

static void await_incidents(uint64_t n) {
    struct tower_journal_stats stats;
    do {
        sched_yield();
        tower_journal_get_stats(fixture.journal, &stats);
    } while (stats.incidents < n);
}

static char *read_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, fixture.text, sizeof fixture.text - 1);
    assert_true(n >= 0);
    fixture.text[n] = '\0';
    close(fd);
    return fixture.text;
}

static void write_file(const char *text) {
    FILE *file = fopen(fixture.path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static size_t count_lines(const char *text) {
    size_t n = 0;
    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

static json_t *parse(const struct tower_incident *incident) {
    size_t bytes = 0;
    char *text = tower_incident_json(incident, &bytes);
    assert_non_null(text);
    assert_int_equal(strlen(text), bytes);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static json_int_t whole(const json_t *json, const char *key) {
    assert_true(json_is_integer(json_object_get(json, key)));
    return json_integer_value(json_object_get(json, key));
}

static const char *text_of(const json_t *json, const char *key) {
    assert_true(json_is_string(json_object_get(json, key)));
    return json_string_value(json_object_get(json, key));
}

static void test_incident_as_json(void **state) {
    (void)state;
    struct tower_incident incident = make_incident(TOWER_INCIDENT_PROGRAMME_BACK, 4711);
    incident.number = 12;
    incident.unix_ms = 1795272473007;
    incident.to_substitute_ns = 51250;
    incident.duration_ns = 12 * TOWER_NS_PER_S + TOWER_NS_PER_S / 2;
    incident.frames[TOWER_ORIGIN_GRACE] = 209;
    incident.frames[TOWER_ORIGIN_TONE] = 312;
    incident.frames[TOWER_INCIDENT_SPARE] = 3;
    incident.listeners_lost = 2;
    json_t *json = parse(&incident);
    assert_int_equal(whole(json, "number"), 12);
    assert_string_equal(text_of(json, "time"), "2026-11-21T14:47:53.007Z");
    assert_int_equal(whole(json, "frame"), 4711);
    assert_string_equal(text_of(json, "event"), "programme-back");
    assert_string_equal(text_of(json, "subject"), "subject");
    assert_true(json_is_null(json_object_get(json, "cause")));
    assert_true(json_real_value(json_object_get(json, "ms_to_substitute")) == 0.051);
    assert_true(json_real_value(json_object_get(json, "duration_ms")) == 12500);
    const json_t *frames = json_object_get(json, "frames");
    assert_int_equal(json_object_size(frames), 3);
    assert_int_equal(whole(frames, "grace"), 209);
    assert_int_equal(whole(frames, "tone"), 312);
    assert_int_equal(whole(frames, "spare"), 3);
    assert_int_equal(whole(json, "frames_missed"), 0);
    assert_int_equal(whole(json, "listeners_lost"), 2);
    const char *text = text_of(json, "text");
    assert_non_null(strstr(text, "back after 12.5 s"));
    assert_non_null(strstr(text, "209 grace, 312 tone"));
    assert_non_null(strstr(text, "2 listeners lost"));
    json_decref(json);
}

static void test_nothing_in_a_text_breaks_the_line(void **state) {
    (void)state;
    struct tower_incident incident = make_incident(TOWER_INCIDENT_FALLBACK_FAILED, 1);
    strcpy(incident.subject, "a\"b\\c\nd\x1b");
    strcpy(incident.detail, "/music/\xe9t\xe9 \xc3\xa9t\xc3\xa9\xff.mp3");
    size_t bytes = 0;
    char *line = tower_incident_json(&incident, &bytes);
    assert_non_null(line);
    for (size_t i = 0; i < bytes; i++)
        assert_true((unsigned char)line[i] >= ' ' && line[i] != 0x7f);
    free(line);
    json_t *json = parse(&incident);
    assert_string_equal(text_of(json, "subject"), "a\"b\\c\nd\x1b");
    assert_non_null(strstr(text_of(json, "text"), "/music/?t? \xc3\xa9t\xc3\xa9?.mp3"));
    assert_true(json_is_null(json_object_get(json, "ms_to_substitute")));
    assert_true(json_is_null(json_object_get(json, "duration_ms")));
    json_decref(json);
}

static void test_every_kind_has_a_name_and_a_text(void **state) {
    (void)state;
    for (unsigned i = 0; i < TOWER_INCIDENT_KIND_COUNT; i++) {
        const char *name = tower_incident_kind_name((enum tower_incident_kind)i);
        assert_string_not_equal(name, "unknown");
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(name, tower_incident_kind_name((enum tower_incident_kind)j));
        struct tower_incident incident = make_incident((enum tower_incident_kind)i, 1);
        json_t *json = parse(&incident);
        assert_true(i == TOWER_INCIDENT_ORIGIN_CHANGED || *text_of(json, "text") != '\0');
        json_decref(json);
    }
    assert_string_equal(tower_incident_kind_name((enum tower_incident_kind)99), "unknown");
}

static void test_what_is_submitted_is_kept_and_written_in_order(void **state) {
    (void)state;
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    add(TOWER_INCIDENT_STARTED, 0);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    assert_int_equal(tower_journal_start(fixture.journal), -EALREADY);
    for (uint64_t i = 1; i <= 5; i++)
        add(TOWER_INCIDENT_RELOADED, i);
    tower_journal_stop(fixture.journal);
    assert_int_equal(tower_journal_read(fixture.journal, 0, fixture.read, 99), 6);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(fixture.read[i].number, i + 1);
        assert_int_equal(fixture.read[i].frame, i);
    }
    /* The wall clock's, of now. */
    assert_true(llabs(fixture.read[0].unix_ms - (int64_t)time(NULL) * 1000) < 60000);
    assert_int_equal(tower_journal_read(fixture.journal, 4, fixture.read, 99), 2);
    assert_int_equal(fixture.read[0].number, 5);
    assert_int_equal(tower_journal_read(fixture.journal, 6, fixture.read, 99), 0);
    char *line = strtok(read_file(fixture.path), "\n");
    for (json_int_t i = 0; i < 6; i++, line = strtok(NULL, "\n")) {
        json_t *json = json_loads(line, 0, NULL);
        assert_int_equal(whole(json, "number"), i + 1);
        json_decref(json);
    }
    assert_null(line);
    struct stat stat_now;
    assert_int_equal(stat(fixture.path, &stat_now), 0);
    assert_int_equal(stat_now.st_mode & 0137, 0);
}

static void test_the_last_200_are_kept(void **state) {
    (void)state;
    make_with((struct tower_journal_config){.path = ""});
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    for (uint64_t i = 1; i <= 300; i++) {
        tower_clock_virtual_advance(fixture.clock, 10 * TOWER_NS_PER_S);
        add(TOWER_INCIDENT_RELOADED, i);
        await_incidents(i);
    }
    assert_int_equal(tower_journal_read(fixture.journal, 0, fixture.read, 201), 200);
    assert_int_equal(fixture.read[0].number, 101);
    assert_int_equal(fixture.read[199].number, 300);
    assert_int_equal(tower_journal_read(fixture.journal, 298, fixture.read, 200), 2);
    assert_int_equal(fixture.read[1].number, 300);
}

static void test_one_kind_does_not_fill_the_journal(void **state) {
    (void)state;
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    struct tower_incident incident = make_incident(TOWER_INCIDENT_PROGRAMME_BACK, 0);
    incident.duration_ns = TOWER_NS_PER_S;
    for (uint64_t i = 1; i <= 100; i++) {
        incident.frame = i;
        incident.frames[TOWER_ORIGIN_GRACE] = 2;
        tower_journal_add(fixture.journal, &incident);
    }
    add(TOWER_INCIDENT_UPGRADED, 7);
    await_incidents(TOWER_JOURNAL_PER_MINUTE + 1);
    tower_clock_virtual_advance(fixture.clock, 61 * TOWER_NS_PER_S);
    await_incidents(TOWER_JOURNAL_PER_MINUTE + 2);
    tower_journal_stop(fixture.journal);
    size_t n = tower_journal_read(fixture.journal, 0, fixture.read, 200);
    assert_int_equal(n, TOWER_JOURNAL_PER_MINUTE + 2);
    assert_int_equal(fixture.read[n - 2].kind, TOWER_INCIDENT_UPGRADED);
    const struct tower_incident *sum = &fixture.read[n - 1];
    assert_int_equal(sum->kind, TOWER_INCIDENT_PROGRAMME_BACK);
    assert_int_equal(sum->more, 100 - TOWER_JOURNAL_PER_MINUTE);
    assert_int_equal(sum->frame, 100);
    assert_int_equal(sum->frames[TOWER_ORIGIN_GRACE], 2 * (100 - TOWER_JOURNAL_PER_MINUTE));
    assert_int_equal(sum->duration_ns, (100 - TOWER_JOURNAL_PER_MINUTE) * TOWER_NS_PER_S);
}

static void *add_many(void *arg) {
    for (uint64_t i = 0; i < 500; i++)
        add((enum tower_incident_kind)(intptr_t)arg, i);
    return NULL;
}

/* More than the ring holds, from four threads, and the writer takes part. */
static void test_each_is_taken_or_counted(void **state) {
    (void)state;
    pthread_t threads[4];
    struct tower_journal_stats stats;
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    for (intptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    tower_journal_stop(fixture.journal);
    tower_journal_get_stats(fixture.journal, &stats);
    size_t n = tower_journal_read(fixture.journal, 0, fixture.read, 200);
    uint64_t counted = 0, said = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tower_incident *incident = &fixture.read[i];
        if (incident->kind == TOWER_INCIDENT_LINES_LOST)
            said += incident->count;
        else
            counted += incident->more > 0 ? incident->more : 1;
    }
    assert_int_equal(said, stats.submissions_lost);
    assert_int_equal(counted + said, 4 * 500);
    assert_int_equal(count_lines(read_file(fixture.path)), n);
}

/* Nobody takes: the ring fills, and adding returns all the same. */
static void test_a_full_ring_holds_nobody(void **state) {
    (void)state;
    struct tower_journal_stats stats;
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    for (uint64_t i = 0; i < 1000; i++)
        add(TOWER_INCIDENT_RELOADED, i);
    tower_journal_get_stats(fixture.journal, &stats);
    assert_in_range(stats.submissions_lost, 500, 999);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    tower_journal_stop(fixture.journal);
    size_t n = tower_journal_read(fixture.journal, 0, fixture.read, 200);
    assert_true(n > 0);
    uint64_t said = 0;
    for (size_t i = 0; i < n; i++) {
        if (fixture.read[i].kind == TOWER_INCIDENT_LINES_LOST)
            said = fixture.read[i].count;
    }
    assert_int_equal(said, stats.submissions_lost);
}

static void test_torn_line_is_ended_first(void **state) {
    (void)state;
    write_file("{\"number\":1}\n{\"number\":2,\"ti");
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    add(TOWER_INCIDENT_STARTED, 0);
    tower_journal_stop(fixture.journal);
    char *text = read_file(fixture.path);
    assert_int_equal(count_lines(text), 3);
    assert_ptr_equal(strstr(text, "{\"number\":1}\n{\"number\":2,\"ti\n{\"number\":1,\"time\""),
                     text);
    /* One that is whole gets no empty line. */
    make_again(TOWER_JOURNAL_BYTES_DEFAULT);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    add(TOWER_INCIDENT_STARTED, 0);
    tower_journal_stop(fixture.journal);
    assert_int_equal(count_lines(read_file(fixture.path)), 4);
    assert_null(strstr(fixture.text, "\n\n"));
}

static void test_two_files_of_bounded_size(void **state) {
    (void)state;
    make(4096);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    for (uint64_t i = 1; i <= 60; i++) {
        tower_clock_virtual_advance(fixture.clock, 10 * TOWER_NS_PER_S);
        add(TOWER_INCIDENT_RELOADED, i);
        await_incidents(i);
    }
    tower_journal_stop(fixture.journal);
    struct stat now, old;
    assert_int_equal(stat(fixture.path, &now), 0);
    assert_int_equal(stat(fixture.old_path, &old), 0);
    assert_in_range(now.st_size, 1, 4096);
    assert_in_range(old.st_size, 3000, 4096);
    /* The two follow on, up to the last. */
    assert_non_null(strstr(read_file(fixture.path), "\"number\":60,"));
    json_int_t first = strtoll(fixture.text + strlen("{\"number\":"), NULL, 10);
    char before[32];
    (void)snprintf(before, sizeof before, "{\"number\":%lld,", (long long)first - 1);
    assert_non_null(strstr(read_file(fixture.old_path), before));
}

static void test_a_file_that_was_moved_is_made_anew(void **state) {
    (void)state;
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    add(TOWER_INCIDENT_RELOADED, 1);
    await_incidents(1);
    while (strlen(read_file(fixture.path)) == 0)
        sched_yield();
    assert_int_equal(rename(fixture.path, fixture.old_path), 0);
    add(TOWER_INCIDENT_RELOADED, 2);
    tower_journal_stop(fixture.journal);
    assert_non_null(strstr(read_file(fixture.path), "\"number\":2,"));
    assert_null(strstr(read_file(fixture.old_path), "\"number\":2,"));
}

/* A disk that is full, and then is not: here one that is full at a size. */
static void test_full_disk_loses_lines_says_so_once_and_goes_on(void **state) {
    (void)state;
    struct tower_journal_stats stats;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    make(TOWER_JOURNAL_BYTES_DEFAULT);
    small = before;
    small.rlim_cur = 600; /* within the second or third line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    for (uint64_t i = 1; i <= 8; i++)
        add(TOWER_INCIDENT_RELOADED, i);
    await_incidents(8);
    do {
        sched_yield();
        tower_journal_get_stats(fixture.journal, &stats);
    } while (stats.lines_lost < 6);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    add(TOWER_INCIDENT_UPGRADED, 9);
    tower_journal_stop(fixture.journal);
    tower_journal_get_stats(fixture.journal, &stats);
    assert_in_range(stats.lines_lost, 6, 8);
    /* In memory is all of it. */
    size_t n = tower_journal_read(fixture.journal, 0, fixture.read, 200);
    assert_int_equal(n, 10);
    assert_int_equal(fixture.read[8].kind, TOWER_INCIDENT_UPGRADED);
    assert_int_equal(fixture.read[9].kind, TOWER_INCIDENT_LINES_LOST);
    assert_int_equal(fixture.read[9].count, stats.lines_lost);
    char *text = read_file(fixture.path);
    assert_non_null(strstr(text, "\n{\"number\":9,"));
    assert_non_null(strstr(text, "\n{\"number\":10,"));
    assert_null(strstr(text, "\n{\"number\":7,"));
}

static int64_t began_ms(void) {
    struct tower_journal_stats stats;
    tower_journal_get_stats(fixture.journal, &stats);
    return stats.began_unix_ms;
}

/* The process was killed: its region is all that is left. */
static void make_carried(struct tower_journal_config config) {
    config.carried_fd = dup(tower_journal_fd(fixture.journal));
    tower_journal_free(fixture.journal);
    make_with(config);
    assert_int_equal(tower_journal_fd(fixture.journal), config.carried_fd);
}

/* Change what lies in the region. */
static void damage(off_t at, const void *bytes, size_t n) {
    assert_int_equal(pwrite(tower_journal_fd(fixture.journal), bytes, n, at), n);
}

static void fill(uint64_t n) {
    for (uint64_t i = 1; i <= n; i++) {
        tower_clock_virtual_advance(fixture.clock, 10 * TOWER_NS_PER_S);
        add(TOWER_INCIDENT_RELOADED, i);
        await_incidents(i);
    }
}

static void test_another_process_goes_on_with_the_region(void **state) {
    (void)state;
    struct tower_journal_config config = {.path = fixture.path, .file_bytes = 1 << 20};
    int mine[3] = {1, 2, 3}, theirs[3] = {0};
    make_with(config);
    assert_false(tower_journal_saved_state(fixture.journal, theirs, sizeof theirs));
    tower_journal_save_state(fixture.journal, theirs, sizeof theirs);
    tower_journal_save_state(fixture.journal, mine, sizeof mine);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    struct tower_incident incident = make_incident(TOWER_INCIDENT_ENCODER_FAILED, 1);
    tower_incident_set_cause(&incident, "pipe-closed");
    tower_incident_set_detail(&incident, "\xe9t\xe9");
    tower_journal_add(fixture.journal, &incident);
    add(TOWER_INCIDENT_RELOADED, 2);
    await_incidents(2);
    int64_t began = began_ms();
    make_carried(config);
    assert_false(tower_journal_saved_state(fixture.journal, theirs, sizeof theirs - 1));
    assert_true(tower_journal_saved_state(fixture.journal, theirs, sizeof theirs));
    assert_memory_equal(theirs, mine, sizeof mine);
    assert_int_equal(began_ms(), began);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    add(TOWER_INCIDENT_UPGRADED, 3);
    await_incidents(3);
    assert_int_equal(tower_journal_read(fixture.journal, 0, fixture.read, 9), 3);
    assert_string_equal(fixture.read[0].cause, "pipe-closed");
    assert_string_equal(fixture.read[0].detail, "?t?");
    assert_int_equal(fixture.read[1].kind, TOWER_INCIDENT_RELOADED);
    assert_int_equal(fixture.read[2].number, 3);
    tower_journal_stop(fixture.journal);
    assert_int_equal(count_lines(read_file(fixture.path)), 3);
}

static void test_lines_that_were_not_written_are(void **state) {
    (void)state;
    struct tower_journal_config config = {.path = fixture.path, .file_bytes = 1 << 20};
    make_with(config);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    fill(5);
    tower_journal_stop(fixture.journal);
    /* As if it had been killed before the last two. */
    uint64_t written = 3;
    damage(offsetof(struct tower_journal_memory, written_number), &written, sizeof written);
    write_file("");
    make_carried(config);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    tower_journal_stop(fixture.journal);
    json_t *json = json_loads(read_file(fixture.path), JSON_DISABLE_EOF_CHECK, NULL);
    assert_int_equal(whole(json, "number"), 4);
    json_decref(json);
    assert_int_equal(count_lines(fixture.text), 2);
}

static void test_incidents_that_do_not_hold_are_left_out(void **state) {
    (void)state;
    struct tower_journal_config config = {.path = ""};
    const off_t kept = offsetof(struct tower_journal_memory, kept);
    const off_t size = sizeof(struct tower_incident);
    make_with(config);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    fill(210);
    tower_journal_stop(fixture.journal);
    /* Number n is at n - 1 modulo 200. The oldest is the one that is written over. */
    uint64_t none = 0, far = UINT64_MAX;
    int64_t future = INT64_MAX;
    int kind = 99;
    char endless[TOWER_INCIDENT_SUBJECT_BYTES];
    memset(endless, 'x', sizeof endless);
    damage(kept + 10 * size + (off_t)offsetof(struct tower_incident, number), &none, sizeof none);
    damage(kept + 20 * size + (off_t)offsetof(struct tower_incident, subject), endless,
           sizeof endless);
    damage(kept + 21 * size + (off_t)offsetof(struct tower_incident, cause), "\xff", 2);
    damage(kept + 22 * size + (off_t)offsetof(struct tower_incident, kind), &kind, sizeof kind);
    damage(kept + 23 * size + (off_t)offsetof(struct tower_incident, at_ns), &future,
           sizeof future);
    damage(kept + 24 * size + (off_t)offsetof(struct tower_incident, frame), &far, sizeof far);
    damage(kept + 25 * size + (off_t)offsetof(struct tower_incident, unix_ms), &future,
           sizeof future);
    make_carried(config);
    assert_int_equal(tower_journal_read(fixture.journal, 0, fixture.read, 201), 193);
    assert_int_equal(fixture.read[0].number, 12);
    assert_int_equal(fixture.read[8].number, 20);
    assert_int_equal(fixture.read[9].number, 27);
    assert_int_equal(fixture.read[192].number, 210);
    assert_int_equal(tower_journal_read(fixture.journal, 209, fixture.read, 201), 1);
}

static void test_a_region_that_does_not_hold_is_left(void **state) {
    (void)state;
    struct tower_journal_config config = {.path = ""};
    make_with(config);
    assert_int_equal(tower_journal_start(fixture.journal), 0);
    fill(3);
    tower_journal_stop(fixture.journal);
    int fd = dup(tower_journal_fd(fixture.journal));
    tower_journal_free(fixture.journal);
    config.carried_fd = fd;
    /* Each byte of its head in turn, and then all of it. */
    for (off_t at = 0; at < (off_t)offsetof(struct tower_journal_memory, kept); at++) {
        if (at == offsetof(struct tower_journal_memory, states))
            at = offsetof(struct tower_journal_memory, kept) - 64;
        unsigned char byte, wrong;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        wrong = byte ^ 0xa5;
        assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
        config.carried_fd = dup(fd);
        make_with(config);
        char old_state[100];
        (void)tower_journal_saved_state(fixture.journal, old_state, sizeof old_state);
        size_t n = tower_journal_read(fixture.journal, 0, fixture.read, 201);
        for (size_t i = 0; i < n; i++)
            json_decref(parse(&fixture.read[i]));
        if (tower_journal_fd(fixture.journal) != config.carried_fd) {
            assert_int_equal(n, 0);
            assert_int_equal(close(config.carried_fd), 0);
        }
        tower_journal_free(fixture.journal);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    config.carried_fd = fd;
    unsigned char junk[4096];
    memset(junk, 0xfe, sizeof junk);
    for (off_t at = 0; at < (off_t)sizeof(struct tower_journal_memory); at += (off_t)sizeof junk)
        assert_int_equal(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    make_with(config);
    assert_int_not_equal(tower_journal_fd(fixture.journal), fd);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(tower_journal_read(fixture.journal, 0, fixture.read, 9), 0);
    (void)close(fd);
}

/* Settings that another process cannot begin with leave the region to the next one. */
static void test_a_file_that_cannot_be_opened_leaves_the_region(void **state) {
    (void)state;
    struct tower_journal_config config = {.clock = fixture.clock, .path = ""};
    make_with(config);
    struct tower_journal *untouched = NULL;
    config.carried_fd = dup(tower_journal_fd(fixture.journal));
    config.path = "/nonexistent/journal";
    config.file_bytes = 1 << 20;
    assert_int_equal(tower_journal_new(&config, &untouched), -ENOENT);
    assert_true(fcntl(config.carried_fd, F_GETFD) >= 0);
    (void)close(config.carried_fd);
}

static void test_what_is_no_file_is_refused(void **state) {
    (void)state;
    struct tower_journal *untouched = NULL;
    struct tower_journal_config config = {
        .clock = fixture.clock, .path = "/dev/null", .file_bytes = 1 << 20};
    assert_int_equal(tower_journal_new(&config, &untouched), -EINVAL);
    config.path = fixture.folder;
    assert_int_equal(tower_journal_new(&config, &untouched), -EISDIR);
    config.path = "/nonexistent/journal";
    assert_int_equal(tower_journal_new(&config, &untouched), -ENOENT);
    config.path = fixture.path;
    config.file_bytes = 100;
    assert_int_equal(tower_journal_new(&config, &untouched), -EINVAL);
    assert_null(untouched);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_incident_as_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_in_a_text_breaks_the_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_kind_has_a_name_and_a_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_submitted_is_kept_and_written_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_last_200_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_kind_does_not_fill_the_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_is_taken_or_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_ring_holds_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_line_is_ended_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_files_of_bounded_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_that_was_moved_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_loses_lines_says_so_once_and_goes_on, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_another_process_goes_on_with_the_region, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_lines_that_were_not_written_are, setup, teardown),
        cmocka_unit_test_setup_teardown(test_incidents_that_do_not_hold_are_left_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_region_that_does_not_hold_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_opened_leaves_the_region, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_file_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
