/* clock_wire.h - a clock report as it travels on the PCM socket: in a memory file, as titles do,
 * and told from them by a first byte that no UTF-8 has.
 */
#ifndef TOWER_BASE_CLOCK_WIRE_H
#define TOWER_BASE_CLOCK_WIRE_H

#include "tower/clock_report.h"

#include <stddef.h>

#define TOWER_CLOCK_WIRE_BYTES 32

/* Values that have no room are brought to the nearest that has. */
void tower_clock_wire_write(const struct tower_clock_report *report,
                            uint8_t ret_bytes[TOWER_CLOCK_WIRE_BYTES]);

/* Is that a report? `ret_report` is untouched if not. Takes any bytes. */
bool tower_clock_wire_read(const void *bytes, size_t n_bytes,
                           struct tower_clock_report *ret_report);

#endif
