/* connection.c - one client's connection. */
#include "connection.h"

#include "fd.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Say why the request is refused, and stop the parser. */
static int refuse(struct tower_connection *connection, int status, const char *reason) {
    connection->request.refusal = status;
    connection->request.reason = reason;
    connection->request.keeps_alive = false;
    connection->is_complete = true;
    return -1;
}

static int on_url(http_parser *parser, const char *at, size_t bytes) {
    struct tower_connection *connection = parser->data;
    struct tower_request *request = &connection->request;
    if (bytes > TOWER_HTTP_TARGET_BYTES_MAX - request->target_bytes)
        return refuse(connection, 414, "the address is longer than 2048 bytes");
    memcpy(request->target + request->target_bytes, at, bytes);
    request->target_bytes += bytes;
    request->target[request->target_bytes] = '\0';
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t bytes) {
    struct tower_connection *connection = parser->data;
    if (connection->is_in_value)
        connection->field_name[0] = '\0';
    connection->is_in_value = false;
    size_t have = strlen(connection->field_name);
    size_t room = sizeof connection->field_name - 1 - have;
    size_t n = bytes < room ? bytes : room;
    memcpy(connection->field_name + have, at, n);
    connection->field_name[have + n] = '\0';
    return 0;
}

/* A field that comes twice counts as it came first; one that is too long, not at all; nor does one
 * in the trailer behind a body, when all decisions have been made (RFC 9110 6.5.1). */
static int on_header_value(http_parser *parser, const char *at, size_t bytes) {
    struct tower_connection *connection = parser->data;
    struct tower_request *request = &connection->request;
    /* The parser looks at every character of a value but the first. */
    if (bytes > 0 && (((unsigned char)*at < ' ' && *at != '\t') || *at == 0x7f))
        return refuse(connection, 400, "a field of the header begins with a control character");
    if (connection->has_headers)
        return 0;
    if (!connection->is_in_value) {
        connection->is_in_value = true;
        connection->is_field_cut = false;
        connection->field = tower_request_find_field(connection->field_name);
        if (connection->field < TOWER_REQUEST_FIELD_COUNT &&
            request->fields[connection->field][0] != '\0')
            connection->field = TOWER_REQUEST_FIELD_COUNT;
    }
    if (connection->field == TOWER_REQUEST_FIELD_COUNT || connection->is_field_cut)
        return 0;
    char *value = request->fields[connection->field];
    size_t have = strlen(value);
    connection->is_field_cut = bytes >= TOWER_HTTP_FIELD_BYTES_MAX - have;
    if (connection->is_field_cut) {
        value[0] = '\0';
        return 0;
    }
    memcpy(value + have, at, bytes);
    value[have + bytes] = '\0';
    return 0;
}

/* The parser takes the blanks off before a value, and leaves those behind it (RFC 9110 5.5). */
static void trim_fields(struct tower_request *request) {
    for (unsigned i = 0; i < TOWER_REQUEST_FIELD_COUNT; i++) {
        char *value = request->fields[i];
        size_t length = strlen(value);
        while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
            value[--length] = '\0';
    }
}

static int on_headers_complete(http_parser *parser) {
    struct tower_connection *connection = parser->data;
    struct tower_request *request = &connection->request;
    trim_fields(request);
    connection->has_headers = true;
    request->method = parser->method;
    if (parser->http_major != 1)
        return refuse(connection, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    request->minor_version = parser->http_minor;
    request->keeps_alive = http_should_keep_alive(parser);
    request->is_chunked = parser->flags & F_CHUNKED;
    request->length = parser->content_length == UINT64_MAX ? 0 : parser->content_length;
    if (request->method == HTTP_PUT || request->method == HTTP_SOURCE) {
        /* What follows may be audio without end: it is for another to read. */
        request->keeps_alive = false;
        return 1;
    }
    if (request->method != HTTP_GET && request->method != HTTP_HEAD &&
        request->method != HTTP_POST && request->method != HTTP_OPTIONS) {
        /* Nothing but these is answered with what was asked for, so what else such a request
         * carries is not waited for. */
        request->keeps_alive = false;
        connection->is_complete = true;
        return -1;
    }
    if (parser->content_length != UINT64_MAX && parser->content_length > TOWER_HTTP_BODY_BYTES_MAX)
        return refuse(connection, 413, "the body is longer than 8192 bytes");
    connection->awaits_continue =
        request->method == HTTP_POST && request->minor_version > 0 &&
        strcasecmp(request->fields[TOWER_REQUEST_EXPECT], "100-continue") == 0;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t bytes) {
    struct tower_connection *connection = parser->data;
    struct tower_request *request = &connection->request;
    if (bytes > sizeof request->body - request->body_bytes)
        return refuse(connection, 413, "the body is longer than 8192 bytes");
    memcpy(request->body + request->body_bytes, at, bytes);
    request->body_bytes += bytes;
    return 0;
}

static int on_message_complete(http_parser *parser) {
    struct tower_connection *connection = parser->data;
    connection->is_complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void tower_connection_reset_request(struct tower_connection *connection) {
    http_parser_init(&connection->parser, HTTP_REQUEST);
    connection->parser.data = connection;
    connection->request.refusal = 0;
    connection->request.reason = "";
    connection->request.method = HTTP_GET;
    connection->request.minor_version = 1;
    connection->request.keeps_alive = false;
    connection->request.is_chunked = false;
    connection->request.length = 0;
    connection->request.target_bytes = 0;
    connection->request.target[0] = '\0';
    connection->request.body_bytes = 0;
    for (unsigned i = 0; i < TOWER_REQUEST_FIELD_COUNT; i++)
        connection->request.fields[i][0] = '\0';
    connection->field_name[0] = '\0';
    connection->is_in_value = false;
    connection->awaits_continue = false;
    connection->has_headers = false;
    connection->is_complete = false;
    connection->header_bytes = 0;
}

void tower_connection_open(struct tower_connection *connection, int fd) {
    connection->fd = fd;
    socklen_t peer_bytes = sizeof connection->peer;
    socklen_t local_bytes = sizeof connection->local;
    connection->peer.ss_family = AF_UNSPEC;
    connection->local.ss_family = AF_UNSPEC;
    (void)getpeername(fd, (struct sockaddr *)&connection->peer, &peer_bytes);
    (void)getsockname(fd, (struct sockaddr *)&connection->local, &local_bytes);
    connection->request.peer = (const struct sockaddr *)&connection->peer;
    connection->request.local = (const struct sockaddr *)&connection->local;
    connection->generation++;
    connection->state = TOWER_CONNECTION_READING;
    connection->n_requests = 0;
    connection->discarded_bytes = 0;
    connection->input_start = 0;
    connection->input_end = 0;
    tower_connection_reset_request(connection);
}

int tower_connection_release(struct tower_connection *connection) {
    int fd = connection->fd;
    connection->fd = -1;
    tower_connection_close(connection);
    return fd;
}

void tower_connection_close(struct tower_connection *connection) {
    tower_fd_close(&connection->fd);
    tower_response_done(&connection->response);
}

bool tower_connection_is_mid_request(const struct tower_connection *connection) {
    return connection->header_bytes > 0 || connection->input_end > connection->input_start;
}

/* What is wrong with a request that the parser gave up on at the byte `at`. */
static void refuse_malformed(struct tower_connection *connection, enum http_errno error, char at) {
    if (error == HPE_HEADER_OVERFLOW)
        (void)refuse(connection, 431, "the header is longer than 8192 bytes");
    else if (error == HPE_INVALID_METHOD && ((at >= 'A' && at <= 'Z') || at == '-'))
        (void)refuse(connection, 501, "the method is not known here");
    else
        (void)refuse(connection, 400, http_errno_description(error));
}

int tower_connection_next_request(struct tower_connection *connection) {
    while (!connection->is_complete && connection->input_start < connection->input_end) {
        const char *input = connection->input + connection->input_start;
        size_t bytes = connection->input_end - connection->input_start;
        bool is_header = !connection->has_headers;
        if (is_header && bytes > TOWER_HTTP_HEADER_BYTES_MAX - connection->header_bytes)
            bytes = TOWER_HTTP_HEADER_BYTES_MAX - connection->header_bytes;
        size_t parsed = http_parser_execute(&connection->parser, &settings, input, bytes);
        connection->input_start += parsed;
        if (is_header)
            connection->header_bytes += parsed;
        enum http_errno error = HTTP_PARSER_ERRNO(&connection->parser);
        if (connection->is_complete)
            break;
        if (error != HPE_OK)
            refuse_malformed(connection, error, parsed < bytes ? input[parsed] : '\0');
        else if (!connection->has_headers &&
                 connection->header_bytes == TOWER_HTTP_HEADER_BYTES_MAX)
            (void)refuse(connection, 431, "the header is longer than 8192 bytes");
    }
    if (connection->awaits_continue && !connection->is_complete) {
        /* Where the socket is full the client goes on by itself after a while. */
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        (void)send(connection->fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        connection->awaits_continue = false;
    }
    return connection->is_complete;
}

ssize_t tower_connection_read(struct tower_connection *connection) {
    if (connection->input_start > 0) {
        connection->input_end -= connection->input_start;
        memmove(connection->input, connection->input + connection->input_start,
                connection->input_end);
        connection->input_start = 0;
    }
    ssize_t n;
    do
        n = recv(connection->fd, connection->input + connection->input_end,
                 sizeof connection->input - connection->input_end, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    connection->input_end += (size_t)n;
    return n;
}

ssize_t tower_connection_discard(struct tower_connection *connection) {
    ssize_t n;
    do
        n = recv(connection->fd, connection->input, sizeof connection->input, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    connection->discarded_bytes += (size_t)n;
    return n;
}

int tower_connection_write(struct tower_connection *connection) {
    struct tower_response *response = &connection->response;
    while (response->sent_bytes < response->head_bytes + response->body_bytes) {
        struct iovec pieces[2];
        size_t n = 0;
        size_t body_sent = 0;
        if (response->sent_bytes < response->head_bytes)
            pieces[n++] = (struct iovec){.iov_base = response->head + response->sent_bytes,
                                         .iov_len = response->head_bytes - response->sent_bytes};
        else
            body_sent = response->sent_bytes - response->head_bytes;
        if (body_sent < response->body_bytes)
            pieces[n++] = (struct iovec){.iov_base = response->body + body_sent,
                                         .iov_len = response->body_bytes - body_sent};
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = n};
        ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        response->sent_bytes += (size_t)sent;
    }
    return 1;
}
