/* identity_wire.h - who a producer is, as it travels on the PCM socket: in a memory file, with the
 * first byte of the connection, and told from a title by a first byte that no UTF-8 has.
 */
#ifndef TOWER_BASE_IDENTITY_WIRE_H
#define TOWER_BASE_IDENTITY_WIRE_H

#include "tower/producer_identity.h"

#include <stddef.h>
#include <stdint.h>

#define TOWER_IDENTITY_WIRE_BYTES 176

/* Is that a name: 1 to 32 bytes of a-z, 0-9, '.', '_' and '-'? */
bool tower_identity_name_is_valid(const char *name);

/* Is that a label: at most 127 bytes of UTF-8 without control characters? */
bool tower_identity_label_is_valid(const char *label);

/* Write the label that `text` makes, with a NUL: control characters are left out, what is no UTF-8
 * is taken for ISO 8859-1, what is too long is cut at a character. */
void tower_identity_label_from(const char *text, char ret_label[TOWER_PRODUCER_LABEL_BYTES]);

/* Of one whose name is valid, and whose label is. */
void tower_identity_wire_write(const struct tower_producer_identity *identity,
                               uint8_t ret_bytes[TOWER_IDENTITY_WIRE_BYTES]);

/* Is that an identity? `ret_identity` is untouched if not. Takes any bytes. */
bool tower_identity_wire_read(const void *bytes, size_t n_bytes,
                              struct tower_producer_identity *ret_identity);

#endif
