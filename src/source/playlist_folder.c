/* playlist_folder.c - the audio files of a folder, as people sort them. */
#include "playlist.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16

static const char *const audio_words[] = {
    "3gp",  "aac",  "ac3", "aif", "aifc", "aiff", "amr",  "ape", "au",  "caf",
    "flac", "m4a",  "m4b", "mka", "mp2",  "mp3",  "mp4",  "mpc", "oga", "ogg",
    "opus", "rf64", "spx", "tta", "w64",  "wav",  "webm", "wma", "wv",  NULL,
};

/* ---- order ---- */

static size_t digits_at(const char *text) {
    return strspn(text, "0123456789");
}

/* Numbers at the beginning of both, by value, whatever their length. */
static int compare_numbers(const char *a, size_t a_digits, const char *b, size_t b_digits) {
    for (; a_digits > 1 && *a == '0'; a++)
        a_digits--;
    for (; b_digits > 1 && *b == '0'; b++)
        b_digits--;
    if (a_digits != b_digits)
        return a_digits < b_digits ? -1 : 1;
    return memcmp(a, b, a_digits);
}

/* What is in a folder stands together: the separator comes before every other byte. */
static int rank(char byte) {
    return byte == '/' ? 1 : tolower((unsigned char)byte);
}

int tower_playlist_compare_names(const char *a, const char *b) {
    const char *whole_a = a;
    const char *whole_b = b;
    while (*a || *b) {
        size_t a_digits = digits_at(a);
        size_t b_digits = digits_at(b);
        int order = a_digits > 0 && b_digits > 0 ? compare_numbers(a, a_digits, b, b_digits)
                                                 : rank(*a) - rank(*b);
        if (order != 0)
            return order;
        a += a_digits > 0 ? a_digits : 1;
        b += b_digits > 0 ? b_digits : 1;
    }
    return strcmp(whole_a, whole_b);
}

static int compare_entries(const void *left, const void *right) {
    const struct tower_playlist_entry *a = left;
    const struct tower_playlist_entry *b = right;
    return tower_playlist_compare_names(a->path, b->path);
}

/* ---- walking ---- */

static int walk(struct tower_playlist *playlist, const char *folder, unsigned depth);

static int take(struct tower_playlist *playlist, int folder_fd, const char *path, const char *name,
                unsigned depth) {
    struct stat status;
    if (fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(status.st_mode))
        return walk(playlist, path, depth + 1);
    /* A link may lead to a file, not to a folder, which might be one above. */
    if (S_ISLNK(status.st_mode) && fstatat(folder_fd, name, &status, 0) < 0)
        return 0;
    if (!S_ISREG(status.st_mode) || !tower_playlist_ends_in(name, audio_words))
        return 0;
    return tower_playlist_add(playlist, path, NULL);
}

static int walk(struct tower_playlist *playlist, const char *folder, unsigned depth) {
    if (depth > DEPTH_MAX) {
        tower_playlist_note_unusable(playlist, 0, "folders too deep within each other");
        return 0;
    }
    DIR *listing = opendir(folder);
    if (!listing) {
        if (depth == 0)
            return -errno;
        tower_playlist_note_unusable(playlist, 0, "a folder that cannot be read");
        return 0;
    }
    const char *separator = folder[strlen(folder) - 1] == '/' ? "" : "/";
    const struct dirent *entry;
    int error = 0;
    while (error == 0 && (entry = readdir(listing))) {
        char *path;
        if (entry->d_name[0] == '.')
            continue;
        if (asprintf(&path, "%s%s%s", folder, separator, entry->d_name) < 0) {
            error = -ENOMEM;
            break;
        }
        error = take(playlist, dirfd(listing), path, entry->d_name, depth);
        free(path);
    }
    (void)closedir(listing);
    return error;
}

int tower_playlist_add_folder(struct tower_playlist *playlist, const char *folder) {
    int error = walk(playlist, folder, 0);
    if (playlist->n_entries > 0)
        qsort(playlist->entries, playlist->n_entries, sizeof *playlist->entries, compare_entries);
    return error;
}
