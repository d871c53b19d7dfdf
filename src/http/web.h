/* web.h - the files of web/, which are part of the program. */
#ifndef TOWER_HTTP_WEB_H
#define TOWER_HTTP_WEB_H

#include <stddef.h>

struct tower_web_file {
    const char *path; /* as a client asks for it: "/page.css", and "/" for index.html */
    const char *content_type;
    const unsigned char *bytes;
    size_t size;
};

/* Made by web_files.sh when the program is built; the last one is all zeros. */
extern const struct tower_web_file tower_web_files[];

/* The file at `path`, which needs no NUL behind it; NULL where there is none. Any thread. */
const struct tower_web_file *tower_web_find(const char *path, size_t path_bytes);

#endif
