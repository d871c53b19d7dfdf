/* ffmpeg_supervisor.c - one ffmpeg child: fed, drained, watched, restarted. */
#include "ffmpeg_supervisor.h"

#include "child.h"
#include "child_log.h"
#include "fd.h"
#include "lame_encoder.h"
#include "mp3_cutter.h"
#include "tower/log.h"

#include <assert.h>
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
/* An ending process closes its pipes just before it can be waited for. */
#define CLOSING_NS (TOWER_NS_PER_S / 10)

enum failure { FAILURE_EXIT, FAILURE_CLOSE, FAILURE_MUTE, FAILURE_REFUSAL, FAILURE_GARBAGE };

/* All of it is owned by the one thread that calls. */
struct tower_ffmpeg_supervisor {
    struct tower_ffmpeg_config config;             /* constant */
    char *program;                                 /* constant */
    int64_t backoff_ns[TOWER_ENCODER_BACKOFF_MAX]; /* constant */
    char bitrate[16];                              /* constant */
    char quality[16];                              /* constant */

    struct tower_child child;
    struct tower_mp3_cutter cutter;
    struct tower_child_log log;
    struct tower_ffmpeg_stats stats;
    int64_t start_at_ns;      /* WAITING: when to start */
    int64_t closing_until_ns; /* CLOSING: when to kill */
    int64_t running_since_ns; /* RUNNING: since the first frame */
    bool has_excess;          /* it gave more frames than there was PCM for */
    bool is_talking;          /* there was a message at the last step */

    uint64_t first_block;  /* the first this child was fed */
    uint64_t fed_blocks;   /* to this child */
    uint64_t child_frames; /* by this child */
    uint64_t unanswered;   /* blocks fed since the last frame */
    int64_t unanswered_since_ns;

    size_t backlog_start; /* PCM not yet written: offset in `backlog`, and bytes */
    size_t backlog_bytes;
    uint8_t backlog[BACKLOG_BYTES];
};

int tower_ffmpeg_supervisor_new(const struct tower_ffmpeg_config *config,
                                struct tower_ffmpeg_supervisor **ret_supervisor) {
    size_t frame_bytes = tower_lame_frame_bytes(config->bitrate_bps);
    if (!config->clock || !config->on_frame || frame_bytes == 0 || config->backoff_count == 0 ||
        config->backoff_count > TOWER_ENCODER_BACKOFF_MAX)
        return -EINVAL;
    for (size_t i = 0; i < config->backoff_count; i++) {
        if (config->backoff_ns[i] < 0)
            return -EINVAL;
    }
    struct tower_ffmpeg_supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return -ENOMEM;
    supervisor->config = *config;
    supervisor->program = strdup(config->program ? config->program : "ffmpeg");
    if (!supervisor->program) {
        free(supervisor);
        return -ENOMEM;
    }
    memcpy(supervisor->backoff_ns, config->backoff_ns,
           config->backoff_count * sizeof config->backoff_ns[0]);
    supervisor->config.backoff_ns = supervisor->backoff_ns;
    (void)snprintf(supervisor->bitrate, sizeof supervisor->bitrate, "%" PRIu32,
                   config->bitrate_bps);
    (void)snprintf(supervisor->quality, sizeof supervisor->quality, "%d", TOWER_LAME_QUALITY);
    supervisor->child = (struct tower_child)TOWER_CHILD_NONE;
    tower_mp3_cutter_init(&supervisor->cutter, config->bitrate_bps, frame_bytes);
    tower_child_log_init(&supervisor->log, "ffmpeg");
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

static bool has_child(const struct tower_ffmpeg_supervisor *supervisor) {
    return supervisor->stats.state >= TOWER_FFMPEG_STARTING;
}

void tower_ffmpeg_supervisor_start(struct tower_ffmpeg_supervisor *supervisor) {
    if (supervisor->stats.state != TOWER_FFMPEG_STOPPED)
        return;
    supervisor->stats.state = TOWER_FFMPEG_WAITING;
    supervisor->start_at_ns = now_ns(supervisor);
}

void tower_ffmpeg_supervisor_stop(struct tower_ffmpeg_supervisor *supervisor) {
    tower_child_kill(&supervisor->child);
    supervisor->stats.state = TOWER_FFMPEG_STOPPED;
    supervisor->stats.pid = 0;
}

/* The child is no use any more: away with it, and note when to try again. `what` is for the log. */
static void fail(struct tower_ffmpeg_supervisor *supervisor, enum failure failure,
                 const char *what) {
    struct tower_ffmpeg_stats *stats = &supervisor->stats;
    uint64_t *const counters[] = {
        [FAILURE_EXIT] = &stats->exits,      [FAILURE_CLOSE] = &stats->closes,
        [FAILURE_MUTE] = &stats->mutes,      [FAILURE_REFUSAL] = &stats->refusals,
        [FAILURE_GARBAGE] = &stats->garbage,
    };
    int64_t now = now_ns(supervisor);
    tower_child_log_flush(&supervisor->log, now);
    let_go(&supervisor->child);
    ++*counters[failure];
    if (stats->failures_in_row < UINT32_MAX)
        stats->failures_in_row++;
    stats->is_degraded = stats->failures_in_row > supervisor->config.max_restarts;
    size_t last = supervisor->config.backoff_count - 1;
    size_t row = stats->failures_in_row - 1;
    int64_t wait_ns = supervisor->backoff_ns[stats->is_degraded || row > last ? last : row];
    supervisor->start_at_ns = now + wait_ns;
    stats->state = TOWER_FFMPEG_WAITING;
    stats->pid = 0;
    tower_log(TOWER_LOG_WARNING, "encoder",
              "%s %s; LAME carries the air, next try in %" PRId64 " ms (failure %" PRIu32
              " in a row%s)",
              supervisor->program, what, wait_ns / 1000000, stats->failures_in_row,
              stats->is_degraded ? ", degraded" : "");
}

static void fail_ended(struct tower_ffmpeg_supervisor *supervisor, int status) {
    char what[64];
    if (WIFSIGNALED(status))
        (void)snprintf(what, sizeof what, "was killed by signal %d", WTERMSIG(status));
    else
        (void)snprintf(what, sizeof what, "ended with exit code %d", WEXITSTATUS(status));
    fail(supervisor, FAILURE_EXIT, what);
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

    supervisor->stats.starts++;
    tower_mp3_cutter_reset(&supervisor->cutter);
    supervisor->backlog_start = 0;
    supervisor->backlog_bytes = 0;
    supervisor->fed_blocks = 0;
    supervisor->child_frames = 0;
    supervisor->unanswered = 0;
    supervisor->has_excess = false;
    supervisor->is_talking = false;
    int error =
        tower_child_start(&supervisor->child, argv,
                          TOWER_CHILD_STDIN | TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR, PIPE_BYTES);
    if (error < 0) {
        char what[128];
        (void)snprintf(what, sizeof what, "could not be started: %s", strerror(-error));
        fail(supervisor, FAILURE_EXIT, what);
        return;
    }
    supervisor->stats.state = TOWER_FFMPEG_STARTING;
    supervisor->stats.pid = supervisor->child.pid;
}

/* A pipe is closed at the other end. It may just be ending: give it a moment to tell. */
static void begin_closing(struct tower_ffmpeg_supervisor *supervisor) {
    tower_fd_close(&supervisor->child.stdin_fd);
    supervisor->backlog_bytes = 0;
    if (supervisor->stats.state == TOWER_FFMPEG_CLOSING)
        return;
    supervisor->stats.state = TOWER_FFMPEG_CLOSING;
    supervisor->closing_until_ns = now_ns(supervisor) + CLOSING_NS;
}

static void take_frame(struct tower_ffmpeg_supervisor *supervisor) {
    uint64_t n = supervisor->child_frames;
    /* An ffmpeg that ends in order, as on SIGTERM, empties its encoder first: so it has a moment to
     * be gone, and nothing more of it is taken. */
    if (supervisor->has_excess || n + 1 >= supervisor->fed_blocks) {
        supervisor->has_excess = true;
        begin_closing(supervisor);
        return;
    }
    supervisor->child_frames++;
    supervisor->stats.frames++;
    supervisor->unanswered = 0;
    if (supervisor->stats.state == TOWER_FFMPEG_STARTING) {
        supervisor->stats.state = TOWER_FFMPEG_RUNNING;
        supervisor->running_since_ns = now_ns(supervisor);
    }
    supervisor->config.on_frame(supervisor->config.user, supervisor->first_block + n + 1, n,
                                supervisor->cutter.frame);
}

/* Returns false once the child has failed. */
static bool take_output(struct tower_ffmpeg_supervisor *supervisor, const uint8_t *data,
                        size_t bytes) {
    int taken;
    while ((taken = tower_mp3_cutter_take(&supervisor->cutter, &data, &bytes)) > 0)
        take_frame(supervisor);
    if (taken < 0) {
        fail(supervisor, FAILURE_GARBAGE, "wrote something that is not MP3 as asked for");
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
    if (!has_child(supervisor) || supervisor->stats.state == TOWER_FFMPEG_CLOSING)
        return;
    if (supervisor->backlog_bytes > BACKLOG_BYTES - BLOCK_BYTES) {
        fail(supervisor, FAILURE_REFUSAL, "lives but reads no PCM; killed");
        return;
    }
    if (supervisor->fed_blocks == 0)
        supervisor->first_block = block;
    assert(block == supervisor->first_block + supervisor->fed_blocks);
    supervisor->fed_blocks++;
    if (supervisor->unanswered++ == 0)
        supervisor->unanswered_since_ns = now_ns(supervisor);
    size_t end = (supervisor->backlog_start + supervisor->backlog_bytes) % BACKLOG_BYTES;
    size_t to_end = BACKLOG_BYTES - end;
    size_t first = to_end < BLOCK_BYTES ? to_end : BLOCK_BYTES;
    memcpy(supervisor->backlog + end, pcm, first);
    memcpy(supervisor->backlog, (const uint8_t *)pcm + first, BLOCK_BYTES - first);
    supervisor->backlog_bytes += BLOCK_BYTES;
    write_input(supervisor);
}

static int64_t silence_limit_ns(const struct tower_ffmpeg_supervisor *supervisor) {
    return supervisor->stats.state == TOWER_FFMPEG_STARTING ? TOWER_FFMPEG_START_TIMEOUT_NS
                                                            : TOWER_FFMPEG_STALL_TIMEOUT_NS;
}

/* Enough PCM for the stall timeout has gone unanswered: so a pump that stands still, or ourselves
 * waking up late, is not laid at the child's door. */
static bool is_owing(const struct tower_ffmpeg_supervisor *supervisor) {
    return tower_samples_to_ns((int64_t)supervisor->unanswered * TOWER_FRAME_SAMPLES,
                               TOWER_RATE_HZ) >= TOWER_FFMPEG_STALL_TIMEOUT_NS;
}

static void watch(struct tower_ffmpeg_supervisor *supervisor) {
    int64_t now = now_ns(supervisor);
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
    if (supervisor->stats.state == TOWER_FFMPEG_CLOSING) {
        if (now < supervisor->closing_until_ns)
            return;
        if (supervisor->has_excess)
            fail(supervisor, FAILURE_GARBAGE, "gave more MP3 than it was given PCM for; killed");
        else
            fail(supervisor, FAILURE_CLOSE, "lives but closed its pipe; killed");
        return;
    }
    if (is_owing(supervisor) &&
        now - supervisor->unanswered_since_ns >= silence_limit_ns(supervisor)) {
        if (supervisor->backlog_bytes > 0)
            fail(supervisor, FAILURE_REFUSAL, "lives but reads no PCM; killed");
        else
            fail(supervisor, FAILURE_MUTE, "lives and reads but gives no MP3; killed");
        return;
    }
    if (supervisor->stats.state == TOWER_FFMPEG_RUNNING && supervisor->stats.failures_in_row > 0 &&
        now - supervisor->running_since_ns >= TOWER_FFMPEG_SETTLED_NS) {
        supervisor->stats.failures_in_row = 0;
        supervisor->stats.is_degraded = false;
    }
}

void tower_ffmpeg_supervisor_step(struct tower_ffmpeg_supervisor *supervisor) {
    if (supervisor->stats.state == TOWER_FFMPEG_STOPPED)
        return;
    if (supervisor->stats.state == TOWER_FFMPEG_WAITING &&
        tower_child_poll(&supervisor->child, NULL) != 0 &&
        now_ns(supervisor) >= supervisor->start_at_ns)
        start_child(supervisor);
    if (!has_child(supervisor))
        return;
    read_messages(supervisor);
    if (!read_output(supervisor))
        return;
    write_input(supervisor);
    watch(supervisor);
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
    switch (supervisor->stats.state) {
    case TOWER_FFMPEG_STOPPED:
        break;
    case TOWER_FFMPEG_WAITING:
        /* Its pidfd tells when the last one is gone. */
        return supervisor->child.pid > 0 ? INT64_MAX : supervisor->start_at_ns;
    case TOWER_FFMPEG_CLOSING:
        return supervisor->closing_until_ns;
    case TOWER_FFMPEG_STARTING:
    case TOWER_FFMPEG_RUNNING:
        if (is_owing(supervisor))
            return supervisor->unanswered_since_ns + silence_limit_ns(supervisor);
        break;
    }
    return INT64_MAX;
}

void tower_ffmpeg_supervisor_get_stats(const struct tower_ffmpeg_supervisor *supervisor,
                                       struct tower_ffmpeg_stats *ret_stats) {
    *ret_stats = supervisor->stats;
}
