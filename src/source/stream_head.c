/* stream_head.c - the heads of streams. What is Ogg's is in ogg_pages.c. */
#include "stream_head.h"

#include "flac_pages.h"
#include "ogg_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MATROSKA_CLUSTER_BYTES 4
#define OGG_BEGIN 'O' /* of its first page; FLAC begins with fLaC, or with ID3 */

struct tower_stream_head {
    enum tower_stream_kind kind; /* constant */
    bool is_whole;

    struct tower_ogg_pages *ogg; /* NULL: it is not Ogg, nor made so */

    struct tower_flac_pages *flac; /* NULL: it is not FLAC without Ogg */
    bool has_begun;                /* that it is so is known by its first byte */
    const uint8_t *page;           /* made of it, and what of that is not taken up yet */
    size_t page_left;

    /* Of Matroska all that is before the first cluster. */
    uint8_t *kept;
    size_t kept_bytes;
};

static const uint8_t matroska_cluster[MATROSKA_CLUSTER_BYTES] = {0x1f, 0x43, 0xb6, 0x75};

int tower_stream_head_new(enum tower_stream_kind kind, struct tower_stream_head **ret_head) {
    struct tower_stream_head *head = calloc(1, sizeof *head);
    if (!head)
        return -ENOMEM;
    head->kind = kind;
    head->is_whole = kind == TOWER_STREAM_PLAIN;
    bool is_made = true;
    if (kind == TOWER_STREAM_OGG || kind == TOWER_STREAM_FLAC)
        is_made = tower_ogg_pages_new(&head->ogg) == 0;
    if (kind == TOWER_STREAM_FLAC)
        is_made = is_made && tower_flac_pages_new(&head->flac) == 0;
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
    tower_flac_pages_free(head->flac);
    free(head->kept);
    free(head);
}

/* ---- FLAC ---- */

/* Some call that FLAC which is in Ogg already. */
static void begin_flac(struct tower_stream_head *head, uint8_t first) {
    head->has_begun = true;
    if (first == OGG_BEGIN) {
        tower_flac_pages_free(head->flac);
        head->flac = NULL;
    }
}

static int take_flac(struct tower_stream_head *head, const uint8_t **at, size_t *left,
                     struct tower_stream_piece *ret_piece) {
    for (;;) {
        int result = tower_ogg_pages_take(head->ogg, &head->page, &head->page_left, ret_piece);
        if (result == 0)
            result = tower_flac_pages_take(head->flac, at, left, &head->page, &head->page_left);
        else
            return result;
        if (result <= 0)
            return result;
    }
}

/* ---- Matroska ---- */

static size_t take_matroska(struct tower_stream_head *head, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (head->kept_bytes == TOWER_STREAM_HEAD_BYTES_MAX) {
            /* What is damaged is the decoder's to judge. */
            head->is_whole = true;
            head->kept_bytes = 0;
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
    if (head->flac && !head->has_begun && *left > 0)
        begin_flac(head, **at);
    if (head->flac)
        return take_flac(head, at, left, ret_piece);
    if (head->ogg)
        return tower_ogg_pages_take(head->ogg, at, left, ret_piece);
    if (*left == 0)
        return 0;
    bool was_whole = head->is_whole;
    size_t bytes = *left;
    if (!was_whole)
        bytes = take_matroska(head, *at, *left);
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
    *ret_bytes = head->kept_bytes;
    return head->kept;
}

char *tower_stream_head_title(const struct tower_stream_head *head) {
    return head->ogg ? tower_ogg_pages_title(head->ogg) : NULL;
}
