#include "tower/version.h"

const char *tower_version(void) {
    return TOWER_VERSION;
}
