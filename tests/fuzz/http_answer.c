/* http_answer.c - every address there is, asked for in any way, on a station of any name.
 *
 * Lines: name, description, genre, url, public_url, as the settings take them; then the request.
 */
#include "fuzz.h"

#include "connection.h"
#include "events.h"
#include "routes.h"
#include "settings.h"
#include "stream_decoder.h"

#include <errno.h>
#include <jansson.h>
#include <strings.h>

#define AIR_BYTES 65536

static struct tower_config settings;
static struct tower_connection connection;
static struct tower_history history;
static struct tower_fanout *fanout;
static struct tower_http_server_config config;
static struct tower_routes routes;
static struct tower_response response;
static uint64_t n_frames;

static void get_status(void *user, struct tower_status *ret_status) {
    (void)user;
    ret_status->state = TOWER_SERVICE_ON_AIR;
    ret_status->bitrate_bps = 128000;
    ret_status->last_air_ns = 1;
    ret_status->producers = (struct tower_pcm_socket_stats){
        .chosen = "live",
        .n_producers = 3,
        .producers = {{.id = 1, .identity.name = "live", .is_on_air = true},
                      {.id = 2},
                      {.id = 3, .identity = {.name = "taken", .is_source = true}}}};
    tower_titles_get(config.titles, &ret_status->title);
}

/* What is not a name, nor by rank, is nobody's. */
static int choose_producer(void *user, const char *name) {
    (void)user;
    FUZZ_REQUIRE(strlen(name) < TOWER_PRODUCER_NAME_BYTES);
    if (*name == '\0' || strcmp(name, "live") == 0)
        return 0;
    return strcmp(name, "#2") == 0 ? -EAGAIN : -ENOENT;
}

static int send_title(void *user, const char *name, const char *text) {
    (void)user;
    FUZZ_REQUIRE(*name != '\0' && strlen(name) < TOWER_PRODUCER_NAME_BYTES);
    if (!tower_utf8_is_valid(text, strlen(text)))
        return -EINVAL;
    return strcmp(name, "studio") == 0 ? 0 : strcmp(name, "busy") == 0 ? -EAGAIN : -ENOENT;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_addresses *addresses;
    FUZZ_REQUIRE(tower_air_new(AIR_BYTES, 40, &air) == 0);
    FUZZ_REQUIRE(tower_titles_new(&titles) == 0);
    FUZZ_REQUIRE(tower_addresses_new(4, 1, &addresses) == 0);
    struct tower_fanout_config fanout_config = {.clock = tower_clock_real(),
                                                .air = air,
                                                .titles = titles,
                                                .addresses = addresses,
                                                .max_listeners = 4,
                                                .client_timeout_ns = 1,
                                                .phase_groups = 1};
    FUZZ_REQUIRE(tower_fanout_new(&fanout_config, &fanout) == 0);
    struct tower_taps *taps;
    struct tower_taps_config taps_config = {.clock = tower_clock_real(),
                                            .max_taps = 1,
                                            .frame_samples = TOWER_FRAME_SAMPLES,
                                            .client_timeout_ns = 1};
    FUZZ_REQUIRE(tower_taps_new(&taps_config, &taps) == 0);
    static struct tower_source_users users;
    FUZZ_REQUIRE(tower_source_users_add_password(&users, "hackme") == 0);
    FUZZ_REQUIRE(!tower_source_users_add_line(&users, "bob:builder:studio", 18));
    config = (struct tower_http_server_config){
        .clock = tower_clock_real(),
        .wrong_password_ns = 1,
        .sources = {.users = &users,
                    .program = "/nowhere",
                    .socket_path = "/nowhere",
                    .ffmpeg = "ffmpeg",
                    .knows_type = tower_stream_decoder_knows,
                    .send_title = send_title},
        .air = air,
        .fanouts = &fanout,
        .n_fanouts = 1,
        .titles = titles,
        .addresses = addresses,
        .taps = taps,
        .public_url = settings.public_url,
        .password = "secret",
        .bitrate_bps = 128000,
        .names_server = true,
        .choose_producer = choose_producer,
        .get_status = get_status,
        .station = {settings.name, settings.description, settings.genre, settings.url}};
    routes = (struct tower_routes){
        .config = &config, .history = &history, .event_places = 1, .guard.first_ns = 1};
    return 0;
}

/* ---- what an answer must be ---- */

static struct {
    size_t body_bytes;
    bool is_whole;
    char content_type[64];
    bool is_content_type;
} parsed;

static int on_field(http_parser *parser, const char *at, size_t bytes) {
    (void)parser;
    static const char *const known[] = {"Server",
                                        "Content-Type",
                                        "X-Content-Type-Options",
                                        "X-Accel-Buffering",
                                        "Accept-Ranges",
                                        "Content-Length",
                                        "Content-Disposition",
                                        "Cache-Control",
                                        "Connection",
                                        "Content-Security-Policy",
                                        "Referrer-Policy",
                                        "Allow",
                                        "Retry-After",
                                        "WWW-Authenticate",
                                        "Access-Control-Allow-Origin",
                                        "Access-Control-Allow-Methods",
                                        "Access-Control-Allow-Headers",
                                        "Access-Control-Expose-Headers",
                                        "Access-Control-Max-Age",
                                        "ice-audio-info",
                                        "icy-name",
                                        "icy-description",
                                        "icy-genre",
                                        "icy-url",
                                        "icy-pub",
                                        "icy-br",
                                        "icy-metaint"};
    size_t i = 0;
    while (i < sizeof known / sizeof *known &&
           (strlen(known[i]) != bytes || memcmp(known[i], at, bytes) != 0))
        i++;
    FUZZ_REQUIRE(i < sizeof known / sizeof *known);
    parsed.is_content_type = strcmp(known[i], "Content-Type") == 0;
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t bytes) {
    (void)parser;
    if (parsed.is_content_type)
        (void)snprintf(parsed.content_type, sizeof parsed.content_type, "%.*s", (int)bytes, at);
    return 0;
}

static int on_headers(http_parser *parser) {
    (void)parser;
    bool has_body = response.next != TOWER_RESPONSE_STREAM &&
                    response.next != TOWER_RESPONSE_EVENTS && response.next != TOWER_RESPONSE_TAP &&
                    response.next != TOWER_RESPONSE_SOURCE;
    return !has_body || !response.body;
}

static int on_body(http_parser *parser, const char *at, size_t bytes) {
    (void)parser;
    (void)at;
    parsed.body_bytes += bytes;
    return 0;
}

static int on_whole(http_parser *parser) {
    (void)parser;
    parsed.is_whole = true;
    return 0;
}

static const http_parser_settings parser_settings = {.on_header_field = on_field,
                                                     .on_header_value = on_value,
                                                     .on_headers_complete = on_headers,
                                                     .on_body = on_body,
                                                     .on_message_complete = on_whole};

/* A client that knows nothing but HTTP finds exactly one answer in it. */
static void check_http(void) {
    http_parser parser;
    memset(&parsed, 0, sizeof parsed);
    http_parser_init(&parser, HTTP_RESPONSE);
    size_t n = http_parser_execute(&parser, &parser_settings, response.head, response.head_bytes);
    FUZZ_REQUIRE(HTTP_PARSER_ERRNO(&parser) == HPE_OK && n == response.head_bytes);
    FUZZ_REQUIRE(parsed.is_whole == (response.body_bytes == 0));
    if (response.body_bytes > 0) {
        n = http_parser_execute(&parser, &parser_settings, response.body, response.body_bytes);
        FUZZ_REQUIRE(HTTP_PARSER_ERRNO(&parser) == HPE_OK && n == response.body_bytes);
    }
    FUZZ_REQUIRE(parsed.is_whole && parsed.body_bytes == response.body_bytes);
    FUZZ_REQUIRE(parser.status_code >= 200 && parser.status_code <= 505);
    FUZZ_REQUIRE(tower_utf8_is_valid(response.head, response.head_bytes));
}

static size_t count(const char *text, size_t bytes, const char *what) {
    size_t n = 0;
    for (const char *at = text; (at = memmem(at, (size_t)(text + bytes - at), what, strlen(what)));
         at += strlen(what))
        n++;
    return n;
}

/* The text between two marks with XML's escapes undone, which must be `wanted`. */
static void check_xml_text(const char *body, const char *begin, const char *end,
                           const char *wanted) {
    const char *at = strstr(body, begin);
    FUZZ_REQUIRE(at);
    at += strlen(begin);
    while (strncmp(at, end, strlen(end)) != 0) {
        char c = *at;
        size_t n = 1;
        FUZZ_REQUIRE(c != '\0' && c != '<' && c != '>');
        if (c == '&') {
            c = strncmp(at, "&amp;", 5) == 0  ? '&'
                : strncmp(at, "&lt;", 4) == 0 ? '<'
                : strncmp(at, "&gt;", 4) == 0 ? '>'
                                              : '\0';
            n = strcspn(at, ";") + 1;
        }
        FUZZ_REQUIRE(c == *wanted);
        wanted++;
        at += n;
    }
    FUZZ_REQUIRE(*wanted == '\0');
}

/* Every line of /metrics is a comment, or a name, labels whose values are in quotes, and a number.
 */
static void check_metrics(const char *body) {
    for (const char *line = body; *line != '\0'; line = strchr(line, '\n') + 1) {
        FUZZ_REQUIRE(strchr(line, '\n'));
        if (strncmp(line, "# HELP tower_", 13) == 0 || strncmp(line, "# TYPE tower_", 13) == 0)
            continue;
        const char *at = line + strspn(line, "abcdefghijklmnopqrstuvwxyz_");
        FUZZ_REQUIRE(strncmp(line, "tower_", 6) == 0);
        while (*at == '{' || *at == ',') {
            at += 1 + strspn(at + 1, "abcdefghijklmnopqrstuvwxyz_");
            FUZZ_REQUIRE(at[0] == '=' && at[1] == '"');
            for (at += 2; *at != '"'; at++) {
                FUZZ_REQUIRE(*at != '\0' && *at != '\n');
                if (*at == '\\')
                    FUZZ_REQUIRE(*++at != '\0' && strchr("\\\"n", *at));
            }
            at++;
        }
        at += *at == '}' ? 1 : 0;
        FUZZ_REQUIRE(*at == ' ');
        char *end;
        (void)strtod(at + 1, &end);
        FUZZ_REQUIRE(end > at + 1 && *end == '\n');
    }
}

static void check_body(const char *body, size_t bytes) {
    if (strcmp(parsed.content_type, "audio/x-mpegurl") == 0) {
        FUZZ_REQUIRE(count(body, bytes, "\n") == 3 && count(body, bytes, "\r") == 0);
        FUZZ_REQUIRE(strncmp(body, "#EXTM3U\n#EXTINF:-1,", 19) == 0);
        FUZZ_REQUIRE(strncmp(body + 19, settings.name, strlen(settings.name)) == 0);
        FUZZ_REQUIRE(strncasecmp(body + 19 + strlen(settings.name), "\nhttp", 5) == 0);
    } else if (strcmp(parsed.content_type, "audio/x-scpls") == 0) {
        FUZZ_REQUIRE(count(body, bytes, "\n") == 6 && count(body, bytes, "\r") == 0);
    } else if (strcmp(parsed.content_type, "application/xspf+xml") == 0) {
        FUZZ_REQUIRE(count(body, bytes, "<") == count(body, bytes, ">"));
        check_xml_text(body, "  <title>", "</title>", settings.name);
        check_xml_text(body, "      <title>", "</title>", settings.name);
        /* These are no characters to XML, however escaped (XML 1.0, 2.2). */
        FUZZ_REQUIRE(count(body, bytes, "\xef\xbf\xbe") == 0);
        FUZZ_REQUIRE(count(body, bytes, "\xef\xbf\xbf") == 0);
    } else if (strcmp(parsed.content_type, "application/json") == 0) {
        json_error_t error;
        json_t *json = json_loadb(body, bytes, JSON_REJECT_DUPLICATES, &error);
        FUZZ_REQUIRE(json);
        json_decref(json);
    } else if (strncmp(parsed.content_type, "text/plain; version=", 20) == 0) {
        check_metrics(body);
    }
}

/* One event after another, each with its name and one line of JSON. */
static void check_events(void) {
    struct tower_status status;
    size_t bytes = 0;
    tower_routes_get_status(&routes, &status);
    char *text = tower_events_all(&status, &bytes);
    FUZZ_REQUIRE(text);
    for (char *line = text; *line != '\0';) {
        char *data = strstr(line, "\ndata: ");
        char *end = strstr(line, "\n\n");
        FUZZ_REQUIRE(strncmp(line, "event: ", 7) == 0 && data && end && data < end);
        FUZZ_REQUIRE(data == strchr(line, '\n') && end == strchr(data + 1, '\n'));
        json_t *json = json_loadb(data + 7, (size_t)(end - data) - 7, 0, NULL);
        FUZZ_REQUIRE(json);
        json_decref(json);
        line = end + 2;
    }
    free(text);
}

static void check_title(void) {
    struct tower_title title;
    tower_titles_mark(config.titles, n_frames, n_frames * 384);
    n_frames++;
    tower_titles_get(config.titles, &title);
    size_t length = strnlen(title.text, sizeof title.text);
    FUZZ_REQUIRE(length <= TOWER_TITLE_BYTES_MAX && fuzz_is_plain(title.text, length));
}

/* What is asked of the taps can be made. */
static void check_tap(void) {
    struct tower_tap *tap = NULL;
    FUZZ_REQUIRE(tower_tap_new(&response.tap, &tap) == 0);
    tower_tap_free(tap);
}

/* Who is let in has a password, and a name that nobody on air has who is a source client. */
static void check_source(const struct tower_request *request) {
    struct tower_request_login login;
    size_t length = strnlen(response.source, sizeof response.source);
    FUZZ_REQUIRE(request->method == HTTP_PUT || request->method == HTTP_SOURCE);
    FUZZ_REQUIRE(length > 0 && length < sizeof response.source);
    FUZZ_REQUIRE(strspn(response.source, "abcdefghijklmnopqrstuvwxyz0123456789._-") == length);
    FUZZ_REQUIRE(tower_request_login(request, &login));
    const struct tower_source_user *user =
        tower_source_users_find(config.sources.users, &login.given);
    FUZZ_REQUIRE(user && tower_source_user_may(user, response.source));
    FUZZ_REQUIRE(strcmp(response.source, "taken") != 0 && response.hold_ns == 0);
}

static void answer_all(void) {
    tower_connection_reset_request(&connection);
    while (tower_connection_next_request(&connection) == 1) {
        const struct tower_request *request = &connection.request;
        bool is_head = request->refusal == 0 && request->method == HTTP_HEAD;
        FUZZ_REQUIRE(tower_routes_answer(&routes, request, true, &response) == 0);
        FUZZ_REQUIRE(!is_head || (!response.body && response.body_bytes == 0));
        FUZZ_REQUIRE(response.next != TOWER_RESPONSE_KEEP_ALIVE || request->keeps_alive);
        check_http();
        if (response.body_bytes > 0) {
            char *body = strndup(response.body, response.body_bytes);
            FUZZ_REQUIRE(body);
            check_body(body, response.body_bytes);
            free(body);
        }
        check_title();
        if (response.next == TOWER_RESPONSE_EVENTS)
            check_events();
        if (response.next == TOWER_RESPONSE_TAP)
            check_tap();
        if (response.next == TOWER_RESPONSE_SOURCE)
            check_source(request);
        bool is_over = request->refusal != 0 || response.next != TOWER_RESPONSE_KEEP_ALIVE;
        tower_response_done(&response);
        if (is_over)
            return;
        tower_connection_reset_request(&connection);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const char *const keys[] = {"name", "description", "genre", "url", "public_url"};
    char value[TOWER_CONFIG_TEXT_BYTES + 8];
    tower_config_init(&settings);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        fuzz_take_text('\n', &data, &bytes, value, sizeof value);
        (void)tower_setting_parse(&tower_settings[tower_setting_find(keys[i])], value, &settings);
    }
    FUZZ_REQUIRE(tower_titles_set(config.titles, settings.name, strlen(settings.name),
                                  TOWER_TITLE_FROM_NEXT) == 0);
    check_title();
    connection.fd = -1;
    connection.input_start = 0;
    connection.input_end = bytes < sizeof connection.input ? bytes : sizeof connection.input;
    if (connection.input_end > 0)
        memcpy(connection.input, data, connection.input_end);
    static const struct sockaddr_in6 peer = {.sin6_family = AF_INET6};
    connection.request.peer = (const struct sockaddr *)&peer;
    connection.request.local = (const struct sockaddr *)&peer;
    answer_all();
    return 0;
}
