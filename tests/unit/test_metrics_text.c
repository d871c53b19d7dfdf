/* test_metrics_text.c - /metrics, and the page about it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "metrics_text.h"

#include "tower/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text_of(const struct tower_status *status) {
    size_t bytes = 0;
    char *text = tower_metrics_text(status, &bytes);
    assert_non_null(text);
    assert_int_equal(bytes, strlen(text));
    return text;
}

/* How often `line` is a line of `text`. */
static int count_line(const char *text, const char *line) {
    size_t bytes = strlen(line);
    int n = 0;
    for (const char *at = text; (at = strstr(at, line)) != NULL; at += bytes)
        n += (at == text || at[-1] == '\n') && at[bytes] == '\n';
    return n;
}

static void assert_lines(const struct tower_status *status, const char *const *lines) {
    char *text = text_of(status);
    for (; *lines; lines++) {
        if (count_line(text, *lines) != 1)
            fail_msg("not there once: %s\n%s", *lines, text);
    }
    free(text);
}

static void each_family_is_whole(void **state) {
    (void)state;
    struct tower_status status = {.last_air_ns = INT64_MIN,
                                  .pump.last_emit_ns = INT64_MIN,
                                  .keeper.pid = 1,
                                  .producers.n_producers = 1};
    char *text = text_of(&status);
    char begun[200][80], family[80] = "", kind[16] = "", name[80], type[16];
    size_t n_begun = 0;
    bool is_typed = true;
    int n_samples = 1;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (sscanf(line, "# HELP %79s %15s", name, type) == 2) {
            assert_true(is_typed);
            assert_true(n_samples > 0);
            for (size_t i = 0; i < n_begun; i++)
                assert_string_not_equal(begun[i], name);
            assert_true(n_begun < 200);
            memcpy(begun[n_begun++], name, sizeof name);
            memcpy(family, name, sizeof name);
            is_typed = false;
            n_samples = 0;
        } else if (sscanf(line, "# TYPE %79s %15s", name, kind) == 2) {
            assert_false(is_typed);
            assert_string_equal(name, family);
            assert_memory_equal(name, "tower_", 6);
            bool is_total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
            assert_int_equal(is_total, strcmp(kind, "counter") == 0);
            is_typed = true;
        } else {
            assert_int_equal(sscanf(line, "%79[a-z0-9_]", name), 1);
            size_t bytes = strlen(family);
            assert_memory_equal(name, family, bytes);
            assert_true(name[bytes] == '\0' || strcmp(kind, "histogram") == 0);
            assert_non_null(strrchr(line, ' '));
            n_samples++;
        }
    }
    assert_true(is_typed && n_samples > 0 && n_begun > 50);
    free(text);
}

static void values_in_their_units(void **state) {
    (void)state;
    struct tower_status status = {
        .state = TOWER_SERVICE_ON_AIR,
        .started_ns = 2 * TOWER_NS_PER_S,
        .now_ns = 62 * TOWER_NS_PER_S + 500000000,
        .frame_samples = 1152,
        .bitrate_bps = 128000,
        .air_frames = 2500,
        .air_bytes = 1234567890123456789,
        .last_air_ns = 62 * TOWER_NS_PER_S + 488000000,
        .pump =
            {
                .ticks_due = 12,
                .frames_by_origin = {[TOWER_ORIGIN_FILE] = 7, [TOWER_ORIGIN_LIVE] = 5},
                .origin = TOWER_ORIGIN_FILE,
                .origin_since_ns = 62 * TOWER_NS_PER_S,
                .last_emit_ns = 62 * TOWER_NS_PER_S,
                .peak = {32768, 0},
                .lateness.max_ns = 1500000,
            },
        .encoder = {.kind = TOWER_ENCODER_FFMPEG,
                    .state = TOWER_ENCODER_RECOVERING,
                    .frames_spare = 3,
                    .frames_repair = 1,
                    .closes = 4,
                    .refusals = 14,
                    .mutes = 24,
                    .delay_ns = 144000000,
                    .child_pid = 99},
        .router = {.count = 3, .capacity = 100, .overflow_count = 8, .partial_count = 9},
        .listeners = {.listeners = 5,
                      .blocked = 2,
                      .with_titles = 1,
                      .refused = 6,
                      .ended = {[TOWER_LISTENER_LAGGED] = 11, [TOWER_LISTENER_SHUTDOWN] = 12},
                      .phase_groups = 4},
        .listeners_refused_address = 13,
        .title = {.number = 2, .from_frame = 400},
        .input.faults = {[TOWER_INPUT_MUTE] = {.since_ns = INT64_MIN,
                                               .count = 1,
                                               .past_ns = 5000000},
                         [TOWER_INPUT_DEAD_AIR] = {.since_ns = 50 * TOWER_NS_PER_S,
                                                   .count = 3,
                                                   .past_ns = 20 * TOWER_NS_PER_S}},
        .producers = {.withheld_frames = 14,
                      .n_producers = 3,
                      .takeovers = 7,
                      .chosen = "live",
                      .producers = {{.id = 1,
                                     .last_data_ns = INT64_MIN,
                                     .identity.name = "live",
                                     .has_audio = true,
                                     .thrown_bytes = 100},
                                    {.id = 2,
                                     .identity.name = "live",
                                     .is_on_air = true,
                                     .since_ns = 60 * TOWER_NS_PER_S,
                                     .thrown_bytes = 28,
                                     .last_data_ns = 62 * TOWER_NS_PER_S + 250000000,
                                     .clock = {.is_known = true,
                                               .ppm = -12.5,
                                               .spread_ppm = 0.25,
                                               .correction_ppm = 12.75,
                                               .is_out_of_range = true,
                                               .n_overruns = 3}},
                                    {.id = 5}}},
    };
    assert_lines(&status, (const char *const[]){
                              "tower_build_info{version=\"" TOWER_VERSION "\"} 1",
                              "tower_uptime_seconds 60.5",
                              "tower_state{state=\"starting\"} 0",
                              "tower_state{state=\"on air\"} 1",
                              "tower_tick_interval_seconds 0.024",
                              "tower_stream_bytes_per_second 16000",
                              "tower_air_frames_total 2500",
                              "tower_air_frame_age_seconds 0.012",
                              "tower_title_from_frame 400",
                              "tower_origin{origin=\"file\"} 1",
                              "tower_origin{origin=\"live\"} 0",
                              "tower_origin_seconds 0.5",
                              "tower_frames_total{origin=\"live\"} 5",
                              "tower_frames_total{origin=\"file\"} 7",
                              "tower_ticks_due_total 12",
                              "tower_tick_lateness_max_seconds 0.0015",
                              "tower_level_peak_dbfs{channel=\"left\"} 0",
                              "tower_level_peak_dbfs{channel=\"right\"} -120",
                              "tower_encoder_kind{kind=\"ffmpeg\"} 1",
                              "tower_encoder_state{state=\"recovering\"} 1",
                              "tower_encoder_frames_out_total{maker=\"spare\"} 3",
                              "tower_encoder_frames_out_total{maker=\"repair\"} 1",
                              "tower_encoder_failures_total{reason=\"closes\"} 4",
                              "tower_encoder_failures_total{reason=\"refusals\"} 14",
                              "tower_encoder_failures_total{reason=\"mutes\"} 24",
                              "tower_encoder_child_running 1",
                              "tower_encoder_delay_seconds 0.144",
                              "tower_producers{state=\"on air\"} 1",
                              "tower_producers{state=\"waiting\"} 1",
                              "tower_producers{state=\"idle\"} 1",
                              "tower_producers_named{name=\"live\",state=\"on air\"} 1",
                              "tower_producers_named{name=\"live\",state=\"waiting\"} 1",
                              "tower_producers_named{name=\"live\",state=\"idle\"} 0",
                              "tower_producers_named{name=\"\",state=\"on air\"} 0",
                              "tower_producers_named{name=\"\",state=\"waiting\"} 0",
                              "tower_producers_named{name=\"\",state=\"idle\"} 1",
                              "tower_producers_thrown_bytes{name=\"live\"} 128",
                              "tower_producers_thrown_bytes{name=\"\"} 0",
                              "tower_producers_on_air_seconds 2.5",
                              "tower_producers_chosen 1",
                              "tower_producers_takeovers_total 7",
                              "tower_producers_data_age_seconds 0.25",
                              "tower_producers_clock_ppm -12.5",
                              "tower_producers_clock_spread_ppm 0.25",
                              "tower_producers_clock_correction_ppm 12.75",
                              "tower_producers_clock_out_of_range 1",
                              "tower_producers_overruns 3",
                              "tower_input_withheld_frames_total 14",
                              "tower_input_fault_age_seconds{fault=\"mute\"} NaN",
                              "tower_input_fault_age_seconds{fault=\"dead_air\"} 12.5",
                              "tower_input_faults_total{fault=\"dead_air\"} 3",
                              "tower_input_fault_seconds_total{fault=\"mute\"} 0.005",
                              "tower_input_fault_seconds_total{fault=\"dead_air\"} 32.5",
                              "tower_router_frames 3",
                              "tower_router_dropped_total{reason=\"full\"} 8",
                              "tower_router_dropped_total{reason=\"partial\"} 9",
                              "tower_listeners{state=\"sending\"} 3",
                              "tower_listeners{state=\"blocked\"} 2",
                              "tower_listeners_with_titles 1",
                              "tower_listeners_refused_total{reason=\"full\"} 6",
                              "tower_listeners_refused_total{reason=\"address\"} 13",
                              "tower_listeners_ended_total{reason=\"lagged\"} 11",
                              "tower_listeners_ended_total{reason=\"shutdown\"} 12",
                              "tower_listeners_cadence_frames 4",
                              NULL,
                          });
}

static void what_never_was_is_no_number(void **state) {
    (void)state;
    struct tower_status status = {.last_air_ns = INT64_MIN, .pump.last_emit_ns = INT64_MIN};
    assert_lines(&status, (const char *const[]){
                              "tower_origin_seconds NaN",
                              "tower_air_frame_age_seconds NaN",
                              "tower_title_from_frame NaN",
                              "tower_producers_data_age_seconds NaN",
                              "tower_producers_on_air_seconds NaN",
                              "tower_producers_chosen 0",
                              "tower_producers_clock_ppm NaN",
                              "tower_producers_clock_out_of_range 0",
                              NULL,
                          });
}

static void counts_keep_all_their_digits(void **state) {
    (void)state;
    /* As many as the numbers of Prometheus have. */
    struct tower_status status = {.air_bytes = (UINT64_C(1) << 53) - 1};
    assert_lines(&status, (const char *const[]){"tower_air_bytes_total 9007199254740991", NULL});
}

static void no_fewer_than_none_are_sending(void **state) {
    (void)state;
    struct tower_status status = {.listeners = {.listeners = 1, .blocked = 2}};
    assert_lines(&status, (const char *const[]){
                              "tower_listeners{state=\"sending\"} 0",
                              "tower_listeners{state=\"blocked\"} 1",
                              NULL,
                          });
}

static void labels_are_escaped(void **state) {
    (void)state;
    struct tower_status status = {
        .station = {.name = "The \"Best\"", .description = "a\\b\nc", .genre = "Blås {1} # x"}};
    assert_lines(&status,
                 (const char *const[]){
                     "tower_station_info{name=\"The \\\"Best\\\"\",description=\"a\\\\b\\nc\","
                     "genre=\"Blås {1} # x\",url=\"\"} 1",
                     NULL,
                 });
}

static void histograms_add_up(void **state) {
    (void)state;
    struct tower_histogram lateness = {.scale = TOWER_HISTOGRAM_TICKS};
    struct tower_histogram calls = {.scale = TOWER_HISTOGRAM_CALLS};
    struct tower_status status = {.state = TOWER_SERVICE_ON_AIR};
    tower_histogram_add(&lateness, 0);
    tower_histogram_add(&lateness, 40000);
    tower_histogram_add(&lateness, 900000000);
    tower_histogram_add(&lateness, 5 * TOWER_NS_PER_S);
    tower_histogram_add(&calls, 1500);
    tower_histogram_add(&calls, 99000000);
    tower_histogram_snapshot(&lateness, &status.pump.lateness);
    tower_histogram_snapshot(&calls, &status.listeners.send_time);
    assert_lines(&status, (const char *const[]){
                              "# TYPE tower_tick_lateness_seconds histogram",
                              "tower_tick_lateness_seconds_bucket{le=\"5e-05\"} 2",
                              "tower_tick_lateness_seconds_bucket{le=\"1\"} 3",
                              "tower_tick_lateness_seconds_bucket{le=\"+Inf\"} 4",
                              "tower_tick_lateness_seconds_sum 5.90004",
                              "tower_tick_lateness_seconds_count 4",
                              "tower_listeners_send_seconds_bucket{le=\"2e-06\"} 1",
                              "tower_listeners_send_seconds_bucket{le=\"0.1\"} 2",
                              "tower_listeners_send_seconds_bucket{le=\"+Inf\"} 2",
                              "tower_listeners_send_seconds_sum 0.0990015",
                              "tower_listeners_send_seconds_count 2",
                              NULL,
                          });
}

/* Lines of text, to be compared whatever their order. */
struct lines {
    char *text;
    size_t bytes;
    FILE *out;
    char *line[400];
    size_t n;
};

static void lines_begin(struct lines *lines) {
    *lines = (struct lines){.text = NULL};
    lines->out = open_memstream(&lines->text, &lines->bytes);
    assert_non_null(lines->out);
}

static int compare_lines(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_end(struct lines *lines) {
    assert_int_equal(fclose(lines->out), 0);
    for (char *line = strtok(lines->text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(lines->n < sizeof lines->line / sizeof *lines->line);
        lines->line[lines->n++] = line;
    }
    assert_true(lines->n > 0);
    qsort(lines->line, lines->n, sizeof *lines->line, compare_lines);
}

static void assert_same_lines(struct lines *a, struct lines *b) {
    for (size_t i = 0; i < a->n && i < b->n; i++)
        assert_string_equal(a->line[i], b->line[i]);
    assert_int_equal(a->n, b->n);
    free(a->text);
    free(b->text);
}

/* Of each family a line with its type, its labels, and their values where they are words. */
static void list_families(char *text, FILE *out) {
    char name[80], type[16], label[32], labels_before[256] = "";
    bool has_free_values = false;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (sscanf(line, "# TYPE %79s %15s", name, type) == 2) {
            has_free_values =
                strstr(name, "_info") || strstr(name, "_named") || strstr(name, "_thrown_bytes");
            labels_before[0] = '\0';
            (void)fprintf(out, "\n%s %s", name, type);
        }
        const char *at = strchr(line, '{');
        if (*line == '#' || !at || strcmp(type, "histogram") == 0)
            continue;
        /* name="value" and more of them: no value has a quote in it here. */
        while (sscanf(at, "%*1[{,]%31[a-z_]=", label) == 1) {
            const char *value = strchr(at, '"') + 1;
            const char *end = strchr(value, '"');
            if (!strstr(labels_before, label)) {
                (void)fprintf(out, " %s", label);
                (void)strncat(labels_before, label,
                              sizeof labels_before - 1 - strlen(labels_before));
            }
            if (!has_free_values)
                (void)fprintf(out, " %.*s", (int)(end - value), value);
            at = end + 1;
        }
    }
}

/* A row of a table of the page: the cells between its bars, which are cut in place. */
static size_t cut_row(char *line, char *cells[8]) {
    size_t n = 0;
    char *end;
    for (char *at = line + 1; *line == '|' && n < 8 && (end = strchr(at, '|')); at = end + 1) {
        *end = '\0';
        cells[n++] = at;
    }
    return n;
}

/* The next `word` in `*at`, which moves behind it. */
static bool next_word(const char **at, char *ret_word, size_t bytes) {
    const char *begin = strchr(*at, '`');
    const char *end = begin ? strchr(begin + 1, '`') : NULL;
    if (!end)
        return false;
    (void)snprintf(ret_word, bytes, "%.*s", (int)(end - begin - 1), begin + 1);
    *at = end + 1;
    return true;
}

/* Write `field`, with what it has in braces replaced by each value of the label in `labels`; by its
 * own name where the values are free. */
static void write_fields(const char *field, const char *labels, FILE *out) {
    char label[64], value[64];
    const char *open = strchr(field, '{');
    if (!open) {
        (void)fprintf(out, "%s\n", field);
        return;
    }
    int n_before = (int)(open - field);
    if (strstr(labels, ", ") && !strchr(labels, ':')) {
        (void)fprintf(out, "%.*s%.*s\n", n_before, field, (int)strcspn(open + 1, "}"), open + 1);
        return;
    }
    assert_true(next_word(&labels, label, sizeof label));
    assert_memory_equal(open + 1, label, strlen(label));
    const char *after = open + 1 + strcspn(open + 1, "}");
    while (next_word(&labels, value, sizeof value))
        (void)fprintf(out, "%.*s%s%s\n", n_before, field, value, *after ? after + 1 : "");
}

/* What the page says that there is, and which fields of /status it speaks of. */
static void read_page(FILE *families, FILE *fields) {
    FILE *page = fopen(TOWER_METRICS_DOC, "re");
    assert_non_null(page);
    char line[1024], word[80], *cells[8];
    while (fgets(line, sizeof line, page)) {
        size_t n = cut_row(line, cells);
        const char *at = cells[0];
        if (n == 6 && next_word(&at, word, sizeof word)) {
            (void)fprintf(families, "\n%s %.*s", word, (int)strcspn(cells[1] + 1, " "),
                          cells[1] + 1);
            at = cells[3];
            while (next_word(&at, word, sizeof word))
                (void)fprintf(families, " %s", word);
            at = cells[4];
            while (next_word(&at, word, sizeof word))
                write_fields(word, cells[3], fields);
        } else if (n == 2 && next_word(&at, word, sizeof word)) {
            (void)fprintf(fields, "%s\n", word);
        }
    }
    assert_int_equal(fclose(page), 0);
}

static void the_page_about_it_is_true(void **state) {
    (void)state;
    struct lines sent, told, fields, fields_told;
    struct tower_status status = {
        .last_air_ns = INT64_MIN, .keeper.pid = 1, .producers.n_producers = 1};
    char *text = text_of(&status);
    lines_begin(&sent);
    list_families(text, sent.out);
    lines_end(&sent);
    free(text);

    lines_begin(&told);
    lines_begin(&fields_told);
    read_page(told.out, fields_told.out);
    lines_end(&told);
    lines_end(&fields_told);
    assert_same_lines(&sent, &told);

    /* The page about /status has all its fields: test_status_json.c sees to that. */
    lines_begin(&fields);
    FILE *page = fopen(TOWER_STATUS_DOC, "re");
    assert_non_null(page);
    char line[1024], name[80];
    while (fgets(line, sizeof line, page)) {
        if (sscanf(line, "| `%79[a-z0-9_.]` |", name) == 1)
            (void)fprintf(fields.out, "%s\n", name);
    }
    assert_int_equal(fclose(page), 0);
    lines_end(&fields);
    assert_same_lines(&fields, &fields_told);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_family_is_whole),
        cmocka_unit_test(values_in_their_units),
        cmocka_unit_test(what_never_was_is_no_number),
        cmocka_unit_test(counts_keep_all_their_digits),
        cmocka_unit_test(no_fewer_than_none_are_sending),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test(the_page_about_it_is_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
