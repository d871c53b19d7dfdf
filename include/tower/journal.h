/* journal.h - the journal of incidents: what happened, to what, and what listeners had of it.
 *
 * Any thread submits a small struct; one thread of the journal's own keeps the last ones in memory
 * and writes each as a line of JSON to a file that is bounded. A full ring, a full disk: what is
 * lost is counted, and nobody waits for it.
 */
#ifndef TOWER_JOURNAL_H
#define TOWER_JOURNAL_H

#include "tower/clock.h"
#include "tower/format.h"

#include <stdbool.h>

/* Numbers are for good: a journal can be of a program before this one. */
enum tower_incident_kind {
    TOWER_INCIDENT_STARTED,           /* the transmitter */
    TOWER_INCIDENT_STOPPED,           /* `frames` are those of the whole run */
    TOWER_INCIDENT_PROGRAMME_LOST,    /* a substitute is on air */
    TOWER_INCIDENT_PROGRAMME_BACK,    /* live again, and stayed so for a second */
    TOWER_INCIDENT_INPUT_FAULT,       /* as input_monitor.h has them; `subject` is its name */
    TOWER_INCIDENT_INPUT_FAULT_OVER,  /* likewise */
    TOWER_INCIDENT_PRODUCER_CAME,     /* it is the one on air */
    TOWER_INCIDENT_PRODUCER_WENT,     /* it no longer is */
    TOWER_INCIDENT_ENCODER_FAILED,    /* `cause` says how; the spare is on air */
    TOWER_INCIDENT_ENCODER_BACK,      /* on air again */
    TOWER_INCIDENT_FALLBACK_FAILED,   /* the file can't be read */
    TOWER_INCIDENT_FALLBACK_BACK,     /* it can again */
    TOWER_INCIDENT_STALLED,           /* the pump was not run for `duration_ns` */
    TOWER_INCIDENT_LISTENERS_REFUSED, /* `count` of them, because of a limit */
    TOWER_INCIDENT_LINES_LOST,        /* `count` lines of the journal itself */
    TOWER_INCIDENT_WORKER_KILLED,     /* the process died, and another goes on */
    TOWER_INCIDENT_WORKER_STALLED,    /* it hung, was killed, and another goes on */
    TOWER_INCIDENT_RELOADED,          /* the settings */
    TOWER_INCIDENT_UPGRADED,          /* the program */
    TOWER_INCIDENT_KEEPER_KILLED,     /* the process that keeps the worker; the worker goes on */
    /* No incident by itself, and never written: from here on the pump's frames are of the origin
     * `count`; `frames` are all those before. Whoever settles makes incidents of it. */
    TOWER_INCIDENT_ORIGIN_CHANGED,
    TOWER_INCIDENT_STATE_LOST,      /* what a worker would have gone on with was given up */
    TOWER_INCIDENT_RELOAD_REFUSED,  /* the settings are as they were */
    TOWER_INCIDENT_UPGRADE_REFUSED, /* the program is as it was */
};
#define TOWER_INCIDENT_KIND_COUNT 24

/* What stood in, and for how many frames: the pump's origins, and LAME standing in for ffmpeg. */
#define TOWER_INCIDENT_SPARE TOWER_ORIGIN_COUNT
#define TOWER_INCIDENT_FRAMES (TOWER_ORIGIN_COUNT + 1)

#define TOWER_INCIDENT_SUBJECT_BYTES 48
#define TOWER_INCIDENT_CAUSE_BYTES 16
#define TOWER_INCIDENT_DETAIL_BYTES 256

struct tower_incident {
    enum tower_incident_kind kind;
    int64_t at_ns;                              /* when it happened, on the journal's clock */
    uint64_t frame;                             /* of the stream: its number, counted from 0 */
    char subject[TOWER_INCIDENT_SUBJECT_BYTES]; /* what it happened to */
    char cause[TOWER_INCIDENT_CAUSE_BYTES];     /* a word; "": none */
    char detail[TOWER_INCIDENT_DETAIL_BYTES];   /* more, for people; "": nothing */
    int64_t to_substitute_ns; /* from the fault to its substitute on air; below 0: there is none */
    int64_t duration_ns;      /* below 0: it has none */
    uint64_t frames[TOWER_INCIDENT_FRAMES]; /* that stood in, by what they were */
    uint64_t frames_missed;                 /* ticks at which nothing went on air */
    uint64_t listeners_lost;                /* ended by the transmitter in that time */
    uint64_t count;                         /* of what the kind counts: 0 where it counts nothing */
    uint64_t more; /* above 0: it is a sum of so many of this kind, each too soon after another */
    /* Filled in by the journal. */
    uint64_t number; /* counted from 1, for as long as the transmitter runs */
    int64_t unix_ms; /* when it happened, by the wall clock */
};

/* How many are kept in memory. */
#define TOWER_JOURNAL_KEPT 200
/* Of one kind so many are written in a minute, and then the sum of those that came on top. */
#define TOWER_JOURNAL_PER_MINUTE 20
#define TOWER_JOURNAL_BYTES_DEFAULT (1024 * 1024)

struct tower_journal_config {
    struct tower_clock *clock;
    const char *path;    /* NULL or "": no file */
    uint64_t file_bytes; /* the file becomes PATH.1, and a new one begins, before it is larger */
    /* Both on the journal's thread, and may be NULL. settle() is shown each submitted incident, in
     * order, and completes it; false: it is not to be written. look() is called after that and four
     * times a second. Either may call tower_journal_record(). */
    bool (*settle)(void *user, struct tower_incident *incident);
    void (*look)(void *user);
    void *user;
    /* The region that another process left, whose incidents and numbers this one goes on with; 0 or
     * below: none. */
    int carried_fd;
};

struct tower_journal_stats {
    uint64_t incidents;        /* recorded so far: the number of the last */
    uint64_t submissions_lost; /* the ring was full */
    uint64_t lines_lost;       /* the file did not take them */
    int64_t began_unix_ms;     /* tells its numbers from those of the process before */
};

struct tower_journal;

/* If the carried region holds it is this journal's, without those incidents that do not; if not, it
 * stays open and the caller's, a warning is logged, and the journal begins anew. Open the file
 * (made with mode 0640); nothing is written yet. A last line without its end, from a process that
 * was killed, is ended before the next one is written. Errors: -EINVAL (no regular file, or a value
 * out of range), -ENAMETOOLONG, -ENOMEM, -EMFILE, or what open() says. */
int tower_journal_new(const struct tower_journal_config *config,
                      struct tower_journal **ret_journal);
/* Stops it first. Takes NULL. */
void tower_journal_free(struct tower_journal *journal);

/* The descriptor of the region; the journal's to close. */
int tower_journal_fd(const struct tower_journal *journal);

/* Keep `bytes` of plain data beside the incidents, in place of those of the last call: one of the
 * two is there, and whole, at any time. On the journal's thread alone. At most
 * TOWER_JOURNAL_STATE_BYTES: more is not kept. */
#define TOWER_JOURNAL_STATE_BYTES 8192
void tower_journal_save_state(struct tower_journal *journal, const void *state, size_t bytes);
/* Copy what another process last kept so, before the start: to be checked before it is believed.
 * Returns false, with `ret_state` untouched, if there is nothing of that size. */
bool tower_journal_saved_state(const struct tower_journal *journal, void *ret_state, size_t bytes);

/* Start the thread. Errors: -EALREADY, -EAGAIN. What is submitted before is written then. */
int tower_journal_start(struct tower_journal *journal);
/* Write what was submitted and end the thread; waits at most a second for a disk that hangs. */
void tower_journal_stop(struct tower_journal *journal);

/* Submit an incident: copied, not formatted. Any thread, the pump too: no lock, no wait, no memory.
 * A full ring drops it and counts. */
void tower_journal_add(struct tower_journal *journal, const struct tower_incident *incident);

/* Record one at once. On the journal's thread alone: from settle() and look(). */
void tower_journal_record(struct tower_journal *journal, const struct tower_incident *incident);

/* Copy those with a number above `since`, the oldest first, at most `n_max`. Returns how many. Any
 * thread but the pump's, the encoder's and the fan-out's; a short lock, never held for a disk. */
size_t tower_journal_read(struct tower_journal *journal, uint64_t since,
                          struct tower_incident *ret_incidents, size_t n_max);

/* Any thread; no lock. */
void tower_journal_get_stats(const struct tower_journal *journal,
                             struct tower_journal_stats *ret_stats);

/* "programme-lost", "encoder-back", ...; "unknown" for anything else. */
const char *tower_incident_kind_name(enum tower_incident_kind kind);

/* "live", ..., "repair", "spare"; "unknown" for anything else. */
const char *tower_incident_frames_name(unsigned what);

/* Give it a cause, a word, or a detail; cut where it is too long. */
void tower_incident_set_cause(struct tower_incident *incident, const char *cause);
void tower_incident_set_detail(struct tower_incident *incident, const char *detail);

/* Bytes in its texts that are no UTF-8 become question marks. */
void tower_incident_mend(struct tower_incident *incident);

/* Could it be one that was recorded: is each field in its bounds, and every text one? Pure. */
bool tower_incident_is_sound(const struct tower_incident *incident);

/* One with no substitute, no duration and nothing else. */
void tower_incident_init(struct tower_incident *incident, enum tower_incident_kind kind,
                         int64_t at_ns, uint64_t frame, const char *subject);

/* A line of JSON, without its newline, from malloc: always ASCII and printable but for UTF-8.
 * `ret_bytes` is its length. NULL without memory. */
char *tower_incident_json(const struct tower_incident *incident, size_t *ret_bytes);

#endif
