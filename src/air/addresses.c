/* addresses.c - a hash table of addresses with an atomic count each.
 *
 * One thread enters, and it alone links and unlinks nodes; whoever leaves only counts down, so a
 * node stays where it is for as long as its count is above 0. Nodes at 0 are taken back when there
 * is none left that was never used. There are twice as many nodes as places, so this then finds as
 * many as there are places, at least: over all that comes to little for each address that enters.
 */
#include "tower/addresses.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PLACES_MAX 1048576

struct node {
    /* Owned by the thread that enters. Links are places plus 1; 0 ends a list. */
    struct tower_network key;
    uint32_t next; /* with the same hash, or the next free one */

    /* Atomic, written by anyone. */
    _Atomic uint32_t count; /* listeners; 0: may be taken back */
};

struct tower_addresses {
    /* Constant once made. */
    uint32_t places;
    uint32_t limit;
    uint32_t n_nodes;
    uint32_t n_chains; /* a power of two */
    uint64_t seed[2];  /* so that nobody can choose addresses that all fall into one chain */
    uint32_t *chains;  /* behind the nodes */

    /* Owned by the thread that enters. */
    uint32_t first_free;
    uint32_t n_touched; /* nodes from here on have never been in use */

    /* Atomic, written by anyone. */
    _Atomic uint32_t n_counted; /* addresses with listeners */

    struct node nodes[];
};

int tower_addresses_new(uint32_t places, uint32_t limit, struct tower_addresses **ret_addresses) {
    if (places == 0 || places > PLACES_MAX || limit == 0)
        return -EINVAL;
    uint32_t n_nodes = 2 * places;
    uint32_t n_chains = 2;
    while (n_chains < n_nodes)
        n_chains *= 2;
    struct tower_addresses *addresses =
        calloc(1, sizeof *addresses + n_nodes * sizeof *addresses->nodes +
                      n_chains * sizeof *addresses->chains);
    if (!addresses)
        return -ENOMEM;
    ssize_t n = getrandom(addresses->seed, sizeof addresses->seed, 0);
    if (n != (ssize_t)sizeof addresses->seed) {
        int error = n < 0 ? -errno : -EIO;
        free(addresses);
        return error;
    }
    addresses->places = places;
    addresses->limit = limit;
    addresses->n_nodes = n_nodes;
    addresses->n_chains = n_chains;
    addresses->chains = (uint32_t *)(void *)&addresses->nodes[n_nodes];
    *ret_addresses = addresses;
    return 0;
}

void tower_addresses_free(struct tower_addresses *addresses) {
    free(addresses);
}

bool tower_network_of(const struct sockaddr *address, struct tower_network *ret_network) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, address, sizeof ipv4);
        *ret_network = (struct tower_network){.number = ntohl(ipv4.sin_addr.s_addr)};
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 ipv6;
    memcpy(&ipv6, address, sizeof ipv6);
    bool is_mapped = IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr);
    const uint8_t *bytes = ipv6.sin6_addr.s6_addr + (is_mapped ? 12 : 0);
    uint64_t number = 0;
    for (int i = 0; i < (is_mapped ? 4 : 8); i++)
        number = number << 8 | bytes[i];
    *ret_network = (struct tower_network){.number = number, .is_ipv6 = !is_mapped};
    return true;
}

bool tower_network_is_equal(struct tower_network a, struct tower_network b) {
    return a.number == b.number && a.is_ipv6 == b.is_ipv6;
}

/* Every bit of the network bears on the chain, in a way that only who knows the seed can foresee.
 */
static uint32_t *chain_of(struct tower_addresses *addresses, struct tower_network key) {
    uint64_t hash = key.number ^ addresses->seed[0];
    for (int round = 0; round < 3; round++) {
        hash ^= hash >> 32;
        hash *= addresses->seed[1] | 1;
        hash += addresses->seed[0];
    }
    return &addresses->chains[(hash >> 32) & (addresses->n_chains - 1)];
}

/* Returns a place, or TOWER_ADDRESS_NONE. */
static uint32_t find(struct tower_addresses *addresses, struct tower_network key) {
    for (uint32_t link = *chain_of(addresses, key); link != 0;
         link = addresses->nodes[link - 1].next) {
        if (tower_network_is_equal(addresses->nodes[link - 1].key, key))
            return link - 1;
    }
    return TOWER_ADDRESS_NONE;
}

static void take_back_empty_nodes(struct tower_addresses *addresses) {
    for (uint32_t i = 0; i < addresses->n_chains; i++) {
        uint32_t *link = &addresses->chains[i];
        while (*link != 0) {
            struct node *node = &addresses->nodes[*link - 1];
            if (atomic_load_explicit(&node->count, memory_order_relaxed) > 0) {
                link = &node->next;
                continue;
            }
            uint32_t freed = *link;
            *link = node->next;
            node->next = addresses->first_free;
            addresses->first_free = freed;
        }
    }
}

/* A node for `key`, linked, with nobody in it. There is one: fewer than half of them count. */
static uint32_t make_node(struct tower_addresses *addresses, struct tower_network key) {
    if (addresses->first_free == 0 && addresses->n_touched == addresses->n_nodes)
        take_back_empty_nodes(addresses);
    uint32_t place = addresses->first_free - 1;
    if (addresses->first_free != 0)
        addresses->first_free = addresses->nodes[place].next;
    else
        place = addresses->n_touched++;
    assert(place < addresses->n_nodes);
    uint32_t *chain = chain_of(addresses, key);
    addresses->nodes[place].key = key;
    addresses->nodes[place].next = *chain;
    *chain = place + 1;
    return place;
}

int tower_addresses_enter(struct tower_addresses *addresses, const struct sockaddr *address,
                          uint32_t *ret_place) {
    struct tower_network key;
    if (!tower_network_of(address, &key)) {
        *ret_place = TOWER_ADDRESS_NONE;
        return 0;
    }
    uint32_t place = find(addresses, key);
    uint32_t count =
        place == TOWER_ADDRESS_NONE
            ? 0
            : atomic_load_explicit(&addresses->nodes[place].count, memory_order_relaxed);
    if (count >= addresses->limit)
        return -EDQUOT;
    if (count == 0 &&
        atomic_load_explicit(&addresses->n_counted, memory_order_acquire) >= addresses->places)
        return -ENOSPC;
    if (place == TOWER_ADDRESS_NONE)
        place = make_node(addresses, key);
    if (atomic_fetch_add_explicit(&addresses->nodes[place].count, 1, memory_order_relaxed) == 0)
        atomic_fetch_add_explicit(&addresses->n_counted, 1, memory_order_relaxed);
    *ret_place = place;
    return 0;
}

void tower_addresses_leave(struct tower_addresses *addresses, uint32_t place) {
    if (place == TOWER_ADDRESS_NONE)
        return;
    assert(place < addresses->n_nodes);
    uint32_t before =
        atomic_fetch_sub_explicit(&addresses->nodes[place].count, 1, memory_order_relaxed);
    assert(before > 0);
    /* Behind the count itself: who sees that this address counts no more finds its node at 0. */
    if (before == 1)
        atomic_fetch_sub_explicit(&addresses->n_counted, 1, memory_order_release);
}
