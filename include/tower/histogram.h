/* histogram.h - counts of durations in fixed buckets, one writer, any number of readers. */
#ifndef TOWER_HISTOGRAM_H
#define TOWER_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_HISTOGRAM_BUCKETS 14

struct tower_histogram {
    _Atomic uint64_t
        counts[TOWER_HISTOGRAM_BUCKETS]; /* bucket i: up to tower_histogram_bounds_ns[i] */
    _Atomic uint64_t sum_ns;
    _Atomic int64_t max_ns;
};

/* Upper bounds in ns, rising; the last is INT64_MAX. */
extern const int64_t tower_histogram_bounds_ns[TOWER_HISTOGRAM_BUCKETS];

struct tower_histogram_snapshot {
    uint64_t counts[TOWER_HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t sum_ns;
    int64_t max_ns;
};

/* Count one duration (below 0 counts as 0). One thread; no lock. */
void tower_histogram_add(struct tower_histogram *histogram, int64_t duration_ns);
void tower_histogram_snapshot(const struct tower_histogram *histogram,
                              struct tower_histogram_snapshot *ret_snapshot);

/* Upper bound in ns of the bucket that holds the `fraction` (0 to 1) quantile; max_ns where that is
 * smaller. 0 when empty. */
int64_t tower_histogram_quantile_ns(const struct tower_histogram_snapshot *snapshot,
                                    double fraction);

#endif
