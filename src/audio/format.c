#include "tower/format.h"

const char *tower_origin_name(enum tower_origin origin) {
    static const char *const names[TOWER_ORIGIN_COUNT] = {
        [TOWER_ORIGIN_LIVE] = "live",       [TOWER_ORIGIN_GRACE] = "grace",
        [TOWER_ORIGIN_FILE] = "file",       [TOWER_ORIGIN_TONE] = "tone",
        [TOWER_ORIGIN_SILENCE] = "silence", [TOWER_ORIGIN_REPAIR] = "repair",
    };
    return (unsigned)origin < TOWER_ORIGIN_COUNT ? names[origin] : "unknown";
}
