/* identity_wire.c - both ends are on one host, so the order of bytes is its own. */
#include "identity_wire.h"

#include <string.h>

#define MAGIC "\xfeTWRID1"

enum { FLAG_LIVE = 1, FLAG_SOURCE = 2 };

struct wire {
    char magic[8];
    uint32_t flags;
    char name[TOWER_IDENTITY_WIRE_BYTES - 12]; /* zeros behind it */
};
_Static_assert(sizeof(struct wire) == TOWER_IDENTITY_WIRE_BYTES, "no padding");
_Static_assert(sizeof(MAGIC) == sizeof(((struct wire *)0)->magic), "the zero counts");
_Static_assert(sizeof(((struct wire *)0)->name) >= TOWER_PRODUCER_NAME_BYTES, "it has room");

bool tower_identity_name_is_valid(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length < TOWER_PRODUCER_NAME_BYTES && name[length] == '\0';
}

void tower_identity_wire_write(const struct tower_producer_identity *identity,
                               uint8_t ret_bytes[TOWER_IDENTITY_WIRE_BYTES]) {
    struct wire wire = {
        .magic = MAGIC,
        .flags = (identity->is_live ? FLAG_LIVE : 0U) | (identity->is_source ? FLAG_SOURCE : 0U),
    };
    memcpy(wire.name, identity->name, strlen(identity->name));
    memcpy(ret_bytes, &wire, sizeof wire);
}

bool tower_identity_wire_read(const void *bytes, size_t n_bytes,
                              struct tower_producer_identity *ret_identity) {
    struct wire wire;
    if (n_bytes != sizeof wire)
        return false;
    memcpy(&wire, bytes, sizeof wire);
    if (memcmp(wire.magic, MAGIC, sizeof wire.magic) != 0 ||
        !memchr(wire.name, '\0', TOWER_PRODUCER_NAME_BYTES) ||
        !tower_identity_name_is_valid(wire.name))
        return false;
    struct tower_producer_identity identity = {
        .is_live = (wire.flags & FLAG_LIVE) != 0,
        .is_source = (wire.flags & FLAG_SOURCE) != 0,
    };
    memcpy(identity.name, wire.name, strlen(wire.name));
    *ret_identity = identity;
    return true;
}
