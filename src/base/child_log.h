/* child_log.h - what a child writes to stderr, line by line into our log, never too much of it. */
#ifndef TOWER_BASE_CHILD_LOG_H
#define TOWER_BASE_CHILD_LOG_H

#include <stddef.h>
#include <stdint.h>

#define TOWER_CHILD_LOG_LINE_BYTES 240

struct tower_child_log {
    const char *room;          /* constant; whose child it is */
    const char *name;          /* constant; who speaks */
    uint32_t lines_max;        /* constant; in a window */
    int64_t window_start_ns;   /* lines are counted from here on */
    uint32_t window_lines;     /* logged in this window */
    uint64_t suppressed_lines; /* since one was last logged */
    size_t line_bytes;         /* of `line` */
    char line[TOWER_CHILD_LOG_LINE_BYTES + 1];
};

/* `room` and `name` are borrowed. At most `lines_max` lines in 10 s are logged. */
void tower_child_log_init(struct tower_child_log *log, const char *room, const char *name,
                          uint32_t lines_max);

/* Take bytes as they come; each whole line is logged as a warning of the room, cut to
 * TOWER_CHILD_LOG_LINE_BYTES; lines beyond `lines_max` are counted and the count logged. */
void tower_child_log_take(struct tower_child_log *log, int64_t now_ns, const char *data,
                          size_t bytes);

/* Log a last line that had no end. */
void tower_child_log_flush(struct tower_child_log *log, int64_t now_ns);

#endif
