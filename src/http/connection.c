/* connection.c - one client's connection. */
#include "connection.h"

#include "fd.h"

#include <errno.h>
#include <string.h>
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

static int on_headers_complete(http_parser *parser) {
    struct tower_connection *connection = parser->data;
    struct tower_request *request = &connection->request;
    connection->has_headers = true;
    request->method = parser->method;
    if (parser->http_major != 1)
        return refuse(connection, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    request->minor_version = parser->http_minor;
    request->keeps_alive = http_should_keep_alive(parser);
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        /* Nothing but these is answered with what was asked for, so what else such a request
         * carries (a SOURCE client sends audio without end) is not waited for. */
        request->keeps_alive = false;
        connection->is_complete = true;
        return -1;
    }
    if (parser->content_length != UINT64_MAX && parser->content_length > TOWER_HTTP_BODY_BYTES_MAX)
        return refuse(connection, 413, "a request here needs no body");
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t bytes) {
    struct tower_connection *connection = parser->data;
    (void)at;
    connection->body_bytes += bytes;
    if (connection->body_bytes > TOWER_HTTP_BODY_BYTES_MAX)
        return refuse(connection, 413, "a request here needs no body");
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
    connection->request.target_bytes = 0;
    connection->request.target[0] = '\0';
    connection->has_headers = false;
    connection->is_complete = false;
    connection->header_bytes = 0;
    connection->body_bytes = 0;
}

void tower_connection_open(struct tower_connection *connection, int fd) {
    connection->fd = fd;
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
