/* password_guard.c - slows down whoever tries passwords. */
#include "password_guard.h"

#include <stddef.h>

#define MOST_FACTOR 30
#define FORGET_NS (600 * INT64_C(1000000000))

/* Whose guesses are counted together. A /48 is what anybody gets for the asking (RFC 6177): by its
 * 65536 networks of /64 each guess could be the first. */
static bool network_of(const struct sockaddr *address, struct tower_network *ret_network) {
    if (!tower_network_of(address, ret_network))
        return false;
    if (ret_network->is_ipv6)
        ret_network->number >>= 16;
    return true;
}

/* The address's place, or NULL. */
static const struct tower_password_guess *find(const struct tower_password_guard *guard,
                                               struct tower_network network) {
    for (size_t i = 0; i < TOWER_PASSWORD_GUARD_PLACES; i++) {
        const struct tower_password_guess *guess = &guard->guesses[i];
        if (guess->n_wrong > 0 && tower_network_is_equal(guess->network, network))
            return guess;
    }
    return NULL;
}

/* A free one, or else that of whose wait is over first. */
static size_t find_place(const struct tower_password_guard *guard) {
    size_t found = 0;
    for (size_t i = 0; i < TOWER_PASSWORD_GUARD_PLACES; i++) {
        if (guard->guesses[i].n_wrong == 0)
            return i;
        if (guard->guesses[i].until_ns < guard->guesses[found].until_ns)
            found = i;
    }
    return found;
}

int64_t tower_password_guard_wait_ns(const struct tower_password_guard *guard,
                                     const struct sockaddr *address, int64_t now_ns) {
    struct tower_network network;
    const struct tower_password_guess *guess =
        network_of(address, &network) ? find(guard, network) : NULL;
    return guess && guess->until_ns > now_ns ? guess->until_ns - now_ns : 0;
}

int64_t tower_password_guard_wrong(struct tower_password_guard *guard,
                                   const struct sockaddr *address, int64_t now_ns) {
    struct tower_network network;
    if (guard->first_ns == 0 || !network_of(address, &network))
        return guard->first_ns;
    const struct tower_password_guess *known = find(guard, network);
    size_t place = known ? (size_t)(known - guard->guesses) : find_place(guard);
    struct tower_password_guess *guess = &guard->guesses[place];
    unsigned n_before = known && now_ns - known->until_ns < FORGET_NS ? known->n_wrong : 0;
    int64_t factor = n_before < 5 ? INT64_C(1) << n_before : MOST_FACTOR;
    *guess = (struct tower_password_guess){.network = network,
                                           .n_wrong = n_before < 5 ? n_before + 1 : n_before,
                                           .until_ns = now_ns + factor * guard->first_ns};
    return factor * guard->first_ns;
}

void tower_password_guard_right(struct tower_password_guard *guard,
                                const struct sockaddr *address) {
    struct tower_network network;
    const struct tower_password_guess *guess =
        network_of(address, &network) ? find(guard, network) : NULL;
    if (guess)
        guard->guesses[guess - guard->guesses].n_wrong = 0;
}
