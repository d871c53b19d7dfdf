/* feed_title.c - what `tower feed` says is playing. */
#include "feed_title.h"

#include "tags.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "" where a name has nothing in it that can be shown. */
static char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *begin = slash ? slash + 1 : path;
    const char *dot = strrchr(begin, '.');
    size_t bytes = dot && dot > begin ? (size_t)(dot - begin) : strlen(begin);
    char *name = strndup(begin, bytes);
    char *title = name ? tower_tag_new(name) : NULL;
    free(name);
    return title ? title : strdup("");
}

int tower_feed_title_new(const struct tower_feed_options *options, const char *path,
                         const char *artist, const char *file_title, char **ret_title) {
    char *title = NULL;
    if (!options->sends_title || (!options->title && !path)) {
        *ret_title = NULL;
        return 0;
    }
    if (options->title)
        title = strdup(options->title);
    else if (file_title && artist)
        title = asprintf(&title, "%s - %s", artist, file_title) < 0 ? NULL : title;
    else
        title = file_title ? strdup(file_title) : name_of(path);
    if (!title)
        return -ENOMEM;
    *ret_title = title;
    return 0;
}
