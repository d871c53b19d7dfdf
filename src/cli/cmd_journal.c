/* cmd_journal.c - `tower journal`: the incidents of a file, or of a running transmitter. */
#include "cmd_journal.h"

#include "ask.h"
#include "fd.h"
#include "program.h"
#include "tower/clock.h"
#include "tower/format.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_PATH "/journal"
#define FILE_PAUSE_NS (TOWER_NS_PER_S / 4)
#define URL_PAUSE_NS TOWER_NS_PER_S
/* Many times what an incident takes. */
#define LINE_BYTES_MAX 16384
#define REAL_DIGITS 9

struct options {
    const char *url;
    const char *file;
    bool is_json;
    bool follows;
    bool is_help;
};

static void print_help(void) {
    printf("Usage: tower journal [--file FILE | --url URL] [--json] [--follow]\n"
           "\n"
           "Prints incidents, a line each, the oldest first: when, the frame of the stream, what\n"
           "happened, and what listeners had of it.\n"
           "\n"
           "  --file FILE  from a file that `tower serve --journal FILE` writes, and from FILE.1\n"
           "  --url URL    from a running transmitter, the last 200; the default, with\n"
           "               " TOWER_ASK_URL "\n"
           "  --json       print each as a line of JSON\n"
           "  --follow     go on, and print what is added\n"
           "  --help       this\n"
           "\n"
           "Exit code: 0 printed; 1 no answer, or no such file; 2 bad usage.\n");
}

static int parse_options(int argc, char **argv, struct options *ret_options) {
    static const struct option known[] = {
        {"file", required_argument, NULL, 'f'}, {"url", required_argument, NULL, 'u'},
        {"json", no_argument, NULL, 'j'},       {"follow", no_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
    struct options options = {0};
    int letter;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        switch (letter) {
        case 'f':
            options.file = optarg;
            break;
        case 'u':
            options.url = optarg;
            break;
        case 'j':
            options.is_json = true;
            break;
        case 'F':
            options.follows = true;
            break;
        case 'h':
            options.is_help = true;
            break;
        default:
            (void)fprintf(stderr, "tower journal: %s: %s; see `tower journal --help`\n",
                          argv[optind - 1],
                          letter == ':' ? "a value is missing" : "there is no such option");
            return -EINVAL;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr,
                      "tower journal: %s: say --file or --url before it; see `tower journal "
                      "--help`\n",
                      argv[optind]);
        return -EINVAL;
    }
    if (options.file && options.url) {
        (void)fputs("tower journal: either --file or --url; see `tower journal --help`\n", stderr);
        return -EINVAL;
    }
    *ret_options = options;
    return 0;
}

/* ---- one incident ---- */

static const char *text_of(const json_t *incident, const char *key) {
    const char *text = json_string_value(json_object_get(incident, key));
    return text ? text : "-";
}

static void print_incident(const struct options *options, const json_t *incident) {
    if (options->is_json) {
        (void)json_dumpf(incident, stdout, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    } else {
        tower_print_text(text_of(incident, "time"));
        (void)printf("  frame %-9" JSON_INTEGER_FORMAT " ",
                     json_integer_value(json_object_get(incident, "frame")));
        tower_print_text(text_of(incident, "event"));
        (void)printf(": ");
        tower_print_text(text_of(incident, "text"));
    }
    (void)putchar('\n');
}

static void pause_for(int64_t ns) {
    struct tower_clock *clock = tower_clock_real();
    (void)fflush(stdout);
    (void)tower_clock_sleep_until(clock, tower_clock_now_ns(clock) + ns);
}

/* ---- from a file ---- */

struct reader {
    int fd;
    size_t have_bytes;
    bool is_too_long; /* what is there of a line is thrown away up to its end */
    uint64_t n_bad;   /* lines that are no incidents */
    char line[LINE_BYTES_MAX];
};

static void take_line(const struct options *options, struct reader *reader) {
    json_t *incident = NULL;
    if (!reader->is_too_long)
        incident = json_loadb(reader->line, reader->have_bytes, 0, NULL);
    if (json_is_object(incident) && json_object_get(incident, "event"))
        print_incident(options, incident);
    else if (reader->have_bytes > 0 || reader->is_too_long)
        reader->n_bad++;
    json_decref(incident);
    reader->have_bytes = 0;
    reader->is_too_long = false;
}

/* Up to the end there is now. Errors: what read() says. */
static int read_lines(const struct options *options, struct reader *reader) {
    char data[4096];
    for (;;) {
        ssize_t n = read(reader->fd, data, sizeof data);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        for (ssize_t i = 0; i < n; i++) {
            if (data[i] == '\n')
                take_line(options, reader);
            else if (reader->have_bytes < sizeof reader->line)
                reader->line[reader->have_bytes++] = data[i];
            else
                reader->is_too_long = true;
        }
    }
}

static bool is_moved(const struct reader *reader, const char *path) {
    struct stat ours, named;
    return fstat(reader->fd, &ours) == 0 && stat(path, &named) == 0 &&
           (ours.st_dev != named.st_dev || ours.st_ino != named.st_ino);
}

/* All of one file, and with `follows` also what comes to it until another stands in its place. */
static int print_file(const struct options *options, const char *path, bool follows,
                      struct reader *reader) {
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        return -errno;
    int error = read_lines(options, reader);
    while (error == 0 && follows) {
        bool was_moved = is_moved(reader, path);
        /* What was written between the last look and the move is in it still. */
        error = read_lines(options, reader);
        if (was_moved)
            break;
        pause_for(FILE_PAUSE_NS);
    }
    if (reader->have_bytes > 0)
        take_line(options, reader);
    tower_fd_close(&reader->fd);
    return error;
}

static int print_files(const struct options *options) {
    static struct reader reader;
    char old_path[PATH_MAX + 2];
    int error = -ENAMETOOLONG;
    if (strlen(options->file) < PATH_MAX) {
        (void)snprintf(old_path, sizeof old_path, "%s.1", options->file);
        (void)print_file(options, old_path, false, &reader);
        do {
            error = print_file(options, options->file, options->follows, &reader);
        } while (error == 0 && options->follows);
    }
    if (reader.n_bad > 0)
        (void)fprintf(stderr,
                      "tower journal: %s: %" PRIu64
                      " lines are no incidents (the end of a line is missing where the "
                      "transmitter was killed)\n",
                      options->file, reader.n_bad);
    if (error < 0) {
        (void)fprintf(stderr, "tower journal: %s: %s\n", options->file, strerror(-error));
        return TOWER_EXIT_FAILED;
    }
    return TOWER_EXIT_OK;
}

/* ---- from a transmitter ---- */

/* Where we are in the journal of one process of the transmitter. */
struct place {
    json_int_t began_ms; /* which process it is of */
    json_int_t number;
};

/* Errors: -EIO (no journal; said). */
static int print_since(const struct options *options, const char *text, struct tower_http_url url,
                       struct place *place) {
    size_t length = strlen(url.path);
    (void)snprintf(url.path + length, sizeof url.path - length, "?since=%" JSON_INTEGER_FORMAT,
                   place->number);
    json_t *json = tower_ask("journal", text, &url);
    if (!json)
        return -EIO;
    const json_t *incidents = json_object_get(json, "incidents");
    json_int_t began_ms = json_integer_value(json_object_get(json, "began_ms"));
    size_t i;
    const json_t *incident = NULL;
    int ret = 0;
    if (!json_is_array(incidents)) {
        (void)fprintf(stderr, "tower journal: %s: the answer is no journal\n", text);
        ret = -EIO;
    } else if (began_ms != place->began_ms && place->number > 0) {
        /* Another process by now, whose numbers began anew: what was asked for was not meant. */
        *place = (struct place){began_ms, 0};
    } else {
        place->began_ms = began_ms;
        json_array_foreach(incidents, i, incident) {
            print_incident(options, incident);
            place->number = json_integer_value(json_object_get(incident, "number"));
        }
    }
    json_decref(json);
    return ret;
}

static int print_from_transmitter(const struct options *options) {
    const char *text = options->url ? options->url : TOWER_ASK_URL;
    struct tower_http_url url;
    struct place place = {0};
    if (tower_ask_url("journal", text, JOURNAL_PATH, &url) < 0)
        return TOWER_EXIT_USAGE;
    if (print_since(options, text, url, &place) < 0)
        return TOWER_EXIT_FAILED;
    /* One that is started anew is waited for, as the other end of a file would be. */
    while (options->follows) {
        pause_for(URL_PAUSE_NS);
        (void)print_since(options, text, url, &place);
    }
    return TOWER_EXIT_OK;
}

int tower_cmd_journal(int argc, char **argv) {
    struct options options;
    if (parse_options(argc, argv, &options) < 0)
        return TOWER_EXIT_USAGE;
    if (options.is_help) {
        print_help();
        return TOWER_EXIT_OK;
    }
    return options.file ? print_files(&options) : print_from_transmitter(&options);
}
