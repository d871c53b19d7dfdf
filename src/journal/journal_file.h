/* journal_file.h - a file of lines that is bounded, and whole whatever became of its last writer.
 *
 * Owned by one thread, which may wait for the disk.
 */
#ifndef TOWER_JOURNAL_JOURNAL_FILE_H
#define TOWER_JOURNAL_JOURNAL_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tower_journal_file {
    char path[PATH_MAX];
    char old_path[PATH_MAX + 2]; /* path with ".1" */
    uint64_t max_bytes;
    int fd;       /* -1: to be opened anew */
    bool is_torn; /* its last line has no end */
};

/* Open or make it. Errors: -EINVAL (no regular file), -ENAMETOOLONG, or what open() says. */
int tower_journal_file_open(struct tower_journal_file *file, const char *path, uint64_t max_bytes);
void tower_journal_file_close(struct tower_journal_file *file);

/* Write `line`, whose last byte is its newline, in one piece. First the file becomes PATH.1 if it
 * would grow beyond its size, and is opened anew if it was moved away. Errors: -ENOSPC, also where
 * only a part of the line was taken, or what else the disk says; try again with the next line. */
int tower_journal_file_append(struct tower_journal_file *file, const char *line, size_t bytes);

#endif
