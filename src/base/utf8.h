/* utf8.h - text from outside as UTF-8 (RFC 3629). */
#ifndef TOWER_BASE_UTF8_H
#define TOWER_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Of the character at the start of `text`: how many of its `bytes` bytes it has, 1 to 4; 0 if what
 * is there is no UTF-8, or the end. Pure. */
size_t tower_utf8_length(const char *text, size_t bytes);

/* Pure. */
bool tower_utf8_is_valid(const char *text, size_t bytes);

/* How many of `bytes` to keep so that there are at most `max_bytes` and no character of well-formed
 * text is cut through. Pure. */
size_t tower_utf8_cut(const char *text, size_t bytes, size_t max_bytes);

/* Write the ISO 8859-1 text as UTF-8 with a NUL, cut at a character where `ret_bytes` (at least 1)
 * are too few. Returns the bytes without the NUL. Pure. */
size_t tower_utf8_from_latin1(const char *text, size_t bytes, char *ret_text, size_t ret_bytes);

#endif
