/* captured_log.h - what is logged while a test looks: the log's writer runs, and stderr goes into
 * memory.
 */
#ifndef TOWER_TESTS_CAPTURED_LOG_H
#define TOWER_TESTS_CAPTURED_LOG_H

#include "tower/log.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct captured_log {
    int stderr_fd; /* the real one, kept */
    int memory_fd;
};

static inline bool captured_log_begin(struct captured_log *captured) {
    fflush(stderr);
    captured->stderr_fd = dup(STDERR_FILENO);
    captured->memory_fd = memfd_create("stderr", MFD_CLOEXEC);
    return captured->stderr_fd >= 0 && captured->memory_fd >= 0 &&
           dup2(captured->memory_fd, STDERR_FILENO) >= 0 && tower_log_start(TOWER_LOG_WARNING) == 0;
}

/* Stop the log, put the real stderr back; the text that was written, ended with a zero, in
 * `ret_text`. */
static inline void captured_log_end(struct captured_log *captured, char *ret_text,
                                    size_t text_bytes) {
    ssize_t n_bytes;

    tower_log_stop();
    fflush(stderr);
    n_bytes = pread(captured->memory_fd, ret_text, text_bytes - 1, 0);
    ret_text[n_bytes > 0 ? n_bytes : 0] = '\0';
    dup2(captured->stderr_fd, STDERR_FILENO);
    close(captured->stderr_fd);
    close(captured->memory_fd);
}

#endif
