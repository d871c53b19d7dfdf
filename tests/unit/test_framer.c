/* The framer: bytes in pieces of any size come out as the same bytes in whole frames. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/framer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void test_pieces_of_any_size_become_whole_frames(void **state) {
    (void)state;
    static uint8_t in[100 * 4608], out[100 * 4608];
    struct tower_framer framer;
    size_t taken = 0, given = 0;
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)rand();
    assert_int_equal(tower_framer_init(&framer, 4608), 0);
    while (taken < sizeof in) {
        size_t space_bytes;
        void *space = tower_framer_space(&framer, &space_bytes);
        assert_in_range(space_bytes, 1, 4608);
        size_t n = 1 + (size_t)rand() % space_bytes;
        memcpy(space, in + taken, n);
        taken += n;
        int is_whole = tower_framer_filled(&framer, n);
        assert_int_equal(is_whole, taken % 4608 == 0);
        if (is_whole) {
            memcpy(out + given, framer.frame, 4608);
            given += 4608;
        }
    }
    assert_int_equal(given, sizeof in);
    assert_memory_equal(in, out, sizeof in);
}

static void test_part_of_a_frame_is_forgotten_and_counted(void **state) {
    (void)state;
    struct tower_framer framer;
    size_t space_bytes;
    assert_int_equal(tower_framer_init(&framer, 16), 0);
    assert_int_equal(tower_framer_discard(&framer), 0);
    memset(tower_framer_space(&framer, &space_bytes), 1, 5);
    assert_int_equal(tower_framer_filled(&framer, 5), 0);
    assert_int_equal(tower_framer_discard(&framer), 5);
    memset(tower_framer_space(&framer, &space_bytes), 2, 16);
    assert_int_equal(space_bytes, 16);
    assert_int_equal(tower_framer_filled(&framer, 16), 1);
    for (int i = 0; i < 16; i++)
        assert_int_equal(framer.frame[i], 2);
}

static void test_impossible_sizes_are_refused(void **state) {
    (void)state;
    struct tower_framer framer;
    assert_int_equal(tower_framer_init(&framer, 0), -EINVAL);
    assert_int_equal(tower_framer_init(&framer, TOWER_FRAME_BYTES_MAX + 1), -EINVAL);
    assert_int_equal(tower_framer_init(&framer, TOWER_FRAME_BYTES_MAX), 0);
    assert_int_equal(tower_framer_filled(&framer, TOWER_FRAME_BYTES_MAX + 1), -EINVAL);
    assert_int_equal(tower_framer_discard(&framer), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_of_any_size_become_whole_frames),
        cmocka_unit_test(test_part_of_a_frame_is_forgotten_and_counted),
        cmocka_unit_test(test_impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
