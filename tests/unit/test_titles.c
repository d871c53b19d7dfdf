/* test_titles.c - a title holds from its frame on, and is known for as long as it may be needed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "icy.h"
#include "title_history.h"

#include "tower/log.h"

#include "../contracts/bounded_wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define FRAME_BYTES 384

static struct tower_titles *make(void) {
    struct tower_titles *titles = NULL;
    assert_int_equal(tower_titles_new(&titles), 0);
    return titles;
}

static void set(struct tower_titles *titles, const char *text, uint64_t from_frame) {
    assert_int_equal(tower_titles_set(titles, text, strlen(text), from_frame), 0);
}

static void mark(struct tower_titles *titles, uint64_t first, uint64_t last) {
    for (uint64_t frame = first; frame <= last; frame++)
        tower_titles_mark(titles, frame, frame * FRAME_BYTES);
}

static void assert_title(const struct tower_titles *titles, uint64_t number, uint64_t from_frame,
                         const char *text) {
    struct tower_title title;
    memset(&title, 0xaa, sizeof title);
    tower_titles_get(titles, &title);
    assert_int_equal(title.number, number);
    assert_int_equal(title.from_frame, from_frame);
    assert_string_equal(title.text, text);
}

/* The text in the block of the title that holds at byte `cursor`; NULL where none does. */
static const char *text_at(const struct tower_titles *titles, uint64_t cursor) {
    static uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX + 1];
    uint64_t number = tower_titles_at(titles, cursor);
    if (number == 0)
        return NULL;
    int bytes = tower_titles_copy_block(titles, number, block);
    assert_true(bytes > 0);
    assert_int_equal(bytes, 1 + 16 * block[0]);
    block[bytes] = '\0';
    char *text = (char *)block + 1;
    assert_memory_equal(text, "StreamTitle='", 13);
    char *end = strstr(text, "';");
    assert_non_null(end);
    *end = '\0';
    return text + 13;
}

static void at_first_there_is_none(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    mark(titles, 0, 100);
    assert_title(titles, 0, 0, "");
    assert_null(text_at(titles, 0));
    assert_null(text_at(titles, UINT64_MAX));
    tower_titles_free(titles);
    tower_titles_free(NULL);
}

static void it_holds_from_the_first_byte_of_its_frame(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    set(titles, "one", 10);
    set(titles, "two", 12);
    mark(titles, 0, 9);
    assert_title(titles, 0, 0, "");
    mark(titles, 10, 11);
    assert_title(titles, 1, 10, "one");
    mark(titles, 12, 20);
    assert_title(titles, 2, 12, "two");
    assert_null(text_at(titles, 10 * FRAME_BYTES - 1));
    assert_string_equal(text_at(titles, 10 * FRAME_BYTES), "one");
    assert_string_equal(text_at(titles, 12 * FRAME_BYTES - 1), "one");
    assert_string_equal(text_at(titles, 12 * FRAME_BYTES), "two");
    assert_string_equal(text_at(titles, UINT64_MAX), "two");
    tower_titles_free(titles);
}

static void what_is_past_or_next_is_the_next_frame(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    mark(titles, 0, 49);
    set(titles, "past", 3);
    assert_title(titles, 0, 0, "");
    mark(titles, 50, 50);
    assert_title(titles, 1, 50, "past");
    set(titles, "next", TOWER_TITLE_FROM_NEXT);
    mark(titles, 51, 51);
    assert_title(titles, 2, 51, "next");
    /* Of several for one frame the last one counts, and the others never were. */
    set(titles, "a", 7);
    set(titles, "b", TOWER_TITLE_FROM_NEXT);
    set(titles, "c", 9);
    set(titles, "d", 8);
    mark(titles, 52, 52);
    assert_title(titles, 3, 52, "d");
    assert_string_equal(text_at(titles, 52 * FRAME_BYTES), "d");
    assert_string_equal(text_at(titles, 52 * FRAME_BYTES - 1), "next");
    tower_titles_free(titles);
}

static void one_for_an_earlier_frame_replaces_those_that_wait(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    set(titles, "a", 10);
    set(titles, "b", 20);
    set(titles, "c", 30);
    set(titles, "instead", 20);
    mark(titles, 0, 40);
    assert_title(titles, 2, 20, "instead");
    assert_string_equal(text_at(titles, 19 * FRAME_BYTES), "a");
    set(titles, "later", 100);
    set(titles, "now", TOWER_TITLE_FROM_NEXT);
    mark(titles, 41, 200);
    assert_title(titles, 3, 41, "now");
    tower_titles_free(titles);
}

static void of_too_many_that_wait_the_newest_stays(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    char text[16];
    for (unsigned i = 1; i <= 1000; i++) {
        (void)snprintf(text, sizeof text, "%u", i);
        set(titles, text, i);
    }
    mark(titles, 0, 31);
    assert_title(titles, 31, 31, "31");
    mark(titles, 32, 999);
    assert_title(titles, 31, 31, "31");
    mark(titles, 1000, 1000);
    assert_title(titles, 32, 1000, "1000");
    /* And there is room again. */
    for (unsigned i = 2001; i <= 2032; i++)
        set(titles, "x", i);
    mark(titles, 1001, 2032);
    assert_title(titles, 64, 2032, "x");
    tower_titles_free(titles);
}

static void the_writers_own_takes_the_place_of_the_one_it_means(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    assert_int_equal(tower_titles_put(titles, 0, "one", 3, 5, 5 * FRAME_BYTES), 1);
    assert_title(titles, 1, 5, "one");
    assert_int_equal(tower_titles_put(titles, 0, "two", 3, 6, 6 * FRAME_BYTES), 0);
    assert_int_equal(tower_titles_put(titles, 1, "\xff", 1, 6, 6 * FRAME_BYTES), 0);
    assert_title(titles, 1, 5, "one");
    /* Another is due: that one is meant to be heard. One that is for later stays. */
    set(titles, "set", 6);
    set(titles, "later", 8);
    assert_int_equal(tower_titles_put(titles, 1, "two", 3, 6, 6 * FRAME_BYTES), 0);
    mark(titles, 6, 6);
    assert_title(titles, 2, 6, "set");
    assert_int_equal(tower_titles_put(titles, 2, "two", 3, 7, 7 * FRAME_BYTES), 3);
    assert_string_equal(text_at(titles, 7 * FRAME_BYTES), "two");
    mark(titles, 8, 8);
    assert_title(titles, 4, 8, "later");
    /* Whatever is due, and waits. */
    set(titles, "due", 9);
    set(titles, "later", 11);
    assert_int_equal(tower_titles_put(titles, TOWER_TITLE_ANY, "", 0, 9, 9 * FRAME_BYTES), 5);
    mark(titles, 9, 20);
    assert_title(titles, 5, 9, "");
    tower_titles_free(titles);
}

static void text_is_made_fit_to_be_shown(void **state) {
    (void)state;
    static const struct {
        const char *given, *shown;
    } cases[] = {
        {"", ""},
        {"  \t ", ""},
        {"Plain - Simple", "Plain - Simple"},
        {"\r\n Trimmed \x7f\n", "Trimmed"},
        {"a\tb\x01"
         "c\xc2\x85"
         "d",
         "a b c d"},
        {"K\xc3\xb6nig \xe2\x82\xac \xf0\x9f\x8e\xb5",
         "K\xc3\xb6nig \xe2\x82\xac \xf0\x9f\x8e\xb5"},
        {"\xc2\xa0", "\xc2\xa0"},
    };
    struct tower_titles *titles = make();
    for (uint64_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set(titles, cases[i].given, i);
        mark(titles, i, i);
        assert_title(titles, i + 1, i, cases[i].shown);
    }
    assert_int_equal(tower_titles_set(titles, "a\0b", 3, 100), 0);
    mark(titles, 100, 100);
    struct tower_title title;
    tower_titles_get(titles, &title);
    assert_string_equal(title.text, "a b");
    tower_titles_free(titles);
}

static void a_long_one_is_cut_at_a_character(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    static char text[2 * TOWER_TITLE_BYTES_MAX];
    struct tower_title title;
    memset(text, 'x', sizeof text);
    assert_int_equal(tower_titles_set(titles, text, TOWER_TITLE_BYTES_MAX, 0), 0);
    mark(titles, 0, 0);
    tower_titles_get(titles, &title);
    assert_int_equal(strlen(title.text), TOWER_TITLE_BYTES_MAX);
    assert_int_equal(strlen(text_at(titles, 0)), TOWER_TITLE_BYTES_MAX);
    /* Its last character would be half in: then what fits behind it does not stand for it. */
    memcpy(text + TOWER_TITLE_BYTES_MAX - 2, "\xe2\x82\xac!", 4);
    assert_int_equal(tower_titles_set(titles, text, sizeof text, 1), 0);
    mark(titles, 1, 1);
    tower_titles_get(titles, &title);
    assert_int_equal(strlen(title.text), TOWER_TITLE_BYTES_MAX - 2);
    assert_int_equal(title.text[TOWER_TITLE_BYTES_MAX - 3], 'x');
    /* Spaces at the cut are an end too. */
    memset(text + 100, ' ', sizeof text - 101);
    assert_int_equal(tower_titles_set(titles, text, sizeof text, 2), 0);
    mark(titles, 2, 2);
    tower_titles_get(titles, &title);
    assert_int_equal(strlen(title.text), 100);
    tower_titles_free(titles);
}

static void what_is_not_utf8_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xc3",         "x\xe2\x82",        "\xc0\xaf",         "\xc1\xbf",
        "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xc3(",        "\xe2\x28\xa1",     "caf\xe9 au lait",
    };
    struct tower_titles *titles = make();
    set(titles, "stays", 5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tower_titles_set(titles, bad[i], strlen(bad[i]), 0), -EINVAL);
    /* Not even where nobody would see it. */
    static char text[TOWER_TITLE_BYTES_MAX + 10];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = (char)0xc3;
    assert_int_equal(tower_titles_set(titles, text, sizeof text, 0), -EINVAL);
    mark(titles, 0, 5);
    assert_title(titles, 1, 5, "stays");
    /* The bounds of what is. */
    set(titles, "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 6);
    tower_titles_free(titles);
}

static void a_block_ends_where_it_should(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    set(titles, "it';s; 'quoted''; end'", 0);
    mark(titles, 0, 0);
    assert_string_equal(text_at(titles, 0), "it',s; 'quoted'', end'");
    /* Only players need that. */
    assert_title(titles, 1, 0, "it';s; 'quoted''; end'");
    tower_titles_free(titles);
}

static void old_ones_are_forgotten(void **state) {
    (void)state;
    struct tower_titles *titles = make();
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX];
    char text[16];
    for (unsigned i = 0; i < TOWER_TITLES_KEPT + 8; i++) {
        (void)snprintf(text, sizeof text, "%u", i);
        set(titles, text, i);
        mark(titles, i, i);
    }
    for (unsigned i = 0; i < TOWER_TITLES_KEPT + 8; i++) {
        (void)snprintf(text, sizeof text, "%u", i);
        if (i >= 8)
            assert_string_equal(text_at(titles, i * FRAME_BYTES), text);
        else
            assert_null(text_at(titles, i * FRAME_BYTES));
    }
    assert_int_equal(tower_titles_copy_block(titles, 8, block), -ESTALE);
    assert_true(tower_titles_copy_block(titles, 9, block) > 0);
    tower_titles_free(titles);
}

enum { TITLES = 3000 };

struct world {
    struct tower_titles *titles;
    _Atomic bool has_ended;
    _Atomic uint64_t on_air; /* frames marked and published */
};

/* A text that shows whether it is whole: its number again and again. */
static size_t fill(unsigned number, char *ret_text) {
    size_t bytes = 0;
    while (bytes < 200 + number % 3000)
        bytes += (size_t)sprintf(ret_text + bytes, "%u ", number);
    return bytes;
}

static bool is_whole(const char *text) {
    unsigned number;
    static _Thread_local char expected[TOWER_TITLE_BYTES_MAX + 16];
    if (sscanf(text, "%u", &number) != 1)
        return false;
    size_t bytes = fill(number, expected);
    return strncmp(text, expected, bytes - 1) == 0 && strlen(text) == bytes - 1;
}

static void *set_many(void *arg) {
    struct world *world = arg;
    static char text[TOWER_TITLE_BYTES_MAX + 16];
    for (unsigned i = 0; i < TITLES; i++) {
        size_t bytes = fill(i, text);
        uint64_t from = i % 3 ? TOWER_TITLE_FROM_NEXT : atomic_load(&world->on_air) + i % 5;
        if (tower_titles_set(world->titles, text, bytes, from) < 0)
            return "a title was refused";
    }
    atomic_store(&world->has_ended, true);
    return NULL;
}

static void *read_all(void *arg) {
    struct world *world = arg;
    static _Thread_local struct tower_title title;
    static _Thread_local uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX + 1];
    uint64_t number = 0;
    while (!atomic_load(&world->has_ended)) {
        uint64_t cursor = atomic_load(&world->on_air) * FRAME_BYTES;
        tower_titles_get(world->titles, &title);
        if (title.number < number || (title.number > 0 && !is_whole(title.text)))
            return "the title on air is torn";
        number = title.number;
        uint64_t now = tower_titles_at(world->titles, cursor);
        int bytes = now > 0 ? tower_titles_copy_block(world->titles, now, block) : -ESTALE;
        if (bytes < 0)
            continue;
        block[bytes] = '\0';
        char *end = strstr((char *)block + 1, "';");
        if (bytes != 1 + block[0] * 16 || !end)
            return "a block is torn";
        *end = '\0';
        if (!is_whole((char *)block + 1 + 13))
            return "the title in a block is torn";
    }
    return NULL;
}

static void nobody_waits_and_nothing_is_torn(void **state) {
    (void)state;
    enum { READERS = 2 };
    struct world world = {.titles = make()};
    pthread_t threads[1 + READERS];
    void *complaint = NULL;
    assert_int_equal(pthread_create(&threads[0], NULL, set_many, &world), 0);
    for (int i = 1; i <= READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &world), 0);
    for (uint64_t frame = 0; !atomic_load(&world.has_ended); frame++) {
        tower_titles_mark(world.titles, frame, frame * FRAME_BYTES);
        atomic_store(&world.on_air, frame + 1);
    }
    for (int i = 0; i <= READERS; i++) {
        assert_int_equal(pthread_join(threads[i], &complaint), 0);
        if (complaint)
            fail_msg("%s", (const char *)complaint);
    }
    /* The last one that was set wins, whatever came between. */
    uint64_t frame = atomic_load(&world.on_air) + 10;
    tower_titles_mark(world.titles, frame, frame * FRAME_BYTES);
    struct tower_title title;
    static char last[TOWER_TITLE_BYTES_MAX + 16];
    size_t bytes = fill(TITLES - 1, last);
    tower_titles_get(world.titles, &title);
    last[bytes - 1] = '\0';
    assert_string_equal(title.text, last);
    assert_true(title.number <= TITLES);
    tower_titles_free(world.titles);
}

/* Whoever else sets titles at that moment, the writer knows which one is its own. */
static void the_writers_own_is_not_mistaken(void **state) {
    (void)state;
    struct world world = {.titles = make()};
    pthread_t thread;
    void *complaint = NULL;
    struct tower_title title;
    assert_int_equal(pthread_create(&thread, NULL, set_many, &world), 0);
    for (uint64_t frame = 0; !atomic_load(&world.has_ended); frame++) {
        uint64_t cursor = frame * FRAME_BYTES;
        uint64_t number = tower_titles_put(world.titles, TOWER_TITLE_ANY, "own", 3, frame, cursor);
        tower_titles_get(world.titles, &title);
        assert_int_equal(title.number, number);
        assert_int_equal(title.from_frame, frame);
        assert_string_equal(title.text, "own");
        tower_titles_mark(world.titles, frame, cursor);
        atomic_store(&world.on_air, frame + 1);
    }
    assert_int_equal(pthread_join(thread, &complaint), 0);
    assert_null(complaint);
    tower_titles_free(world.titles);
}

static void those_on_air_outlive_their_process(void **state) {
    (void)state;
    const uint64_t values[] = {0, 1, 2, 3, UINT64_MAX, UINT64_C(1) << 40, INT64_MAX, 255};
    static uint8_t data[1 << 20];
    struct tower_titles *titles = make(), *next = NULL;
    struct tower_title title;
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX];
    for (uint64_t i = 1; i <= 40; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "title %u", (unsigned)i);
        assert_int_equal(
            tower_titles_put(titles, TOWER_TITLE_ANY, text, strlen(text), i * 10, i * 1000), i);
    }
    set(titles, "waits", 5000);
    ssize_t bytes = pread(tower_titles_fd(titles), data, sizeof data, 0);
    assert_true(bytes > 0 && (size_t)bytes < sizeof data);
    tower_titles_free(titles);
    tower_log_set_level(TOWER_LOG_ERROR);
    unsigned n_anew = 0, n_shorter = 0;
    for (off_t place = -8; place < bytes; place += place < 256 ? 8 : 8 * 97) {
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            int fd = memfd_create("titles", MFD_CLOEXEC);
            assert_int_equal(write(fd, data, (size_t)bytes), bytes);
            if (place >= 0)
                assert_int_equal(pwrite(fd, &values[i], 8, place), 8);
            int result = tower_titles_open(fd, 40000, &next);
            assert_in_range(result, 0, 1);
            assert_int_equal(tower_titles_fd(next) == fd, result);
            tower_titles_get(next, &title);
            if (place < 0) {
                assert_int_equal(result, 1);
                assert_int_equal(tower_titles_at(next, 9000), 9);
                assert_int_equal(tower_titles_at(next, 8999), 0);
            }
            if (result == 0) {
                n_anew++;
                assert_int_equal(title.number, 0);
                assert_string_equal(title.text, "");
                assert_int_equal(close(fd), 0);
            } else {
                assert_int_equal(title.number, 40);
                assert_string_equal(title.text, "title 40");
                assert_int_equal(tower_titles_at(next, 40000), 40);
                n_shorter += tower_titles_at(next, 9000) == 0;
                for (uint64_t number = 0; number < 50; number++)
                    assert_true(tower_titles_copy_block(next, number, block) <=
                                TOWER_ICY_BLOCK_BYTES_MAX);
                assert_int_equal(tower_titles_put(next, 40, "next", 4, 500, 50000), 41);
                tower_titles_mark(next, 6000, 60000);
                tower_titles_get(next, &title);
                assert_string_equal(title.text, "next");
            }
            tower_titles_free(next);
        }
    }
    assert_true(n_anew > 30 && n_shorter > 0);
    /* They are titles of another air. */
    int fd = memfd_create("titles", MFD_CLOEXEC);
    assert_int_equal(write(fd, data, (size_t)bytes), bytes);
    assert_int_equal(tower_titles_open(fd, 39999, &next), 0);
    tower_titles_free(next);
    assert_int_equal(close(fd), 0);
    tower_log_set_level(TOWER_LOG_INFO);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_first_there_is_none),
        cmocka_unit_test(it_holds_from_the_first_byte_of_its_frame),
        cmocka_unit_test(what_is_past_or_next_is_the_next_frame),
        cmocka_unit_test(one_for_an_earlier_frame_replaces_those_that_wait),
        cmocka_unit_test(of_too_many_that_wait_the_newest_stays),
        cmocka_unit_test(the_writers_own_takes_the_place_of_the_one_it_means),
        cmocka_unit_test(text_is_made_fit_to_be_shown),
        cmocka_unit_test(a_long_one_is_cut_at_a_character),
        cmocka_unit_test(what_is_not_utf8_is_refused),
        cmocka_unit_test(a_block_ends_where_it_should),
        cmocka_unit_test(old_ones_are_forgotten),
        cmocka_unit_test(those_on_air_outlive_their_process),
        cmocka_unit_test(nobody_waits_and_nothing_is_torn),
        cmocka_unit_test(the_writers_own_is_not_mistaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
