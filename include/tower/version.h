/* version.h - the version of libtower. */
#ifndef TOWER_VERSION_H
#define TOWER_VERSION_H

/* The version of the library in use, such as "0.1.0". Any thread; the string is constant. */
const char *tower_version(void);

#endif
