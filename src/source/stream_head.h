/* stream_head.h - an encoded stream cut where a decoder may begin with it, and what such a decoder
 * must be given first.
 *
 * A decoder that is started in the middle of an Ogg or Matroska stream makes nothing of it without
 * the stream's head. An Ogg stream may be a chain of streams, one behind the other (RFC 3533,
 * section 4), as of songs: each link of it has a head of its own. FLAC is made Ogg.
 */
#ifndef TOWER_SOURCE_STREAM_HEAD_H
#define TOWER_SOURCE_STREAM_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a head that is kept; one that is longer, as with a large picture in it, is not. */
#define TOWER_STREAM_HEAD_BYTES_MAX (256 * 1024)
/* Of a piece of Ogg, which is a page. */
#define TOWER_STREAM_PAGE_BYTES_MAX 65307

enum tower_stream_kind {
    TOWER_STREAM_PLAIN, /* has no head: MP3, AAC */
    TOWER_STREAM_OGG,
    TOWER_STREAM_FLAC, /* without Ogg around it: all that comes of it is Ogg */
    TOWER_STREAM_MATROSKA,
};

/* Part of a stream, to be given to a decoder as a whole. */
struct tower_stream_piece {
    const uint8_t *data; /* until the next tower_stream_head_take() */
    size_t bytes;
    bool is_head;       /* no sound is in it */
    bool begins_link;   /* of a chain, not the first: all before belongs to another stream */
    bool changes_codec; /* and this one takes another decoder */
    bool ends_head;     /* the head is whole with it: tower_stream_head_title() can tell */
};

struct tower_stream_head;

/* Errors: -ENOMEM. */
int tower_stream_head_new(enum tower_stream_kind kind, struct tower_stream_head **ret_head);
void tower_stream_head_free(struct tower_stream_head *head);

/* Take some of the `*left` bytes at `*at`, which are moved on. Returns 1 with a piece: of Ogg a
 * whole page, of FLAC a page made of it, of the others what there is. 0: all was taken, and no page
 * is whole. Bytes between pages or frames are passed over, and so are empty packets that end a
 * stream. Errors: -EPROTO (in TOWER_STREAM_PAGE_BYTES_MAX bytes there is no page of Ogg, or no head
 * of FLAC, or what comes of FLAC makes far too much work), -ENOMEM (for a frame of FLAC). */
int tower_stream_head_take(struct tower_stream_head *head, const uint8_t **at, size_t *left,
                           struct tower_stream_piece *ret_piece);

/* What a decoder that is started now must be given before the next piece: `*ret_bytes` bytes, 0 if
 * there is nothing to give. Valid until the next tower_stream_head_take(). */
const uint8_t *tower_stream_head_get(const struct tower_stream_head *head, size_t *ret_bytes);

/* The title that the head says, on the heap; NULL: it says none, or it is not whole yet. */
char *tower_stream_head_title(const struct tower_stream_head *head);

#endif
