/* test_histogram.c - durations fall into the buckets of their scale, and counts add up. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/histogram.h"

#define US INT64_C(1000)
#define MS INT64_C(1000000)

static struct tower_histogram_snapshot snapshot_of(const struct tower_histogram *histogram) {
    struct tower_histogram_snapshot snapshot;
    tower_histogram_snapshot(histogram, &snapshot);
    return snapshot;
}

static void bounds_rise_and_leave_nothing_out(void **state) {
    (void)state;
    for (int scale = 0; scale < TOWER_HISTOGRAM_SCALES; scale++) {
        const int64_t *bounds_ns = tower_histogram_bounds_ns[scale];
        assert_true(bounds_ns[0] > 0);
        for (int i = 1; i < TOWER_HISTOGRAM_BUCKETS; i++)
            assert_true(bounds_ns[i] > bounds_ns[i - 1]);
        assert_true(bounds_ns[TOWER_HISTOGRAM_BUCKETS - 1] == INT64_MAX);
    }
    assert_int_equal(tower_histogram_bounds_ns[TOWER_HISTOGRAM_TICKS][0], 50 * US);
    assert_int_equal(tower_histogram_bounds_ns[TOWER_HISTOGRAM_CALLS][0], 2 * US);
    assert_int_equal(tower_histogram_bounds_ns[TOWER_HISTOGRAM_CALLS][TOWER_HISTOGRAM_BUCKETS - 2],
                     100 * MS);
}

static void a_duration_is_told_apart_by_the_scale(void **state) {
    (void)state;
    struct tower_histogram ticks = {0};
    struct tower_histogram calls = {.scale = TOWER_HISTOGRAM_CALLS};
    for (int i = 0; i < 99; i++) {
        tower_histogram_add(&ticks, 5 * US);
        tower_histogram_add(&calls, 5 * US);
    }
    tower_histogram_add(&ticks, 3 * MS);
    tower_histogram_add(&calls, 3 * MS);
    struct tower_histogram_snapshot snapshot = snapshot_of(&ticks);
    assert_int_equal(tower_histogram_quantile_ns(&snapshot, 0.5), 50 * US);
    assert_int_equal(tower_histogram_quantile_ns(&snapshot, 1), 3 * MS);
    snapshot = snapshot_of(&calls);
    assert_int_equal(tower_histogram_quantile_ns(&snapshot, 0.5), 6 * US);
    assert_int_equal(tower_histogram_quantile_ns(&snapshot, 1), 3 * MS);
    assert_int_equal(snapshot.total, 100);
    assert_int_equal(snapshot.sum_ns, 99 * 5 * US + 3 * MS);
}

static void a_bound_is_in_its_bucket_and_less_than_nothing_is_nothing(void **state) {
    (void)state;
    struct tower_histogram calls = {.scale = TOWER_HISTOGRAM_CALLS};
    tower_histogram_add(&calls, -1);
    tower_histogram_add(&calls, 2 * US);
    tower_histogram_add(&calls, 2 * US + 1);
    tower_histogram_add(&calls, INT64_C(3600000000000));
    struct tower_histogram_snapshot snapshot = snapshot_of(&calls);
    assert_int_equal(snapshot.counts[0], 2);
    assert_int_equal(snapshot.counts[1], 1);
    assert_int_equal(snapshot.counts[TOWER_HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(snapshot.max_ns, INT64_C(3600000000000));
}

static void snapshots_add_up(void **state) {
    (void)state;
    struct tower_histogram one = {.scale = TOWER_HISTOGRAM_CALLS};
    struct tower_histogram two = {.scale = TOWER_HISTOGRAM_CALLS};
    struct tower_histogram_snapshot sum = {0}, part;
    assert_int_equal(tower_histogram_quantile_ns(&sum, 0.5), 0);
    tower_histogram_add(&one, 3 * US);
    tower_histogram_add(&two, 7 * US);
    tower_histogram_add(&two, 3 * US);
    part = snapshot_of(&one);
    tower_histogram_sum(&sum, &part);
    part = snapshot_of(&two);
    tower_histogram_sum(&sum, &part);
    assert_int_equal(sum.total, 3);
    assert_int_equal(sum.sum_ns, 13 * US);
    assert_int_equal(sum.max_ns, 7 * US);
    assert_int_equal(tower_histogram_quantile_ns(&sum, 0.5), 4 * US);
    assert_int_equal(tower_histogram_quantile_ns(&sum, 1), 7 * US);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_rise_and_leave_nothing_out),
        cmocka_unit_test(a_duration_is_told_apart_by_the_scale),
        cmocka_unit_test(a_bound_is_in_its_bucket_and_less_than_nothing_is_nothing),
        cmocka_unit_test(snapshots_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
