/* log.c - what the parts log, in log.h's place: it is counted, and what is said of ffmpeg is read.
 */
#include "tower/log.h"

#include "world.h"

#include <stdarg.h>
#include <stdio.h>

void tower_log(enum tower_log_level level, const char *room, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim_logged(level, room, text);
}

void tower_log_deferred(enum tower_log_level level, const char *room, const char *format, int64_t a,
                        int64_t b, int64_t c, int64_t d) {
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    sim_logged(level, room, format);
}
