/* routes_switch.c - who is on air: told, and decided by hand with the password. */
#include "routes.h"

#include "json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By rank again; as good as "", and easier to type. */
#define BY_RANK "auto"
/* "#", a number, and the NUL. */
#define ID_BYTES 24
_Static_assert(ID_BYTES <= TOWER_PRODUCER_NAME_BYTES, "either of the two fits");

/* What the producer is chosen by: its name, or "#ID" where it has said none. */
static void print_handle(const struct tower_producer_info *producer,
                         char ret_handle[TOWER_PRODUCER_NAME_BYTES]) {
    if (*producer->identity.name)
        memcpy(ret_handle, producer->identity.name, TOWER_PRODUCER_NAME_BYTES);
    else
        (void)snprintf(ret_handle, ID_BYTES, "#%" PRIu64, producer->id);
}

/* Those that can be chosen, each once, in the order they connected. */
static json_t *names_json(const struct tower_pcm_socket_stats *producers) {
    json_t *list = json_array();
    char handle[TOWER_PRODUCER_NAME_BYTES], other[TOWER_PRODUCER_NAME_BYTES];
    for (size_t i = 0; list && i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        bool is_there = false;
        print_handle(&producers->producers[i], handle);
        for (size_t j = 0; j < i && !is_there; j++) {
            print_handle(&producers->producers[j], other);
            is_there = strcmp(handle, other) == 0;
        }
        if (!is_there && json_array_append_new(list, json_string(handle)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *on_air_json(const struct tower_pcm_socket_stats *producers) {
    char handle[TOWER_PRODUCER_NAME_BYTES];
    for (size_t i = 0; i < producers->n_producers && i < TOWER_PRODUCERS_MAX; i++) {
        if (!producers->producers[i].is_on_air)
            continue;
        print_handle(&producers->producers[i], handle);
        return json_string(handle);
    }
    return json_null();
}

/* `chosen` "": it goes by rank. */
static int answer_chosen(const struct tower_routes *routes, const char *chosen,
                         const struct tower_response_options *options,
                         struct tower_response *response) {
    struct tower_status status;
    size_t bytes = 0;
    tower_routes_get_status(routes, &status);
    if (!chosen)
        chosen = status.producers.chosen;
    json_t *json =
        json_pack("{s:s?, s:o, s:o}", "chosen", *chosen ? chosen : NULL, "on_air",
                  on_air_json(&status.producers), "names", names_json(&status.producers));
    char *dump = tower_json_text(json, JSON_COMPACT, "\n", &bytes);
    return tower_response_make(response, 200, "application/json", dump, bytes, options);
}

int tower_route_producers(struct tower_routes *routes, const struct tower_request *request,
                          const struct tower_response_options *options,
                          struct tower_response *response) {
    (void)request;
    return answer_chosen(routes, NULL, options, response);
}

static int answer_bad(const struct tower_response_options *options, struct tower_response *response,
                      const char *why) {
    return tower_response_make_text(
        response, 400, options,
        "400 Bad Request: %s; expected a JSON object such as {\"producer\": \"live\"}, or "
        "{\"producer\": \"\"} to have it go by rank again\n",
        why);
}

/* There is no such producer: which ones there are. */
static int answer_none(const struct tower_routes *routes,
                       const struct tower_response_options *options,
                       struct tower_response *response) {
    struct tower_status status;
    char *text = NULL;
    size_t i, bytes = 0;
    const json_t *name = NULL;
    tower_routes_get_status(routes, &status);
    json_t *names = names_json(&status.producers);
    FILE *out = open_memstream(&text, &bytes);
    if (!names || !out) {
        json_decref(names);
        if (out)
            (void)fclose(out);
        free(text);
        return -ENOMEM;
    }
    (void)fprintf(out, "404 Not Found: no producer of that name is connected; there %s",
                  json_array_size(names) > 0 ? "are:" : "is none");
    json_array_foreach(names, i, name)(void)
        fprintf(out, "%s %s", i > 0 ? "," : "", json_string_value(name));
    (void)fputc('\n', out);
    json_decref(names);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    return tower_response_make(response, 404, "text/plain; charset=utf-8", text, bytes, options);
}

static int choose(const struct tower_routes *routes, const char *name,
                  const struct tower_response_options *options, struct tower_response *response) {
    const char *chosen = strcmp(name, BY_RANK) == 0 ? "" : name;
    /* One that is too long is nobody's. */
    int error = !routes->config->choose_producer || strlen(chosen) >= TOWER_PRODUCER_NAME_BYTES
                    ? -ENOENT
                    : routes->config->choose_producer(routes->config->user, chosen);
    if (error == -ENOENT)
        return answer_none(routes, options, response);
    if (error == -EAGAIN)
        return tower_response_make_text(
            response, 409, options,
            "409 Conflict: this producer is connected, and has nothing to play\n");
    if (error < 0)
        return error;
    return answer_chosen(routes, chosen, options, response);
}

int tower_route_switch(struct tower_routes *routes, const struct tower_request *request,
                       const struct tower_response_options *options,
                       struct tower_response *response) {
    int answered = 0;
    if (!tower_routes_is_allowed(routes, request, options, response, &answered))
        return answered;
    json_error_t error;
    json_t *json = json_loadb(request->body, request->body_bytes, JSON_REJECT_DUPLICATES, &error);
    const char *name = json_string_value(json_object_get(json, "producer"));
    /* Where memory is short the library mostly says nothing. */
    if (!json && (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory))
        answered = -ENOMEM;
    else if (!json)
        answered = answer_bad(options, response, error.text);
    else if (!name)
        answered = answer_bad(options, response, "the body has no producer in it that is text");
    else
        answered = choose(routes, name, options, response);
    json_decref(json);
    return answered;
}
