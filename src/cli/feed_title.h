/* feed_title.h - what `tower feed` says is playing. */
#ifndef TOWER_CLI_FEED_TITLE_H
#define TOWER_CLI_FEED_TITLE_H

#include "feed_options.h"

/* The title as the options give it; of a file at `path` else what its tags say, "Artist - Title" or
 * the title alone, or else the file's name without its folder and its ending. `path` NULL: it is no
 * file; `artist` and `file_title` NULL: not known. UTF-8, on the heap, in `*ret_title`; NULL there
 * if nothing is to be said. Errors: -ENOMEM. */
int tower_feed_title_new(const struct tower_feed_options *options, const char *path,
                         const char *artist, const char *file_title, char **ret_title);

#endif
