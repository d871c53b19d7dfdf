/* test_http_events.c - what the page is told as it happens, and what it can look up of before. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "history.h"
#include "http_station.h"

/* Read events until one called `name` has come; its data. NULL: it did not in 30 s. */
static json_t *await_event(FILE *events, const char *name) {
    static char line[65536];
    bool is_it = false;
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (real_now_ns() < give_up_ns && fgets(line, sizeof line, events)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "event: ", 7) == 0)
            is_it = strcmp(line + 7, name) == 0;
        else if (is_it && strncmp(line, "data: ", 6) == 0)
            return json_loads(line + 6, 0, NULL);
    }
    return NULL;
}

static FILE *open_events(void) {
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(http_read_head(fd, &answer));
    assert_int_equal(answer.status, 200);
    assert_true(http_header_is(&answer, "Content-Type:", "text/event-stream"));
    return fdopen(fd, "r");
}

static const char *text_in(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    assert_non_null(text);
    return text;
}

static void events_tell_all_at_first_and_then_what_changes(void **state) {
    (void)state;
    FILE *events = open_events();
    static const char *const names[] = {"levels", "state", "listeners", "title", "status"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *json = await_event(events, names[i]);
        assert_non_null(json);
        if (i == 1)
            assert_string_equal(text_in(json, "origin"), "tone");
        json_decref(json);
    }
    pthread_mutex_lock(&station.lock);
    station.status.pump.origin = TOWER_ORIGIN_LIVE;
    station.status.listeners.listeners = 77;
    station.status.now_ns += 2 * TOWER_NS_PER_S;
    station.status.title = (struct tower_title){.number = 1, .from_frame = 9, .text = "New"};
    pthread_mutex_unlock(&station.lock);
    json_t *json = await_event(events, "state");
    assert_string_equal(text_in(json, "origin"), "live");
    json_decref(json);
    json = await_event(events, "listeners");
    assert_int_equal(json_integer_value(json_object_get(json, "current")), 77);
    json_decref(json);
    json = await_event(events, "title");
    assert_string_equal(text_in(json, "text"), "New");
    json_decref(json);
    json = await_event(events, "note");
    assert_string_equal(text_in(json, "text"), "on air: live");
    json_decref(json);
    json = await_event(events, "second");
    assert_int_equal(json_integer_value(json_object_get(json, "listeners")), 77);
    assert_non_null(json_object_get(json, "lateness_ms"));
    json_decref(json);
    json = await_event(events, "status");
    assert_string_equal(text_in(json, "origin"), "live");
    json_decref(json);
    (void)fclose(events);
}

#define GREEDY_CLIENTS 10
static uint64_t n_asked;

static void get_numbered_status(void *user, struct tower_status *ret_status) {
    get_status(user, ret_status);
    ret_status->air_frames = ++n_asked;
}

static void one_who_asks_a_lot_at_once_waits_for_the_others(void **state) {
    (void)state;
    static const char request[] = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
    char requests[100 * (sizeof request - 1) + 1];
    for (size_t i = 0; i < 100; i++)
        memcpy(requests + i * (sizeof request - 1), request, sizeof request);
    struct tower_http_server_config config = make_config();
    config.get_status = get_numbered_status;
    n_asked = 0;
    start_with(config, PLACES);
    /* The server stands still until all are there. */
    pthread_mutex_lock(&station.lock);
    int greedy[GREEDY_CLIENTS];
    bool is_sent = true;
    for (int i = 0; i < GREEDY_CLIENTS; i++) {
        greedy[i] = http_connect(station.port);
        is_sent = http_send(greedy[i], requests) && is_sent;
    }
    int modest = http_connect(station.port);
    is_sent = http_send(modest, request) && is_sent;
    pthread_mutex_unlock(&station.lock);
    assert_true(is_sent);
    static struct answer answer;
    assert_true(http_read_answer(modest, &answer, false));
    json_t *json = json_loads(answer.body, 0, NULL);
    int64_t n_before = json_integer_value(json_object_get(json_object_get(json, "air"), "frames"));
    json_decref(json);
    /* Three turns, of two answers each at most: it is accepted, it is read, and one that was under
     * way. The network may bring what it says some turns later, and samples count too. Who is
     * answered all at once is so a hundred times. */
    assert_in_range(n_before, 1, 20 * GREEDY_CLIENTS);
    for (int i = 0; i < GREEDY_CLIENTS; i++) {
        for (int j = 0; j < 100; j++)
            assert_true(http_read_answer(greedy[i], &answer, false));
        close(greedy[i]);
    }
    close(modest);
}

/* However often somebody comes, those who are there get levels ten times a second and no more. */
static void who_comes_for_events_makes_none_for_the_others(void **state) {
    (void)state;
    FILE *there = open_events();
    json_decref(await_event(there, "status"));
    int64_t begun_ns = tower_clock_now_ns(tower_clock_real());
    for (int i = 0; i < 60; i++) {
        FILE *events = open_events();
        json_t *json = await_event(events, "status");
        assert_non_null(json);
        json_decref(json);
        (void)fclose(events);
    }
    pthread_mutex_lock(&station.lock);
    station.status.title = (struct tower_title){.number = 1, .text = "After all of them"};
    pthread_mutex_unlock(&station.lock);
    char line[16384];
    int n_levels = 0;
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (real_now_ns() < give_up_ns && fgets(line, sizeof line, there) &&
           strcmp(line, "event: title\n") != 0)
        n_levels += strcmp(line, "event: levels\n") == 0;
    assert_string_equal(line, "event: title\n");
    int64_t lasted_ns = tower_clock_now_ns(tower_clock_real()) - begun_ns;
    assert_in_range(n_levels, 1, lasted_ns / (S_NS / 10) + 2);
    (void)fclose(there);
}

static void who_does_not_read_events_holds_up_nobody(void **state) {
    (void)state;
    static struct answer answer;
    int deaf = http_connect(station.port);
    int bytes = 4096;
    (void)setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    assert_true(http_send(deaf, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
    FILE *events = open_events();
    for (int i = 0; i < 20; i++) {
        json_t *json = await_event(events, "levels");
        assert_non_null(json);
        json_decref(json);
        assert_int_equal(get("/livez")->status, 200);
    }
    /* Half of the places are for events, and no more. */
    FILE *others[30];
    for (int i = 0; i < 30; i++)
        others[i] = open_events();
    assert_int_equal(get("/events")->status, 503);
    for (int i = 0; i < 30; i++)
        (void)fclose(others[i]);
    (void)fclose(events);
    assert_true(http_read_head(deaf, &answer));
    close(deaf);
}

/* Ask for the history until it has `wanted` notes; the text of the last one. */
static void await_notes(size_t wanted, char ret_text[128]) {
    size_t n = 0;
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (n < wanted) {
        assert_true(real_now_ns() < give_up_ns);
        json_t *json = get_json("/history");
        json_t *events = json_object_get(json, "events");
        n = json_array_size(events);
        if (n > 0)
            (void)snprintf(ret_text, 128, "%s", text_in(json_array_get(events, n - 1), "text"));
        json_decref(json);
    }
    assert_int_equal(n, wanted);
}

static void the_history_tells_what_has_been(void **state) {
    (void)state;
    char text[128] = "";
    await_notes(1, text);
    assert_string_equal(text, "the transmitter started");
    pthread_mutex_lock(&station.lock);
    station.status.pump.origin = TOWER_ORIGIN_LIVE;
    station.status.producers.n_producers = 1;
    pthread_mutex_unlock(&station.lock);
    await_notes(3, text);
    assert_string_equal(text, "on air: live");
}

static void say_who_is_on_air(struct tower_status *status, size_t place, bool is_chosen) {
    struct tower_pcm_socket_stats *producers = &status->producers;
    for (size_t i = 0; i < producers->n_producers; i++)
        producers->producers[i].is_on_air = i == place;
    producers->producers[place].is_chosen = is_chosen;
    producers->takeovers++;
    status->now_ns += S_NS / 10;
}

static void the_history_names_who_takes_the_air(void **state) {
    (void)state;
    static struct tower_history history;
    struct tower_status status = make_status();
    struct tower_pcm_socket_stats *producers = &status.producers;
    tower_history_sample(&history, &status);
    producers->producers[producers->n_producers++] =
        (struct tower_producer_info){.id = 10, .pid = 12, .identity.name = "live"};
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[1].text, "live (producer 10, pid 12) connected");
    say_who_is_on_air(&status, 2, false);
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[2].text, "live (producer 10) is on air, by rank");
    say_who_is_on_air(&status, 1, true);
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[3].text, "producer 9 is on air, chosen by hand");
    /* It goes, and who was on air before is back: that is no taking over. */
    producers->producers[1] = producers->producers[2];
    producers->producers[1].is_on_air = true;
    producers->n_producers = 2;
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[4].text, "producer 9 (pid 0) left");
    assert_string_equal(history.notes[5].text, "live (producer 10) is on air");
    /* One without a name says no more than it did when there were no names. */
    producers->producers[0].is_on_air = true;
    producers->n_producers = 1;
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[6].text, "live (producer 10, pid 12) left");
    assert_int_equal(history.n_notes, 7);
}

/* A crowd that is turned away all day leaves room for what else happens. */
static void what_goes_on_and_on_is_noted_once_a_minute(void **state) {
    (void)state;
    static struct tower_history history;
    struct tower_status status = make_status();
    status.listeners.refused = 5;
    tower_history_sample(&history, &status);
    for (int i = 0; i < 10 * 300; i++) {
        status.now_ns += S_NS / 10;
        status.listeners.refused += 3;
        tower_history_sample(&history, &status);
    }
    assert_int_equal(history.n_notes, 1 + 5);
    assert_string_equal(history.notes[0].text, "the transmitter started");
    assert_string_equal(history.notes[1].text, "3 listeners turned away");
    assert_string_equal(history.notes[2].text, "1800 listeners turned away");
    /* What came after the last note is not lost. */
    status.now_ns += 60 * S_NS;
    tower_history_sample(&history, &status);
    assert_string_equal(history.notes[6].text, "1797 listeners turned away");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(events_tell_all_at_first_and_then_what_changes),
        cmocka_unit_test_setup_teardown(one_who_asks_a_lot_at_once_waits_for_the_others, set_up_air,
                                        tear_down),
        TEST(who_comes_for_events_makes_none_for_the_others),
        TEST(who_does_not_read_events_holds_up_nobody),
        TEST(the_history_tells_what_has_been),
        cmocka_unit_test(the_history_names_who_takes_the_air),
        cmocka_unit_test(what_goes_on_and_on_is_noted_once_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
