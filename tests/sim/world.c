/* world.c - a station of real parts, and all that happens to it. */
#include "world.h"

#include "codec.h"
#include "invariants.h"
#include "producer.h"
#include "tower/fallback.h"
#include "tower/pump.h"
#include "tower/router.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_NS (1000 * TOWER_NS_PER_S)
/* The parts' own figures are compared so many ticks apart. */
#define COMPARE_TICKS 32
/* A child that never stops answering, and one that does so often in one run, has something wrong
 * with it or with us. */
#define RUNS_MAX 2000
#define WAVE_OF_FILE 2
#define LATEST_NS (3 * TOWER_NS_PER_S)

struct world {
    struct sim_settings settings;
    struct sim_ledger ledger;
    struct sim_waves waves;
    struct sim_producer producer;
    struct tower_clock *clock;
    struct tower_router *router;
    struct tower_fallback *fallback;
    struct tower_pump *pump;
    struct tower_encoder_manager *encoder;
    struct sim_result *result;

    struct sim_random machine, children, wall, weather;
    bool is_stormy;
    int64_t weather_ns; /* when it changes */
    int64_t machine_ns; /* when something next happens to the machine */

    bool is_file_there;
    int64_t file_ns; /* when that changes */
    bool is_file_start;
    struct sim_content file_content;

    int64_t wall_ns; /* ahead of the virtual clock by so much */
    int64_t wall_step_ns;
    uint64_t wall_asked;

    /* What is to happen within the next tick. */
    int64_t before_pop_ns;
    int64_t before_write_ns;
    unsigned refusals;

    bool are_children_broken;
    int64_t children_ns; /* when that changes */
    int64_t encoder_blocked_until_ns;
    int64_t encoder_deadline_ns;
    uint64_t written; /* frames the encoder manager took */
    int16_t numbered[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
};

static struct world *world;

int64_t sim_now_ns(void) {
    return tower_clock_now_ns(world->clock);
}

static void say(const char *what, int64_t for_ns) {
    if (world->settings.is_verbose)
        printf("# %.6f s: %s (%.6f s)\n", (double)(sim_now_ns() - START_NS) / 1e9, what,
               (double)for_ns / 1e9);
}

/* ---- what stands in for parts asks here ---- */

int64_t sim_wall_asked(void) {
    world->wall_asked++;
    return sim_now_ns() + world->wall_ns;
}

void sim_logged(enum tower_log_level level, const char *room, const char *text) {
    struct sim_pump_rules *pump = &world->ledger.pump;
    if (world->settings.is_verbose)
        printf("# %.6f s: %s: %s\n", (double)(sim_now_ns() - START_NS) / 1e9, room, text);
    if (strcmp(room, "pump") == 0) {
        pump->seen_warnings += level == TOWER_LOG_WARNING;
        pump->seen_errors += level == TOWER_LOG_ERROR;
    } else if (strcmp(room, "encoder") == 0) {
        sim_ledger_child_blamed(&world->ledger, text);
    }
}

void sim_lame_failed(void) {
    sim_ledger_lame_failed(&world->ledger);
    sim_ledger_disturbed(&world->ledger, sim_now_ns());
}

void sim_child_starts(const struct sim_child_plan *plan, bool has_another, unsigned open_fds,
                      int64_t now_ns) {
    world->result->children++;
    if (world->settings.is_verbose)
        printf("# %.6f s: ffmpeg starts: fault %d after %.6f s, startup %.6f s, latency %.6f s, "
               "pause after %.6f s for %.6f s, build %u, reads %zu\n",
               (double)(now_ns - START_NS) / 1e9, (int)plan->fault, (double)plan->fault_ns / 1e9,
               (double)plan->startup_ns / 1e9, (double)plan->latency_ns / 1e9,
               (double)plan->pause_ns / 1e9, (double)plan->pause_for_ns / 1e9, plan->build,
               plan->read_bytes);
    sim_ledger_child_starts(&world->ledger, plan, has_another, open_fds, now_ns);
}

void sim_child_faulted(enum sim_fault fault, int64_t now_ns) {
    if (world->settings.is_verbose)
        printf("# %.6f s: ffmpeg: fault %d\n", (double)(now_ns - START_NS) / 1e9, (int)fault);
    sim_ledger_child_faulted(&world->ledger, fault, now_ns);
}

void sim_child_answered(int64_t now_ns) {
    sim_ledger_child_answered(&world->ledger, now_ns);
}

void sim_fd_misused(int fd) {
    SIM_HOLDS(&world->ledger, ONE_CHILD, false, "descriptor %d is not open", fd);
}

bool sim_file_has_frame(void) {
    return world->is_file_there;
}

struct sim_content sim_file_frame(uint64_t n) {
    world->is_file_start = n == 0;
    world->file_content = sim_waves_at(&world->waves, WAVE_OF_FILE, n, 0);
    return world->file_content;
}

/* Half of them live long; some never start, and when ffmpeg is broken none does for long. */
void sim_plan_child(struct sim_child_plan *ret_plan) {
    struct sim_random *random = &world->children;
    bool is_brief = world->are_children_broken || sim_random_chance(random, 20);
    int64_t life_ns = is_brief           ? 10 * TOWER_NS_PER_S
                      : world->is_stormy ? 60 * TOWER_NS_PER_S
                                         : 6 * SIM_HOUR_NS;
    struct sim_child_plan plan = {
        .fault = (enum sim_fault)sim_random_below(random, SIM_FAULTS),
        .fault_ns = sim_random_scale(random, SIM_MS, life_ns),
        .startup_ns = sim_random_scale(random, SIM_MS, 400 * SIM_MS),
    };
    /* Slow enough to be taken for mute, and long enough to show that it is not. */
    if (sim_random_chance(random, 15)) {
        plan.startup_ns = sim_random_between(random, 0, 4800 * SIM_MS);
        plan.fault_ns += plan.startup_ns + 2 * TOWER_NS_PER_S;
    }
    if (sim_random_chance(random, 20))
        plan.latency_ns = sim_random_scale(random, SIM_MS / 10, 300 * SIM_MS);
    if (sim_random_chance(random, 10))
        plan.build = 1;
    if (sim_random_chance(random, 20))
        plan.read_bytes = (size_t)sim_random_between(random, 20, 500);
    plan.is_chatty = sim_random_chance(random, 5);
    if (sim_random_chance(random, 50))
        plan.reap_ns = sim_random_scale(random, SIM_MS, 90 * SIM_MS);
    if (sim_random_chance(random, 10))
        plan.kill_ns = sim_random_scale(random, SIM_MS, 20 * TOWER_NS_PER_S);
    plan.pause_for_ns = sim_random_scale(random, SIM_MS, 450 * SIM_MS);
    plan.pause_ns = plan.startup_ns + sim_random_scale(random, SIM_MS, life_ns);
    /* Many end while they stand still. */
    if (sim_random_chance(random, 10))
        plan.pause_ns = plan.fault_ns - plan.pause_for_ns / 2;
    /* What it gives too much is only known for too much where it owes nothing. */
    if (plan.fault == SIM_FAULT_EXCESS) {
        plan.latency_ns = 0;
        plan.pause_for_ns = 0;
        plan.fault_ns += plan.startup_ns + 100 * SIM_MS;
    }
    /* Whether a failure comes before or behind the minute after which those before it are
     * forgotten is not left to the last moment. */
    if (plan.fault_ns > 59 * TOWER_NS_PER_S && plan.fault_ns < 70 * TOWER_NS_PER_S)
        plan.fault_ns += 11 * TOWER_NS_PER_S;
    if (plan.pause_ns > 59 * TOWER_NS_PER_S && plan.pause_ns < 70 * TOWER_NS_PER_S)
        plan.pause_ns += 11 * TOWER_NS_PER_S;
    *ret_plan = plan;
}

/* ---- the encoder thread ---- */

static void output(void *user, const uint8_t *frame, size_t bytes) {
    (void)user;
    sim_ledger_output(&world->ledger, frame, bytes);
}

static void run_encoder(void) {
    int64_t now_ns = sim_now_ns();
    struct tower_encoder_stats stats;
    unsigned runs = 0;
    do {
        sim_kernel_run(now_ns);
        sim_ledger_encoder_runs(&world->ledger, now_ns, sim_kernel_can_start());
        world->encoder_deadline_ns = tower_encoder_manager_step(world->encoder);
        tower_encoder_manager_get_stats(world->encoder, &stats);
        sim_ledger_encoder_ran(&world->ledger, now_ns, &stats);
    } while (sim_kernel_is_ready() && ++runs < RUNS_MAX && !world->ledger.is_broken);
    SIM_HOLDS(&world->ledger, ONE_CHILD, runs < RUNS_MAX, "what it writes is not taken");
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) {
    return a_ns < b_ns ? a_ns : b_ns;
}

static int64_t encoder_next_ns(void) {
    int64_t next_ns = earlier(world->encoder_deadline_ns, sim_kernel_next_ns());
    if (world->ledger.encoder.queued > 0)
        next_ns = sim_now_ns();
    return next_ns > world->encoder_blocked_until_ns ? next_ns : world->encoder_blocked_until_ns;
}

/* All that wakes the encoder thread before `until_ns`. */
static void run_encoder_until(int64_t until_ns) {
    for (;;) {
        int64_t next_ns = encoder_next_ns();
        int64_t now_ns = sim_now_ns();
        if (next_ns >= until_ns || next_ns <= now_ns)
            return;
        tower_clock_virtual_advance(world->clock, next_ns - now_ns);
        run_encoder();
    }
}

/* ---- what the pump is given ---- */

static void delay(int64_t *for_ns) {
    tower_clock_virtual_advance(world->clock, *for_ns);
    *for_ns = 0;
}

static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    (void)self;
    struct sim_ledger *ledger = &world->ledger;
    sim_ledger_begins(ledger, sim_now_ns(), timeout_ns);
    delay(&world->before_pop_ns);
    sim_producer_run(&world->producer, sim_now_ns());
    /* The ingest thread may be there just in time. */
    if (timeout_ns > 0 && sim_ledger_queued(ledger) == 0 &&
        sim_producer_has_more(&world->producer) && sim_random_chance(&world->machine, 70)) {
        world->producer.blocked_until_ns = 0;
        tower_clock_virtual_advance(world->clock,
                                    sim_random_between(&world->machine, 0, timeout_ns));
        sim_producer_run(&world->producer, sim_now_ns());
    }
    int64_t began_ns = sim_now_ns();
    int taken = tower_router_pop_frame(world->router, timeout_ns, ret_frame, ret_flags);
    sim_ledger_popped(ledger, taken, ret_frame, taken == 1 ? *ret_flags : 0,
                      sim_now_ns() - began_ns, timeout_ns);
    /* As the service has it: dead air that is withheld is no frame, but took its tick. */
    return taken == 1 && !(*ret_flags & TOWER_FRAME_WITHHELD);
}

static enum tower_origin get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    (void)self;
    enum tower_origin origin = tower_fallback_get_frame(world->fallback, tick, ret_frame);
    sim_ledger_fell_back(&world->ledger, tick, origin, ret_frame,
                         sim_file_has_frame() ? &world->file_content : NULL, world->is_file_start);
    return origin;
}

/* The encoder gets numbers in place of what is heard, so that each sample can be told. */
static int write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    (void)self;
    bool is_refused = world->refusals > 0;
    sim_ledger_handed(&world->ledger, frame, frame_bytes, is_refused);
    delay(&world->before_write_ns);
    sim_ledger_handed_until(&world->ledger, sim_now_ns());
    if (is_refused) {
        world->refusals--;
        sim_ledger_disturbed(&world->ledger, sim_now_ns() + TOWER_PUMP_WRITE_ERROR_NS);
        return -EPIPE;
    }
    uint32_t n_samples = world->settings.frame_samples;
    sim_pcm_number(world->numbered, n_samples, (uint32_t)(world->written++ * n_samples));
    sim_ledger_written(&world->ledger);
    return tower_encoder_manager_write_pcm(world->encoder, world->numbered, frame_bytes);
}

/* ---- what happens ---- */

static void change_weather(int64_t now_ns) {
    struct sim_random *random = &world->weather;
    world->is_stormy = !world->is_stormy;
    world->producer.is_stormy = world->is_stormy;
    world->weather_ns =
        now_ns + (world->is_stormy ? sim_random_wait(random, 5 * 60 * TOWER_NS_PER_S)
                                   : sim_random_wait(random, 2 * SIM_HOUR_NS));
    world->machine_ns = now_ns;
    if (world->is_stormy)
        world->producer.change_ns = earlier(world->producer.change_ns, now_ns);
    say(world->is_stormy ? "storm" : "calm", world->weather_ns - now_ns);
}

static void change_file(int64_t now_ns) {
    struct sim_random *random = &world->weather;
    world->is_file_there = world->settings.has_file && !world->is_file_there;
    int64_t mean_ns = world->is_file_there ? SIM_HOUR_NS : 2 * 60 * TOWER_NS_PER_S;
    world->file_ns = now_ns + sim_random_wait(random, world->is_stormy ? TOWER_NS_PER_S : mean_ns);
}

static void change_children(int64_t now_ns) {
    struct sim_random *random = &world->weather;
    world->are_children_broken = !world->are_children_broken;
    int64_t mean_ns = world->are_children_broken ? 60 * TOWER_NS_PER_S : 6 * SIM_HOUR_NS;
    world->children_ns = now_ns + sim_random_wait(random, mean_ns);
}

/* The wall clock is set: an hour, a second, a year, forward or back. */
static void step_wall(int64_t now_ns) {
    static const int64_t steps_s[] = {3600, -3600, 1, -1, 31536000, -31536000, 60, -60};
    struct sim_random *random = &world->wall;
    if (world->settings.has_wall_steps)
        world->wall_ns +=
            steps_s[sim_random_below(random, sizeof steps_s / sizeof steps_s[0])] * TOWER_NS_PER_S;
    world->wall_step_ns = now_ns + sim_random_wait(random, SIM_HOUR_NS / 6);
    world->result->wall_steps += world->settings.has_wall_steps;
}

static void block_encoder(int64_t until_ns) {
    if (until_ns > world->encoder_blocked_until_ns)
        world->encoder_blocked_until_ns = until_ns;
    sim_ledger_disturbed(&world->ledger, until_ns);
}

/* Something happens to the machine. Returns how late the pump will wake up. */
static int64_t trouble(int64_t now_ns) {
    struct sim_random *random = &world->machine;
    int64_t for_ns = sim_random_scale(random, SIM_MS, LATEST_NS);
    int64_t mean_ns = world->is_stormy ? 2 * TOWER_NS_PER_S : SIM_HOUR_NS / 6;
    world->machine_ns = now_ns + sim_random_wait(random, mean_ns);
    world->result->machine_incidents++;
    unsigned kind = (unsigned)sim_random_below(random, 10);
    if (world->settings.is_verbose)
        printf("# trouble %u\n", kind);
    say("trouble", for_ns);
    if (kind <= 4)
        sim_ledger_disturbed(&world->ledger, now_ns + for_ns);
    switch (kind) {
    case 0: /* the pump oversleeps */
        return for_ns;
    case 1: /* it comes late to its sleep */
        tower_clock_virtual_advance(world->clock, for_ns);
        return 0;
    case 2: /* it is stopped within a tick */
        world->before_pop_ns = for_ns;
        return 0;
    case 3:
        world->before_write_ns = for_ns;
        return 0;
    case 4: /* the whole machine stands still */
        block_encoder(now_ns + for_ns);
        world->producer.blocked_until_ns = now_ns + for_ns + SIM_MS;
        return for_ns;
    case 5: /* the encoder thread does */
        block_encoder(now_ns + for_ns);
        return 0;
    case 6: /* the ingest thread does */
        world->producer.blocked_until_ns = now_ns + for_ns;
        return 0;
    case 7:
        sim_lame_fail((unsigned)sim_random_below(random, 3), (unsigned)sim_random_below(random, 5));
        return 0;
    case 8:
        world->refusals = (unsigned)sim_random_between(random, 1, 5);
        return 0;
    default: /* a hair's breadth */
        return sim_random_between(random, 1, 1000000);
    }
}

static int64_t happen(int64_t now_ns) {
    if (now_ns >= world->weather_ns)
        change_weather(now_ns);
    if (now_ns >= world->file_ns)
        change_file(now_ns);
    if (now_ns >= world->children_ns)
        change_children(now_ns);
    if (now_ns >= world->wall_step_ns)
        step_wall(now_ns);
    return now_ns >= world->machine_ns ? trouble(now_ns) : 0;
}

static void compare(void) {
    struct tower_pump_stats pump;
    struct tower_router_stats router;
    struct tower_fallback_stats fallback;
    tower_pump_get_stats(world->pump, &pump);
    tower_router_get_stats(world->router, &router);
    tower_fallback_get_stats(world->fallback, &fallback);
    sim_ledger_compare(&world->ledger, &pump, &router, &fallback);
    SIM_HOLDS(&world->ledger, LOCKS, sim_locks_held() == 0, "%d are held", sim_locks_held());
    SIM_HOLDS(&world->ledger, ONE_CLOCK, world->wall_asked == 0, "asked %" PRIu64 " times",
              world->wall_asked);
}

static void tick(void) {
    struct sim_ledger *ledger = &world->ledger;
    int64_t oversleep_ns = happen(sim_now_ns());
    run_encoder_until(sim_ledger_due_ns(ledger));
    tower_clock_virtual_oversleep(world->clock, oversleep_ns);
    sim_ledger_awaits(ledger, sim_now_ns(), oversleep_ns);
    tower_pump_step(world->pump);
    tower_clock_virtual_oversleep(world->clock, 0);
    sim_ledger_returned(ledger, sim_now_ns());
    int64_t now_ns = sim_now_ns();
    sim_kernel_run(now_ns);
    if (now_ns >= world->encoder_blocked_until_ns)
        run_encoder();
    if (ledger->pump.tick % COMPARE_TICKS == 0) {
        compare();
        world->result->done_ns = now_ns - START_NS;
    }
}

/* ---- the station ---- */

static int build_programme(void) {
    const struct sim_settings *settings = &world->settings;
    int error = tower_router_new(world->clock, settings->capacity_frames, world->ledger.frame_bytes,
                                 &world->router);
    struct tower_fallback_config fallback = {
        .clock = world->clock,
        .frame_samples = settings->frame_samples,
        .grace_ns = settings->grace_ns,
        .file_path = settings->has_file ? "simulated" : NULL,
        .tone_hz = settings->tone_hz,
        .tone_dbfs = -18,
    };
    if (error == 0)
        error = tower_fallback_new(&fallback, &world->fallback);
    if (error == 0)
        error = sim_producer_init(&world->producer, &world->ledger, world->router, &world->waves,
                                  settings->seed);
    return error;
}

static int build_encoder_and_pump(void) {
    const struct sim_settings *settings = &world->settings;
    struct tower_encoder_config encoder = {
        .clock = world->clock,
        .kind = settings->kind,
        .frame_samples = settings->frame_samples,
        .bitrate_bps = settings->bitrate_bps,
        .backoff_count = settings->backoff_count,
        .max_restarts = settings->max_restarts,
        .is_stepped = true,
        .output = output,
    };
    memcpy(encoder.backoff_ns, settings->backoff_ns, sizeof encoder.backoff_ns);
    int error = tower_encoder_manager_new(&encoder, &world->encoder);
    struct tower_pump_config pump = {
        .clock = world->clock,
        .frame_samples = settings->frame_samples,
        .resync_after_ns = settings->resync_after_ns,
        .pcm_buffer = {NULL, pop_frame},
        .fallback = {NULL, get_frame},
        .encoder = {NULL, write_pcm},
    };
    if (error == 0)
        error = tower_pump_new(&pump, &world->pump);
    if (error == 0)
        error = tower_encoder_manager_start(world->encoder);
    if (error < 0)
        return error;
    struct tower_encoder_stats stats;
    tower_encoder_manager_get_stats(world->encoder, &stats);
    /* What its delay is more than the codec's own is frames held back. */
    int64_t mp3_frame_ns = tower_samples_to_ns(TOWER_FRAME_SAMPLES, TOWER_RATE_HZ);
    world->ledger.encoder.slots = (size_t)(stats.delay_ns / mp3_frame_ns - 1);
    return 0;
}

static int build(const struct sim_settings *settings) {
    world->settings = *settings;
    int error = tower_clock_virtual_new(START_NS, &world->clock);
    if (error < 0)
        return error;
    tower_clock_virtual_set_auto(world->clock, true);
    sim_ledger_init(&world->ledger, &world->settings);
    sim_kernel_reset();
    sim_lame_fail(0, 0);
    world->machine = sim_random_stream(settings->seed, 'M');
    world->children = sim_random_stream(settings->seed, 'C');
    world->wall = sim_random_stream(settings->seed, 'W');
    world->weather = sim_random_stream(settings->seed, 'H');
    world->weather_ns = START_NS + sim_random_wait(&world->weather, 60 * TOWER_NS_PER_S);
    world->machine_ns = START_NS + sim_random_wait(&world->machine, 60 * TOWER_NS_PER_S);
    world->is_file_there = settings->has_file;
    world->file_ns = START_NS + SIM_HOUR_NS;
    world->children_ns = START_NS + SIM_HOUR_NS;
    world->wall_step_ns = START_NS;
    world->encoder_deadline_ns = START_NS;
    error = sim_waves_init(&world->waves, settings->frame_samples);
    if (error == 0)
        error = build_programme();
    return error < 0 ? error : build_encoder_and_pump();
}

static void demolish(void) {
    tower_pump_free(world->pump);
    tower_encoder_manager_free(world->encoder);
    tower_fallback_free(world->fallback);
    tower_router_free(world->router);
    sim_waves_done(&world->waves);
    tower_clock_free(world->clock);
}

static void report(void) {
    struct sim_result *result = world->result;
    const struct sim_ledger *ledger = &world->ledger;
    result->is_whole = !ledger->is_broken;
    result->hash = ledger->hash;
    result->ticks = ledger->pump.tick;
    result->skipped = ledger->pump.skipped;
    result->seams = ledger->sound.seams;
    result->programmes = world->producer.programmes;
    memcpy(result->checks, ledger->checks, sizeof ledger->checks);
}

int sim_world_run(const struct sim_settings *settings, int64_t duration_ns,
                  struct sim_result *ret_result) {
    world = calloc(1, sizeof *world);
    if (!world)
        return -ENOMEM;
    memset(ret_result, 0, sizeof *ret_result);
    world->result = ret_result;
    int error = build(settings);
    if (error == 0) {
        while (sim_now_ns() < START_NS + duration_ns && !world->ledger.is_broken)
            tick();
        compare();
        tower_encoder_manager_stop(world->encoder);
        SIM_HOLDS(&world->ledger, ONE_CHILD, sim_kernel_open_fds() == 0, "left open at the end");
        report();
    }
    demolish();
    free(world);
    world = NULL;
    return error;
}
