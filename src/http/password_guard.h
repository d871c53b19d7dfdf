/* password_guard.h - slows down whoever tries passwords, by address (IPv6: by its /48). */
#ifndef TOWER_HTTP_PASSWORD_GUARD_H
#define TOWER_HTTP_PASSWORD_GUARD_H

#include "tower/addresses.h"

#include <stdint.h>

#define TOWER_PASSWORD_GUARD_PLACES 256

/* An address that gave a wrong password. All zeros: none. */
struct tower_password_guess {
    struct tower_network network;
    unsigned n_wrong; /* in a row; 0: the place is free */
    int64_t until_ns; /* the answer is held back so long */
};

/* One thread. Begins as all zeros, but for `first_ns`. */
struct tower_password_guard {
    int64_t first_ns; /* what a first wrong one costs; 0: nobody is slowed down */
    struct tower_password_guess guesses[TOWER_PASSWORD_GUARD_PLACES];
};

/* How long nothing is to be looked at yet that comes from there; 0: it is. An address of neither
 * IPv4 nor IPv6 is none. */
int64_t tower_password_guard_wait_ns(const struct tower_password_guard *guard,
                                     const struct sockaddr *address, int64_t now_ns);

/* The password was wrong: how long the answer is to be held back. It doubles with each in a row, up
 * to thirty times the first; ten minutes without one end the row. With all places taken, the
 * address that has waited longest since its last is forgotten. */
int64_t tower_password_guard_wrong(struct tower_password_guard *guard,
                                   const struct sockaddr *address, int64_t now_ns);

/* It was right: that address is forgotten. */
void tower_password_guard_right(struct tower_password_guard *guard, const struct sockaddr *address);

#endif
