/* icy.c - titles woven into the stream. */
#include "icy.h"

#include "tower/fanout.h"

#include <string.h>

#define BLOCK_BEGIN "StreamTitle='"
#define BLOCK_END "';"
#define BLOCK_UNIT 16

_Static_assert(sizeof BLOCK_BEGIN - 1 + TOWER_TITLE_BYTES_MAX + sizeof BLOCK_END - 1 ==
                   TOWER_ICY_BLOCK_BYTES_MAX - 1,
               "the longest title fills a block");
_Static_assert(TOWER_ICY_METAINT <= UINT16_MAX, "so that it fits the listener's state");

void tower_icy_init(struct tower_icy *ret_icy) {
    *ret_icy = (struct tower_icy){.until_block = TOWER_ICY_METAINT};
}

size_t tower_icy_make_block(const char *text, size_t bytes, uint8_t *ret_block) {
    size_t said = sizeof BLOCK_BEGIN - 1 + bytes + sizeof BLOCK_END - 1;
    size_t units = (said + BLOCK_UNIT - 1) / BLOCK_UNIT;
    memset(ret_block, 0, 1 + units * BLOCK_UNIT);
    ret_block[0] = (uint8_t)units;
    uint8_t *to = ret_block + 1;
    memcpy(to, BLOCK_BEGIN, sizeof BLOCK_BEGIN - 1);
    to += sizeof BLOCK_BEGIN - 1;
    for (size_t i = 0; i < bytes; i++)
        *to++ = (uint8_t)(text[i] == ';' && i > 0 && text[i - 1] == '\'' ? ',' : text[i]);
    memcpy(to, BLOCK_END, sizeof BLOCK_END - 1);
    return 1 + units * BLOCK_UNIT;
}

static void add_piece(struct tower_icy_woven *woven, void *data, size_t bytes,
                      struct tower_icy_block block) {
    woven->pieces[woven->n_pieces] = (struct iovec){.iov_base = data, .iov_len = bytes};
    woven->blocks[woven->n_pieces++] = block;
    woven->bytes += bytes;
}

/* What is left of the block under way. */
static size_t add_rest(const struct tower_icy *icy, const struct tower_titles *titles,
                       struct tower_icy_woven *woven) {
    /* Where the title is forgotten meanwhile: a block has to be as long as it said, no more. */
    if (!titles || tower_titles_copy_block(titles, icy->told, woven->said) != icy->block_bytes)
        memset(woven->said, 0, icy->block_bytes);
    add_piece(woven, woven->said + icy->block_sent, (size_t)(icy->block_bytes - icy->block_sent),
              (struct tower_icy_block){.title = icy->told, .bytes = icy->block_bytes});
    return icy->block_bytes;
}

/* A block with what is new at `cursor` to a listener who has been told title `*told`. Returns false
 * if there is no room for it. */
static bool add_block(const struct tower_titles *titles, uint64_t cursor, uint64_t *told,
                      size_t *said_bytes, struct tower_icy_woven *woven) {
    static uint8_t nothing_new;
    /* The block, the stream behind it, and what the stream's second piece may begin with. */
    if (woven->n_pieces + 3 > TOWER_ICY_PIECES_MAX)
        return false;
    uint64_t title = titles ? tower_titles_at(titles, cursor) : 0;
    int bytes = 0;
    if (title != 0 && title != *told) {
        if (sizeof woven->said - *said_bytes < TOWER_ICY_BLOCK_BYTES_MAX)
            return false;
        bytes = tower_titles_copy_block(titles, title, woven->said + *said_bytes);
    }
    if (bytes <= 0) {
        add_piece(woven, &nothing_new, 1, (struct tower_icy_block){.title = *told, .bytes = 1});
        return true;
    }
    add_piece(woven, woven->said + *said_bytes, (size_t)bytes,
              (struct tower_icy_block){.title = title, .bytes = (uint16_t)bytes});
    *said_bytes += (size_t)bytes;
    *told = title;
    return true;
}

void tower_icy_weave(const struct tower_icy *icy, const struct tower_titles *titles,
                     uint64_t cursor, const struct iovec *pieces, int n_pieces,
                     struct tower_icy_woven *ret_woven) {
    uint64_t told = icy->told;
    size_t until_block = icy->until_block;
    size_t said_bytes = 0;
    ret_woven->n_pieces = 0;
    ret_woven->bytes = 0;
    if (icy->block_sent > 0) {
        said_bytes = add_rest(icy, titles, ret_woven);
        until_block = TOWER_ICY_METAINT;
    }
    for (int i = 0; i < n_pieces; i++) {
        uint8_t *data = pieces[i].iov_base;
        for (size_t left = pieces[i].iov_len; left > 0;) {
            if (until_block == 0) {
                if (!add_block(titles, cursor, &told, &said_bytes, ret_woven))
                    return;
                until_block = TOWER_ICY_METAINT;
            }
            size_t n = left < until_block ? left : until_block;
            add_piece(ret_woven, data, n, (struct tower_icy_block){0});
            data += n;
            left -= n;
            cursor += n;
            until_block -= n;
        }
    }
}

size_t tower_icy_advance(struct tower_icy *icy, const struct tower_icy_woven *woven, size_t sent) {
    size_t stream_bytes = 0;
    for (int i = 0; i < woven->n_pieces && sent > 0; i++) {
        size_t piece_bytes = woven->pieces[i].iov_len;
        size_t n = sent < piece_bytes ? sent : piece_bytes;
        const struct tower_icy_block *block = &woven->blocks[i];
        sent -= n;
        if (block->bytes == 0) {
            stream_bytes += n;
            icy->until_block = (uint16_t)(icy->until_block - n);
            continue;
        }
        icy->told = block->title;
        icy->block_bytes = block->bytes;
        icy->block_sent = (uint16_t)(icy->block_sent + n);
        if (icy->block_sent == icy->block_bytes) {
            icy->block_sent = 0;
            icy->until_block = TOWER_ICY_METAINT;
        }
    }
    return stream_bytes;
}

bool tower_icy_is_sound(const struct tower_icy *icy) {
    if (icy->block_sent == 0)
        return icy->until_block <= TOWER_ICY_METAINT;
    return icy->until_block == 0 && icy->block_sent < icy->block_bytes &&
           icy->block_bytes <= TOWER_ICY_BLOCK_BYTES_MAX && icy->block_bytes % BLOCK_UNIT == 1;
}

uint64_t tower_icy_pass(struct tower_icy *icy, const struct tower_titles *titles, uint64_t cursor,
                        uint64_t bytes) {
    /* In place of the stream: what is woven depends on where it is, not on what it says. */
    static uint8_t stream[TOWER_ICY_METAINT];
    struct iovec piece = {.iov_base = stream, .iov_len = sizeof stream};
    struct tower_icy_woven woven;
    uint64_t stream_bytes = 0;
    while (bytes > 0) {
        tower_icy_weave(icy, titles, cursor + stream_bytes, &piece, 1, &woven);
        size_t n = bytes < woven.bytes ? (size_t)bytes : woven.bytes;
        stream_bytes += tower_icy_advance(icy, &woven, n);
        bytes -= n;
    }
    return stream_bytes;
}
