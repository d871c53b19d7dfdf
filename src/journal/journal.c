/* journal.c - a ring that any thread fills, and one thread that remembers and writes. */
#include "tower/journal.h"

#include "fd.h"
#include "journal_file.h"
#include "journal_memory.h"
#include "thread.h"
#include "tower/log.h"

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
    struct tower_region region;
    struct tower_journal_memory *memory; /* in it; each field has its owner */
    int wake_fd;

    /* Owned by the caller of start and stop. */
    pthread_t thread;
    bool is_started;
    bool is_abandoned; /* its thread hangs in a write, and may come back */

    /* Owned by the journal's thread. */
    struct tower_journal_file file;
    uint64_t next_out;
    uint64_t last_frame; /* that an incident was at */
    int lines_error;     /* why the last line was lost; 0: in another process */
    struct rate rates[TOWER_INCIDENT_KIND_COUNT];

    pthread_mutex_t lock; /* guards memory->kept */

    /* Atomic: written by anyone. */
    _Atomic bool is_stopping;
    _Atomic bool is_orphaned; /* nobody waits for the thread: what it calls may be gone */
    _Atomic uint64_t next_in;
    struct slot slots[SLOTS];
};

/* By the wall clock, since it is read beside other programs' logs. */
static int64_t wall_ms(struct tower_journal *journal, int64_t at_ns) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int64_t wall_ns = (int64_t)now.tv_sec * TOWER_NS_PER_S + now.tv_nsec;
    return (wall_ns - (tower_clock_now_ns(journal->config.clock) - at_ns)) / 1000000;
}

static int open_memory(struct tower_journal *journal) {
    int64_t now_ns = tower_clock_now_ns(journal->config.clock);
    int error = tower_journal_memory_open(&journal->region, journal->config.carried_fd, now_ns,
                                          wall_ms(journal, now_ns));
    journal->memory = journal->region.memory;
    return error;
}

int tower_journal_fd(const struct tower_journal *journal) {
    return journal->region.fd;
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
        /* One that was not made here is the caller's still. */
        if (journal->memory && journal->region.fd == config->carried_fd)
            journal->region.fd = -1;
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
            atomic_fetch_add_explicit(&journal->memory->submissions_lost, 1, memory_order_relaxed);
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
    if (journal->memory->unsaid_lines == 0)
        tower_log(TOWER_LOG_WARNING, "journal",
                  "%s takes no line: %s; they are counted, and the next ones tried",
                  journal->file.path, strerror(-error));
    journal->lines_error = error;
    atomic_fetch_add_explicit(&journal->memory->lines_lost, 1, memory_order_relaxed);
    journal->memory->unsaid_lines++;
}

static void keep(struct tower_journal *journal, struct tower_incident *incident) {
    pthread_mutex_lock(&journal->lock);
    tower_journal_memory_put(journal->memory, incident);
    pthread_mutex_unlock(&journal->lock);
}

/* Who dies before the last store here leaves a line to be written once more: at worst it is there
 * twice, under one number. */
static void write_line(struct tower_journal *journal, const struct tower_incident *incident) {
    int error = journal->has_file ? append_line(journal, incident) : 0;
    if (atomic_load(&journal->is_orphaned))
        pthread_exit(NULL);
    if (error < 0)
        note_lost_line(journal, error);
    journal->memory->written_number = incident->number;
}

static void write_incident(struct tower_journal *journal, const struct tower_incident *incident) {
    struct tower_incident numbered = *incident;
    numbered.unix_ms = wall_ms(journal, incident->at_ns);
    tower_incident_mend(&numbered);
    journal->last_frame = incident->frame;
    keep(journal, &numbered);
    write_line(journal, &numbered);
}

/* Those which another process kept and did not come to write. */
static void write_left_lines(struct tower_journal *journal) {
    const struct tower_journal_memory *memory = journal->memory;
    uint64_t last = atomic_load_explicit(&memory->last_number, memory_order_relaxed);
    uint64_t number = memory->written_number + 1;
    if (last > TOWER_JOURNAL_KEPT && number <= last - TOWER_JOURNAL_KEPT)
        number = last - TOWER_JOURNAL_KEPT + 1;
    for (; number <= last; number++) {
        const struct tower_incident *incident = tower_journal_memory_get(memory, number);
        if (incident)
            write_line(journal, incident);
    }
}

/* The file takes lines again: said once, in both places. */
static void say_lost_lines(struct tower_journal *journal, uint64_t frame) {
    struct tower_incident incident;
    uint64_t n = journal->memory->unsaid_lines;
    tower_incident_init(&incident, TOWER_INCIDENT_LINES_LOST,
                        tower_clock_now_ns(journal->config.clock), frame, "journal");
    incident.count = n;
    tower_incident_set_cause(&incident, "file");
    if (journal->lines_error < 0)
        tower_incident_set_detail(&incident, strerror(-journal->lines_error));
    tower_log(TOWER_LOG_WARNING, "journal", "%s takes lines again; %llu are lost",
              journal->file.path, (unsigned long long)n);
    journal->memory->unsaid_lines = 0;
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
        uint64_t unsaid_lines = journal->memory->unsaid_lines;
        write_incident(journal, incident);
        if (unsaid_lines > 0 && journal->memory->unsaid_lines == unsaid_lines)
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
    struct tower_journal_memory *memory = journal->memory;
    uint64_t lost = atomic_load_explicit(&memory->submissions_lost, memory_order_relaxed);
    if (lost == memory->told_submissions_lost)
        return;
    tower_incident_init(&incident, TOWER_INCIDENT_LINES_LOST,
                        tower_clock_now_ns(journal->config.clock), journal->last_frame, "journal");
    incident.count = lost - memory->told_submissions_lost;
    tower_incident_set_cause(&incident, "queue");
    (void)snprintf(incident.detail, sizeof incident.detail,
                   "more happened at once than it could take");
    memory->told_submissions_lost = lost;
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
    write_left_lines(journal);
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

/* ---- what is kept beside ---- */

/* The other one is written, and then is the one. */
void tower_journal_save_state(struct tower_journal *journal, const void *state, size_t bytes) {
    struct tower_journal_memory *memory = journal->memory;
    uint32_t next = atomic_load_explicit(&memory->current_state, memory_order_relaxed) + 1;
    struct tower_journal_state *place = &memory->states[next % 2];
    if (bytes > sizeof place->data)
        return;
    place->bytes = bytes;
    memcpy(place->data, state, bytes);
    atomic_store_explicit(&memory->current_state, next, memory_order_release);
}

bool tower_journal_saved_state(const struct tower_journal *journal, void *ret_state, size_t bytes) {
    const struct tower_journal_memory *memory = journal->memory;
    uint32_t current = atomic_load_explicit(&memory->current_state, memory_order_relaxed);
    const struct tower_journal_state *place = &memory->states[current % 2];
    if (bytes == 0 || bytes > sizeof place->data || place->bytes != bytes)
        return false;
    memcpy(ret_state, place->data, bytes);
    return true;
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
    for (uint64_t i = first; i <= last && n < n_max; i++) {
        const struct tower_incident *incident = tower_journal_memory_get(journal->memory, i);
        if (incident)
            ret_incidents[n++] = *incident;
    }
    pthread_mutex_unlock(&journal->lock);
    return n;
}

void tower_journal_get_stats(const struct tower_journal *journal,
                             struct tower_journal_stats *ret_stats) {
    const struct tower_journal_memory *memory = journal->memory;
    *ret_stats = (struct tower_journal_stats){
        .incidents = atomic_load_explicit(&memory->last_number, memory_order_relaxed),
        .submissions_lost = atomic_load_explicit(&memory->submissions_lost, memory_order_relaxed),
        .lines_lost = atomic_load_explicit(&memory->lines_lost, memory_order_relaxed),
        .began_unix_ms = memory->began_unix_ms,
    };
}
