/* routes.c - the addresses there are, and what each answers. */
#include "routes.h"

#include "status_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
/* As much of what a client asked for as an answer repeats. */
#define QUOTED_BYTES 200

typedef int answer_function(struct tower_routes *routes,
                            const struct tower_response_options *options,
                            struct tower_response *response);

static struct tower_status ask_status(const struct tower_routes *routes) {
    struct tower_status status = {0};
    routes->config->get_status(routes->config->user, &status);
    status.listeners.refused += routes->n_refused;
    return status;
}

static int answer_stream(struct tower_routes *routes, const struct tower_response_options *options,
                         struct tower_response *response) {
    struct tower_response_options open_options = *options;
    open_options.allows_any_origin = true;
    for (size_t i = 0; i < routes->config->n_fanouts; i++) {
        struct tower_fanout_stats stats;
        tower_fanout_get_stats(routes->config->fanouts[i], &stats);
        if (stats.listeners < stats.capacity)
            return tower_response_make_stream(response, &open_options);
    }
    if (!options->is_head)
        routes->n_refused++;
    open_options.extra = "Retry-After: 10\r\n";
    return tower_response_make_text(response, 503, &open_options,
                                    "503 Service Unavailable: all places for listeners are taken, "
                                    "try again in a while\n");
}

static int answer_json(char *json, size_t bytes, const struct tower_response_options *options,
                       struct tower_response *response) {
    struct tower_response_options open_options = *options;
    open_options.allows_any_origin = true;
    return tower_response_make(response, 200, "application/json", json, bytes, &open_options);
}

static int answer_status(struct tower_routes *routes, const struct tower_response_options *options,
                         struct tower_response *response) {
    struct tower_status status = ask_status(routes);
    size_t bytes = 0;
    char *json = tower_status_json(&status, &bytes);
    return answer_json(json, bytes, options, response);
}

static int answer_buffer(struct tower_routes *routes, const struct tower_response_options *options,
                         struct tower_response *response) {
    struct tower_status status = ask_status(routes);
    size_t bytes = 0;
    char *json = tower_buffer_json(&status.router, &bytes);
    return answer_json(json, bytes, options, response);
}

static int answer_livez(struct tower_routes *routes, const struct tower_response_options *options,
                        struct tower_response *response) {
    (void)routes;
    return tower_response_make_text(response, 200, options, "alive\n");
}

static int answer_readyz(struct tower_routes *routes, const struct tower_response_options *options,
                         struct tower_response *response) {
    struct tower_status status = ask_status(routes);
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

static const struct route {
    const char *path;
    answer_function *answer;
} routes_table[] = {
    {"/stream", answer_stream}, {"/stream.mp3", answer_stream},   {"/status", answer_status},
    {"/livez", answer_livez},   {"/tower/buffer", answer_buffer}, {"/readyz", answer_readyz},
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

/* The path in a request's target, be it "/stream?x=1" or "http://host/stream". */
static void find_path(const struct tower_request *request, const char **ret_path,
                      size_t *ret_bytes) {
    struct http_parser_url url;
    http_parser_url_init(&url);
    *ret_path = "";
    *ret_bytes = 0;
    if (http_parser_parse_url(request->target, request->target_bytes, 0, &url) == 0 &&
        (url.field_set & (1U << UF_PATH))) {
        *ret_path = request->target + url.field_data[UF_PATH].off;
        *ret_bytes = url.field_data[UF_PATH].len;
    }
}

static const struct route *find_route(const struct tower_request *request) {
    const char *path;
    size_t bytes;
    find_path(request, &path, &bytes);
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (strlen(routes_table[i].path) == bytes && memcmp(routes_table[i].path, path, bytes) == 0)
            return &routes_table[i];
    }
    return NULL;
}

int tower_routes_answer(struct tower_routes *routes, const struct tower_request *request,
                        bool may_keep_alive, struct tower_response *response) {
    struct tower_response_options options = {
        .minor_version = request->minor_version,
        .is_head = request->refusal == 0 && request->method == HTTP_HEAD,
        .keeps_alive = request->keeps_alive && may_keep_alive,
    };
    if (request->refusal != 0)
        return answer_error(response, request->refusal, &options, request->reason, NULL);
    const struct route *route = find_route(request);
    if (!route)
        return answer_error(response, 404, &options, "there is nothing at", request->target);
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        options.extra = "Allow: GET, HEAD\r\n";
        return answer_error(response, 405, &options, "this method is not for", request->target);
    }
    return route->answer(routes, &options, response);
}
