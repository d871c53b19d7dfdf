/* json_text.h - JSON as text, whole or not at all. */
#ifndef TOWER_HTTP_JSON_TEXT_H
#define TOWER_HTTP_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

/* The text of `json`, which is let go of, with `end` behind it, and its length in `ret_bytes`; from
 * malloc, with a 0 behind it. `flags` are json_dumps()'s. Returns NULL, and leaves `ret_bytes`
 * alone, if there is no memory or `json` is NULL. */
char *tower_json_text(json_t *json, size_t flags, const char *end, size_t *ret_bytes);

#endif
