/* ffmpeg_supervisor.c - one ffmpeg child: fed, drained, watched, restarted. */
#include "ffmpeg_supervisor.h"

#include "child.h"
#include "child_log.h"
#include "fd.h"
#include "lame_encoder.h"
#include "mp3_cutter.h"
#include "tower/log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK_BYTES TOWER_FRAME_BYTES_MAX
/* More than the start-up timeout's worth of PCM (209 blocks), so that a slow start loses none. */
#define BACKLOG_BLOCKS 256
#define BACKLOG_BYTES ((size_t)BACKLOG_BLOCKS * BLOCK_BYTES)
/* Less than two blocks: what lies in a pipe is delay that cannot be seen from here. */
#define PIPE_BYTES 8192
/* Read at most so much in one step; a child that floods us must not keep the encoder from LAME. */
#define STEP_READS 8
#define READ_BYTES 4096
/* Of what it says, in 10 s. */
#define LOG_LINES_MAX 20

/* All of it is owned by the one thread that calls. */
struct tower_ffmpeg_supervisor {
    struct tower_ffmpeg_config config; /* constant */
    char *program;                     /* constant */
    char bitrate[16];                  /* constant */
    char quality[16];                  /* constant */

    struct tower_ffmpeg_watch watch;
    struct tower_child child;
    struct tower_mp3_cutter cutter;
    struct tower_child_log log;
    bool is_talking; /* there was a message at the last step */

    size_t backlog_start; /* PCM not yet written: offset in `backlog`, and bytes */
    size_t backlog_bytes;
    uint8_t backlog[BACKLOG_BYTES];
};

int tower_ffmpeg_supervisor_new(const struct tower_ffmpeg_config *config,
                                struct tower_ffmpeg_supervisor **ret_supervisor) {
    size_t frame_bytes = tower_lame_frame_bytes(config->bitrate_bps);
    if (!config->clock || !config->on_frame || frame_bytes == 0)
        return -EINVAL;
    struct tower_ffmpeg_supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return -ENOMEM;
    int error = tower_ffmpeg_watch_init(&supervisor->watch, config->backoff_ns,
                                        config->backoff_count, config->max_restarts);
    if (error < 0) {
        free(supervisor);
        return error;
    }
    supervisor->config = *config;
    supervisor->program = strdup(config->program ? config->program : "ffmpeg");
    if (!supervisor->program) {
        free(supervisor);
        return -ENOMEM;
    }
    supervisor->config.backoff_ns = supervisor->watch.backoff_ns;
    (void)snprintf(supervisor->bitrate, sizeof supervisor->bitrate, "%" PRIu32,
                   config->bitrate_bps);
    (void)snprintf(supervisor->quality, sizeof supervisor->quality, "%d", TOWER_LAME_QUALITY);
    supervisor->child = (struct tower_child)TOWER_CHILD_NONE;
    tower_mp3_cutter_init(&supervisor->cutter, config->bitrate_bps, frame_bytes);
    tower_child_log_init(&supervisor->log, "encoder", "ffmpeg", LOG_LINES_MAX);
    *ret_supervisor = supervisor;
    return 0;
}

void tower_ffmpeg_supervisor_free(struct tower_ffmpeg_supervisor *supervisor) {
    if (!supervisor)
        return;
    tower_ffmpeg_supervisor_stop(supervisor);
    free(supervisor->program);
    free(supervisor);
}

static int64_t now_ns(const struct tower_ffmpeg_supervisor *supervisor) {
    return tower_clock_now_ns(supervisor->config.clock);
}

/* SIGKILL, and close our ends. Dying takes the child its time on a busy machine, and this thread
 * has none to wait: step() reaps it. */
static void let_go(struct tower_child *child) {
    if (child->pid > 0)
        tower_child_end(child);
    tower_fd_close(&child->stdin_fd);
    tower_fd_close(&child->stdout_fd);
    tower_fd_close(&child->stderr_fd);
}

void tower_ffmpeg_supervisor_start(struct tower_ffmpeg_supervisor *supervisor) {
    tower_ffmpeg_watch_begin(&supervisor->watch, now_ns(supervisor));
}

void tower_ffmpeg_supervisor_stop(struct tower_ffmpeg_supervisor *supervisor) {
    tower_child_kill(&supervisor->child);
    tower_ffmpeg_watch_end(&supervisor->watch);
}

/* The child is no use any more: away with it. `what` is for the log. */
static void fail(struct tower_ffmpeg_supervisor *supervisor, enum tower_ffmpeg_failure failure,
                 const char *what) {
    int64_t now = now_ns(supervisor);
    tower_child_log_flush(&supervisor->log, now);
    let_go(&supervisor->child);
    int64_t wait_ns = tower_ffmpeg_watch_failed(&supervisor->watch, failure, now);
    const struct tower_ffmpeg_stats *stats = &supervisor->watch.stats;
    tower_log(TOWER_LOG_WARNING, "encoder",
              "%s %s; LAME carries the air, next try in %" PRId64 " ms (failure %" PRIu32
              " in a row%s)",
              supervisor->program, what, wait_ns / 1000000, stats->failures_in_row,
              stats->is_degraded ? ", degraded" : "");
    if (supervisor->config.on_failure)
        supervisor->config.on_failure(supervisor->config.user, failure, what);
}

static const char *describe(enum tower_ffmpeg_failure failure) {
    switch (failure) {
    case TOWER_FFMPEG_CLOSE:
        return "lives but closed its pipe; killed";
    case TOWER_FFMPEG_MUTE:
        return "lives and reads but gives no MP3; killed";
    case TOWER_FFMPEG_REFUSAL:
        return "lives but reads no PCM; killed";
    case TOWER_FFMPEG_GARBAGE:
        return "wrote something that is not MP3 as asked for";
    case TOWER_FFMPEG_EXCESS:
        return "gave more MP3 than it was given PCM for; killed";
    case TOWER_FFMPEG_EXIT:
        break;
    }
    return "ended";
}

static void fail_ended(struct tower_ffmpeg_supervisor *supervisor, int status) {
    char what[64];
    if (WIFSIGNALED(status))
        (void)snprintf(what, sizeof what, "was killed by signal %d", WTERMSIG(status));
    else
        (void)snprintf(what, sizeof what, "ended with exit code %d", WEXITSTATUS(status));
    fail(supervisor, TOWER_FFMPEG_EXIT, what);
}

static void start_child(struct tower_ffmpeg_supervisor *supervisor) {
    const char *const arguments[] = {
        supervisor->program, "-hide_banner", "-nostdin", "-loglevel", "warning",
        /* Raw PCM needs no probing; without these the first second would be held back. */
        "-probesize", "32", "-analyzeduration", "0",
        /* Two channels are stereo; without this it warns at each start that it guessed so. */
        "-guess_layout_max", "0", "-f", "s16le", "-ar", "48000", "-ac", "2", "-i", "pipe:0", "-c:a",
        "libmp3lame", "-b:a", supervisor->bitrate,
        /* Without this ffmpeg's LAME differs in bits from ours. */
        "-compression_level", supervisor->quality, "-ar", "48000", "-ac", "2", "-reservoir", "0",
        "-write_xing", "0", "-id3v2_version", "0", "-flush_packets", "1", "-f", "mp3", "pipe:1",
        NULL};
    /* exec() changes none of them; its type is older than const. */
    char *argv[sizeof arguments / sizeof arguments[0]];
    memcpy(argv, arguments, sizeof argv);

    tower_ffmpeg_watch_try(&supervisor->watch);
    tower_mp3_cutter_reset(&supervisor->cutter);
    supervisor->backlog_start = 0;
    supervisor->backlog_bytes = 0;
    supervisor->is_talking = false;
    int error =
        tower_child_start(&supervisor->child, argv,
                          TOWER_CHILD_STDIN | TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR, PIPE_BYTES);
    if (error < 0) {
        char what[128];
        (void)snprintf(what, sizeof what, "could not be started: %s", strerror(-error));
        fail(supervisor, TOWER_FFMPEG_EXIT, what);
        return;
    }
    tower_ffmpeg_watch_started(&supervisor->watch, supervisor->child.pid);
}

/* A pipe is closed at the other end. It may just be ending: give it a moment to tell. Our end of
 * its stdin stays open, since closing it would make one end that was not about to. */
static void begin_closing(struct tower_ffmpeg_supervisor *supervisor) {
    supervisor->backlog_bytes = 0;
    tower_ffmpeg_watch_closing(&supervisor->watch, now_ns(supervisor));
}

static void take_frame(struct tower_ffmpeg_supervisor *supervisor) {
    uint64_t block, n;
    if (tower_ffmpeg_watch_take_frame(&supervisor->watch, now_ns(supervisor), &block, &n))
        supervisor->config.on_frame(supervisor->config.user, block, n, supervisor->cutter.frame);
    else
        begin_closing(supervisor);
}

/* Returns false once the child has failed. */
static bool take_output(struct tower_ffmpeg_supervisor *supervisor, const uint8_t *data,
                        size_t bytes) {
    int taken;
    while ((taken = tower_mp3_cutter_take(&supervisor->cutter, &data, &bytes)) > 0)
        take_frame(supervisor);
    if (taken < 0) {
        fail(supervisor, TOWER_FFMPEG_GARBAGE, describe(TOWER_FFMPEG_GARBAGE));
        return false;
    }
    return true;
}

static bool read_output(struct tower_ffmpeg_supervisor *supervisor) {
    uint8_t data[READ_BYTES];
    for (int i = 0; i < STEP_READS && supervisor->child.stdout_fd >= 0; i++) {
        ssize_t n = read(supervisor->child.stdout_fd, data, sizeof data);
        if (n > 0) {
            if (!take_output(supervisor, data, (size_t)n))
                return false;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            tower_fd_close(&supervisor->child.stdout_fd);
            begin_closing(supervisor);
        } else {
            break;
        }
    }
    return true;
}

static void read_messages(struct tower_ffmpeg_supervisor *supervisor) {
    char data[READ_BYTES];
    if (supervisor->child.stderr_fd < 0)
        return;
    ssize_t n = read(supervisor->child.stderr_fd, data, sizeof data);
    supervisor->is_talking = n > 0;
    if (n > 0)
        tower_child_log_take(&supervisor->log, now_ns(supervisor), data, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        tower_fd_close(&supervisor->child.stderr_fd);
}

static void write_input(struct tower_ffmpeg_supervisor *supervisor) {
    while (supervisor->backlog_bytes > 0 && supervisor->child.stdin_fd >= 0) {
        size_t to_end = BACKLOG_BYTES - supervisor->backlog_start;
        size_t bytes = supervisor->backlog_bytes < to_end ? supervisor->backlog_bytes : to_end;
        ssize_t n = write(supervisor->child.stdin_fd,
                          supervisor->backlog + supervisor->backlog_start, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            begin_closing(supervisor);
            break;
        }
        supervisor->backlog_start = (supervisor->backlog_start + (size_t)n) % BACKLOG_BYTES;
        supervisor->backlog_bytes -= (size_t)n;
    }
}

void tower_ffmpeg_supervisor_feed(struct tower_ffmpeg_supervisor *supervisor, uint64_t block,
                                  const int16_t *pcm) {
    if (!tower_ffmpeg_watch_has_child(&supervisor->watch) ||
        supervisor->watch.stats.state == TOWER_FFMPEG_CLOSING)
        return;
    if (supervisor->backlog_bytes > BACKLOG_BYTES - BLOCK_BYTES) {
        fail(supervisor, TOWER_FFMPEG_REFUSAL, describe(TOWER_FFMPEG_REFUSAL));
        return;
    }
    tower_ffmpeg_watch_fed(&supervisor->watch, block, now_ns(supervisor));
    size_t end = (supervisor->backlog_start + supervisor->backlog_bytes) % BACKLOG_BYTES;
    size_t to_end = BACKLOG_BYTES - end;
    size_t first = to_end < BLOCK_BYTES ? to_end : BLOCK_BYTES;
    memcpy(supervisor->backlog + end, pcm, first);
    memcpy(supervisor->backlog, (const uint8_t *)pcm + first, BLOCK_BYTES - first);
    supervisor->backlog_bytes += BLOCK_BYTES;
    write_input(supervisor);
}

static void judge(struct tower_ffmpeg_supervisor *supervisor) {
    int status = 0;
    int ended = tower_child_poll(&supervisor->child, &status);
    if (ended != 0) {
        /* What it wrote before it died is good. */
        for (int i = 0; i < PIPE_BYTES / READ_BYTES; i++)
            read_messages(supervisor);
        if (!read_output(supervisor))
            return;
        fail_ended(supervisor, status);
        return;
    }
    enum tower_ffmpeg_failure failure;
    if (tower_ffmpeg_watch_judge(&supervisor->watch, now_ns(supervisor),
                                 supervisor->backlog_bytes > 0, &failure))
        fail(supervisor, failure, describe(failure));
}

void tower_ffmpeg_supervisor_step(struct tower_ffmpeg_supervisor *supervisor) {
    struct tower_ffmpeg_watch *watch = &supervisor->watch;
    if (watch->stats.state == TOWER_FFMPEG_STOPPED)
        return;
    if (watch->stats.state == TOWER_FFMPEG_WAITING &&
        tower_child_poll(&supervisor->child, NULL) != 0 &&
        tower_ffmpeg_watch_is_start_due(watch, now_ns(supervisor)))
        start_child(supervisor);
    if (!tower_ffmpeg_watch_has_child(watch))
        return;
    read_messages(supervisor);
    if (!read_output(supervisor))
        return;
    write_input(supervisor);
    judge(supervisor);
}

size_t tower_ffmpeg_supervisor_pollfds(const struct tower_ffmpeg_supervisor *supervisor,
                                       struct pollfd ret_fds[TOWER_FFMPEG_POLLFDS]) {
    const struct tower_child *child = &supervisor->child;
    size_t n = 0;
    if (child->pidfd >= 0)
        ret_fds[n++] = (struct pollfd){.fd = child->pidfd, .events = POLLIN};
    if (child->stdout_fd >= 0)
        ret_fds[n++] = (struct pollfd){.fd = child->stdout_fd, .events = POLLIN};
    /* What follows a message is read with the next block: a flood must not keep this thread awake.
     */
    if (child->stderr_fd >= 0 && !supervisor->is_talking)
        ret_fds[n++] = (struct pollfd){.fd = child->stderr_fd, .events = POLLIN};
    if (child->stdin_fd >= 0 && supervisor->backlog_bytes > 0)
        ret_fds[n++] = (struct pollfd){.fd = child->stdin_fd, .events = POLLOUT};
    return n;
}

int64_t tower_ffmpeg_supervisor_deadline_ns(const struct tower_ffmpeg_supervisor *supervisor) {
    return tower_ffmpeg_watch_deadline_ns(&supervisor->watch, supervisor->child.pid == 0);
}

void tower_ffmpeg_supervisor_get_stats(const struct tower_ffmpeg_supervisor *supervisor,
                                       struct tower_ffmpeg_stats *ret_stats) {
    *ret_stats = supervisor->watch.stats;
}
