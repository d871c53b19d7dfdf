/* utf8.c - UTF-8. */
#include "utf8.h"

#include <stdint.h>

size_t tower_utf8_length(const char *text, size_t bytes) {
    const uint8_t *at = (const uint8_t *)text;
    if (bytes == 0)
        return 0;
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (length == 0 || length > bytes || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Longer than it need be, half of a surrogate pair, or above U+10FFFF. */
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

bool tower_utf8_is_valid(const char *text, size_t bytes) {
    while (bytes > 0) {
        size_t length = tower_utf8_length(text, bytes);
        if (length == 0)
            return false;
        text += length;
        bytes -= length;
    }
    return true;
}

size_t tower_utf8_cut(const char *text, size_t bytes, size_t max_bytes) {
    if (bytes <= max_bytes)
        return bytes;
    size_t n = max_bytes;
    /* No character has more behind its first byte: what has is left for others to find wrong. */
    while (n > 0 && max_bytes - n < 3 && ((uint8_t)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

size_t tower_utf8_from_latin1(const char *text, size_t bytes, char *ret_text, size_t ret_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t c = (uint8_t)text[i];
        size_t length = c < 0x80 ? 1 : 2;
        if (n + length >= ret_bytes)
            break;
        if (length == 2)
            ret_text[n++] = (char)(0xc0 | c >> 6);
        ret_text[n++] = length == 2 ? (char)(0x80 | (c & 0x3f)) : (char)c;
    }
    ret_text[n] = '\0';
    return n;
}
