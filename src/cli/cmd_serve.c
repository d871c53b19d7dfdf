/* cmd_serve.c - `tower serve`: settings, signals, banner; the rest is TowerService's. */
#include "cmd_serve.h"

#include "passed_sockets.h"
#include "program.h"
#include "service_manager.h"
#include "tower/log.h"
#include "tower/producer.h"
#include "tower/service.h"
#include "tower/version.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* timeout(1), and some service managers, send one signal twice: to the process and to its group. */
#define SAME_SIGNAL_NS 50000000L

static const char usage[] =
    "Usage: tower serve [--config FILE] [--SETTING VALUE]...\n\n"
    "Takes PCM on a Unix socket and sends it to everybody who listens, as MP3 over HTTP; it never\n"
    "goes silent. Runs until SIGTERM, SIGINT or SIGHUP.\n";

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

/* ---- signals ---- */

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
    (void)signal(SIGPIPE, SIG_IGN);
}

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

static void wait_for_stop(const sigset_t *stop, struct tower_service_manager *manager,
                          struct tower_service *service) {
    const struct timespec same = {.tv_nsec = SAME_SIGNAL_NS};
    int64_t interval_ns = tower_service_manager_interval_ns(manager);
    const struct timespec interval = {.tv_sec = interval_ns / TOWER_NS_PER_S,
                                      .tv_nsec = interval_ns % TOWER_NS_PER_S};
    int signal_number;
    do {
        if (interval_ns != INT64_MAX)
            tell_manager(manager, service);
        signal_number = sigtimedwait(stop, NULL, interval_ns != INT64_MAX ? &interval : NULL);
    } while (signal_number < 0);
    (void)tower_service_manager_stopping(manager);
    tower_log(TOWER_LOG_INFO, "serve", "stopping: %s", strsignal(signal_number));
    while (sigtimedwait(stop, NULL, &same) > 0)
        continue;
    /* From here on a signal is a second one, from somebody who won't wait. */
    const struct sigaction at_once = {.sa_handler = exit_at_once};
    for (int i = 1; i < NSIG; i++) {
        if (sigismember(stop, i) == 1)
            (void)sigaction(i, &at_once, NULL);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, stop, NULL);
}

/* ---- the command ---- */

/* The machine ran short of something: the settings are not to blame. */
static bool is_runtime_error(int error) {
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
           error == -EAGAIN || error == -EIO;
}

static int run(const struct tower_config *config, const struct tower_service_sockets *sockets,
               struct tower_service_manager *manager, const sigset_t *stop) {
    struct tower_service *service;
    char error[1024] = "";
    int ret = tower_service_new(config, sockets, tower_clock_real(), &service, error, sizeof error);
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
    print_banner(config, tower_service_port(service), stdout);
    /* Nobody's stream ends because a terminal or a disk would not take the banner. */
    if (fflush(stdout) != 0) {
        tower_log(TOWER_LOG_WARNING, "serve", "stdout took no banner: %s", strerror(errno));
        __fpurge(stdout);
        clearerr(stdout);
    }
    wait_for_stop(stop, manager, service);
    ret = tower_service_stop(service);
    if (ret < 0)
        tower_log(TOWER_LOG_ERROR, "serve", "not stopped in order: %s", strerror(-ret));
    tower_service_free(service);
    return ret < 0 ? TOWER_EXIT_FAILED : TOWER_EXIT_OK;
}

int tower_cmd_serve(int argc, char **argv) {
    struct tower_config config;
    struct tower_service_sockets sockets = TOWER_SERVICE_SOCKETS_NONE;
    struct tower_service_manager manager = TOWER_SERVICE_MANAGER_NONE;
    char error[1024];
    tower_config_init(&config);
    int ret = tower_passed_sockets_take(&sockets, error, sizeof error);
    if (ret == 0)
        ret = tower_config_read_arguments(&config, argc, argv, usage, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        return TOWER_EXIT_USAGE;
    }
    if (ret > 0)
        return TOWER_EXIT_OK;
    int manager_error = tower_service_manager_init(&manager);
    tower_passed_sockets_apply(&sockets, &config);
    sigset_t stop;
    block_signals(&stop);
    ret = tower_log_start(config.log_level);
    if (ret < 0) {
        (void)fprintf(stderr, "starting the log: %s\n", strerror(-ret));
        return TOWER_EXIT_FAILED;
    }
    if (manager_error < 0)
        tower_log(TOWER_LOG_WARNING, "serve", "the service manager is told nothing: %s",
                  manager_error == -EINVAL ? "NOTIFY_SOCKET or WATCHDOG_USEC makes no sense"
                                           : strerror(-manager_error));
    int exit_code = run(&config, &sockets, &manager, &stop);
    tower_service_manager_done(&manager);
    tower_log_stop();
    return exit_code;
}
