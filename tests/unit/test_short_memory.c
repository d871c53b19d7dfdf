/* test_short_memory.c - texts made while each allocation in turn fails: whole, or none, and no
 * leak.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "events.h"
#include "icecast_json.h"
#include "status_json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static unsigned calls, failing_call;

static void *failing_malloc(size_t bytes) {
    return ++calls == failing_call ? NULL : malloc(bytes);
}

static struct tower_history history;
static struct tower_status now = {
    .now_ns = 2 * TOWER_NS_PER_S,
    .last_air_ns = INT64_MIN,
    .station = {"Tower", "", "", ""},
    .producers = {.n_producers = 2, .chosen = "live", .producers = {{.identity.name = "live"}}},
    .title = {.number = 1, .text = "A title"}};

static char *status(size_t *ret_bytes) {
    return tower_status_json(&now, ret_bytes);
}

static char *buffer(size_t *ret_bytes) {
    return tower_buffer_json(&now, ret_bytes);
}

static char *icecast(size_t *ret_bytes) {
    return tower_icecast_json(&now, "http://127.0.0.1:8005", ret_bytes);
}

static char *whole_history(size_t *ret_bytes) {
    return tower_history_json(&history, ret_bytes);
}

static char *all_events(size_t *ret_bytes) {
    return tower_events_all(&now, ret_bytes);
}

static char *news(size_t *ret_bytes) {
    struct tower_status last = {.state = TOWER_SERVICE_STOPPING};
    return tower_events_news(&last, &now, &history, true, ret_bytes);
}

/* What is lost on the way, LeakSanitizer finds. */
static void texts_are_whole_or_none(void **state) {
    (void)state;
    char *(*const makers[])(size_t *) = {status, buffer, icecast, whole_history, all_events, news};
    struct tower_status before = {.now_ns = 0};
    tower_history_sample(&history, &before);
    tower_history_sample(&history, &now);
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        size_t whole_bytes = 0, bytes = 0;
        failing_call = 0;
        char *whole = makers[i](&whole_bytes);
        assert_non_null(whole);
        for (failing_call = 1;; failing_call++) {
            calls = 0;
            char *text = makers[i](&bytes);
            if (text)
                assert_int_equal(bytes, whole_bytes);
            free(text);
            if (calls < failing_call)
                break;
        }
        print_message("%zu: %u allocations\n", i, calls);
        assert_true(calls > 5);
        free(whole);
    }
}

static int fail_allocations(void **state) {
    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_are_whole_or_none)};
    return cmocka_run_group_tests(tests, fail_allocations, NULL);
}
