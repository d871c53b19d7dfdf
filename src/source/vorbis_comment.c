/* vorbis_comment.c - the two comments out of many that make a title. */
#include "vorbis_comment.h"

#include "tags.h"
#include "tower/titles.h"
#include "utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LENGTH_BYTES 4
/* Of one value: what is longer is cut, since no title can hold it. */
#define VALUE_BYTES_MAX TOWER_TITLE_BYTES_MAX

/* Take a little-endian number from the front. */
static bool take_number(const uint8_t **at, size_t *left, uint32_t *ret_number) {
    if (*left < LENGTH_BYTES)
        return false;
    const uint8_t *bytes = *at;
    *ret_number = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                  (uint32_t)bytes[3] << 24;
    *at += LENGTH_BYTES;
    *left -= LENGTH_BYTES;
    return true;
}

/* The value of "KEY=value" if that is its key, fit to be shown, on the heap; else NULL. */
static char *value_of(const uint8_t *comment, size_t bytes, const char *key) {
    size_t key_bytes = strlen(key);
    if (bytes <= key_bytes || comment[key_bytes] != '=' ||
        strncasecmp((const char *)comment, key, key_bytes) != 0)
        return NULL;
    const char *value = (const char *)comment + key_bytes + 1;
    size_t value_bytes = bytes - key_bytes - 1;
    char *text = strndup(value, tower_utf8_cut(value, value_bytes, VALUE_BYTES_MAX));
    char *tag = text ? tower_tag_new(text) : NULL;
    free(text);
    return tag;
}

static void note(struct tower_tags *tags, const uint8_t *comment, size_t bytes) {
    if (!tags->artist)
        tags->artist = value_of(comment, bytes, "ARTIST");
    if (!tags->title)
        tags->title = value_of(comment, bytes, "TITLE");
}

static char *join(const struct tower_tags *tags) {
    char *title = NULL;
    if (!tags->title)
        return NULL;
    if (asprintf(&title, "%s%s%s", tags->artist ? tags->artist : "", tags->artist ? " - " : "",
                 tags->title) < 0)
        return NULL;
    title[tower_utf8_cut(title, strlen(title), TOWER_TITLE_BYTES_MAX)] = '\0';
    /* A line break within would be one in a log, or in a player. */
    for (char *at = title; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    }
    return title;
}

char *tower_vorbis_comment_title(const uint8_t *comment, size_t bytes) {
    struct tower_tags tags = {NULL, NULL};
    uint32_t vendor_bytes, n_comments, comment_bytes;
    if (!take_number(&comment, &bytes, &vendor_bytes) || vendor_bytes > bytes)
        return NULL;
    comment += vendor_bytes;
    bytes -= vendor_bytes;
    if (!take_number(&comment, &bytes, &n_comments))
        return NULL;
    for (uint32_t i = 0; i < n_comments; i++) {
        if (!take_number(&comment, &bytes, &comment_bytes) || comment_bytes > bytes)
            break;
        note(&tags, comment, comment_bytes);
        comment += comment_bytes;
        bytes -= comment_bytes;
    }
    char *title = join(&tags);
    tower_tags_done(&tags);
    return title;
}
