/* UTF-8: against the boundary cases of the standard, and every code point there is; and ISO 8859-1
 * made into it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "utf8.h"

#include <string.h>

/* Write a code point the plain way, in `n` bytes, whether that is allowed or not. */
static void write_in(char *ret_text, uint32_t point, size_t n) {
    static const unsigned char heads[] = {0, 0, 0xc0, 0xe0, 0xf0, 0xf8};
    for (size_t i = n - 1; i > 0; i--, point >>= 6)
        ret_text[i] = (char)(0x80 | (point & 0x3f));
    ret_text[0] = (char)(heads[n] | point);
}

static size_t bytes_of(uint32_t point) {
    return point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
}

static void test_every_code_point_in_its_own_length_alone(void **state) {
    (void)state;
    char text[8] = "";
    for (uint32_t point = 0; point < 0x200000; point++) {
        bool is_character = point < 0x110000 && (point < 0xd800 || point > 0xdfff);
        for (size_t n = bytes_of(point); n <= 5; n++) {
            write_in(text, point, n);
            bool expected = is_character && n == bytes_of(point);
            if (tower_utf8_is_valid(text, n) != expected)
                fail_msg("U+%X in %zu bytes", (unsigned)point, n);
        }
        /* None that is not whole. */
        for (size_t n = 1; n < bytes_of(point); n++) {
            write_in(text, point, bytes_of(point));
            assert_false(tower_utf8_is_valid(text, n));
        }
    }
}

static void test_one_bad_byte_among_good_ones(void **state) {
    (void)state;
    static const char text[] = "J\u00f3ga \u2013 \u97f3\u697d \U0001f3b5.";
    char spoilt[sizeof text];
    assert_true(tower_utf8_is_valid(text, sizeof text - 1));
    assert_true(tower_utf8_is_valid(text, 0));
    for (size_t i = 0; i < sizeof text - 1; i++) {
        memcpy(spoilt, text, sizeof text);
        spoilt[i] = (char)0xff;
        assert_false(tower_utf8_is_valid(spoilt, sizeof text - 1));
    }
    assert_false(tower_utf8_is_valid("\x80", 1));
}

static void test_a_cut_falls_between_characters(void **state) {
    (void)state;
    static const char text[] = "a\u00e9\u20ac\U0001f3b5z"; /* 1, 2, 3, 4 and 1 bytes */
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11, 11};
    for (size_t max = 0; max < sizeof expected / sizeof *expected; max++)
        assert_int_equal(tower_utf8_cut(text, sizeof text - 1, max), expected[max]);
    assert_int_equal(tower_utf8_cut("\x80\x80\x80", 3, 2), 0);
    /* What is none is not cut until it is one. */
    static const char wrong[] = "a\x80\x80\x80\x80\x80\x80\x80\x80";
    assert_false(tower_utf8_is_valid(wrong, tower_utf8_cut(wrong, sizeof wrong - 1, 6)));
}

static void test_latin1_becomes_utf8(void **state) {
    (void)state;
    char text[8];
    assert_int_equal(tower_utf8_from_latin1("Bj\xf6rk", 5, text, sizeof text), 6);
    assert_string_equal(text, "Bj\xc3\xb6rk");
    /* No half of a character at the end. */
    assert_int_equal(tower_utf8_from_latin1("abcdef\xff", 7, text, sizeof text), 6);
    assert_string_equal(text, "abcdef");
    assert_int_equal(tower_utf8_from_latin1("abc", 3, text, 1), 0);
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_in_its_own_length_alone),
        cmocka_unit_test(test_one_bad_byte_among_good_ones),
        cmocka_unit_test(test_a_cut_falls_between_characters),
        cmocka_unit_test(test_latin1_becomes_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
