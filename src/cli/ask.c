/* ask.c - GET or POST, one answer of JSON. */
#include "ask.h"

#include "utf8.h"
#include "tower/clock.h"
#include "tower/format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS (INT64_C(5) * TOWER_NS_PER_S)
/* The largest, the journal, is some 100 KiB. */
#define ANSWER_BYTES_MAX ((size_t)1 << 20)

int tower_ask_url(const char *command, const char *text, const char *path,
                  struct tower_http_url *ret_url) {
    struct tower_http_url url;
    char reason[512];
    int error = tower_http_url_parse(text, &url, reason, sizeof reason);
    if (error < 0) {
        (void)fprintf(stderr, "tower %s: %s; see `tower %s --help`\n", command, reason, command);
        return error;
    }
    size_t length = strlen(url.path);
    const size_t more = strlen(path);
    bool is_there = length >= more && strcmp(url.path + length - more, path) == 0;
    while (!is_there && length > 0 && url.path[length - 1] == '/')
        length--;
    if (!is_there && length + more >= sizeof url.path) {
        (void)fprintf(stderr, "tower %s: the address is too long\n", command);
        return -EINVAL;
    }
    if (!is_there)
        memcpy(url.path + length, path, more + 1);
    *ret_url = url;
    return 0;
}

/* Read the whole body. Errors: as for reading, -EMSGSIZE, -ENOMEM. */
static int read_body(struct tower_http_client *client, char **ret_text, size_t *ret_bytes) {
    struct tower_clock *clock = tower_clock_real();
    int64_t deadline_ns = tower_clock_now_ns(clock) + TIMEOUT_NS;
    char *text = malloc(ANSWER_BYTES_MAX);
    if (!text)
        return -ENOMEM;
    size_t have_bytes = 0;
    int64_t n;
    do {
        if (have_bytes == ANSWER_BYTES_MAX) {
            n = -EMSGSIZE;
            break;
        }
        n = tower_http_client_read(client, text + have_bytes, ANSWER_BYTES_MAX - have_bytes,
                                   deadline_ns - tower_clock_now_ns(clock));
        if (n > 0)
            have_bytes += (size_t)n;
    } while (n > 0);
    if (n < 0) {
        free(text);
        return (int)n;
    }
    *ret_text = text;
    *ret_bytes = have_bytes;
    return 0;
}

/* A line for a person, unless nobody is to be told. */
__attribute__((format(printf, 2, 3))) static void complain(const char *command, const char *format,
                                                           ...) {
    if (!command)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "tower %s: ", command);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
}

/* The answer as JSON: an object; else NULL, and it is said. */
static json_t *read_json(const char *command, const char *text, struct tower_http_client *client) {
    char *body = NULL;
    size_t bytes = 0;
    int error = read_body(client, &body, &bytes);
    if (error < 0) {
        complain(command, "%s: reading the answer: %s", text, strerror(-error));
        return NULL;
    }
    json_error_t json_error;
    json_t *json = json_loadb(body, bytes, 0, &json_error);
    free(body);
    if (!json_is_object(json)) {
        complain(command, "%s: the answer is no %s: %s; is it a transmitter?", text, command,
                 json ? "it is JSON, but no object" : json_error.text);
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *tower_ask(const char *command, const char *text, const struct tower_http_url *url) {
    struct tower_http_client *client = NULL;
    char reason[512];
    json_t *json = NULL;
    if (tower_http_get(url, TIMEOUT_NS, NULL, &client, reason, sizeof reason) < 0) {
        complain(command, "%s", reason);
        return NULL;
    }
    if (tower_http_client_status(client) == 200)
        json = read_json(command, text, client);
    else
        complain(command, "%s: asked for %s, the server answered %u %s; is it a transmitter?", text,
                 url->path, tower_http_client_status(client),
                 tower_http_client_status_words(client));
    tower_http_client_free(client);
    return json;
}

/* The first line of what a server says, as far as nothing in it steers a terminal. */
static void read_line(struct tower_http_client *client, char *ret_line, size_t line_bytes) {
    char *body = NULL;
    size_t bytes = 0, n = 0;
    if (read_body(client, &body, &bytes) == 0) {
        while (n < bytes && n < line_bytes - 1 && body[n] != '\n') {
            ret_line[n] = body[n] >= ' ' && body[n] <= '~' ? body[n] : '?';
            n++;
        }
    }
    ret_line[n] = '\0';
    free(body);
}

json_t *tower_ask_post(const char *command, const char *text, const struct tower_http_url *url,
                       const char *password, const char *body) {
    struct tower_http_client *client = NULL;
    /* It may have a line with the names of all producers in it. */
    char reason[2048];
    json_t *json = NULL;
    if (tower_http_post(url, password, body, TIMEOUT_NS, NULL, &client, reason, sizeof reason) <
        0) {
        complain(command, "%s", reason);
        return NULL;
    }
    if (tower_http_client_status(client) == 200) {
        json = read_json(command, text, client);
    } else {
        read_line(client, reason, sizeof reason);
        complain(command, "%s: %s", text,
                 *reason ? reason : tower_http_client_status_words(client));
    }
    tower_http_client_free(client);
    return json;
}

void tower_print_text(const char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = tower_utf8_length(text, left);
        bool is_plain = length > 2 || (length == 2 && (unsigned char)*text > 0xc2) ||
                        (length == 2 && (unsigned char)text[1] >= 0xa0) ||
                        (length == 1 && *text >= ' ' && *text <= '~');
        if (is_plain)
            (void)fwrite(text, 1, length, stdout);
        else
            (void)putchar('?');
        length = length > 0 ? length : 1;
        text += length;
        left -= length;
    }
}
