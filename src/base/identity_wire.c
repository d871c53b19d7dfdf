/* identity_wire.c - both ends are on one host, so the order of bytes is its own. */
#include "identity_wire.h"

#include "utf8.h"

#include <string.h>

#define MAGIC "\xfeTWRID2"

enum { FLAG_LIVE = 1, FLAG_SOURCE = 2 };

struct wire {
    char magic[8];
    uint32_t flags;
    char name[36]; /* zeros behind it, and behind the next */
    char label[TOWER_PRODUCER_LABEL_BYTES];
};
_Static_assert(sizeof(struct wire) == TOWER_IDENTITY_WIRE_BYTES, "no padding");
_Static_assert(sizeof(MAGIC) == sizeof(((struct wire *)0)->magic), "the zero counts");
_Static_assert(sizeof(((struct wire *)0)->name) >= TOWER_PRODUCER_NAME_BYTES, "it has room");

bool tower_identity_name_is_valid(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length < TOWER_PRODUCER_NAME_BYTES && name[length] == '\0';
}

static bool is_control(char byte) {
    return (unsigned char)byte < 0x20 || byte == 0x7f;
}

bool tower_identity_label_is_valid(const char *label) {
    size_t length = strlen(label);
    for (size_t i = 0; i < length; i++) {
        if (is_control(label[i]))
            return false;
    }
    return length < TOWER_PRODUCER_LABEL_BYTES && tower_utf8_is_valid(label, length);
}

void tower_identity_label_from(const char *text, char ret_label[TOWER_PRODUCER_LABEL_BYTES]) {
    char converted[4 * TOWER_PRODUCER_LABEL_BYTES];
    size_t bytes = strlen(text), length = 0;
    if (!tower_utf8_is_valid(text, bytes)) {
        bytes = tower_utf8_from_latin1(text, bytes, converted, sizeof converted);
        text = converted;
    }
    bytes = tower_utf8_cut(text, bytes, TOWER_PRODUCER_LABEL_BYTES - 1);
    for (size_t i = 0; i < bytes; i++) {
        if (!is_control(text[i]))
            ret_label[length++] = text[i];
    }
    ret_label[length] = '\0';
}

void tower_identity_wire_write(const struct tower_producer_identity *identity,
                               uint8_t ret_bytes[TOWER_IDENTITY_WIRE_BYTES]) {
    struct wire wire = {
        .magic = MAGIC,
        .flags = (identity->is_live ? FLAG_LIVE : 0U) | (identity->is_source ? FLAG_SOURCE : 0U),
    };
    memcpy(wire.name, identity->name, strlen(identity->name));
    memcpy(wire.label, identity->label, strlen(identity->label));
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
        !tower_identity_name_is_valid(wire.name) || !memchr(wire.label, '\0', sizeof wire.label) ||
        !tower_identity_label_is_valid(wire.label))
        return false;
    struct tower_producer_identity identity = {
        .is_live = (wire.flags & FLAG_LIVE) != 0,
        .is_source = (wire.flags & FLAG_SOURCE) != 0,
    };
    memcpy(identity.name, wire.name, strlen(wire.name));
    memcpy(identity.label, wire.label, sizeof identity.label);
    *ret_identity = identity;
    return true;
}
