/* histogram.h - counts of durations in fixed buckets, one writer, any number of readers. */
#ifndef TOWER_HISTOGRAM_H
#define TOWER_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_HISTOGRAM_BUCKETS 14

/* Which durations the buckets tell apart. */
enum tower_histogram_scale {
    TOWER_HISTOGRAM_TICKS, /* 50 us to 1 s: waits and lateness; that of a struct of zeros */
    TOWER_HISTOGRAM_CALLS, /* 2 us to 100 ms: calls to the kernel */
};
#define TOWER_HISTOGRAM_SCALES 2

struct tower_histogram {
    enum tower_histogram_scale scale; /* constant once it is in use */
    _Atomic uint64_t
        counts[TOWER_HISTOGRAM_BUCKETS]; /* bucket i: up to tower_histogram_bounds_ns[scale][i] */
    _Atomic uint64_t sum_ns;
    _Atomic int64_t max_ns;
};

/* Upper bounds in ns, rising; the last is INT64_MAX. */
extern const int64_t tower_histogram_bounds_ns[TOWER_HISTOGRAM_SCALES][TOWER_HISTOGRAM_BUCKETS];

struct tower_histogram_snapshot {
    enum tower_histogram_scale scale;
    uint64_t counts[TOWER_HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t sum_ns;
    int64_t max_ns;
};

/* Count one duration (below 0 counts as 0). One thread; no lock. */
void tower_histogram_add(struct tower_histogram *histogram, int64_t duration_ns);
/* Go on from `snapshot`, of the same scale. Before anybody counts. */
void tower_histogram_restore(struct tower_histogram *histogram,
                             const struct tower_histogram_snapshot *snapshot);
void tower_histogram_snapshot(const struct tower_histogram *histogram,
                              struct tower_histogram_snapshot *ret_snapshot);

/* Add what `other` counted to `sum`, which takes its scale on: all that are added up have one. */
void tower_histogram_sum(struct tower_histogram_snapshot *sum,
                         const struct tower_histogram_snapshot *other);

/* Upper bound in ns of the bucket that holds the `fraction` (0 to 1) quantile; max_ns where that is
 * smaller. 0 when empty. */
int64_t tower_histogram_quantile_ns(const struct tower_histogram_snapshot *snapshot,
                                    double fraction);

#endif
