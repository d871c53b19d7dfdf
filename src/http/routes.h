/* routes.h - the addresses there are, and what each answers. */
#ifndef TOWER_HTTP_ROUTES_H
#define TOWER_HTTP_ROUTES_H

#include "connection.h"
#include "response.h"

#include "tower/http_server.h"

/* Owned by the control thread. */
struct tower_routes {
    const struct tower_http_server_config *config;
    uint64_t n_refused; /* listeners turned away because every worker was full */
};

/* Make the answer to `request`. `may_keep_alive` false closes the connection after it, whatever the
 * client asked for. Errors: -ENOMEM, -ENOSPC; then there is no answer. */
int tower_routes_answer(struct tower_routes *routes, const struct tower_request *request,
                        bool may_keep_alive, struct tower_response *response);

#endif
