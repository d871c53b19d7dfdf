/* cmd_status.h - `tower status`: prints the state of a running transmitter. */
#ifndef TOWER_CLI_CMD_STATUS_H
#define TOWER_CLI_CMD_STATUS_H

/* argv[0] is "status". Returns the exit code: 0 it is on air, 1 it is not or gives no answer, 2 bad
 * usage. */
int tower_cmd_status(int argc, char **argv);

#endif
