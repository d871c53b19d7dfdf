/* state_name.c - the words for the states of the transmitter, as /status shows them. */
#include "tower/status.h"

const char *tower_service_state_name(enum tower_service_state state) {
    static const char *const names[] = {"starting", "on air", "stalled", "stopping"};
    return (unsigned)state <= TOWER_SERVICE_STOPPING ? names[state] : "unknown";
}

const char *tower_producer_state_name(const struct tower_producer_info *producer) {
    if (producer->is_on_air)
        return "on air";
    return producer->has_audio ? "waiting" : "idle";
}

const char *tower_replacement_name(enum tower_replacement why) {
    static const char *const names[TOWER_REPLACEMENT_COUNT] = {"killed",   "ended",    "stalled",
                                                               "reloaded", "upgraded", "keeper"};
    return (unsigned)why < TOWER_REPLACEMENT_COUNT ? names[why] : "unknown";
}
