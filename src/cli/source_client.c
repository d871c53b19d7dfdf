/* source_client.c - from a client's socket, through a decoder, to the PCM socket. */
#include "source_client.h"

#include "fd.h"
#include "http_body.h"
#include "identity_wire.h"
#include "pcm_backlog.h"
#include "speed_switch.h"
#include "stream_clock.h"
#include "stream_decoder.h"
#include "tower/format.h"
#include "tower/log.h"
#include "tower/producer.h"
#include "tower/titles.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_ROOM "source"
#define READ_BYTES 8192
/* More than HTTP reads before it hands a client over. */
#define BEGUN_BYTES_MAX (1024 * 1024)
#define TITLE_LENGTH_BYTES 2

/* What is decoded and not written: no more is decoded then. Together with what the socket takes,
 * room for a page of a second behind HOLD_NS: one who sends such in real time never waits. */
#define FULL_SAMPLES TOWER_RATE_HZ
/* Of it, what a transmitter that takes sound again is given. */
#define NEWEST_SAMPLES (TOWER_RATE_HZ / 2)
/* One read can make as much as 4 s, where PCM of 1000 Hz comes. */
#define BACKLOG_SAMPLES ((size_t)TOWER_RATE_HZ * 5)
#define WRITE_SAMPLES TOWER_FRAME_SAMPLES
#define WRITES_MAX 16

/* What begins, or begins again, does so this much behind its first sound: pages and packets come
 * with a jitter, which is inaudible from then on. */
#define HOLD_NS (TOWER_NS_PER_S / 5)
/* A transmitter that takes nothing for so long is stopped, or dead with another one coming. */
#define STALL_NS TOWER_NS_PER_S
#define SILENT_NS (10 * TOWER_NS_PER_S)
/* Longer than a decoder may take to fail for good. */
#define NO_SOUND_NS (20 * TOWER_NS_PER_S)
/* Of a transmitter that stalls while the end is played out. */
#define LAST_NS (5 * TOWER_NS_PER_S)
#define CLOSE_MS 1000

enum { CLIENT, TRANSMITTER, DECODER, FDS = DECODER + TOWER_STREAM_DECODER_FDS };

struct source_client {
    const struct tower_source_client_config *config;
    struct tower_source_client_result result;
    struct tower_producer *producer;
    struct tower_stream_decoder *decoder;
    struct tower_pcm_backlog backlog;
    bool is_over;   /* nothing is to be done any more */
    bool is_ending; /* the client has ended; what it sent is played out */
    int64_t now_ns; /* when the last poll returned */
    int64_t began_ns;

    /* From the client. */
    struct tower_http_body body;
    uint8_t *begun; /* what had been read before */
    uint8_t in[READ_BYTES];
    const uint8_t *in_at;
    size_t in_left;
    const uint8_t *content_at; /* in it */
    size_t content_left;
    int64_t received_ns;
    int64_t decoded_ns; /* when there was sound last, or it was not wanted */

    /* Its clock, by what is decoded. */
    struct tower_stream_clock clock;
    struct tower_speed_switch speed;
    uint32_t restarts; /* of the decoder, that the clock has been told of */

    /* To the transmitter. */
    int64_t hold_until_ns;
    int64_t played_until_ns; /* what was written is heard until then, or longer */
    int64_t written_ns;      /* when it last took something, or there was nothing for it */
    bool is_stalled;

    /* A title from it: its length and its text, as they come. */
    uint8_t title[TITLE_LENGTH_BYTES + TOWER_TITLE_BYTES_MAX + 1];
    size_t title_bytes;
};

static int64_t now_of(const struct source_client *client) {
    return tower_clock_now_ns(client->config->clock);
}

static void finish(struct source_client *client, enum tower_source_client_end end,
                   const char *why) {
    if (client->is_over)
        return;
    client->is_over = true;
    /* Why the client ended is known already where its end is being played out. */
    if (client->is_ending && end != TOWER_SOURCE_CLIENT_TRANSMITTER)
        return;
    client->result.end = end;
    (void)snprintf(client->result.why, sizeof client->result.why, "%s", why);
}

static void fail_decoding(struct source_client *client) {
    finish(client, TOWER_SOURCE_CLIENT_NO_SOUND, tower_stream_decoder_error(client->decoder));
}

/* No more comes from the client. */
static void end_client(struct source_client *client, enum tower_source_client_end end,
                       const char *why) {
    if (client->is_ending || client->is_over)
        return;
    client->result.end = end;
    (void)snprintf(client->result.why, sizeof client->result.why, "%s", why);
    client->is_ending = true;
    client->written_ns = client->now_ns;
}

/* ---- from the decoder ---- */

static void put(struct source_client *client, const int16_t *samples, size_t n_samples) {
    uint32_t restarts = tower_stream_decoder_restarts(client->decoder);
    if (restarts != client->restarts)
        tower_stream_clock_lose_place(&client->clock);
    client->restarts = restarts;
    int64_t now_ns = now_of(client);
    double ratio = tower_stream_clock_take(&client->clock, now_ns, n_samples);
    if (tower_speed_switch_put(&client->speed, &client->backlog, samples, n_samples, ratio) < 0)
        tower_stream_clock_begin(&client->clock, now_ns);
}

static void on_pcm(void *user, const int16_t *samples, size_t n_samples) {
    struct source_client *client = user;
    int64_t now_ns = now_of(client);
    if (client->backlog.count == 0) {
        client->written_ns = now_ns;
        if (now_ns > client->played_until_ns && now_ns > client->hold_until_ns) {
            client->hold_until_ns = now_ns + HOLD_NS;
            tower_stream_clock_lose_place(&client->clock);
        }
    }
    client->decoded_ns = now_ns;
    put(client, samples, n_samples);
}

static void on_title(void *user, const char *title) {
    struct source_client *client = user;
    /* The sound is what matters. */
    if (tower_pcm_backlog_set_title(&client->backlog, title) == 0)
        client->backlog.title_at += tower_speed_switch_held(&client->speed);
}

/* ---- from the client ---- */

static void receive(struct source_client *client) {
    ssize_t n = read(client->config->client_fd, client->in, sizeof client->in);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_client(client, TOWER_SOURCE_CLIENT_HUNG_UP,
                   n == 0 ? "the client hung up" : "the connection broke");
        return;
    }
    client->received_ns = client->now_ns;
    client->result.bytes += (uint64_t)n;
    client->in_at = client->in;
    client->in_left = (size_t)n;
}

/* Put on what has come, as far as the decoder has room. */
static void pass_on(struct source_client *client) {
    while (!client->is_over && tower_stream_decoder_has_room(client->decoder)) {
        if (client->content_left > 0) {
            if (tower_stream_decoder_give(client->decoder, &client->content_at,
                                          &client->content_left) < 0)
                fail_decoding(client);
            continue;
        }
        int result = tower_http_body_take(&client->body, &client->in_at, &client->in_left,
                                          &client->content_at, &client->content_left);
        if (result < 0)
            finish(client, TOWER_SOURCE_CLIENT_BAD_BODY,
                   "the body is not the chunks that its head announced");
        if (result <= 0)
            break;
    }
    if (client->body.place == TOWER_HTTP_BODY_END)
        end_client(client, TOWER_SOURCE_CLIENT_BODY_END, "the client sent its end");
    bool is_given = client->content_left == 0 &&
                    (client->in_left == 0 || client->body.place == TOWER_HTTP_BODY_END);
    if (client->is_ending && is_given && !client->is_over &&
        tower_stream_decoder_end(client->decoder) < 0)
        fail_decoding(client);
}

static int open_begun(struct source_client *client) {
    struct stat file;
    int fd = client->config->begun_fd;
    if (fd < 0)
        return 0;
    if (fstat(fd, &file) < 0)
        return -errno;
    if (!S_ISREG(file.st_mode) || file.st_size < 0 || file.st_size > BEGUN_BYTES_MAX)
        return -EBADF;
    size_t bytes = (size_t)file.st_size;
    client->begun = malloc(bytes + 1);
    if (!client->begun)
        return -ENOMEM;
    if (pread(fd, client->begun, bytes, 0) != (ssize_t)bytes)
        return -EIO;
    client->result.bytes = bytes;
    client->in_at = client->begun;
    client->in_left = bytes;
    return 0;
}

/* ---- to and from the transmitter ---- */

static void lose_transmitter(struct source_client *client) {
    finish(client, TOWER_SOURCE_CLIENT_TRANSMITTER, "the transmitter went away");
}

static void send_title(struct source_client *client) {
    char *title = tower_pcm_backlog_take_title(&client->backlog);
    /* One that is not UTF-8 is not sent. */
    if (title && tower_producer_set_title(client->producer, title) == 0)
        client->result.titles++;
    free(title);
}

static void send_clock(struct source_client *client) {
    struct tower_clock_report report;
    /* The next one says it anyway. */
    if (tower_stream_clock_report(&client->clock, client->now_ns, &report))
        (void)tower_producer_set_clock(client->producer, &report);
}

static bool has_room(const struct source_client *client) {
    struct pollfd writable = {.fd = tower_producer_fd(client->producer), .events = POLLOUT};
    return poll(&writable, 1, 0) == 1 && (writable.revents & POLLOUT);
}

static void note_written(struct source_client *client, uint64_t n_samples) {
    int64_t now_ns = now_of(client);
    client->written_ns = now_ns;
    if (client->played_until_ns < now_ns)
        client->played_until_ns = now_ns;
    client->played_until_ns += tower_samples_to_ns((int64_t)n_samples, TOWER_RATE_HZ);
    if (!client->is_stalled)
        return;
    client->is_stalled = false;
    tower_log(TOWER_LOG_INFO, LOG_ROOM, "%s: the transmitter takes sound again",
              client->config->name);
}

/* Where the socket says that there is room a frame fits, and the write does not wait. */
static void write_some(struct source_client *client) {
    send_clock(client);
    for (int i = 0; i < WRITES_MAX && client->backlog.count > 0 && has_room(client); i++) {
        const int16_t *samples;
        send_title(client);
        size_t n = tower_pcm_backlog_peek(&client->backlog, WRITE_SAMPLES, &samples);
        uint64_t before = tower_producer_written(client->producer);
        int error = tower_producer_write(client->producer, samples, n);
        uint64_t written = tower_producer_written(client->producer) - before;
        tower_pcm_backlog_pass(&client->backlog, (size_t)written);
        if (written > 0)
            note_written(client, written);
        if (error < 0 && error != -EINTR) {
            lose_transmitter(client);
            return;
        }
    }
}

/* The transmitter takes nothing: what it takes next is of now, and not of then. */
static void see_stall(struct source_client *client) {
    bool is_held = client->now_ns < client->hold_until_ns;
    if (client->backlog.count == 0 || is_held)
        client->written_ns = client->now_ns;
    if (client->now_ns - client->written_ns < STALL_NS)
        return;
    if (!client->is_stalled)
        tower_log(TOWER_LOG_WARNING, LOG_ROOM,
                  "%s: the transmitter takes nothing; sound that is older than half a second is "
                  "dropped",
                  client->config->name);
    client->is_stalled = true;
    tower_pcm_backlog_keep(&client->backlog, NEWEST_SAMPLES);
    if (client->is_ending && client->now_ns - client->written_ns >= LAST_NS)
        finish(client, client->result.end, "");
}

static void take_title(struct source_client *client) {
    size_t length = (size_t)client->title[0] | (size_t)client->title[1] << 8;
    client->title_bytes = 0;
    /* It came as text that may hold anything but this. */
    if (memchr(client->title + TITLE_LENGTH_BYTES, '\0', length))
        return;
    client->title[TITLE_LENGTH_BYTES + length] = '\0';
    (void)tower_pcm_backlog_set_title(&client->backlog,
                                      (const char *)client->title + TITLE_LENGTH_BYTES);
}

static void hear_transmitter(struct source_client *client) {
    size_t wanted = TITLE_LENGTH_BYTES;
    if (client->title_bytes >= TITLE_LENGTH_BYTES)
        wanted += (size_t)client->title[0] | (size_t)client->title[1] << 8;
    ssize_t n = recv(tower_producer_fd(client->producer), client->title + client->title_bytes,
                     wanted - client->title_bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lose_transmitter(client);
        return;
    }
    client->title_bytes += (size_t)n;
    if (client->title_bytes < TITLE_LENGTH_BYTES)
        return;
    size_t length = (size_t)client->title[0] | (size_t)client->title[1] << 8;
    if (length > TOWER_TITLE_BYTES_MAX) {
        finish(client, TOWER_SOURCE_CLIENT_TRANSMITTER,
               "the transmitter sent a title of more than it may have");
        return;
    }
    if (client->title_bytes == TITLE_LENGTH_BYTES + length)
        take_title(client);
}

/* ---- the loop ---- */

static bool wants_pcm(const struct source_client *client) {
    return client->is_stalled || client->backlog.count < FULL_SAMPLES;
}

static bool wants_client(const struct source_client *client) {
    return !client->is_ending && client->in_left == 0 && client->content_left == 0 &&
           wants_pcm(client) && tower_stream_decoder_has_room(client->decoder);
}

/* What waits is all that may: the client is ahead of the transmitter, not of a clock. */
static void see_back_pressure(struct source_client *client) {
    if (!wants_pcm(client) && !has_room(client))
        tower_stream_clock_begin(&client->clock, client->now_ns);
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) {
    return a_ns < b_ns ? a_ns : b_ns;
}

static int64_t deadline_ns(const struct source_client *client) {
    int64_t at_ns = tower_stream_decoder_deadline_ns(client->decoder);
    if (!client->is_ending)
        at_ns = earlier(at_ns,
                        earlier(client->received_ns + SILENT_NS, client->decoded_ns + NO_SOUND_NS));
    if (client->backlog.count > 0 && client->now_ns < client->hold_until_ns)
        at_ns = earlier(at_ns, client->hold_until_ns);
    else if (client->backlog.count > 0 && !client->is_stalled)
        at_ns = earlier(at_ns, client->written_ns + STALL_NS);
    else if (client->backlog.count > 0 && client->is_ending)
        at_ns = earlier(at_ns, client->written_ns + LAST_NS);
    return at_ns;
}

static void wait_for_something(struct source_client *client, struct pollfd fds[FDS]) {
    bool is_held = client->now_ns < client->hold_until_ns && !client->is_ending;
    bool wants_room = client->backlog.count > 0 && !is_held;
    fds[CLIENT] = (struct pollfd){.fd = wants_client(client) ? client->config->client_fd : -1,
                                  .events = POLLIN};
    fds[TRANSMITTER] = (struct pollfd){.fd = tower_producer_fd(client->producer),
                                       .events = (short)(POLLIN | (wants_room ? POLLOUT : 0))};
    tower_stream_decoder_poll(client->decoder, wants_pcm(client), fds + DECODER);
    int timeout_ms = tower_clock_poll_timeout_ms(client->config->clock, deadline_ns(client));
    if (poll(fds, FDS, timeout_ms) < 0) {
        for (int i = 0; i < FDS; i++)
            fds[i].revents = 0;
    }
    client->now_ns = now_of(client);
}

/* Is the client to be waited for no longer? */
static void see_silence(struct source_client *client, bool was_wanted) {
    if (client->is_ending)
        return;
    if (!was_wanted)
        client->received_ns = client->now_ns;
    if (!wants_pcm(client))
        client->decoded_ns = client->now_ns;
    if (client->now_ns - client->received_ns >= SILENT_NS)
        end_client(client, TOWER_SOURCE_CLIENT_SILENT, "nothing came from the client for 10 s");
    else if (client->now_ns - client->decoded_ns >= NO_SOUND_NS)
        finish(client, TOWER_SOURCE_CLIENT_NO_SOUND, "it sends, and no sound comes of it");
}

static void step(struct source_client *client) {
    struct pollfd fds[FDS];
    pass_on(client);
    if (client->is_over)
        return;
    bool was_wanted = wants_client(client);
    wait_for_something(client, fds);
    if (*client->config->is_interrupted)
        finish(client, TOWER_SOURCE_CLIENT_INTERRUPTED, "a signal");
    if (fds[TRANSMITTER].revents & POLLIN)
        hear_transmitter(client);
    else if (fds[TRANSMITTER].revents & (POLLHUP | POLLERR))
        lose_transmitter(client);
    if (client->is_over)
        return;
    if (fds[CLIENT].revents)
        receive(client);
    pass_on(client);
    if (!client->is_over &&
        tower_stream_decoder_step(client->decoder, wants_pcm(client), fds + DECODER) < 0)
        fail_decoding(client);
    bool is_held = client->now_ns < client->hold_until_ns && !client->is_ending;
    if (!client->is_over && !is_held) {
        write_some(client);
        see_back_pressure(client);
    }
    see_stall(client);
    see_silence(client, was_wanted);
    if (client->is_ending && tower_stream_decoder_is_done(client->decoder)) {
        tower_speed_switch_take_out(&client->speed, &client->backlog);
        if (client->backlog.count == 0)
            client->is_over = true;
    }
}

/* ---- all of it ---- */

/* One that cannot say who it is waits behind all who can, and is better than none. */
static void send_identity(struct source_client *client) {
    struct tower_producer_identity identity = {.is_live = true, .is_source = true};
    (void)snprintf(identity.name, sizeof identity.name, "%s", client->config->name);
    if (client->config->label)
        tower_identity_label_from(client->config->label, identity.label);
    int error = tower_producer_set_identity(client->producer, &identity);
    if (error < 0)
        tower_log(TOWER_LOG_WARNING, LOG_ROOM, "%s: cannot say who it is: %s", client->config->name,
                  strerror(-error));
}

static int open_parts(struct source_client *client) {
    const struct tower_source_client_config *config = client->config;
    const struct tower_stream_decoder_config decoder = {
        .clock = config->clock,
        .ffmpeg = config->ffmpeg,
        .content_type = config->content_type,
        .name = config->name,
        .user = client,
        .on_pcm = on_pcm,
        .on_title = on_title,
    };
    int error = tower_fd_set_nonblocking(config->client_fd);
    if (error == 0)
        error = open_begun(client);
    if (error == 0)
        error = tower_pcm_backlog_init(&client->backlog, BACKLOG_SAMPLES);
    if (error == 0)
        error = tower_speed_switch_init(&client->speed);
    if (error == 0)
        error = tower_stream_decoder_new(&decoder, &client->decoder);
    if (error == 0)
        error = tower_producer_connect(config->socket, &client->producer);
    if (error == 0)
        send_identity(client);
    return error;
}

/* The last frame is padded, unless the transmitter would be waited for. */
static void close_producer(struct source_client *client) {
    if (!client->producer)
        return;
    struct pollfd writable = {.fd = tower_producer_fd(client->producer), .events = POLLOUT};
    bool is_good = poll(&writable, 1, CLOSE_MS) == 1 && writable.revents == POLLOUT;
    tower_producer_close(client->producer, is_good ? TOWER_FRAME_SAMPLES : 0);
}

int tower_source_client_run(const struct tower_source_client_config *config,
                            struct tower_source_client_result *ret_result) {
    struct source_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->config = config;
    tower_http_body_init(&client->body, config->is_chunked, config->length);
    client->began_ns = client->now_ns = now_of(client);
    client->received_ns = client->decoded_ns = client->written_ns = client->now_ns;
    client->hold_until_ns = client->played_until_ns = client->now_ns - 1;
    tower_stream_clock_init(&client->clock, client->now_ns);
    int error = open_parts(client);
    if (error == 0) {
        while (!client->is_over)
            step(client);
        client->result.ns = now_of(client) - client->began_ns;
        client->result.samples = tower_producer_written(client->producer);
        client->result.dropped = client->backlog.dropped;
        client->result.decoder_starts = tower_stream_decoder_restarts(client->decoder);
        tower_stream_clock_view(&client->clock, &client->result.clock);
        *ret_result = client->result;
    }
    close_producer(client);
    tower_stream_decoder_free(client->decoder);
    tower_speed_switch_done(&client->speed);
    tower_pcm_backlog_done(&client->backlog);
    free(client->begun);
    free(client);
    return error;
}
