/* main.c - `tower`: finds the subcommand. */
#include "cmd_aircheck.h"
#include "cmd_check.h"
#include "cmd_feed.h"
#include "cmd_journal.h"
#include "cmd_request.h"
#include "cmd_serve.h"
#include "cmd_source_client.h"
#include "cmd_status.h"
#include "cmd_switch.h"
#include "cmd_tap.h"
#include "program.h"
#include "settings.h"
#include "tower/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: it is not for people, and not in the list */
};

static const struct command commands[] = {
    {"serve", tower_cmd_serve, "run the transmitter"},
    {"check", tower_cmd_check, "print the settings and where each came from, or what is wrong"},
    {"feed", tower_cmd_feed, "put a file, a list, a microphone or stdin on air"},
    {"aircheck", tower_cmd_aircheck, "listen to a stream and judge it"},
    {"tap", tower_cmd_tap, "write what is on air as PCM, for speech recognisers and others"},
    {"reload", tower_cmd_reload, "have a running transmitter read its configuration again"},
    {"upgrade", tower_cmd_upgrade, "have a running transmitter go on as the program on disk"},
    {"status", tower_cmd_status, "print the state of a running transmitter"},
    {"switch", tower_cmd_switch, "say by hand which producer is on air"},
    {"journal", tower_cmd_journal, "print what happened to it"},
    {"source-client", tower_cmd_source_client, NULL},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const char *program_name = "tower";
static char **program_arguments;

const char *tower_program_name(void) {
    return program_name;
}

char *const *tower_program_arguments(void) {
    return program_arguments;
}

static void print_usage(FILE *out) {
    (void)fputs("Usage: tower COMMAND [ARGUMENT]...\n\n"
                "One station: PCM in, one continuous MP3 stream out.\n\nCommands:\n",
                out);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (commands[i].help)
            (void)fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    }
    (void)fputs("  help       print the help of a command, like COMMAND --help\n\n"
                "  --version  print the version\n"
                "  --help     print this\n\n"
                "The manual is tower(1).\n",
                out);
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    const char *names[COMMANDS + 3] = {"help", "--help", "--version"};
    for (size_t i = 0; i < COMMANDS; i++)
        names[i + 3] = commands[i].name;
    const char *nearest = tower_word_nearest(name, names, COMMANDS + 3);
    (void)fprintf(stderr, "tower: unknown command '%.64s' (%s%s%s)\n", name,
                  nearest ? "did you mean '" : "tower --help prints all of them",
                  nearest ? nearest : "", nearest ? "'?" : "");
    return NULL;
}

static int run_help(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stdout);
        return TOWER_EXIT_OK;
    }
    if (argc > 2) {
        (void)fputs("tower help: expected one command (tower help COMMAND)\n", stderr);
        return TOWER_EXIT_USAGE;
    }
    const struct command *command = find_command(argv[1]);
    if (!command)
        return TOWER_EXIT_USAGE;
    char name[16], flag[] = "--help";
    (void)snprintf(name, sizeof name, "%s", command->name);
    char *arguments[] = {name, flag, NULL};
    return command->run(2, arguments);
}

static int run_command(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return TOWER_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        (void)printf("tower %s\n", tower_version());
        return TOWER_EXIT_OK;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return TOWER_EXIT_OK;
    }
    if (strcmp(argv[1], "help") == 0)
        return run_help(argc - 1, argv + 1);
    const struct command *command = find_command(argv[1]);
    return command ? command->run(argc - 1, argv + 1) : TOWER_EXIT_USAGE;
}

/* A socket or a pipe that got the number of a closed stdin, stdout or stderr would be written over.
 * What stands in can't be used, so that its use fails as it does on one that is closed. */
static int open_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (open_standard_descriptors() < 0)
        return TOWER_EXIT_FAILED;
    if (argc > 0)
        program_name = argv[0];
    program_arguments = argv;
    int exit_code = run_command(argc, argv);
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "tower: writing to stdout: %s\n",
                      errno != 0 ? strerror(errno) : "not all of it was taken");
        if (exit_code == TOWER_EXIT_OK)
            exit_code = TOWER_EXIT_FAILED;
    }
    return exit_code;
}
