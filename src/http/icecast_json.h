/* icecast_json.h - the state of the transmitter as Icecast's /status-json.xsl has it. */
#ifndef TOWER_HTTP_ICECAST_JSON_H
#define TOWER_HTTP_ICECAST_JSON_H

#include "tower/status.h"

/* For widgets and directories that know Icecast: one source, which listens at `base_url`/stream.
 * Returns text from malloc, and its length in `ret_bytes`; NULL if there is no memory. */
char *tower_icecast_json(const struct tower_status *status, const char *base_url,
                         size_t *ret_bytes);

#endif
