/* vorbis_comment.h - what is playing, by the comments that Ogg and FLAC streams hold. */
#ifndef TOWER_SOURCE_VORBIS_COMMENT_H
#define TOWER_SOURCE_VORBIS_COMMENT_H

#include <stddef.h>
#include <stdint.h>

/* What `comment`, from its vendor's length on, says: "artist - title", or the title alone, on the
 * heap, UTF-8, at most TOWER_TITLE_BYTES_MAX. What is damaged or cut off counts up to there. NULL:
 * there is no title in it (or no memory). */
char *tower_vorbis_comment_title(const uint8_t *comment, size_t bytes);

#endif
