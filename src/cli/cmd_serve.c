/* cmd_serve.c - `tower serve`: settings, signals, banner; the rest is TowerService's. */
#include "cmd_serve.h"

#include "child.h"
#include "keeper.h"
#include "listening.h"
#include "passed_sockets.h"
#include "program.h"
#include "service_carried.h"
#include "service_manager.h"
#include "tower/log.h"
#include "tower/producer.h"
#include "tower/service.h"
#include "tower/version.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* timeout(1), and some service managers, send one signal twice: to the process and to its group. */
#define SAME_SIGNAL_NS 50000000L
/* What a program has to say that it would take over. */
#define JUDGE_NS (5 * TOWER_NS_PER_S)
#define CHILD_LOOK_MS 50
#define DESCRIBE_NS TOWER_NS_PER_S

static const char usage[] =
    "Usage: tower serve [--config FILE] [--SETTING VALUE]...\n\n"
    "Takes PCM on a Unix socket and sends it to everybody who listens, as MP3 over HTTP; it never\n"
    "goes silent. Runs until SIGTERM or SIGINT. SIGHUP: read the configuration again; SIGUSR2: go "
    "on\n"
    "with the program that is on disk now. Nobody who listens notices either.\n";

/* ---- the banner ---- */

/* Write `text` so that a shell takes it as one word. */
static void print_shell_word(const char *text, FILE *out) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:@%,=";
    if (*text != '\0' && text[strspn(text, plain)] == '\0') {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('\'', out);
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            (void)fputs("'\\''", out);
        else
            (void)fputc(*text, out);
    }
    (void)fputc('\'', out);
}

/* The host of an address that a player on this machine can open. */
static void print_host(const char *host, FILE *out) {
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        (void)fputs("127.0.0.1", out);
    else
        (void)fprintf(out, strchr(host, ':') ? "[%s]" : "%s", host);
}

/* Would `tower feed` without --socket find this one? */
static bool is_default_socket(const char *path) {
    char default_path[TOWER_CONFIG_PATH_BYTES];
    const char *variable = getenv("TOWER_SOCKET_PATH");
    if (variable && *variable != '\0' && strcmp(variable, path) != 0)
        return false;
    return tower_socket_path_default(default_path, sizeof default_path) == 0 &&
           strcmp(default_path, path) == 0;
}

static void print_banner(const struct tower_config *config, uint16_t port, FILE *out) {
    (void)fprintf(out, "Tower %s is on air.\n  listen:       http://", tower_version());
    print_host(config->host, out);
    (void)fprintf(out, ":%u/stream\n  watch:        http://", (unsigned)port);
    print_host(config->host, out);
    (void)fprintf(out,
                  ":%u/\n  feed PCM:     %s (s16le, 48 kHz, stereo)\n"
                  "  feed a song:  ",
                  (unsigned)port, config->socket_path);
    print_shell_word(tower_program_name(), out);
    (void)fputs(" feed ", out);
    if (!is_default_socket(config->socket_path)) {
        (void)fputs("--socket ", out);
        print_shell_word(config->socket_path, out);
        (void)fputc(' ', out);
    }
    (void)fputs("song.mp3\nStop it with Ctrl-C.\n", out);
}

/* ---- signals, where there is no keeper ---- */

static void exit_at_once(int signal_number) {
    (void)signal_number;
    _exit(TOWER_EXIT_FAILED);
}

static void block_signals(sigset_t *ret_stop) {
    struct sigaction hangup;
    sigemptyset(ret_stop);
    sigaddset(ret_stop, SIGTERM);
    sigaddset(ret_stop, SIGINT);
    /* Under nohup it is ignored, and must stay so: sigwaitinfo() would see it all the same. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(ret_stop, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret_stop, NULL);
}

/* Said every half second: how the transmitter is. */
static void tell_manager(struct tower_service_manager *manager, struct tower_service *service) {
    struct tower_status status;
    char text[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    tower_service_get_status(service, &status);
    tower_service_manager_describe(&status, text, sizeof text);
    tower_service_manager_status(manager, text);
    if (status.state == TOWER_SERVICE_ON_AIR)
        (void)tower_service_manager_ready(manager);
    tower_service_manager_beat(manager, status.now_ns, status.air_frames);
}

static void wait_for_stop(struct tower_service_manager *manager, struct tower_service *service) {
    const struct timespec same = {.tv_nsec = SAME_SIGNAL_NS};
    int64_t interval_ns = tower_service_manager_interval_ns(manager);
    const struct timespec interval = {.tv_sec = interval_ns / TOWER_NS_PER_S,
                                      .tv_nsec = interval_ns % TOWER_NS_PER_S};
    sigset_t stop;
    int signal_number;
    block_signals(&stop);
    do {
        if (interval_ns != INT64_MAX)
            tell_manager(manager, service);
        signal_number = sigtimedwait(&stop, NULL, interval_ns != INT64_MAX ? &interval : NULL);
    } while (signal_number < 0);
    (void)tower_service_manager_stopping(manager);
    tower_log(TOWER_LOG_INFO, "serve", "stopping: %s", strsignal(signal_number));
    while (sigtimedwait(&stop, NULL, &same) > 0)
        continue;
    /* From here on a signal is a second one, from somebody who won't wait. */
    const struct sigaction at_once = {.sa_handler = exit_at_once};
    for (int i = 1; i < NSIG; i++) {
        if (sigismember(&stop, i) == 1)
            (void)sigaction(i, &at_once, NULL);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
}

/* ---- the work ---- */

struct serve {
    struct tower_keeper_config keeper;
    struct tower_config config;
    struct tower_config config_before;         /* while the next worker has not begun */
    struct tower_keeper_descriptors *own;      /* in what is carried; or `own_alone` */
    struct tower_keeper_descriptors own_alone; /* without a keeper */
    int argc;
    char **argv; /* of the subcommand */
};

/* The machine ran short of something: the settings are not to blame. */
static bool is_runtime_error(int error) {
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
           error == -EAGAIN || error == -EIO;
}

/* Nobody's stream ends because a terminal or a disk would not take the banner. */
static void show_banner(const struct tower_config *config, uint16_t port) {
    print_banner(config, port, stdout);
    if (fflush(stdout) != 0) {
        tower_log(TOWER_LOG_WARNING, "serve", "stdout took no banner: %s", strerror(errno));
        __fpurge(stdout);
        clearerr(stdout);
    }
}

static void describe(struct tower_service *service, struct tower_carried *carried) {
    struct tower_status status;
    char text[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    tower_service_get_status(service, &status);
    tower_service_manager_describe(&status, text, sizeof text);
    tower_carried_describe(carried, text);
}

/* Serve until asked to stop; `carried` NULL: without a keeper. */
static int run(struct serve *serve, struct tower_carried *carried, uint32_t generation) {
    struct tower_service *service;
    char error[1024] = "";
    int ret = tower_service_continue(&serve->config, &serve->own->listening.sockets,
                                     tower_clock_real(), carried, &service, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        return is_runtime_error(ret) ? TOWER_EXIT_FAILED : TOWER_EXIT_USAGE;
    }
    ret = tower_service_start(service, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        tower_service_free(service);
        return TOWER_EXIT_FAILED;
    }
    if (generation <= 1)
        show_banner(&serve->config, tower_service_port(service));
    if (carried) {
        tower_carried_set_ready(carried, generation);
        while (!tower_keeper_waits(&serve->keeper, carried, DESCRIBE_NS))
            describe(service, carried);
    } else {
        wait_for_stop(&serve->own->manager, service);
    }
    ret = tower_service_stop(service);
    if (ret < 0)
        tower_log(TOWER_LOG_ERROR, "serve", "not stopped in order: %s", strerror(-ret));
    tower_service_free(service);
    return ret < 0 ? TOWER_EXIT_FAILED : TOWER_EXIT_OK;
}

/* With the log, which has a thread of its own: in the process that serves. */
static int run_logged(void *user, struct tower_carried *carried, uint32_t generation) {
    struct serve *serve = user;
    int ret = tower_log_start(serve->config.log_level);
    if (ret < 0) {
        (void)fprintf(stderr, "starting the log: %s\n", strerror(-ret));
        return TOWER_EXIT_FAILED;
    }
    int exit_code = run(serve, carried, generation);
    tower_log_stop();
    return exit_code;
}

/* ---- what the keeper asks ---- */

static int read_config(struct serve *serve, struct tower_config *ret_config, char *error,
                       size_t error_bytes) {
    char password[TOWER_CONFIG_PASSWORD_BYTES];
    tower_config_init(ret_config);
    int ret = tower_config_read_arguments(ret_config, serve->argc, serve->argv, usage, error,
                                          error_bytes);
    if (ret == 0)
        ret = tower_config_read_password(ret_config, password, error, error_bytes);
    explicit_bzero(password, sizeof password);
    return ret > 0 ? -EINVAL : ret;
}

static int reload(void *user, char *error, size_t error_bytes) {
    struct serve *serve = user;
    static struct tower_config config; /* too large for a stack, and the keeper has one thread */
    struct tower_listening listening;
    int ret = read_config(serve, &config, error, error_bytes);
    if (ret == 0)
        ret =
            tower_listening_change(&serve->own->listening, &config, &listening, error, error_bytes);
    if (ret < 0)
        return ret;
    serve->own->listening_before = serve->own->listening;
    serve->own->listening = listening;
    serve->config_before = serve->config;
    serve->config = config;
    tower_log_set_level(config.log_level);
    return 0;
}

static void settle(void *user, bool is_taken_back) {
    struct serve *serve = user;
    struct tower_keeper_descriptors *own = serve->own;
    if (is_taken_back) {
        struct tower_listening taken_back = own->listening_before;
        tower_listening_close(&own->listening, &taken_back);
        own->listening = taken_back;
        serve->config = serve->config_before;
        tower_log_set_level(serve->config.log_level);
    } else {
        tower_listening_close(&own->listening_before, &own->listening);
    }
    own->listening_before = (struct tower_listening)TOWER_LISTENING_NONE;
}

/* Wait for the child up to `limit_ns`, and take the beginning of what it says on stderr. */
static int finish_child(struct tower_child *child, int64_t limit_ns, char *ret_said,
                        size_t said_bytes) {
    const int64_t until_ns = tower_clock_now_ns(tower_clock_real()) + limit_ns;
    size_t n_said = 0;
    int status = 0;
    int ended;
    while ((ended = tower_child_poll(child, &status)) == 0 &&
           tower_clock_now_ns(tower_clock_real()) < until_ns) {
        struct pollfd waits = {.fd = child->pidfd, .events = POLLIN};
        (void)poll(&waits, 1, CHILD_LOOK_MS);
    }
    ssize_t n;
    while (n_said + 1 < said_bytes &&
           (n = read(child->stderr_fd, ret_said + n_said, said_bytes - 1 - n_said)) > 0)
        n_said += (size_t)n;
    ret_said[n_said] = '\0';
    ret_said[strcspn(ret_said, "\n")] = '\0';
    tower_child_kill(child);
    if (ended != 1)
        return -ETIMEDOUT;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
}

/* It must load, and take our settings. */
static int judge_program(void *user, const char *path, char *error, size_t error_bytes) {
    const struct serve *serve = user;
    char **argv = calloc((size_t)serve->argc + 2, sizeof *argv);
    if (!argv)
        return -ENOMEM;
    char check[] = "check";
    char *program = strdup(path);
    argv[0] = program;
    argv[1] = check;
    for (int i = 1; i < serve->argc; i++)
        argv[i + 1] = serve->argv[i];
    struct tower_child child = TOWER_CHILD_NONE;
    int ret = program ? tower_child_start(&child, argv, TOWER_CHILD_STDERR, 0) : -ENOMEM;
    if (ret < 0) {
        (void)snprintf(error, error_bytes, "%s cannot be run: %s", path, strerror(-ret));
    } else {
        char said[256];
        ret = finish_child(&child, JUDGE_NS, said, sizeof said);
        if (ret < 0)
            (void)snprintf(error, error_bytes, "%s check, with our settings, %s%s", path,
                           ret == -ETIMEDOUT ? "did not end within 5 s" : "failed: ", said);
    }
    free(program);
    free(argv);
    return ret;
}

/* ---- the command ---- */

/* What the program before this one left to it, in the same process; NULL where there was none. */
static struct tower_carried *take_carried(void) {
    struct tower_carried *carried = NULL;
    const char *text = getenv(TOWER_CARRIED_VARIABLE);
    if (!text)
        return NULL;
    char *end;
    long fd = strtol(text, &end, 10);
    bool is_number = *text != '\0' && *end == '\0' && fd > 2 && fd < INT_MAX;
    int ret = is_number ? tower_carried_open((int)fd, &carried) : -EINVAL;
    if (ret < 0)
        tower_log(TOWER_LOG_ERROR, "serve",
                  "%s=%s: nothing that this program can go on with: %s; starting anew",
                  TOWER_CARRIED_VARIABLE, text, strerror(-ret));
    (void)unsetenv(TOWER_CARRIED_VARIABLE);
    return carried;
}

/* The service manager, if there is one, and the sockets: passed to us, ours, or those that the
 * program before this one had. */
static int open_own(struct serve *serve, struct tower_carried *carried, char *error,
                    size_t error_bytes) {
    struct tower_keeper_descriptors *own = serve->own;
    if (carried) {
        /* Where it listens must not change under those who know the address: that is a restart's.
         */
        tower_passed_sockets_apply(&own->listening.sockets, &serve->config);
        return 0;
    }
    int ret = tower_service_manager_init(&own->manager);
    if (ret < 0)
        tower_log(TOWER_LOG_WARNING, "serve", "the service manager is told nothing: %s",
                  ret == -EINVAL ? "NOTIFY_SOCKET or WATCHDOG_USEC makes no sense"
                                 : strerror(-ret));
    tower_passed_sockets_apply(&own->listening.sockets, &serve->config);
    return tower_listening_open(&own->listening, &serve->config, error, error_bytes);
}

static int serve_alone(struct serve *serve) {
    char error[1024];
    serve->own = &serve->own_alone;
    int ret = open_own(serve, NULL, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        return is_runtime_error(ret) ? TOWER_EXIT_FAILED : TOWER_EXIT_USAGE;
    }
    int exit_code = run_logged(serve, NULL, 0);
    tower_listening_close(&serve->own->listening, NULL);
    tower_service_manager_done(&serve->own->manager);
    return exit_code;
}

static int serve_kept(struct serve *serve, const struct tower_service_sockets *passed) {
    char error[1024];
    struct tower_carried *before = take_carried();
    struct tower_carried *carried = before;
    int ret = carried ? 0 : tower_carried_new(&carried);
    if (ret < 0) {
        (void)fprintf(stderr, "making what outlives the worker: %s\n", strerror(-ret));
        return TOWER_EXIT_FAILED;
    }
    serve->own = tower_carried_descriptors(carried);
    if (!before)
        serve->own->listening.sockets = *passed;
    ret = open_own(serve, before, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        tower_carried_free(carried);
        return is_runtime_error(ret) ? TOWER_EXIT_FAILED : TOWER_EXIT_USAGE;
    }
    serve->keeper = (struct tower_keeper_config){
        .work = run_logged,
        .reload = reload,
        .settle = settle,
        .judge_program = judge_program,
        .user = serve,
        .argv = tower_program_arguments(),
        .carried = carried,
        .goes_on = before != NULL,
    };
    int exit_code = tower_keeper_run(&serve->keeper);
    tower_listening_close(&serve->own->listening, NULL);
    tower_service_manager_done(&serve->own->manager);
    tower_carried_free(carried);
    return exit_code;
}

int tower_cmd_serve(int argc, char **argv) {
    static struct serve serve;
    struct tower_service_sockets passed = TOWER_SERVICE_SOCKETS_NONE;
    char error[1024];
    serve = (struct serve){
        .own_alone = {.listening = TOWER_LISTENING_NONE, .manager = TOWER_SERVICE_MANAGER_NONE},
        .argc = argc,
        .argv = argv,
    };
    tower_config_init(&serve.config);
    int ret = tower_passed_sockets_take(&passed, error, sizeof error);
    if (ret == 0)
        ret = tower_config_read_arguments(&serve.config, argc, argv, usage, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        return TOWER_EXIT_USAGE;
    }
    if (ret > 0)
        return TOWER_EXIT_OK;
    (void)signal(SIGPIPE, SIG_IGN);
    tower_log_set_level(serve.config.log_level);
    serve.own_alone.listening.sockets = passed;
    return serve.config.has_keeper ? serve_kept(&serve, &passed) : serve_alone(&serve);
}
