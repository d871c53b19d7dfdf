/* region.c - shared memory behind a memfd. */
#include "tower/region.h"

#include "fd.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int tower_region_init(struct tower_region *region, const char *name, size_t size_bytes) {
    if (size_bytes == 0 || size_bytes > (size_t)INT64_MAX)
        return -EINVAL;
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = 0;
    void *memory = MAP_FAILED;
    if (ftruncate(fd, (off_t)size_bytes) < 0)
        error = -errno;
    else if ((memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) ==
             MAP_FAILED)
        error = -errno;
    if (error < 0) {
        tower_fd_close(&fd);
        return error;
    }
    *region = (struct tower_region){.memory = memory, .size_bytes = size_bytes, .fd = fd};
    return 0;
}

int tower_region_open(struct tower_region *region, int fd, size_t least_bytes) {
    struct stat file;
    if (fstat(fd, &file) < 0)
        return -errno;
    if (!S_ISREG(file.st_mode) || file.st_size <= 0 || (uintmax_t)file.st_size < least_bytes)
        return -EINVAL;
    size_t size_bytes = (size_t)file.st_size;
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return errno == ENOMEM ? -ENOMEM : -EINVAL;
    *region = (struct tower_region){.memory = memory, .size_bytes = size_bytes, .fd = fd};
    return 0;
}

void tower_region_done(struct tower_region *region) {
    if (!region->memory)
        return;
    (void)munmap(region->memory, region->size_bytes);
    tower_fd_close(&region->fd);
    *region = (struct tower_region){.fd = -1};
}
