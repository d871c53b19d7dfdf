/* cmd_request.c - `tower reload` and `tower upgrade`: a signal to the keeper, and what came of it.
 */
#include "cmd_request.h"

#include "ask.h"
#include "program.h"
#include "tower/clock.h"
#include "tower/format.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#define STATUS_PATH "/status"
#define LIMIT_NS (20 * TOWER_NS_PER_S)
#define PAUSE_NS (TOWER_NS_PER_S / 10)

struct request {
    const char *command;
    int signal_number;
    const char *help; /* behind the line of usage */
    const char *done; /* what is said then */
};

static void print_help(const struct request *request) {
    printf("Usage: tower %s [URL]\n\n%s"
           "\n"
           "URL is that of a transmitter on this machine, " TOWER_ASK_URL " where none is\n"
           "given. It takes the right to send it a signal: its user's, or root's.\n"
           "\n"
           "  --help   this\n"
           "\n"
           "Exit code: 0 done; 1 refused, with the reason, and all is as it was, or no answer;\n"
           "2 bad usage.\n",
           request->command, request->help);
}

/* Returns 0 to go on, 1 if that was all, -EINVAL. */
static int parse_options(const struct request *request, int argc, char **argv,
                         const char **ret_url) {
    static const struct option known[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int letter;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (letter == 'h') {
            print_help(request);
            return 1;
        }
        (void)fprintf(stderr, "tower %s: %s: there is no such option; see `tower %s --help`\n",
                      request->command, argv[optind - 1], request->command);
        return -EINVAL;
    }
    if (argc - optind > 1) {
        (void)fprintf(stderr, "tower %s: %s: one address is enough; see `tower %s --help`\n",
                      request->command, argv[optind + 1], request->command);
        return -EINVAL;
    }
    *ret_url = optind < argc ? argv[optind] : TOWER_ASK_URL;
    return 0;
}

/* Is that process a transmitter of this machine? */
static bool is_tower(pid_t pid) {
    char path[64], name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t n = fread(name, 1, sizeof name - 1, file);
    (void)fclose(file);
    name[n] = '\0';
    name[strcspn(name, "\n")] = '\0';
    return strcmp(name, "tower") == 0;
}

/* The keeper's pid; what is wrong is said here, and 0 returned. */
static pid_t find_keeper(const struct request *request, const char *url, const json_t *status) {
    const json_t *keeper = json_object_get(status, "keeper");
    json_int_t pid = json_integer_value(json_object_get(keeper, "pid"));
    if (pid <= 1) {
        (void)fprintf(stderr,
                      "tower %s: %s: this transmitter runs without a keeper (--keeper no): restart "
                      "it\n",
                      request->command, url);
        return 0;
    }
    if (!is_tower((pid_t)pid)) {
        (void)fprintf(stderr,
                      "tower %s: %s: its process %ld is not on this machine: do this where it "
                      "runs\n",
                      request->command, url, (long)pid);
        return 0;
    }
    return (pid_t)pid;
}

static json_int_t count_requests(const json_t *status) {
    const json_t *keeper = json_object_get(status, "keeper");
    return json_integer_value(json_object_get(keeper, "requests"));
}

/* Wait until the keeper has answered: the status then; NULL if it has not. */
static json_t *wait_for_answer(const struct tower_http_url *address, json_int_t requests_before) {
    struct tower_clock *clock = tower_clock_real();
    const int64_t until_ns = tower_clock_now_ns(clock) + LIMIT_NS;
    while (tower_clock_now_ns(clock) < until_ns) {
        (void)tower_clock_sleep_until(clock, tower_clock_now_ns(clock) + PAUSE_NS);
        /* It may just be between two processes: nothing is said, and it is asked again. */
        json_t *status = tower_ask(NULL, NULL, address);
        if (status && count_requests(status) > requests_before)
            return status;
        json_decref(status);
    }
    return NULL;
}

static int finish(const struct request *request, const json_t *status) {
    const json_t *keeper = json_object_get(status, "keeper");
    const char *error = json_string_value(json_object_get(keeper, "request_error"));
    if (error && *error) {
        (void)fprintf(stderr, "tower %s: refused: ", request->command);
        (void)fflush(stderr);
        (void)fprintf(stderr, "%s\n", error);
        return TOWER_EXIT_FAILED;
    }
    (void)printf(
        "%s, with %" JSON_INTEGER_FORMAT " listeners.\n", request->done,
        json_integer_value(json_object_get(json_object_get(status, "listeners"), "current")));
    return TOWER_EXIT_OK;
}

static int run(const struct request *request, int argc, char **argv) {
    const char *url = NULL;
    struct tower_http_url address;
    int ret = parse_options(request, argc, argv, &url);
    if (ret != 0)
        return ret > 0 ? TOWER_EXIT_OK : TOWER_EXIT_USAGE;
    if (tower_ask_url(request->command, url, STATUS_PATH, &address) < 0)
        return TOWER_EXIT_USAGE;
    json_t *status = tower_ask(request->command, url, &address);
    if (!status)
        return TOWER_EXIT_FAILED;
    pid_t pid = find_keeper(request, url, status);
    json_int_t requests = count_requests(status);
    json_decref(status);
    if (pid == 0)
        return TOWER_EXIT_FAILED;
    if (kill(pid, request->signal_number) < 0) {
        (void)fprintf(stderr, "tower %s: process %ld: %s; do this as its user, or as root\n",
                      request->command, (long)pid, strerror(errno));
        return TOWER_EXIT_FAILED;
    }
    status = wait_for_answer(&address, requests);
    if (!status) {
        (void)fprintf(stderr, "tower %s: %s: no answer within %d s; its log says what it does\n",
                      request->command, url, (int)(LIMIT_NS / TOWER_NS_PER_S));
        return TOWER_EXIT_FAILED;
    }
    int exit_code = finish(request, status);
    json_decref(status);
    return exit_code;
}

int tower_cmd_reload(int argc, char **argv) {
    static const struct request request = {
        .command = "reload",
        .signal_number = SIGHUP,
        .help =
            "Has a running transmitter read its configuration again: the file, with the flags\n"
            "and the environment it was started with. Settings that are wrong are refused, and\n"
            "the old ones stay. Nobody who listens or feeds notices.\n",
        .done = "Reloaded",
    };
    return run(&request, argc, argv);
}

int tower_cmd_upgrade(int argc, char **argv) {
    static const struct request request = {
        .command = "upgrade",
        .signal_number = SIGUSR2,
        .help = "Has a running transmitter go on with the program that lies on disk now where it\n"
                "was started from. If that does not take its settings, or puts nothing on air\n"
                "within 2 s, the old one goes on. Nobody who listens or feeds notices.\n",
        .done = "Upgraded",
    };
    return run(&request, argc, argv);
}
