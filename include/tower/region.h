/* region.h - shared memory that can outlive the process that fills it.
 *
 * What must survive (air rings, the listener table, the router's frames) lives in a region: plain
 * data, offsets and no pointers, behind a memory file descriptor that can be handed on.
 */
#ifndef TOWER_REGION_H
#define TOWER_REGION_H

#include <stddef.h>

struct tower_region {
    void *memory; /* page-aligned, zeroed when made */
    size_t size_bytes;
    int fd; /* memfd, CLOEXEC */
};

/* Make a region of at least `size_bytes`, named `name` in /proc. Blocks for the kernel only.
 * Errors: -EINVAL (no size), -ENOMEM, -EMFILE, -ENFILE. */
int tower_region_init(struct tower_region *region, const char *name, size_t size_bytes);

/* Map the region behind `fd` whole, as the process before left it. On success `fd` belongs to the
 * region. What is in it is whatever was left there: check it before it is believed.
 * Errors: -EINVAL (not a file with something in it, or too short for `least_bytes`), -EBADF (not
 * open), -ENOMEM. */
int tower_region_open(struct tower_region *region, int fd, size_t least_bytes);

/* Unmap and close. Takes one that is all zeros, or already done. */
void tower_region_done(struct tower_region *region);

#endif
