/* cmd_check.h - `tower check`: the effective settings, or what is wrong with them. */
#ifndef TOWER_CLI_CMD_CHECK_H
#define TOWER_CLI_CMD_CHECK_H

/* Takes what `tower serve` takes; argv[0] is "check". Returns the exit code. */
int tower_cmd_check(int argc, char **argv);

#endif
