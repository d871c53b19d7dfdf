/* routes_source.c - source clients: Icecast's protocol for who sends sound.
 *
 * Clients were made for Icecast, and many look at little more than the number in the first line of
 * an answer; so the numbers are Icecast's where it has one for the case.
 */
#include "routes.h"

#include "tower/log.h"

#include <errno.h>
#include <http_parser.h>
#include <string.h>
#include <strings.h>

/* Without the parameters behind it. */
static size_t type_bytes(const char *content_type) {
    return strcspn(content_type, "; \t");
}

static int refuse_mount(const struct tower_request *request,
                        const struct tower_response_options *options,
                        struct tower_response *response) {
    if (tower_routes_have(request))
        return tower_response_make_text(
            response, 403, options,
            "403 Forbidden: that is an address of the transmitter's own, and no mount; send to "
            "/live, or to a name of your own\n");
    return tower_response_make_text(
        response, 403, options,
        "403 Forbidden: no such mount is possible; send to /live, or to another name of 1 to 32 "
        "letters, digits, '.', '_' and '-'\n");
}

/* Is there room for one more, called `name`? Else the answer is made. */
static bool has_place(struct tower_routes *routes, const char *name,
                      const struct tower_response_options *options, struct tower_response *response,
                      int *ret_error) {
    struct tower_status status;
    tower_routes_get_status(routes, &status);
    int64_t now_ns = tower_clock_now_ns(routes->config->clock);
    tower_source_children_look(&routes->source_children, &status.producers);
    if (tower_sources_have(&status.producers, name) ||
        tower_source_children_find(&routes->source_children, name, now_ns)) {
        *ret_error =
            tower_response_make_text(response, 403, options, "403 Forbidden: Mountpoint in use\n");
        return false;
    }
    size_t n = tower_source_children_count(&routes->source_children, &status.producers, now_ns);
    if (n >= TOWER_SOURCES_MAX) {
        struct tower_response_options later = *options;
        later.extra = "Retry-After: 10\r\n";
        *ret_error = tower_response_make_text(
            response, 503, &later,
            "503 Service Unavailable: too many sources connected, %zu of %d\n", n,
            TOWER_SOURCES_MAX);
        return false;
    }
    return true;
}

int tower_route_source(struct tower_routes *routes, const struct tower_request *request,
                       const struct tower_response_options *options,
                       struct tower_response *response) {
    const struct tower_http_sources *sources = &routes->config->sources;
    const struct tower_source_user *user = NULL;
    char name[TOWER_PRODUCER_NAME_BYTES];
    const char *path;
    size_t path_bytes;
    int answered = 0;
    if (!sources->users || sources->users->n == 0)
        return tower_response_make_text(
            response, 403, options,
            "403 Forbidden: no source client may send here; start the transmitter with "
            "--source-password-file or --source-users-file\n");
    tower_request_path(request, &path, &path_bytes);
    if (tower_routes_have(request) || path_bytes == 0 || *path != '/' ||
        tower_source_mount_name(path, path_bytes, name) < 0)
        return refuse_mount(request, options, response);
    enum tower_routes_access access = tower_routes_check_password(
        routes, request, NULL, sources->users, options, response, &user, &answered);
    if (access == TOWER_ACCESS_WRONG || access == TOWER_ACCESS_HELD)
        routes->sources.refused_password++;
    if (access != TOWER_ACCESS_GRANTED)
        return answered;
    if (!tower_source_user_may(user, name))
        return tower_response_make_text(response, 403, options,
                                        "403 Forbidden: this user may not send to this mount\n");
    const char *content_type = request->fields[TOWER_REQUEST_CONTENT_TYPE];
    if (!sources->knows_type(content_type)) {
        routes->sources.refused_type++;
        return tower_response_make_text(
            response, 415, options,
            "415 Unsupported Media Type: expected a Content-Type of audio/mpeg, audio/aac, "
            "audio/ogg, audio/flac, audio/webm, audio/wav or audio/L16\n");
    }
    if (!has_place(routes, name, options, response, &answered)) {
        routes->sources.refused_busy++;
        return answered;
    }
    bool awaits_continue = request->minor_version > 0 &&
                           strcasecmp(request->fields[TOWER_REQUEST_EXPECT], "100-continue") == 0;
    tower_response_make_source(response, name, awaits_continue);
    return 0;
}

int tower_routes_start_source(struct tower_routes *routes, const struct tower_request *request,
                              const struct tower_response *response, int fd, const void *body,
                              size_t body_bytes) {
    const struct tower_http_sources *sources = &routes->config->sources;
    int64_t now_ns = tower_clock_now_ns(routes->config->clock);
    struct tower_source_start start = {
        .program = sources->program,
        .name = response->source,
        .label = request->fields[TOWER_REQUEST_ICE_NAME],
        .socket_path = sources->socket_path,
        .content_type = request->fields[TOWER_REQUEST_CONTENT_TYPE],
        .ffmpeg = sources->ffmpeg,
        .is_chunked = request->is_chunked,
        .length = request->length,
        .fd = fd,
        .body = body,
        .body_bytes = body_bytes,
    };
    int error = tower_source_children_find(&routes->source_children, start.name, now_ns)
                    ? -EBUSY
                    : tower_source_children_start(&routes->source_children, &start, now_ns);
    if (error < 0) {
        tower_log(TOWER_LOG_ERROR, "source", "the source client %s has got no process: %s",
                  start.name, strerror(-error));
        return error;
    }
    routes->sources.accepted++;
    tower_log(TOWER_LOG_INFO, "source", "a source client is %s, and sends %.*s", start.name,
              (int)type_bytes(start.content_type), start.content_type);
    return 0;
}

void tower_routes_look_after_sources(struct tower_routes *routes,
                                     const struct tower_status *status) {
    const struct tower_http_sources *sources = &routes->config->sources;
    tower_source_children_look(&routes->source_children, &status->producers);
    for (size_t i = 0; i < TOWER_SOURCE_CHILDREN_MAX; i++) {
        struct tower_source_child *child = &routes->source_children.all[i];
        if (child->pid == 0 || child->title[0] == '\0' || !child->has_appeared)
            continue;
        if (sources->send_title(routes->config->user, child->name, child->title) != -EAGAIN)
            child->title[0] = '\0';
    }
}
