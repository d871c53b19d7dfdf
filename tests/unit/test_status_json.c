/* test_status_json.c - /status and the page about it agree. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "status_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names of all fields below `json`, as the page about them writes them, one a line. */
static void list_fields(const json_t *json, const char *above, FILE *out) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        char name[128];
        (void)snprintf(name, sizeof name, "%s%s%s", above, *above ? "." : "", key);
        const json_t *inside = json_is_array(value) ? json_array_get(value, 0) : value;
        if (!json_is_object(value))
            (void)fprintf(out, "%s\n", name);
        list_fields(inside, name, out);
    }
}

static int compare_lines(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Cut `text` into its lines, sorted. Returns how many. */
static size_t sort_lines(char *text, char *lines[], size_t max_lines) {
    size_t n = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(n < max_lines);
        lines[n++] = line;
    }
    qsort(lines, n, sizeof *lines, compare_lines);
    return n;
}

static void every_field_of_the_status_is_documented(void **state) {
    (void)state;
    enum { LINES = 200 };
    char *sent = NULL, *documented = NULL;
    char *sent_lines[LINES], *documented_lines[LINES];
    size_t bytes;
    FILE *out = open_memstream(&sent, &bytes);
    /* One producer, a title and a keeper, so that what is about them says what it holds. */
    struct tower_status status = {
        .last_air_ns = INT64_MIN,
        .producers = {.n_producers = 1, .producers = {{.clock.is_known = true}}},
        .title.number = 1,
        .keeper.pid = 1};
    char *text = tower_status_json(&status, &bytes);
    json_t *json = json_loadb(text, bytes, 0, NULL);
    assert_non_null(json);
    list_fields(json, "", out);
    free(text);
    json_decref(json);
    assert_int_equal(fclose(out), 0);

    out = open_memstream(&documented, &bytes);
    FILE *page = fopen(TOWER_STATUS_DOC, "re");
    assert_non_null(page);
    char line[1024], name[128];
    while (fgets(line, sizeof line, page)) {
        if (sscanf(line, "| `%127[a-z0-9_.]` |", name) == 1)
            (void)fprintf(out, "%s\n", name);
    }
    assert_int_equal(fclose(page), 0);
    assert_int_equal(fclose(out), 0);

    size_t n = sort_lines(sent, sent_lines, LINES);
    size_t n_documented = sort_lines(documented, documented_lines, LINES);
    for (size_t i = 0; i < n && i < n_documented; i++)
        assert_string_equal(sent_lines[i], documented_lines[i]);
    assert_int_equal(n, n_documented);
    free(sent);
    free(documented);
}

static json_t *json_of(const struct tower_status *status) {
    size_t bytes;
    char *text = tower_status_json(status, &bytes);
    json_t *json = json_loadb(text, bytes, 0, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static void it_tells_who_is_on_air_and_who_waits(void **state) {
    (void)state;
    const struct tower_status status = {
        .now_ns = 100 * TOWER_NS_PER_S,
        .last_air_ns = INT64_MIN,
        .producers = {.takeovers = 3,
                      .chosen = "studio-2",
                      .n_producers = 3,
                      .producers = {{.identity = {.name = "playlist"},
                                     .rank = 1,
                                     .has_audio = true,
                                     .since_ns = 70 * TOWER_NS_PER_S},
                                    {.identity = {"studio-2", .label = "Morning", .is_live = true,
                                                  .is_source = true},
                                     .is_on_air = true,
                                     .is_chosen = true,
                                     .has_audio = true,
                                     .since_ns = 95 * TOWER_NS_PER_S + TOWER_NS_PER_S / 2,
                                     .thrown_bytes = 4608},
                                    {.rank = 2, .since_ns = 100 * TOWER_NS_PER_S}}}};
    json_t *json = json_of(&status);
    json_t *producers = json_object_get(json, "producers");
    assert_int_equal(json_integer_value(json_object_get(producers, "takeovers")), 3);
    assert_string_equal(json_string_value(json_object_get(producers, "chosen")), "studio-2");
    const struct {
        const char *name, *state;
        double since_seconds;
        int is_live, is_source, is_chosen, is_on_air, rank, thrown_bytes;
    } expected[] = {{"playlist", "waiting", 30, 0, 0, 0, 0, 1, 0},
                    {"studio-2", "on air", 4.5, 1, 1, 1, 1, 0, 4608},
                    {NULL, "idle", 0, 0, 0, 0, 0, 2, 0}};
    for (size_t i = 0; i < 3; i++) {
        json_t *one = json_array_get(json_object_get(producers, "list"), i);
        json_t *name = json_object_get(one, "name");
        if (expected[i].name)
            assert_string_equal(json_string_value(name), expected[i].name);
        else
            assert_true(json_is_null(name));
        json_t *label = json_object_get(one, "label");
        assert_true(i == 1 ? strcmp(json_string_value(label), "Morning") == 0
                           : json_is_null(label));
        assert_string_equal(json_string_value(json_object_get(one, "state")), expected[i].state);
        assert_true(json_real_value(json_object_get(one, "since_seconds")) ==
                    expected[i].since_seconds);
        assert_int_equal(json_is_true(json_object_get(one, "live")), expected[i].is_live);
        assert_int_equal(json_is_true(json_object_get(one, "source")), expected[i].is_source);
        assert_int_equal(json_is_true(json_object_get(one, "chosen")), expected[i].is_chosen);
        assert_int_equal(json_is_true(json_object_get(one, "on_air")), expected[i].is_on_air);
        assert_int_equal(json_integer_value(json_object_get(one, "rank")), expected[i].rank);
        assert_int_equal(json_integer_value(json_object_get(one, "thrown_bytes")),
                         expected[i].thrown_bytes);
    }
    json_decref(json);
    const struct tower_status by_rank = {.last_air_ns = INT64_MIN};
    json = json_of(&by_rank);
    assert_true(json_is_null(json_object_get(json_object_get(json, "producers"), "chosen")));
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_who_is_on_air_and_who_waits),
        cmocka_unit_test(every_field_of_the_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
