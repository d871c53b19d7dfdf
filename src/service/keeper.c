/* keeper.c - the process that stays. */
#include "keeper.h"

#include "program_path.h"
#include "thread.h"
#include "tower/clock.h"
#include "tower/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define LOOK_NS (100 * NS_PER_MS)
/* A worker that puts nothing on air for so long is replaced. No turn counts for more than
 * LOOK_NS_MAX: a keeper that was itself held up says nothing about its worker. */
#define STALL_NS (1500 * NS_PER_MS)
#define LOOK_NS_MAX (200 * NS_PER_MS)
#define START_LIMIT_NS (15000 * NS_PER_MS)
#define STOP_LIMIT_NS (5000 * NS_PER_MS)
/* What lived so long has nothing to do with the deaths before it. */
#define LONG_LIFE_NS (1000 * NS_PER_MS)
#define DEATHS_AT_ONCE 5 /* in a row, that are answered at once */
#define BACKOFF_NS (100 * NS_PER_MS)
#define BACKOFF_NS_MAX (5000 * NS_PER_MS)
/* Workers in a row that died before they served: then it may be what they were given. */
#define BAD_STARTS 2
/* timeout(1), and some service managers, send one signal twice: to the process and to its group. */
#define SAME_SIGNAL_NS (50 * NS_PER_MS)
/* What a program that takes over has for its first frame. */
#define TAKE_OVER_NS (2000 * NS_PER_MS)
#define GUARD_LOOK_NS (20 * NS_PER_MS)
/* Tells a worker that its keeper has died. */
#define KEEPER_DIED SIGUSR1

struct keeper {
    struct tower_keeper_config config;
    struct tower_carried *carried;
    struct tower_keeper_report *report; /* in `carried` */
    sigset_t signals;
    char program[4096]; /* to be executed when it is upgraded; "": not known */

    pid_t worker; /* 0: there is none */
    bool is_ready;
    bool was_ever_ready; /* a worker of ours, or of the keeper before us */
    int64_t started_ns;
    int64_t looked_ns;
    int64_t still_ns; /* nothing has gone on air for so long */
    uint64_t frames;
    unsigned n_deaths; /* in a row, none of which lived long */
    unsigned n_bad_starts;

    bool is_reloaded; /* the configuration is one that no worker has begun with */
    bool is_stopping;
    int64_t stop_by_ns;
    int64_t stopped_ns; /* when the first signal came */
    /* Why the worker is to be replaced, by our own doing; -1: it is not. */
    int replacing;
    /* Asked for while the worker was not ready: done once the next one is. */
    bool is_reload_due;
    bool is_upgrade_due;
};

static int64_t now_ns(void) {
    return tower_clock_now_ns(tower_clock_real());
}

static struct tower_service_manager *manager_of(const struct keeper *keeper) {
    return &tower_carried_descriptors(keeper->carried)->manager;
}

/* Take the next of `signals`, waiting until `until_ns` for one. Returns 0 if none came. */
static int take_signal(const sigset_t *signals, int64_t until_ns) {
    int64_t left_ns = until_ns - now_ns();
    if (left_ns < 0)
        left_ns = 0;
    const struct timespec wait = {.tv_sec = left_ns / TOWER_NS_PER_S,
                                  .tv_nsec = left_ns % TOWER_NS_PER_S};
    int number = sigtimedwait(signals, NULL, &wait);
    return number > 0 ? number : 0;
}

/* ---- the worker's side ---- */

struct work {
    const struct tower_keeper_config *config;
    struct tower_carried *carried;
    uint32_t generation;
    int exit_code;
};

static void *run_work(void *arg) {
    struct work *work = arg;
    work->exit_code = work->config->work(work->config->user, work->carried, work->generation);
    return NULL;
}

/* In the new process. On a thread of its own, which the C library has made and so knows by its
 * number: for the one that clone() made it goes by its parent's, and mutexes with priority
 * inheritance would be taken in that name. */
static _Noreturn void be_worker(struct keeper *keeper, pid_t keeper_pid) {
    struct work work = {&keeper->config, keeper->carried, keeper->report->generation, EXIT_FAILURE};
    (void)prctl(PR_SET_NAME, "tower-worker");
    (void)prctl(PR_SET_PDEATHSIG, KEEPER_DIED);
    if (getppid() != keeper_pid)
        (void)raise(KEEPER_DIED);
    pthread_t thread;
    int error = tower_thread_start(&thread, "worker", run_work, &work);
    if (error < 0)
        tower_log(TOWER_LOG_ERROR, "keeper", "the worker got no thread: %s", strerror(-error));
    else
        (void)pthread_join(thread, NULL);
    exit(work.exit_code);
}

static void set_cloexec(bool is_set) {
    DIR *open_ones = opendir("/proc/self/fd");
    if (!open_ones)
        return;
    const struct dirent *entry;
    while ((entry = readdir(open_ones))) {
        long fd = strtol(entry->d_name, NULL, 10);
        if (fd > 2 && fd != dirfd(open_ones))
            (void)fcntl((int)fd, F_SETFD, is_set ? FD_CLOEXEC : 0);
    }
    (void)closedir(open_ones);
}

/* Become the program at `path`, with all that is open. Returns if that did not go. */
static int execute(const struct tower_keeper_config *config, struct tower_carried *carried,
                   const char *path) {
    char number[16];
    (void)snprintf(number, sizeof number, "%d", tower_carried_fd(carried));
    if (setenv(TOWER_CARRIED_VARIABLE, number, 1) < 0)
        return -errno;
    set_cloexec(false);
    (void)execv(path, config->argv);
    int error = -errno;
    set_cloexec(true);
    (void)unsetenv(TOWER_CARRIED_VARIABLE);
    return error;
}

static void note_replacement(struct tower_carried *carried, enum tower_replacement why, pid_t pid,
                             int signal_number, int exit_code) {
    struct tower_keeper_report *report = tower_carried_report(carried);
    report->replaced_pid = pid;
    report->replaced_generation = report->generation;
    report->exit_code = exit_code;
    report->replaced[why]++;
    report->why = why;
    report->signal_number = signal_number;
    report->replaced_ns = now_ns();
    report->frames_then = tower_carried_beats(carried);
}

/* The keeper is gone. With it the table of descriptors is ours alone. */
static void go_on_as_keeper(const struct tower_keeper_config *config,
                            struct tower_carried *carried) {
    tower_log(TOWER_LOG_ERROR, "keeper", "the keeper (process %ld) has died: going on as one",
              (long)tower_carried_report(carried)->keeper_pid);
    note_replacement(carried, TOWER_REPLACED_KEEPER, tower_carried_report(carried)->keeper_pid, 0,
                     0);
    tower_log_stop();
    int error = execute(config, carried, "/proc/self/exe");
    tower_log(TOWER_LOG_ERROR, "keeper",
              "could not become a keeper: %s; going on without one: nothing replaces this process "
              "if it dies",
              strerror(-error));
}

bool tower_keeper_waits(const struct tower_keeper_config *config, struct tower_carried *carried,
                        int64_t for_ns) {
    const pid_t keeper_pid = tower_carried_report(carried)->keeper_pid;
    const int64_t until_ns = now_ns() + for_ns;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, KEEPER_DIED);
    int number = 0;
    /* A signal to the whole group reaches the keeper too, and it is the keeper's to act: what it
     * has noted counts, and not who sent the signal, as two that wait become one. */
    while (!tower_carried_is_stopping(carried) && (number = take_signal(&signals, until_ns)) != 0) {
        if (number == KEEPER_DIED && getppid() != keeper_pid)
            go_on_as_keeper(config, carried);
    }
    return tower_carried_is_stopping(carried);
}

/* ---- the keeper's side ---- */

static void begin_worker(struct keeper *keeper) {
    struct tower_keeper_report *report = keeper->report;
    report->generation++;
    pid_t keeper_pid = getpid();
    report->keeper_pid = keeper_pid;
    (void)fflush(NULL);
    long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        be_worker(keeper, keeper_pid);
    keeper->started_ns = keeper->looked_ns = now_ns();
    keeper->still_ns = 0;
    keeper->frames = tower_carried_beats(keeper->carried);
    keeper->is_ready = false;
    keeper->replacing = -1;
    keeper->worker = pid > 0 ? (pid_t)pid : 0;
    report->worker_pid = keeper->worker;
    if (pid < 0)
        tower_log(TOWER_LOG_ERROR, "keeper", "no new worker: %s; trying again", strerror(errno));
}

/* Reap whoever has ended: the worker, and what it left behind. Returns true if the worker has. */
static bool reap(struct keeper *keeper, int *ret_status) {
    bool has_ended = false;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != keeper->worker)
            continue;
        *ret_status = status;
        has_ended = true;
    }
    return has_ended;
}

static void ask_to_stop(struct keeper *keeper, int number) {
    int64_t now = now_ns();
    if (!keeper->is_stopping) {
        keeper->is_stopping = true;
        keeper->stopped_ns = now;
        keeper->stop_by_ns = now + STOP_LIMIT_NS;
        tower_log(TOWER_LOG_INFO, "serve", "stopping: %s", strsignal(number));
        (void)tower_service_manager_stopping(manager_of(keeper));
        tower_carried_set_stopping(keeper->carried, true);
        if (keeper->worker > 0)
            (void)kill(keeper->worker, SIGTERM);
    } else if (now - keeper->stopped_ns > SAME_SIGNAL_NS) {
        /* Somebody who won't wait. */
        if (keeper->worker > 0)
            (void)kill(keeper->worker, SIGKILL);
        _exit(EXIT_FAILURE);
    }
}

static void replace(struct keeper *keeper, enum tower_replacement why) {
    keeper->replacing = (int)why;
    if (keeper->worker > 0)
        (void)kill(keeper->worker, SIGKILL);
}

static void reload(struct keeper *keeper) {
    char error[TOWER_REQUEST_ERROR_BYTES] = "";
    if (keeper->config.reload(keeper->config.user, error, sizeof error) < 0) {
        tower_log(TOWER_LOG_ERROR, "keeper", "not reloaded, the settings stay as they are: %s",
                  error);
        tower_carried_tell_request(keeper->carried, TOWER_REPLACED_RELOADED, error);
        return;
    }
    tower_log(TOWER_LOG_INFO, "keeper", "reloading the configuration");
    (void)tower_service_manager_reloading(manager_of(keeper), now_ns());
    keeper->is_reloaded = true;
    replace(keeper, TOWER_REPLACED_RELOADED);
}

/* ---- upgrading ---- */

static bool waits_until_gone(pid_t pid, int64_t until_ns) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0U);
    if (fd < 0)
        return errno == ESRCH;
    struct pollfd gone = {.fd = fd, .events = POLLIN};
    int64_t left_ms = (until_ns - now_ns()) / NS_PER_MS;
    int n = poll(&gone, 1, left_ms > 0 ? (int)left_ms : 0);
    (void)close(fd);
    return n == 1;
}

static void pause_for(int64_t ns) {
    const struct timespec time = {.tv_sec = ns / TOWER_NS_PER_S, .tv_nsec = ns % TOWER_NS_PER_S};
    (void)nanosleep(&time, NULL);
}

/* In a copy of the keeper, with copies of all its descriptors, beside the new program that has
 * taken the keeper's place. Ends the process once that has put a frame on air; returns if it has
 * not, and is gone. `generation` and `frames` are as they were before. */
static void guard(struct keeper *keeper, pid_t new_keeper, uint32_t generation, uint64_t frames) {
    const int64_t until_ns = now_ns() + TAKE_OVER_NS;
    (void)prctl(PR_SET_NAME, "tower-guard");
    while (now_ns() < until_ns && getppid() == new_keeper) {
        if (keeper->report->generation > generation &&
            tower_carried_is_ready(keeper->carried, keeper->report->generation) &&
            tower_carried_beats(keeper->carried) > frames)
            _exit(0);
        pause_for(GUARD_LOOK_NS);
    }
    (void)tower_service_manager_main_pid(manager_of(keeper), getpid());
    /* Stopped, it cannot make another worker, and none can go on in its place. */
    const int64_t gone_by_ns = now_ns() + TOWER_NS_PER_S;
    if (getppid() == new_keeper)
        (void)kill(new_keeper, SIGSTOP);
    pid_t worker = keeper->report->generation > generation ? keeper->report->worker_pid : 0;
    if (worker > 0) {
        (void)kill(worker, SIGKILL);
        (void)waits_until_gone(worker, gone_by_ns);
    }
    if (getppid() == new_keeper) {
        (void)kill(new_keeper, SIGKILL);
        (void)waits_until_gone(new_keeper, gone_by_ns);
    }
}

static void refuse_upgrade(struct keeper *keeper, const char *why) {
    tower_log(TOWER_LOG_ERROR, "keeper", "not upgraded, the program stays as it is: %s", why);
    tower_carried_tell_request(keeper->carried, TOWER_REPLACED_UPGRADED, why);
}

/* The worker is gone. Execute the new program in our place, under the eyes of a copy of us. Returns
 * where the old program goes on: in this process, or in the copy. */
static void take_over(struct keeper *keeper) {
    struct tower_carried_set *saved = tower_carried_save(keeper->carried);
    pid_t self = getpid();
    /* Before the fork: by the time the copy runs, the new program may be on air already. */
    uint32_t generation = keeper->report->generation;
    uint64_t frames = tower_carried_beats(keeper->carried);
    pid_t guard_pid = saved ? fork() : -1;
    if (guard_pid < 0) {
        free(saved);
        refuse_upgrade(keeper, "no memory, or no process, for the one that watches over it");
        return;
    }
    if (guard_pid > 0) {
        int error = execute(&keeper->config, keeper->carried, keeper->program);
        (void)kill(guard_pid, SIGKILL);
        (void)waitpid(guard_pid, NULL, 0);
        free(saved);
        refuse_upgrade(keeper, strerror(-error));
        return;
    }
    guard(keeper, self, generation, frames);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    (void)prctl(PR_SET_NAME, "tower");
    tower_carried_restore(keeper->carried, saved);
    free(saved);
    refuse_upgrade(keeper, "the new program put nothing on air within 2 s; the old one goes on");
}

static void upgrade(struct keeper *keeper) {
    char error[TOWER_REQUEST_ERROR_BYTES] = "it is not known where the program is";
    int result = keeper->program[0] == '\0' ? -ENOENT : 0;
    if (result == 0)
        result =
            keeper->config.judge_program(keeper->config.user, keeper->program, error, sizeof error);
    if (result < 0) {
        refuse_upgrade(keeper, error);
        return;
    }
    tower_log(TOWER_LOG_INFO, "keeper", "upgrading to %s", keeper->program);
    replace(keeper, TOWER_REPLACED_UPGRADED);
}

/* ---- watching ---- */

static void handle_signal(struct keeper *keeper, int number) {
    if (number == SIGTERM || number == SIGINT)
        ask_to_stop(keeper, number);
    else if (number == SIGHUP)
        keeper->is_reload_due = true;
    else if (number == SIGUSR2)
        keeper->is_upgrade_due = true;
}

/* Do what was asked for: not to a worker that has not begun, which could not be told from one that
 * cannot. */
static void do_what_is_due(struct keeper *keeper) {
    if (!keeper->is_ready || keeper->is_stopping || keeper->replacing >= 0)
        return;
    if (keeper->is_reload_due) {
        keeper->is_reload_due = false;
        reload(keeper);
    } else if (keeper->is_upgrade_due) {
        keeper->is_upgrade_due = false;
        upgrade(keeper);
    }
}

/* Alive is who puts frames on air. */
static void tell_manager(struct keeper *keeper, int64_t now) {
    struct tower_service_manager *manager = manager_of(keeper);
    char text[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    tower_carried_description(keeper->carried, text);
    if (keeper->is_ready && *text)
        tower_service_manager_status(manager, text);
    if (keeper->is_ready && keeper->frames > 0)
        (void)tower_service_manager_ready(manager);
    tower_service_manager_beat(manager, now, keeper->frames);
}

/* How the worker does, once a turn. */
static void look(struct keeper *keeper) {
    int64_t now = now_ns();
    int64_t turn_ns = now - keeper->looked_ns;
    uint64_t frames = tower_carried_beats(keeper->carried);
    keeper->looked_ns = now;
    if (!keeper->is_ready && keeper->replacing < 0 &&
        tower_carried_is_ready(keeper->carried, keeper->report->generation)) {
        keeper->is_ready = keeper->was_ever_ready = true;
        keeper->n_bad_starts = 0;
        keeper->still_ns = 0;
        /* The first says so by itself. */
        if (keeper->report->generation > 1)
            tower_log(TOWER_LOG_INFO, "keeper", "worker %u (process %ld) is on air",
                      (unsigned)keeper->report->generation, (long)keeper->worker);
        if (keeper->report->why == TOWER_REPLACED_RELOADED ||
            keeper->report->why == TOWER_REPLACED_UPGRADED)
            tower_carried_tell_request(keeper->carried, keeper->report->why, "");
        if (keeper->is_reloaded)
            keeper->config.settle(keeper->config.user, false);
        keeper->is_reloaded = false;
    }
    if (frames != keeper->frames) {
        keeper->frames = frames;
        keeper->still_ns = 0;
    } else {
        keeper->still_ns += turn_ns < LOOK_NS_MAX ? turn_ns : LOOK_NS_MAX;
    }
    tell_manager(keeper, now);
    if (keeper->is_stopping) {
        if (now > keeper->stop_by_ns)
            (void)kill(keeper->worker, SIGKILL);
    } else if (keeper->replacing < 0 &&
               keeper->still_ns > (keeper->is_ready ? STALL_NS : START_LIMIT_NS)) {
        tower_log(TOWER_LOG_ERROR, "keeper",
                  "worker %u (process %ld) has put nothing on air for %.1f s: replacing it",
                  (unsigned)keeper->report->generation, (long)keeper->worker,
                  (double)keeper->still_ns / (double)TOWER_NS_PER_S);
        replace(keeper, TOWER_REPLACED_STALLED);
    }
}

/* Until the worker has ended. Returns its status, as waitpid() has it. */
static int watch(struct keeper *keeper) {
    int status = 0;
    while (!reap(keeper, &status)) {
        int number = take_signal(&keeper->signals, keeper->looked_ns + LOOK_NS);
        if (number != 0)
            handle_signal(keeper, number);
        look(keeper);
        do_what_is_due(keeper);
    }
    return status;
}

/* Note why the worker is gone, and say so. */
static void note_death(struct keeper *keeper, int status) {
    enum tower_replacement why = WIFSIGNALED(status) ? TOWER_REPLACED_KILLED : TOWER_REPLACED_ENDED;
    if (keeper->replacing >= 0)
        why = (enum tower_replacement)keeper->replacing;
    note_replacement(keeper->carried, why, keeper->worker,
                     WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                     WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    keeper->worker = 0;
    keeper->report->worker_pid = 0;
    if (why == TOWER_REPLACED_KILLED)
        tower_log(TOWER_LOG_ERROR, "keeper", "worker %u died: %s; replacing it",
                  (unsigned)keeper->report->generation, strsignal(WTERMSIG(status)));
    else if (why == TOWER_REPLACED_ENDED)
        tower_log(TOWER_LOG_ERROR, "keeper", "worker %u ended with exit code %d; replacing it",
                  (unsigned)keeper->report->generation, WEXITSTATUS(status));
}

/* Was the worker replaced because somebody asked for it? */
static bool is_wanted(const struct keeper *keeper) {
    return keeper->report->why == TOWER_REPLACED_RELOADED ||
           keeper->report->why == TOWER_REPLACED_UPGRADED;
}

/* How long to wait before the next worker is made. */
static int64_t backoff_ns(struct keeper *keeper) {
    if (is_wanted(keeper) || (keeper->is_ready && now_ns() - keeper->started_ns > LONG_LIFE_NS))
        keeper->n_deaths = 0;
    if (is_wanted(keeper) || ++keeper->n_deaths <= DEATHS_AT_ONCE)
        return 0;
    unsigned doublings = keeper->n_deaths - DEATHS_AT_ONCE - 1;
    int64_t wait_ns = BACKOFF_NS_MAX;
    if (doublings < 6 && (BACKOFF_NS << doublings) < BACKOFF_NS_MAX)
        wait_ns = BACKOFF_NS << doublings;
    char text[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    (void)snprintf(text, sizeof text, "%u workers in a row died: the next one in %.1f s",
                   keeper->n_deaths, (double)wait_ns / (double)TOWER_NS_PER_S);
    tower_log(TOWER_LOG_ERROR, "keeper", "%s", text);
    tower_service_manager_status(manager_of(keeper), text);
    return wait_ns;
}

/* A worker died before it served. Take back what it may have died of. */
static void note_bad_start(struct keeper *keeper) {
    if (keeper->is_reloaded) {
        keeper->config.settle(keeper->config.user, true);
        keeper->is_reloaded = false;
        static const char why[] = "the new settings could not be put to use; the log says why. "
                                  "The old ones are back";
        tower_log(TOWER_LOG_ERROR, "keeper", "%s", why);
        tower_carried_tell_request(keeper->carried, TOWER_REPLACED_RELOADED, why);
    } else if (++keeper->n_bad_starts >= BAD_STARTS) {
        tower_log(TOWER_LOG_ERROR, "keeper",
                  "%u workers in a row died before they served: what they were to go on with is "
                  "given up, listeners too",
                  keeper->n_bad_starts);
        tower_carried_forget_state(keeper->carried);
        keeper->n_bad_starts = 0;
    }
}

static void wait_for_backoff(struct keeper *keeper, int64_t wait_ns) {
    const int64_t until_ns = now_ns() + wait_ns;
    int number;
    int status;
    tower_service_manager_beat(manager_of(keeper), now_ns(), keeper->frames);
    while (!keeper->is_stopping && (number = take_signal(&keeper->signals, until_ns)) != 0) {
        (void)reap(keeper, &status);
        handle_signal(keeper, number);
    }
}

/* The worker has as many as it may; they are in our table too, and we could open nothing. */
static void allow_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void prepare(struct keeper *keeper) {
    struct sigaction hangup;
    sigemptyset(&keeper->signals);
    sigaddset(&keeper->signals, SIGTERM);
    sigaddset(&keeper->signals, SIGINT);
    sigaddset(&keeper->signals, SIGCHLD);
    sigaddset(&keeper->signals, SIGUSR2);
    /* Under nohup it is ignored, and must stay so: sigtimedwait() would see it all the same. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&keeper->signals, SIGHUP);
    sigset_t blocked = keeper->signals;
    sigaddset(&blocked, KEEPER_DIED);
    (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
    (void)prctl(PR_SET_PDEATHSIG, 0);
    (void)prctl(PR_SET_NAME, "tower");
    tower_carried_set_stopping(keeper->carried, false);
    /* What a worker leaves behind comes to us, and is reaped. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    tower_program_path(keeper->program, sizeof keeper->program);
    allow_descriptors();
    /* They were made to outlive the program before this one. */
    if (keeper->config.goes_on)
        set_cloexec(true);
    keeper->report = tower_carried_report(keeper->carried);
    keeper->was_ever_ready = keeper->config.goes_on;
    keeper->replacing = -1;
}

int tower_keeper_run(const struct tower_keeper_config *config) {
    static struct keeper keeper;
    keeper = (struct keeper){.config = *config, .carried = config->carried};
    prepare(&keeper);
    for (;;) {
        begin_worker(&keeper);
        int status = keeper.worker > 0 ? watch(&keeper) : W_EXITCODE(EXIT_FAILURE, 0);
        bool is_hopeless = !keeper.was_ever_ready && keeper.replacing < 0;
        if (is_hopeless && WIFSIGNALED(status) && !keeper.is_stopping)
            tower_log(TOWER_LOG_ERROR, "keeper", "the first worker died before it served: %s",
                      strsignal(WTERMSIG(status)));
        if (keeper.is_stopping || is_hopeless)
            return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
        note_death(&keeper, status);
        if (keeper.replacing == TOWER_REPLACED_UPGRADED)
            take_over(&keeper);
        if (!keeper.is_ready)
            note_bad_start(&keeper);
        int64_t wait_ns = backoff_ns(&keeper);
        if (wait_ns > 0)
            wait_for_backoff(&keeper, wait_ns);
        if (keeper.is_stopping)
            return EXIT_SUCCESS;
    }
}
