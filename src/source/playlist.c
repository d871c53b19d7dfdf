/* playlist.c - a list of files: which kind it is, and what its entries have in common. */
#include "playlist.h"

#include "fd.h"
#include "tags.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TITLE_BYTES_MAX 1000

static const char *const m3u_words[] = {"m3u", "m3u8", NULL};
static const char *const pls_words[] = {"pls", NULL};
static const char *const xspf_words[] = {"xspf", NULL};

bool tower_playlist_ends_in(const char *path, const char *const *words) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    for (; dot && *words; words++) {
        if (strcasecmp(dot + 1, *words) == 0)
            return true;
    }
    return false;
}

static bool is_list_name(const char *path) {
    return tower_playlist_ends_in(path, m3u_words) || tower_playlist_ends_in(path, pls_words) ||
           tower_playlist_ends_in(path, xspf_words);
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool tower_playlist_is_one(const char *path) {
    return is_list_name(path) || is_folder(path);
}

/* ---- entries ---- */

static void set_unusable(struct tower_playlist *playlist, size_t line, const char *why) {
    if (line > 0)
        (void)snprintf(playlist->why_unusable, sizeof playlist->why_unusable, "line %zu: %s", line,
                       why);
    else
        (void)snprintf(playlist->why_unusable, sizeof playlist->why_unusable, "%s", why);
}

void tower_playlist_note_unusable(struct tower_playlist *playlist, size_t line, const char *why) {
    if (playlist->n_unusable++ == 0)
        set_unusable(playlist, line, why);
}

int tower_playlist_add(struct tower_playlist *playlist, const char *path, const char *title) {
    if (playlist->n_entries == TOWER_PLAYLIST_ENTRIES_MAX)
        return -E2BIG;
    if (playlist->n_entries == playlist->capacity) {
        size_t capacity = playlist->capacity > 0 ? 2 * playlist->capacity : 64;
        struct tower_playlist_entry *entries =
            realloc(playlist->entries, capacity * sizeof *entries);
        if (!entries)
            return -ENOMEM;
        playlist->entries = entries;
        playlist->capacity = capacity;
    }
    struct tower_playlist_entry entry = {.path = strdup(path)};
    if (!entry.path)
        return -ENOMEM;
    if (title && *title) {
        entry.title = tower_tag_new(title);
        if (entry.title)
            entry.title[tower_utf8_cut(entry.title, strlen(entry.title), TITLE_BYTES_MAX)] = '\0';
    }
    playlist->entries[playlist->n_entries++] = entry;
    return 0;
}

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/* In place. What is no escape stays as it is, as people write lists by hand. */
static bool decode_percents(char *text) {
    char *to = text;
    for (const char *at = text; *at; at++, to++) {
        int high = *at == '%' ? hex_value(at[1]) : -1;
        int low = high >= 0 ? hex_value(at[2]) : -1;
        *to = *at;
        if (low >= 0) {
            *to = (char)(high << 4 | low);
            at += 2;
            if (*to == '\0')
                return false;
        }
    }
    *to = '\0';
    return true;
}

/* The length of "scheme:" at the beginning, of more than one letter, which is a drive; else 0. */
static size_t scheme_bytes(const char *location) {
    size_t n =
        strspn(location, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return n > 1 && location[n] == ':' ? n + 1 : 0;
}

/* Where the path begins in file:/path, file:///path or file://localhost/path; NULL: nowhere. */
static const char *file_url_path(const char *url) {
    const char *at = url + strlen("file:");
    if (strncmp(at, "//", 2) == 0) {
        at += 2;
        if (strncasecmp(at, "localhost/", 10) == 0)
            at += 9;
    }
    return *at == '/' ? at : NULL;
}

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* A path that is not there may be one of another system's: written with backslashes, or in Latin-1.
 * On the heap; NULL: no memory. */
static char *adapt(char *path) {
    if (exists(path))
        return path;
    if (strchr(path, '\\')) {
        for (char *at = path; *at; at++) {
            if (*at == '\\')
                *at = '/';
        }
    }
    size_t bytes = strlen(path);
    if (tower_utf8_is_valid(path, bytes) || exists(path))
        return path;
    char *converted = malloc(2 * bytes + 1);
    if (converted)
        (void)tower_utf8_from_latin1(path, bytes, converted, 2 * bytes + 1);
    free(path);
    return converted;
}

int tower_playlist_add_location(struct tower_playlist *playlist, const char *folder,
                                const char *location, bool is_url, const char *title) {
    const char *named = location;
    bool is_file_url = strncasecmp(location, "file:", 5) == 0;
    bool has_authority =
        scheme_bytes(location) > 0 && strncmp(location + scheme_bytes(location), "//", 2) == 0;
    if (is_file_url)
        named = file_url_path(location);
    else if (has_authority || (is_url && scheme_bytes(location) > 0))
        named = NULL;
    const char *why = named ? NULL : "only files are played, and this is another address";
    char *path = NULL;
    if (named && *named != '/' && asprintf(&path, "%s/%s", folder, named) < 0)
        return -ENOMEM;
    if (named && *named == '/' && !(path = strdup(named)))
        return -ENOMEM;
    if (path && (is_url || is_file_url) && !decode_percents(path + strlen(path) - strlen(named)))
        why = "a NUL in a file's name";
    if (path && strlen(path) >= PATH_MAX)
        why = "a path of more than 4095 bytes";
    int error = 0;
    if (why || !path) {
        tower_playlist_note_unusable(playlist, 0, why ? why : "no path");
    } else {
        path = adapt(path);
        error = path ? tower_playlist_add(playlist, path, title) : -ENOMEM;
    }
    free(path);
    return error;
}

void tower_playlist_done(struct tower_playlist *playlist) {
    for (size_t i = 0; i < playlist->n_entries; i++) {
        free(playlist->entries[i].path);
        free(playlist->entries[i].title);
    }
    free(playlist->entries);
    *playlist = (struct tower_playlist){0};
}

/* ---- reading ---- */

/* All of a file, on the heap, with a NUL behind it. */
static int read_text(const char *path, char **ret_text, size_t *ret_bytes) {
    size_t capacity = 65536, filled = 0;
    char *text = malloc(capacity + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int error = fd < 0 ? -errno : 0;
    if (!text)
        error = -ENOMEM;
    while (error == 0) {
        if (filled == capacity) {
            char *more =
                capacity > TOWER_PLAYLIST_BYTES_MAX ? NULL : realloc(text, 2 * capacity + 1);
            if (!more) {
                error = capacity > TOWER_PLAYLIST_BYTES_MAX ? -EFBIG : -ENOMEM;
                break;
            }
            text = more;
            capacity *= 2;
        }
        ssize_t n = read(fd, text + filled, capacity - filled);
        if (n == 0)
            break;
        if (n > 0)
            filled += (size_t)n;
        else if (errno != EINTR)
            error = -errno;
    }
    tower_fd_close(&fd);
    if (error == 0 && filled > TOWER_PLAYLIST_BYTES_MAX)
        error = -EFBIG;
    if (error < 0) {
        free(text);
        return error;
    }
    text[filled] = '\0';
    *ret_text = text;
    *ret_bytes = filled;
    return 0;
}

static int read_list(struct tower_playlist *playlist, const char *path) {
    const char *slash = strrchr(path, '/');
    char *text;
    size_t bytes;
    int error = read_text(path, &text, &bytes);
    if (error < 0)
        return error;
    char *folder = slash ? strndup(path, slash > path ? (size_t)(slash - path) : 1) : strdup(".");
    if (!folder)
        error = -ENOMEM;
    else if (tower_playlist_ends_in(path, pls_words))
        error = tower_playlist_parse_pls(playlist, folder, text, bytes);
    else if (tower_playlist_ends_in(path, xspf_words))
        error = tower_playlist_parse_xspf(playlist, folder, text, bytes);
    else
        error = tower_playlist_parse_m3u(playlist, folder, text, bytes);
    free(folder);
    free(text);
    return error;
}

int tower_playlist_read(const char *path, struct tower_playlist *ret_playlist) {
    struct tower_playlist playlist = {0};
    int error =
        is_folder(path) ? tower_playlist_add_folder(&playlist, path) : read_list(&playlist, path);
    if (error == -E2BIG) {
        tower_playlist_note_unusable(&playlist, 0, "the list is too long, and was cut");
        error = 0;
    }
    if (error == 0 && playlist.n_entries == 0)
        error = -ENODATA;
    if (error < 0) {
        tower_playlist_done(&playlist);
        return error;
    }
    *ret_playlist = playlist;
    return 0;
}
