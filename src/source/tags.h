/* tags.h - who and what a file says it is. */
#ifndef TOWER_SOURCE_TAGS_H
#define TOWER_SOURCE_TAGS_H

#include "tower/clock.h"

/* On the heap, UTF-8; NULL where not known. */
struct tower_tags {
    char *artist;
    char *title;
};

/* A copy of `text` on the heap, without spaces and control characters at its ends. What is not
 * UTF-8 is taken for Latin-1, which old files are in. NULL where nothing is left, or there is no
 * memory. */
char *tower_tag_new(const char *text);

/* Let go of the tags; they are not known then. */
void tower_tags_done(struct tower_tags *tags);

/* Have a child of `ffmpeg`, the program, say the tags of the file at `path`, and fill in those that
 * are not known yet. Blocks for that: a tenth of a second, or with a child that hangs
 * TOWER_TAGS_NS, on `clock`. Where it fails what is known stays. */
void tower_tags_ask_ffmpeg(struct tower_tags *tags, struct tower_clock *clock, const char *ffmpeg,
                           const char *path);

#endif
