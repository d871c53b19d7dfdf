/* stream_decoder.c - a stream through ffmpeg, or through pcm_stream.c. */
#include "stream_decoder.h"

#include "child.h"
#include "child_log.h"
#include "fd.h"
#include "pcm_stream.h"
#include "stream_head.h"
#include "tower/format.h"
#include "tower/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What lies in a pipe is delay, and lost with a child that dies. */
#define PIPE_BYTES 16384
#define ROOM_BYTES 16384
/* A head, and a page on top of nearly ROOM_BYTES. */
#define PENDING_BYTES (TOWER_STREAM_HEAD_BYTES_MAX + TOWER_STREAM_PAGE_BYTES_MAX + ROOM_BYTES)
#define READ_BYTES 16384
/* What a child may have: some 50 MiB is usual, a large picture takes its size, and a packet or a
 * tag that never ends would take all there is, as quickly as it comes. */
#define CHILD_MEMORY_BYTES (256U * 1024 * 1024)
#define MUTE_NS (3 * TOWER_NS_PER_S)
/* A child that has read a page and given nothing for so long has given all that is in it. */
#define QUIET_NS (TOWER_NS_PER_S / 20)
#define FAILURES_MAX 5
/* Before the second start in a row and those behind it. */
#define BACKOFF_NS (TOWER_NS_PER_S / 4)
#define LOG_ROOM "source"
/* In 10 s: what is wrong with a stream is wrong with all of it. */
#define LOG_LINES_MAX 4

enum way { WAY_FFMPEG, WAY_WAV, WAY_L16 };
enum { STDIN, STDOUT, STDERR, ENDED };

struct format {
    const char *content_type;
    enum way way;
    const char *demuxer;
    enum tower_stream_kind kind;
};

static const struct format formats[] = {
    {"audio/mpeg", WAY_FFMPEG, "mp3", TOWER_STREAM_PLAIN},
    {"audio/mp3", WAY_FFMPEG, "mp3", TOWER_STREAM_PLAIN},
    {"audio/aac", WAY_FFMPEG, "aac", TOWER_STREAM_PLAIN},
    {"audio/aacp", WAY_FFMPEG, "aac", TOWER_STREAM_PLAIN},
    {"audio/ogg", WAY_FFMPEG, "ogg", TOWER_STREAM_OGG},
    {"application/ogg", WAY_FFMPEG, "ogg", TOWER_STREAM_OGG},
    {"audio/flac", WAY_FFMPEG, "ogg", TOWER_STREAM_FLAC},
    {"audio/x-flac", WAY_FFMPEG, "ogg", TOWER_STREAM_FLAC},
    {"audio/webm", WAY_FFMPEG, "matroska", TOWER_STREAM_MATROSKA},
    {"video/webm", WAY_FFMPEG, "matroska", TOWER_STREAM_MATROSKA},
    {"audio/x-matroska", WAY_FFMPEG, "matroska", TOWER_STREAM_MATROSKA},
    {"audio/wav", WAY_WAV, NULL, TOWER_STREAM_PLAIN},
    {"audio/x-wav", WAY_WAV, NULL, TOWER_STREAM_PLAIN},
    {"audio/wave", WAY_WAV, NULL, TOWER_STREAM_PLAIN},
    {"audio/vnd.wave", WAY_WAV, NULL, TOWER_STREAM_PLAIN},
    {"audio/l16", WAY_L16, NULL, TOWER_STREAM_PLAIN},
};
#define FORMATS (sizeof formats / sizeof *formats)

struct tower_stream_decoder {
    struct tower_stream_decoder_config config; /* constant */
    const struct format *format;               /* constant */
    struct tower_pcm_stream *pcm;              /* NULL: by ffmpeg, and then all that follows */

    struct tower_stream_head *head;
    char *title; /* the last one given on; NULL: none */

    struct tower_child child;
    bool has_child;  /* from its start to when its end has been dealt with */
    int wait_status; /* of one that has been reaped */
    struct tower_child_log log;
    char log_name[48];
    int64_t start_at_ns; /* INT64_MAX: no child is to be started */
    bool has_given;      /* this child: sound */
    uint32_t failures;   /* in a row, without sound */
    uint32_t restarts;
    bool is_ending;   /* no more comes */
    bool is_changing; /* the child is given its end, and another begins with the new head */

    /* A link of a chain that the same child goes on with waits until all before it has been heard,
     * so that its title goes with its sound. */
    bool is_waiting;
    struct tower_stream_piece first; /* of it */
    int64_t quiet_since_ns;          /* nothing more has come from the child, or gone to it */

    /* Since when the child has been given what it has not answered, and when it was given something
     * last. INT64_MAX: it owes nothing. */
    int64_t unanswered_since_ns;
    int64_t given_ns;

    uint8_t *pending; /* not yet written to it */
    size_t pending_start;
    size_t pending_bytes;
    int16_t out[READ_BYTES / sizeof(int16_t)];
    size_t out_bytes; /* of a sample that is not whole */
    char error[160];
};

/* ---- content types ---- */

static size_t type_bytes(const char *content_type) {
    return strcspn(content_type, "; \t,");
}

static const struct format *format_of(const char *content_type) {
    size_t bytes = type_bytes(content_type);
    for (size_t i = 0; i < FORMATS; i++) {
        if (strlen(formats[i].content_type) == bytes &&
            strncasecmp(formats[i].content_type, content_type, bytes) == 0)
            return &formats[i];
    }
    return NULL;
}

/* A number among the parameters, as in "; rate=44100"; `otherwise` where it is not named, 0 where
 * it makes no sense. */
static uint32_t parameter_of(const char *content_type, const char *name, uint32_t otherwise) {
    size_t name_bytes = strlen(name);
    const char *at = content_type + type_bytes(content_type);
    while (*at) {
        at += strspn(at, "; \t");
        size_t bytes = strcspn(at, ";");
        if (bytes > name_bytes && at[name_bytes] == '=' && strncasecmp(at, name, name_bytes) == 0) {
            const char *digits = at + name_bytes + 1;
            digits += *digits == '"';
            size_t n_digits = strspn(digits, "0123456789");
            return n_digits > 0 && n_digits < 7 ? (uint32_t)strtoul(digits, NULL, 10) : 0;
        }
        at += bytes;
    }
    return otherwise;
}

bool tower_stream_decoder_knows(const char *content_type) {
    return format_of(content_type) != NULL;
}

/* ---- from the beginning to the end ---- */

static int64_t now_ns(const struct tower_stream_decoder *decoder) {
    return tower_clock_now_ns(decoder->config.clock);
}

static void pass_pcm(void *user, const int16_t *samples, size_t n_samples) {
    const struct tower_stream_decoder *decoder = user;
    decoder->config.on_pcm(decoder->config.user, samples, n_samples);
}

static int open_way(struct tower_stream_decoder *decoder) {
    const char *type = decoder->config.content_type;
    int error = 0;
    switch (decoder->format->way) {
    case WAY_WAV:
        return tower_pcm_stream_new_wav(pass_pcm, decoder, &decoder->pcm);
    case WAY_L16:
        /* The rate is not for leaving out, and one channel is what is meant then (RFC 3551). */
        error = tower_pcm_stream_new_l16(parameter_of(type, "rate", 44100),
                                         parameter_of(type, "channels", 1), pass_pcm, decoder,
                                         &decoder->pcm);
        return error == -EINVAL ? -ENOTSUP : error;
    case WAY_FFMPEG:
        break;
    }
    decoder->pending = malloc(PENDING_BYTES);
    if (!decoder->pending)
        return -ENOMEM;
    decoder->start_at_ns = now_ns(decoder);
    return tower_stream_head_new(decoder->format->kind, &decoder->head);
}

int tower_stream_decoder_new(const struct tower_stream_decoder_config *config,
                             struct tower_stream_decoder **ret_decoder) {
    const struct format *format = format_of(config->content_type);
    if (!format)
        return -ENOTSUP;
    struct tower_stream_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return -ENOMEM;
    decoder->config = *config;
    decoder->format = format;
    decoder->child = (struct tower_child)TOWER_CHILD_NONE;
    decoder->start_at_ns = INT64_MAX;
    decoder->unanswered_since_ns = INT64_MAX;
    (void)snprintf(decoder->log_name, sizeof decoder->log_name, "%s: ffmpeg", config->name);
    tower_child_log_init(&decoder->log, LOG_ROOM, decoder->log_name, LOG_LINES_MAX);
    int error = open_way(decoder);
    if (error < 0)
        tower_stream_decoder_free(decoder);
    else
        *ret_decoder = decoder;
    return error;
}

void tower_stream_decoder_free(struct tower_stream_decoder *decoder) {
    if (!decoder)
        return;
    tower_child_kill(&decoder->child);
    tower_pcm_stream_free(decoder->pcm);
    tower_stream_head_free(decoder->head);
    free(decoder->pending);
    free(decoder->title);
    free(decoder);
}

const char *tower_stream_decoder_error(const struct tower_stream_decoder *decoder) {
    return decoder->error;
}

uint32_t tower_stream_decoder_restarts(const struct tower_stream_decoder *decoder) {
    return decoder->restarts;
}

/* Say why in words; returns the error. */
static int give_up(struct tower_stream_decoder *decoder, int error) {
    const char *type = decoder->format->content_type;
    const char *what = strerror(-error);
    if (error == -EPROTO)
        what = "that is not what it sends";
    else if (error == -ENOTSUP)
        what = "of a kind that is not understood";
    (void)snprintf(decoder->error, sizeof decoder->error, "%s: %s", type, what);
    return error;
}

/* ---- the child ---- */

/* It is to act by itself: there is more for it to read, or it is to end. */
static bool is_awaited(const struct tower_stream_decoder *decoder) {
    const struct tower_child *child = &decoder->child;
    return decoder->pending_bytes > 0 || child->stdin_fd < 0 || child->stdout_fd < 0;
}

static void append(struct tower_stream_decoder *decoder, const uint8_t *data, size_t bytes) {
    if (decoder->pending_start + decoder->pending_bytes + bytes > PENDING_BYTES) {
        memmove(decoder->pending, decoder->pending + decoder->pending_start,
                decoder->pending_bytes);
        decoder->pending_start = 0;
    }
    memcpy(decoder->pending + decoder->pending_start + decoder->pending_bytes, data, bytes);
    decoder->pending_bytes += bytes;
}

static void say_title(struct tower_stream_decoder *decoder) {
    char *title = tower_stream_head_title(decoder->head);
    if (strcmp(title ? title : "", decoder->title ? decoder->title : "") != 0)
        decoder->config.on_title(decoder->config.user, title ? title : "");
    free(decoder->title);
    decoder->title = title;
}

static void put(struct tower_stream_decoder *decoder, const struct tower_stream_piece *piece) {
    int64_t now = now_ns(decoder);
    append(decoder, piece->data, piece->bytes);
    /* To a head there is no answer; but it must be read. */
    bool is_first = !piece->is_head && decoder->given_ns < decoder->unanswered_since_ns;
    if (decoder->unanswered_since_ns == INT64_MAX || is_first)
        decoder->unanswered_since_ns = now;
    if (!piece->is_head)
        decoder->given_ns = now;
    if (piece->ends_head)
        say_title(decoder);
}

/* Before it has been given anything to read. A child without the bound is better than none. */
static void bound_memory(const struct tower_child *child) {
    const struct rlimit limit = {CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES};
    (void)prlimit(child->pid, RLIMIT_DATA, &limit, NULL);
}

static int start_child(struct tower_stream_decoder *decoder) {
    const char *const arguments[] = {
        decoder->config.ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error",
        /* The stream can make it open nothing. */
        "-protocol_whitelist", "pipe", "-threads", "1",
        /* Without these it listens for a second before it begins. */
        "-probesize", "32", "-analyzeduration", "0", "-f", decoder->format->demuxer, "-i", "pipe:0",
        "-map", "0:a:0",
        /* Each link of a chain begins at 0 again, of which it would complain; PCM has no times. To
         * set them it holds a packet back, so that one is to be short: 10 ms. */
        "-bsf:a", "pcm_rechunk=nb_out_samples=480:pad=0,setts=ts=N", "-f", "s16le", "-ar", "48000",
        "-ac", "2", "-flush_packets", "1", "pipe:1", NULL};
    /* exec() changes none of them; its type is older than const. */
    char *argv[sizeof arguments / sizeof arguments[0]];
    memcpy(argv, arguments, sizeof argv);

    decoder->start_at_ns = INT64_MAX;
    decoder->unanswered_since_ns = INT64_MAX;
    decoder->has_given = false;
    decoder->pending_start = 0;
    decoder->pending_bytes = 0;
    decoder->out_bytes = 0;
    int error =
        tower_child_start(&decoder->child, argv,
                          TOWER_CHILD_STDIN | TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR, PIPE_BYTES);
    if (error < 0) {
        (void)snprintf(decoder->error, sizeof decoder->error, "%.100s cannot be started: %s",
                       decoder->config.ffmpeg, strerror(-error));
        return -EIO;
    }
    decoder->has_child = true;
    bound_memory(&decoder->child);
    /* Their first piece is in the head already. */
    decoder->is_changing = false;
    decoder->is_waiting = false;
    size_t bytes;
    const uint8_t *head = tower_stream_head_get(decoder->head, &bytes);
    if (bytes > 0) {
        append(decoder, head, bytes);
        decoder->unanswered_since_ns = now_ns(decoder);
    }
    return 0;
}

static void read_log(struct tower_stream_decoder *decoder) {
    char text[1024];
    ssize_t n = read(decoder->child.stderr_fd, text, sizeof text);
    if (n > 0)
        tower_child_log_take(&decoder->log, now_ns(decoder), text, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        tower_fd_close(&decoder->child.stderr_fd);
}

/* The child is gone, or of no use. `what`: how, for the log. */
static int lose_child(struct tower_stream_decoder *decoder, const char *what) {
    int64_t now = now_ns(decoder);
    tower_child_log_flush(&decoder->log, now);
    tower_child_kill(&decoder->child);
    decoder->has_child = false;
    decoder->unanswered_since_ns = INT64_MAX;
    decoder->failures = decoder->has_given ? 0 : decoder->failures + 1;
    if (decoder->is_changing) {
        decoder->start_at_ns = now;
        return 0;
    }
    if (decoder->is_ending)
        return 0;
    if (decoder->failures >= FAILURES_MAX) {
        (void)snprintf(decoder->error, sizeof decoder->error,
                       "%s: no sound could be made of it, %d times in a row",
                       decoder->format->content_type, FAILURES_MAX);
        return -EIO;
    }
    tower_log(TOWER_LOG_WARNING, LOG_ROOM, "%s %s; started anew", decoder->log_name, what);
    decoder->restarts++;
    decoder->start_at_ns = now + (decoder->failures > 1 ? BACKOFF_NS : 0);
    return 0;
}

static int lose_ended_child(struct tower_stream_decoder *decoder) {
    int status = decoder->wait_status;
    char what[64];
    /* What it said last is in its pipe by now. */
    if (decoder->child.stderr_fd >= 0)
        read_log(decoder);
    if (WIFSIGNALED(status))
        (void)snprintf(what, sizeof what, "was killed by signal %d", WTERMSIG(status));
    else
        (void)snprintf(what, sizeof what, "ended with exit code %d", WEXITSTATUS(status));
    return lose_child(decoder, what);
}

/* ---- its pipes ---- */

static void read_pcm(struct tower_stream_decoder *decoder) {
    ssize_t n = read(decoder->child.stdout_fd, (uint8_t *)decoder->out + decoder->out_bytes,
                     sizeof decoder->out - decoder->out_bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        tower_fd_close(&decoder->child.stdout_fd);
        if (decoder->unanswered_since_ns == INT64_MAX)
            decoder->unanswered_since_ns = now_ns(decoder);
        return;
    }
    decoder->quiet_since_ns = now_ns(decoder);
    decoder->unanswered_since_ns = is_awaited(decoder) ? decoder->quiet_since_ns : INT64_MAX;
    decoder->has_given = true;
    decoder->failures = 0;
    size_t bytes = decoder->out_bytes + (size_t)n;
    decoder->out_bytes = bytes % TOWER_SAMPLE_BYTES;
    bytes -= decoder->out_bytes;
    if (bytes > 0)
        decoder->config.on_pcm(decoder->config.user, decoder->out, bytes / TOWER_SAMPLE_BYTES);
    memmove(decoder->out, (uint8_t *)decoder->out + bytes, decoder->out_bytes);
}

static void write_pending(struct tower_stream_decoder *decoder) {
    ssize_t n = write(decoder->child.stdin_fd, decoder->pending + decoder->pending_start,
                      decoder->pending_bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        /* It is ending, which its other pipes tell. */
        tower_fd_close(&decoder->child.stdin_fd);
        if (decoder->unanswered_since_ns == INT64_MAX)
            decoder->unanswered_since_ns = now_ns(decoder);
        n = (ssize_t)decoder->pending_bytes;
    }
    decoder->pending_start += (size_t)n;
    decoder->pending_bytes -= (size_t)n;
    if (decoder->pending_bytes == 0)
        decoder->pending_start = 0;
}

/* It has all there is for it, and hears so. */
static void close_stdin_if_due(struct tower_stream_decoder *decoder) {
    bool is_its_end = decoder->is_changing || (decoder->is_ending && !decoder->is_waiting);
    if (!is_its_end || decoder->pending_bytes > 0 || decoder->child.stdin_fd < 0)
        return;
    tower_fd_close(&decoder->child.stdin_fd);
    decoder->unanswered_since_ns = now_ns(decoder);
}

/* Is what was before the link that waits heard? */
static void let_link_in(struct tower_stream_decoder *decoder, bool wants_pcm) {
    int64_t now = now_ns(decoder);
    if (!wants_pcm || decoder->pending_bytes > 0)
        decoder->quiet_since_ns = now;
    if (!decoder->is_waiting || now - decoder->quiet_since_ns < QUIET_NS)
        return;
    decoder->is_waiting = false;
    put(decoder, &decoder->first);
}

static bool is_mute(const struct tower_stream_decoder *decoder) {
    if (decoder->unanswered_since_ns == INT64_MAX)
        return false;
    /* One that has nothing more to read for now may be in the middle of something. */
    int64_t until_ns = is_awaited(decoder) ? now_ns(decoder) : decoder->given_ns;
    return until_ns - decoder->unanswered_since_ns >= MUTE_NS;
}

/* ---- for the one who polls ---- */

bool tower_stream_decoder_has_room(const struct tower_stream_decoder *decoder) {
    if (decoder->pcm)
        return true;
    return decoder->child.pid > 0 && decoder->child.stdin_fd >= 0 && !decoder->is_changing &&
           !decoder->is_waiting && !decoder->is_ending && decoder->pending_bytes < ROOM_BYTES;
}

int tower_stream_decoder_give(struct tower_stream_decoder *decoder, const uint8_t **at,
                              size_t *left) {
    if (decoder->pcm) {
        int error = tower_pcm_stream_take(decoder->pcm, *at, *left);
        *at += *left;
        *left = 0;
        return error < 0 ? give_up(decoder, error) : 0;
    }
    while (*left > 0 && tower_stream_decoder_has_room(decoder)) {
        struct tower_stream_piece piece;
        const uint8_t *from = *at;
        size_t bytes = *left < ROOM_BYTES ? *left : ROOM_BYTES;
        int result = tower_stream_head_take(decoder->head, at, &bytes, &piece);
        *left -= (size_t)(*at - from);
        if (result < 0)
            return give_up(decoder, result);
        if (result == 0)
            continue;
        if (piece.changes_codec) {
            decoder->is_changing = true;
            close_stdin_if_due(decoder);
        } else if (piece.begins_link) {
            decoder->is_waiting = true;
            decoder->first = piece;
            decoder->quiet_since_ns = now_ns(decoder);
        } else {
            put(decoder, &piece);
        }
    }
    return 0;
}

int tower_stream_decoder_end(struct tower_stream_decoder *decoder) {
    if (decoder->is_ending)
        return 0;
    decoder->is_ending = true;
    if (decoder->pcm) {
        int error = tower_pcm_stream_end(decoder->pcm);
        return error < 0 ? give_up(decoder, error) : 0;
    }
    if (!decoder->is_changing)
        decoder->start_at_ns = INT64_MAX;
    close_stdin_if_due(decoder);
    return 0;
}

bool tower_stream_decoder_is_done(const struct tower_stream_decoder *decoder) {
    return decoder->is_ending && !decoder->is_changing && !decoder->has_child;
}

void tower_stream_decoder_poll(const struct tower_stream_decoder *decoder, bool wants_pcm,
                               struct pollfd fds[TOWER_STREAM_DECODER_FDS]) {
    const struct tower_child *child = &decoder->child;
    fds[STDIN] =
        (struct pollfd){.fd = decoder->pending_bytes > 0 ? child->stdin_fd : -1, .events = POLLOUT};
    fds[STDOUT] = (struct pollfd){.fd = wants_pcm ? child->stdout_fd : -1, .events = POLLIN};
    fds[STDERR] = (struct pollfd){.fd = child->stderr_fd, .events = POLLIN};
    fds[ENDED] = (struct pollfd){.fd = child->pidfd, .events = POLLIN};
}

int64_t tower_stream_decoder_deadline_ns(const struct tower_stream_decoder *decoder) {
    int64_t deadline_ns = decoder->start_at_ns;
    if (decoder->has_child && is_awaited(decoder) &&
        decoder->unanswered_since_ns < INT64_MAX - MUTE_NS &&
        decoder->unanswered_since_ns + MUTE_NS < deadline_ns)
        deadline_ns = decoder->unanswered_since_ns + MUTE_NS;
    if (decoder->has_child && decoder->is_waiting &&
        decoder->quiet_since_ns + QUIET_NS < deadline_ns)
        deadline_ns = decoder->quiet_since_ns + QUIET_NS;
    return deadline_ns;
}

int tower_stream_decoder_step(struct tower_stream_decoder *decoder, bool wants_pcm,
                              const struct pollfd fds[TOWER_STREAM_DECODER_FDS]) {
    if (decoder->pcm)
        return 0;
    struct tower_child *child = &decoder->child;
    int status = 0;
    /* Nobody wanted to hear it. */
    if (!wants_pcm && decoder->unanswered_since_ns != INT64_MAX)
        decoder->unanswered_since_ns = now_ns(decoder);
    if (fds[STDERR].revents && child->stderr_fd >= 0)
        read_log(decoder);
    if (fds[STDOUT].revents && child->stdout_fd >= 0 && wants_pcm)
        read_pcm(decoder);
    if (fds[STDIN].revents && child->stdin_fd >= 0)
        write_pending(decoder);
    let_link_in(decoder, wants_pcm);
    close_stdin_if_due(decoder);
    int error = 0;
    if (fds[ENDED].revents && child->pid > 0 && tower_child_poll(child, &status) != 0)
        decoder->wait_status = status;
    /* What it has said and made before is still in its pipes. */
    if (decoder->has_child && child->pid == 0 && child->stdout_fd < 0)
        error = lose_ended_child(decoder);
    else if (decoder->has_child && is_mute(decoder))
        error = lose_child(decoder, "takes the stream and gives no sound; killed");
    if (error == 0 && decoder->start_at_ns <= now_ns(decoder))
        error = start_child(decoder);
    return error;
}
