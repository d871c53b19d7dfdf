/* test_source_requests.c - what a source client gets for what it sends, and who it is handed to. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "http_station.h"

#include "program_path.h"
#include "source_users.h"
#include "stream_decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOGIN "Authorization: Basic c291cmNlOmhhY2ttZQ==\r\n"   /* source:hackme */
#define WRONG "Authorization: Basic c291cmNlOmhhY2ttRQ==\r\n"   /* source:hackmE */
#define BOB_LOGIN "Authorization: Basic Ym9iOmJ1aWxkZXI=\r\n"   /* bob:builder */
#define TITLE_LOGIN "Authorization: Basic YWRtaW46dGl0bGVz\r\n" /* admin:titles */
#define MPEG "Content-Type: audio/mpeg\r\n"
#define TAKEN "HTTP/1.0 200 OK\r\n\r\n"

#define FOLDER_VARIABLE "TOWER_TEST_FOLDER"

static struct {
    char path[64];
    struct tower_source_users users;
    struct tower_clock *clock;
    int title_result;
    char titled[TOWER_PRODUCER_NAME_BYTES];
    char title[128];
} fixture;

static char program[4096]; /* this one */

/* ---- what stands in for `tower source-client` ---- */

static FILE *open_note(const char *folder, const char *name) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "we");
}

static void note_descriptors(const char *folder) {
    FILE *out = open_note(folder, "descriptors");
    for (int fd = 0; out && fd < 1024; fd++) {
        if (fd != fileno(out) && fcntl(fd, F_GETFD) >= 0)
            (void)fprintf(out, "%d ", fd);
    }
    if (out)
        (void)fclose(out);
}

static void copy(int fd, FILE *out) {
    char bytes[4096];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        (void)fwrite(bytes, 1, (size_t)n, out);
}

/* Note how it was started, then copy what comes, to its end. */
static int be_child(int argc, char **argv) {
    char folder[160], from[200], to[200];
    /* A test that fails may never hang up. */
    (void)alarm(60);
    (void)snprintf(folder, sizeof folder, "%s/%s", getenv(FOLDER_VARIABLE), argv[3]);
    (void)mkdir(folder, 0700);
    note_descriptors(folder);
    FILE *out = open_note(folder, "arguments");
    for (int i = 1; out && i < argc; i++)
        (void)fprintf(out, "%s\n", argv[i]);
    if (!out || fclose(out) != 0 || !(out = open_note(folder, "environment")))
        return 1;
    for (char **entry = environ; *entry; entry++)
        (void)fprintf(out, "%s\n", *entry);
    if (fclose(out) != 0 || !(out = open_note(folder, "starting")))
        return 1;
    (void)fprintf(out, "%ld %ld\n", (long)getpid(), (long)getpgrp());
    (void)fclose(out);
    (void)snprintf(from, sizeof from, "%s/starting", folder);
    (void)snprintf(to, sizeof to, "%s/started", folder);
    (void)rename(from, to);
    if (!(out = open_note(folder, "body")) || fcntl(0, F_SETFL, 0) < 0)
        return 1;
    copy(3, out);
    copy(0, out);
    (void)fclose(out);
    (void)snprintf(from, sizeof from, "%s/body", folder);
    (void)snprintf(to, sizeof to, "%s/ended", folder);
    return rename(from, to) == 0 ? 0 : 1;
}

/* ---- the station ---- */

static int send_title(void *user, const char *name, const char *text) {
    (void)user;
    pthread_mutex_lock(&station.lock);
    int result = fixture.title_result;
    if (result == 0) {
        (void)snprintf(fixture.titled, sizeof fixture.titled, "%s", name);
        (void)snprintf(fixture.title, sizeof fixture.title, "%s", text);
    }
    pthread_mutex_unlock(&station.lock);
    return result;
}

static struct tower_http_server_config source_config(void) {
    struct tower_http_server_config config = make_config();
    config.sources = (struct tower_http_sources){.users = &fixture.users,
                                                 .program = program,
                                                 .socket_path = "/run/tower/pcm.sock",
                                                 .ffmpeg = "ffmpeg",
                                                 .knows_type = tower_stream_decoder_knows,
                                                 .send_title = send_title};
    config.wrong_password_ns = S_NS;
    config.clock = fixture.clock;
    config.password = "titles";
    return config;
}

static int set_up_sources(void **state) {
    static const char bob[] = "bob:builder:studio";
    if (set_up_air(state) < 0 || tower_clock_virtual_new(S_NS, &fixture.clock) < 0)
        return -1;
    fixture.title_result = -ENOENT;
    fixture.title[0] = fixture.titled[0] = '\0';
    (void)snprintf(fixture.path, sizeof fixture.path, "/tmp/tower-sources-XXXXXX");
    if (!mkdtemp(fixture.path))
        return -1;
    if (setenv(FOLDER_VARIABLE, fixture.path, 1) < 0)
        return -1;
    memset(&fixture.users, 0, sizeof fixture.users);
    if (tower_source_users_add_password(&fixture.users, "hackme") < 0 ||
        tower_source_users_add_line(&fixture.users, bob, strlen(bob)))
        return -1;
    station.status.producers = (struct tower_pcm_socket_stats){0};
    start_with(source_config(), PLACES);
    return 0;
}

static int tear_down_sources(void **state) {
    char command[128];
    int result = tear_down(state);
    tower_clock_free(fixture.clock);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    (void)snprintf(command, sizeof command, "rm -r '%s'", fixture.path);
    return system(command) == 0 ? result : -1;
}

/* What is in the file that the child called `name` has written; waits for it. */
static const char *written(const char *name, const char *file, size_t *ret_bytes) {
    static char text[65536];
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s/%s", fixture.path, name, file);
    FILE *in = NULL;
    for (int i = 0; i < 2000 && !in; i++) {
        in = fopen(path, "re");
        if (!in)
            (void)poll(NULL, 0, 10);
    }
    if (!in)
        fail_msg("%s never came", path);
    size_t n = fread(text, 1, sizeof text - 1, in);
    (void)fclose(in);
    text[n] = '\0';
    if (ret_bytes)
        *ret_bytes = n;
    return text;
}

/* The child is a producer now, or no more. */
static void show_source(const char *name) {
    pthread_mutex_lock(&station.lock);
    struct tower_pcm_socket_stats *producers = &station.status.producers;
    *producers = (struct tower_pcm_socket_stats){0};
    if (name) {
        producers->n_producers = 1;
        producers->producers[0].identity.is_source = true;
        (void)snprintf(producers->producers[0].identity.name, TOWER_PRODUCER_NAME_BYTES, "%s",
                       name);
    }
    pthread_mutex_unlock(&station.lock);
}

static json_int_t count(const char *key) {
    json_t *json = get_json("/status");
    json_int_t n = json_integer_value(json_object_get(json_object_get(json, "sources"), key));
    json_decref(json);
    return n;
}

/* Send `request`, and be given exactly `expected`. Returns the socket. */
static int begin_bytes(const char *request, size_t bytes, const char *expected) {
    char got[256] = "";
    int fd = http_connect(station.port);
    assert_true(fd >= 0);
    assert_int_equal(send(fd, request, bytes, MSG_NOSIGNAL), bytes);
    for (size_t n = 0; n < strlen(expected); n++)
        assert_int_equal(receive(fd, got + n, 1), 1);
    assert_string_equal(got, expected);
    return fd;
}

static int begin(const char *request, const char *expected) {
    return begin_bytes(request, strlen(request), expected);
}

static void a_client_is_handed_to_a_process_with_all_it_sent(void **state) {
    (void)state;
    static const char request[] = "SOURCE /live.mp3 HTTP/1.0\r\n" LOGIN MPEG
                                  "ice-name: n\r\n\r\n\xff\xfb\0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    static const char body[] = "\xff\xfb\0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    static char more[30000];
    size_t n;
    for (size_t i = 0; i < sizeof more; i++)
        more[i] = (char)(i * 7 % 251);
    assert_int_equal(setenv("TOWER_SOURCE_PASSWORD", "hackme", 1), 0);
    int fd = begin_bytes(request, sizeof request - 1, TAKEN);
    assert_int_equal(send(fd, more, sizeof more, MSG_NOSIGNAL), sizeof more);
    char *end;
    long pid = strtol(written("live", "started", NULL), &end, 10);
    assert_true(pid > 0 && strtol(end, NULL, 10) == pid);
    assert_string_equal(written("live", "arguments", NULL),
                        "source-client\n--name\nlive\n--label\nn\n--socket\n/run/tower/pcm.sock\n"
                        "--content-type\naudio/mpeg\n--ffmpeg\nffmpeg\n");
    assert_string_equal(written("live", "descriptors", NULL), "0 1 2 3 ");
    assert_null(strstr(written("live", "environment", NULL), "hackme"));
    assert_non_null(strstr(written("live", "environment", NULL), "PATH="));
    assert_int_equal(unsetenv("TOWER_SOURCE_PASSWORD"), 0);
    assert_int_equal(count("running"), 1);
    assert_int_equal(count("accepted"), 1);
    close(fd);
    const char *copy = written("live", "ended", &n);
    assert_int_equal(n, sizeof body - 1 + sizeof more);
    assert_memory_equal(copy, body, sizeof body - 1);
    assert_memory_equal(copy + sizeof body - 1, more, sizeof more);
}

static void clients_are_answered_as_by_icecast(void **state) {
    (void)state;
    static const struct {
        const char *request;
        const char *answer;
        const char *name;
        const char *body;
        const char *framing;
    } cases[] = {
        {"SOURCE /a ICE/1.0\r\n" LOGIN MPEG "\r\n", TAKEN, "a", "", ""},
        {"SOURCE /b HTTP/1.0\r\nContent-Length: 0\r\n" LOGIN MPEG "\r\n", TAKEN, "b", "", ""},
        {"PUT /C.ogg HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" LOGIN
         "Transfer-Encoding: chunked\r\nContent-Type: application/ogg; codecs=opus\r\n\r\n",
         "HTTP/1.1 100 Continue\r\n\r\n" TAKEN, "c", "", "--chunked\n"},
        {"PUT /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" LOGIN MPEG
         "\r\n4\r\nOggS\r\n",
         TAKEN, "d", "4\r\nOggS\r\n", "--chunked\n"},
        {"PUT /e HTTP/1.0\r\nExpect: 100-continue\r\n" LOGIN
         "Content-Type: Audio/L16;rate=44100;channels=2\r\n\r\n",
         TAKEN, "e", "", ""},
        {"PUT /f HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" LOGIN
         "Content-Type: audio/wav\r\n\r\n",
         "HTTP/1.1 100 Continue\r\n\r\n" TAKEN, "f", "", "--length\n5\n"},
        {"PUT http://radio.example/g HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", TAKEN, "g", "",
         ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        int fd = begin(cases[i].request, cases[i].answer);
        close(fd);
        (void)written(cases[i].name, "started", NULL);
        const char *last = strstr(written(cases[i].name, "arguments", NULL), "--ffmpeg\n");
        assert_non_null(last);
        last = strchr(last + strlen("--ffmpeg\n"), '\n');
        assert_non_null(last);
        assert_string_equal(last + 1, cases[i].framing);
        const char *body = written(cases[i].name, "ended", &n);
        assert_string_equal(body, cases[i].body);
    }
}

static void who_may_not_is_told_why(void **state) {
    (void)state;
    static const struct {
        const char *request;
        int status;
        const char *says;
    } cases[] = {
        {"SOURCE /live HTTP/1.0\r\n" MPEG "\r\n", 401, "password"},
        {"PUT /live HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" MPEG "\r\n", 401, "password"},
        {"SOURCE /live HTTP/1.0\r\nAuthorization: Basic %%%\r\n" MPEG "\r\n", 401, "password"},
        {"SOURCE /live HTTP/1.0\r\n" BOB_LOGIN MPEG "\r\n", 403, "this mount"},
        {"SOURCE /status HTTP/1.0\r\n" LOGIN MPEG "\r\n", 403, "transmitter's own"},
        {"PUT / HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", 403, "transmitter's own"},
        {"PUT /page.js HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", 403, "transmitter's own"},
        {"PUT /a/b HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", 403, "letters"},
        {"PUT /live HTTP/1.1\r\nHost: x\r\n" LOGIN "\r\n", 415, "audio/mpeg"},
        {"PUT /live HTTP/1.1\r\nHost: x\r\n" LOGIN "Content-Type: audio/midi\r\n\r\n", 415, ""},
        {"PUT /live HTTP/1.1\r\nHost: x\r\n" LOGIN "Content-Type: audio/mpegx\r\n\r\n", 415, ""},
        {"PUT /live HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct answer *answer = ask(cases[i].request, true);
        if (answer->status != cases[i].status || !strstr(answer->body, cases[i].says))
            fail_msg("%s: %d %s", cases[i].request, answer->status, answer->body);
        assert_true(answer->status != 401 || http_header(answer, "WWW-Authenticate: Basic"));
        assert_true(http_header_is(answer, "Connection:", "close"));
    }
    assert_int_equal(count("refused_type"), 3);
    assert_int_equal(count("refused_password"), 0);
    assert_int_equal(count("accepted"), 0);
}

static void without_a_password_nobody_may(void **state) {
    (void)state;
    tower_http_server_free(station.server);
    struct tower_http_server_config config = source_config();
    fixture.users.n = 0;
    assert_int_equal(tower_http_server_new(&config, &station.server), 0);
    assert_int_equal(tower_http_server_start(station.server), 0);
    station.port = tower_http_server_port(station.server);
    const struct answer *answer = ask("PUT /live HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", true);
    assert_int_equal(answer->status, 403);
    assert_non_null(strstr(answer->body, "--source-password-file"));
    assert_int_equal(ask("SOURCE /live ICE/1.0\r\n" MPEG "\r\n\xff\xfb\x90", true)->status, 403);
}

static void the_answer_to_a_wrong_password_is_held_back(void **state) {
    (void)state;
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "SOURCE /live HTTP/1.0\r\n" WRONG MPEG "\r\n"));
    ASSERT_SOON(count("refused_password") == 1);
    /* Nothing else from there is looked at, not even the right one; nor is it held. */
    const struct answer *other = ask("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", true);
    assert_int_equal(other->status, 429);
    assert_true(http_header_is(other, "Retry-After:", "1"));
    other = ask("GET /admin/metadata?mode=updinfo&song=x HTTP/1.1\r\n" TITLE_LOGIN "\r\n", false);
    assert_int_equal(other->status, 429);
    assert_int_equal(ask("SOURCE /live HTTP/1.0\r\n" MPEG "\r\n", true)->status, 401);
    assert_int_equal(count("refused_password"), 2);
    struct pollfd waits = {.fd = fd, .events = POLLIN};
    tower_clock_virtual_advance(fixture.clock, S_NS - 1);
    assert_int_equal(get("/livez")->status, 200);
    assert_int_equal(poll(&waits, 1, 0), 0);
    tower_clock_virtual_advance(fixture.clock, 1);
    assert_true(http_read_answer(fd, &answer, false));
    assert_int_equal(answer.status, 401);
    assert_true(http_is_at_end(fd));
    close(fd);
    close(begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN));
    (void)written("live", "ended", NULL);
}

/* A client that gives up takes its answer along, and no place; one that stays is closed at a stop.
 */
static void held_answers_hold_up_nobody(void **state) {
    (void)state;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "SOURCE /live HTTP/1.0\r\n" WRONG MPEG "\r\n"));
    ASSERT_SOON(count("refused_password") == 1);
    tower_http_server_stop(station.server);
    char byte;
    assert_true(receive(fd, &byte, 1) <= 0);
    close(fd);
}

static void a_mount_has_one_client_at_a_time(void **state) {
    (void)state;
    int fd = begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN);
    (void)written("live", "started", NULL);
    const struct answer *answer =
        ask("PUT /stream.ogg HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", 1);
    assert_int_equal(answer->status, 403);
    assert_non_null(strstr(answer->body, "Mountpoint in use"));
    show_source("live");
    assert_int_equal(count("running"), 1);
    tower_clock_virtual_advance(fixture.clock, 60 * S_NS);
    assert_int_equal(ask("PUT /live HTTP/1.1\r\nHost: x\r\n" LOGIN MPEG "\r\n", true)->status, 403);
    assert_int_equal(count("refused_busy"), 2);
    int other_fd = begin("SOURCE /studio HTTP/1.0\r\n" BOB_LOGIN MPEG "\r\n", TAKEN);
    close(fd);
    (void)written("live", "ended", NULL);
    show_source(NULL);
    close(begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN));
    close(other_fd);
    (void)written("studio", "ended", NULL);
}

static void a_child_that_never_becomes_a_producer_keeps_no_mount(void **state) {
    (void)state;
    int fd = begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN);
    (void)written("live", "started", NULL);
    tower_clock_virtual_advance(fixture.clock, 20 * S_NS);
    int other_fd = begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN);
    close(fd);
    close(other_fd);
    fd = begin("SOURCE /short HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN);
    close(fd);
    (void)written("short", "ended", NULL);
    while (count("running") > 0)
        tower_clock_virtual_advance(fixture.clock, S_NS / 10);
    close(begin("SOURCE /short HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN));
}

static void there_are_so_many_places(void **state) {
    (void)state;
    int fds[8];
    char request[256];
    for (int i = 0; i < 8; i++) {
        (void)snprintf(request, sizeof request, "SOURCE /m%d HTTP/1.0\r\n" LOGIN MPEG "\r\n", i);
        fds[i] = begin(request, TAKEN);
    }
    const struct answer *answer = ask("SOURCE /ninth HTTP/1.0\r\n" LOGIN MPEG "\r\n", true);
    assert_int_equal(answer->status, 503);
    assert_non_null(strstr(answer->body, "too many sources"));
    assert_int_equal(count("running"), 8);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
}

/* ---- titles ---- */

static int set_title(const char *login, const char *query) {
    char request[512];
    (void)snprintf(request, sizeof request,
                   "GET /admin/metadata?mode=updinfo&%s HTTP/1.0\r\n%s\r\n", query, login);
    return ask(request, true)->status;
}

static void a_title_goes_to_the_source_client_of_its_mount(void **state) {
    (void)state;
    fixture.title_result = 0;
    assert_int_equal(set_title(LOGIN, "mount=/Studio.ogg&song=A%20-%20B"), 200);
    assert_string_equal(fixture.titled, "studio");
    assert_string_equal(fixture.title, "A - B");
    assert_int_equal(set_title(TITLE_LOGIN, "mount=/stream&song=Bj%F6rk"), 200);
    assert_string_equal(fixture.titled, "live");
    assert_string_equal(fixture.title, "Bj\xc3\xb6rk");
    struct tower_title title;
    tower_titles_get(station.titles, &title);
    assert_int_equal(title.number, 0);
    assert_int_equal(set_title(BOB_LOGIN, "mount=/live&song=x"), 403);
    assert_int_equal(set_title(BOB_LOGIN, "mount=/studio&song=x"), 200);
    assert_int_equal(set_title("", "mount=/studio&song=x"), 401);
    pthread_mutex_lock(&station.lock);
    fixture.title_result = -EAGAIN;
    pthread_mutex_unlock(&station.lock);
    assert_int_equal(set_title(LOGIN, "mount=/studio&song=x"), 503);
}

static void without_a_source_client_it_is_the_stations(void **state) {
    (void)state;
    assert_int_equal(set_title(LOGIN, "mount=/stream&song=x"), 200);
    assert_int_equal(set_title(LOGIN, "mount=/studio&song=x"), 404);
    assert_int_equal(set_title(LOGIN, "mount=/live&song=x"), 404);
    (void)publish();
    struct tower_title title;
    tower_titles_get(station.titles, &title);
    assert_string_equal(title.text, "x");
}

static void a_title_waits_for_a_client_that_is_being_started(void **state) {
    (void)state;
    char text[128] = "";
    int fd = begin("SOURCE /live HTTP/1.0\r\n" LOGIN MPEG "\r\n", TAKEN);
    assert_int_equal(set_title(LOGIN, "mount=/live&song=first"), 200);
    assert_int_equal(set_title(LOGIN, "mount=/stream&song=second"), 200);
    assert_string_equal(fixture.title, "");
    pthread_mutex_lock(&station.lock);
    fixture.title_result = 0;
    pthread_mutex_unlock(&station.lock);
    show_source("live");
    while (text[0] == '\0') {
        tower_clock_virtual_advance(fixture.clock, S_NS / 10);
        assert_int_equal(get("/livez")->status, 200);
        pthread_mutex_lock(&station.lock);
        (void)snprintf(text, sizeof text, "%s", fixture.title);
        pthread_mutex_unlock(&station.lock);
    }
    assert_string_equal(text, "second");
    (void)written("live", "started", NULL);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_sources, tear_down_sources)

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "source-client") == 0)
        return be_child(argc, argv);
    tower_program_path(program, sizeof program);
    const struct CMUnitTest tests[] = {
        TEST(a_client_is_handed_to_a_process_with_all_it_sent),
        TEST(clients_are_answered_as_by_icecast),
        TEST(who_may_not_is_told_why),
        TEST(without_a_password_nobody_may),
        TEST(the_answer_to_a_wrong_password_is_held_back),
        TEST(held_answers_hold_up_nobody),
        TEST(a_mount_has_one_client_at_a_time),
        TEST(a_child_that_never_becomes_a_producer_keeps_no_mount),
        TEST(there_are_so_many_places),
        TEST(a_title_goes_to_the_source_client_of_its_mount),
        TEST(without_a_source_client_it_is_the_stations),
        TEST(a_title_waits_for_a_client_that_is_being_started),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
