/* loudness_cache.h - how loud files were found to be, kept in a file for the next time. */
#ifndef TOWER_SOURCE_LOUDNESS_CACHE_H
#define TOWER_SOURCE_LOUDNESS_CACHE_H

#include <stddef.h>

/* The oldest go first. */
#define TOWER_LOUDNESS_CACHE_ENTRIES_MAX 10000

struct tower_loudness {
    double lufs;      /* integrated, EBU R128; -HUGE_VAL: nothing loud enough to be measured */
    double peak_dbfs; /* the largest true peak; -HUGE_VAL: silence */
};

/* $XDG_CACHE_HOME/tower/loudness or ~/.cache/tower/loudness, on the heap; NULL: there is neither.
 */
char *tower_loudness_cache_path(void);

/* What the cache in the file `cache` says of the file at `path`, if that has the size and the time
 * of change that it had then. Blocks for the disk. Lines that are damaged are passed over.
 * Errors: -ENOENT (nothing), or whatever open() or stat() says. */
int tower_loudness_cache_find(const char *cache, const char *path,
                              struct tower_loudness *ret_loudness);

/* Remember it. The file is replaced as a whole, so that a reader finds the old or the new; its
 * folder is made. Blocks for the disk. Errors: what open(), write() and rename() say; -ENOMEM;
 * -EINVAL (a path with a line break in it is not kept). */
int tower_loudness_cache_store(const char *cache, const char *path,
                               const struct tower_loudness *loudness);

#endif
