/* world.h - the simulated world: a station of real parts, and all that happens to it.
 *
 * One thread. The pump is stepped, and everything else happens in the order of the virtual clock
 * around its ticks. What happens is thrown with dice of the seed, so a seed is a course of events.
 */
#ifndef TOWER_TESTS_SIM_WORLD_H
#define TOWER_TESTS_SIM_WORLD_H

#include "kernel.h"
#include "random.h"
#include "tower/clock.h"
#include "tower/encoder_manager.h"
#include "tower/log.h"
#include "waves.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MS INT64_C(1000000)
#define SIM_HOUR_NS (3600 * TOWER_NS_PER_S)
#define SIM_CAPACITY_MAX 400

/* How the station is set up. */
struct sim_settings {
    uint64_t seed;
    uint32_t frame_samples;
    size_t capacity_frames;
    int64_t resync_after_ns;
    int64_t grace_ns;
    bool has_file;
    double tone_hz; /* 0: no tone */
    enum tower_encoder_kind kind;
    uint32_t bitrate_bps;
    int64_t backoff_ns[TOWER_ENCODER_BACKOFF_MAX];
    size_t backoff_count;
    uint32_t max_restarts;
    bool has_wall_steps; /* the wall clock is stepped about */
    bool is_verbose;     /* say on stdout what happens */
};

/* What came of it. */
struct sim_result {
    bool is_whole; /* no invariant was broken */
    uint64_t hash; /* of all that was emitted, and when */
    uint64_t ticks;
    uint64_t skipped;
    uint64_t seams;
    uint64_t programmes;
    uint64_t children;
    uint64_t machine_incidents;
    uint64_t wall_steps;
    uint64_t checks[64]; /* of each invariant */

    _Atomic int64_t done_ns; /* of its time; anybody may look while it runs */
};

/* As the seed has it; `is_default`: the product's own defaults, with ffmpeg and a file. */
void sim_settings_draw(struct sim_settings *settings, uint64_t seed, bool is_default);

/* Run a world for `duration_ns` of its time. Errors: what making the parts failed with. */
int sim_world_run(const struct sim_settings *settings, int64_t duration_ns,
                  struct sim_result *ret_result);

/* ---- for what stands in for parts ---- */

int64_t sim_now_ns(void);
/* Locks that are taken and not given back. */
int sim_locks_held(void);
/* Somebody asked another clock than the virtual one; this is what it says. */
int64_t sim_wall_asked(void);
void sim_logged(enum tower_log_level level, const char *room, const char *text);
void sim_lame_failed(void);
void sim_plan_child(struct sim_child_plan *ret_plan);
void sim_child_starts(const struct sim_child_plan *plan, bool has_another, unsigned open_fds,
                      int64_t now_ns);
void sim_child_faulted(enum sim_fault fault, int64_t now_ns);
void sim_child_answered(int64_t now_ns);
void sim_fd_misused(int fd);
bool sim_file_has_frame(void);
struct sim_content sim_file_frame(uint64_t n);

#endif
