/* The body of a request: what was put in chunks comes out as it was, however it comes in. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "http_body.h"

#include <errno.h>
#include <string.h>

struct undone {
    int error;
    char content[8192];
    size_t bytes;
    size_t left; /* not taken */
};

/* All of it, in pieces of `piece` bytes. */
static struct undone undo(const char *text, size_t bytes, size_t piece, bool is_chunked,
                          uint64_t length) {
    static struct undone undone;
    struct tower_http_body body;
    undone = (struct undone){.left = bytes};
    tower_http_body_init(&body, is_chunked, length);
    const uint8_t *at = (const uint8_t *)text;
    while (undone.left > 0 && undone.error == 0 && body.place != TOWER_HTTP_BODY_END) {
        size_t left = undone.left < piece ? undone.left : piece;
        size_t before = left;
        const uint8_t *content = NULL;
        size_t n = 0;
        int result = tower_http_body_take(&body, &at, &left, &content, &n);
        undone.left -= before - left;
        if (result < 0)
            undone.error = result;
        if (result != 1)
            continue;
        assert_true(n > 0);
        assert_true(undone.bytes + n < sizeof undone.content);
        memcpy(undone.content + undone.bytes, content, n);
        undone.bytes += n;
    }
    if (undone.error == 0 && is_chunked && body.place != TOWER_HTTP_BODY_END)
        undone.error = -EAGAIN;
    return undone;
}

static void expect(const char *chunks, const char *content) {
    for (size_t piece = 1; piece < 40; piece++) {
        struct undone undone = undo(chunks, strlen(chunks), piece, true, 0);
        assert_int_equal(undone.error, 0);
        assert_int_equal(undone.bytes, strlen(content));
        assert_memory_equal(undone.content, content, undone.bytes);
    }
}

static void expect_error(const char *chunks, int error) {
    for (size_t piece = 1; piece < 40; piece++)
        assert_int_equal(undo(chunks, strlen(chunks), piece, true, 0).error, error);
}

static void test_chunks_come_out_as_they_were(void **state) {
    (void)state;
    expect("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!");
    expect("0000000000000000000A\r\n0123456789\r\n000\r\n\r\n", "0123456789");
    expect("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n");
    expect("0\r\n\r\n", "");
}

static void test_extensions_and_trailers_are_passed_over(void **state) {
    (void)state;
    expect("3;a=b;c=\"1\"\r\nabc\r\n2 \r\nde\r\n0;last\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", "abcde");
}

static void test_what_is_behind_the_end_is_not_taken(void **state) {
    (void)state;
    const char text[] = "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    assert_int_equal(undo(text, strlen(text), 100, true, 0).left, strlen("GET / HTTP/1.1\r\n"));
}

static void test_what_is_no_chunks_is_refused(void **state) {
    (void)state;
    expect_error("\r\n", -EBADMSG);
    expect_error("x\r\n", -EBADMSG);
    expect_error("-1\r\nx\r\n", -EBADMSG);
    expect_error("0x1\r\nx\r\n", -EBADMSG);
    expect_error("1\nx", -EBADMSG);
    expect_error("1\rx", -EBADMSG);
    expect_error("1\r\nxy\r\n", -EBADMSG);
    expect_error("1\r\nx\n1\r\n", -EBADMSG);
    expect_error("1;a\n1\r\n", -EBADMSG);
    expect_error("0\r\n\n", -EBADMSG);
    expect_error("0\r\n\rx", -EBADMSG);
    expect_error("ID3\x04 this is no chunk", -EBADMSG);
}

static void test_sizes_have_a_bound(void **state) {
    (void)state;
    expect_error("fffffffffffffffff\r\n", -EMSGSIZE);
    expect_error("1000000000000000\r\n", -EMSGSIZE);
    expect_error("7fffffffffffff\r\nx", -EAGAIN);
    char text[TOWER_HTTP_BODY_LINE_BYTES_MAX + 100];
    memset(text, '0', sizeof text);
    assert_int_equal(undo(text, sizeof text, 64, true, 0).error, -EMSGSIZE);
    memset(text + 1, ';', sizeof text - 1);
    assert_int_equal(undo(text, sizeof text, 64, true, 0).error, -EMSGSIZE);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "a\r\n"[i % 3];
    text[0] = '0';
    assert_int_equal(undo(text, sizeof text, 64, true, 0).error, -EMSGSIZE);
}

static void test_a_body_without_chunks_is_what_it_is(void **state) {
    (void)state;
    const char text[] = "5\r\nhello\r\n0\r\n\r\n";
    struct undone undone = undo(text, strlen(text), 3, false, 0);
    assert_int_equal(undone.bytes, strlen(text));
    assert_memory_equal(undone.content, text, undone.bytes);
}

static void test_a_length_is_its_end(void **state) {
    (void)state;
    const char text[] = "5\r\nhelloGET / HTTP/1.1\r\n";
    for (size_t piece = 1; piece < 40; piece++) {
        struct undone undone = undo(text, strlen(text), piece, false, 8);
        assert_int_equal(undone.bytes, 8);
        assert_memory_equal(undone.content, text, 8);
        assert_int_equal(undone.left, strlen("GET / HTTP/1.1\r\n"));
    }
    assert_int_equal(undo(text, strlen(text), 40, false, 100).left, 0);
    /* The chunks say more. */
    assert_int_equal(undo("2\r\nab\r\n0\r\n\r\n", 12, 40, true, 1).bytes, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_come_out_as_they_were),
        cmocka_unit_test(test_extensions_and_trailers_are_passed_over),
        cmocka_unit_test(test_what_is_behind_the_end_is_not_taken),
        cmocka_unit_test(test_what_is_no_chunks_is_refused),
        cmocka_unit_test(test_sizes_have_a_bound),
        cmocka_unit_test(test_a_body_without_chunks_is_what_it_is),
        cmocka_unit_test(test_a_length_is_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
