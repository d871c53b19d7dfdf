/* routes.c - the addresses there are, and those that tell of the transmitter's state. */
#include "routes.h"

#include "icecast_json.h"
#include "metrics_text.h"
#include "status_json.h"
#include "web.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
/* As much of what a client asked for as an answer repeats. */
#define QUOTED_BYTES 200

void tower_routes_get_status(const struct tower_routes *routes, struct tower_status *ret_status) {
    *ret_status = (struct tower_status){0};
    routes->config->get_status(routes->config->user, ret_status);
    ret_status->station = routes->config->station;
    ret_status->listeners.refused += routes->n_refused;
    ret_status->listeners_refused_address = routes->n_refused_address;
    ret_status->sources = routes->sources;
    ret_status->sources.running =
        tower_source_children_count(&routes->source_children, &ret_status->producers,
                                    tower_clock_now_ns(routes->config->clock));
}

static int answer_json(char *json, size_t bytes, const struct tower_response_options *options,
                       struct tower_response *response) {
    return tower_response_make(response, 200, "application/json", json, bytes, options);
}

/* What `make` makes of the state now. */
static int answer_made(struct tower_routes *routes, const struct tower_response_options *options,
                       struct tower_response *response, const char *content_type,
                       char *(*make)(const struct tower_status *status, size_t *ret_bytes)) {
    struct tower_status status;
    tower_routes_get_status(routes, &status);
    size_t bytes = 0;
    char *text = make(&status, &bytes);
    return tower_response_make(response, 200, content_type, text, bytes, options);
}

static int answer_status(struct tower_routes *routes, const struct tower_request *request,
                         const struct tower_response_options *options,
                         struct tower_response *response) {
    (void)request;
    return answer_made(routes, options, response, "application/json", tower_status_json);
}

static int answer_metrics(struct tower_routes *routes, const struct tower_request *request,
                          const struct tower_response_options *options,
                          struct tower_response *response) {
    (void)request;
    return answer_made(routes, options, response, TOWER_METRICS_CONTENT_TYPE, tower_metrics_text);
}

static int answer_buffer(struct tower_routes *routes, const struct tower_request *request,
                         const struct tower_response_options *options,
                         struct tower_response *response) {
    (void)request;
    return answer_made(routes, options, response, "application/json", tower_buffer_json);
}

static int answer_icecast_status(struct tower_routes *routes, const struct tower_request *request,
                                 const struct tower_response_options *options,
                                 struct tower_response *response) {
    struct tower_status status;
    char url[TOWER_HTTP_FIELD_BYTES_MAX + 16];
    tower_routes_get_status(routes, &status);
    tower_request_base_url(request, routes->config->public_url, url, sizeof url);
    size_t bytes = 0;
    char *json = tower_icecast_json(&status, url, &bytes);
    return answer_json(json, bytes, options, response);
}

void tower_routes_history_changed(struct tower_routes *routes) {
    free(routes->history_json);
    routes->history_json = NULL;
}

static int answer_history(struct tower_routes *routes, const struct tower_request *request,
                          const struct tower_response_options *options,
                          struct tower_response *response) {
    (void)request;
    /* Its 70 KB take longer to make than all else that can be asked for: once for everybody. */
    if (!routes->history_json)
        routes->history_json = tower_history_json(routes->history, &routes->history_bytes);
    char *json = routes->history_json ? malloc(routes->history_bytes) : NULL;
    if (json)
        memcpy(json, routes->history_json, routes->history_bytes);
    return answer_json(json, routes->history_bytes, options, response);
}

static int answer_events(struct tower_routes *routes, const struct tower_request *request,
                         const struct tower_response_options *options,
                         struct tower_response *response) {
    (void)request;
    if (routes->event_places > 0 || options->is_head)
        return tower_response_make_endless(response, "text/event-stream", TOWER_RESPONSE_EVENTS,
                                           options);
    struct tower_response_options later = *options;
    later.extra = "Retry-After: 10\r\n";
    return tower_response_make_text(response, 503, &later,
                                    "503 Service Unavailable: all places for /events are taken, "
                                    "/status can be asked at any time\n");
}

static int answer_livez(struct tower_routes *routes, const struct tower_request *request,
                        const struct tower_response_options *options,
                        struct tower_response *response) {
    (void)routes;
    (void)request;
    return tower_response_make_text(response, 200, options, "alive\n");
}

static int answer_readyz(struct tower_routes *routes, const struct tower_request *request,
                         const struct tower_response_options *options,
                         struct tower_response *response) {
    (void)request;
    struct tower_status status;
    tower_routes_get_status(routes, &status);
    if (status.last_air_ns == INT64_MIN)
        return tower_response_make_text(response, 503, options,
                                        "not ready: no frame has gone on air yet\n");
    long long age_ms = (long long)((status.now_ns - status.last_air_ns) / NS_PER_MS);
    if (status.state == TOWER_SERVICE_STOPPING)
        return tower_response_make_text(response, 503, options,
                                        "not ready: the transmitter is stopping\n");
    if (age_ms >= 1000)
        return tower_response_make_text(
            response, 503, options,
            "not ready: the last frame went on air %lld ms ago, more than a second; "
            "/status says more\n",
            age_ms);
    return tower_response_make_text(response, 200, options,
                                    "ready: the last frame went on air %lld ms ago\n", age_ms);
}

/* Who asks for one with GET may ask with HEAD too, and anybody may ask what there is with
 * OPTIONS. */
static const struct route {
    const char *path;
    tower_route_function *get;
    tower_route_function *post; /* NULL: not here */
    bool is_private;            /* not for pages of other origins */
} routes_table[] = {
    {"/", tower_route_web, NULL, true}, /* the first: it has the page's other files too */
    {"/stream", tower_route_stream, NULL, false},
    {"/stream.mp3", tower_route_stream, NULL, false},
    {"/pcm", tower_route_pcm, NULL, false},
    {"/listen.m3u", tower_route_m3u, NULL, false},
    {"/listen.pls", tower_route_pls, NULL, false},
    {"/listen.xspf", tower_route_xspf, NULL, false},
    {"/status", answer_status, NULL, false},
    {"/metrics", answer_metrics, NULL, false},
    {"/status-json.xsl", answer_icecast_status, NULL, false},
    {"/history", answer_history, NULL, false},
    {"/journal", tower_route_journal, NULL, false},
    {"/events", answer_events, NULL, false},
    {"/switch", tower_route_producers, tower_route_switch, false},
    {"/metadata", tower_route_title, tower_route_set_title, false},
    {"/admin/metadata", tower_route_icecast_title, NULL, true},
    {"/tower/buffer", answer_buffer, NULL, false},
    {"/livez", answer_livez, NULL, false},
    {"/readyz", answer_readyz, NULL, false},
};
#define N_ROUTES (sizeof routes_table / sizeof *routes_table)

/* An error: what was wrong, and what addresses exist. */
static int answer_error(struct tower_response *response, int status,
                        const struct tower_response_options *options, const char *reason,
                        const char *target) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return -ENOMEM;
    (void)fprintf(out, "%d %s: %s", status, tower_response_phrase(status), reason);
    if (target)
        (void)fprintf(out, " %.*s", QUOTED_BYTES, target);
    (void)fprintf(out, "\nThese addresses answer to GET and HEAD:");
    for (size_t i = 0; i < N_ROUTES; i++)
        (void)fprintf(out, " %s", routes_table[i].path);
    (void)fprintf(out, "\n");
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    return tower_response_make(response, status, "text/plain; charset=utf-8", text, bytes, options);
}

static const struct route *find_route(const struct tower_request *request) {
    const char *path;
    size_t bytes;
    tower_request_path(request, &path, &bytes);
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (strlen(routes_table[i].path) == bytes && memcmp(routes_table[i].path, path, bytes) == 0)
            return &routes_table[i];
    }
    return tower_web_find(path, bytes) ? &routes_table[0] : NULL;
}

bool tower_routes_have(const struct tower_request *request) {
    const struct route *route = find_route(request);
    return route && route->get != tower_route_stream;
}

static const char *allow_line(const struct route *route) {
    return route->post ? "Allow: GET, HEAD, POST, OPTIONS\r\n" : "Allow: GET, HEAD, OPTIONS\r\n";
}

/* What a browser asks before it lets a page of another origin do what is out of the ordinary. */
static int answer_options(struct tower_response *response, const struct route *route,
                          const struct tower_response_options *options) {
    struct tower_response_options plain = *options;
    char extra[512];
    const char *methods = route->post ? "GET, HEAD, POST, OPTIONS" : "GET, HEAD, OPTIONS";
    (void)snprintf(extra, sizeof extra,
                   "%sAccess-Control-Allow-Methods: %s\r\n"
                   "Access-Control-Allow-Headers: Authorization, Content-Type, Icy-MetaData, "
                   "Range, Cache-Control, Last-Event-ID\r\nAccess-Control-Max-Age: 86400\r\n",
                   allow_line(route), methods);
    plain.extra = plain.allows_any_origin ? extra : allow_line(route);
    return tower_response_make_empty(response, 204, &plain);
}

/* `OPTIONS *` asks what the server as a whole takes. libshout asks so whether there is TLS to go
 * over to, and takes a 404 for a refusal of who would send. */
static int answer_server_options(struct tower_response *response,
                                 const struct tower_response_options *options) {
    struct tower_response_options plain = *options;
    plain.extra = "Allow: GET, HEAD, POST, PUT, SOURCE, OPTIONS\r\n";
    return tower_response_make_empty(response, 204, &plain);
}

int tower_routes_answer(struct tower_routes *routes, const struct tower_request *request,
                        bool may_keep_alive, struct tower_response *response) {
    struct tower_response_options options = {
        .minor_version = request->minor_version,
        .is_head = request->method == HTTP_HEAD,
        .keeps_alive = request->keeps_alive && may_keep_alive,
        .names_server = routes->config->names_server,
    };
    if (request->refusal != 0)
        return answer_error(response, request->refusal, &options, request->reason, NULL);
    if (request->method == HTTP_PUT || request->method == HTTP_SOURCE)
        return tower_route_source(routes, request, &options, response);
    if (request->method == HTTP_OPTIONS && strcmp(request->target, "*") == 0)
        return answer_server_options(response, &options);
    const struct route *route = find_route(request);
    if (!route)
        return answer_error(response, 404, &options, "there is nothing at", request->target);
    options.allows_any_origin = !route->is_private;
    if (request->method == HTTP_OPTIONS)
        return answer_options(response, route, &options);
    if (request->method == HTTP_POST && route->post)
        return route->post(routes, request, &options, response);
    if (request->method == HTTP_GET || request->method == HTTP_HEAD)
        return route->get(routes, request, &options, response);
    options.extra = allow_line(route);
    return answer_error(response, 405, &options, "this method is not for", request->target);
}
