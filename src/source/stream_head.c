/* stream_head.c - the heads of streams. What is Ogg's is in ogg_pages.c. */
#include "stream_head.h"

#include "ogg_pages.h"
#include "vorbis_comment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAC_MAGIC "fLaC"
#define FLAC_MAGIC_BYTES 4
#define FLAC_BLOCK_BYTES 4 /* of the head of a block */
#define FLAC_INFO_BYTES 34
#define FLAC_LAST_BLOCK 0x80
#define FLAC_COMMENT_BYTES_MAX 65536
#define MATROSKA_CLUSTER_BYTES 4

enum flac_block { FLAC_INFO = 0, FLAC_COMMENT = 4 };

struct tower_stream_head {
    enum tower_stream_kind kind; /* constant */
    bool is_whole;

    struct tower_ogg_pages *ogg; /* NULL: it is not Ogg */

    /* Of FLAC the shortest head that does: all but the description is left out. Of Matroska all
     * that is before the first cluster. */
    uint8_t *kept;
    size_t kept_bytes;

    /* FLAC: the magic and a block's head as they come, then the block. */
    uint8_t mark[FLAC_MAGIC_BYTES];
    size_t mark_bytes;
    bool has_magic;
    size_t block_left;
    bool is_block_kept;
    bool is_last_block;
    uint8_t *comment;
    size_t comment_bytes;
};

static const uint8_t matroska_cluster[MATROSKA_CLUSTER_BYTES] = {0x1f, 0x43, 0xb6, 0x75};

int tower_stream_head_new(enum tower_stream_kind kind, struct tower_stream_head **ret_head) {
    struct tower_stream_head *head = calloc(1, sizeof *head);
    if (!head)
        return -ENOMEM;
    head->kind = kind;
    head->is_whole = kind == TOWER_STREAM_PLAIN;
    bool is_made = true;
    if (kind == TOWER_STREAM_OGG)
        is_made = tower_ogg_pages_new(&head->ogg) == 0;
    if (kind == TOWER_STREAM_FLAC) {
        head->kept = malloc(FLAC_MAGIC_BYTES + FLAC_BLOCK_BYTES + FLAC_INFO_BYTES);
        head->comment = malloc(FLAC_COMMENT_BYTES_MAX);
        is_made = head->kept && head->comment;
    }
    if (kind == TOWER_STREAM_MATROSKA) {
        head->kept = malloc(TOWER_STREAM_HEAD_BYTES_MAX);
        is_made = head->kept != NULL;
    }
    if (!is_made) {
        tower_stream_head_free(head);
        return -ENOMEM;
    }
    *ret_head = head;
    return 0;
}

void tower_stream_head_free(struct tower_stream_head *head) {
    if (!head)
        return;
    tower_ogg_pages_free(head->ogg);
    free(head->kept);
    free(head->comment);
    free(head);
}

/* ---- FLAC ---- */

/* What is no FLAC, or is damaged, is the decoder's to judge. */
static void give_up(struct tower_stream_head *head) {
    head->is_whole = true;
    head->kept_bytes = 0;
    head->comment_bytes = 0;
}

static void begin_flac_block(struct tower_stream_head *head) {
    unsigned type = head->mark[0] & ~(unsigned)FLAC_LAST_BLOCK;
    head->is_last_block = (head->mark[0] & FLAC_LAST_BLOCK) != 0;
    head->block_left = (size_t)head->mark[1] << 16 | (size_t)head->mark[2] << 8 | head->mark[3];
    head->is_block_kept = false;
    if (type == FLAC_COMMENT) {
        head->comment_bytes = 0;
        head->is_block_kept = true;
    }
    if (type == FLAC_INFO && head->kept_bytes == FLAC_MAGIC_BYTES) {
        if (head->block_left != FLAC_INFO_BYTES) {
            give_up(head);
            return;
        }
        head->mark[0] = FLAC_INFO | FLAC_LAST_BLOCK;
        memcpy(head->kept + head->kept_bytes, head->mark, FLAC_BLOCK_BYTES);
        head->kept_bytes += FLAC_BLOCK_BYTES;
        head->is_block_kept = true;
    }
}

/* Of the block at hand: the description follows its own head in `kept`, comments are by themselves.
 */
static void take_flac_block(struct tower_stream_head *head, const uint8_t *data, size_t bytes) {
    size_t whole = FLAC_MAGIC_BYTES + FLAC_BLOCK_BYTES + FLAC_INFO_BYTES;
    if (!head->is_block_kept)
        return;
    if (head->kept_bytes < whole && head->kept_bytes > FLAC_MAGIC_BYTES) {
        memcpy(head->kept + head->kept_bytes, data, bytes);
        head->kept_bytes += bytes;
        return;
    }
    size_t room = FLAC_COMMENT_BYTES_MAX - head->comment_bytes;
    size_t n = bytes < room ? bytes : room;
    memcpy(head->comment + head->comment_bytes, data, n);
    head->comment_bytes += n;
}

static void end_flac_mark(struct tower_stream_head *head) {
    head->mark_bytes = 0;
    if (head->has_magic) {
        begin_flac_block(head);
        return;
    }
    if (memcmp(head->mark, FLAC_MAGIC, FLAC_MAGIC_BYTES) != 0) {
        give_up(head);
        return;
    }
    head->has_magic = true;
    memcpy(head->kept, head->mark, FLAC_MAGIC_BYTES);
    head->kept_bytes = FLAC_MAGIC_BYTES;
}

/* Returns how many of the bytes are the head's. */
static size_t take_flac(struct tower_stream_head *head, const uint8_t *data, size_t bytes) {
    size_t taken = 0;
    while (taken < bytes && !head->is_whole) {
        size_t left = bytes - taken;
        if (head->block_left > 0) {
            size_t n = left < head->block_left ? left : head->block_left;
            take_flac_block(head, data + taken, n);
            head->block_left -= n;
            taken += n;
        } else {
            head->mark[head->mark_bytes++] = data[taken++];
            if (head->mark_bytes < sizeof head->mark)
                continue;
            end_flac_mark(head);
        }
        if (head->has_magic && head->mark_bytes == 0 && head->block_left == 0 &&
            head->is_last_block)
            head->is_whole = true;
    }
    return taken;
}

/* ---- Matroska ---- */

static size_t take_matroska(struct tower_stream_head *head, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (head->kept_bytes == TOWER_STREAM_HEAD_BYTES_MAX) {
            give_up(head);
            return i;
        }
        head->kept[head->kept_bytes++] = data[i];
        if (head->kept_bytes >= MATROSKA_CLUSTER_BYTES &&
            memcmp(head->kept + head->kept_bytes - MATROSKA_CLUSTER_BYTES, matroska_cluster,
                   MATROSKA_CLUSTER_BYTES) == 0) {
            head->kept_bytes -= MATROSKA_CLUSTER_BYTES;
            head->is_whole = true;
            return i + 1;
        }
    }
    return bytes;
}

/* ---- all ---- */

int tower_stream_head_take(struct tower_stream_head *head, const uint8_t **at, size_t *left,
                           struct tower_stream_piece *ret_piece) {
    if (head->ogg)
        return tower_ogg_pages_take(head->ogg, at, left, ret_piece);
    if (*left == 0)
        return 0;
    bool was_whole = head->is_whole;
    size_t bytes = *left;
    if (!was_whole)
        bytes = head->kind == TOWER_STREAM_FLAC ? take_flac(head, *at, *left)
                                                : take_matroska(head, *at, *left);
    *ret_piece = (struct tower_stream_piece){
        .data = *at,
        .bytes = bytes,
        .is_head = !was_whole,
        .ends_head = !was_whole && head->is_whole,
    };
    *at += bytes;
    *left -= bytes;
    /* A head that proved too long at once. */
    return bytes > 0 ? 1 : tower_stream_head_take(head, at, left, ret_piece);
}

const uint8_t *tower_stream_head_get(const struct tower_stream_head *head, size_t *ret_bytes) {
    if (head->ogg)
        return tower_ogg_pages_head(head->ogg, ret_bytes);
    /* Of FLAC half a head is none: what is left out is not missing only behind all of it. */
    *ret_bytes = head->is_whole || head->kind != TOWER_STREAM_FLAC ? head->kept_bytes : 0;
    return head->kept;
}

char *tower_stream_head_title(const struct tower_stream_head *head) {
    if (head->ogg)
        return tower_ogg_pages_title(head->ogg);
    return head->is_whole && head->comment_bytes > 0
               ? tower_vorbis_comment_title(head->comment, head->comment_bytes)
               : NULL;
}
