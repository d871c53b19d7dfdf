/* listener_table.c - the places for listeners. */
#include "listener_table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TABLE_MAGIC UINT64_C(0x746f7765726c7462) /* "towerltb" */
#define TABLE_VERSION 1
#define PLACES_OFFSET 4096

struct tower_listener_table_header {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t place_bytes;
    uint32_t capacity;

    /* Owned by whoever owns the table. */
    uint32_t first_free;
    uint32_t n_touched; /* places from here on have never been in use */
};

int tower_listener_table_init(struct tower_listener_table *table, uint32_t capacity) {
    if (capacity == 0 || capacity > TOWER_LISTENERS_MAX)
        return -EINVAL;
    struct tower_listener_table made;
    int error = tower_region_init(&made.region, "tower-listeners",
                                  PLACES_OFFSET + capacity * sizeof(struct tower_listener));
    if (error < 0)
        return error;
    made.header = (struct tower_listener_table_header *)made.region.memory;
    *made.header = (struct tower_listener_table_header){
        .magic = TABLE_MAGIC,
        .version = TABLE_VERSION,
        .place_bytes = sizeof(struct tower_listener),
        .capacity = capacity,
        .first_free = TOWER_LISTENER_NONE,
    };
    made.places = (struct tower_listener *)(void *)((uint8_t *)made.region.memory + PLACES_OFFSET);
    *table = made;
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
        .is_used = 1,
    };
    return place;
}

void tower_listener_table_give(struct tower_listener_table *table, uint32_t place) {
    struct tower_listener *listener = &table->places[place];
    assert(listener->is_used);
    listener->is_used = 0;
    listener->fd = -1;
    listener->next = table->header->first_free;
    table->header->first_free = place;
}
