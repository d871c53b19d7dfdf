/* playlist.c - the same bytes as M3U, as PLS and as XSPF: what comes of any list can be opened,
 * shown, and freed.
 */
#include "playlist.h"

#include "fuzz.h"

#include <limits.h>

typedef int (*parse_function)(struct tower_playlist *playlist, const char *folder, char *text,
                              size_t bytes);

static void check_entry(const struct tower_playlist_entry *entry) {
    size_t path_bytes = strlen(entry->path);
    FUZZ_REQUIRE(entry->path[0] == '/' && path_bytes < 2 * PATH_MAX);
    if (!entry->title)
        return;
    size_t bytes = strlen(entry->title);
    FUZZ_REQUIRE(bytes > 0 && bytes <= 1000 && tower_utf8_is_valid(entry->title, bytes));
}

static void parse_as(parse_function parse, const uint8_t *data, size_t bytes) {
    struct tower_playlist playlist = {0};
    /* Exactly as large as it says, so that a byte behind it is found. */
    char *text = malloc(bytes + 1);
    FUZZ_REQUIRE(text);
    if (bytes > 0)
        memcpy(text, data, bytes);
    text[bytes] = '\0';
    (void)parse(&playlist, "/nowhere", text, bytes);
    free(text);
    FUZZ_REQUIRE(playlist.n_entries <= playlist.capacity && playlist.n_entries <= bytes);
    for (size_t i = 0; i < playlist.n_entries; i++)
        check_entry(&playlist.entries[i]);
    FUZZ_REQUIRE(memchr(playlist.why_unusable, '\0', sizeof playlist.why_unusable));
    FUZZ_REQUIRE((playlist.n_unusable > 0) == (playlist.why_unusable[0] != '\0'));
    for (size_t i = 1; i < playlist.n_entries; i++) {
        const char *a = playlist.entries[i - 1].path;
        const char *b = playlist.entries[i].path;
        int order = tower_playlist_compare_names(a, b);
        int mirrored = tower_playlist_compare_names(b, a);
        FUZZ_REQUIRE((order > 0) == (mirrored < 0) && (order == 0) == (strcmp(a, b) == 0));
    }
    tower_playlist_done(&playlist);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    parse_as(tower_playlist_parse_m3u, data, bytes);
    parse_as(tower_playlist_parse_pls, data, bytes);
    parse_as(tower_playlist_parse_xspf, data, bytes);
    return 0;
}
