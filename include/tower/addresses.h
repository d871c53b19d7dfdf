/* addresses.h - how many listeners each network address has, and no more than so many.
 *
 * An IPv4 address counts by itself, and so it does when it comes mapped into IPv6; IPv6 addresses
 * count by their /64, which is what one subscriber has.
 */
#ifndef TOWER_ADDRESSES_H
#define TOWER_ADDRESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* The place of an address that is not counted. */
#define TOWER_ADDRESS_NONE UINT32_MAX

/* What an address is counted by. */
struct tower_network {
    uint64_t number; /* the IPv4 address, or the first half of the IPv6 address */
    bool is_ipv6;
};

/* The network of `address`, whole as accept() gives it. Returns false for any family but IPv4 and
 * IPv6. */
bool tower_network_of(const struct sockaddr *address, struct tower_network *ret_network);
bool tower_network_is_equal(struct tower_network a, struct tower_network b);

struct tower_addresses;

/* Room for `places` addresses at once (1 to 1048576), each with up to `limit` (1 or more)
 * listeners. Memory is used as addresses come. Errors: -EINVAL, -ENOMEM, or what kept the kernel
 * from giving random bytes. */
int tower_addresses_new(uint32_t places, uint32_t limit, struct tower_addresses **ret_addresses);
/* Nobody enters or leaves any more. Takes NULL. */
void tower_addresses_free(struct tower_addresses *addresses);

/* One more listener of `address`: IPv4 or IPv6, whole as accept() gives it. `*ret_place` is to be
 * left once; of any other family it is TOWER_ADDRESS_NONE, and nothing is counted. One thread;
 * never blocks, and allocates nothing. Errors: -EDQUOT (the address has as many as it may), -ENOSPC
 * (as many addresses as there are places have listeners). */
int tower_addresses_enter(struct tower_addresses *addresses, const struct sockaddr *address,
                          uint32_t *ret_place);

/* One listener less at `place`. Any thread, no lock. Does nothing for TOWER_ADDRESS_NONE. */
void tower_addresses_leave(struct tower_addresses *addresses, uint32_t place);

#endif
