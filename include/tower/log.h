/* log.h - the log: lines to stderr, formatted and written by a thread of its own.
 *
 * A caller only puts a record into a preallocated ring; when the ring is full the record is dropped
 * and counted, and the writer says how many. Nobody ever waits for a slow stderr.
 */
#ifndef TOWER_LOG_H
#define TOWER_LOG_H

#include <stdint.h>

enum tower_log_level { TOWER_LOG_ERROR, TOWER_LOG_WARNING, TOWER_LOG_INFO, TOWER_LOG_DEBUG };

/* Start the writer; lines below `level` are not recorded. Before the start, and after the stop,
 * lines are written at once by the caller, or dropped where stderr would make it wait. Errors:
 * -EALREADY, -ENOMEM, -EAGAIN (no thread). */
int tower_log_start(enum tower_log_level level);

/* Write out what is queued and stop the writer. Does nothing if it does not run. */
void tower_log_stop(void);

void tower_log_set_level(enum tower_log_level level);

/* "error", "warning", "info", "debug" to a level. Errors: -EINVAL for any other word. */
int tower_log_level_parse(const char *word, enum tower_log_level *ret_level);
const char *tower_log_level_name(enum tower_log_level level);

/* Log a line. `room` is the part that speaks ("http", "ingest"). Any thread but the pump's and the
 * fan-out's; formats here, does not wait. Lines longer than 400 bytes are cut. No secrets. */
void tower_log(enum tower_log_level level, const char *room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Log a line from a thread that may not format: `room` and `format` must be string literals, and
 * `format` takes up to four `%lld`, filled in by the writer thread. No lock, no allocation. Without
 * a writer the line is dropped and counted. */
void tower_log_deferred(enum tower_log_level level, const char *room, const char *format, int64_t a,
                        int64_t b, int64_t c, int64_t d);

/* Lines lost since the start: the ring was full, or stderr did not take them (a full disk). */
uint64_t tower_log_dropped(void);

#endif
