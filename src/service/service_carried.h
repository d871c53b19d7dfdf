/* service_carried.h - a TowerService that goes on where another process left off. */
#ifndef TOWER_SERVICE_SERVICE_CARRIED_H
#define TOWER_SERVICE_SERVICE_CARRIED_H

#include "carried.h"
#include "tower/service.h"

/* As tower_service_new(), with what `carried` (NULL: nothing) names; what does not hold is made
 * anew. On success what this service has is what is carried from then on. Before any other thread
 * of the process has opened anything. */
int tower_service_continue(const struct tower_config *config,
                           const struct tower_service_sockets *sockets, struct tower_clock *clock,
                           struct tower_carried *carried, struct tower_service **ret_service,
                           char *error, size_t error_bytes);

#endif
