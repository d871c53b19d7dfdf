/* histogram.c - counts of durations in fixed buckets. */
#include "tower/histogram.h"

#define US INT64_C(1000)
#define MS INT64_C(1000000)

const int64_t tower_histogram_bounds_ns[TOWER_HISTOGRAM_SCALES][TOWER_HISTOGRAM_BUCKETS] = {
    [TOWER_HISTOGRAM_TICKS] = {50 * US, 100 * US, 250 * US, 500 * US, 1 * MS, 2 * MS, 5 * MS,
                               10 * MS, 24 * MS, 50 * MS, 100 * MS, 250 * MS, 1000 * MS, INT64_MAX},
    [TOWER_HISTOGRAM_CALLS] = {2 * US, 4 * US, 6 * US, 8 * US, 12 * US, 20 * US, 50 * US, 100 * US,
                               250 * US, 1 * MS, 5 * MS, 24 * MS, 100 * MS, INT64_MAX},
};

void tower_histogram_add(struct tower_histogram *histogram, int64_t duration_ns) {
    const int64_t *bounds_ns = tower_histogram_bounds_ns[histogram->scale];
    if (duration_ns < 0)
        duration_ns = 0;
    int bucket = 0;
    while (duration_ns > bounds_ns[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, (uint64_t)duration_ns, memory_order_relaxed);
    if (duration_ns > atomic_load_explicit(&histogram->max_ns, memory_order_relaxed))
        atomic_store_explicit(&histogram->max_ns, duration_ns, memory_order_relaxed);
}

void tower_histogram_restore(struct tower_histogram *histogram,
                             const struct tower_histogram_snapshot *snapshot) {
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS; i++)
        atomic_store_explicit(&histogram->counts[i], snapshot->counts[i], memory_order_relaxed);
    atomic_store_explicit(&histogram->sum_ns, snapshot->sum_ns, memory_order_relaxed);
    atomic_store_explicit(&histogram->max_ns, snapshot->max_ns, memory_order_relaxed);
}

void tower_histogram_snapshot(const struct tower_histogram *histogram,
                              struct tower_histogram_snapshot *ret_snapshot) {
    struct tower_histogram_snapshot snapshot = {.scale = histogram->scale};
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS; i++) {
        snapshot.counts[i] = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        snapshot.total += snapshot.counts[i];
    }
    snapshot.sum_ns = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    snapshot.max_ns = atomic_load_explicit(&histogram->max_ns, memory_order_relaxed);
    *ret_snapshot = snapshot;
}

void tower_histogram_sum(struct tower_histogram_snapshot *sum,
                         const struct tower_histogram_snapshot *other) {
    sum->scale = other->scale;
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS; i++)
        sum->counts[i] += other->counts[i];
    sum->total += other->total;
    sum->sum_ns += other->sum_ns;
    if (sum->max_ns < other->max_ns)
        sum->max_ns = other->max_ns;
}

int64_t tower_histogram_quantile_ns(const struct tower_histogram_snapshot *snapshot,
                                    double fraction) {
    double wanted = fraction * (double)snapshot->total;
    uint64_t seen = 0;
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS; i++) {
        seen += snapshot->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            int64_t bound = tower_histogram_bounds_ns[snapshot->scale][i];
            return bound < snapshot->max_ns ? bound : snapshot->max_ns;
        }
    }
    return 0;
}
