/* UTF-8: what RFC 3629 allows and nothing else; and ISO 8859-1 made into it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "utf8.h"

#include <string.h>

static void what_is_utf8_is_taken(void **state) {
    (void)state;
    static const char *const good[] = {"",
                                       "plain",
                                       "Bj\xc3\xb6rk",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x93\xbb",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(tower_utf8_is_valid(good[i], strlen(good[i])));
    assert_int_equal(tower_utf8_length("\xe2\x82\xac.", 4), 3);
}

static void what_is_not_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "Bj\xf6rk",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xe2\x82",
                                      "\xe2\x28\xa1",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x9f\x93",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tower_utf8_is_valid(bad[i], strlen(bad[i])));
    /* The bytes that would complete it lie behind the end. */
    assert_int_equal(tower_utf8_length("\xe2\x82\xac", 2), 0);
    assert_int_equal(tower_utf8_length("", 0), 0);
}

static void latin1_becomes_utf8(void **state) {
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
        cmocka_unit_test(what_is_utf8_is_taken),
        cmocka_unit_test(what_is_not_is_refused),
        cmocka_unit_test(latin1_becomes_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
