/* identity_wire.h - who a producer is, as it travels on the PCM socket: in a memory file, with the
 * first byte of the connection, and told from a title by a first byte that no UTF-8 has.
 */
#ifndef TOWER_BASE_IDENTITY_WIRE_H
#define TOWER_BASE_IDENTITY_WIRE_H

#include "tower/producer_identity.h"

#include <stddef.h>
#include <stdint.h>

#define TOWER_IDENTITY_WIRE_BYTES 48

/* Is that a name: 1 to 32 bytes of a-z, 0-9, '.', '_' and '-'? */
bool tower_identity_name_is_valid(const char *name);

/* Of one whose name is valid. */
void tower_identity_wire_write(const struct tower_producer_identity *identity,
                               uint8_t ret_bytes[TOWER_IDENTITY_WIRE_BYTES]);

/* Is that an identity? `ret_identity` is untouched if not. Takes any bytes. */
bool tower_identity_wire_read(const void *bytes, size_t n_bytes,
                              struct tower_producer_identity *ret_identity);

#endif
