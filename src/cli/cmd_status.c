/* cmd_status.c - `tower status`: asks a transmitter for /status and says it in words. */
#include "cmd_status.h"

#include "ask.h"
#include "program.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define STATUS_PATH "/status"
#define REAL_DIGITS 9
#define LABEL_WIDTH 12

struct options {
    const char *url;
    bool is_json;
    bool is_help;
};

static void print_help(void) {
    printf("Usage: tower status [URL] [--json]\n"
           "\n"
           "Prints the state of a running transmitter. URL is " TOWER_ASK_URL " where none is\n"
           "given; " STATUS_PATH " is added to it.\n"
           "\n"
           "  --json   print the whole state as JSON, as the transmitter gives it\n"
           "  --help   this\n"
           "\n"
           "Exit code: 0 on air; 1 not on air, or no answer; 2 bad usage.\n");
}

static int parse_options(int argc, char **argv, struct options *ret_options) {
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct options options = {.url = TOWER_ASK_URL};
    int letter;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (letter == 'j') {
            options.is_json = true;
        } else if (letter == 'h') {
            options.is_help = true;
        } else {
            (void)fprintf(stderr,
                          "tower status: %s: there is no such option; see `tower status --help`\n",
                          argv[optind - 1]);
            return -EINVAL;
        }
    }
    if (argc - optind > 1) {
        (void)fprintf(stderr,
                      "tower status: %s: one address is enough; see `tower status --help`\n",
                      argv[optind + 1]);
        return -EINVAL;
    }
    if (optind < argc)
        options.url = argv[optind];
    *ret_options = options;
    return 0;
}

/* ---- The state in words ---- */

/* Follows `outer` (NULL: the top) and `key`; NULL where there is no such thing. */
static json_t *look_up(const json_t *json, const char *outer, const char *key) {
    return json_object_get(outer ? json_object_get(json, outer) : json, key);
}

/* The value as it is; "-" where it is missing. */
static void print_value(const json_t *value) {
    if (json_is_integer(value))
        (void)printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        (void)printf("%.1f", json_real_value(value));
    else if (json_is_string(value))
        tower_print_text(json_string_value(value));
    else if (json_is_boolean(value))
        (void)printf("%s", json_is_true(value) ? "yes" : "no");
    else
        (void)printf("-");
}

/* "3d 4h", "12m 5s", "1.2s". */
static void print_duration(const json_t *value) {
    double seconds = json_number_value(value);
    if (!json_is_number(value) || !(seconds >= 0) || seconds > 1e12) {
        (void)printf("-");
        return;
    }
    long long whole = (long long)seconds;
    if (whole >= 86400)
        (void)printf("%lldd %lldh", whole / 86400, whole % 86400 / 3600);
    else if (whole >= 3600)
        (void)printf("%lldh %lldm", whole / 3600, whole % 3600 / 60);
    else if (whole >= 60)
        (void)printf("%lldm %llds", whole / 60, whole % 60);
    else
        (void)printf("%.1fs", seconds);
}

static void print_label(const char *label) {
    (void)printf("%-*s ", LABEL_WIDTH, label);
}

/* `label`, then the value of each `keys` of `outer` with its own name behind it: "12 due, 0 late".
 */
static void print_counts(const json_t *json, const char *label, const char *outer,
                         const char *const *keys, size_t n_keys) {
    print_label(label);
    for (size_t i = 0; i < n_keys; i++) {
        (void)printf("%s", i > 0 ? ", " : "");
        print_value(look_up(json, outer, keys[i]));
        (void)printf(" ");
        for (const char *c = keys[i]; *c; c++)
            (void)putchar(*c == '_' ? ' ' : *c);
    }
    (void)printf("\n");
}
#define PRINT_COUNTS(json, label, outer, ...)                                                      \
    print_counts(json, label, outer, (const char *const[]){__VA_ARGS__},                           \
                 sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void print_state(const json_t *json) {
    print_label("state");
    print_value(look_up(json, NULL, "state"));
    (void)printf(", up for ");
    print_duration(look_up(json, NULL, "uptime_seconds"));
    (void)printf(", version ");
    print_value(look_up(json, NULL, "version"));
    (void)printf("\n");
    print_label("origin");
    print_value(look_up(json, NULL, "origin"));
    (void)printf(", for ");
    print_duration(look_up(json, NULL, "origin_seconds"));
    (void)printf("\n");
    print_label("title");
    print_value(look_up(json, "title", "text"));
    (void)printf("\n");
}

static void print_air(const json_t *json) {
    const json_t *bitrate = look_up(json, NULL, "bitrate_bps");
    print_label("air");
    print_value(look_up(json, "air", "frames"));
    (void)printf(" frames, ");
    print_value(look_up(json, "air", "bytes"));
    (void)printf(" bytes, ");
    if (json_is_number(bitrate))
        (void)printf("%.0f kbit/s, ", json_number_value(bitrate) / 1000);
    (void)printf("the last frame ");
    print_duration(look_up(json, "air", "seconds_since_frame"));
    (void)printf(" ago\n");
}

static void print_frames_by_origin(const json_t *json) {
    json_t *frames = look_up(json, NULL, "frames_by_origin");
    const char *origin = NULL;
    const json_t *value = NULL;
    bool is_first = true;
    print_label("frames");
    json_object_foreach(frames, origin, value) {
        (void)printf("%s", is_first ? "" : ", ");
        print_value(value);
        (void)printf(" ");
        tower_print_text(origin);
        is_first = false;
    }
    (void)printf("%s\n", is_first ? "-" : "");
}

static void print_encoder(const json_t *json) {
    const json_t *delay = look_up(json, "encoder", "delay_seconds");
    print_label("encoder");
    print_value(look_up(json, "encoder", "kind"));
    (void)printf(" ");
    print_value(look_up(json, "encoder", "state"));
    (void)printf(", ");
    print_value(look_up(json, "encoder", "restarts"));
    (void)printf(" restarts, ");
    print_value(look_up(json, "encoder", "frames_spare"));
    (void)printf(" frames by the spare, ");
    print_value(look_up(json, "encoder", "frames_repair"));
    (void)printf(" repaired");
    if (json_is_number(delay))
        (void)printf(", delay %.0f ms", json_number_value(delay) * 1000);
    (void)printf("\n");
}

/* "live, Morning Show, is on air for 2m 5s, chosen by hand (number 8, process 4711, 4608 bytes)" */
static void print_producer(const json_t *producer) {
    const json_t *name = json_object_get(producer, "name");
    const char *state = json_string_value(json_object_get(producer, "state"));
    const bool is_idle = state && strcmp(state, "idle") == 0;
    print_label("");
    if (json_is_string(name)) {
        print_value(name);
    } else {
        (void)printf("#");
        print_value(json_object_get(producer, "id"));
    }
    if (json_is_string(json_object_get(producer, "label"))) {
        (void)printf(", ");
        print_value(json_object_get(producer, "label"));
        (void)printf(",");
    }
    if (json_is_true(json_object_get(producer, "on_air")))
        (void)printf(" is on air for ");
    else
        (void)printf("%s", is_idle ? " has nothing to play, for " : " waits for ");
    print_duration(json_object_get(producer, "since_seconds"));
    if (json_is_true(json_object_get(producer, "chosen")))
        (void)printf(", chosen by hand");
    (void)printf(" (number ");
    print_value(json_object_get(producer, "id"));
    (void)printf(", process ");
    print_value(json_object_get(producer, "pid"));
    (void)printf(", ");
    print_value(json_object_get(producer, "bytes"));
    (void)printf(" bytes)\n");
}

static void print_producers(const json_t *json) {
    PRINT_COUNTS(json, "producers", "producers", "connected", "accepted", "refused",
                 "partial_frames", "takeovers");
    size_t index;
    const json_t *producer = NULL;
    const json_t *list = look_up(json, "producers", "list");
    json_array_foreach(list, index, producer) {
        if (json_is_true(json_object_get(producer, "on_air")))
            print_producer(producer);
    }
    json_array_foreach(list, index, producer) {
        if (!json_is_true(json_object_get(producer, "on_air")))
            print_producer(producer);
    }
}

/* What is wrong with what comes in now, by its name in words. */
static void print_input(const json_t *json) {
    json_t *input = look_up(json, NULL, "input");
    const char *name = NULL;
    const json_t *fault = NULL;
    bool is_first = true;
    print_label("input");
    json_object_foreach(input, name, fault) {
        const json_t *duration = json_object_get(fault, "seconds");
        if (!json_is_number(duration))
            continue;
        (void)printf("%s", is_first ? "" : ", ");
        tower_print_text(name);
        (void)printf(" for ");
        print_duration(duration);
        is_first = false;
    }
    (void)printf("%s\n", is_first ? "no fault" : "");
}

static void print_router(const json_t *json) {
    print_label("router");
    print_value(look_up(json, "router", "count"));
    (void)printf(" of ");
    print_value(look_up(json, "router", "capacity"));
    (void)printf(" frames queued, ");
    print_value(look_up(json, "router", "overflow_count"));
    (void)printf(" dropped\n");
}

static void print_keeper(const json_t *json) {
    const json_t *keeper = look_up(json, NULL, "keeper");
    const json_t *last = json_object_get(keeper, "last_replaced");
    print_label("keeper");
    if (!json_is_object(keeper)) {
        (void)printf("none\n");
        return;
    }
    (void)printf("process ");
    print_value(json_object_get(keeper, "pid"));
    (void)printf(", worker ");
    print_value(json_object_get(keeper, "generation"));
    if (json_is_string(last)) {
        (void)printf("; the one before was ");
        tower_print_text(json_string_value(last));
        (void)printf(" ");
        print_duration(json_object_get(keeper, "last_replaced_seconds"));
        (void)printf(" ago");
    }
    (void)printf("\n");
}

static void print_words(const json_t *json) {
    print_state(json);
    print_air(json);
    PRINT_COUNTS(json, "ticks", "ticks", "due", "emitted", "late", "skipped", "resyncs");
    print_frames_by_origin(json);
    print_encoder(json);
    print_producers(json);
    print_input(json);
    print_router(json);
    PRINT_COUNTS(json, "listeners", "listeners", "current", "peak", "accepted", "refused", "skips");
    PRINT_COUNTS(json, "taps", "taps", "current", "accepted", "refused", "chunks_lost");
    print_keeper(json);
}

int tower_cmd_status(int argc, char **argv) {
    struct options options;
    struct tower_http_url url;
    if (parse_options(argc, argv, &options) < 0)
        return TOWER_EXIT_USAGE;
    if (options.is_help) {
        print_help();
        return TOWER_EXIT_OK;
    }
    if (tower_ask_url("status", options.url, STATUS_PATH, &url) < 0)
        return TOWER_EXIT_USAGE;
    json_t *json = tower_ask("status", options.url, &url);
    if (!json)
        return TOWER_EXIT_FAILED;
    if (options.is_json) {
        (void)json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS));
        (void)putchar('\n');
    } else {
        print_words(json);
    }
    const char *state = json_string_value(json_object_get(json, "state"));
    bool is_on_air = state && strcmp(state, "on air") == 0;
    json_decref(json);
    return is_on_air ? TOWER_EXIT_OK : TOWER_EXIT_FAILED;
}
