/* icy.h - titles woven into the stream, the way ICY players expect them.
 *
 * After each TOWER_ICY_METAINT bytes of stream comes a metadata block: one byte that says how many
 * times 16 bytes follow, and in these "StreamTitle='...';" and zeros. A block that says nothing new
 * is a single zero. No thread of its own, no state but what it is given.
 */
#ifndef TOWER_AIR_ICY_H
#define TOWER_AIR_ICY_H

#include "title_history.h"
#include "tower/listener.h"

#include <stdbool.h>
#include <sys/uio.h>

#define TOWER_ICY_BLOCK_BYTES_MAX (1 + 255 * 16)

/* In one turn: some 16 metadata points, each with a block and the stream behind it; and room for
 * the rest of a long block and for another long one. */
#define TOWER_ICY_PIECES_MAX 36
#define TOWER_ICY_SAID_BYTES_MAX ((size_t)2 * TOWER_ICY_BLOCK_BYTES_MAX)

/* What a listener gets in one turn. */
struct tower_icy_woven {
    struct iovec pieces[TOWER_ICY_PIECES_MAX]; /* into the stream, or into `said` */
    struct tower_icy_block {
        uint64_t title; /* that the listener has been told of with it */
        uint16_t bytes; /* of the whole block; 0: the piece is stream */
    } blocks[TOWER_ICY_PIECES_MAX];
    int n_pieces;
    size_t bytes;
    uint8_t said[TOWER_ICY_SAID_BYTES_MAX];
};

/* The state of a listener who has had no byte yet. */
void tower_icy_init(struct tower_icy *ret_icy);

/* The block that gives the title `text` of `bytes` bytes, at most TOWER_TITLE_BYTES_MAX. A "';" in
 * it, which players take for the end, becomes "',". Returns the size of the block; `ret_block` has
 * room for TOWER_ICY_BLOCK_BYTES_MAX. */
size_t tower_icy_make_block(const char *text, size_t bytes, uint8_t *ret_block);

/* Weave what a listener with state `icy` is due into the stream's `n_pieces` (up to 2) `pieces`,
 * which begin at its byte `cursor`. A block under way comes first, then each goes right before the
 * byte behind its metadata point, with the title which that byte belongs to, if that is not what
 * the listener was told last. `titles` may be NULL. `ret_woven` says at most as much as it has
 * room for, so it may end before the pieces do; never short of the first 16,000 bytes of them. */
void tower_icy_weave(const struct tower_icy *icy, const struct tower_titles *titles,
                     uint64_t cursor, const struct iovec *pieces, int n_pieces,
                     struct tower_icy_woven *ret_woven);

/* The listener took the first `sent` bytes of what was woven for it. Returns how many of them are
 * stream. */
size_t tower_icy_advance(struct tower_icy *icy, const struct tower_icy_woven *woven, size_t sent);

/* Can a listener be where `icy` says? */
bool tower_icy_is_sound(const struct tower_icy *icy);

/* A listener with state `icy` at byte `cursor` of the stream took `bytes` bytes, blocks among them.
 * Returns how many of them are stream. */
uint64_t tower_icy_pass(struct tower_icy *icy, const struct tower_titles *titles, uint64_t cursor,
                        uint64_t bytes);

#endif
