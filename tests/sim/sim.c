/* sim.c - runs simulated stations through simulated worlds, one process a world, and says which
 * invariants held.
 */
#include "invariants.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DAY_NS (24 * SIM_HOUR_NS)
#define SEEDS_MAX 100000
#define JOBS_MAX 64
#define PROGRESS_NS (TOWER_NS_PER_S / 4)

struct options {
    uint64_t seed;
    uint64_t seeds; /* so many, from that one on */
    double days;    /* of each */
    uint64_t jobs;
    bool is_default;
    bool is_twice;
    bool is_all; /* each invariant must have been tried */
    bool is_verbose;
    bool is_help;
};

static const char usage[] =
    "usage: sim [--seed N] [--seeds N] [--days D] [--jobs N] [--defaults] [--twice] [--all]\n"
    "           [--verbose]\n"
    "\n"
    "Runs the real pump, router, fallback, transition, encoder manager and ffmpeg supervisor\n"
    "on a virtual clock, in a world in which producers come, go and stall, encoders die, and\n"
    "the machine is late; and checks at every tick what must hold. Without options: a day.\n"
    "\n"
    "  --seed N    the course of events; the same seed is the same course (1)\n"
    "  --seeds N   so many worlds, with seeds from that one on (1)\n"
    "  --days D    simulated time of each world, as 365 or 0.1 (1)\n"
    "  --jobs N    worlds at once (one a core)\n"
    "  --defaults  the product's default settings, with ffmpeg and a file; else they are drawn\n"
    "  --twice     run each seed again, once more without stepping the wall clock: all that is\n"
    "              on air must be the same\n"
    "  --all       an invariant that nothing was held against fails\n"
    "  --verbose   say what happens\n"
    "\n"
    "A week:  sim --seeds 7          a year:  sim --seeds 365, or one station for a year:\n"
    "sim --days 365. The exit code is 0 if all held; else the line to run it again is printed.\n";

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret_number) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || number < low || number > high)
        return false;
    *ret_number = number;
    return true;
}

static bool parse_days(const char *text, double *ret_days) {
    char *end;
    double days = strtod(text, &end);
    if (end == text || *end || !(days > 0 && days <= 36500))
        return false;
    *ret_days = days;
    return true;
}

static bool parse(int argc, char **argv, struct options *ret_options) {
    static const struct option long_options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'n'},
        {"days", required_argument, NULL, 'd'}, {"jobs", required_argument, NULL, 'j'},
        {"defaults", no_argument, NULL, 'D'},   {"twice", no_argument, NULL, '2'},
        {"all", no_argument, NULL, 'a'},        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
    };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct options options = {.seed = 1, .seeds = 1, .days = 1, .jobs = 1};
    if (cores > 0)
        options.jobs = cores < JOBS_MAX ? (uint64_t)cores : JOBS_MAX;
    bool is_right = true;
    int option;
    while (is_right && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 's':
            is_right = parse_number(optarg, 0, UINT64_MAX - SEEDS_MAX, &options.seed);
            break;
        case 'n':
            is_right = parse_number(optarg, 1, SEEDS_MAX, &options.seeds);
            break;
        case 'd':
            is_right = parse_days(optarg, &options.days);
            break;
        case 'j':
            is_right = parse_number(optarg, 1, JOBS_MAX, &options.jobs);
            break;
        case 'D':
            options.is_default = true;
            break;
        case '2':
            options.is_twice = true;
            break;
        case 'a':
            options.is_all = true;
            break;
        case 'v':
            options.is_verbose = true;
            break;
        case 'h':
            options.is_help = true;
            break;
        default:
            is_right = false;
            break;
        }
    }
    *ret_options = options;
    return is_right && optind == argc;
}

/* ---- one world, in a process of its own ---- */

static void describe(const struct sim_settings *settings) {
    printf("# seed %" PRIu64 ": %" PRIu32
           " samples a frame, %zu in the queue, resync after %" PRId64
           " ms, grace %.6f s, %s%s%.0f Hz, %s at %" PRIu32 " bit/s, %" PRIu32 " restarts\n",
           settings->seed, settings->frame_samples, settings->capacity_frames,
           settings->resync_after_ns / SIM_MS, (double)settings->grace_ns / 1e9,
           settings->has_file ? "file, " : "", settings->tone_hz > 0 ? "tone " : "silence ",
           settings->tone_hz, tower_encoder_kind_name(settings->kind), settings->bitrate_bps,
           settings->max_restarts);
}

/* Returns false if anything was broken, or could not be run. */
static bool run(const struct sim_settings *settings, int64_t duration_ns,
                struct sim_result *ret_result) {
    clock_t began = clock();
    int error = sim_world_run(settings, duration_ns, ret_result);
    if (error < 0) {
        fprintf(stderr, "sim: cannot make the station: %s\n", strerror(-error));
        return false;
    }
    double cpu_s = (double)(clock() - began) / CLOCKS_PER_SEC;
    printf("# seed %" PRIu64 ": %" PRIu64 " ticks in %.1f s of CPU (%.2f us each): %" PRIu64
           " skipped, %" PRIu64 " seams, %" PRIu64 " programmes, %" PRIu64 " children, %" PRIu64
           " troubles of the machine, %" PRIu64 " steps of the wall clock; trace %016" PRIx64 "\n",
           settings->seed, ret_result->ticks, cpu_s, cpu_s * 1e6 / (double)ret_result->ticks,
           ret_result->skipped, ret_result->seams, ret_result->programmes, ret_result->children,
           ret_result->machine_incidents, ret_result->wall_steps, ret_result->hash);
    return ret_result->is_whole;
}

static bool is_same(const struct sim_result *a, const struct sim_result *b, const char *words) {
    if (a->hash == b->hash && a->ticks == b->ticks)
        return true;
    printf("not ok - [replay] %s\n", words);
    return false;
}

static bool run_seed(const struct options *options, uint64_t seed, struct sim_result *ret_result) {
    struct sim_settings settings;
    sim_settings_draw(&settings, seed, options->is_default);
    settings.is_verbose = options->is_verbose;
    describe(&settings);
    int64_t duration_ns = (int64_t)(options->days * (double)DAY_NS);
    struct sim_result again;
    if (!run(&settings, duration_ns, ret_result))
        return false;
    if (!options->is_twice)
        return true;
    if (!run(&settings, duration_ns, &again) ||
        !is_same(ret_result, &again, "the same seed is the same course of events"))
        return false;
    settings.has_wall_steps = false;
    return run(&settings, duration_ns, &again) &&
           is_same(ret_result, &again, "the wall clock changes nothing");
}

/* ---- all of them ---- */

struct job {
    pid_t pid; /* 0: none */
    uint64_t seed;
};

static int start_job(const struct options *options, struct job *ret_job, uint64_t i,
                     struct sim_result *ret_result) {
    pid_t parent = getpid();
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        /* However this one ends, no world goes on. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            exit(2);
        exit(run_seed(options, options->seed + i, ret_result) ? 0 : 1);
    }
    *ret_job = (struct job){pid, options->seed + i};
    return 0;
}

/* A world has ended. Returns whether all held. */
static bool end_job(const struct options *options, const char *program, struct job *job,
                    int status) {
    uint64_t seed = job->seed;
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        printf("not ok - seed %" PRIu64 " was killed by signal %d\n", seed, WTERMSIG(status));
    printf("# once more: %s --seed %" PRIu64 " --days %g%s%s\n", program, seed, options->days,
           options->is_default ? " --defaults" : "", options->is_twice ? " --twice" : "");
    return false;
}

/* The next line overwrites it. */
static void show_progress(const struct options *options, const struct sim_result *results) {
    double done_ns = 0;
    for (uint64_t i = 0; i < options->seeds; i++)
        done_ns += (double)results[i].done_ns;
    double done_days = done_ns / (double)DAY_NS, days = options->days * (double)options->seeds;
    (void)fprintf(stderr, "%.1f of %g days, %.0f %%   \r", done_days, days, 100 * done_days / days);
}

/* Returns the one that ended, and how. */
static struct job *await_job(const struct options *options, const struct sim_result *results,
                             struct job *jobs, int *ret_status) {
    bool has_terminal = isatty(STDERR_FILENO);
    pid_t pid;
    while ((pid = waitpid(-1, ret_status, has_terminal ? WNOHANG : 0)) <= 0) {
        if (pid < 0 && errno != EINTR)
            return NULL;
        const struct timespec pause = {.tv_nsec = PROGRESS_NS};
        show_progress(options, results);
        (void)nanosleep(&pause, NULL);
    }
    for (uint64_t i = 0; i < options->jobs; i++) {
        if (jobs[i].pid == pid)
            return &jobs[i];
    }
    return NULL;
}

static bool run_all(const struct options *options, const char *program,
                    struct sim_result *results) {
    struct job jobs[JOBS_MAX] = {{0}};
    uint64_t next = 0, running = 0;
    bool is_whole = true;
    for (;;) {
        for (uint64_t i = 0; is_whole && next < options->seeds && i < options->jobs; i++) {
            if (jobs[i].pid != 0)
                continue;
            int error = start_job(options, &jobs[i], next, &results[next]);
            if (error < 0) {
                fprintf(stderr, "sim: cannot start a process: %s\n", strerror(-error));
                is_whole = false;
                break;
            }
            next++;
            running++;
        }
        if (running == 0)
            return is_whole;
        int status;
        struct job *job = await_job(options, results, jobs, &status);
        if (!job)
            return false;
        is_whole &= end_job(options, program, job, status);
        running--;
    }
}

/* Returns false if one that was to be tried was not. */
static bool sum_up(const struct options *options, const struct sim_result *results) {
    bool is_whole = true;
    for (int name = 0; name < SIM_INVARIANT_COUNT; name++) {
        uint64_t checks = 0;
        for (uint64_t i = 0; i < options->seeds; i++)
            checks += results[i].checks[name];
        bool is_missing = checks == 0 && options->is_all;
        is_whole &= !is_missing;
        printf("%s - [%s] %s (%" PRIu64 " times)\n",
               is_missing    ? "not ok"
               : checks == 0 ? "# untried"
                             : "ok",
               sim_invariants[name].ids, sim_invariants[name].words, checks);
    }
    if (options->is_twice)
        puts("ok - [replay] a seed run twice is the same, also where the wall clock is stepped");
    uint64_t ticks = 0;
    struct rusage spent;
    for (uint64_t i = 0; i < options->seeds; i++)
        ticks += results[i].ticks;
    if (getrusage(RUSAGE_CHILDREN, &spent) == 0)
        printf("# seeds %" PRIu64 " to %" PRIu64 ", %g days each: %" PRIu64
               " ticks, %ld s of CPU\n",
               options->seed, options->seed + options->seeds - 1, options->days, ticks,
               (long)(spent.ru_utime.tv_sec + spent.ru_stime.tv_sec));
    return is_whole;
}

int main(int argc, char **argv) {
    struct options options;
    if (!parse(argc, argv, &options)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (options.is_help) {
        (void)fputs(usage, stdout);
        return 0;
    }
    /* Lines of worlds that run at once stay whole. */
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    size_t bytes = options.seeds * sizeof(struct sim_result);
    struct sim_result *results =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED) {
        (void)fprintf(stderr, "sim: cannot get %zu bytes: %s\n", bytes, strerror(errno));
        return 2;
    }
    bool is_whole = run_all(&options, argv[0], results) && sum_up(&options, results);
    (void)munmap(results, bytes);
    return is_whole ? 0 : 1;
}
