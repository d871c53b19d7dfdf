/* program_path.c - where the running program lies on disk. */
#include "program_path.h"

#include <string.h>
#include <unistd.h>

void tower_program_path(char *ret_path, size_t path_bytes) {
    static const char deleted[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", ret_path, path_bytes - 1);
    ret_path[n > 0 ? n : 0] = '\0';
    /* The kernel's words for one that has been replaced already. */
    char *end = n > (ssize_t)sizeof deleted ? ret_path + n - (sizeof deleted - 1) : NULL;
    if (end && strcmp(end, deleted) == 0)
        *end = '\0';
}
