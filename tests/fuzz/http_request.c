/* http_request.c - requests off a socket: the same ones whatever pieces they come in. */
#include "fuzz.h"

#include "connection.h"

#include <errno.h>
#include <sys/socket.h>

#define REQUESTS_MAX 12

static struct tower_connection connection;
static int ends[2]; /* the server's, and the client's */
static struct requests {
    struct tower_request all[REQUESTS_MAX];
    size_t n;
    size_t body_at; /* where the body of PUT or SOURCE begins, which is another's to read; or 0 */
} whole, pieced;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    FUZZ_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    return 0;
}

static void check_fields(const struct tower_request *request) {
    for (unsigned i = 0; i < TOWER_REQUEST_FIELD_COUNT; i++) {
        const char *value = request->fields[i];
        size_t length = strnlen(value, TOWER_HTTP_FIELD_BYTES_MAX);
        FUZZ_REQUIRE(length < TOWER_HTTP_FIELD_BYTES_MAX);
        FUZZ_REQUIRE(length == strcspn(value, "\r\n"));
        if (request->refusal != 0)
            continue;
        FUZZ_REQUIRE(length == 0 || (*value != ' ' && *value != '\t'));
        FUZZ_REQUIRE(length == 0 || (value[length - 1] != ' ' && value[length - 1] != '\t'));
    }
}

static void check_target(const struct tower_request *request) {
    char url[TOWER_HTTP_FIELD_BYTES_MAX + 16];
    char value[64];
    const char *path;
    size_t path_bytes;
    FUZZ_REQUIRE(request->target_bytes <= TOWER_HTTP_TARGET_BYTES_MAX);
    FUZZ_REQUIRE(strlen(request->target) == request->target_bytes);
    tower_request_path(request, &path, &path_bytes);
    if (path_bytes > 0) {
        FUZZ_REQUIRE(path >= request->target);
        FUZZ_REQUIRE(path + path_bytes <= request->target + request->target_bytes);
        FUZZ_REQUIRE(*path == '/' || *path == '*');
        FUZZ_REQUIRE(!memchr(path, '?', path_bytes));
    }
    int n = tower_request_query(request, "song", value, sizeof value);
    FUZZ_REQUIRE(n == -ENOENT || n == -EINVAL || n == -ENOSPC || (size_t)n == strlen(value));
    tower_request_base_url(request, "", url, sizeof url);
    FUZZ_REQUIRE(strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0);
    FUZZ_REQUIRE(strpbrk(url, " \t\r\n\"'<>&?#%\\") == NULL);
    FUZZ_REQUIRE(url[strlen(url) - 1] != '/');
}

static bool is_for_another(const struct tower_request *request) {
    return request->refusal == 0 && (request->method == HTTP_PUT || request->method == HTTP_SOURCE);
}

static void check_request(const struct tower_request *request) {
    check_fields(request);
    if (request->refusal != 0) {
        FUZZ_REQUIRE(strcmp(tower_response_phrase(request->refusal), "Unknown") != 0);
        FUZZ_REQUIRE(*request->reason != '\0' && !request->keeps_alive);
        return;
    }
    FUZZ_REQUIRE(request->minor_version < 10);
    FUZZ_REQUIRE(request->target_bytes > 0);
    FUZZ_REQUIRE(request->body_bytes <= TOWER_HTTP_BODY_BYTES_MAX);
    FUZZ_REQUIRE(!is_for_another(request) || (!request->keeps_alive && request->body_bytes == 0));
    FUZZ_REQUIRE(strcmp(http_method_str(request->method), "<unknown>") != 0);
    check_target(request);
}

/* Nothing in a body, nor behind it, is a header line. */
static void check_header_is_final(bool *had_headers, struct tower_request *at_headers) {
    if (connection.has_headers && !*had_headers)
        *at_headers = connection.request;
    if (connection.has_headers && *had_headers)
        FUZZ_REQUIRE(
            memcmp(at_headers->fields, connection.request.fields, sizeof at_headers->fields) == 0);
    *had_headers = connection.has_headers;
}

/* A client is told to go on at most once for a request. */
static void check_go_on(size_t n_requests_begun) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char said[(REQUESTS_MAX + 2) * sizeof go_on];
    ssize_t n = recv(ends[1], said, sizeof said, 0);
    for (ssize_t at = 0; at < n; at += (ssize_t)sizeof go_on - 1)
        FUZZ_REQUIRE(n - at >= (ssize_t)sizeof go_on - 1 &&
                     memcmp(said + at, go_on, sizeof go_on - 1) == 0);
    FUZZ_REQUIRE(n <= (ssize_t)(n_requests_begun * (sizeof go_on - 1)));
}

/* Through the socket, or as if: that is much quicker. */
static void receive(const uint8_t *data, size_t bytes, bool is_by_socket) {
    if (is_by_socket) {
        FUZZ_REQUIRE(send(ends[1], data, bytes, 0) == (ssize_t)bytes);
        FUZZ_REQUIRE(tower_connection_read(&connection) == (ssize_t)bytes);
    } else {
        memcpy(connection.input, data, bytes);
        connection.input_start = 0;
        connection.input_end = bytes;
    }
}

static void run(const uint8_t *data, size_t bytes, struct fuzz_pieces pieces, bool is_by_socket,
                struct requests *ret_requests) {
    static struct tower_request at_headers;
    bool had_headers = false;
    bool is_over = false;
    const uint8_t *begin = data;
    ret_requests->n = 0;
    ret_requests->body_at = 0;
    tower_connection_open(&connection, ends[0]);
    while (bytes > 0 && !is_over) {
        size_t n = fuzz_next_piece(&pieces, bytes);
        receive(data, n, is_by_socket);
        data += n;
        bytes -= n;
        while (!is_over && tower_connection_next_request(&connection) == 1) {
            struct tower_request *request = &ret_requests->all[ret_requests->n++];
            check_header_is_final(&had_headers, &at_headers);
            *request = connection.request;
            check_request(request);
            is_over =
                request->refusal != 0 || !request->keeps_alive || ret_requests->n == REQUESTS_MAX;
            had_headers = false;
            if (is_for_another(request)) {
                size_t left = connection.input_end - connection.input_start;
                ret_requests->body_at = (size_t)(data - begin) - left;
                FUZZ_REQUIRE(memcmp(data - left, connection.input + connection.input_start, left) ==
                             0);
            }
            if (!is_over)
                tower_connection_reset_request(&connection);
        }
        check_header_is_final(&had_headers, &at_headers);
        /* What is left over would take up the room that is needed for the rest. */
        FUZZ_REQUIRE(is_over || connection.input_start == connection.input_end);
    }
    FUZZ_REQUIRE(tower_connection_discard(&connection) == -EAGAIN);
    check_go_on(ret_requests->n + 1);
    FUZZ_REQUIRE(tower_connection_release(&connection) == ends[0]);
}

static void check_equal(const struct tower_request *a, const struct tower_request *b) {
    /* Which of several things that are wrong is found first may depend on the pieces. */
    FUZZ_REQUIRE((a->refusal != 0) == (b->refusal != 0));
    if (a->refusal != 0)
        return;
    FUZZ_REQUIRE(a->method == b->method && a->minor_version == b->minor_version);
    FUZZ_REQUIRE(a->keeps_alive == b->keeps_alive && a->is_chunked == b->is_chunked);
    FUZZ_REQUIRE(a->length == b->length);
    FUZZ_REQUIRE(strcmp(a->target, b->target) == 0);
    for (unsigned i = 0; i < TOWER_REQUEST_FIELD_COUNT; i++)
        FUZZ_REQUIRE(strcmp(a->fields[i], b->fields[i]) == 0);
    FUZZ_REQUIRE(a->body_bytes == b->body_bytes && memcmp(a->body, b->body, a->body_bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    const size_t largest = sizeof connection.input;
    run(data, bytes, (struct fuzz_pieces){.state = 1, .largest = largest}, true, &whole);
    run(data, bytes, fuzz_pieces_of(data, bytes, largest), false, &pieced);
    FUZZ_REQUIRE(whole.n == pieced.n && whole.body_at == pieced.body_at);
    for (size_t i = 0; i < whole.n; i++)
        check_equal(&whole.all[i], &pieced.all[i]);
    return 0;
}
