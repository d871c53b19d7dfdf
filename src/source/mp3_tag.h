/* mp3_tag.h - does an MP3 file say how long it is? */
#ifndef TOWER_SOURCE_MP3_TAG_H
#define TOWER_SOURCE_MP3_TAG_H

#include <stdbool.h>

/* True if the first MPEG frame of the file at `fd` is a Xing, Info or VBRI tag, which holds the
 * length. Reads with pread(): the descriptor's position stays. False where that can't be told. */
bool tower_mp3_tag_is_there(int fd);

#endif
