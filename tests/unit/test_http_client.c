/* test_http_client.c - the HTTP client, against a server that says what the test tells it to. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define S INT64_C(1000000000)
/* Nothing here comes near it unless something is broken. */
#define GENEROUS (20 * S)

/* Serves one connection: reads the request, sends `answer`, closes. */
struct server {
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    const char *answer;
    size_t bytes;
    bool is_slow;    /* a byte at a time, each a packet of its own */
    bool is_open;    /* wait for the client to close first */
    const char *end; /* of the request; NULL: of its header */
    char request[8192];
};

static void *serve(void *arg) {
    struct server *server = arg;
    int fd = accept(server->listen_fd, NULL, NULL);
    size_t have = 0;
    const char *end = server->end ? server->end : "\r\n\r\n";
    while (fd >= 0 && !strstr(server->request, end) && have < sizeof server->request - 1) {
        ssize_t n = recv(fd, server->request + have, sizeof server->request - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    size_t step = server->is_slow ? 1 : server->bytes;
    for (size_t i = 0; i < server->bytes; i += step)
        if (send(fd, server->answer + i, step, MSG_NOSIGNAL) < 0)
            break;
    if (server->is_open) {
        char byte;
        (void)recv(fd, &byte, 1, 0);
    }
    (void)close(fd);
    return NULL;
}

static void start_server(struct server *server, const char *answer, size_t bytes) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    server->answer = answer;
    server->bytes = bytes;
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listen_fd >= 0);
    assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(server->listen_fd, 1), 0);
    assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&address, &length), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop_server(struct server *server) {
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)close(server->listen_fd);
}

static struct tower_http_url url_of(const struct server *server) {
    struct tower_http_url url = {.host = "127.0.0.1", .port = server->port, .path = "/a?b=c"};
    return url;
}

/* What came of one GET: the result of the request, or else of reading the body to its end. */
struct outcome {
    int get;
    int64_t end;
    unsigned status;
    char words[64];
    char type[128];
    char body[65536];
    size_t bytes;
    char error[256];
};

static void get(struct server *server, size_t read_bytes, struct outcome *ret_outcome) {
    struct tower_http_url url = url_of(server);
    struct tower_http_client *client = NULL;
    memset(ret_outcome, 0, sizeof *ret_outcome);
    ret_outcome->get = tower_http_get(&url, GENEROUS, NULL, &client, ret_outcome->error,
                                      sizeof ret_outcome->error);
    if (ret_outcome->get < 0) {
        assert_null(client);
        assert_string_not_equal(ret_outcome->error, "");
        stop_server(server);
        return;
    }
    ret_outcome->status = tower_http_client_status(client);
    (void)snprintf(ret_outcome->words, sizeof ret_outcome->words, "%s",
                   tower_http_client_status_words(client));
    (void)snprintf(ret_outcome->type, sizeof ret_outcome->type, "%s",
                   tower_http_client_content_type(client));
    int64_t n;
    while ((n = tower_http_client_read(client, ret_outcome->body + ret_outcome->bytes, read_bytes,
                                       GENEROUS)) > 0) {
        ret_outcome->bytes += (size_t)n;
        assert_true(ret_outcome->bytes + read_bytes <= sizeof ret_outcome->body);
    }
    ret_outcome->end = n;
    /* It stays at its end. */
    assert_int_equal(tower_http_client_read(client, ret_outcome->body, 1, 0), n);
    tower_http_client_free(client);
    stop_server(server);
}

static void get_text(const char *answer, bool is_slow, size_t read_bytes, struct outcome *outcome) {
    struct server server = {.is_slow = is_slow};
    start_server(&server, answer, strlen(answer));
    get(&server, read_bytes, outcome);
}

static void addresses_are_read_strictly(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int result;
        const char *host;
        uint16_t port;
        const char *path;
    } table[] = {
        {"http://127.0.0.1:8005/stream", 0, "127.0.0.1", 8005, "/stream"},
        {"http://radio.example", 0, "radio.example", 80, "/"},
        {"HTTP://radio.example/", 0, "radio.example", 80, "/"},
        {"http://a:1/x/y?z=1&w", 0, "a", 1, "/x/y?z=1&w"},
        {"http://a:65535?q", 0, "a", 65535, "/?q"},
        {"http://[::1]:8005/s", 0, "::1", 8005, "/s"},
        {"http://[::1]", 0, "::1", 80, "/"},
        {"http://a/http://b:7/", 0, "a", 80, "/http://b:7/"},
        {"https://a/", -EPROTONOSUPPORT, NULL, 0, NULL},
        {"ftp://a/", -EPROTONOSUPPORT, NULL, 0, NULL},
        {"", -EINVAL, NULL, 0, NULL},
        {"a", -EINVAL, NULL, 0, NULL},
        {"127.0.0.1:8005/stream", -EINVAL, NULL, 0, NULL},
        {"http:/a/", -EINVAL, NULL, 0, NULL},
        {"http://", -EINVAL, NULL, 0, NULL},
        {"http:///x", -EINVAL, NULL, 0, NULL},
        {"http://:80/", -EINVAL, NULL, 0, NULL},
        {"http://a:/", -EINVAL, NULL, 0, NULL},
        {"http://a:0/", -EINVAL, NULL, 0, NULL},
        {"http://a:65536/", -EINVAL, NULL, 0, NULL},
        {"http://a:123456/", -EINVAL, NULL, 0, NULL},
        {"http://a:80x/", -EINVAL, NULL, 0, NULL},
        {"http://a:-1/", -EINVAL, NULL, 0, NULL},
        {"http://[::1/", -EINVAL, NULL, 0, NULL},
        {"http://[]/", -EINVAL, NULL, 0, NULL},
        {"http://[::1]x/", -EINVAL, NULL, 0, NULL},
        {"http://[::1%lo]/", -EINVAL, NULL, 0, NULL},
        {"http://::1/", -EINVAL, NULL, 0, NULL},
        {"http://me:secret@a/", -EINVAL, NULL, 0, NULL},
        {"http://a b/", -EINVAL, NULL, 0, NULL},
        {"http://a/b c", -EINVAL, NULL, 0, NULL},
        {"http://a/\r\nX: y", -EINVAL, NULL, 0, NULL},
        {"http://a/\xc3\xa9", -EINVAL, NULL, 0, NULL},
        {"http://a/x#y", -EINVAL, NULL, 0, NULL},
        {"http://a\\b/", -EINVAL, NULL, 0, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tower_http_url url = {.port = 4711};
        char error[256] = "";
        int result = tower_http_url_parse(table[i].text, &url, error, sizeof error);
        if (result != table[i].result)
            fail_msg("%s gave %d (%s)", table[i].text, result, error);
        if (result < 0) {
            assert_int_equal(url.port, 4711);
            assert_string_not_equal(error, "");
            assert_null(strstr(error, "secret"));
            continue;
        }
        assert_string_equal(url.host, table[i].host);
        assert_int_equal(url.port, table[i].port);
        assert_string_equal(url.path, table[i].path);
    }
}

static void an_address_may_be_too_long(void **state) {
    (void)state;
    char text[4096];
    struct tower_http_url url;
    memset(text, 'a', sizeof text);
    memcpy(text, "http://", 7);
    text[sizeof text - 1] = '\0';
    assert_int_equal(tower_http_url_parse(text, &url, NULL, 0), -ENAMETOOLONG);
    text[8] = '/';
    assert_int_equal(tower_http_url_parse(text, &url, NULL, 0), -ENAMETOOLONG);
    text[8 + TOWER_HTTP_PATH_BYTES] = '\0';
    assert_int_equal(tower_http_url_parse(text, &url, NULL, 0), -ENAMETOOLONG);
    text[8 + TOWER_HTTP_PATH_BYTES - 1] = '\0';
    assert_int_equal(tower_http_url_parse(text, &url, NULL, 0), 0);
    assert_int_equal(strlen(url.path), TOWER_HTTP_PATH_BYTES - 1);
}

static void the_request_is_as_it_should_be(void **state) {
    (void)state;
    struct server server = {.is_slow = false};
    struct outcome outcome;
    const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    start_server(&server, answer, strlen(answer));
    get(&server, 100, &outcome);
    assert_int_equal(outcome.get, 0);
    assert_memory_equal(server.request, "GET /a?b=c HTTP/1.1\r\n", 21);
    char host[64];
    (void)snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", (unsigned)server.port);
    assert_non_null(strstr(server.request, host));
    assert_non_null(strstr(server.request, "\r\nConnection: close\r\n"));
}

/* Every way in which a body can come, whole and byte by byte, read in large and in small pieces. */
static void every_kind_of_body_is_read(void **state) {
    (void)state;
    static const struct {
        const char *answer;
        unsigned status;
        const char *words, *type, *body;
        int64_t end;
    } table[] = {
        {"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 5\r\n\r\nhello", 200, "OK",
         "audio/mpeg", "hello", 0},
        /* More than was announced is not ours. */
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 No\r\n\r\n", 200, "OK", "",
         "hello", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 200, "OK", "", "hello", -ECONNRESET},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nxyz", 200, "OK", "", "", 0},
        {"HTTP/1.0 200 OK\r\ncontent-type:audio/mpeg \r\n\r\nto the end", 200, "OK", "audio/mpeg",
         "to the end", 0},
        {"HTTP/1.1 200 OK\r\n\r\n", 200, "OK", "", "", 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n"
         "0\r\nT: v\r\n\r\n",
         200, "OK", "", "abc0123456789", 0},
        {"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
         "3\r\nabc\r\n0\r\nContent-Type: text/plain\r\n\r\n",
         200, "OK", "audio/mpeg", "abc", 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", 200, "OK", "",
         "abcde", -ECONNRESET},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 200, "OK", "", "abc",
         -ECONNRESET},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 200, "OK", "",
         "abc", -EPROTO},
        {"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno", 404,
         "Not Found", "text/plain", "no", 0},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "OK",
         "", "hi", 0},
        {"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
         200, "OK", "", "hi", 0},
        {"HTTP/1.1 204 No Content\r\n\r\n", 204, "No Content", "", "", 0},
    };
    static struct outcome outcome;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int kind = 0; kind < 4; kind++) {
            get_text(table[i].answer, kind & 1, kind & 2 ? 3 : 4096, &outcome);
            if (outcome.get < 0 || outcome.end != table[i].end)
                fail_msg("answer %zu, kind %d: %d (%s), %d", i, kind, outcome.get, outcome.error,
                         (int)outcome.end);
            assert_int_equal(outcome.status, table[i].status);
            assert_string_equal(outcome.words, table[i].words);
            assert_string_equal(outcome.type, table[i].type);
            assert_int_equal(outcome.bytes, strlen(table[i].body));
            assert_memory_equal(outcome.body, table[i].body, outcome.bytes);
        }
    }
}

static void what_is_no_http_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *answer;
        int result;
    } table[] = {
        {"", -ECONNRESET},
        {"HTTP/1.1 200", -EPROTO},
        {"HTTP/1.1 200 OK\r\nContent-Le", -EPROTO},
        {"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", -EPROTO},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -EPROTO},
        {"HTTP/1.1 banana\r\n\r\n", -EPROTO},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", -EPROTO},
        {"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
         -EPROTO},
        {"\x01\x02\x03\xff\xfe garbage", -EPROTO},
        {"SSH-2.0-OpenSSH_9.2p1\r\n", -EPROTO},
    };
    static struct outcome outcome;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int is_slow = 0; is_slow < 2; is_slow++) {
            get_text(table[i].answer, is_slow, 100, &outcome);
            /* A server that closes with bytes of ours unread resets the connection. */
            if (outcome.get != table[i].result)
                fail_msg("answer %zu: %d (%s)", i, outcome.get, outcome.error);
        }
    }
}

/* `header_bytes` of header and a body of two bytes. */
static void get_with_header(size_t header_bytes, struct outcome *outcome) {
    static char answer[TOWER_HTTP_HEADER_BYTES_MAX + 1024];
    static const char begin[] = "HTTP/1.1 200 OK\r\nX: ";
    assert_true(header_bytes + 3 <= sizeof answer);
    memset(answer, 'x', header_bytes);
    memcpy(answer, begin, sizeof begin - 1);
    memcpy(answer + header_bytes - 4, "\r\n\r\n", 4);
    memcpy(answer + header_bytes, "hi", 3);
    get_text(answer, false, 100, outcome);
}

static void a_header_has_a_limit(void **state) {
    (void)state;
    static struct outcome outcome;
    get_with_header(TOWER_HTTP_HEADER_BYTES_MAX, &outcome);
    assert_int_equal(outcome.get, 0);
    assert_string_equal(outcome.body, "hi");
    get_with_header(TOWER_HTTP_HEADER_BYTES_MAX + 1, &outcome);
    assert_int_equal(outcome.get, -EMSGSIZE);
}

static void a_large_body_comes_whole(void **state) {
    (void)state;
    static struct outcome outcome;
    enum { BODY = 60000 };
    char *answer = malloc(BODY + 100);
    assert_non_null(answer);
    int n = snprintf(answer, 100, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY);
    assert_true(n > 0);
    for (int i = 0; i < BODY; i++)
        answer[n + i] = (char)(i * 7 + i / 251);
    struct server server = {.is_slow = false};
    start_server(&server, answer, (size_t)n + BODY);
    get(&server, 1000, &outcome);
    assert_int_equal(outcome.end, 0);
    assert_int_equal(outcome.bytes, BODY);
    assert_memory_equal(outcome.body, answer + n, BODY);
    free(answer);
}

static void a_silent_server_times_out(void **state) {
    (void)state;
    const char *answer = "HTTP/1.1 200 OK\r\n\r\nab";
    struct server server = {.is_open = true};
    start_server(&server, answer, strlen(answer));
    struct tower_http_url url = url_of(&server);
    struct tower_http_client *client = NULL;
    char error[256];
    char data[16];
    size_t have = 0;
    assert_int_equal(tower_http_get(&url, GENEROUS, NULL, &client, error, sizeof error), 0);
    while (have < 2) {
        int64_t n = tower_http_client_read(client, data + have, sizeof data - have, GENEROUS);
        assert_true(n > 0);
        have += (size_t)n;
    }
    /* Nothing more comes, and asking again changes nothing. */
    assert_int_equal(tower_http_client_read(client, data, sizeof data, S / 100), -ETIMEDOUT);
    assert_int_equal(tower_http_client_read(client, data, sizeof data, 0), -ETIMEDOUT);
    tower_http_client_free(client);
    stop_server(&server);

    server = (struct server){.is_open = true};
    start_server(&server, "HTTP/1.1 2", 10);
    url = url_of(&server);
    client = NULL;
    assert_int_equal(tower_http_get(&url, S / 100, NULL, &client, error, sizeof error), -ETIMEDOUT);
    assert_null(client);
    stop_server(&server);
}

/* The signal came before the wait began, so no wait is ended by it. */
static void an_interruption_before_the_wait_counts(void **state) {
    (void)state;
    struct server server = {.is_open = true};
    start_server(&server, "", 0);
    struct tower_http_url url = url_of(&server);
    struct tower_http_client *client = NULL;
    char error[256];
    volatile sig_atomic_t is_interrupted = 1;
    assert_int_equal(tower_http_get(&url, GENEROUS, &is_interrupted, &client, error, sizeof error),
                     -EINTR);
    assert_null(client);
    stop_server(&server);
}

static void nobody_there_is_said_clearly(void **state) {
    (void)state;
    struct server server = {.is_slow = false};
    struct outcome outcome;
    start_server(&server, "", 0);
    get(&server, 1, &outcome);
    /* Its port is free again. */
    struct tower_http_url url = url_of(&server);
    struct tower_http_client *client = NULL;
    char error[256];
    assert_int_equal(tower_http_get(&url, GENEROUS, NULL, &client, error, sizeof error),
                     -ECONNREFUSED);
    assert_non_null(strstr(error, "127.0.0.1"));
    assert_null(client);
}

/* POST it, and compare what the server got. */
static void post(const char *password, const char *body, const char *base64) {
    static const char answer[] = "HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nno!\n";
    struct server server = {.end = body};
    char error[256], line[512], length[64];
    struct tower_http_client *client = NULL;
    start_server(&server, answer, sizeof answer - 1);
    struct tower_http_url url = url_of(&server);
    assert_int_equal(
        tower_http_post(&url, password, body, GENEROUS, NULL, &client, error, sizeof error), 0);
    assert_int_equal(tower_http_client_status(client), 409);
    assert_int_equal(tower_http_client_read(client, error, sizeof error, GENEROUS), 4);
    tower_http_client_free(client);
    stop_server(&server);
    assert_memory_equal(server.request, "POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:", 38);
    (void)snprintf(line, sizeof line, "\r\nAuthorization: Basic %s\r\n", base64);
    assert_non_null(strstr(server.request, line));
    (void)snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body));
    assert_non_null(strstr(server.request, length));
    assert_non_null(strstr(server.request, "\r\nContent-Type: application/json\r\n"));
    assert_string_equal(strstr(server.request, "\r\n\r\n") + 4, body);
}

/* The three lengths that base64 tells apart, the digits beyond the letters, and the longest. */
static void a_post_bears_its_password_and_its_body(void **state) {
    (void)state;
    char longest[TOWER_HTTP_PASSWORD_BYTES_MAX + 2], body[TOWER_HTTP_POST_BYTES_MAX + 2];
    char base64[400] = "dG93ZXI6";
    post("abc", "{}", "dG93ZXI6YWJj");
    post("hackme2", "{\"producer\": \"live\"}", "dG93ZXI6aGFja21lMg==");
    post("p\xc3\xbf\xc3\xbe", "{}", "dG93ZXI6cMO/w74=");
    memset(longest, 'a', sizeof longest);
    longest[TOWER_HTTP_PASSWORD_BYTES_MAX] = '\0';
    memset(body, ' ', sizeof body);
    body[TOWER_HTTP_POST_BYTES_MAX] = '\0';
    for (size_t i = 0; i < TOWER_HTTP_PASSWORD_BYTES_MAX / 3; i++)
        memcpy(base64 + 8 + 4 * i, "YWFh", 5);
    post(longest, body, base64);

    struct tower_http_url url = {.host = "127.0.0.1", .port = 1, .path = "/"};
    struct server server = {.is_slow = false};
    struct tower_http_client *client = NULL;
    for (int is_body = 0; is_body < 2; is_body++) {
        start_server(&server, "", 0);
        url.port = server.port;
        longest[TOWER_HTTP_PASSWORD_BYTES_MAX] = is_body ? '\0' : 'a';
        longest[TOWER_HTTP_PASSWORD_BYTES_MAX + 1] = '\0';
        body[TOWER_HTTP_POST_BYTES_MAX] = is_body ? ' ' : '\0';
        body[TOWER_HTTP_POST_BYTES_MAX + 1] = '\0';
        assert_int_equal(tower_http_post(&url, longest, body, GENEROUS, NULL, &client, NULL, 0),
                         -EMSGSIZE);
        assert_null(client);
        stop_server(&server);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_strictly),
        cmocka_unit_test(an_address_may_be_too_long),
        cmocka_unit_test(the_request_is_as_it_should_be),
        cmocka_unit_test(a_post_bears_its_password_and_its_body),
        cmocka_unit_test(every_kind_of_body_is_read),
        cmocka_unit_test(what_is_no_http_is_refused),
        cmocka_unit_test(a_header_has_a_limit),
        cmocka_unit_test(a_large_body_comes_whole),
        cmocka_unit_test(a_silent_server_times_out),
        cmocka_unit_test(an_interruption_before_the_wait_counts),
        cmocka_unit_test(nobody_there_is_said_clearly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
