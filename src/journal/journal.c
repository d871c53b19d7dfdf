/* journal.c - a ring that any thread fills, and one thread that remembers and writes. */
#include "tower/journal.h"

#include "fd.h"
#include "journal_file.h"
#include "thread.h"
#include "utf8.h"
#include "tower/log.h"
#include "tower/region.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 128 /* a power of two */
#define LOOK_MS 250
#define STOP_LIMIT_NS TOWER_NS_PER_S
#define MINUTE_NS (60 * TOWER_NS_PER_S)
/* With its two parts, and room in each for some lines at their longest. */
#define FILE_BYTES_MIN 4096

#define MAGIC UINT64_C(0x6c616e72756f6a31)
#define STATE_ALIGN ((size_t)64)

/* What outlives the process. */
struct memory {
    uint64_t magic;
    uint64_t bytes; /* of this struct, and: */
    uint64_t state_bytes;
    int64_t began_unix_ms;
    _Atomic uint64_t last_number;
    struct tower_incident kept[TOWER_JOURNAL_KEPT]; /* number n at n - 1 modulo */
};

struct slot {
    /* Position in the order of all submissions that this slot is ready for: `position` when it may
     * be filled, `position + 1` when it may be taken. */
    _Atomic uint64_t turn;
    struct tower_incident incident;
};

/* Of one kind: how many of it there were lately. */
struct rate {
    int64_t since_ns;
    unsigned n;
    struct tower_incident sum; /* of those on top; more 0: none */
};

struct tower_journal {
    /* Constant after new. */
    struct tower_journal_config config;
    bool has_file;
    bool is_carried;
    struct tower_region region;
    struct memory *memory;
    void *state;
    int wake_fd;

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    bool is_abandoned; /* its thread hangs in a write, and may come back */

    /* Owned by the journal's thread. */
    struct tower_journal_file file;
    uint64_t next_out;
    uint64_t told_submissions_lost;
    uint64_t last_frame;   /* that an incident was at */
    uint64_t unsaid_lines; /* lost since a line was last written */
    int lines_error;       /* why */
    struct rate rates[TOWER_INCIDENT_KIND_COUNT];

    pthread_mutex_t lock; /* guards memory->kept and the number of the last */

    /* Atomic: written by anyone. */
    _Atomic bool is_stopping;
    _Atomic bool is_orphaned; /* nobody waits for the thread: what it calls may be gone */
    _Atomic uint64_t next_in;
    _Atomic uint64_t submissions_lost;
    /* Atomic: written by the journal's thread, read by anyone. */
    _Atomic uint64_t incidents;
    _Atomic uint64_t lines_lost;
    struct slot slots[SLOTS];
};

/* By the wall clock, since it is read beside other programs' logs. */
static int64_t wall_ms(struct tower_journal *journal, int64_t at_ns) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int64_t wall_ns = (int64_t)now.tv_sec * TOWER_NS_PER_S + now.tv_nsec;
    return (wall_ns - (tower_clock_now_ns(journal->config.clock) - at_ns)) / 1000000;
}

/* Is what another process left fit to be gone on with? */
static bool is_sound(const struct tower_journal *journal, const struct memory *memory) {
    return memory->magic == MAGIC && memory->bytes == sizeof *memory &&
           memory->state_bytes == journal->config.state_bytes &&
           memory->last_number < UINT64_MAX / 2;
}

/* Whatever is in them, they can be shown. */
static void mend(struct memory *memory) {
    for (size_t i = 0; i < TOWER_JOURNAL_KEPT; i++) {
        struct tower_incident *incident = &memory->kept[i];
        incident->subject[sizeof incident->subject - 1] = '\0';
        incident->cause[sizeof incident->cause - 1] = '\0';
        incident->detail[sizeof incident->detail - 1] = '\0';
        if (!tower_utf8_is_valid(incident->cause, strlen(incident->cause)))
            incident->cause[0] = '\0';
    }
}

static int open_memory(struct tower_journal *journal) {
    const size_t state_at = (sizeof(struct memory) + STATE_ALIGN - 1) / STATE_ALIGN * STATE_ALIGN;
    const size_t bytes = state_at + journal->config.state_bytes;
    struct tower_region *region = &journal->region;
    int error = journal->config.carried_fd > 0
                    ? tower_region_open(region, journal->config.carried_fd, bytes)
                    : -ENOENT;
    journal->is_carried = error == 0 && is_sound(journal, region->memory);
    if (error == 0 && !journal->is_carried) {
        region->fd = -1; /* the caller's still */
        tower_region_done(region);
    }
    error = journal->is_carried ? 0 : tower_region_init(region, "tower-journal", bytes);
    if (error < 0)
        return error;
    journal->memory = region->memory;
    journal->state = (char *)region->memory + state_at;
    if (journal->is_carried) {
        mend(journal->memory);
        return 0;
    }
    journal->memory->magic = MAGIC;
    journal->memory->bytes = sizeof *journal->memory;
    journal->memory->state_bytes = journal->config.state_bytes;
    journal->memory->began_unix_ms = wall_ms(journal, tower_clock_now_ns(journal->config.clock));
    return 0;
}

int tower_journal_fd(const struct tower_journal *journal) {
    return journal->region.fd;
}

void *tower_journal_state(const struct tower_journal *journal, bool *ret_is_carried) {
    *ret_is_carried = journal->is_carried;
    return journal->state;
}

int tower_journal_new(const struct tower_journal_config *config,
                      struct tower_journal **ret_journal) {
    bool has_file = config->path && *config->path;
    if (!config->clock || (has_file && config->file_bytes < FILE_BYTES_MIN))
        return -EINVAL;
    struct tower_journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return -ENOMEM;
    journal->config = *config;
    journal->has_file = has_file;
    journal->file.fd = -1;
    for (uint64_t i = 0; i < SLOTS; i++)
        atomic_store(&journal->slots[i].turn, i);
    int error = -pthread_mutex_init(&journal->lock, NULL);
    if (error < 0) {
        free(journal);
        return error;
    }
    journal->wake_fd = tower_eventfd_new();
    error = journal->wake_fd < 0 ? journal->wake_fd : 0;
    if (error == 0)
        error = open_memory(journal);
    if (error == 0 && has_file)
        error = tower_journal_file_open(&journal->file, config->path, config->file_bytes);
    if (error < 0) {
        tower_journal_free(journal);
        return error;
    }
    *ret_journal = journal;
    return 0;
}

void tower_journal_free(struct tower_journal *journal) {
    if (!journal)
        return;
    tower_journal_stop(journal);
    if (journal->is_abandoned)
        return;
    tower_journal_file_close(&journal->file);
    tower_fd_close(&journal->wake_fd);
    tower_region_done(&journal->region);
    (void)pthread_mutex_destroy(&journal->lock);
    free(journal);
}

/* ---- submitting ---- */

void tower_journal_add(struct tower_journal *journal, const struct tower_incident *incident) {
    uint64_t position = atomic_load_explicit(&journal->next_in, memory_order_relaxed);
    struct slot *slot;
    for (;;) {
        slot = &journal->slots[position % SLOTS];
        uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
        if (turn < position) {
            atomic_fetch_add_explicit(&journal->submissions_lost, 1, memory_order_relaxed);
            return;
        }
        if (turn == position &&
            atomic_compare_exchange_weak_explicit(&journal->next_in, &position, position + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            break;
        if (turn != position)
            position = atomic_load_explicit(&journal->next_in, memory_order_relaxed);
    }
    slot->incident = *incident;
    atomic_store_explicit(&slot->turn, position + 1, memory_order_release);
    tower_eventfd_signal(journal->wake_fd);
}

static bool take(struct tower_journal *journal, struct tower_incident *ret_incident) {
    struct slot *slot = &journal->slots[journal->next_out % SLOTS];
    if (atomic_load_explicit(&slot->turn, memory_order_acquire) != journal->next_out + 1)
        return false;
    *ret_incident = slot->incident;
    atomic_store_explicit(&slot->turn, journal->next_out + SLOTS, memory_order_release);
    journal->next_out++;
    return true;
}

/* ---- writing ---- */

static int append_line(struct tower_journal *journal, const struct tower_incident *incident) {
    size_t bytes = 0;
    char *line = tower_incident_json(incident, &bytes);
    if (!line)
        return -ENOMEM;
    /* In place of the NUL: the file takes a length. */
    line[bytes] = '\n';
    int error = tower_journal_file_append(&journal->file, line, bytes + 1);
    free(line);
    return error;
}

static void note_lost_line(struct tower_journal *journal, int error) {
    if (journal->unsaid_lines == 0)
        tower_log(TOWER_LOG_WARNING, "journal",
                  "%s takes no line: %s; they are counted, and the next ones tried",
                  journal->file.path, strerror(-error));
    journal->lines_error = error;
    journal->unsaid_lines++;
    atomic_fetch_add_explicit(&journal->lines_lost, 1, memory_order_relaxed);
}

static void keep(struct tower_journal *journal, struct tower_incident *incident) {
    struct memory *memory = journal->memory;
    pthread_mutex_lock(&journal->lock);
    incident->number = atomic_load_explicit(&memory->last_number, memory_order_relaxed) + 1;
    memory->kept[(incident->number - 1) % TOWER_JOURNAL_KEPT] = *incident;
    /* Last, so that who comes after a death before it finds no half one. */
    atomic_store_explicit(&memory->last_number, incident->number, memory_order_release);
    pthread_mutex_unlock(&journal->lock);
    atomic_fetch_add_explicit(&journal->incidents, 1, memory_order_relaxed);
}

static void write_incident(struct tower_journal *journal, const struct tower_incident *incident) {
    struct tower_incident numbered = *incident;
    numbered.unix_ms = wall_ms(journal, incident->at_ns);
    journal->last_frame = incident->frame;
    keep(journal, &numbered);
    if (!journal->has_file)
        return;
    int error = append_line(journal, &numbered);
    if (atomic_load(&journal->is_orphaned))
        pthread_exit(NULL);
    if (error < 0)
        note_lost_line(journal, error);
}

/* The file takes lines again: said once, in both places. */
static void say_lost_lines(struct tower_journal *journal, uint64_t frame) {
    struct tower_incident incident;
    uint64_t n = journal->unsaid_lines;
    tower_incident_init(&incident, TOWER_INCIDENT_LINES_LOST,
                        tower_clock_now_ns(journal->config.clock), frame, "journal");
    incident.count = n;
    tower_incident_set_cause(&incident, "file");
    (void)snprintf(incident.detail, sizeof incident.detail, "%s", strerror(-journal->lines_error));
    tower_log(TOWER_LOG_WARNING, "journal", "%s takes lines again; %llu are lost",
              journal->file.path, (unsigned long long)n);
    journal->unsaid_lines = 0;
    write_incident(journal, &incident);
}

static void add_to_sum(struct tower_incident *sum, const struct tower_incident *one) {
    uint64_t more = sum->more + 1;
    if (sum->more == 0) {
        *sum = *one;
    } else {
        sum->at_ns = one->at_ns;
        sum->frame = one->frame;
        if (one->duration_ns >= 0)
            sum->duration_ns = (sum->duration_ns > 0 ? sum->duration_ns : 0) + one->duration_ns;
        for (unsigned i = 0; i < TOWER_INCIDENT_FRAMES; i++)
            sum->frames[i] += one->frames[i];
        sum->frames_missed += one->frames_missed;
        sum->listeners_lost += one->listeners_lost;
        sum->count += one->count;
    }
    sum->to_substitute_ns = -1;
    sum->cause[0] = '\0';
    sum->detail[0] = '\0';
    sum->more = more;
}

void tower_journal_record(struct tower_journal *journal, const struct tower_incident *incident) {
    int64_t now_ns = tower_clock_now_ns(journal->config.clock);
    if ((unsigned)incident->kind >= TOWER_INCIDENT_KIND_COUNT)
        return;
    struct rate *rate = &journal->rates[incident->kind];
    if (rate->n == 0 || now_ns - rate->since_ns >= MINUTE_NS) {
        if (rate->sum.more > 0)
            write_incident(journal, &rate->sum);
        *rate = (struct rate){.since_ns = now_ns};
    }
    if (rate->n < TOWER_JOURNAL_PER_MINUTE) {
        rate->n++;
        uint64_t unsaid_lines = journal->unsaid_lines;
        write_incident(journal, incident);
        if (unsaid_lines > 0 && journal->unsaid_lines == unsaid_lines)
            say_lost_lines(journal, incident->frame);
    } else {
        add_to_sum(&rate->sum, incident);
    }
}

static void write_sums(struct tower_journal *journal, bool is_last) {
    int64_t now_ns = tower_clock_now_ns(journal->config.clock);
    for (unsigned i = 0; i < TOWER_INCIDENT_KIND_COUNT; i++) {
        struct rate *rate = &journal->rates[i];
        if (rate->sum.more == 0 || (!is_last && now_ns - rate->since_ns < MINUTE_NS))
            continue;
        write_incident(journal, &rate->sum);
        *rate = (struct rate){0};
    }
}

static void say_lost_submissions(struct tower_journal *journal) {
    struct tower_incident incident;
    uint64_t lost = atomic_load_explicit(&journal->submissions_lost, memory_order_relaxed);
    if (lost == journal->told_submissions_lost)
        return;
    tower_incident_init(&incident, TOWER_INCIDENT_LINES_LOST,
                        tower_clock_now_ns(journal->config.clock), journal->last_frame, "journal");
    incident.count = lost - journal->told_submissions_lost;
    tower_incident_set_cause(&incident, "queue");
    (void)snprintf(incident.detail, sizeof incident.detail,
                   "more happened at once than it could take");
    journal->told_submissions_lost = lost;
    tower_journal_record(journal, &incident);
}

static void turn(struct tower_journal *journal) {
    const struct tower_journal_config *config = &journal->config;
    struct tower_incident incident;
    while (take(journal, &incident)) {
        if (!config->settle || config->settle(config->user, &incident))
            tower_journal_record(journal, &incident);
    }
    if (config->look)
        config->look(config->user);
    say_lost_submissions(journal);
}

static void *run(void *arg) {
    struct tower_journal *journal = arg;
    bool is_last;
    do {
        is_last = atomic_load(&journal->is_stopping);
        turn(journal);
        write_sums(journal, is_last);
        struct pollfd wake = {.fd = journal->wake_fd, .events = POLLIN};
        if (!is_last)
            (void)poll(&wake, 1, LOOK_MS);
        tower_eventfd_drain(journal->wake_fd);
    } while (!is_last);
    return NULL;
}

int tower_journal_start(struct tower_journal *journal) {
    if (journal->is_started || journal->is_abandoned)
        return -EALREADY;
    atomic_store(&journal->is_stopping, false);
    int error = tower_thread_start(&journal->thread, "journal", run, journal);
    if (error < 0)
        return error;
    journal->is_started = true;
    return 0;
}

void tower_journal_stop(struct tower_journal *journal) {
    if (!journal->is_started)
        return;
    atomic_store(&journal->is_stopping, true);
    tower_eventfd_signal(journal->wake_fd);
    if (tower_thread_join_within(journal->thread, STOP_LIMIT_NS) < 0) {
        tower_log(TOWER_LOG_WARNING, "journal", "%s hangs; its last lines are given up",
                  journal->file.path);
        atomic_store(&journal->is_orphaned, true);
        (void)pthread_detach(journal->thread);
        journal->is_abandoned = true;
    }
    journal->is_started = false;
}

/* ---- reading ---- */

size_t tower_journal_read(struct tower_journal *journal, uint64_t since,
                          struct tower_incident *ret_incidents, size_t n_max) {
    size_t n = 0;
    pthread_mutex_lock(&journal->lock);
    uint64_t last = atomic_load_explicit(&journal->memory->last_number, memory_order_relaxed);
    uint64_t first = last > TOWER_JOURNAL_KEPT ? last - TOWER_JOURNAL_KEPT + 1 : 1;
    /* Above the last: of a process before this one, of which nothing is left. */
    if (since <= last && since >= first)
        first = since + 1;
    for (uint64_t i = first; i <= last && n < n_max; i++)
        ret_incidents[n++] = journal->memory->kept[(i - 1) % TOWER_JOURNAL_KEPT];
    pthread_mutex_unlock(&journal->lock);
    return n;
}

void tower_journal_get_stats(const struct tower_journal *journal,
                             struct tower_journal_stats *ret_stats) {
    *ret_stats = (struct tower_journal_stats){
        .incidents = atomic_load_explicit(&journal->incidents, memory_order_relaxed),
        .submissions_lost = atomic_load_explicit(&journal->submissions_lost, memory_order_relaxed),
        .lines_lost = atomic_load_explicit(&journal->lines_lost, memory_order_relaxed),
        .began_unix_ms = journal->memory->began_unix_ms,
    };
}
