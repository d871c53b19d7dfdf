/* tags.c - who and what a file says it is. */
#include "tags.h"

#include "child.h"
#include "tower/format.h"
#include "utf8.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define LIMIT_NS (3 * TOWER_NS_PER_S)
/* Of a line of ffmpeg's; what is longer is cut. */
#define LINE_BYTES 8192

static bool is_blank(char byte) {
    return (unsigned char)byte <= ' ' || byte == 0x7f;
}

char *tower_tag_new(const char *text) {
    while (*text && is_blank(*text))
        text++;
    size_t bytes = strlen(text);
    while (bytes > 0 && is_blank(text[bytes - 1]))
        bytes--;
    if (bytes == 0)
        return NULL;
    if (tower_utf8_is_valid(text, bytes))
        return strndup(text, bytes);
    char *tag = malloc(2 * bytes + 1);
    if (!tag)
        return NULL;
    size_t filled = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < 0x80) {
            tag[filled++] = text[i];
        } else {
            tag[filled++] = (char)(0xc0 | byte >> 6);
            tag[filled++] = (char)(0x80 | (byte & 0x3f));
        }
    }
    tag[filled] = '\0';
    return tag;
}

void tower_tags_done(struct tower_tags *tags) {
    free(tags->artist);
    free(tags->title);
    *tags = (struct tower_tags){NULL, NULL};
}

/* ---- ffmpeg's word ---- */

/* A line of the form key=value, in which a backslash takes the meaning from what is behind it, also
 * from the end of the line. */
struct line {
    bool is_escaped;
    size_t value_at; /* 0: no value yet */
    size_t filled;
    char text[LINE_BYTES];
};

static void put(struct line *line, char byte) {
    if (line->filled < LINE_BYTES - 1)
        line->text[line->filled++] = byte;
}

/* Returns false at the first line that is not about the whole file any more. */
static bool end_line(struct line *line, struct tower_tags *tags) {
    /* One that is full may have lost a part of its last character. */
    size_t bytes = line->filled < LINE_BYTES - 1
                       ? line->filled
                       : tower_utf8_cut(line->text, line->filled, line->filled - 4);
    line->text[bytes] = '\0';
    const char *value = line->value_at > 0 ? line->text + line->value_at : NULL;
    if (value && !tags->artist && strcasecmp(line->text, "artist") == 0)
        tags->artist = tower_tag_new(value);
    if (value && !tags->title && strcasecmp(line->text, "title") == 0)
        tags->title = tower_tag_new(value);
    bool is_section = bytes > 0 && line->text[0] == '[';
    line->is_escaped = false;
    line->value_at = 0;
    line->filled = 0;
    return !is_section;
}

static bool take(struct line *line, char byte, struct tower_tags *tags) {
    if (!line->is_escaped && byte == '\n')
        return end_line(line, tags);
    if (!line->is_escaped && byte == '\\') {
        line->is_escaped = true;
        return true;
    }
    if (!line->is_escaped && byte == '=' && line->value_at == 0 && line->filled < LINE_BYTES / 2) {
        put(line, '\0');
        line->value_at = line->filled;
    } else {
        put(line, byte);
    }
    line->is_escaped = false;
    return true;
}

static void read_tags(struct tower_tags *tags, struct tower_clock *clock, int fd) {
    int64_t deadline_ns = tower_clock_now_ns(clock) + LIMIT_NS;
    struct line line = {0};
    bool goes_on = true;
    while (goes_on) {
        char text[512];
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        int timeout_ms = tower_clock_poll_timeout_ms(clock, deadline_ns);
        if (timeout_ms == 0 || (poll(&readable, 1, timeout_ms) < 0 && errno != EINTR))
            return;
        ssize_t n = read(fd, text, sizeof text);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return;
        for (ssize_t i = 0; i < n && goes_on; i++)
            goes_on = take(&line, text[i], tags);
    }
}

void tower_tags_ask_ffmpeg(struct tower_tags *tags, struct tower_clock *clock, const char *ffmpeg,
                           const char *path) {
    struct tower_child child = TOWER_CHILD_NONE;
    char *name = strdup(ffmpeg);
    char *url = NULL;
    /* With its protocol named, a path that begins with a dash or holds a colon is still a path. */
    if (asprintf(&url, "file:%s", path) < 0)
        url = NULL;
    char words[][16] = {"-nostdin", "-hide_banner", "-loglevel",  "quiet",
                        "-i",       "-f",           "ffmetadata", "-"};
    char *argv[] = {name, words[0], words[1], words[2], words[3], words[4],
                    url,  words[5], words[6], words[7], NULL};
    if (name && url && tower_child_start(&child, argv, TOWER_CHILD_STDOUT, 0) == 0)
        read_tags(tags, clock, child.stdout_fd);
    tower_child_kill(&child);
    free(name);
    free(url);
}
