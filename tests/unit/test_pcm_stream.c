/* WAV and L16 as they come over a wire, and the backlog of what was made of them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "pcm_backlog.h"
#include "pcm_stream.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RATE 48000

static int16_t out[2 * 300000];
static size_t n_out;

static void keep(void *user, const int16_t *samples, size_t n_samples) {
    assert_ptr_equal(user, &n_out);
    assert_true(n_out + n_samples <= sizeof out / 4);
    memcpy(out + n_out * 2, samples, n_samples * 4);
    n_out += n_samples;
}

static uint8_t file[300000];
static size_t file_bytes;

static void add(const void *data, size_t bytes) {
    assert_true(file_bytes + bytes <= sizeof file);
    memcpy(file + file_bytes, data, bytes);
    file_bytes += bytes;
}

static void add_number(uint32_t number, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        add(&(const uint8_t){(uint8_t)(number >> (8 * i))}, 1);
}

static void add_wav(unsigned kind, uint32_t rate_hz, unsigned channels, unsigned bits,
                    uint32_t data_bytes) {
    add("RIFF\xff\xff\xff\xffWAVELIST\3\0\0\0abc\0", 24);
    add("fmt ", 4);
    add_number(kind == 0xfffe ? 40 : 16, 4);
    add_number(kind, 2);
    add_number(channels, 2);
    add_number(rate_hz, 4);
    add_number(rate_hz * channels * bits / 8, 4);
    add_number(channels * bits / 8, 2);
    add_number(bits, 2);
    if (kind == 0xfffe)
        add("\x16\0\x10\0\3\0\0\0\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 24);
    add("data", 4);
    add_number(data_bytes, 4);
}

static int take_all(struct tower_pcm_stream *stream, size_t piece) {
    int error = 0;
    n_out = 0;
    for (size_t at = 0; at < file_bytes && error == 0; at += piece)
        error = tower_pcm_stream_take(stream, file + at,
                                      file_bytes - at < piece ? file_bytes - at : piece);
    if (error == 0)
        error = tower_pcm_stream_end(stream);
    tower_pcm_stream_free(stream);
    return error;
}

static int take_wav(size_t piece) {
    struct tower_pcm_stream *stream;
    assert_int_equal(tower_pcm_stream_new_wav(keep, &n_out, &stream), 0);
    return take_all(stream, piece);
}

static const size_t pieces[] = {1, 3, 1000, 65536};
#define PIECES (sizeof pieces / sizeof *pieces)

static void test_48_khz_stereo_passes_bit_for_bit(void **state) {
    (void)state;
    static const unsigned kinds[] = {1, 0xfffe};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < PIECES; i++) {
            file_bytes = 0;
            add_wav(kinds[k], RATE, 2, 16, UINT32_MAX);
            for (uint32_t n = 0; n < 5000; n++)
                add_number(n * 2654435761U, 4);
            assert_int_equal(take_wav(pieces[i]), 0);
            assert_int_equal(n_out, 5000);
            assert_memory_equal(out, file + file_bytes - 20000, 20000);
        }
    }
}

static void test_l16_is_big_endian(void **state) {
    (void)state;
    struct tower_pcm_stream *stream;
    file_bytes = 0;
    add("\x12\x34\x80\x00\xff\xff\x7f\xff", 8);
    for (size_t piece = 1; piece < 9; piece++) {
        assert_int_equal(tower_pcm_stream_new_l16(RATE, 2, keep, &n_out, &stream), 0);
        assert_int_equal(take_all(stream, piece), 0);
        assert_int_equal(n_out, 2);
        const int16_t expected[] = {0x1234, INT16_MIN, -1, INT16_MAX};
        assert_memory_equal(out, expected, sizeof expected);
    }
    assert_int_equal(tower_pcm_stream_new_l16(0, 2, keep, &n_out, &stream), -EINVAL);
    assert_int_equal(tower_pcm_stream_new_l16(RATE, 9, keep, &n_out, &stream), -EINVAL);
}

static void expect_half(unsigned kind, unsigned bits, const void *word) {
    file_bytes = 0;
    add_wav(kind, RATE, 1, bits, 0);
    for (unsigned i = 0; i < 10; i++)
        add(word, bits / 8);
    assert_int_equal(take_wav(7), 0);
    assert_int_equal(n_out, 10);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(out[i], 16384);
}

static void test_every_width_means_the_same(void **state) {
    (void)state;
    const float half = 0.5f;
    const double half_too = 0.5;
    expect_half(1, 8, "\xc0");
    expect_half(1, 16, "\x00\x40");
    expect_half(1, 24, "\x00\x00\x40");
    expect_half(1, 32, "\x00\x00\x00\x40");
    expect_half(3, 32, &half);
    expect_half(3, 64, &half_too);
}

static void test_floats_are_clipped(void **state) {
    (void)state;
    const float words[] = {2, -2, 1, -1, 0.0f / 0.0f, 0};
    const int16_t expected[] = {INT16_MAX, INT16_MIN, INT16_MAX, INT16_MIN, 0, 0};
    file_bytes = 0;
    add_wav(3, RATE, 2, 32, sizeof words);
    add(words, sizeof words);
    assert_int_equal(take_wav(1000), 0);
    assert_int_equal(n_out, 3);
    assert_memory_equal(out, expected, sizeof expected);
}

static void test_one_file_follows_another(void **state) {
    (void)state;
    static const uint8_t silence[44100 * 2];
    file_bytes = 0;
    add_wav(1, 44100, 1, 16, sizeof silence);
    add(silence, sizeof silence);
    add_wav(1, 22050, 2, 8, 22050);
    memset(file + file_bytes, 0x80, 22050);
    file_bytes += 22050;
    for (size_t i = 1; i < PIECES; i++) {
        assert_int_equal(take_wav(pieces[i]), 0);
        assert_int_equal(n_out, RATE + RATE / 2);
        for (size_t n = 0; n < n_out * 2; n++)
            assert_int_equal(out[n], 0);
    }
}

static void test_what_is_not_for_us_is_refused(void **state) {
    (void)state;
    file_bytes = 0;
    add("fLaC and so on", 14);
    assert_int_equal(take_wav(1), -EPROTO);
    file_bytes = 0;
    add("RIFF\0\0\0\0AVI ", 12);
    assert_int_equal(take_wav(5), -EPROTO);
    file_bytes = 0;
    add("RIFF\0\0\0\0WAVEdata\0\0\0\0", 20);
    assert_int_equal(take_wav(5), -EPROTO);
    const unsigned bad[][4] = {{2, RATE, 2, 4},  {1, 10, 2, 16},   {1, RATE, 0, 16},
                               {1, RATE, 9, 16}, {1, RATE, 2, 12}, {3, RATE, 2, 16}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file_bytes = 0;
        add_wav(bad[i][0], bad[i][1], bad[i][2], bad[i][3], 0);
        assert_int_equal(take_wav(9), -ENOTSUP);
    }
}

/* ---- the backlog ---- */

static void put_numbers(struct tower_pcm_backlog *backlog, int16_t from, size_t n) {
    int16_t samples[200];
    for (size_t i = 0; i < n; i++)
        samples[2 * i] = samples[2 * i + 1] = (int16_t)((size_t)from + i);
    tower_pcm_backlog_put(backlog, samples, n);
}

static void take_numbers(struct tower_pcm_backlog *backlog, int16_t from, size_t n) {
    const int16_t *samples;
    while (n > 0) {
        size_t got = tower_pcm_backlog_peek(backlog, n, &samples);
        assert_true(got > 0);
        for (size_t i = 0; i < got; i++)
            assert_int_equal(samples[2 * i + 1], from++);
        tower_pcm_backlog_pass(backlog, got);
        n -= got;
    }
}

static void test_a_backlog_keeps_the_order_round_and_round(void **state) {
    (void)state;
    struct tower_pcm_backlog backlog;
    assert_int_equal(tower_pcm_backlog_init(&backlog, 100), 0);
    for (int16_t i = 0; i < 50; i++) {
        put_numbers(&backlog, (int16_t)(i * 70), 70);
        take_numbers(&backlog, (int16_t)(i * 70), 70);
    }
    assert_int_equal(backlog.dropped, 0);
    tower_pcm_backlog_done(&backlog);
}

static void test_the_oldest_goes_and_is_counted(void **state) {
    (void)state;
    struct tower_pcm_backlog backlog;
    assert_int_equal(tower_pcm_backlog_init(&backlog, 64), 0);
    put_numbers(&backlog, 0, 60);
    put_numbers(&backlog, 60, 60);
    assert_int_equal(backlog.dropped, 56);
    tower_pcm_backlog_keep(&backlog, 10);
    assert_int_equal(backlog.dropped, 110);
    take_numbers(&backlog, 110, 10);
    put_numbers(&backlog, 200, 100);
    assert_int_equal(backlog.dropped, 146);
    take_numbers(&backlog, 236, 64);
    assert_int_equal(backlog.count, 0);
    tower_pcm_backlog_done(&backlog);
}

static void test_a_title_goes_with_its_sample(void **state) {
    (void)state;
    struct tower_pcm_backlog backlog;
    const int16_t *samples;
    assert_int_equal(tower_pcm_backlog_init(&backlog, 64), 0);
    put_numbers(&backlog, 0, 20);
    assert_int_equal(tower_pcm_backlog_set_title(&backlog, "one"), 0);
    put_numbers(&backlog, 20, 20);
    assert_null(tower_pcm_backlog_take_title(&backlog));
    assert_int_equal(tower_pcm_backlog_peek(&backlog, 64, &samples), 20);
    tower_pcm_backlog_pass(&backlog, 20);
    char *title = tower_pcm_backlog_take_title(&backlog);
    assert_string_equal(title, "one");
    free(title);
    assert_null(tower_pcm_backlog_take_title(&backlog));
    take_numbers(&backlog, 20, 20);
    /* Where what was in front of it is dropped it is still told. */
    put_numbers(&backlog, 0, 20);
    assert_int_equal(tower_pcm_backlog_set_title(&backlog, "two"), 0);
    put_numbers(&backlog, 20, 60);
    title = tower_pcm_backlog_take_title(&backlog);
    assert_null(title);
    put_numbers(&backlog, 80, 60);
    title = tower_pcm_backlog_take_title(&backlog);
    assert_string_equal(title, "two");
    free(title);
    tower_pcm_backlog_done(&backlog);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_48_khz_stereo_passes_bit_for_bit),
        cmocka_unit_test(test_l16_is_big_endian),
        cmocka_unit_test(test_every_width_means_the_same),
        cmocka_unit_test(test_floats_are_clipped),
        cmocka_unit_test(test_one_file_follows_another),
        cmocka_unit_test(test_what_is_not_for_us_is_refused),
        cmocka_unit_test(test_a_backlog_keeps_the_order_round_and_round),
        cmocka_unit_test(test_the_oldest_goes_and_is_counted),
        cmocka_unit_test(test_a_title_goes_with_its_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
