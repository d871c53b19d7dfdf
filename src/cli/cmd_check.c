/* cmd_check.c - `tower check`: the effective settings, or what is wrong with them. */
#include "cmd_check.h"

#include "passed_sockets.h"
#include "program.h"
#include "tower/config.h"

#include <stdio.h>

static const char usage[] =
    "Usage: tower check [--config FILE] [any flag of tower serve]\n\n"
    "Prints the settings that tower serve would run with, and where each came from; the output\n"
    "is good as a config file. Or one line that says what is wrong, and exit code 2.\n";

int tower_cmd_check(int argc, char **argv) {
    struct tower_config config;
    struct tower_service_sockets sockets = TOWER_SERVICE_SOCKETS_NONE;
    char error[1024];
    tower_config_init(&config);
    int ret = tower_passed_sockets_take(&sockets, error, sizeof error);
    if (ret == 0)
        ret = tower_config_read_arguments(&config, argc, argv, usage, error, sizeof error);
    if (ret < 0) {
        (void)fprintf(stderr, "%s\n", error);
        return TOWER_EXIT_USAGE;
    }
    if (ret == 0) {
        tower_config_print(&config, stdout);
        tower_passed_sockets_print(&sockets, stdout);
    }
    return TOWER_EXIT_OK;
}
