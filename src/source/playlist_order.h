/* playlist_order.h - whose turn it is in a playlist. */
#ifndef TOWER_SOURCE_PLAYLIST_ORDER_H
#define TOWER_SOURCE_PLAYLIST_ORDER_H

#include "playlist.h"

#include <stdint.h>

struct tower_playlist_order {
    const struct tower_playlist *playlist;
    bool is_looped;
    bool is_shuffled;
    uint64_t random;
    size_t *order;
    size_t n_given; /* in this round */
};

/* As the list has it, or each round in another order, the same ones for the same `seed`. The list
 * is not empty, and stays the caller's. Errors: -ENOMEM. */
int tower_playlist_order_init(struct tower_playlist_order *order,
                              const struct tower_playlist *playlist, bool is_looped,
                              bool is_shuffled, uint64_t seed);
void tower_playlist_order_done(struct tower_playlist_order *order);

/* The next entry's index, and in `*ret_number` the how manieth of this round it is, from 1.
 * Shuffled it is not the one at `last_path` (NULL: none), unless no other is left in the round.
 * Returns false at the end. */
bool tower_playlist_order_next(struct tower_playlist_order *order, const char *last_path,
                               size_t *ret_index, size_t *ret_number);

#endif
