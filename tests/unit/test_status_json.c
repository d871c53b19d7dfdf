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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_the_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
