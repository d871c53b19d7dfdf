/* cmd_feed.h - `tower feed`: puts a source on air through the PCM socket. */
#ifndef TOWER_CLI_CMD_FEED_H
#define TOWER_CLI_CMD_FEED_H

/* Runs until the source has ended and all of it was written, or a signal; argv[0] is "feed". Call
 * it before any thread is made. Returns the exit code: 0, 1 if the source failed or was cut short,
 * 2 on bad usage. */
int tower_cmd_feed(int argc, char **argv);

#endif
