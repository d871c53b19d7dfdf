/* cmd_aircheck.h - `tower aircheck`: listens to a stream as anyone would, and judges it. */
#ifndef TOWER_CLI_CMD_AIRCHECK_H
#define TOWER_CLI_CMD_AIRCHECK_H

/* argv[0] is "aircheck". Returns the exit code: 0 good, 1 a fault or no stream, 2 bad usage. */
int tower_cmd_aircheck(int argc, char **argv);

#endif
