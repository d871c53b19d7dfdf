/* cmd_tap.h - `tower tap`: the programme as PCM, to a file or a pipe. */
#ifndef TOWER_CLI_CMD_TAP_H
#define TOWER_CLI_CMD_TAP_H

/* Run it with the subcommand's arguments; argv[0] is its name. Returns an exit code. */
int tower_cmd_tap(int argc, char **argv);

#endif
