/* test_takeover_limits.c - what those who wait may not do to the one on air, nor to each other. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "takeover_fixture.h"

/* Others that go meanwhile are nobody to be waited for. */
static void test_only_who_went_has_to_settle(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live";
    fixture->settle_ns = 3 * TOWER_NS_PER_S;
    make(fixture, 50, 0, 0);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 1, 1);
    await(fixture, is_shown, 1);
    struct tower_producer *first = join(fixture, "jingle", false, false);
    write_frames(first, 1, 1);
    await(fixture, is_audible, 2);
    tower_producer_close(live, 0);
    await(fixture, is_shown, 2);
    tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
    struct tower_producer *second = join(fixture, "jingle", false, false);
    write_frames(second, 1, 1);
    await(fixture, is_audible, 3);
    tower_producer_close(first, 0);
    await(fixture, is_shown, 3);
    tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
    live = join(fixture, "live", false, false);
    write_frames(live, 100, 2);
    await(fixture, is_shown, 4);
    tower_producer_close(live, 0);
    tower_producer_close(second, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_only_who_went_has_to_settle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
