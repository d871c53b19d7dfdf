/* cmd_aircheck.c - `tower aircheck`: options, connection, the listening itself. */
#include "cmd_aircheck.h"

#include "aircheck.h"
#include "aircheck_print.h"
#include "http_client.h"
#include "number_text.h"
#include "program.h"
#include "tower/clock.h"
#include "tower/format.h"
#include "tower/levels.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_URL "http://127.0.0.1:8005/stream"
#define DEFAULT_SECONDS 10.0
#define SECONDS_MAX (366.0 * 24 * 3600)
#define DEFAULT_MAX_GAP_MS 1000.0
#define MAX_GAP_MS_MAX 3600000.0
#define STEP_MAX 65535.0
#define CONNECT_TIMEOUT_NS (INT64_C(10) * TOWER_NS_PER_S)
/* How long a signal or the progress line may have to wait. */
#define SLICE_NS INT64_C(200000000)

struct options {
    const char *url;
    const char *save_path; /* NULL: none */
    double seconds;
    double max_gap_ms;
    double max_step;
    bool is_json;
    bool is_help;
};

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number) {
    (void)number;
    is_interrupted = 1;
}

static void print_help(void) {
    printf(
        "Usage: tower aircheck [URL] [--seconds N] [--json] [--max-gap-ms N] [--max-step N]\n"
        "                      [--save FILE]\n"
        "\n"
        "Listens to an MP3 stream as anyone would, decodes it with libmpg123, and reports what\n"
        "was on air. URL is " DEFAULT_URL " where none is given.\n"
        "\n"
        "  --seconds N      listen for N seconds (10); 0: until interrupted (Ctrl-C)\n"
        "  --json           report as one JSON object\n"
        "  --max-gap-ms N   nothing arriving for longer than this is a fault (1000); 0: never\n"
        "  --max-step N     a larger step between neighbouring samples, of up to 65535, is a\n"
        "                   fault (0); 0: never\n"
        "  --save FILE      write what was received to FILE\n"
        "  --help           this\n"
        "\n"
        "Exit code: 0 good; 1 a decoder error, a broken frame, a lost sync, a change of format,\n"
        "a gap or a step over its limit, a stream that ended early, nothing to decode, or no\n"
        "connection; 2 bad usage.\n"
        "\n"
        "%s",
        tower_aircheck_json_help);
}

static int parse_number(const char *option, const char *text, double max, double *ret_value) {
    if (tower_number_decimal(text, 0, max, ret_value))
        return 0;
    (void)fprintf(stderr,
                  "tower aircheck: %s %s: expected a number from 0 to %.0f; see "
                  "`tower aircheck --help`\n",
                  option, text, max);
    return -EINVAL;
}

static int parse_options(int argc, char **argv, struct options *ret_options) {
    static const struct option known[] = {
        {"seconds", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"max-gap-ms", required_argument, NULL, 'g'},
        {"max-step", required_argument, NULL, 'm'},
        {"save", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {
        .url = DEFAULT_URL, .seconds = DEFAULT_SECONDS, .max_gap_ms = DEFAULT_MAX_GAP_MS};
    int letter;
    int error = 0;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while (error == 0 && (letter = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        switch (letter) {
        case 's':
            error = parse_number("--seconds", optarg, SECONDS_MAX, &options.seconds);
            break;
        case 'j':
            options.is_json = true;
            break;
        case 'g':
            error = parse_number("--max-gap-ms", optarg, MAX_GAP_MS_MAX, &options.max_gap_ms);
            break;
        case 'm':
            error = parse_number("--max-step", optarg, STEP_MAX, &options.max_step);
            break;
        case 'o':
            options.save_path = optarg;
            break;
        case 'h':
            options.is_help = true;
            break;
        default:
            (void)fprintf(stderr, "tower aircheck: %s: %s; see `tower aircheck --help`\n",
                          argv[optind - 1],
                          letter == ':' ? "a value must follow" : "there is no such option");
            error = -EINVAL;
        }
    }
    if (error == 0 && argc - optind > 1) {
        (void)fprintf(stderr,
                      "tower aircheck: %s: one address is enough; see "
                      "`tower aircheck --help`\n",
                      argv[optind + 1]);
        error = -EINVAL;
    }
    if (error < 0)
        return error;
    if (optind < argc)
        options.url = argv[optind];
    *ret_options = options;
    return 0;
}

static void show_progress(const struct tower_aircheck *check) {
    struct tower_aircheck_report report;
    tower_aircheck_get_report(check, &report);
    uint32_t peak =
        report.pcm.peak[0] > report.pcm.peak[1] ? report.pcm.peak[0] : report.pcm.peak[1];
    (void)fprintf(stderr,
                  "\r%8.1f s  %" PRIu64
                  " frames  peak %.1f dBFS  longest gap %.0f ms  errors %" PRIu64 "\033[K",
                  (double)report.listened_ns / 1e9, report.frames, tower_levels_dbfs(peak),
                  (double)report.longest_gap_ns / 1e6,
                  report.lost_syncs + report.decoder_errors + report.broken_frames);
}

/* Listen until the time is up, the stream ends or somebody interrupts. */
static void listen_on(struct tower_http_client *client, const struct options *options,
                      int64_t asked_ns, FILE *save, struct tower_aircheck *check,
                      struct tower_aircheck_run *run) {
    static uint8_t data[16384];
    struct tower_clock *clock = tower_clock_real();
    bool has_terminal = isatty(STDERR_FILENO) == 1;
    int64_t now_ns = tower_clock_now_ns(clock);
    int64_t end_ns = options->seconds > 0
                         ? now_ns + (int64_t)(options->seconds * (double)TOWER_NS_PER_S)
                         : INT64_MAX;
    int64_t shown_ns = now_ns;
    while (!is_interrupted && now_ns < end_ns) {
        int64_t wait_ns = end_ns - now_ns < SLICE_NS ? end_ns - now_ns : SLICE_NS;
        int64_t n = tower_http_client_read(client, data, sizeof data, wait_ns);
        now_ns = tower_clock_now_ns(clock);
        if (n > 0) {
            if (run->first_byte_ns < 0)
                run->first_byte_ns = now_ns - asked_ns;
            tower_aircheck_feed(check, data, (size_t)n, now_ns);
            if (save && !run->save_words && fwrite(data, 1, (size_t)n, save) != (size_t)n)
                run->save_words = strerror(errno);
        } else if (n != -ETIMEDOUT && n != -EINTR) {
            run->is_ended_early = true;
            run->end_words = n == 0             ? "the server closed it"
                             : n == -ECONNRESET ? "the connection broke off"
                                                : strerror((int)-n);
            break;
        }
        if (has_terminal && now_ns - shown_ns >= SLICE_NS) {
            show_progress(check);
            shown_ns = now_ns;
        }
    }
    if (has_terminal)
        (void)fprintf(stderr, "\r\033[K");
    tower_aircheck_finish(check, now_ns);
}

static void catch_signals(struct sigaction ret_before[2]) {
    /* Without SA_RESTART, so that a wait under way ends at once. */
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    is_interrupted = 0;
    (void)sigaction(SIGINT, &action, &ret_before[0]);
    (void)sigaction(SIGTERM, &action, &ret_before[1]);
}

static void release_signals(const struct sigaction before[2]) {
    (void)sigaction(SIGINT, &before[0], NULL);
    (void)sigaction(SIGTERM, &before[1], NULL);
}

static int report_run(const struct options *options, const struct tower_aircheck_run *run) {
    struct tower_aircheck_faults faults;
    tower_aircheck_judge(run, &faults);
    int error = options->is_json ? tower_aircheck_print_json(stdout, run, &faults)
                                 : tower_aircheck_print_words(stdout, run, &faults);
    /* What stdout would not take is told by main(), as for every command. */
    if (error == -ENOMEM)
        (void)fprintf(stderr, "tower aircheck: cannot write the report: %s\n", strerror(-error));
    return error < 0 || faults.n > 0 ? TOWER_EXIT_FAILED : TOWER_EXIT_OK;
}

static int run_aircheck(const struct options *options, const struct tower_http_url *url,
                        FILE *save) {
    struct tower_http_client *client = NULL;
    struct tower_aircheck *check = NULL;
    char reason[512];
    int code = TOWER_EXIT_FAILED;
    int64_t asked_ns = tower_clock_now_ns(tower_clock_real());
    if (tower_http_get(url, CONNECT_TIMEOUT_NS, &is_interrupted, &client, reason, sizeof reason) <
        0) {
        (void)fprintf(stderr, "tower aircheck: %s\n",
                      is_interrupted ? "stopped before an answer came" : reason);
        return TOWER_EXIT_FAILED;
    }
    if (tower_http_client_status(client) != 200) {
        (void)fprintf(stderr, "tower aircheck: %s: the server answered %u %s; is the path right?\n",
                      options->url, tower_http_client_status(client),
                      tower_http_client_status_words(client));
        goto done;
    }
    int error = tower_aircheck_new(&check);
    if (error < 0) {
        (void)fprintf(stderr, "tower aircheck: cannot start the decoder: %s\n", strerror(-error));
        goto done;
    }
    struct tower_aircheck_run run = {
        .url = options->url,
        .content_type = tower_http_client_content_type(client),
        .seconds = options->seconds,
        .max_gap_ns = (int64_t)(options->max_gap_ms * 1e6),
        .max_step = (uint32_t)options->max_step,
        .first_byte_ns = -1,
    };
    listen_on(client, options, asked_ns, save, check, &run);
    if (save && fflush(save) != 0 && !run.save_words)
        run.save_words = strerror(errno);
    tower_aircheck_get_report(check, &run.report);
    code = report_run(options, &run);

done:
    tower_aircheck_free(check);
    tower_http_client_free(client);
    return code;
}

int tower_cmd_aircheck(int argc, char **argv) {
    struct options options;
    struct tower_http_url url;
    char reason[512];
    if (parse_options(argc, argv, &options) < 0)
        return TOWER_EXIT_USAGE;
    if (options.is_help) {
        print_help();
        return TOWER_EXIT_OK;
    }
    if (tower_http_url_parse(options.url, &url, reason, sizeof reason) < 0) {
        (void)fprintf(stderr, "tower aircheck: %s; see `tower aircheck --help`\n", reason);
        return TOWER_EXIT_USAGE;
    }
    FILE *save = NULL;
    if (options.save_path) {
        save = fopen(options.save_path, "wbe");
        if (!save) {
            (void)fprintf(stderr, "tower aircheck: --save %s: cannot write there: %s\n",
                          options.save_path, strerror(errno));
            return TOWER_EXIT_USAGE;
        }
    }
    struct sigaction before[2];
    catch_signals(before);
    int code = run_aircheck(&options, &url, save);
    release_signals(before);
    if (save && fclose(save) != 0 && code == TOWER_EXIT_OK) {
        (void)fprintf(stderr, "tower aircheck: --save %s: cannot finish it: %s\n",
                      options.save_path, strerror(errno));
        code = TOWER_EXIT_FAILED;
    }
    return code;
}
