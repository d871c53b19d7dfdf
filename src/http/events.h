/* events.h - the texts of /events (server-sent events, WHATWG HTML 9.2). */
#ifndef TOWER_HTTP_EVENTS_H
#define TOWER_HTTP_EVENTS_H

#include "history.h"

#include <stdbool.h>

/* Each returns text from malloc, and its length in `ret_bytes`; NULL if there is no memory. */

/* For who has just come, or has missed some: everything as it is now. */
char *tower_events_all(const struct tower_status *status, size_t *ret_bytes);

/* What is new since `last`: the levels always, the state, the number of listeners and the title
 * where they changed, what the last sample entered in `history`, and the whole status if it
 * `is_time_for_status`. */
char *tower_events_news(const struct tower_status *last, const struct tower_status *status,
                        const struct tower_history *history, bool is_time_for_status,
                        size_t *ret_bytes);

#endif
