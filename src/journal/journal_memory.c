/* journal_memory.c - incidents that another process finds whole. */
#include "journal_memory.h"

#include "tower/log.h"

#include <errno.h>

#define MAGIC UINT64_C(0x746f7765726a726e) /* "towerjrn" */
#define VERSION 1
#define COUNT_MAX ((uint64_t)INT64_MAX)

static struct tower_incident *place_of(struct tower_journal_memory *memory, uint64_t number) {
    return &memory->kept[(number - 1) % TOWER_JOURNAL_KEPT];
}

/* In this order, of which a kill leaves any beginning: a place that is written to holds no number,
 * so that it is none, and there is a new one only when it is whole. What was executed is in memory,
 * whoever dies then: the compiler alone must keep the order. */
void tower_journal_memory_put(struct tower_journal_memory *memory,
                              struct tower_incident *incident) {
    uint64_t number = atomic_load_explicit(&memory->last_number, memory_order_relaxed) + 1;
    struct tower_incident *place = place_of(memory, number);
    place->number = 0;
    atomic_signal_fence(memory_order_seq_cst);
    incident->number = 0;
    *place = *incident;
    atomic_signal_fence(memory_order_seq_cst);
    incident->number = number;
    place->number = number;
    atomic_store_explicit(&memory->last_number, number, memory_order_release);
}

const struct tower_incident *tower_journal_memory_get(const struct tower_journal_memory *memory,
                                                      uint64_t number) {
    const struct tower_incident *place = &memory->kept[(number - 1) % TOWER_JOURNAL_KEPT];
    return number > 0 && place->number == number ? place : NULL;
}

static bool is_ours(const struct tower_journal_memory *memory, int64_t now_ns,
                    int64_t now_unix_ms) {
    return memory->magic == MAGIC && memory->version == VERSION &&
           memory->bytes == sizeof *memory && memory->began_ns >= 0 && memory->began_ns <= now_ns &&
           memory->began_unix_ms >= 0 && now_unix_ms >= 0 &&
           atomic_load(&memory->last_number) < COUNT_MAX - TOWER_JOURNAL_KEPT;
}

/* Forget what does not hold. Doing it twice changes nothing more, as this process may be killed in
 * the middle of it too. */
static void repair(struct tower_journal_memory *memory, int64_t now_ns) {
    uint64_t last = atomic_load(&memory->last_number);
    uint64_t first = last > TOWER_JOURNAL_KEPT ? last - TOWER_JOURNAL_KEPT + 1 : 1;
    unsigned n_dropped = 0;
    for (uint64_t i = 0; i < TOWER_JOURNAL_KEPT; i++) {
        struct tower_incident *place = place_of(memory, first + i);
        if (first + i <= last && place->number == first + i && place->at_ns <= now_ns &&
            tower_incident_is_sound(place))
            continue;
        /* The oldest may have been written to when it was killed. */
        n_dropped += first + i <= last && place->number != 0;
        place->number = 0;
    }
    if (memory->written_number > last)
        memory->written_number = last;
    if (atomic_load(&memory->lines_lost) > COUNT_MAX / 2)
        atomic_store(&memory->lines_lost, 0);
    if (atomic_load(&memory->submissions_lost) > COUNT_MAX / 2)
        atomic_store(&memory->submissions_lost, 0);
    if (memory->told_submissions_lost > atomic_load(&memory->submissions_lost))
        memory->told_submissions_lost = atomic_load(&memory->submissions_lost);
    if (memory->unsaid_lines > atomic_load(&memory->lines_lost))
        memory->unsaid_lines = 0;
    if (n_dropped > 0)
        tower_log(TOWER_LOG_WARNING, "journal", "%u incidents that were left do not hold",
                  n_dropped);
}

/* Returns 1 if `region` is what is behind `fd`, 0 if that does not hold. */
static int take_over(struct tower_region *region, int fd, int64_t now_ns, int64_t now_unix_ms) {
    int error = tower_region_open(region, fd, sizeof(struct tower_journal_memory));
    if (error == -ENOMEM)
        return error;
    if (error == 0 && is_ours(region->memory, now_ns, now_unix_ms)) {
        repair(region->memory, now_ns);
        return 1;
    }
    if (error == 0) {
        region->fd = -1;
        tower_region_done(region);
    }
    tower_log(TOWER_LOG_WARNING, "journal",
              "the incidents that were left are not sound: the journal begins anew");
    return 0;
}

int tower_journal_memory_open(struct tower_region *ret_region, int fd, int64_t now_ns,
                              int64_t now_unix_ms) {
    struct tower_region region;
    int result = fd > 0 ? take_over(&region, fd, now_ns, now_unix_ms) : 0;
    if (result == 0) {
        result = tower_region_init(&region, "tower-journal", sizeof(struct tower_journal_memory));
        if (result == 0) {
            struct tower_journal_memory *memory = region.memory;
            memory->magic = MAGIC;
            memory->version = VERSION;
            memory->bytes = sizeof *memory;
            memory->began_ns = now_ns;
            memory->began_unix_ms = now_unix_ms;
        }
    }
    if (result < 0)
        return result;
    *ret_region = region;
    return 0;
}
