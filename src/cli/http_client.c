/* http_client.c - GET and POST over HTTP/1.1: URL, connection, header, body. */
#include "http_client.h"

#include "fd.h"
#include "tower/clock.h"
#include "tower/format.h"
#include "tower/version.h"

#include <arpa/inet.h>
#include <errno.h>
#include <http_parser.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 16384
#define DEFAULT_PORT 80
#define WORDS_BYTES 64
#define CONTENT_TYPE_BYTES 128
#define NS_PER_MS INT64_C(1000000)
/* A signal may come just before the wait that it should have ended, so no wait is longer. */
#define SLICE_NS (100 * NS_PER_MS)

struct tower_http_client {
    int fd;
    http_parser parser;
    http_parser_settings settings;

    /* Of the header. */
    size_t header_bytes; /* so far */
    bool is_header_done;
    bool is_name_done; /* a value is being read: the next name begins anew */
    char name[32];
    char status_words[WORDS_BYTES];
    char content_type[CONTENT_TYPE_BYTES];

    /* Of the body: read and unpacked, not yet given out. Never more than was read at once. */
    uint8_t body[READ_BYTES];
    size_t body_from;
    size_t body_to;
    bool is_body_done;
    int failure; /* a negative errno, once the connection is no good any more */
};

static int refuse(int code, char *error, size_t error_bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(int code, char *error, size_t error_bytes, const char *format, ...) {
    if (error && error_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(error, error_bytes, format, arguments);
        va_end(arguments);
    }
    return code;
}

/* ---- URL ---- */

static bool is_host_char(char c, bool is_ipv6) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.')
        return true;
    return is_ipv6 ? c == ':' : c == '-' || c == '_';
}

/* Reads the port between `text` and `end`; 0 where that is none. */
static uint16_t read_port(const char *text, const char *end) {
    uint32_t port = 0;
    if (text == end || end - text > 5)
        return 0;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        port = port * 10 + (uint32_t)(*text - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

int tower_http_url_parse(const char *text, struct tower_http_url *ret_url, char *error,
                         size_t error_bytes) {
    static const char scheme[] = "http://";
    struct tower_http_url url = {.port = DEFAULT_PORT, .path = "/"};
    if (strncasecmp(text, "https://", strlen("https://")) == 0)
        return refuse(-EPROTONOSUPPORT, error, error_bytes,
                      "https is not spoken here; give the http:// address");
    if (strncasecmp(text, scheme, strlen(scheme)) != 0)
        return refuse(strstr(text, "://") ? -EPROTONOSUPPORT : -EINVAL, error, error_bytes,
                      "%.200s: expected an address that begins with http://", text);
    for (const char *c = text; *c; c++)
        if (*c <= ' ' || *c > '~')
            return refuse(-EINVAL, error, error_bytes,
                          "the address has a space or an odd character in it at place %td; write "
                          "it as %%XX",
                          c - text + 1);

    const char *host = text + strlen(scheme);
    const char *authority_end = host + strcspn(host, "/?#");
    if (memchr(host, '@', (size_t)(authority_end - host)))
        return refuse(-EINVAL, error, error_bytes,
                      "the address has an @ in its host part; names and passwords are not sent");
    bool is_ipv6 = *host == '[';
    const char *host_end;
    const char *rest;
    if (is_ipv6) {
        host++;
        host_end = host + strcspn(host, "]/?#");
        if (*host_end != ']')
            return refuse(-EINVAL, error, error_bytes, "%s: the ] after the host is missing", text);
        rest = host_end + 1;
    } else {
        host_end = host + strcspn(host, ":/?#");
        rest = host_end;
    }
    size_t host_bytes = (size_t)(host_end - host);
    if (host_bytes == 0)
        return refuse(-EINVAL, error, error_bytes, "%s: there is no host in it", text);
    if (host_bytes >= sizeof url.host)
        return refuse(-ENAMETOOLONG, error, error_bytes, "the host is longer than %zu characters",
                      sizeof url.host - 1);
    for (const char *c = host; c < host_end; c++)
        if (!is_host_char(*c, is_ipv6))
            return refuse(-EINVAL, error, error_bytes,
                          "%s: the host has the character %c in it, which no host has", text, *c);
    memcpy(url.host, host, host_bytes);

    if (rest != authority_end) {
        url.port = *rest == ':' ? read_port(rest + 1, authority_end) : 0;
        if (url.port == 0)
            return refuse(-EINVAL, error, error_bytes,
                          "%s: after the host expected a port, :1 to :65535", text);
    }
    if (strchr(authority_end, '#'))
        return refuse(-EINVAL, error, error_bytes, "%s: leave out the # and what follows it", text);
    if (*authority_end) {
        int n = snprintf(url.path, sizeof url.path, "%s%s", *authority_end == '/' ? "" : "/",
                         authority_end);
        if (n < 0 || (size_t)n >= sizeof url.path)
            return refuse(-ENAMETOOLONG, error, error_bytes,
                          "the path is longer than %zu characters", sizeof url.path - 1);
    }
    *ret_url = url;
    return 0;
}

/* ---- Connection ---- */

static int64_t now_ns(void) {
    return tower_clock_now_ns(tower_clock_real());
}

/* When to give up: at a time, or when somebody says so. */
struct limit {
    int64_t deadline_ns;
    const volatile sig_atomic_t *is_interrupted; /* NULL: nobody does */
};

/* Wait until `fd` is ready. Errors: -ETIMEDOUT, -EINTR. */
static int wait_for(int fd, short events, const struct limit *limit) {
    for (;;) {
        if (limit->is_interrupted && *limit->is_interrupted)
            return -EINTR;
        int64_t left_ns = limit->deadline_ns - now_ns();
        int64_t wait_ns = left_ns < SLICE_NS ? left_ns : SLICE_NS;
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int n = poll(&poll_fd, 1, wait_ns <= 0 ? 0 : (int)((wait_ns - 1) / NS_PER_MS + 1));
        if (n < 0)
            return -errno;
        if (n > 0)
            return 0;
        if (left_ns <= SLICE_NS)
            return -ETIMEDOUT;
    }
}

static int connect_to(const struct addrinfo *address, const struct limit *limit, int *ret_fd) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? -errno : 0;
    if (error == -EINPROGRESS) {
        int so_error = 0;
        socklen_t length = sizeof so_error;
        error = wait_for(fd, POLLOUT, limit);
        if (error == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &so_error, &length) < 0)
            error = -errno;
        if (error == 0)
            error = -so_error;
    }
    if (error < 0) {
        tower_fd_close(&fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int open_connection(const struct tower_http_url *url, const struct limit *limit, int *ret_fd,
                           char *error, size_t error_bytes) {
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)url->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct in6_addr numeric;
    /* AI_ADDRCONFIG would hide ::1 on a machine whose only IPv6 address that is. */
    if (inet_pton(AF_INET6, url->host, &numeric) == 1)
        hints.ai_flags = 0;
    struct addrinfo *addresses = NULL;
    int lookup = getaddrinfo(url->host, port, &hints, &addresses);
    if (lookup != 0)
        return refuse(lookup == EAI_MEMORY ? -ENOMEM : -ENOENT, error, error_bytes,
                      "cannot find the host %s: %s", url->host, gai_strerror(lookup));
    int result = -ENOENT;
    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        result = connect_to(a, limit, ret_fd);
        if (result == 0 || result == -EINTR || result == -ETIMEDOUT)
            break;
    }
    freeaddrinfo(addresses);
    if (result < 0)
        return refuse(result, error, error_bytes, "cannot connect to %s port %u: %s%s", url->host,
                      (unsigned)url->port, strerror(-result),
                      result == -ECONNREFUSED ? "; is the transmitter running there?" : "");
    return 0;
}

/* Four characters of base64 for every three bytes (RFC 4648), and a NUL. */
#define BASE64_BYTES(bytes) (((bytes) + 2) / 3 * 4 + 1)
#define USER "tower:"
#define CREDENTIALS_BYTES (sizeof USER + TOWER_HTTP_PASSWORD_BYTES_MAX)
#define AUTHORIZATION "Authorization: Basic "

static void write_base64(const uint8_t *data, size_t bytes, char *ret_text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16;
        three |= i + 1 < bytes ? (uint32_t)data[i + 1] << 8 : 0;
        three |= i + 2 < bytes ? (uint32_t)data[i + 2] : 0;
        *ret_text++ = digits[three >> 18];
        *ret_text++ = digits[three >> 12 & 63];
        *ret_text++ = digits[three >> 6 & 63];
        *ret_text++ = digits[three & 63];
        if (i + 1 >= bytes)
            ret_text[-2] = '=';
        if (i + 2 >= bytes)
            ret_text[-1] = '=';
    }
    *ret_text = '\0';
}

/* What is asked for: a GET where `body` is NULL. */
struct wanted {
    const struct tower_http_url *url;
    const char *password;
    const char *body;
};

/* The lines that a POST has more, and its body. Errors: -EMSGSIZE. */
static int write_post(const struct wanted *wanted, char *ret_text, size_t text_bytes) {
    char credentials[CREDENTIALS_BYTES], base64[BASE64_BYTES(CREDENTIALS_BYTES)];
    if (strlen(wanted->password) > TOWER_HTTP_PASSWORD_BYTES_MAX ||
        strlen(wanted->body) > TOWER_HTTP_POST_BYTES_MAX)
        return -EMSGSIZE;
    (void)snprintf(credentials, sizeof credentials, USER "%s", wanted->password);
    write_base64((const uint8_t *)credentials, strlen(credentials), base64);
    int n = snprintf(ret_text, text_bytes,
                     AUTHORIZATION "%s\r\nContent-Type: application/json\r\n"
                                   "Content-Length: %zu\r\n\r\n%s",
                     base64, strlen(wanted->body), wanted->body);
    explicit_bzero(credentials, sizeof credentials);
    explicit_bzero(base64, sizeof base64);
    return n < 0 || (size_t)n >= text_bytes ? -EMSGSIZE : 0;
}

static int send_all(int fd, const char *data, size_t bytes, const struct limit *limit) {
    while (bytes > 0) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            bytes -= (size_t)sent;
            continue;
        }
        if (errno != EAGAIN)
            return -errno;
        int error = wait_for(fd, POLLOUT, limit);
        if (error < 0)
            return error;
    }
    return 0;
}

static int send_request(int fd, const struct wanted *wanted, const struct limit *limit) {
    const struct tower_http_url *url = wanted->url;
    char more[BASE64_BYTES(CREDENTIALS_BYTES) + TOWER_HTTP_POST_BYTES_MAX + 128] = "\r\n";
    char request[TOWER_HTTP_PATH_BYTES + TOWER_HTTP_HOST_BYTES + sizeof more + 256];
    bool is_ipv6 = strchr(url->host, ':') != NULL;
    int error = wanted->body ? write_post(wanted, more, sizeof more) : 0;
    if (error < 0)
        return error;
    int n = snprintf(request, sizeof request,
                     "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: tower/%s\r\n"
                     "Accept: */*\r\nConnection: close\r\n%s",
                     wanted->body ? "POST" : "GET", url->path, is_ipv6 ? "[" : "", url->host,
                     is_ipv6 ? "]" : "", (unsigned)url->port, tower_version(), more);
    error =
        n < 0 || (size_t)n >= sizeof request ? -EMSGSIZE : send_all(fd, request, (size_t)n, limit);
    explicit_bzero(more, sizeof more);
    explicit_bzero(request, sizeof request);
    return error;
}

/* ---- Response ---- */

static void append(char *text, size_t text_bytes, const char *more, size_t more_bytes) {
    size_t have_bytes = strlen(text);
    size_t room_bytes = text_bytes - 1 - have_bytes;
    size_t n = more_bytes < room_bytes ? more_bytes : room_bytes;
    for (size_t i = 0; i < n; i++) {
        /* It is shown on a terminal, so nothing in it may steer one. */
        bool is_plain = more[i] >= ' ' && more[i] <= '~';
        text[have_bytes + i] = more[i];
        if (!is_plain)
            text[have_bytes + i] = '?';
    }
    text[have_bytes + n] = '\0';
}

static int on_message_begin(http_parser *parser) {
    struct tower_http_client *client = parser->data;
    client->status_words[0] = '\0';
    client->content_type[0] = '\0';
    client->name[0] = '\0';
    return 0;
}

static int on_status(http_parser *parser, const char *at, size_t length) {
    struct tower_http_client *client = parser->data;
    append(client->status_words, sizeof client->status_words, at, length);
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t length) {
    struct tower_http_client *client = parser->data;
    if (client->is_name_done)
        client->name[0] = '\0';
    client->is_name_done = false;
    append(client->name, sizeof client->name, at, length);
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length) {
    struct tower_http_client *client = parser->data;
    /* Not in the trailer that may stand behind a chunked body. */
    bool is_content_type = !client->is_header_done && strcasecmp(client->name, "content-type") == 0;
    /* The last one counts, should there be several; one may come in pieces. */
    if (is_content_type && !client->is_name_done)
        client->content_type[0] = '\0';
    client->is_name_done = true;
    if (is_content_type)
        append(client->content_type, sizeof client->content_type, at, length);
    return 0;
}

static bool is_interim(const http_parser *parser) {
    return parser->status_code / 100 == 1;
}

static int on_headers_complete(http_parser *parser) {
    struct tower_http_client *client = parser->data;
    client->is_header_done = !is_interim(parser);
    /* The parser takes the spaces off before a value, and leaves those behind it. */
    size_t length = strlen(client->content_type);
    while (length > 0 && client->content_type[length - 1] == ' ')
        client->content_type[--length] = '\0';
    /* 1 is for the parser: no body, whatever the header says (RFC 9110 15.2). */
    return is_interim(parser) ? 1 : 0;
}

static int on_body(http_parser *parser, const char *at, size_t length) {
    struct tower_http_client *client = parser->data;
    if (length > sizeof client->body - client->body_to)
        return 1;
    memcpy(client->body + client->body_to, at, length);
    client->body_to += length;
    return 0;
}

static int on_message_complete(http_parser *parser) {
    struct tower_http_client *client = parser->data;
    client->is_body_done = !is_interim(parser);
    /* What may follow is not parsed as another response. */
    if (client->is_body_done)
        http_parser_pause(parser, 1);
    return 0;
}

/* Take what recv() gave, at most READ_BYTES, into the parser. Only with the body all given out. */
static int parse(struct tower_http_client *client, const char *data, size_t bytes) {
    client->body_from = 0;
    client->body_to = 0;
    size_t done_bytes = 0;
    /* Byte by byte up to the end of the header, so that exactly the header is counted. */
    while (!client->is_header_done && done_bytes < bytes) {
        if (++client->header_bytes > TOWER_HTTP_HEADER_BYTES_MAX)
            return -EMSGSIZE;
        size_t n = http_parser_execute(&client->parser, &client->settings, data + done_bytes, 1);
        if (client->parser.upgrade || (n != 1 && !client->is_body_done))
            return -EPROTO;
        done_bytes++;
    }
    if (done_bytes < bytes && !client->is_body_done) {
        size_t n = http_parser_execute(&client->parser, &client->settings, data + done_bytes,
                                       bytes - done_bytes);
        if (n != bytes - done_bytes && !client->is_body_done)
            return -EPROTO;
    }
    return 0;
}

/* The server has closed: is that the end, or too early? */
static int parse_end(struct tower_http_client *client) {
    if (!client->is_header_done)
        return client->header_bytes > 0 ? -EPROTO : -ECONNRESET;
    client->body_from = 0;
    client->body_to = 0;
    (void)http_parser_execute(&client->parser, &client->settings, NULL, 0);
    return client->is_body_done ? 0 : -ECONNRESET;
}

/* Receive once and parse it. Errors as for reading; -ETIMEDOUT and -EINTR may be tried again. */
static int receive(struct tower_http_client *client, const struct limit *limit) {
    char data[READ_BYTES];
    ssize_t n = recv(client->fd, data, sizeof data, 0);
    if (n < 0 && errno == EAGAIN) {
        int error = wait_for(client->fd, POLLIN, limit);
        if (error < 0)
            return error;
        n = recv(client->fd, data, sizeof data, 0);
    }
    if (n < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    return n == 0 ? parse_end(client) : parse(client, data, (size_t)n);
}

static const char *header_failure(int error) {
    switch (error) {
    case -EPROTO:
        return "what came back is not a whole HTTP response";
    case -EMSGSIZE:
        return "the header of the response is too long";
    case -ECONNRESET:
        return "it closed the connection without an answer";
    case -ETIMEDOUT:
        return "it did not answer in time";
    default:
        return strerror(-error);
    }
}

static void start_parser(struct tower_http_client *client) {
    http_parser_init(&client->parser, HTTP_RESPONSE);
    client->parser.data = client;
    http_parser_settings_init(&client->settings);
    client->settings.on_message_begin = on_message_begin;
    client->settings.on_status = on_status;
    client->settings.on_header_field = on_header_field;
    client->settings.on_header_value = on_header_value;
    client->settings.on_headers_complete = on_headers_complete;
    client->settings.on_body = on_body;
    client->settings.on_message_complete = on_message_complete;
}

static int ask(const struct wanted *wanted, const struct limit *limit,
               struct tower_http_client **ret_client, char *error, size_t error_bytes) {
    const struct tower_http_url *url = wanted->url;
    struct tower_http_client *client = calloc(1, sizeof *client);
    if (!client)
        return refuse(-ENOMEM, error, error_bytes, "out of memory");
    client->fd = -1;
    start_parser(client);

    int result = open_connection(url, limit, &client->fd, error, error_bytes);
    if (result < 0)
        goto fail;
    result = send_request(client->fd, wanted, limit);
    while (result == 0 && !client->is_header_done)
        result = receive(client, limit);
    if (client->is_header_done) {
        /* The body may be wrong already, in the same piece: what reads it will be told. */
        client->failure = result;
    } else if (result < 0) {
        (void)refuse(result, error, error_bytes, "no answer from %s port %u: %s", url->host,
                     (unsigned)url->port, header_failure(result));
        goto fail;
    }
    *ret_client = client;
    return 0;

fail:
    tower_http_client_free(client);
    return result;
}

int tower_http_get(const struct tower_http_url *url, int64_t timeout_ns,
                   const volatile sig_atomic_t *is_interrupted,
                   struct tower_http_client **ret_client, char *error, size_t error_bytes) {
    const struct limit limit = {now_ns() + timeout_ns, is_interrupted};
    const struct wanted wanted = {.url = url};
    return ask(&wanted, &limit, ret_client, error, error_bytes);
}

int tower_http_post(const struct tower_http_url *url, const char *password, const char *body,
                    int64_t timeout_ns, const volatile sig_atomic_t *is_interrupted,
                    struct tower_http_client **ret_client, char *error, size_t error_bytes) {
    const struct limit limit = {now_ns() + timeout_ns, is_interrupted};
    const struct wanted wanted = {url, password, body};
    return ask(&wanted, &limit, ret_client, error, error_bytes);
}

void tower_http_client_free(struct tower_http_client *client) {
    if (!client)
        return;
    tower_fd_close(&client->fd);
    free(client);
}

unsigned tower_http_client_status(const struct tower_http_client *client) {
    return client->parser.status_code;
}

const char *tower_http_client_status_words(const struct tower_http_client *client) {
    return client->status_words;
}

const char *tower_http_client_content_type(const struct tower_http_client *client) {
    return client->content_type;
}

int64_t tower_http_client_read(struct tower_http_client *client, void *ret_data, size_t bytes,
                               int64_t timeout_ns) {
    struct limit limit = {.deadline_ns = now_ns() + timeout_ns};
    while (client->body_from == client->body_to) {
        if (client->failure < 0)
            return client->failure;
        if (client->is_body_done)
            return 0;
        int result = receive(client, &limit);
        if (result == -ETIMEDOUT || result == -EINTR)
            return result;
        client->failure = result;
    }
    size_t have_bytes = client->body_to - client->body_from;
    size_t n = bytes < have_bytes ? bytes : have_bytes;
    memcpy(ret_data, client->body + client->body_from, n);
    client->body_from += n;
    return (int64_t)n;
}
