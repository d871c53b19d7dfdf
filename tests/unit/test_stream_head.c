/* The heads of streams: what a decoder that begins in the middle is given first, where one link of
 * a chain ends, and the title in it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "stream_head.h"
#include "vorbis_comment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is being made. */
static uint8_t stream[1024 * 1024];
static size_t stream_bytes;

static void add(const void *data, size_t bytes) {
    assert_true(stream_bytes + bytes <= sizeof stream);
    memcpy(stream + stream_bytes, data, bytes);
    stream_bytes += bytes;
}

static void add_number(uint32_t number) {
    const uint8_t bytes[] = {(uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16),
                             (uint8_t)(number >> 24)};
    add(bytes, sizeof bytes);
}

enum { CONTINUED = 1, BEGIN = 2, END = 4 };

/* A page with one packet, or with a part of one that goes on in the next page. */
static void add_page(uint32_t serial, unsigned flags, const void *body, size_t bytes,
                     bool goes_on) {
    uint8_t header[27 + 255] = "OggS";
    size_t n_segments = bytes / 255 + (goes_on ? 0 : 1);
    assert_true(!goes_on || bytes % 255 == 0);
    if (n_segments > 255)
        fail_msg("%zu bytes do not fit into a page", bytes);
    n_segments = n_segments > 255 ? 255 : n_segments; /* gcc does not see that it ends there */
    header[5] = (uint8_t)flags;
    for (unsigned i = 0; i < 4; i++)
        header[14 + i] = (uint8_t)(serial >> (8 * i));
    header[26] = (uint8_t)n_segments;
    memset(header + 27, 255, n_segments);
    if (!goes_on)
        header[27 + n_segments - 1] = (uint8_t)(bytes % 255);
    add(header, 27 + n_segments);
    add(body, bytes);
}

/* Comments, in `comment`, from the vendor on. */
static size_t make_comment(uint8_t *comment, const char *const *entries, size_t n_entries) {
    uint8_t kept[sizeof stream / 16];
    size_t before = stream_bytes;
    add_number(5);
    add("tower", 5);
    add_number((uint32_t)n_entries);
    for (size_t i = 0; i < n_entries; i++) {
        add_number((uint32_t)strlen(entries[i]));
        add(entries[i], strlen(entries[i]));
    }
    size_t bytes = stream_bytes - before;
    assert_true(bytes <= sizeof kept);
    memcpy(comment, stream + before, bytes);
    stream_bytes = before;
    return bytes;
}

static size_t make_packet(uint8_t *packet, const char *begin, size_t begin_bytes,
                          const char *const *entries, size_t n_entries) {
    memcpy(packet, begin, begin_bytes);
    return begin_bytes + make_comment(packet + begin_bytes, entries, n_entries);
}

static void add_vorbis(uint32_t serial, const char *artist, const char *title, unsigned n_pages) {
    uint8_t packet[65536], sound[700];
    char one[256], two[256];
    (void)snprintf(one, sizeof one, "Artist=%s", artist);
    (void)snprintf(two, sizeof two, "TITLE=%s", title);
    const char *entries[] = {"DATE=1999", one, two};
    add_page(serial, BEGIN, "\x01vorbis what it is like", 23, false);
    size_t bytes = make_packet(packet, "\x03vorbis", 7, entries, 3);
    add_page(serial, 0, packet, bytes, false);
    memset(packet, 5, 5100);
    add_page(serial, 0, packet, 5100, true);
    add_page(serial, CONTINUED, packet, 100, false);
    memset(sound, (int)serial, sizeof sound);
    for (unsigned i = 0; i < n_pages; i++)
        add_page(serial, i + 1 == n_pages ? END : 0, sound, sizeof sound, false);
}

static void add_opus(uint32_t serial, const char *title, unsigned n_pages) {
    uint8_t packet[1024], sound[300];
    char entry[256];
    (void)snprintf(entry, sizeof entry, "title=%s", title);
    const char *entries[] = {entry};
    add_page(serial, BEGIN, "OpusHead\1\2\0\0 it is like", 22, false);
    add_page(serial, 0, packet, make_packet(packet, "OpusTags", 8, entries, 1), false);
    memset(sound, (int)serial, sizeof sound);
    for (unsigned i = 0; i < n_pages; i++)
        add_page(serial, 0, sound, sizeof sound, false);
}

/* ---- taking ---- */

struct heard {
    size_t bytes; /* in pieces */
    unsigned n_pieces, n_links, n_changes;
    char titles[256]; /* at the end of each head, each with a semicolon behind it */
    size_t head_bytes;
    int error;
};

static struct heard hear(enum tower_stream_kind kind, size_t piece_bytes, bool is_exact) {
    struct tower_stream_head *head;
    struct heard heard = {.bytes = 0};
    assert_int_equal(tower_stream_head_new(kind, &head), 0);
    size_t done = 0;
    while (done < stream_bytes && heard.error == 0) {
        const uint8_t *at = stream + done;
        size_t left = stream_bytes - done < piece_bytes ? stream_bytes - done : piece_bytes;
        size_t before = left;
        struct tower_stream_piece piece;
        int result = tower_stream_head_take(head, &at, &left, &piece);
        done += before - left;
        if (result < 0)
            heard.error = result;
        if (result != 1)
            continue;
        assert_true(piece.bytes > 0);
        if (is_exact)
            assert_memory_equal(piece.data, stream + heard.bytes, piece.bytes);
        heard.bytes += piece.bytes;
        heard.n_pieces++;
        heard.n_links += piece.begins_link;
        heard.n_changes += piece.changes_codec;
        char *title = tower_stream_head_title(head);
        if (piece.ends_head) {
            size_t end = strlen(heard.titles);
            (void)snprintf(heard.titles + end, sizeof heard.titles - end, "%s;",
                           title ? title : "");
        }
        free(title);
    }
    (void)tower_stream_head_get(head, &heard.head_bytes);
    tower_stream_head_free(head);
    return heard;
}

static const size_t piece_sizes[] = {1, 2, 27, 100, 4096, 65536};
#define PIECE_SIZES (sizeof piece_sizes / sizeof *piece_sizes)

static void test_ogg_comes_out_in_pages_with_its_title(void **state) {
    (void)state;
    stream_bytes = 0;
    add_vorbis(1, "Nina", "One Song", 5);
    for (size_t i = 0; i < PIECE_SIZES; i++) {
        struct heard heard = hear(TOWER_STREAM_OGG, piece_sizes[i], true);
        assert_int_equal(heard.error, 0);
        assert_int_equal(heard.bytes, stream_bytes);
        assert_int_equal(heard.n_pieces, 4 + 5);
        assert_int_equal(heard.n_links, 0);
        assert_string_equal(heard.titles, "Nina - One Song;");
    }
}

static void test_a_head_is_all_before_the_sound(void **state) {
    (void)state;
    stream_bytes = 0;
    add_vorbis(1, "a", "b", 0);
    size_t head_bytes = stream_bytes;
    stream_bytes = 0;
    add_vorbis(1, "a", "b", 9);
    assert_int_equal(hear(TOWER_STREAM_OGG, 100, true).head_bytes, head_bytes);
}

static void test_each_link_of_a_chain_has_a_head_and_a_title(void **state) {
    (void)state;
    stream_bytes = 0;
    add_vorbis(1, "A", "first", 3);
    add_vorbis(2, "B", "second", 3);
    add_opus(3, "third", 2);
    add_opus(4, "fourth", 2);
    size_t before = stream_bytes;
    add_vorbis(5, "C", "fifth", 0);
    struct heard heard = hear(TOWER_STREAM_OGG, 1000, true);
    assert_int_equal(heard.bytes, stream_bytes);
    assert_int_equal(heard.n_links, 4);
    assert_int_equal(heard.n_changes, 2);
    assert_int_equal(heard.head_bytes, stream_bytes - before);
    assert_string_equal(heard.titles, "A - first;B - second;third;fourth;C - fifth;");
}

static void test_streams_side_by_side_are_one_link(void **state) {
    (void)state;
    uint8_t packet[1024];
    const char *entries[] = {"title=of both"};
    stream_bytes = 0;
    add_page(7, BEGIN, "fishead\0", 8, false);
    add_page(8, BEGIN, "OpusHead", 8, false);
    add_page(7, 0, "more bones", 10, false);
    add_page(8, 0, packet, make_packet(packet, "OpusTags", 8, entries, 1), false);
    add_page(8, 0, "sound", 5, false);
    struct heard heard = hear(TOWER_STREAM_OGG, 1000, true);
    assert_int_equal(heard.n_links, 0);
    assert_string_equal(heard.titles, "of both;");
    /* No decoder goes on behind that. */
    add_opus(9, "then", 1);
    heard = hear(TOWER_STREAM_OGG, 1000, true);
    assert_int_equal(heard.n_links, 1);
    assert_int_equal(heard.n_changes, 1);
}

static void test_what_is_between_pages_is_passed_over(void **state) {
    (void)state;
    stream_bytes = 0;
    add("OggO and OgOggOgg", 17);
    add_opus(1, "still", 3);
    add("OggS\x01 of another version, which is long enough", 46);
    add_page(1, 0, "sound", 5, false);
    for (size_t i = 0; i < PIECE_SIZES; i++) {
        struct heard heard = hear(TOWER_STREAM_OGG, piece_sizes[i], false);
        assert_int_equal(heard.error, 0);
        assert_int_equal(heard.n_pieces, 2 + 3 + 1);
        assert_string_equal(heard.titles, "still;");
    }
}

/* The checksum of Ogg as RFC 3533 has it, by a table. */
static void set_checksum(uint8_t *page, size_t bytes) {
    uint32_t table[256], sum = 0;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i << 24;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1U << 31 ? table[i] << 1 ^ 0x04c11db7 : table[i] << 1;
    }
    memset(page + 22, 0, 4);
    for (size_t i = 0; i < bytes; i++)
        sum = sum << 8 ^ table[(sum >> 24 & 0xff) ^ page[i]];
    for (unsigned i = 0; i < 4; i++)
        page[22 + i] = (uint8_t)(sum >> (8 * i));
}

static void test_empty_packets_at_an_end_are_left_out(void **state) {
    (void)state;
    uint8_t expected[100];
    struct tower_stream_head *head;
    struct tower_stream_piece piece;
    size_t left, n_pieces = 0;
    stream_bytes = 0;
    add_page(1, END, "sound", 5, false);
    set_checksum(stream, stream_bytes);
    size_t expected_bytes = stream_bytes;
    memcpy(expected, stream, stream_bytes);
    /* The same page with two empty packets behind the one. */
    stream_bytes = 0;
    add(expected, 26);
    add("\3\5\0\0sound", 9);
    /* One with nothing else, and one where that ends a packet of 255 bytes. */
    add_page(1, END, "", 0, false);
    size_t whole_at = stream_bytes;
    uint8_t whole[255];
    memset(whole, 7, sizeof whole);
    add_page(1, END, whole, sizeof whole, false);
    assert_int_equal(tower_stream_head_new(TOWER_STREAM_OGG, &head), 0);
    const uint8_t *at = stream;
    left = stream_bytes;
    while (tower_stream_head_take(head, &at, &left, &piece) == 1) {
        if (n_pieces++ == 0) {
            assert_int_equal(piece.bytes, expected_bytes);
            assert_memory_equal(piece.data, expected, expected_bytes);
        } else {
            assert_int_equal(piece.bytes, stream_bytes - whole_at);
            assert_memory_equal(piece.data, stream + whole_at, piece.bytes);
        }
    }
    assert_int_equal(n_pieces, 2);
    tower_stream_head_free(head);
}

static void test_a_link_of_opus_leaves_out_no_sound(void **state) {
    (void)state;
    static const unsigned expected[] = {3840, 960, 312, 100};
    struct tower_stream_head *head;
    struct tower_stream_piece piece;
    size_t n = 0;
    stream_bytes = 0;
    for (uint8_t i = 0; i < 4; i++) {
        uint8_t packet[19] = "OpusHead\1\2";
        const unsigned skipped = i < 2 ? 3840 : i == 2 ? 312 : 100;
        packet[10] = (uint8_t)skipped;
        packet[11] = (uint8_t)(skipped >> 8);
        add_page(i, BEGIN, packet, sizeof packet, false);
        add_page(i, 0, "OpusTags", 8, false);
        add_page(i, 0, "sound", 5, false);
    }
    assert_int_equal(tower_stream_head_new(TOWER_STREAM_OGG, &head), 0);
    const uint8_t *at = stream;
    size_t left = stream_bytes;
    while (tower_stream_head_take(head, &at, &left, &piece) == 1) {
        if (memcmp(piece.data + 28, "OpusHead", 8) != 0)
            continue;
        uint8_t page[28 + 19];
        assert_int_equal(piece.bytes, sizeof page);
        memcpy(page, piece.data, sizeof page);
        assert_int_equal(page[38] | page[39] << 8, expected[n]);
        if (n == 1) {
            set_checksum(page, sizeof page);
            assert_memory_equal(page, piece.data, sizeof page);
        }
        n++;
    }
    assert_int_equal(n, 4);
    tower_stream_head_free(head);
}

static void test_what_is_no_ogg_is_refused(void **state) {
    (void)state;
    stream_bytes = 0;
    for (size_t i = 0; i < 70000; i++)
        add(&(const uint8_t){(uint8_t)(i * 7)}, 1);
    assert_int_equal(hear(TOWER_STREAM_OGG, 4096, true).error, -EPROTO);
}

static void test_a_head_without_an_end_is_not_kept(void **state) {
    (void)state;
    uint8_t packet[255 * 255];
    memset(packet, 'x', sizeof packet);
    stream_bytes = 0;
    add_page(1, BEGIN, "\x01vorbis", 7, false);
    for (unsigned i = 0; i < 6; i++)
        add_page(1, i > 0 ? CONTINUED : 0, packet, sizeof packet, true);
    struct heard heard = hear(TOWER_STREAM_OGG, 65536, true);
    assert_int_equal(heard.bytes, stream_bytes);
    assert_int_equal(heard.head_bytes, 0);
    assert_string_equal(heard.titles, ";");
}

/* ---- Matroska; FLAC is in test_flac_pages.c ---- */

static void test_of_matroska_all_before_the_first_cluster_is_kept(void **state) {
    (void)state;
    stream_bytes = 0;
    add("\x1a\x45\xdf\xa3 and \x1f\x43 tracks", 18);
    add("\x1f\x43\xb6\x75 sound \x1f\x43\xb6\x75", 15);
    for (size_t i = 0; i < PIECE_SIZES; i++) {
        struct heard heard = hear(TOWER_STREAM_MATROSKA, piece_sizes[i], true);
        assert_int_equal(heard.bytes, stream_bytes);
        assert_int_equal(heard.head_bytes, 18);
    }
    stream_bytes = 0;
    for (unsigned i = 0; i < TOWER_STREAM_HEAD_BYTES_MAX + 100; i++)
        add("x", 1);
    assert_int_equal(hear(TOWER_STREAM_MATROSKA, 65536, true).bytes, stream_bytes);
    assert_int_equal(hear(TOWER_STREAM_MATROSKA, 65536, true).head_bytes, 0);
}

static void test_what_has_no_head_passes(void **state) {
    (void)state;
    stream_bytes = 0;
    add("ID3 or not", 10);
    struct heard heard = hear(TOWER_STREAM_PLAIN, 4, true);
    assert_int_equal(heard.bytes, 10);
    assert_int_equal(heard.head_bytes, 0);
    assert_string_equal(heard.titles, "");
}

/* ---- comments ---- */

static void expect_title(const char *const *entries, size_t n_entries, const char *expected) {
    uint8_t comment[65536];
    stream_bytes = 0;
    size_t bytes = make_comment(comment, entries, n_entries);
    char *title = tower_vorbis_comment_title(comment, bytes);
    if (expected) {
        assert_non_null(title);
        assert_string_equal(title, expected);
    } else {
        assert_null(title);
    }
    free(title);
    /* Cut off anywhere it is no longer than it is. On the heap, so that a byte too far is seen. */
    for (size_t n = 0; n < bytes && bytes < 1000; n++) {
        uint8_t *part = malloc(n > 0 ? n : 1);
        memcpy(part, comment, n);
        free(tower_vorbis_comment_title(part, n));
        free(part);
    }
}

static void test_comments_make_a_title(void **state) {
    (void)state;
    expect_title((const char *[]){"TITLE=x"}, 1, "x");
    expect_title((const char *[]){"title=x", "artist=y", "artist=z", "title=w"}, 4, "y - x");
    expect_title((const char *[]){"ARTIST=y"}, 1, NULL);
    expect_title((const char *[]){"ARTIST=y", "TITLE= "}, 2, NULL);
    expect_title((const char *[]){"TITLES=x", "TITLE", "", "="}, 4, NULL);
    expect_title((const char *[]){"TITLE=caf\xe9"}, 1, "caf\xc3\xa9");
    expect_title((const char *[]){"TITLE=a\nb\x1b[2J"}, 1, "a b [2J");
}

static void test_a_title_has_a_bound(void **state) {
    (void)state;
    char entry[20000];
    memset(entry, 'e', sizeof entry);
    memcpy(entry, "TITLE=", 6);
    entry[sizeof entry - 1] = '\0';
    uint8_t comment[65536];
    stream_bytes = 0;
    size_t bytes = make_comment(comment, (const char *[]){entry}, 1);
    char *title = tower_vorbis_comment_title(comment, bytes);
    assert_non_null(title);
    assert_int_equal(strlen(title), 4065);
    free(title);
}

static void test_lengths_that_lie_are_not_believed(void **state) {
    (void)state;
    assert_null(tower_vorbis_comment_title((const uint8_t *)"\xff\xff\xff\xffxxxx", 8));
    assert_null(tower_vorbis_comment_title((const uint8_t *)"\0\0\0\0\xff\xff\xff\xff", 8));
    const uint8_t lies[] = "\0\0\0\0\xff\xff\xff\xff\x07\0\0\0title=x\xf0\xff\xff\xfftitle=y";
    char *title = tower_vorbis_comment_title(lies, sizeof lies - 1);
    assert_string_equal(title, "x");
    free(title);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ogg_comes_out_in_pages_with_its_title),
        cmocka_unit_test(test_a_head_is_all_before_the_sound),
        cmocka_unit_test(test_each_link_of_a_chain_has_a_head_and_a_title),
        cmocka_unit_test(test_streams_side_by_side_are_one_link),
        cmocka_unit_test(test_what_is_between_pages_is_passed_over),
        cmocka_unit_test(test_empty_packets_at_an_end_are_left_out),
        cmocka_unit_test(test_a_link_of_opus_leaves_out_no_sound),
        cmocka_unit_test(test_what_is_no_ogg_is_refused),
        cmocka_unit_test(test_a_head_without_an_end_is_not_kept),
        cmocka_unit_test(test_of_matroska_all_before_the_first_cluster_is_kept),
        cmocka_unit_test(test_what_has_no_head_passes),
        cmocka_unit_test(test_comments_make_a_title),
        cmocka_unit_test(test_a_title_has_a_bound),
        cmocka_unit_test(test_lengths_that_lie_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
