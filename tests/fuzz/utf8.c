/* utf8.c - text from outside: what is UTF-8 by its definition, and no byte else. */
#include "utf8.h"

#include "fuzz.h"

/* The character at `text` by the table of RFC 3629, 4: its length, 0 if there is none. */
static size_t length_by_table(const uint8_t *text, size_t bytes, uint32_t *ret_character) {
    static const struct {
        uint32_t from, to;
        size_t length;
    } table[] = {{0, 0x7f, 1},
                 {0x80, 0x7ff, 2},
                 {0x800, 0xd7ff, 3},
                 {0xe000, 0xffff, 3},
                 {0x10000, 0x10ffff, 4}};
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t length = table[i].length;
        uint8_t first_mask = (uint8_t)(length == 1 ? 0x80 : 0xff << (7 - length));
        if (length > bytes || (text[0] & first_mask) != marks[length])
            continue;
        uint32_t character = text[0] & (uint8_t)~first_mask;
        bool is_good = true;
        for (size_t k = 1; k < length; k++) {
            is_good = is_good && text[k] >> 6 == 2;
            character = character << 6 | (text[k] & 0x3f);
        }
        if (is_good && character >= table[i].from && character <= table[i].to) {
            *ret_character = character;
            return length;
        }
    }
    return 0;
}

static void check_valid(const uint8_t *data, size_t bytes) {
    bool is_valid = true;
    for (size_t at = 0; at < bytes;) {
        uint32_t character = 0;
        size_t length = length_by_table(data + at, bytes - at, &character);
        FUZZ_REQUIRE(tower_utf8_length((const char *)data + at, bytes - at) == length);
        is_valid = is_valid && length > 0;
        at += length > 0 ? length : 1;
    }
    FUZZ_REQUIRE(tower_utf8_is_valid((const char *)data, bytes) == is_valid);
}

static void check_cut(const uint8_t *data, size_t bytes, size_t max) {
    size_t n = tower_utf8_cut((const char *)data, bytes, max);
    FUZZ_REQUIRE(n <= bytes && n <= max && (n == bytes || bytes > max));
    if (!tower_utf8_is_valid((const char *)data, bytes))
        return;
    FUZZ_REQUIRE(tower_utf8_is_valid((const char *)data, n));
    FUZZ_REQUIRE(n == bytes || n + tower_utf8_length((const char *)data + n, bytes - n) > max);
}

static void check_latin1(const uint8_t *data, size_t bytes, size_t room) {
    char *text = malloc(room);
    size_t n = tower_utf8_from_latin1((const char *)data, bytes, text, room);
    FUZZ_REQUIRE(n < room && text[n] == '\0' && tower_utf8_is_valid(text, n));
    size_t at = 0, i = 0;
    for (; at < n; i++) {
        uint32_t character = 0;
        size_t length = length_by_table((const uint8_t *)text + at, n - at, &character);
        FUZZ_REQUIRE(length > 0 && i < bytes && character == data[i]);
        at += length;
    }
    FUZZ_REQUIRE(i == bytes || n + (data[i] < 0x80 ? 1 : 2) >= room);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    FUZZ_REQUIRE(tower_utf8_length((const char *)data, 0) == 0);
    check_valid(data, bytes);
    struct fuzz_pieces pieces = fuzz_pieces_of(data, bytes, 2 * bytes + 1);
    check_cut(data, bytes, fuzz_next_piece(&pieces, SIZE_MAX) - 1);
    check_latin1(data, bytes, fuzz_next_piece(&pieces, SIZE_MAX));
    check_latin1(data, bytes, 2 * bytes + 1);
    return 0;
}
