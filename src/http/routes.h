/* routes.h - the addresses there are, and what each answers. */
#ifndef TOWER_HTTP_ROUTES_H
#define TOWER_HTTP_ROUTES_H

#include "history.h"
#include "password_guard.h"
#include "request.h"
#include "response.h"
#include "source_children.h"

#include "tower/http_server.h"

/* Owned by the control thread; the counts are read by anyone. */
struct tower_routes {
    const struct tower_http_server_config *config;
    const struct tower_history *history;
    uint32_t event_places;              /* how many more may have the events */
    _Atomic uint64_t n_refused;         /* listeners turned away because every worker was full, */
    _Atomic uint64_t n_refused_address; /* and because of too many from their address */
    struct tower_password_guard guard;
    struct tower_source_children source_children;
    struct tower_sources_stats sources; /* but those that run */
    char *history_json;                 /* as it is now; NULL: nobody has asked for it */
    size_t history_bytes;
};

/* Make the answer to `request`. `may_keep_alive` false closes the connection after it, whatever the
 * client asked for. Errors: -ENOMEM, -ENOSPC; then there is no answer. */
int tower_routes_answer(struct tower_routes *routes, const struct tower_request *request,
                        bool may_keep_alive, struct tower_response *response);

/* Forget what was made of the history; to be called when it changes, and at the end. */
void tower_routes_history_changed(struct tower_routes *routes);

/* The state of the transmitter now, with what only the server knows of. */
void tower_routes_get_status(const struct tower_routes *routes, struct tower_status *ret_status);

/* What one address answers. */
typedef int tower_route_function(struct tower_routes *routes, const struct tower_request *request,
                                 const struct tower_response_options *options,
                                 struct tower_response *response);

/* For listeners: the stream, and playlists that name it. */
tower_route_function tower_route_stream, tower_route_m3u, tower_route_pls, tower_route_xspf;

/* Is whoever asks allowed to change what is on air, that is, does the request bear the password?
 * Else the answer that says why not is made, and `ret_error` is its. */
bool tower_routes_is_allowed(struct tower_routes *routes, const struct tower_request *request,
                             const struct tower_response_options *options,
                             struct tower_response *response, int *ret_error);

/* Who is on air: told, and decided by hand with the password. */
tower_route_function tower_route_producers, tower_route_switch;

/* Titles: read, and set with the password, as ours and as Icecast has it. */
tower_route_function tower_route_title, tower_route_set_title, tower_route_icecast_title;

/* The journal's last incidents, or those with a number above ?since=. */
tower_route_function tower_route_journal;

/* The programme as PCM, in chunks of the rate and size that the query asks for. */
tower_route_function tower_route_pcm;

/* To PUT and SOURCE: take what the client sends as sound, or say why not. */
tower_route_function tower_route_source;

/* The answer tower_route_source() made has gone out: give the client's socket, which stays the
 * caller's to close, and what of the body was read already to a process of its own. Blocks for some
 * milliseconds. Errors: -EBUSY (another has come first), or as tower_source_children_start(). */
int tower_routes_start_source(struct tower_routes *routes, const struct tower_request *request,
                              const struct tower_response *response, int fd, const void *body,
                              size_t body_bytes);

/* Send the titles that wait for their source client, and reap; to be called now and then. */
void tower_routes_look_after_sources(struct tower_routes *routes,
                                     const struct tower_status *status);

/* What came of looking at a password. */
enum tower_routes_access {
    TOWER_ACCESS_GRANTED,
    TOWER_ACCESS_ASKED, /* none was given */
    TOWER_ACCESS_WRONG, /* the answer is held back */
    TOWER_ACCESS_HELD,  /* it was not looked at, as a wrong one came from there just now */
};

/* May whoever asks set titles (with `password`), or be a source client (as `users` says)? Either of
 * the two may be NULL. `ret_user` (may be NULL) is the user, NULL for who gave `password`. If the
 * answer is not GRANTED, it is made, and `ret_error` is its. */
enum tower_routes_access tower_routes_check_password(
    struct tower_routes *routes, const struct tower_request *request, const char *password,
    const struct tower_source_users *users, const struct tower_response_options *options,
    struct tower_response *response, const struct tower_source_user **ret_user, int *ret_error);

/* Is that an address of the transmitter's own, other than the stream's? */
bool tower_routes_have(const struct tower_request *request);

/* The page for people, and the files that it is made of (web/). */
tower_route_function tower_route_web;

#endif
