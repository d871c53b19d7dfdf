/* program.h - what the subcommands know of the program they are part of. */
#ifndef TOWER_CLI_PROGRAM_H
#define TOWER_CLI_PROGRAM_H

/* Exit codes of every subcommand. */
enum {
    TOWER_EXIT_OK = 0,
    TOWER_EXIT_FAILED = 1, /* it was asked for rightly, and did not work */
    TOWER_EXIT_USAGE = 2,  /* bad usage or configuration: nothing was begun */
};

/* The program as the person typed it, such as "./build/tower". Constant from the start. */
const char *tower_program_name(void);

/* What main() was given, ended by NULL. Constant from the start. */
char *const *tower_program_arguments(void);

#endif
