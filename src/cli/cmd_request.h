/* cmd_request.h - `tower reload` and `tower upgrade`. */
#ifndef TOWER_CLI_CMD_REQUEST_H
#define TOWER_CLI_CMD_REQUEST_H

int tower_cmd_reload(int argc, char **argv);
int tower_cmd_upgrade(int argc, char **argv);

#endif
