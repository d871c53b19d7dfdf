/* child_log.c - a child's stderr, line by line. */
#include "child_log.h"

#include "tower/format.h"
#include "tower/log.h"

#include <inttypes.h>

#define WINDOW_NS (10 * TOWER_NS_PER_S)

void tower_child_log_init(struct tower_child_log *log, const char *room, const char *name,
                          uint32_t lines_max) {
    *log = (struct tower_child_log){
        .room = room, .name = name, .lines_max = lines_max, .window_start_ns = INT64_MIN / 2};
}

void tower_child_log_flush(struct tower_child_log *log, int64_t now_ns) {
    size_t bytes = log->line_bytes;
    log->line_bytes = 0;
    if (bytes == 0)
        return;
    log->line[bytes] = '\0';
    if (now_ns - log->window_start_ns >= WINDOW_NS) {
        log->window_start_ns = now_ns;
        log->window_lines = 0;
        if (log->suppressed_lines > 0)
            tower_log(TOWER_LOG_WARNING, log->room, "%s wrote %" PRIu64 " more lines, not logged",
                      log->name, log->suppressed_lines);
        log->suppressed_lines = 0;
    }
    if (log->window_lines >= log->lines_max) {
        log->suppressed_lines++;
        return;
    }
    log->window_lines++;
    tower_log(TOWER_LOG_WARNING, log->room, "%s says: %s", log->name, log->line);
}

void tower_child_log_take(struct tower_child_log *log, int64_t now_ns, const char *data,
                          size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        char c = data[i];
        if (c == '\n' || c == '\r') {
            tower_child_log_flush(log, now_ns);
        } else if (log->line_bytes < TOWER_CHILD_LOG_LINE_BYTES) {
            /* A log is read on terminals; a child must not be able to steer them. */
            log->line[log->line_bytes++] = (unsigned char)c < ' ' || c == 0x7f ? '?' : c;
        }
    }
}
