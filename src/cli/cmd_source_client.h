/* cmd_source_client.h - `tower source-client`: what serves one source client. */
#ifndef TOWER_CLI_CMD_SOURCE_CLIENT_H
#define TOWER_CLI_CMD_SOURCE_CLIENT_H

/* Returns the exit code. */
int tower_cmd_source_client(int argc, char **argv);

#endif
