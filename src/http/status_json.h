/* status_json.h - the state of the transmitter as JSON. */
#ifndef TOWER_HTTP_STATUS_JSON_H
#define TOWER_HTTP_STATUS_JSON_H

#include "tower/status.h"

#include <jansson.h>

/* What /status says, and the levels in it; NULL if there is no memory. */
json_t *tower_status_object(const struct tower_status *status);
json_t *tower_levels_json(const struct tower_pump_stats *pump);

/* Each returns text that ends with a newline, from malloc, and its length in `ret_bytes`; NULL if
 * there is no memory. */

/* For /status: everything there is in `status`. */
char *tower_status_json(const struct tower_status *status, size_t *ret_bytes);

/* For /tower/buffer: count, fill (the same number), capacity, overflow_count, ratio. */
char *tower_buffer_json(const struct tower_status *status, size_t *ret_bytes);

#endif
