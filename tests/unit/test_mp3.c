/* test_mp3.c - MPEG audio Layer III headers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tower/mp3.h"

#include <errno.h>
#include <string.h>

static struct tower_mp3_header parse(const uint8_t *data, size_t bytes) {
    struct tower_mp3_header header;
    memset(&header, 0, sizeof header);
    assert_int_equal(tower_mp3_parse(data, bytes, &header), 0);
    return header;
}

static void test_reads_what_the_transmitter_sends(void **state) {
    (void)state;
    const uint8_t data[] = {0xff, 0xfb, 0x94, 0x44};
    struct tower_mp3_header header = parse(data, sizeof data);
    assert_true(header.is_mpeg1);
    assert_int_equal(header.bitrate_bps, 128000);
    assert_int_equal(header.rate_hz, 48000);
    assert_int_equal(header.channels, 2);
    assert_int_equal(header.samples, 1152);
    assert_int_equal(header.frame_bytes, 384);
    assert_int_equal(header.main_data_begin, 0);
}

static void test_reads_every_mpeg1_bitrate_and_rate(void **state) {
    (void)state;
    const unsigned kbps[] = {32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320};
    const unsigned hz[] = {44100, 48000, 32000};
    for (unsigned b = 0; b < 14; b++) {
        for (unsigned r = 0; r < 3; r++) {
            for (unsigned padding = 0; padding < 2; padding++) {
                const uint8_t data[] = {0xff, 0xfb, (uint8_t)((b + 1) << 4 | r << 2 | padding << 1),
                                        0};
                struct tower_mp3_header header = parse(data, sizeof data);
                assert_int_equal(header.bitrate_bps, kbps[b] * 1000);
                assert_int_equal(header.rate_hz, hz[r]);
                assert_int_equal(header.frame_bytes, 144000 * kbps[b] / hz[r] + padding);
            }
        }
    }
}

static void test_reads_mpeg2_and_25(void **state) {
    (void)state;
    const uint8_t mpeg2[] = {0xff, 0xf3, 0x80, 0xc0};  /* 64 kbit/s, 22050 Hz, mono */
    const uint8_t mpeg25[] = {0xff, 0xe3, 0x88, 0xc0}; /* 64 kbit/s, 8000 Hz, mono */
    struct tower_mp3_header header = parse(mpeg2, sizeof mpeg2);
    assert_false(header.is_mpeg1);
    assert_int_equal(header.bitrate_bps, 64000);
    assert_int_equal(header.rate_hz, 22050);
    assert_int_equal(header.samples, 576);
    assert_int_equal(header.channels, 1);
    assert_int_equal(header.frame_bytes, 208);
    header = parse(mpeg25, sizeof mpeg25);
    assert_int_equal(header.rate_hz, 8000);
    assert_int_equal(header.frame_bytes, 576);
}

static void test_reads_main_data_begin(void **state) {
    (void)state;
    const uint8_t plain[] = {0xff, 0xfb, 0x94, 0x44, 0x80, 0x80};
    const uint8_t with_crc[] = {0xff, 0xfa, 0x94, 0x44, 0x12, 0x34, 0xff, 0x80};
    const uint8_t mpeg2[] = {0xff, 0xf3, 0x80, 0xc0, 0x55, 0xff};
    assert_int_equal(parse(plain, sizeof plain).main_data_begin, 257);
    assert_int_equal(parse(with_crc, sizeof with_crc).main_data_begin, 511);
    assert_int_equal(parse(mpeg2, sizeof mpeg2).main_data_begin, 0x55);
    assert_int_equal(parse(plain, 5).main_data_begin, 0);
    assert_int_equal(parse(with_crc, 7).main_data_begin, 0);
}

static void test_refuses_what_is_no_header(void **state) {
    (void)state;
    static const uint8_t bad[][4] = {
        {0xfe, 0xfb, 0x94, 0x44}, /* sync, first byte */
        {0xff, 0xdb, 0x94, 0x44}, /* sync, second byte */
        {0xff, 0xeb, 0x94, 0x44}, /* reserved version */
        {0xff, 0xfd, 0x94, 0x44}, /* Layer II */
        {0xff, 0xff, 0x94, 0x44}, /* Layer I */
        {0xff, 0xf9, 0x94, 0x44}, /* reserved layer */
        {0xff, 0xfb, 0x04, 0x44}, /* free format */
        {0xff, 0xfb, 0xf4, 0x44}, /* bad bitrate */
        {0xff, 0xfb, 0x9c, 0x44}, /* reserved rate */
        {'I', 'D', '3', 4},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tower_mp3_header header = {.bitrate_bps = 77};
        assert_int_equal(tower_mp3_parse(bad[i], 4, &header), -EBADMSG);
        assert_int_equal(header.bitrate_bps, 77);
    }
}

static void test_asks_for_more_than_three_bytes(void **state) {
    (void)state;
    const uint8_t data[] = {0xff, 0xfb, 0x94, 0x44};
    struct tower_mp3_header header = {.bitrate_bps = 77};
    for (size_t n = 0; n < 4; n++)
        assert_int_equal(tower_mp3_parse(data, n, &header), -EAGAIN);
    assert_int_equal(header.bitrate_bps, 77);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_the_transmitter_sends),
        cmocka_unit_test(test_reads_every_mpeg1_bitrate_and_rate),
        cmocka_unit_test(test_reads_mpeg2_and_25),
        cmocka_unit_test(test_reads_main_data_begin),
        cmocka_unit_test(test_refuses_what_is_no_header),
        cmocka_unit_test(test_asks_for_more_than_three_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
