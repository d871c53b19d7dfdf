/* ogg_pages.h - Ogg (RFC 3533) cut into pages; the pages that a link of the chain begins with; and
 * packets written as pages. */
#ifndef TOWER_SOURCE_OGG_PAGES_H
#define TOWER_SOURCE_OGG_PAGES_H

#include "stream_head.h"

struct tower_ogg_pages;

/* What these do is said of those of tower_stream_head_new() and so on. */
int tower_ogg_pages_new(struct tower_ogg_pages **ret_pages);
void tower_ogg_pages_free(struct tower_ogg_pages *pages);
int tower_ogg_pages_take(struct tower_ogg_pages *pages, const uint8_t **at, size_t *left,
                         struct tower_stream_piece *ret_piece);
const uint8_t *tower_ogg_pages_head(const struct tower_ogg_pages *pages, size_t *ret_bytes);
char *tower_ogg_pages_title(const struct tower_ogg_pages *pages);

/* A packet of a stream of its own, a page or more for it alone. For each packet fill in the second
 * group; the first one stays. */
struct tower_ogg_packet {
    uint32_t serial;
    uint32_t n_pages;   /* written so far */
    bool begins_stream; /* it is the first: with its first page this is over */
    bool is_continued;  /* part of it has been written */

    const uint8_t *data; /* not yet written, as many bytes as follow */
    size_t left_bytes;
    uint64_t position; /* at its end, as its codec counts */
    bool is_whole;     /* to be false; true with its last page */
};

/* Write the next page, of at most TOWER_STREAM_PAGE_BYTES_MAX bytes, and return how long it is.
 * Pure. */
size_t tower_ogg_packet_write(struct tower_ogg_packet *packet, uint8_t *ret_page);

#endif
