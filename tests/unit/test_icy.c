/* test_icy.c - titles between the bytes of the stream, wherever a send ends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "icy.h"
#include "tower/fanout.h"

#include "icy_reader.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_BYTES (512 * 1024)
#define FRAME_BYTES 417

/* A stream in which each byte tells where it is. */
static uint8_t stream_byte(uint64_t cursor) {
    return (uint8_t)(cursor * 2654435761U >> 13);
}

struct world {
    struct tower_titles *titles;
    uint8_t *stream; /* RING_BYTES, like the air ring */
    uint64_t filled; /* up to this byte */
    struct tower_icy icy;
    uint64_t first, cursor; /* of the listener */
    struct tower_icy_woven *woven;
    struct icy_reader reader;
    uint64_t n_taken; /* bytes of stream that the reader had */
};

static struct world *make_world(uint64_t cursor) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->stream = malloc(RING_BYTES);
    assert_non_null(world->stream);
    world->woven = calloc(1, sizeof *world->woven);
    assert_non_null(world->woven);
    assert_int_equal(tower_titles_new(&world->titles), 0);
    tower_icy_init(&world->icy);
    world->first = world->cursor = world->filled = cursor;
    world->reader.until_block = ICY_READER_METAINT;
    return world;
}

static void end_world(struct world *world) {
    tower_titles_free(world->titles);
    free(world->woven);
    free(world->stream);
    free(world);
}

/* Title `text` from byte `cursor` on; numbers and bytes rise. */
static void put_title(struct world *world, const char *text, uint64_t cursor) {
    assert_int_equal(tower_titles_set(world->titles, text, strlen(text), TOWER_TITLE_FROM_NEXT), 0);
    tower_titles_mark(world->titles, cursor / FRAME_BYTES, cursor);
}

/* Weave the stream up to `end` for the listener. */
static void weave_to(struct world *world, uint64_t end) {
    struct iovec pieces[2];
    int n = 0;
    for (; world->filled < end; world->filled++)
        world->stream[world->filled % RING_BYTES] = stream_byte(world->filled);
    for (uint64_t at = world->cursor; at < end;) {
        size_t place = at % RING_BYTES;
        size_t bytes = end - at < RING_BYTES - place ? (size_t)(end - at) : RING_BYTES - place;
        assert_true(n < 2);
        pieces[n++] = (struct iovec){.iov_base = world->stream + place, .iov_len = bytes};
        at += bytes;
    }
    tower_icy_weave(&world->icy, world->titles, world->cursor, pieces, n, world->woven);
    size_t bytes = 0;
    for (int i = 0; i < world->woven->n_pieces; i++) {
        assert_true(world->woven->pieces[i].iov_len > 0);
        bytes += world->woven->pieces[i].iov_len;
    }
    assert_int_equal(bytes, world->woven->bytes);
}

/* The listener takes `bytes` of what was woven, and its player looks at them. */
static void take(struct world *world, size_t bytes) {
    static uint8_t sent[RING_BYTES + TOWER_ICY_SAID_BYTES_MAX], stream[sizeof sent];
    size_t filled = 0;
    assert_true(bytes <= world->woven->bytes && world->woven->bytes <= sizeof sent);
    for (int i = 0; filled < bytes; i++) {
        size_t left = bytes - filled, n = world->woven->pieces[i].iov_len;
        memcpy(sent + filled, world->woven->pieces[i].iov_base, n < left ? n : left);
        filled += n < left ? n : left;
    }
    world->cursor += tower_icy_advance(&world->icy, world->woven, bytes);
    size_t n = icy_reader_take(&world->reader, sent, bytes, stream);
    assert_false(world->reader.is_broken);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(stream[i], stream_byte(world->first + world->n_taken + i));
    world->n_taken += n;
    /* What the listener's state says is what its player had. */
    assert_int_equal(world->cursor - world->first, world->n_taken);
}

static void take_all_to(struct world *world, uint64_t end) {
    while (world->cursor < end) {
        weave_to(world, end);
        take(world, world->woven->bytes);
    }
}

static void a_block_says_the_title_in_units_of_16(void **state) {
    (void)state;
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX];
    memset(block, 0xaa, sizeof block);
    assert_int_equal(tower_icy_make_block("", 0, block), 17);
    assert_memory_equal(block, "\x01StreamTitle='';\0", 17);
    assert_int_equal(tower_icy_make_block("A", 1, block), 17);
    assert_memory_equal(block, "\x01StreamTitle='A';", 17);
    memset(block, 0xaa, sizeof block);
    assert_int_equal(tower_icy_make_block("AB", 2, block), 33);
    assert_memory_equal(block, "\x02StreamTitle='AB';\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 33);
    static char longest[TOWER_TITLE_BYTES_MAX];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(tower_icy_make_block(longest, sizeof longest, block), sizeof block);
    assert_int_equal(block[0], 255);
    assert_memory_equal(block + sizeof block - 3, "x';", 3);
    assert_int_equal(tower_icy_make_block(";a';'';';", 9, block), 33);
    assert_memory_equal(block, "\x02StreamTitle=';a','',',';\0\0\0\0\0\0\0", 33);
}

static void without_a_title_blocks_are_a_zero(void **state) {
    (void)state;
    struct world *world = make_world(5);
    take_all_to(world, 50005);
    assert_int_equal(world->reader.n_blocks, 3);
    assert_int_equal(world->reader.n_titles, 0);
    /* Also where there are no titles at all. */
    tower_titles_free(world->titles);
    world->titles = NULL;
    take_all_to(world, 100005);
    assert_int_equal(world->reader.n_blocks, 6);
    assert_int_equal(world->reader.n_titles, 0);
    end_world(world);
}

static void a_title_is_told_once_where_it_holds(void **state) {
    (void)state;
    struct world *world = make_world(1000);
    put_title(world, "before", 400);
    put_title(world, "at the byte", 1000 + 32000);
    put_title(world, "a byte late", 1000 + 64001);
    /* As two seconds back: all of that is there already. */
    take_all_to(world, 1000 + 100000);
    assert_int_equal(world->reader.n_blocks, 6);
    assert_int_equal(world->reader.n_titles, 3);
    assert_int_equal(world->reader.titles[0].at, 16000);
    assert_string_equal(world->reader.titles[0].text, "before");
    assert_int_equal(world->reader.titles[1].at, 32000);
    assert_string_equal(world->reader.titles[1].text, "at the byte");
    assert_int_equal(world->reader.titles[2].at, 80000);
    assert_string_equal(world->reader.titles[2].text, "a byte late");
    end_world(world);
}

static void a_block_waits_for_the_byte_behind_it(void **state) {
    (void)state;
    struct world *world = make_world(0);
    weave_to(world, 16000);
    assert_int_equal(world->woven->bytes, 16000);
    take(world, 16000);
    assert_int_equal(world->reader.n_blocks, 0);
    weave_to(world, 16000);
    assert_int_equal(world->woven->n_pieces, 0);
    /* The next frame brings a title: the block before it says so. */
    put_title(world, "just now", 16000);
    weave_to(world, 16001);
    take(world, world->woven->bytes);
    assert_int_equal(world->reader.n_titles, 1);
    assert_int_equal(world->reader.titles[0].at, 16000);
    end_world(world);
}

static void a_send_may_end_at_any_byte(void **state) {
    (void)state;
    struct world *world = make_world(16000 * 3 + 77);
    put_title(world, "a title of more than sixteen bytes", 0);
    uint64_t end = world->first + 16500;
    /* First 15,990 bytes; from there on one byte more or less each time. */
    for (size_t cut = 0; cut < 90; cut++) {
        struct world copy = *world;
        weave_to(world, end);
        take(world, 15990);
        weave_to(world, end);
        take(world, cut);
        size_t n_before = world->reader.n_stream;
        /* Nothing at all may go, too. */
        weave_to(world, end);
        take(world, 0);
        assert_int_equal(world->reader.n_stream, n_before);
        take_all_to(world, end);
        assert_int_equal(world->reader.n_blocks, 1);
        assert_int_equal(world->reader.n_titles, 1);
        assert_int_equal(world->reader.titles[0].at, 16000);
        assert_string_equal(world->reader.titles[0].text, "a title of more than sixteen bytes");
        *world = copy;
    }
    end_world(world);
}

static void a_block_whose_title_is_forgotten_keeps_its_length(void **state) {
    (void)state;
    struct world *world = make_world(0);
    put_title(world, "a title of more than sixteen bytes", 0);
    weave_to(world, 17000);
    take(world, 16000 + 1 + 13 + 7);
    for (uint64_t i = 0; i < TOWER_TITLES_KEPT; i++)
        put_title(world, "x", 20000 + i);
    weave_to(world, 17000);
    assert_int_equal(world->woven->bytes, 65 - 21 + 1000);
    for (size_t i = 0; i < 65 - 21; i++)
        assert_int_equal(((uint8_t *)world->woven->pieces[0].iov_base)[i], 0);
    /* A player without an end to the title makes of it what it likes. */
    uint8_t stream[2000];
    const struct tower_icy_woven *woven = world->woven;
    assert_int_equal(tower_icy_advance(&world->icy, woven, woven->bytes), 1000);
    assert_int_equal(icy_reader_take(&world->reader, woven->pieces[0].iov_base,
                                     woven->pieces[0].iov_len, stream),
                     0);
    assert_false(world->reader.is_in_block);
    assert_int_equal(icy_reader_take(&world->reader, woven->pieces[1].iov_base,
                                     woven->pieces[1].iov_len, stream),
                     1000);
    end_world(world);
}

static void the_rest_of_a_block_goes_without_stream_too(void **state) {
    (void)state;
    struct world *world = make_world(0);
    put_title(world, "title", 0);
    weave_to(world, 17000);
    take(world, 16000 + 5);
    weave_to(world, world->cursor);
    assert_int_equal(world->woven->bytes, 33 - 5);
    take(world, 33 - 5);
    assert_int_equal(world->reader.n_titles, 1);
    take_all_to(world, 40000);
    assert_int_equal(world->reader.n_blocks, 2);
    end_world(world);
}

/* More than fits into one turn: long titles and a short one, each of which holds for one metadata
 * point. */
static void long_titles_take_several_turns(void **state) {
    (void)state;
    static char text[TOWER_TITLE_BYTES_MAX + 1];
    struct world *world = make_world(RING_BYTES - 3000);
    for (uint64_t i = 1; i <= 6; i++) {
        memset(text, 'x', sizeof text - 1);
        text[0] = (char)('0' + i);
        text[i == 2 ? 30 : TOWER_TITLE_BYTES_MAX] = '\0';
        put_title(world, text, world->first + i * 16000);
    }
    uint64_t end = world->first + 100000;
    int n_turns = 0;
    for (; world->cursor < end; n_turns++) {
        weave_to(world, end);
        /* In the middle of a long block, now and then. */
        take(world, n_turns == 1 ? 20000 : world->woven->bytes);
    }
    assert_in_range(n_turns, 4, 6);
    assert_int_equal(world->reader.n_titles, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(world->reader.titles[i].at, (i + 1) * 16000);
        assert_int_equal(world->reader.titles[i].text[0], '1' + i);
    }
    end_world(world);
}

static void many_points_take_several_turns(void **state) {
    (void)state;
    /* With the rest of a block first or not, and the ring's end before the first point, between
     * two, and behind the last ones that could be woven in. */
    static const uint64_t before_end[] = {5000, 100000, 274000, 290000};
    for (int way = 0; way < 8; way++) {
        struct world *world = make_world(RING_BYTES - before_end[way / 2]);
        put_title(world, "title", 0);
        if (way % 2) {
            weave_to(world, world->first + 16001);
            take(world, 16000 + 7);
        }
        uint64_t end = world->first + 500000;
        int n_turns = 0;
        for (; world->cursor < end; n_turns++) {
            weave_to(world, end);
            take(world, world->woven->bytes);
        }
        assert_int_equal(n_turns, 2);
        assert_int_equal(world->reader.n_blocks, 31);
        assert_int_equal(world->reader.n_titles, 1);
        end_world(world);
    }
}

/* Titles that come at any frame, a listener that is any way behind and takes any number of bytes.
 */
static void any_way_to_send_gives_the_same(void **state) {
    (void)state;
    enum { FRAMES = 8000, TITLES_MAX = 1000, LAG_MAX = 100000 };
    static struct {
        uint64_t cursor;
        char text[256];
    } titles[TITLES_MAX];
    size_t n_titles = 0;
    struct world *world = make_world(0);
    uint64_t head = 0;
    srand(4711);
    for (int frame = 0; frame < FRAMES; frame++, head += FRAME_BYTES) {
        if (rand() % 15 == 0 && n_titles < TITLES_MAX) {
            memset(titles[n_titles].text, 'a' + rand() % 26, (size_t)(rand() % 200));
            put_title(world, titles[n_titles].text, head);
            titles[n_titles++].cursor = head;
        }
        bool must_follow = head - world->cursor > LAG_MAX;
        while (must_follow || rand() % 2) {
            weave_to(world, head + FRAME_BYTES);
            size_t bytes = (size_t)rand() % (world->woven->bytes + 1);
            take(world, rand() % 2 ? bytes : bytes % 50);
            must_follow = must_follow && head - world->cursor > LAG_MAX / 2;
        }
    }
    take_all_to(world, head);
    /* What each point should have said. */
    size_t n_points = (head - 1) / 16000, told = SIZE_MAX, n_told = 0;
    for (uint64_t point = 1; point <= n_points; point++) {
        size_t holds = SIZE_MAX;
        for (size_t i = 0; i < n_titles && titles[i].cursor <= point * 16000; i++)
            holds = i;
        if (holds == told)
            continue;
        told = holds;
        assert_true(n_told < world->reader.n_titles);
        assert_int_equal(world->reader.titles[n_told].at, point * 16000);
        assert_string_equal(world->reader.titles[n_told].text, titles[holds].text);
        n_told++;
    }
    assert_int_equal(world->reader.n_blocks, n_points);
    assert_int_equal(world->reader.n_titles, n_told);
    assert_true(n_told > 100);
    end_world(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_says_the_title_in_units_of_16),
        cmocka_unit_test(without_a_title_blocks_are_a_zero),
        cmocka_unit_test(a_title_is_told_once_where_it_holds),
        cmocka_unit_test(a_block_waits_for_the_byte_behind_it),
        cmocka_unit_test(a_send_may_end_at_any_byte),
        cmocka_unit_test(a_block_whose_title_is_forgotten_keeps_its_length),
        cmocka_unit_test(the_rest_of_a_block_goes_without_stream_too),
        cmocka_unit_test(long_titles_take_several_turns),
        cmocka_unit_test(many_points_take_several_turns),
        cmocka_unit_test(any_way_to_send_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
