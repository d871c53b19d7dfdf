/* cmd_journal.h - `tower journal`. */
#ifndef TOWER_CLI_CMD_JOURNAL_H
#define TOWER_CLI_CMD_JOURNAL_H

int tower_cmd_journal(int argc, char **argv);

#endif
