/* playlist_text.c - M3U and PLS: lists of lines. */
#include "playlist.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Lines end with LF, CR, or both; spaces at their ends are none of theirs. */
struct lines {
    char *at;
    char *end;
    size_t number; /* of the line given last, from 1 */
};

static struct lines lines_of(char *text, size_t bytes) {
    struct lines lines = {.at = text, .end = text + bytes};
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        lines.at += 3;
    return lines;
}

/* The next line as a string, up to a NUL in it; NULL: there is none. */
static char *next_line(struct lines *lines) {
    if (lines->at >= lines->end)
        return NULL;
    char *line = lines->at;
    size_t left = (size_t)(lines->end - line);
    size_t bytes = 0;
    while (bytes < left && line[bytes] != '\n' && line[bytes] != '\r')
        bytes++;
    lines->at += bytes;
    if (lines->at < lines->end)
        lines->at += left - bytes > 1 && memcmp(lines->at, "\r\n", 2) == 0 ? 2 : 1;
    lines->number++;
    line[bytes] = '\0';
    bytes = strlen(line);
    while (bytes > 0 && isspace((unsigned char)line[bytes - 1]))
        line[--bytes] = '\0';
    while (isspace((unsigned char)*line))
        line++;
    return line;
}

/* Add, and say of what cannot be used in which line it is. */
static int add(struct tower_playlist *playlist, const char *folder, const char *location,
               const char *title, size_t line) {
    size_t n_unusable = playlist->n_unusable;
    int error = tower_playlist_add_location(playlist, folder, location, false, title);
    if (n_unusable == 0 && playlist->n_unusable == 1) {
        char why[sizeof playlist->why_unusable];
        memcpy(why, playlist->why_unusable, sizeof why);
        playlist->n_unusable = 0;
        tower_playlist_note_unusable(playlist, line, why);
    }
    return error;
}

/* ---- M3U ---- */

/* Of "#EXTINF:123 key="a,b",Title" the title; NULL: there is none. */
static const char *extinf_title(const char *line) {
    bool is_quoted = false;
    for (const char *at = line + strlen("#EXTINF:"); *at; at++) {
        if (*at == '"')
            is_quoted = !is_quoted;
        else if (*at == ',' && !is_quoted)
            return at + 1;
    }
    return NULL;
}

int tower_playlist_parse_m3u(struct tower_playlist *playlist, const char *folder, char *text,
                             size_t bytes) {
    struct lines lines = lines_of(text, bytes);
    const char *title = NULL;
    const char *line;
    int error = 0;
    while (error == 0 && (line = next_line(&lines))) {
        if (*line == '#') {
            if (strncasecmp(line, "#EXTINF:", 8) == 0)
                title = extinf_title(line);
        } else if (*line) {
            error = add(playlist, folder, line, title, lines.number);
            title = NULL;
        }
    }
    return error;
}

/* ---- PLS ---- */

struct numbered {
    unsigned long number;
    size_t line;
    const char *text;
};

struct numbered_list {
    struct numbered *items;
    size_t n_items;
    size_t capacity;
};

static int compare_numbered(const void *left, const void *right) {
    const struct numbered *a = left;
    const struct numbered *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

static int append(struct numbered_list *list, const struct numbered *item) {
    if (list->n_items == TOWER_PLAYLIST_ENTRIES_MAX)
        return -E2BIG;
    if (list->n_items == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        struct numbered *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return -ENOMEM;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n_items++] = *item;
    return 0;
}

/* Is the line "<word><number>=<text>"? */
static bool is_numbered(const char *line, const char *word, struct numbered *ret_item) {
    size_t bytes = strlen(word);
    char *end;
    if (strncasecmp(line, word, bytes) != 0 || !isdigit((unsigned char)line[bytes]))
        return false;
    ret_item->number = strtoul(line + bytes, &end, 10); /* beyond its range: the last */
    while (*end == ' ' || *end == '\t')
        end++;
    if (*end != '=')
        return false;
    ret_item->text = end + 1 + strspn(end + 1, " \t");
    return true;
}

static bool is_known(const char *line) {
    struct numbered length;
    return *line == '\0' || *line == ';' || *line == '#' || strcasecmp(line, "[playlist]") == 0 ||
           strncasecmp(line, "NumberOfEntries", 15) == 0 || strncasecmp(line, "Version", 7) == 0 ||
           is_numbered(line, "Length", &length);
}

static int add_numbered(struct tower_playlist *playlist, const char *folder,
                        struct numbered_list *files, struct numbered_list *titles) {
    size_t n_titles = 0;
    if (files->n_items > 0)
        qsort(files->items, files->n_items, sizeof *files->items, compare_numbered);
    if (titles->n_items > 0)
        qsort(titles->items, titles->n_items, sizeof *titles->items, compare_numbered);
    int error = 0;
    for (size_t i = 0; i < files->n_items && error == 0; i++) {
        const struct numbered *file = &files->items[i];
        while (n_titles < titles->n_items && titles->items[n_titles].number < file->number)
            n_titles++;
        bool has_title =
            n_titles < titles->n_items && titles->items[n_titles].number == file->number;
        error = add(playlist, folder, file->text, has_title ? titles->items[n_titles].text : NULL,
                    file->line);
    }
    return error;
}

int tower_playlist_parse_pls(struct tower_playlist *playlist, const char *folder, char *text,
                             size_t bytes) {
    struct lines lines = lines_of(text, bytes);
    struct numbered_list files = {0};
    struct numbered_list titles = {0};
    const char *line;
    bool is_cut = false;
    int error = 0;
    while (error == 0 && (line = next_line(&lines))) {
        struct numbered item = {.line = lines.number};
        if (is_numbered(line, "File", &item) && *item.text)
            error = append(&files, &item);
        else if (is_numbered(line, "Title", &item))
            error = append(&titles, &item);
        else if (!is_known(line))
            tower_playlist_note_unusable(playlist, lines.number, "no line of a PLS file");
    }
    if (error == -E2BIG) {
        is_cut = true;
        error = 0;
    }
    if (error == 0)
        error = add_numbered(playlist, folder, &files, &titles);
    free(files.items);
    free(titles.items);
    return error == 0 && is_cut ? -E2BIG : error;
}
