/* journal_file.c - one line, one write; two files at most. */
#include "journal_file.h"

#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int open_file(struct tower_journal_file *file) {
    /* Not waiting, or a named pipe in its place would hold us here. */
    int fd =
        open(file->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd < 0)
        return -errno;
    struct stat stat;
    if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode)) {
        tower_fd_close(&fd);
        return -EINVAL;
    }
    char last = '\n';
    if (stat.st_size > 0 && pread(fd, &last, 1, stat.st_size - 1) != 1)
        last = '\0';
    file->fd = fd;
    file->is_torn = last != '\n';
    return 0;
}

int tower_journal_file_open(struct tower_journal_file *file, const char *path, uint64_t max_bytes) {
    if (strlen(path) >= sizeof file->path)
        return -ENAMETOOLONG;
    *file = (struct tower_journal_file){.max_bytes = max_bytes, .fd = -1};
    (void)snprintf(file->path, sizeof file->path, "%s", path);
    (void)snprintf(file->old_path, sizeof file->old_path, "%s.1", path);
    return open_file(file);
}

void tower_journal_file_close(struct tower_journal_file *file) {
    tower_fd_close(&file->fd);
}

/* Is what we write to still what is found under its name? */
static bool is_in_place(const struct tower_journal_file *file, const struct stat *ours) {
    struct stat named;
    return stat(file->path, &named) == 0 && named.st_dev == ours->st_dev &&
           named.st_ino == ours->st_ino;
}

int tower_journal_file_append(struct tower_journal_file *file, const char *line, size_t bytes) {
    struct stat stat;
    if (file->fd >= 0 && (fstat(file->fd, &stat) < 0 || !is_in_place(file, &stat)))
        tower_fd_close(&file->fd);
    int error = file->fd < 0 ? open_file(file) : 0;
    if (error < 0)
        return error;
    if (fstat(file->fd, &stat) < 0)
        return -errno;
    uint64_t size = (uint64_t)stat.st_size;
    if (size > 0 && size + bytes + 1 > file->max_bytes) {
        /* Where that is refused nothing more is written: it must not grow without end. */
        if (rename(file->path, file->old_path) < 0)
            return -errno;
        tower_fd_close(&file->fd);
        error = open_file(file);
        if (error < 0)
            return error;
    }
    char newline = '\n';
    struct iovec pieces[] = {{&newline, 1}, {(void *)(uintptr_t)line, bytes}};
    size_t whole = bytes + (file->is_torn ? 1 : 0);
    ssize_t n = file->is_torn ? writev(file->fd, pieces, 2) : write(file->fd, line, bytes);
    if (n < 0)
        return -errno;
    /* What was taken of a line is left as it is: another process may have written behind it. */
    file->is_torn = (size_t)n != whole;
    return file->is_torn ? -ENOSPC : 0;
}
