/* programme_title.c - two records, of which one is whole. */
#include "programme_title.h"

#include "tower/log.h"
#include "utf8.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#define MAGIC UINT64_C(0x746f776570726f67) /* "toweprog" */
#define VERSION 1

struct memory {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;

    /* The last one is records[current % 2]; the other is the one before, or being written. */
    _Atomic uint32_t current;
    struct tower_programme_title records[2];
};

static bool has_come_to_be(const struct tower_programme_title *title, uint64_t newest) {
    return title->number <= newest && title->number_ended <= newest;
}

/* What is left of it that holds. */
static void read_record(struct memory *memory, uint64_t newest,
                        struct tower_programme_title *ret_title) {
    uint32_t current = atomic_load_explicit(&memory->current, memory_order_relaxed);
    *ret_title = memory->records[current % 2];
    if (!has_come_to_be(ret_title, newest))
        *ret_title = memory->records[(current + 1) % 2];
    if (!has_come_to_be(ret_title, newest))
        ret_title->number = ret_title->number_ended = 0;
    if (ret_title->bytes > sizeof ret_title->text ||
        !tower_utf8_is_valid(ret_title->text, ret_title->bytes))
        ret_title->bytes = 0;
}

/* Returns 1 if it is gone on with, 0 if it does not hold. */
static int take_over(struct tower_programme_titles *titles, int fd, uint64_t newest,
                     struct tower_programme_title *ret_title) {
    int error = tower_region_open(&titles->region, fd, sizeof(struct memory));
    if (error == -ENOMEM)
        return error;
    struct memory *memory = error == 0 ? titles->region.memory : NULL;
    if (memory && memory->magic == MAGIC && memory->version == VERSION &&
        memory->bytes == sizeof *memory) {
        read_record(memory, newest, ret_title);
        /* So that the other record is older than both of what is written next. */
        tower_programme_titles_keep(titles, ret_title);
        return 1;
    }
    if (memory) {
        titles->region.fd = -1;
        tower_region_done(&titles->region);
    }
    tower_log(TOWER_LOG_WARNING, "titles",
              "what was left of producers' titles is not sound: the one on air stays until another "
              "is set");
    return 0;
}

int tower_programme_titles_open(struct tower_programme_titles *titles, int fd, uint64_t newest,
                                struct tower_programme_title *ret_title) {
    int result = fd > 0 ? take_over(titles, fd, newest, ret_title) : 0;
    if (result != 0)
        return result < 0 ? result : 0;
    int error = tower_region_init(&titles->region, "tower-programme", sizeof(struct memory));
    if (error < 0)
        return error;
    struct memory *memory = titles->region.memory;
    memory->magic = MAGIC;
    memory->version = VERSION;
    memory->bytes = sizeof *memory;
    *ret_title = (struct tower_programme_title){0};
    return 0;
}

void tower_programme_titles_done(struct tower_programme_titles *titles) {
    tower_region_done(&titles->region);
}

void tower_programme_titles_keep(struct tower_programme_titles *titles,
                                 const struct tower_programme_title *title) {
    struct memory *memory = titles->region.memory;
    uint32_t next = atomic_load_explicit(&memory->current, memory_order_relaxed) + 1;
    memory->records[next % 2] = *title;
    atomic_store_explicit(&memory->current, next, memory_order_release);
}
