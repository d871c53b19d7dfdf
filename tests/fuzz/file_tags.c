/* file_tags.c - what ffmpeg says of a file's tags, line by line, and the tags of any bytes.
 *
 * Takes the source in, as what reads the lines stands behind a child process. The input is what
 * ffmpeg says; its first line is also taken for an artist and its second for a title.
 */
#include "../../src/source/tags.c"

#include "fuzz.h"

static void check_tag(const char *tag) {
    size_t bytes = strlen(tag);
    FUZZ_REQUIRE(bytes > 0 && bytes < 2 * LINE_BYTES && tower_utf8_is_valid(tag, bytes));
    FUZZ_REQUIRE(!is_blank(tag[0]) && !is_blank(tag[bytes - 1]));
}

static void read_all(const void *data, size_t bytes, struct tower_tags *ret_tags) {
    static struct line line;
    const char *text = data;
    memset(&line, 0, sizeof line);
    *ret_tags = (struct tower_tags){NULL, NULL};
    for (size_t i = 0; i < bytes && take(&line, text[i], ret_tags); i++)
        FUZZ_REQUIRE(line.filled < sizeof line.text && line.value_at <= line.filled);
}

/* As ffmpeg writes them (its documentation, "Metadata"). */
static void print_escaped(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (strchr("=;#\\\n", *text))
            (void)fputc('\\', out);
        (void)fputc(*text, out);
    }
}

static void check_same(const char *tag, const char *text) {
    char *wanted = tower_tag_new(text);
    FUZZ_REQUIRE((tag == NULL) == (wanted == NULL));
    FUZZ_REQUIRE(!tag || strcmp(tag, wanted) == 0);
    if (wanted)
        check_tag(wanted);
    free(wanted);
}

static void check_comes_back(const char *artist, const char *title) {
    struct tower_tags tags;
    char *said = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&said, &bytes);
    FUZZ_REQUIRE(out);
    (void)fputs(";FFMETADATA1\nalbum=", out);
    print_escaped(out, title);
    (void)fputs("\nARTIST=", out);
    print_escaped(out, artist);
    (void)fputs("\ntitle=", out);
    print_escaped(out, title);
    (void)fputs("\n[STREAM]\ntitle=other\nartist=other\n", out);
    FUZZ_REQUIRE(fclose(out) == 0);
    read_all(said, bytes, &tags);
    check_same(tags.artist, artist);
    check_same(tags.title, title);
    tower_tags_done(&tags);
    free(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct tower_tags tags;
    char artist[2000], title[2000];
    read_all(data, bytes, &tags);
    if (tags.artist)
        check_tag(tags.artist);
    if (tags.title)
        check_tag(tags.title);
    tower_tags_done(&tags);
    fuzz_take_text('\n', &data, &bytes, artist, sizeof artist);
    fuzz_take_text('\0', &data, &bytes, title, sizeof title);
    check_comes_back(artist, title);
    return 0;
}
