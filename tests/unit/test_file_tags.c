/* What a file source says of who and what is heard: libsndfile's word, or an ffmpeg's that this
 * test plays. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../contracts/descriptors.h"
#include "tower/source.h"

#include <pthread.h>
#include <sndfile.h>
#include <stdatomic.h>

#define PATIENCE_S 120

static struct test_folder folder;
static char path[128];
static char program[128];

static int make_folder(void **state) {
    (void)state;
    if (!test_folder_make(&folder))
        return -1;
    test_folder_file(&folder, "a file", path, sizeof path);
    test_folder_file(&folder, "ffmpeg", program, sizeof program);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    test_folder_remove(&folder);
    return 0;
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(name, 0700), 0);
}

/* A file for libsndfile; NULL: without that tag. */
static void write_tagged(int format, const char *artist, const char *title) {
    static const int16_t silence[4800];
    SF_INFO info = {.samplerate = 48000, .channels = 1, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    assert_non_null(file);
    if (artist)
        assert_int_equal(sf_set_string(file, SF_STR_ARTIST, artist), 0);
    if (title)
        assert_int_equal(sf_set_string(file, SF_STR_TITLE, title), 0);
    assert_int_equal(sf_writef_short(file, silence, 4800), 4800);
    assert_int_equal(sf_close(file), 0);
}

/* A file that libsndfile does not know, and an ffmpeg that says `words`, as the shell's printf
 * takes them, when it is asked for the tags; what comes behind that is `then`. */
static void play_ffmpeg(const char *words, const char *then) {
    char script[4096];
    write_file(path, "This is for ffmpeg.\n");
    (void)snprintf(script, sizeof script,
                   "#!/bin/sh\ncase \"$*\" in\n*ffmetadata*) printf '%s'\n%s\n;;\n"
                   "*) head -c 46080 /dev/zero ;;\nesac\n",
                   words, then);
    write_file(program, script);
}

static struct tower_source *open_on(struct tower_clock *clock, bool reads_tags) {
    const struct tower_file_config config = {
        .path = path, .ffmpeg = program, .reads_tags = reads_tags};
    struct tower_source *source;
    char error[512] = "";
    if (tower_source_open_file(clock, &config, &source, error, sizeof error) < 0)
        fail_msg("%s", error);
    return source;
}

static void assert_text(const char *is, const char *expected) {
    if (expected) {
        assert_non_null(is);
        assert_string_equal(is, expected);
    } else {
        assert_null(is);
    }
}

static void expect(const char *artist, const char *title) {
    struct tower_source *source = open_on(tower_clock_real(), true);
    assert_text(source->info.artist, artist);
    assert_text(source->info.title, title);
    tower_source_close(source);
}

static void test_what_libsndfile_finds(void **state) {
    (void)state;
    static const int formats[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_16,
                                  SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
                                  SF_FORMAT_OGG | SF_FORMAT_VORBIS};
    write_file(program, "#!/bin/sh\nexit 1\n");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        write_tagged(formats[i], "Bj\u00f6rk", "J\u00f3ga");
        expect("Bj\u00f6rk", "J\u00f3ga");
        write_tagged(formats[i], NULL, "The news");
        expect(NULL, "The news");
        write_tagged(formats[i], NULL, NULL);
        expect(NULL, NULL);
        /* Not asked. */
        write_tagged(formats[i], "Bj\u00f6rk", "J\u00f3ga");
        struct tower_source *source = open_on(tower_clock_real(), false);
        assert_null(source->info.artist);
        assert_null(source->info.title);
        tower_source_close(source);
    }
}

static void test_old_files_are_latin_1_and_padded(void **state) {
    (void)state;
    write_tagged(SF_FORMAT_WAV | SF_FORMAT_PCM_16, "  Bj\xf6rk \t  ", "J\xf3ga\xff");
    expect("Bj\u00f6rk", "J\u00f3ga\u00ff");
    write_tagged(SF_FORMAT_WAV | SF_FORMAT_PCM_16, "    ", "\n");
    expect(NULL, NULL);
}

static void test_what_ffmpeg_finds(void **state) {
    (void)state;
    static const struct {
        const char *words, *artist, *title;
    } cases[] = {
        {";FFMETADATA1\\ntitle=J\u00f3ga\\nartist=Bj\u00f6rk\\n", "Bj\u00f6rk", "J\u00f3ga"},
        {";FFMETADATA1\\nARTIST=a\\nTitle=b", "a", NULL}, /* cut off in a line */
        /* What has a meaning there is escaped, an end of a line too. */
        {"title=1 \\\\= 1\\\\; \\\\# \\\\\\\\ \\\\\\nartist=x=y\\n\\nartist=b\\n", "b",
         "1 = 1; # \\ \nartist=x=y"},
        {"title=a\\n[CHAPTER]\\nartist=of a chapter\\n", NULL, "a"},
        {"titles=a\\n=b\\nartist=\\ntitle\\n", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        play_ffmpeg(cases[i].words, "");
        expect(cases[i].artist, cases[i].title);
    }
    assert_true(has_no_child());
}

static void test_a_word_without_end_is_cut_at_a_character(void **state) {
    (void)state;
    int before = count_descriptors();
    play_ffmpeg("title=", "yes \u20ac | head -n 100000 | tr -d '\\n'; echo; echo artist=a");
    struct tower_source *source = open_on(tower_clock_real(), true);
    assert_text(source->info.artist, "a");
    size_t bytes = strlen(source->info.title);
    assert_in_range(bytes, 4065, 8192);
    assert_int_equal(bytes % 3, 0);
    for (size_t i = 0; i < bytes; i += 3)
        assert_memory_equal(source->info.title + i, "\u20ac", 3);
    tower_source_close(source);
    /* Nor does one that never stops keep us. */
    play_ffmpeg("title=a\\n[CHAPTER]\\n", "exec yes");
    expect(NULL, "a");
    assert_int_equal(count_descriptors(), before);
    assert_true(has_no_child());
}

struct hurry {
    struct tower_clock *clock;
    _Atomic bool is_enough;
};

static void *run_hurry(void *arg) {
    struct hurry *hurry = arg;
    while (!atomic_load(&hurry->is_enough)) {
        tower_clock_virtual_advance(hurry->clock, TOWER_NS_PER_S / 10);
        (void)usleep(1000);
    }
    return NULL;
}

static void test_one_that_hangs_is_waited_for_three_seconds(void **state) {
    (void)state;
    struct hurry hurry = {0};
    pthread_t thread;
    assert_int_equal(tower_clock_virtual_new(0, &hurry.clock), 0);
    play_ffmpeg("title=a\\n", "exec sleep 1000");
    assert_int_equal(pthread_create(&thread, NULL, run_hurry, &hurry), 0);
    struct tower_source *source = open_on(hurry.clock, true);
    atomic_store(&hurry.is_enough, true);
    pthread_join(thread, NULL);
    assert_true(tower_clock_now_ns(hurry.clock) >= 3 * TOWER_NS_PER_S);
    assert_text(source->info.title, "a");
    tower_source_close(source);
    tower_clock_free(hurry.clock);
    assert_true(has_no_child());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_libsndfile_finds),
        cmocka_unit_test(test_old_files_are_latin_1_and_padded),
        cmocka_unit_test(test_what_ffmpeg_finds),
        cmocka_unit_test(test_a_word_without_end_is_cut_at_a_character),
        cmocka_unit_test(test_one_that_hangs_is_waited_for_three_seconds),
    };
    alarm(PATIENCE_S);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
