/* playlist_order.c - whose turn it is in a playlist. */
#include "playlist_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64 (Steele, Lea and Flood, 2014): good from any seed, also from 0. */
static uint64_t next_random(struct tower_playlist_order *order) {
    uint64_t value = order->random += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static void swap(size_t *order, size_t a, size_t b) {
    size_t kept = order[a];
    order[a] = order[b];
    order[b] = kept;
}

/* Fisher and Yates; the list is far too short for the modulo to show. */
static void begin_round(struct tower_playlist_order *order) {
    size_t n = order->playlist->n_entries;
    order->n_given = 0;
    for (size_t i = n - 1; order->is_shuffled && i > 0; i--)
        swap(order->order, i, (size_t)(next_random(order) % (i + 1)));
}

int tower_playlist_order_init(struct tower_playlist_order *order,
                              const struct tower_playlist *playlist, bool is_looped,
                              bool is_shuffled, uint64_t seed) {
    size_t *indices = calloc(playlist->n_entries, sizeof *indices);
    if (!indices)
        return -ENOMEM;
    for (size_t i = 0; i < playlist->n_entries; i++)
        indices[i] = i;
    *order = (struct tower_playlist_order){
        .playlist = playlist,
        .is_looped = is_looped,
        .is_shuffled = is_shuffled,
        .random = seed,
        .order = indices,
    };
    begin_round(order);
    return 0;
}

void tower_playlist_order_done(struct tower_playlist_order *order) {
    free(order->order);
    order->order = NULL;
}

/* Where a file is in the list more than once, or what was between was skipped, it could come right
 * behind itself. */
static void avoid(struct tower_playlist_order *order, const char *last_path) {
    const struct tower_playlist *playlist = order->playlist;
    for (size_t i = order->n_given; i < playlist->n_entries; i++) {
        if (strcmp(playlist->entries[order->order[i]].path, last_path) != 0) {
            swap(order->order, order->n_given, i);
            return;
        }
    }
}

bool tower_playlist_order_next(struct tower_playlist_order *order, const char *last_path,
                               size_t *ret_index, size_t *ret_number) {
    if (order->n_given == order->playlist->n_entries) {
        if (!order->is_looped)
            return false;
        begin_round(order);
    }
    if (order->is_shuffled && last_path)
        avoid(order, last_path);
    *ret_index = order->order[order->n_given++];
    *ret_number = order->n_given;
    return true;
}
