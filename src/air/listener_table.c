/* listener_table.c - the places for listeners. */
#include "listener_table.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define TABLE_MAGIC UINT64_C(0x746f7765726c7462) /* "towerltb" */
#define TABLE_VERSION 1
#define PLACES_OFFSET 4096

_Static_assert(sizeof(struct tower_listener_table_header) <= PLACES_OFFSET, "it fits");

static size_t region_bytes(uint32_t capacity) {
    return PLACES_OFFSET + capacity * sizeof(struct tower_listener);
}

static void attach(struct tower_listener_table *table) {
    table->header = table->region.memory;
    table->places =
        (struct tower_listener *)(void *)((uint8_t *)table->region.memory + PLACES_OFFSET);
}

int tower_listener_table_init(struct tower_listener_table *table, uint32_t capacity) {
    if (capacity == 0 || capacity > TOWER_LISTENERS_MAX)
        return -EINVAL;
    struct tower_listener_table made;
    int error = tower_region_init(&made.region, "tower-listeners", region_bytes(capacity));
    if (error < 0)
        return error;
    attach(&made);
    *made.header = (struct tower_listener_table_header){
        .magic = TABLE_MAGIC,
        .version = TABLE_VERSION,
        .place_bytes = sizeof(struct tower_listener),
        .capacity = capacity,
        .first_free = TOWER_LISTENER_NONE,
        .undo.place = TOWER_LISTENER_NONE,
    };
    *table = made;
    return 0;
}

static bool is_sound(const struct tower_region *region) {
    const struct tower_listener_table_header *header = region->memory;
    return header->magic == TABLE_MAGIC && header->version == TABLE_VERSION &&
           header->place_bytes == sizeof(struct tower_listener) && header->capacity > 0 &&
           header->capacity <= TOWER_LISTENERS_MAX &&
           region->size_bytes >= region_bytes(header->capacity) &&
           header->n_touched <= header->capacity;
}

int tower_listener_table_open(struct tower_listener_table *table, int fd) {
    struct tower_listener_table opened;
    int error = tower_region_open(&opened.region, fd, PLACES_OFFSET);
    if (error < 0)
        return error;
    if (!is_sound(&opened.region)) {
        opened.region.fd = -1;
        tower_region_done(&opened.region);
        return -EINVAL;
    }
    attach(&opened);
    *table = opened;
    return 0;
}

void tower_listener_table_done(struct tower_listener_table *table) {
    tower_region_done(&table->region);
    table->header = NULL;
    table->places = NULL;
}

uint32_t tower_listener_table_capacity(const struct tower_listener_table *table) {
    return table->header->capacity;
}

uint32_t tower_listener_table_take(struct tower_listener_table *table) {
    struct tower_listener_table_header *header = table->header;
    uint32_t place = header->first_free;
    if (place != TOWER_LISTENER_NONE) {
        header->first_free = table->places[place].next;
    } else if (header->n_touched < header->capacity) {
        /* Memory of places that were never needed stays untouched, and so unused. */
        place = header->n_touched++;
    } else {
        return TOWER_LISTENER_NONE;
    }
    struct tower_listener *listener = &table->places[place];
    *listener = (struct tower_listener){
        .fd = -1,
        .next = TOWER_LISTENER_NONE,
        .previous = TOWER_LISTENER_NONE,
        .generation = listener->generation + 1,
    };
    return place;
}

void tower_listener_table_settle(struct tower_listener_table *table, uint32_t place) {
    TOWER_LISTENER_IN_ORDER();
    table->places[place].is_used = 1;
}

void tower_listener_table_give(struct tower_listener_table *table, uint32_t place) {
    struct tower_listener *listener = &table->places[place];
    assert(listener->is_used);
    listener->is_used = 0;
    listener->fd = -1;
    listener->next = table->header->first_free;
    table->header->first_free = place;
}
