/* log.c - a ring of records that any thread fills and one thread writes to stderr. */
#include "tower/log.h"

#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define RECORDS 256 /* a power of two */
#define TEXT_BYTES 401
#define STOP_LIMIT_NS INT64_C(1000000000)

struct record {
    /* Position in the order of all records that this slot is ready for: `position` when it may be
     * filled, `position + 1` when it may be written out. */
    _Atomic uint64_t turn;
    enum tower_log_level level;
    const char *room;
    const char *format; /* of a deferred line; NULL: `text` is the line */
    int64_t values[4];
    struct timespec when;
    char text[TEXT_BYTES];
};

static struct {
    _Atomic int level;
    _Atomic bool is_running;
    _Atomic bool is_stopping;
    _Atomic uint64_t next_in;
    _Atomic uint64_t dropped;
    _Atomic uint64_t unwritten;
    /* Owned by the writer. */
    uint64_t next_out;
    uint64_t told_unwritten;
    int write_error; /* of the last line that was not written */
    bool is_torn;    /* a part of it was */
    pthread_t writer;
    sem_t queued;
    struct record records[RECORDS];
} logger = {.level = TOWER_LOG_INFO};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

int tower_log_level_parse(const char *word, enum tower_log_level *ret_level) {
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcasecmp(word, level_names[i]) == 0) {
            *ret_level = (enum tower_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *tower_log_level_name(enum tower_log_level level) {
    return (unsigned)level <= TOWER_LOG_DEBUG ? level_names[level] : "unknown";
}

void tower_log_set_level(enum tower_log_level level) {
    atomic_store(&logger.level, (int)level);
}

uint64_t tower_log_dropped(void) {
    return atomic_load(&logger.dropped) + atomic_load(&logger.unwritten);
}

/* By the wall clock: a log is read beside other programs' logs. Errors: what write() says, -ENOSPC
 * if it took a part. */
static int write_line(enum tower_log_level level, const char *room, const char *text,
                      const struct timespec *when, bool *is_torn) {
    struct tm utc;
    char stamp[32] = "";
    if (gmtime_r(&when->tv_sec, &utc))
        (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    char line[TEXT_BYTES + 128];
    (void)snprintf(line, sizeof line, "%s%s.%03ldZ %-7s %s: %s\n", *is_torn ? "\n" : "", stamp,
                   when->tv_nsec / 1000000, tower_log_level_name(level), room, text);
    ssize_t n = write(STDERR_FILENO, line, strlen(line));
    if (n < 0)
        return -errno;
    *is_torn = (size_t)n != strlen(line);
    return *is_torn ? -ENOSPC : 0;
}

static int write_record(struct record *record, bool *is_torn) {
    if (record->format) {
        /* tower_log_deferred() promises a literal with up to four %lld. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(record->text, sizeof record->text, record->format,
                       (long long)record->values[0], (long long)record->values[1],
                       (long long)record->values[2], (long long)record->values[3]);
#pragma GCC diagnostic pop
    }
    return write_line(record->level, record->room, record->text, &record->when, is_torn);
}

/* The writer has a line for itself to say. */
static void say(const char *text) {
    struct timespec when;
    (void)clock_gettime(CLOCK_REALTIME, &when);
    (void)write_line(TOWER_LOG_WARNING, "log", text, &when, &logger.is_torn);
}

/* A full disk loses lines, and nothing else; that is said as soon as there is room. */
static void note_written(int error) {
    char text[128];
    uint64_t unwritten = atomic_load(&logger.unwritten);
    if (error < 0) {
        logger.write_error = error;
        atomic_store(&logger.unwritten, unwritten + 1);
    } else if (unwritten != logger.told_unwritten) {
        (void)snprintf(text, sizeof text, "%llu lines before this one could not be written: %s",
                       (unsigned long long)(unwritten - logger.told_unwritten),
                       strerror(-logger.write_error));
        logger.told_unwritten = unwritten;
        say(text);
    }
}

static void write_queued(uint64_t *told_dropped) {
    for (;;) {
        struct record *record = &logger.records[logger.next_out % RECORDS];
        if (atomic_load_explicit(&record->turn, memory_order_acquire) != logger.next_out + 1)
            break;
        note_written(write_record(record, &logger.is_torn));
        atomic_store_explicit(&record->turn, logger.next_out + RECORDS, memory_order_release);
        logger.next_out++;
    }
    uint64_t dropped = atomic_load(&logger.dropped);
    if (dropped != *told_dropped) {
        char text[64];
        (void)snprintf(text, sizeof text, "%llu lines were lost: stderr is too slow",
                       (unsigned long long)(dropped - *told_dropped));
        say(text);
        *told_dropped = dropped;
    }
}

static void *run_writer(void *arg) {
    (void)arg;
    uint64_t told_dropped = atomic_load(&logger.dropped);
    do {
        while (sem_wait(&logger.queued) < 0 && errno == EINTR)
            ;
        write_queued(&told_dropped);
    } while (!atomic_load(&logger.is_stopping));
    write_queued(&told_dropped);
    return NULL;
}

int tower_log_start(enum tower_log_level level) {
    if (atomic_load(&logger.is_running))
        return -EALREADY;
    tower_log_set_level(level);
    atomic_store(&logger.is_stopping, false);
    atomic_store(&logger.next_in, 0);
    logger.next_out = 0;
    for (uint64_t i = 0; i < RECORDS; i++)
        atomic_store(&logger.records[i].turn, i);
    if (sem_init(&logger.queued, 0, 0) < 0)
        return -errno;
    int error = tower_thread_start(&logger.writer, "log", run_writer, NULL);
    if (error < 0) {
        (void)sem_destroy(&logger.queued);
        return error;
    }
    atomic_store(&logger.is_running, true);
    return 0;
}

void tower_log_stop(void) {
    if (!atomic_exchange(&logger.is_running, false))
        return;
    atomic_store(&logger.is_stopping, true);
    (void)sem_post(&logger.queued);
    /* A stderr that nobody reads must not keep the program from ending. */
    if (tower_thread_join_within(logger.writer, STOP_LIMIT_NS) < 0)
        (void)pthread_detach(logger.writer);
    /* The semaphore stays: a thread that is still logging may be about to post it. */
}

/* Take a slot, or NULL where none is free; `ret_position` goes to publish_record(). */
static struct record *claim_record(uint64_t *ret_position) {
    uint64_t position = atomic_load_explicit(&logger.next_in, memory_order_relaxed);
    for (;;) {
        struct record *record = &logger.records[position % RECORDS];
        uint64_t turn = atomic_load_explicit(&record->turn, memory_order_acquire);
        if (turn == position) {
            if (atomic_compare_exchange_weak_explicit(&logger.next_in, &position, position + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
                *ret_position = position;
                return record;
            }
        } else if (turn < position) {
            atomic_fetch_add(&logger.dropped, 1);
            return NULL;
        } else {
            position = atomic_load_explicit(&logger.next_in, memory_order_relaxed);
        }
    }
}

static void publish_record(struct record *record, uint64_t position) {
    (void)clock_gettime(CLOCK_REALTIME, &record->when);
    atomic_store_explicit(&record->turn, position + 1, memory_order_release);
    (void)sem_post(&logger.queued);
}

/* Would stderr take a line now? Of a pipe or a terminal that nobody reads it would not. */
static bool takes_a_line(void) {
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1;
}

void tower_log(enum tower_log_level level, const char *room, const char *format, ...) {
    if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed))
        return;
    struct record unqueued;
    struct record *record = &unqueued;
    uint64_t position = 0;
    bool is_queued = atomic_load(&logger.is_running);
    if (is_queued) {
        record = claim_record(&position);
        if (!record)
            return;
    }
    record->level = level;
    record->room = room;
    record->format = NULL;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(record->text, sizeof record->text, format, arguments);
    va_end(arguments);
    /* One line a record, whatever a peer put into it. */
    for (char *c = record->text; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    }
    if (is_queued) {
        publish_record(record, position);
    } else if (takes_a_line()) {
        (void)clock_gettime(CLOCK_REALTIME, &record->when);
        bool is_torn = false;
        (void)write_record(record, &is_torn);
    } else {
        atomic_fetch_add(&logger.dropped, 1);
    }
}

void tower_log_deferred(enum tower_log_level level, const char *room, const char *format, int64_t a,
                        int64_t b, int64_t c, int64_t d) {
    if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed))
        return;
    /* Without a writer there is nobody who may format: the line is lost, as when the ring is full.
     */
    if (!atomic_load(&logger.is_running)) {
        atomic_fetch_add(&logger.dropped, 1);
        return;
    }
    uint64_t position;
    struct record *record = claim_record(&position);
    if (!record)
        return;
    record->level = level;
    record->room = room;
    record->format = format;
    record->values[0] = a;
    record->values[1] = b;
    record->values[2] = c;
    record->values[3] = d;
    publish_record(record, position);
}
