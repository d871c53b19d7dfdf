/* cmd_switch.h - `tower switch`: says by hand which producer is on air. */
#ifndef TOWER_CLI_CMD_SWITCH_H
#define TOWER_CLI_CMD_SWITCH_H

/* argv[0] is "switch". Returns the exit code: 0 done, 1 refused or no answer, 2 bad usage. */
int tower_cmd_switch(int argc, char **argv);

#endif
