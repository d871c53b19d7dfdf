/* playlist.h - a list of files to play: M3U, PLS, XSPF, or what is in a folder. */
#ifndef TOWER_SOURCE_PLAYLIST_H
#define TOWER_SOURCE_PLAYLIST_H

#include <stdbool.h>
#include <stddef.h>

/* A list is cut there, and that is said. */
#define TOWER_PLAYLIST_ENTRIES_MAX 100000
/* Of the file of a list. */
#define TOWER_PLAYLIST_BYTES_MAX (16 * 1024 * 1024)

struct tower_playlist_entry {
    char *path;
    char *title; /* UTF-8, as the list says; NULL: it does not */
};

/* Zero is an empty one. */
struct tower_playlist {
    struct tower_playlist_entry *entries;
    size_t n_entries;
    size_t capacity;
    /* What could not be made an entry. */
    size_t n_unusable;
    char why_unusable[96]; /* the first of them, in words */
};

/* Is `path` what tower_playlist_read() takes: a folder, or a name that ends in .m3u, .m3u8, .pls or
 * .xspf? Looks at the disk. */
bool tower_playlist_is_one(const char *path);

/* Read the list at `path` into `ret_playlist`, which the caller empties with tower_playlist_done().
 * Relative paths in it are relative to its folder. A folder is read with the folders in it, hidden
 * ones and links to folders left out; of its files those whose names end as audio files' do, in the
 * order of their names, numbers in them by value. Entries need not exist. Blocks for the disk.
 * Errors: -ENOENT, -EACCES and what else open() says; -EFBIG (more than TOWER_PLAYLIST_BYTES_MAX),
 * -EILSEQ (XSPF that is no well-formed XML, or declares entities), -ENODATA (no entry), -ENOMEM. */
int tower_playlist_read(const char *path, struct tower_playlist *ret_playlist);
void tower_playlist_done(struct tower_playlist *playlist);

/* ---- the parts of it ---- */

/* Append an entry; both are copied. `title` may be NULL, and is made fit to be shown.
 * Errors: -ENOMEM, -E2BIG (TOWER_PLAYLIST_ENTRIES_MAX). */
int tower_playlist_add(struct tower_playlist *playlist, const char *path, const char *title);

/* Append what a list in `folder` calls `location`: a path, or a file: URL. `is_url`: it is a URL
 * reference also where no scheme is named. What is neither is unusable. Errors: as above. */
int tower_playlist_add_location(struct tower_playlist *playlist, const char *folder,
                                const char *location, bool is_url, const char *title);

/* Note that something could not be used; the first is kept. `line` 0: not known. */
void tower_playlist_note_unusable(struct tower_playlist *playlist, size_t line, const char *why);

/* Append the entries of a list that is in memory, as read from a file in `folder`. `text` ends with
 * a NUL at text[bytes], may hold others, and is changed. Errors: those of tower_playlist_add() and
 * of tower_playlist_read(). */
int tower_playlist_parse_m3u(struct tower_playlist *playlist, const char *folder, char *text,
                             size_t bytes);
int tower_playlist_parse_pls(struct tower_playlist *playlist, const char *folder, char *text,
                             size_t bytes);
int tower_playlist_parse_xspf(struct tower_playlist *playlist, const char *folder, char *text,
                              size_t bytes);

/* Append the files of a folder. Errors: as of tower_playlist_read(). */
int tower_playlist_add_folder(struct tower_playlist *playlist, const char *folder);

/* Does the name end, behind a dot, in one of the words, of which NULL is the last? */
bool tower_playlist_ends_in(const char *path, const char *const *words);

/* As strcmp(), but as people sort: numbers by value, capitals like small letters (of ASCII), what
 * is in a folder together. 0 only for the same. Pure. */
int tower_playlist_compare_names(const char *a, const char *b);

#endif
