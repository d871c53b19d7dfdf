/* wire_bytes.h - how many bytes a connection has taken, as the kernel counts. */
#ifndef TOWER_AIR_WIRE_BYTES_H
#define TOWER_AIR_WIRE_BYTES_H

#include <stdint.h>

/* What the TCP socket `fd` was given to send and has taken, since it was connected: acknowledged or
 * not. Exact as long as nobody sends or shuts it meanwhile; shutting our side counts as one more.
 * Errors: -EOPNOTSUPP (not TCP, or the kernel does not count), -EBUSY (acknowledgements came in too
 * quick a succession). */
int tower_wire_bytes(int fd, uint64_t *ret_bytes);

#endif
