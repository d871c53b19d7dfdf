/* ogg_pages.h - Ogg (RFC 3533) cut into pages; the pages that a link of the chain begins with. */
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

#endif
