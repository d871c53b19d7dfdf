/* priorities.c - which producer goes on air before which, by their names. */
#include "priorities.h"

#include "identity_wire.h"

#include <errno.h>
#include <string.h>

#define SEPARATORS " \t,"

int tower_priorities_read(struct tower_priorities *ret_priorities, const char *text) {
    struct tower_priorities read = {.n = 0};
    for (text = text ? text : ""; *(text += strspn(text, SEPARATORS)) != '\0';) {
        char name[TOWER_PRODUCER_NAME_BYTES] = "";
        size_t length = strcspn(text, SEPARATORS);
        if (length >= sizeof name || read.n == TOWER_PRIORITIES_MAX)
            return -EINVAL;
        memcpy(name, text, length);
        if (!tower_identity_name_is_valid(name) || tower_priorities_rank(&read, name) < read.n)
            return -EINVAL;
        memcpy(read.names[read.n++], name, sizeof name);
        text += length;
    }
    if (ret_priorities)
        *ret_priorities = read;
    return 0;
}

uint32_t tower_priorities_rank(const struct tower_priorities *priorities, const char *name) {
    uint32_t rank = 0;
    while (rank < priorities->n && strcmp(priorities->names[rank], name) != 0)
        rank++;
    return rank;
}
