/* json_text.c - JSON as text. json_dumps() is not for us: where its buffer cannot grow in the
 * middle of an object's key, it (2.14) goes on without the rest of the key. */
#include "json_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096

struct text {
    char *start;
    size_t bytes;
    size_t capacity;
    bool has_failed;
};

static int append(const char *data, size_t bytes, void *user) {
    struct text *text = user;
    size_t capacity = text->capacity;
    while (bytes > capacity - text->bytes)
        capacity = capacity > 0 ? 2 * capacity : FIRST_BYTES;
    if (capacity > text->capacity) {
        char *grown = realloc(text->start, capacity);
        if (!grown) {
            text->has_failed = true;
            return -1;
        }
        text->start = grown;
        text->capacity = capacity;
    }
    memcpy(text->start + text->bytes, data, bytes);
    text->bytes += bytes;
    return 0;
}

char *tower_json_text(json_t *json, size_t flags, const char *end, size_t *ret_bytes) {
    struct text text = {.start = NULL};
    bool is_good = json && json_dump_callback(json, append, &text, flags) == 0 &&
                   append(end, strlen(end) + 1, &text) == 0 && !text.has_failed;
    json_decref(json);
    if (!is_good) {
        free(text.start);
        return NULL;
    }
    *ret_bytes = text.bytes - 1;
    return text.start;
}
