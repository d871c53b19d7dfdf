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

int tower_feed_title_new(const struct tower_feed_options *options,
                         const struct tower_source_info *info, char **ret_title) {
    char *title = NULL;
    bool is_file = options->kind == TOWER_FEED_FILE;
    if (!options->sends_title || (!options->title && !is_file)) {
        *ret_title = NULL;
        return 0;
    }
    if (options->title)
        title = strdup(options->title);
    else if (info->title && info->artist)
        title = asprintf(&title, "%s - %s", info->artist, info->title) < 0 ? NULL : title;
    else
        title = info->title ? strdup(info->title) : name_of(options->path);
    if (!title)
        return -ENOMEM;
    *ret_title = title;
    return 0;
}
