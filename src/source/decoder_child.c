/* decoder_child.c - ffmpeg as a decoder. */
#include "decoder_child.h"

#include "fd.h"
#include "tower/format.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a decoder that has closed its stdout may take to end. */
#define EXIT_LIMIT_NS (5 * TOWER_NS_PER_S)

int tower_decoder_child_start(struct tower_decoder_child *decoder, struct tower_clock *clock,
                              const char *program, const char *path) {
    char *name = NULL;
    char *url = NULL;
    int error = -ENOMEM;
    /* With its protocol named, a path that begins with a dash or holds a colon is still a path. */
    if (!(name = strdup(program)) || asprintf(&url, "file:%s", path) < 0) {
        url = NULL;
        goto finish;
    }
    char words[][16] = {"-nostdin", "-hide_banner", "-loglevel", "error", "-i",  "-map", "0:a:0",
                        "-f",       "s16le",        "-ar",       "48000", "-ac", "2",    "-"};
    char *argv[] = {name,      words[0],  words[1],  words[2],  words[3], words[4],
                    url,       words[5],  words[6],  words[7],  words[8], words[9],
                    words[10], words[11], words[12], words[13], NULL};
    struct tower_child child = TOWER_CHILD_NONE;
    error = tower_child_start(&child, argv, TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR, 0);
    if (error < 0)
        goto finish;
    *decoder = (struct tower_decoder_child){.clock = clock, .child = child, .end = 1};

finish:
    free(name);
    free(url);
    return error;
}

/* Keep whole lines; bytes that could move a terminal's cursor are shown as question marks. */
static void hear(struct tower_decoder_child *decoder, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\n' || byte == '\r') {
            if (decoder->in_line > 0) {
                memcpy(decoder->last, decoder->line, decoder->in_line);
                decoder->last[decoder->in_line] = '\0';
            }
            decoder->in_line = 0;
        } else if (decoder->in_line < sizeof decoder->line - 1) {
            decoder->line[decoder->in_line++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
        }
    }
}

static void read_stderr(struct tower_decoder_child *decoder) {
    char text[512];
    ssize_t n = read(decoder->child.stderr_fd, text, sizeof text);
    if (n > 0) {
        hear(decoder, text, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        hear(decoder, "\n", 1);
        tower_fd_close(&decoder->child.stderr_fd);
    }
}

/* stdout is at its end: see how the child ends, and what it says of it. */
static int await_exit(struct tower_decoder_child *decoder) {
    int64_t deadline_ns = tower_clock_now_ns(decoder->clock) + EXIT_LIMIT_NS;
    int status = 0;
    while (decoder->child.stderr_fd >= 0 || decoder->child.pid > 0) {
        struct pollfd fds[2] = {{.fd = decoder->child.stderr_fd, .events = POLLIN},
                                {.fd = decoder->child.pidfd, .events = POLLIN}};
        int timeout_ms = tower_clock_poll_timeout_ms(decoder->clock, deadline_ns);
        if (timeout_ms == 0)
            return -EIO;
        if (poll(fds, 2, timeout_ms) < 0)
            return errno == EINTR ? -EINTR : -EIO;
        if (fds[0].revents)
            read_stderr(decoder);
        if (fds[1].revents)
            (void)tower_child_poll(&decoder->child, &status);
        /* What it left behind, such as a grandchild, may hold stderr open for as long as it likes:
         * what the child itself said is in the pipe by now. */
        if (decoder->child.pid == 0 && decoder->child.stderr_fd >= 0) {
            read_stderr(decoder);
            break;
        }
    }
    hear(decoder, "\n", 1);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

ssize_t tower_decoder_child_read(struct tower_decoder_child *decoder, void *ret_pcm, size_t bytes) {
    while (decoder->end > 0 && decoder->child.stdout_fd >= 0) {
        struct pollfd fds[2] = {{.fd = decoder->child.stdout_fd, .events = POLLIN},
                                {.fd = decoder->child.stderr_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                return -EINTR;
            decoder->end = -EIO;
            break;
        }
        if (fds[1].revents)
            read_stderr(decoder);
        if (!fds[0].revents)
            continue;
        ssize_t n = read(decoder->child.stdout_fd, ret_pcm, bytes);
        if (n > 0)
            return n;
        if (n < 0 && errno == EINTR)
            return -EINTR;
        if (n == 0 || errno != EAGAIN)
            tower_fd_close(&decoder->child.stdout_fd);
    }
    if (decoder->end > 0) {
        int end = await_exit(decoder);
        if (end == -EINTR)
            return end;
        decoder->end = end;
    }
    return decoder->end;
}

void tower_decoder_child_stop(struct tower_decoder_child *decoder) {
    tower_child_kill(&decoder->child);
}
