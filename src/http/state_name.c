/* state_name.c - the words for the states of the transmitter, as /status shows them. */
#include "tower/status.h"

const char *tower_service_state_name(enum tower_service_state state) {
    static const char *const names[] = {"starting", "on air", "stalled", "stopping"};
    return (unsigned)state <= TOWER_SERVICE_STOPPING ? names[state] : "unknown";
}
