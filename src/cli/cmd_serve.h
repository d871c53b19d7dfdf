/* cmd_serve.h - `tower serve`: the transmitter. */
#ifndef TOWER_CLI_CMD_SERVE_H
#define TOWER_CLI_CMD_SERVE_H

/* Runs until SIGTERM, SIGINT or SIGHUP; argv[0] is "serve". Call it before any thread is made.
 * Returns the exit code: 0 after a clean stop, 1 if it could not start or did not stop cleanly, 2
 * if the settings don't work. */
int tower_cmd_serve(int argc, char **argv);

#endif
