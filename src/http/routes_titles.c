/* routes_titles.c - titles over HTTP: read, and set with the password. */
#include "routes.h"

#include "json_text.h"
#include "utf8.h"

#include "tower/titles.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NO_SUCH_MOUNT "There is no such mount; expected mount=/stream, or a source client's"

static int answer_title(const char *text, uint64_t from_frame,
                        const struct tower_response_options *options,
                        struct tower_response *response) {
    json_t *json = json_pack("{s:s, s:I}", "text", text, "from_frame", (json_int_t)from_frame);
    size_t bytes = 0;
    char *dump = tower_json_text(json, JSON_COMPACT, "", &bytes);
    return tower_response_make(response, 200, "application/json", dump, bytes, options);
}

int tower_route_title(struct tower_routes *routes, const struct tower_request *request,
                      const struct tower_response_options *options,
                      struct tower_response *response) {
    (void)request;
    struct tower_title title = {.number = 0};
    if (routes->config->titles)
        tower_titles_get(routes->config->titles, &title);
    return answer_title(title.text, title.from_frame, options, response);
}

/* Is whoever asks allowed to set titles, with the password, or else, where `users` is not NULL, as
 * a source client, which `ret_user` then is? Else the answer that says why not is made, and
 * `ret_error` is its. */
static bool is_allowed(struct tower_routes *routes, const struct tower_request *request,
                       const struct tower_source_users *users,
                       const struct tower_response_options *options,
                       struct tower_response *response, const struct tower_source_user **ret_user,
                       int *ret_error) {
    bool has_users = users && users->n > 0;
    if ((*routes->config->password == '\0' && !has_users) || !routes->config->titles) {
        *ret_error = tower_response_make_text(
            response, 403, options,
            "403 Forbidden: no password is set, so nobody may set titles or say who is on air over "
            "HTTP; start the transmitter with --password-file\n");
        return false;
    }
    return tower_routes_check_password(routes, request, routes->config->password, users, options,
                                       response, ret_user, ret_error) == TOWER_ACCESS_GRANTED;
}

bool tower_routes_is_allowed(struct tower_routes *routes, const struct tower_request *request,
                             const struct tower_response_options *options,
                             struct tower_response *response, int *ret_error) {
    return is_allowed(routes, request, NULL, options, response, NULL, ret_error);
}

/* Longer than either of the ways to send one lets it be. */
struct title_text {
    char text[2 * TOWER_HTTP_BODY_BYTES_MAX + 4];
};

/* "artist - title", or what there is of the two. */
static void join_title(const char *artist, const char *title, struct title_text *ret_title) {
    bool has_both = *artist != '\0' && *title != '\0';
    (void)snprintf(ret_title->text, sizeof ret_title->text, "%s%s%s", artist, has_both ? " - " : "",
                   title);
}

/* Holds from the next frame on air, which `ret_from_frame` names. Errors: -EINVAL (not UTF-8). */
static int set_title(const struct tower_routes *routes, const struct title_text *title,
                     uint64_t *ret_from_frame) {
    *ret_from_frame = tower_air_frames(routes->config->air);
    return tower_titles_set(routes->config->titles, title->text, strlen(title->text),
                            *ret_from_frame);
}

static int answer_bad_title(const struct tower_response_options *options,
                            struct tower_response *response, const char *why) {
    return tower_response_make_text(
        response, 400, options,
        "400 Bad Request: %s; expected a JSON object such as {\"title\": \"Artist - Title\"} or "
        "{\"artist\": \"Artist\", \"title\": \"Title\"}\n",
        why);
}

int tower_route_set_title(struct tower_routes *routes, const struct tower_request *request,
                          const struct tower_response_options *options,
                          struct tower_response *response) {
    int answered = 0;
    if (!tower_routes_is_allowed(routes, request, options, response, &answered))
        return answered;
    json_error_t error;
    json_t *json = json_loadb(request->body, request->body_bytes, JSON_REJECT_DUPLICATES, &error);
    json_t *title = json_object_get(json, "title");
    json_t *artist = json_object_get(json, "artist");
    struct title_text text;
    uint64_t from_frame;
    /* Where memory is short the library mostly says nothing. */
    if (!json && (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory)) {
        answered = -ENOMEM;
    } else if (!json) {
        answered = answer_bad_title(options, response, error.text);
    } else if (!json_is_string(title) || (artist && !json_is_string(artist))) {
        answered = answer_bad_title(options, response, "the body has no title in it that is text");
    } else {
        join_title(artist ? json_string_value(artist) : "", json_string_value(title), &text);
        /* What the JSON library has read is UTF-8. */
        (void)set_title(routes, &text, &from_frame);
        answered = answer_title(text.text, from_frame, options, response);
    }
    json_decref(json);
    return answered;
}

static int answer_icecast(int status, bool is_done, const char *message,
                          const struct tower_response_options *options,
                          struct tower_response *response) {
    char *text = NULL;
    int n = asprintf(&text,
                     "<?xml version=\"1.0\"?>\n<iceresponse><message>%s</message><return>%d"
                     "</return></iceresponse>\n",
                     message, is_done ? 1 : 0);
    if (n < 0)
        return -ENOMEM;
    return tower_response_make(response, status, "text/xml; charset=utf-8", text, (size_t)n,
                               options);
}

/* The value of `key` as UTF-8, whatever the client wrote in: most say in `charset`, some do not.
 * Returns as tower_request_query(). */
static int query_text(const struct tower_request *request, const char *key, char *ret_text,
                      size_t text_bytes) {
    char raw[TOWER_HTTP_TARGET_BYTES_MAX];
    char charset[32] = "";
    int n = tower_request_query(request, key, raw, sizeof raw);
    if (n < 0)
        return n;
    (void)tower_request_query(request, "charset", charset, sizeof charset);
    if (strcasecmp(charset, "ISO-8859-1") == 0 || strcasecmp(charset, "latin1") == 0 ||
        !tower_utf8_is_valid(raw, (size_t)n))
        return (int)tower_utf8_from_latin1(raw, (size_t)n, ret_text, text_bytes);
    (void)snprintf(ret_text, text_bytes, "%s", raw);
    return n;
}

/* Send it to the source client called `name`; at once, or when it has become a producer. Errors:
 * -ENOENT (there is none), -EAGAIN (it does not read), -EINVAL (not UTF-8). */
static int send_title(struct tower_routes *routes, const char *name,
                      const struct title_text *title) {
    const struct tower_http_sources *sources = &routes->config->sources;
    int64_t now_ns = tower_clock_now_ns(routes->config->clock);
    if (!sources->send_title)
        return -ENOENT;
    int result = sources->send_title(routes->config->user, name, title->text);
    struct tower_source_child *child =
        result == -ENOENT ? tower_source_children_find(&routes->source_children, name, now_ns)
                          : NULL;
    if (!child)
        return result;
    size_t bytes = strlen(title->text);
    if (!tower_utf8_is_valid(title->text, bytes))
        return -EINVAL;
    bytes = tower_utf8_cut(title->text, bytes, sizeof child->title - 1);
    memcpy(child->title, title->text, bytes);
    child->title[bytes] = '\0';
    return 0;
}

int tower_route_icecast_title(struct tower_routes *routes, const struct tower_request *request,
                              const struct tower_response_options *options,
                              struct tower_response *response) {
    char mode[16] = "";
    char mount[64] = "/stream";
    char artist[2 * TOWER_HTTP_TARGET_BYTES_MAX] = "";
    char title[2 * TOWER_HTTP_TARGET_BYTES_MAX] = "";
    int answered = 0;
    const struct tower_source_user *user = NULL;
    char name[TOWER_PRODUCER_NAME_BYTES] = "";
    if (!is_allowed(routes, request, routes->config->sources.users, options, response, &user,
                    &answered))
        return answered;
    (void)tower_request_query(request, "mode", mode, sizeof mode);
    int has_mount = tower_request_query(request, "mount", mount, sizeof mount);
    if (strcmp(mode, "updinfo") != 0)
        return answer_icecast(400, false, "mode=updinfo is the only mode there is", options,
                              response);
    if ((has_mount < 0 && has_mount != -ENOENT) ||
        tower_source_mount_name(mount, strlen(mount), name) < 0)
        return answer_icecast(404, false, NO_SUCH_MOUNT, options, response);
    if (user && !tower_source_user_may(user, name))
        return answer_icecast(403, false, "This user may set no titles there", options, response);
    int song = query_text(request, "song", title, sizeof title);
    if (song == -ENOENT) {
        song = query_text(request, "title", title, sizeof title);
        (void)query_text(request, "artist", artist, sizeof artist);
    }
    struct title_text text;
    uint64_t from_frame;
    join_title(artist, title, &text);
    int result = song < 0 ? -EINVAL : options->is_head ? 0 : send_title(routes, name, &text);
    bool is_station = strcmp(mount, "/stream") == 0 || strcmp(mount, "/stream.mp3") == 0;
    if (result == -ENOENT && is_station)
        result = set_title(routes, &text, &from_frame);
    if (result == -ENOENT)
        return answer_icecast(404, false, NO_SUCH_MOUNT, options, response);
    if (result == -EAGAIN)
        return answer_icecast(503, false, "The source client takes no title just now", options,
                              response);
    if (result < 0)
        return answer_icecast(400, false, "There is no song=TITLE to be read", options, response);
    return answer_icecast(200, true, "Metadata update successful", options, response);
}
