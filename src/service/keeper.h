/* keeper.h - the process that stays: makes the worker, and makes another when it dies.
 *
 * Single-threaded and tiny. The worker is made by clone(CLONE_FILES), so that every descriptor it
 * opens is open here too, and stays so when it is killed: no listener's connection closes.
 */
#ifndef TOWER_SERVICE_KEEPER_H
#define TOWER_SERVICE_KEEPER_H

#include "carried.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tower_keeper_config {
    /* What the worker process does from its beginning to its end, on a thread of its own. Returns
     * its exit code. Calls tower_carried_set_ready() when it serves; if none of the workers ever
     * does, the keeper ends with the code of the first. */
    int (*work)(void *user, struct tower_carried *carried, uint32_t generation);
    /* Read the configuration again for the next worker; 0, or a negative errno with one line in
     * `error` and everything as it was. */
    int (*reload)(void *user, char *error, size_t error_bytes);
    /* The worker that was to begin with the new configuration has done so, or could not: then take
     * back what reload() did. */
    void (*settle)(void *user, bool is_taken_back);
    /* May the program at `path` take over? As reload(). Blocks for up to 5 s. */
    int (*judge_program)(void *user, const char *path, char *error, size_t error_bytes);
    void *user;
    char *const *argv;             /* of the program, for the next one */
    struct tower_carried *carried; /* outlives everything here */
    bool goes_on;                  /* it is from the program before this one */
};

/* The environment variable that tells the program it is to go on, with the region's descriptor. */
#define TOWER_CARRIED_VARIABLE "TOWER_CARRIED_FD"

/* Keep a worker running until SIGTERM or SIGINT, and stop it in order; reload on SIGHUP (unless it
 * is ignored), upgrade on SIGUSR2. Those signals must be blocked already. Returns the exit code of
 * the program. The calling process must have one thread. */
int tower_keeper_run(const struct tower_keeper_config *config);

/* For the thread that the worker's work() runs on: wait up to `for_ns` for the keeper to ask it to
 * stop. Returns true if it does. When the keeper dies, the process executes the program anew, as a
 * keeper. */
bool tower_keeper_waits(const struct tower_keeper_config *config, struct tower_carried *carried,
                        int64_t for_ns);

#endif
