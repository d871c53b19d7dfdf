/* program_path.h - where the running program lies on disk. */
#ifndef TOWER_BASE_PROGRAM_PATH_H
#define TOWER_BASE_PROGRAM_PATH_H

#include <stddef.h>

/* Write the path, so that what lies there now, or later, can be executed: also of a program that
 * was replaced since it began. "" where it is not known. */
void tower_program_path(char *ret_path, size_t path_bytes);

#endif
