/* test_http_routes.c - what players, sites, automation and the page are answered. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "http_station.h"

#include <errno.h>

/* "source:hackme" */
#define PASSWORD "Authorization: Basic c291cmNlOmhhY2ttZQ==\r\n"

static int set_up_with_password(void **state) {
    if (set_up_air(state) < 0)
        return -1;
    struct tower_http_server_config config = make_config();
    config.password = "hackme";
    config.public_url = "https://radio.example/live";
    config.names_server = false;
    start_with(config, PLACES);
    return 0;
}

static int set_up_with_addresses(void **state) {
    if (set_up_air(state) < 0 || tower_addresses_new(8, 2, &station.addresses) < 0)
        return -1;
    struct tower_http_server_config config = make_config();
    config.addresses = station.addresses;
    start_with(config, 10);
    return 0;
}

static void assert_title(const char *text) {
    struct tower_title title;
    publish();
    tower_titles_get(station.titles, &title);
    assert_string_equal(title.text, text);
}

/* ---- players ---- */

static void a_stream_says_whose_it_is(void **state) {
    (void)state;
    static struct answer answer;
    for (int wants_titles = 0; wants_titles < 2; wants_titles++) {
        int fd = http_connect(station.port);
        assert_true(http_send(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n"));
        assert_true(http_send(fd, wants_titles ? "icy-metadata: 1\r\n\r\n" : "\r\n"));
        assert_true(http_read_head(fd, &answer));
        assert_true(http_header_is(&answer, "icy-name:", "Radio B&B"));
        assert_true(http_header_is(&answer, "icy-description:", "all day"));
        assert_true(http_header_is(&answer, "icy-genre:", "various"));
        assert_true(http_header_is(&answer, "icy-url:", "https://radio.example"));
        assert_true(http_header_is(&answer, "icy-br:", "128"));
        assert_true(http_header_is(&answer, "Accept-Ranges:", "none"));
        if (wants_titles)
            assert_true(http_header_is(&answer, "icy-metaint:", "16000"));
        else
            assert_null(http_header(&answer, "icy-metaint:"));
        close(fd);
    }
}

static void titles_come_in_band_where_they_are_asked_for(void **state) {
    (void)state;
    static struct answer answer;
    static uint8_t data[17000];
    int fd = http_connect(station.port);
    assert_int_equal(tower_titles_set(station.titles, "A - B", 5, TOWER_TITLE_FROM_NEXT), 0);
    publish();
    assert_true(http_send(fd, "GET /stream HTTP/1.1\r\nHost: x\r\nIcy-MetaData: 1\r\n\r\n"));
    assert_true(http_read_head(fd, &answer));
    /* Who comes to a worker only behind all this gets no more than its burst. */
    ASSERT_SOON(listeners_now() == 1);
    while (tower_air_head(station.air) < 16000 + 500)
        publish();
    for (size_t n = 0; n < 16000 + 33; n++)
        assert_int_equal(receive(fd, data + n, 1), 1);
    assert_int_equal(data[16000], 2);
    assert_memory_equal(data + 16001, "StreamTitle='A - B';", 20);
    close(fd);
}

static void playlists_name_the_stream(void **state) {
    (void)state;
    const struct answer *answer = get("/listen.m3u");
    assert_true(http_header_is(answer, "Content-Type:", "audio/x-mpegurl"));
    assert_string_equal(answer->body, "#EXTM3U\n#EXTINF:-1,Radio B&B\nhttp://x/stream\n");
    answer = get("/listen.pls");
    assert_true(http_header_is(answer, "Content-Type:", "audio/x-scpls"));
    assert_non_null(strstr(answer->body, "File1=http://x/stream\n"));
    answer = get("/listen.xspf");
    assert_true(http_header_is(answer, "Content-Type:", "application/xspf+xml"));
    assert_non_null(strstr(answer->body, "<location>http://x/stream</location>"));
    assert_non_null(strstr(answer->body, "<title>Radio B&amp;B</title>"));
}

static void an_address_is_what_the_client_can_reach(void **state) {
    (void)state;
    char local[64];
    (void)snprintf(local, sizeof local, "\nhttp://127.0.0.1:%u/stream\n", (unsigned)station.port);
    const struct {
        const char *lines;
        const char *expected;
    } cases[] = {
        {"Host: radio.example:8000\r\n", "\nhttp://radio.example:8000/stream\n"},
        {"Host: [::1]:80\r\n", "\nhttp://[::1]:80/stream\n"},
        {"Host: a\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\n", "\nhttps://b/stream\n"},
        {"Host: a\r\nX-Forwarded-Proto: javascript\r\n", "\nhttp://a/stream\n"},
        {"Host: radio.example \t \r\n", "\nhttp://radio.example/stream\n"},
        {"Host: a\"<b>\r\n", local},
        {"Host: a/b\r\n", local},
        {"Host: a \t\r\n", "\nhttp://a/stream\n"},
        {"", local},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256];
        (void)snprintf(request, sizeof request, "GET /listen.m3u HTTP/1.1\r\n%s\r\n",
                       cases[i].lines);
        const struct answer *answer = ask(request, false);
        if (!strstr(answer->body, cases[i].expected))
            fail_msg("%s: %s", cases[i].lines, answer->body);
    }
}

static void a_public_url_is_named_whatever_was_asked(void **state) {
    (void)state;
    assert_non_null(strstr(get("/listen.m3u")->body, "\nhttps://radio.example/live/stream\n"));
    json_t *json = get_json("/status-json.xsl");
    json_t *source = json_object_get(json_object_get(json, "icestats"), "source");
    assert_string_equal(json_string_value(json_object_get(source, "listenurl")),
                        "https://radio.example/live/stream");
    json_decref(json);
    assert_null(http_header(get("/livez"), "Server:"));
    assert_null(http_header(get("/nothing"), "Server:"));
}

static void icecasts_status_has_icecasts_shape(void **state) {
    (void)state;
    json_t *json = get_json("/status-json.xsl");
    const char *host, *server_id, *start, *url, *name, *type, *title, *genre;
    int listeners, peak, bitrate;
    assert_int_equal(
        json_unpack(json, "{s:{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i}}}",
                    "icestats", "host", &host, "server_id", &server_id, "server_start_iso8601",
                    &start, "source", "listenurl", &url, "server_name", &name, "server_type", &type,
                    "title", &title, "genre", &genre, "listeners", &listeners, "listener_peak",
                    &peak, "bitrate", &bitrate),
        0);
    assert_string_equal(host, "x");
    assert_string_equal(url, "http://x/stream");
    assert_string_equal(name, "Radio B&B");
    assert_string_equal(type, "audio/mpeg");
    assert_string_equal(genre, "various");
    assert_int_equal(strlen(start), strlen("2026-11-21T10:00:00+0000"));
    assert_int_equal(listeners, 3);
    assert_int_equal(peak, 8);
    assert_int_equal(bitrate, 128);
    json_decref(json);
}

static void icecasts_status_names_the_host_alone(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"radio.example", "radio.example"},
        {"radio.example:8000", "radio.example"},
        {"[::1]", "[::1]"},
        {"[::1]:8000", "[::1]"},
        {"[::1", "[::1"},
        {"[", "["},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256];
        (void)snprintf(request, sizeof request, "GET /status-json.xsl HTTP/1.1\r\nHost: %s\r\n\r\n",
                       cases[i][0]);
        json_t *json = json_loads(ask(request, false)->body, 0, NULL);
        json_t *host = json_object_get(json_object_get(json, "icestats"), "host");
        assert_non_null(host);
        assert_string_equal(json_string_value(host), cases[i][1]);
        json_decref(json);
    }
}

static void an_address_has_only_so_many_listeners(void **state) {
    (void)state;
    static struct answer answer;
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = http_connect(station.port);
        assert_true(http_send(fds[i], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_true(http_read_head(fds[i], &answer));
        assert_int_equal(answer.status, 200);
    }
    /* Until both are with the workers: a request on the way counts for no one yet. */
    ASSERT_SOON(listeners_now() == 2);
    const struct answer *refused = get("/stream");
    assert_int_equal(refused->status, 503);
    assert_non_null(http_header(refused, "Retry-After:"));
    assert_int_equal(get("/livez")->status, 200);
    json_t *json = get_json("/status");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json, "listeners"), "refused_address")),
        1);
    json_decref(json);
    close(fds[0]);
    /* It is only sending that tells one who is gone from one who has nothing more to say. */
    int64_t give_up_ns = real_now_ns() + BOUNDED_WAIT_NS;
    while (listeners_now() > 1) {
        assert_true(real_now_ns() < give_up_ns);
        publish();
        short_pause();
    }
    fds[0] = http_connect(station.port);
    assert_true(http_send(fds[0], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(http_read_head(fds[0], &answer));
    assert_int_equal(answer.status, 200);
    close(fds[0]);
    close(fds[1]);
}

/* ---- pages of other origins ---- */

static void options_are_answered(void **state) {
    (void)state;
    const struct {
        const char *path;
        const char *methods;
    } cases[] = {{"/stream", "GET, HEAD, OPTIONS"},
                 {"/switch", "GET, HEAD, POST, OPTIONS"},
                 {"/metadata", "GET, HEAD, POST, OPTIONS"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct answer answer;
        char request[256];
        (void)snprintf(request, sizeof request,
                       "OPTIONS %s HTTP/1.1\r\nHost: x\r\nOrigin: https://site.example\r\n"
                       "Access-Control-Request-Method: POST\r\n\r\n"
                       "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
                       cases[i].path);
        int fd = http_connect(station.port);
        assert_true(http_send(fd, request));
        assert_true(http_read_head(fd, &answer));
        assert_int_equal(answer.status, 204);
        assert_true(http_header_is(&answer, "Allow:", cases[i].methods));
        assert_true(http_header_is(&answer, "Access-Control-Allow-Methods:", cases[i].methods));
        assert_true(http_header_is(&answer, "Access-Control-Allow-Origin:", "*"));
        assert_non_null(
            strstr(http_header(&answer, "Access-Control-Allow-Headers:"), "Authorization"));
        /* And the connection goes on. */
        assert_true(http_read_answer(fd, &answer, false));
        assert_string_equal(answer.body, "alive\n");
        close(fd);
    }
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "OPTIONS /admin/metadata HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(http_read_head(fd, &answer));
    assert_int_equal(answer.status, 204);
    assert_null(http_header(&answer, "Access-Control-Allow-Origin:"));
    close(fd);
    /* The server as a whole, as libshout asks before it sends. */
    fd = http_connect(station.port);
    assert_true(http_send(fd, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                              "Upgrade: TLS/1.0, HTTP/1.1\r\n\r\n"));
    assert_true(http_read_head(fd, &answer));
    assert_int_equal(answer.status, 204);
    assert_true(http_header_is(&answer, "Allow:", "GET, HEAD, POST, PUT, SOURCE, OPTIONS"));
    assert_null(http_header(&answer, "Upgrade:"));
    close(fd);
}

/* ---- titles ---- */

static void nobody_sets_titles_where_no_password_is_set(void **state) {
    (void)state;
    assert_int_equal(ask("POST /metadata HTTP/1.1\r\nHost: x\r\n" PASSWORD
                         "Content-Length: 13\r\n\r\n{\"title\":\"x\"}",
                         false)
                         ->status,
                     403);
    assert_int_equal(get("/admin/metadata?mode=updinfo&mount=/stream&song=x")->status, 403);
    assert_int_equal(get("/metadata")->status, 200);
    assert_title("");
}

static void a_title_is_set_with_the_password(void **state) {
    (void)state;
    static char body[8300];
    const struct {
        const char *lines;
        const char *body;
        int status;
    } cases[] = {
        {"", "{\"title\": \"nobody\"}", 401},
        {"Authorization: Basic c291cmNlOmhhY2ttZQ\r\n", "{\"title\": \"A - B\"}", 200},
        {"Authorization: Basic c291cmNlOmhhY2ttZQ== \r\n", "{\"title\": \"A - B\"}", 200},
        {"Authorization: Basic c291cmNlOmhhY2ttRQ==\r\n", "{\"title\": \"wrong\"}", 401},
        {"Authorization: Basic c291cmNlOmhhY2ttZWU=\r\n", "{\"title\": \"longer\"}", 401},
        {"Authorization: Basic c291cmNlOg==\r\n", "{\"title\": \"empty\"}", 401},
        {"Authorization: Basic %%%\r\n", "{\"title\": \"rubbish\"}", 401},
        {"Authorization: Bearer hackme\r\n", "{\"title\": \"bearer\"}", 401},
        {PASSWORD, "", 400},
        {PASSWORD, "{\"title\": 1}", 400},
        {PASSWORD, "[]", 400},
        {PASSWORD, "{\"title\": \"a\", \"artist\": []}", 400},
        {PASSWORD, "{\"title\": \"\xff\"}", 400},
        {PASSWORD, "{\"title\": \"Army of Me\", \"artist\": \"Bj\\u00f6rk\"}", 200},
        {PASSWORD, body, 413},
    };
    memset(body, ' ', sizeof body - 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static char request[10000];
        (void)snprintf(request, sizeof request,
                       "POST /metadata HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s",
                       cases[i].lines, strlen(cases[i].body), cases[i].body);
        const struct answer *answer = ask(request, false);
        if (answer->status != cases[i].status)
            fail_msg("%s%s: %d %s", cases[i].lines, cases[i].body, answer->status, answer->body);
        assert_true(answer->status != 401 || http_header(answer, "WWW-Authenticate: Basic"));
        if (i == 1)
            assert_title("A - B");
    }
    assert_title("Bj\xc3\xb6rk - Army of Me");
    json_t *json = get_json("/metadata");
    assert_string_equal(json_string_value(json_object_get(json, "text")),
                        "Bj\xc3\xb6rk - Army of Me");
    assert_int_equal(json_integer_value(json_object_get(json, "from_frame")), 1);
    json_decref(json);
}

static void a_body_may_come_in_chunks_and_after_a_nod(void **state) {
    (void)state;
    static struct answer answer;
    int fd = http_connect(station.port);
    assert_true(http_send(fd, "POST /metadata HTTP/1.1\r\nHost: x\r\n" PASSWORD
                              "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert_true(http_read_head(fd, &answer));
    assert_int_equal(answer.status, 100);
    assert_true(http_send(fd, "5\r\n{\"tit\r\n"));
    assert_int_equal(get("/livez")->status, 200);
    assert_true(http_send(fd, "A\r\nle\": \"C\"} \r\n0\r\n\r\n"));
    assert_true(http_read_answer(fd, &answer, false));
    assert_int_equal(answer.status, 200);
    assert_title("C");
    close(fd);
}

static void what_stands_behind_a_body_is_no_header(void **state) {
    (void)state;
    const struct answer *answer = ask("POST /metadata HTTP/1.1\r\nHost: x\r\n"
                                      "Transfer-Encoding: chunked\r\n\r\n"
                                      "d\r\n{\"title\":\"D\"}\r\n0\r\n" PASSWORD "\r\n",
                                      false);
    assert_int_equal(answer->status, 401);
    assert_title("");
}

static void icecasts_way_of_setting_titles(void **state) {
    (void)state;
    const struct {
        const char *query;
        int status;
        const char *title;
    } cases[] = {
        {"mode=updinfo&mount=/stream&song=A%20-%20B", 200, "A - B"},
        {"mount=%2Fstream&mode=updinfo&song=C+%26+D", 200, "C & D"},
        {"mode=updinfo&song=Bj%C3%B6rk", 200, "Bj\xc3\xb6rk"},
        {"mode=updinfo&song=Bj%F6rk&mount=/stream.mp3", 200, "Bj\xc3\xb6rk"},
        {"mode=updinfo&song=%C3%B6&charset=ISO-8859-1", 200, "\xc3\x83\xc2\xb6"},
        {"mode=updinfo&artist=E&title=F", 200, "E - F"},
        {"mode=updinfo&song=", 200, ""},
        {"mode=updinfo&song=G%", 400, ""},
        {"mode=updinfo&song=G%00", 400, ""},
        {"mode=updinfo", 400, ""},
        {"mode=fallbacks&song=G", 400, ""},
        {"song=G", 400, ""},
        {"mode=updinfo&mount=/other&song=G", 404, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[512];
        (void)snprintf(request, sizeof request,
                       "GET /admin/metadata?%s HTTP/1.0\r\nHost: x\r\n" PASSWORD "\r\n",
                       cases[i].query);
        const struct answer *answer = ask(request, true);
        if (answer->status != cases[i].status ||
            !strstr(answer->body,
                    answer->status == 200 ? "<return>1</return>" : "<return>0</return>"))
            fail_msg("%s: %d %s", cases[i].query, answer->status, answer->body);
        assert_title(cases[i].title);
    }
    assert_int_equal(get("/admin/metadata?mode=updinfo&song=G")->status, 401);
}

/* ---- who is on air ---- */

static struct {
    char name[64]; /* what was asked for last; "-": nothing was */
    int result;
} choice;

static int choose_producer(void *user, const char *name) {
    (void)user;
    (void)snprintf(choice.name, sizeof choice.name, "%s", name);
    return choice.result;
}

/* Four producers: one without a name on air, two called "playlist" and one "live". */
static int set_up_with_producers(void **state) {
    static const char *const names[] = {"", "playlist", "live", "playlist"};
    if (set_up_air(state) < 0)
        return -1;
    struct tower_pcm_socket_stats *producers = &station.status.producers;
    producers->n_producers = 4;
    for (size_t i = 0; i < 4; i++) {
        producers->producers[i] = (struct tower_producer_info){.id = 8 + i, .is_on_air = i == 0};
        (void)snprintf(producers->producers[i].identity.name, TOWER_PRODUCER_NAME_BYTES, "%s",
                       names[i]);
    }
    struct tower_http_server_config config = make_config();
    config.password = "hackme";
    config.choose_producer = choose_producer;
    (void)snprintf(choice.name, sizeof choice.name, "-");
    choice.result = 0;
    start_with(config, PLACES);
    return 0;
}

static const struct answer *post_switch(const char *lines, const char *body) {
    static char request[10000];
    (void)snprintf(request, sizeof request,
                   "POST /switch HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", lines,
                   strlen(body), body);
    return ask(request, false);
}

static void who_can_be_chosen_is_told(void **state) {
    (void)state;
    assert_string_equal(get("/switch")->body, "{\"chosen\":null,\"on_air\":\"#8\",\"names\":"
                                              "[\"#8\",\"playlist\",\"live\"]}\n");
    pthread_mutex_lock(&station.lock);
    struct tower_pcm_socket_stats *producers = &station.status.producers;
    producers->producers[0].is_on_air = false;
    producers->producers[2].is_on_air = true;
    (void)snprintf(producers->chosen, sizeof producers->chosen, "live");
    pthread_mutex_unlock(&station.lock);
    assert_string_equal(get("/switch")->body, "{\"chosen\":\"live\",\"on_air\":\"live\",\"names\":"
                                              "[\"#8\",\"playlist\",\"live\"]}\n");
    pthread_mutex_lock(&station.lock);
    producers->n_producers = 0;
    producers->chosen[0] = '\0';
    pthread_mutex_unlock(&station.lock);
    assert_string_equal(get("/switch")->body, "{\"chosen\":null,\"on_air\":null,\"names\":[]}\n");
    assert_string_equal(choice.name, "-");
}

static void a_producer_is_chosen_with_the_password(void **state) {
    (void)state;
    static char long_body[8300];
    const struct {
        const char *lines;
        const char *body;
        int status;
        const char *asked; /* what the ingest was asked for; "-": nothing */
        const char *answer;
    } cases[] = {
        {"", "{\"producer\": \"live\"}", 401, "-", "password"},
        {"Authorization: Basic c291cmNlOmhhY2ttRQ==\r\n", "{\"producer\": \"live\"}", 401, "-", ""},
        {PASSWORD, "", 400, "-", "{\"producer\": \"live\"}"},
        {PASSWORD, "[]", 400, "-", "no producer"},
        {PASSWORD, "{}", 400, "-", "no producer"},
        {PASSWORD, "{\"producer\": null}", 400, "-", "no producer"},
        {PASSWORD, "{\"producer\": 8}", 400, "-", "no producer"},
        {PASSWORD, "{\"producer\": \"li\\u0000ve\"}", 400, "-", ""},
        {PASSWORD, "{\"producer\": \"live\", \"producer\": \"x\"}", 400, "-", "uplicate"},
        {PASSWORD, long_body, 413, "-", ""},
        {PASSWORD, "{\"producer\": \"live\"}", 200, "live", "{\"chosen\":\"live\","},
        {PASSWORD, "{\"producer\": \"#8\"}", 200, "#8", "{\"chosen\":\"#8\","},
        {PASSWORD, "{\"producer\": \"\"}", 200, "", "{\"chosen\":null,"},
        {PASSWORD, "{\"producer\": \"auto\"}", 200, "", "{\"chosen\":null,"},
        /* One character more than a name has: nobody's, and never cut to somebody's. */
        {PASSWORD, "{\"producer\": \"abcdefghijklmnopqrstuvwxyz0123456\"}", 404, "-", "live"},
    };
    memset(long_body, ' ', sizeof long_body - 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(choice.name, sizeof choice.name, "-");
        const struct answer *answer = post_switch(cases[i].lines, cases[i].body);
        if (answer->status != cases[i].status || !strstr(answer->body, cases[i].answer))
            fail_msg("%s%s: %d %s", cases[i].lines, cases[i].body, answer->status, answer->body);
        assert_true(answer->status != 401 || http_header(answer, "WWW-Authenticate: Basic"));
        assert_string_equal(choice.name, cases[i].asked);
    }
}

static void who_cannot_be_chosen_is_told_why(void **state) {
    (void)state;
    choice.result = -ENOENT;
    const struct answer *answer = post_switch(PASSWORD, "{\"producer\": \"nobody\"}");
    assert_int_equal(answer->status, 404);
    assert_non_null(strstr(answer->body, "there are: #8, playlist, live\n"));
    pthread_mutex_lock(&station.lock);
    station.status.producers.n_producers = 0;
    pthread_mutex_unlock(&station.lock);
    answer = post_switch(PASSWORD, "{\"producer\": \"nobody\"}");
    assert_int_equal(answer->status, 404);
    assert_non_null(strstr(answer->body, "there is none\n"));
    choice.result = -EAGAIN;
    answer = post_switch(PASSWORD, "{\"producer\": \"live\"}");
    assert_int_equal(answer->status, 409);
    assert_non_null(strstr(answer->head, "409 Conflict\r\n"));
    assert_non_null(strstr(answer->body, "nothing to play"));
}

/* As many as there are places, with the longest names there are. */
static void all_names_fit_into_the_answer(void **state) {
    (void)state;
    pthread_mutex_lock(&station.lock);
    station.status.producers.n_producers = TOWER_PRODUCERS_MAX;
    for (unsigned i = 0; i < TOWER_PRODUCERS_MAX; i++)
        (void)snprintf(station.status.producers.producers[i].identity.name,
                       TOWER_PRODUCER_NAME_BYTES, "a-name-that-is-32-characters.%03u", i);
    pthread_mutex_unlock(&station.lock);
    choice.result = -ENOENT;
    const struct answer *answer = post_switch(PASSWORD, "{\"producer\": \"nobody\"}");
    assert_int_equal(answer->status, 404);
    assert_non_null(strstr(answer->body, "a-name-that-is-32-characters.031\n"));
}

static void nobody_chooses_where_no_password_is_set(void **state) {
    (void)state;
    assert_int_equal(post_switch(PASSWORD, "{\"producer\": \"live\"}")->status, 403);
    assert_int_equal(get("/switch")->status, 200);
}

/* ---- the page ---- */

static void the_page_is_served_and_trusts_only_itself(void **state) {
    (void)state;
    static const struct {
        const char *path, *content_type;
    } files[] = {{"/", "text/html; charset=utf-8"},
                 {"/?x=1", "text/html; charset=utf-8"},
                 {"/page.css", "text/css; charset=utf-8"},
                 {"/page.js", "text/javascript; charset=utf-8"},
                 {"/icon.svg", "image/svg+xml"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct answer *answer = get(files[i].path);
        assert_int_equal(answer->status, 200);
        assert_true(http_header_is(answer, "Content-Type:", files[i].content_type));
        assert_true(http_header_is(answer, "Cache-Control:", "no-cache"));
        assert_non_null(strstr(answer->head, "Content-Security-Policy: default-src 'none'; "));
        assert_null(http_header(answer, "Access-Control-Allow-Origin:"));
        assert_true(answer->body_bytes > 100);
    }
    assert_int_equal(get("/page.cs")->status, 404);
    assert_int_equal(get("/index.html")->status, 404);
    assert_int_equal(get("/../web/page.css")->status, 404);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_WITH_PASSWORD(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, set_up_with_password, tear_down)
#define TEST_WITH_PRODUCERS(name)                                                                  \
    cmocka_unit_test_setup_teardown(name, set_up_with_producers, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_says_whose_it_is),
        TEST(titles_come_in_band_where_they_are_asked_for),
        TEST(playlists_name_the_stream),
        TEST(an_address_is_what_the_client_can_reach),
        TEST_WITH_PASSWORD(a_public_url_is_named_whatever_was_asked),
        TEST(icecasts_status_has_icecasts_shape),
        TEST(icecasts_status_names_the_host_alone),
        cmocka_unit_test_setup_teardown(an_address_has_only_so_many_listeners,
                                        set_up_with_addresses, tear_down),
        TEST(options_are_answered),
        TEST(nobody_sets_titles_where_no_password_is_set),
        TEST_WITH_PASSWORD(a_title_is_set_with_the_password),
        TEST_WITH_PASSWORD(a_body_may_come_in_chunks_and_after_a_nod),
        TEST_WITH_PASSWORD(what_stands_behind_a_body_is_no_header),
        TEST_WITH_PASSWORD(icecasts_way_of_setting_titles),
        TEST_WITH_PRODUCERS(who_can_be_chosen_is_told),
        TEST_WITH_PRODUCERS(a_producer_is_chosen_with_the_password),
        TEST_WITH_PRODUCERS(who_cannot_be_chosen_is_told_why),
        TEST_WITH_PRODUCERS(all_names_fit_into_the_answer),
        TEST(nobody_chooses_where_no_password_is_set),
        TEST(the_page_is_served_and_trusts_only_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
