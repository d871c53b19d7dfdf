/* Playlists: what is read from M3U, PLS, XSPF and folders, good and bad, and whose turn it is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "playlist.h"
#include "playlist_order.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct tower_playlist list;

static int begin(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/tower-list-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    char command[128];
    tower_playlist_done(&list);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command); /* NOLINT(cert-env33-c): a test's own folder */
}

static const char *in_folder(const char *name) {
    static char paths[16][400];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static const char *write_bytes(const char *name, const void *bytes, size_t n) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    return path;
}

static const char *write_text(const char *name, const char *text) {
    return write_bytes(name, text, strlen(text));
}

static void expect_entry(size_t index, const char *path, const char *title) {
    assert_true(index < list.n_entries);
    assert_string_equal(list.entries[index].path, path);
    if (title) {
        assert_non_null(list.entries[index].title);
        assert_string_equal(list.entries[index].title, title);
    } else {
        assert_null(list.entries[index].title);
    }
}

static void read_text(const char *name, const char *text) {
    tower_playlist_done(&list);
    assert_int_equal(tower_playlist_read(write_text(name, text), &list), 0);
}

static void test_which_names_are_lists(void **state) {
    (void)state;
    assert_true(tower_playlist_is_one("a.m3u"));
    assert_true(tower_playlist_is_one("/x/a.b.M3U8"));
    assert_true(tower_playlist_is_one("a.pls"));
    assert_true(tower_playlist_is_one("a.xspf"));
    assert_true(tower_playlist_is_one(folder));
    assert_false(tower_playlist_is_one("a.mp3"));
    assert_false(tower_playlist_is_one("m3u"));
    assert_false(tower_playlist_is_one("/a.m3u/song"));
}

static void test_m3u_as_other_programs_write_it(void **state) {
    (void)state;
    read_text("a.m3u", "\xef\xbb\xbf#EXTM3U\r\n"
                       "#EXTINF:123,Holst - Jupiter\r\n"
                       "songs/one.mp3\r\n"
                       "\r\n"
                       "# a comment\r\n"
                       "  /srv/two.ogg  \r\n"
                       "#EXTINF:-1 logo=\"a,b\", Three, and more\r"
                       "file:///srv/a%20b.flac\n"
                       "100%.wav");
    assert_int_equal(list.n_entries, 4);
    expect_entry(0, in_folder("songs/one.mp3"), "Holst - Jupiter");
    expect_entry(1, "/srv/two.ogg", NULL);
    expect_entry(2, "/srv/a b.flac", "Three, and more");
    expect_entry(3, in_folder("100%.wav"), NULL);
    assert_int_equal(list.n_unusable, 0);
}

static void test_m3u_in_latin1_and_with_backslashes(void **state) {
    (void)state;
    (void)write_text("caf\xc3\xa9.mp3", "");
    (void)mkdir(in_folder("Musik"), 0700);
    (void)write_text("Musik/lied.mp3", "");
    (void)write_text("raw\xe9.mp3", "");
    read_text("a.m3u", "#EXTINF:1,Caf\xe9\ncaf\xe9.mp3\nMusik\\lied.mp3\nraw\xe9.mp3\n");
    expect_entry(0, in_folder("caf\xc3\xa9.mp3"), "Caf\xc3\xa9");
    expect_entry(1, in_folder("Musik/lied.mp3"), NULL);
    expect_entry(2, in_folder("raw\xe9.mp3"), NULL); /* it is there under that name */
}

static void test_what_cannot_be_used_is_counted_and_named(void **state) {
    (void)state;
    read_text("a.m3u", "one.mp3\nhttp://example.org/stream\nfile://host/x.mp3\ntwo.mp3\n");
    assert_int_equal(list.n_entries, 2);
    assert_int_equal(list.n_unusable, 2);
    assert_non_null(strstr(list.why_unusable, "line 2"));
    char *text = malloc(9000);
    assert_non_null(text);
    memset(text, 'a', 8999);
    text[8999] = '\0';
    memcpy(text, "b.mp3\n/", 7);
    read_text("long.m3u", text);
    free(text);
    assert_int_equal(list.n_entries, 1);
    assert_int_equal(list.n_unusable, 1);
    read_text("nul.m3u", "a%00b.mp3\nfile:///a%00b.mp3\n");
    assert_int_equal(list.n_entries, 1); /* in a path it is no escape */
}

static void test_pls_by_its_numbers(void **state) {
    (void)state;
    read_text("a.pls", "[playlist]\r\n"
                       "Title2=Second\r\n"
                       "File10=ten.mp3\r\n"
                       "File2=two.mp3\r\n"
                       "file1=file:///srv/one%21.mp3\r\n"
                       "Title1 = First\r\n"
                       "Length1=-1\r\n"
                       "Mood=fine\r\n"
                       "File3=\r\n"
                       "File99999999999999999999999=last.mp3\r\n"
                       "NumberOfEntries=3\r\nVersion=2\r\n");
    assert_int_equal(list.n_entries, 4);
    expect_entry(0, "/srv/one!.mp3", "First");
    expect_entry(1, in_folder("two.mp3"), "Second");
    expect_entry(2, in_folder("ten.mp3"), NULL);
    expect_entry(3, in_folder("last.mp3"), NULL);
    assert_int_equal(list.n_unusable, 2);
    assert_non_null(strstr(list.why_unusable, "line 8"));
}

static void test_xspf(void **state) {
    (void)state;
    read_text("a.xspf",
              "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
              "<playlist version='1' xmlns='http://xspf.org/ns/0/'>\n"
              "<title>not this</title><location>nor.mp3</location><trackList>\n"
              "<track><location>a%20b.mp3</location><location>other.mp3</location>\n"
              " <creator>A &amp; B</creator><title> Caf\xe9 &#233; </title>\n"
              " <extension application='x'><title>no</title><location>no.mp3</location></extension>"
              "</track>\n"
              "<track><location><![CDATA[file:///srv/c.mp3]]></location></track>\n"
              "<track><title>no place</title></track>\n"
              "<track><location>http://example.org/x.mp3</location></track>\n"
              "</trackList></playlist>\n");
    assert_int_equal(list.n_entries, 2);
    expect_entry(0, in_folder("a b.mp3"), "A & B - Caf\xc3\xa9 \xc3\xa9");
    expect_entry(1, "/srv/c.mp3", NULL);
    assert_int_equal(list.n_unusable, 2);
}

static void expect_refusal(const char *path, int error) {
    struct tower_playlist untouched = {.n_entries = 77};
    assert_int_equal(tower_playlist_read(path, &untouched), error);
    assert_int_equal(untouched.n_entries, 77);
}

static void test_bad_lists_are_refused(void **state) {
    (void)state;
    static const char bomb[] =
        "<?xml version='1.0'?><!DOCTYPE p [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>"
        "<playlist><trackList><track><location>&b;</location></track></trackList></playlist>";
    static const char reaching[] =
        "<?xml version='1.0'?><!DOCTYPE p [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"
        "<playlist><trackList><track><location>&a;</location></track></trackList></playlist>";
    expect_refusal(write_text("bomb.xspf", bomb), -EILSEQ);
    expect_refusal(write_text("reach.xspf", reaching), -EILSEQ);
    expect_refusal(write_text("half.xspf", "<playlist><trackList><track>"), -EILSEQ);
    expect_refusal(write_text("none.xspf", ""), -EILSEQ);
    expect_refusal(write_text("none.m3u", "# nothing\n"), -ENODATA);
    expect_refusal(write_text("none.pls", "[playlist]\n"), -ENODATA);
    expect_refusal(in_folder("gone.m3u"), -ENOENT);
    (void)mkdir(in_folder("empty"), 0700);
    expect_refusal(in_folder("empty"), -ENODATA);
    const char *large = write_text("large.m3u", "a.mp3\n");
    assert_int_equal(truncate(large, TOWER_PLAYLIST_BYTES_MAX + 1), 0);
    expect_refusal(large, -EFBIG);
    char deep[1000] = "";
    for (size_t i = 0; i < 100; i++)
        memcpy(deep + 7 * i, "<track>", sizeof "<track>");
    expect_refusal(write_text("deep.xspf", deep), -EILSEQ);
}

static void test_a_list_that_is_too_long_is_cut_and_says_so(void **state) {
    (void)state;
    size_t n = TOWER_PLAYLIST_ENTRIES_MAX + 5;
    char *text = malloc(2 * n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[2 * i] = 'a', text[2 * i + 1] = '\n';
    const char *path = write_bytes("a.m3u", text, 2 * n);
    free(text);
    assert_int_equal(tower_playlist_read(path, &list), 0);
    assert_int_equal(list.n_entries, TOWER_PLAYLIST_ENTRIES_MAX);
    assert_non_null(strstr(list.why_unusable, "too long"));
}

static void test_a_folder_as_people_sort(void **state) {
    (void)state;
    static const char *const files[] = {"10 b.mp3", "2 a.MP3", "cover.jpg",  ".hidden.mp3",
                                        "Z.flac",   "a.wav",   "disc/1.ogg", "disc/02.ogg"};
    (void)mkdir(in_folder("disc"), 0700);
    (void)mkdir(in_folder("x.mp3"), 0700); /* a folder of such a name */
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        (void)write_text(files[i], "");
    assert_int_equal(symlink(folder, in_folder("loop")), 0);
    assert_int_equal(symlink("a.wav", in_folder("link.wav")), 0);
    assert_int_equal(symlink("nowhere", in_folder("broken.wav")), 0);
    assert_int_equal(tower_playlist_read(folder, &list), 0);
    static const char *const wanted[] = {"2 a.MP3",     "10 b.mp3", "a.wav", "disc/1.ogg",
                                         "disc/02.ogg", "link.wav", "Z.flac"};
    assert_int_equal(list.n_entries, sizeof wanted / sizeof *wanted);
    for (size_t i = 0; i < list.n_entries; i++)
        expect_entry(i, in_folder(wanted[i]), NULL);
}

static void test_names_compare_consistently(void **state) {
    (void)state;
    static const char *const rising[] = {
        "",    "/",   "1", "01b", "2",   "10", "18446744073709551617", "99999999999999999999",
        "A/b", "a b", "B", "b1",  "b01x"};
    size_t n = sizeof rising / sizeof *rising;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            int order = tower_playlist_compare_names(rising[i], rising[k]);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
    }
}

/* ---- whose turn ---- */

static void fill(size_t n) {
    for (size_t i = 0; i < n; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "/%zu", i);
        assert_int_equal(tower_playlist_add(&list, path, NULL), 0);
    }
}

static void test_in_order_once_or_on_and_on(void **state) {
    (void)state;
    struct tower_playlist_order order;
    size_t index, number;
    fill(3);
    for (int is_looped = 0; is_looped < 2; is_looped++) {
        assert_int_equal(tower_playlist_order_init(&order, &list, is_looped, false, 1), 0);
        for (size_t i = 0; i < (is_looped ? 9 : 3); i++) {
            assert_true(tower_playlist_order_next(&order, NULL, &index, &number));
            assert_int_equal(index, i % 3);
            assert_int_equal(number, i % 3 + 1);
        }
        if (!is_looped)
            assert_false(tower_playlist_order_next(&order, NULL, &index, &number));
        tower_playlist_order_done(&order);
    }
}

static void test_shuffled_each_round_is_another_and_nothing_comes_twice_in_a_row(void **state) {
    (void)state;
    for (size_t n = 2; n < 12; n++) {
        tower_playlist_done(&list);
        fill(n);
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct tower_playlist_order order, again;
            size_t rounds[50][12], number, last = n, same;
            bool differ = false;
            assert_int_equal(tower_playlist_order_init(&order, &list, true, true, seed), 0);
            assert_int_equal(tower_playlist_order_init(&again, &list, true, true, seed), 0);
            for (size_t round = 0; round < 50; round++) {
                unsigned seen = 0;
                for (size_t i = 0; i < n; i++) {
                    size_t *index = &rounds[round][i];
                    const char *path = last < n ? list.entries[last].path : NULL;
                    assert_true(tower_playlist_order_next(&order, path, index, &number));
                    assert_true(tower_playlist_order_next(&again, path, &same, &number));
                    assert_int_equal(*index, same);
                    assert_int_equal(number, i + 1);
                    assert_int_not_equal(*index, last);
                    last = *index;
                    seen |= 1U << last;
                }
                assert_int_equal(seen, (1U << n) - 1);
                differ |= round > 0 && memcmp(rounds[round], rounds[0], n * sizeof last) != 0;
            }
            assert_true(differ || n == 2); /* of two there is but one way on */
            tower_playlist_order_done(&order);
            tower_playlist_order_done(&again);
        }
    }
}

static void test_the_same_file_listed_often_is_kept_apart(void **state) {
    (void)state;
    struct tower_playlist_order order;
    size_t index, number;
    const char *last = NULL;
    for (int i = 0; i < 3; i++)
        assert_int_equal(tower_playlist_add(&list, "/same", NULL), 0);
    fill(9);
    size_t n_same = 0;
    assert_int_equal(tower_playlist_order_init(&order, &list, true, true, 7), 0);
    for (int i = 0; i < 1200; i++) {
        assert_true(tower_playlist_order_next(&order, last, &index, &number));
        n_same += last && strcmp(last, list.entries[index].path) == 0;
        last = list.entries[index].path;
    }
    /* Only where the end of a round holds nothing else. */
    assert_true(n_same < 20);
    tower_playlist_order_done(&order);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_which_names_are_lists),
        TEST(test_m3u_as_other_programs_write_it),
        TEST(test_m3u_in_latin1_and_with_backslashes),
        TEST(test_what_cannot_be_used_is_counted_and_named),
        TEST(test_pls_by_its_numbers),
        TEST(test_xspf),
        TEST(test_bad_lists_are_refused),
        TEST(test_a_list_that_is_too_long_is_cut_and_says_so),
        TEST(test_a_folder_as_people_sort),
        TEST(test_names_compare_consistently),
        TEST(test_in_order_once_or_on_and_on),
        TEST(test_shuffled_each_round_is_another_and_nothing_comes_twice_in_a_row),
        TEST(test_the_same_file_listed_often_is_kept_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
