/* fuzz.h - what the fuzz targets share: checks that end the run, and an input cut in pieces. */
#ifndef TOWER_TESTS_FUZZ_H
#define TOWER_TESTS_FUZZ_H

#include "utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What must hold for any input whatever. */
#define FUZZ_REQUIRE(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))

static inline void fuzz_fail(const char *file, int line, const char *what) {
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

/* Text that a terminal, a log and a page can bear: whole UTF-8 without control characters, of those
 * in two bytes neither. */
static inline bool fuzz_is_plain(const char *text, size_t bytes) {
    if (!tower_utf8_is_valid(text, bytes))
        return false;
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t *c = (const uint8_t *)text + i;
        if (c[0] < ' ' || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
            return false;
    }
    return true;
}

/* Sizes of the pieces that an input comes in: the same ones each time for the same input, and not
 * part of it, so that the files of a corpus are what they look like. */
struct fuzz_pieces {
    uint64_t state;
    size_t largest;
};

static inline uint64_t fuzz_random(struct fuzz_pieces *pieces) {
    pieces->state ^= pieces->state << 13;
    pieces->state ^= pieces->state >> 7;
    pieces->state ^= pieces->state << 17;
    return pieces->state;
}

/* Byte by byte for some inputs, in small pieces or in any up to `max` for others. */
static inline struct fuzz_pieces fuzz_pieces_of(const uint8_t *data, size_t bytes, size_t max) {
    struct fuzz_pieces pieces = {.state = UINT64_C(0xcbf29ce484222325)};
    for (size_t i = 0; i < bytes; i++)
        pieces.state = (pieces.state ^ data[i]) * UINT64_C(0x100000001b3);
    pieces.state |= 1;
    const size_t largest[] = {1, 7, 100, max};
    pieces.largest = largest[fuzz_random(&pieces) >> 32 & 3];
    return pieces;
}

/* The next one, at least 1 and at most `left`, which is not 0. */
static inline size_t fuzz_next_piece(struct fuzz_pieces *pieces, size_t left) {
    size_t n = 1 + (size_t)(fuzz_random(pieces) >> 33) % pieces->largest;
    return n < left ? n : left;
}

/* The input up to its next `end`, or all of it; `data` and `bytes` then begin behind that. */
static inline size_t fuzz_take_until(uint8_t end, const uint8_t **data, size_t *bytes,
                                     const uint8_t **ret_part) {
    const uint8_t *found = *bytes > 0 ? memchr(*data, end, *bytes) : NULL;
    size_t n = found ? (size_t)(found - *data) : *bytes;
    *ret_part = *data;
    *data += n + (found ? 1 : 0);
    *bytes -= n + (found ? 1 : 0);
    return n;
}

/* The same as a string: cut to `text_bytes` - 1 bytes, and at a NUL in it. */
static inline void fuzz_take_text(uint8_t end, const uint8_t **data, size_t *bytes, char *ret_text,
                                  size_t text_bytes) {
    const uint8_t *part;
    size_t n = fuzz_take_until(end, data, bytes, &part);
    if (n > text_bytes - 1)
        n = text_bytes - 1;
    if (n > 0)
        memcpy(ret_text, part, n);
    ret_text[n] = '\0';
}

#endif
