/* exposition.h - Prometheus' text format 0.0.4: families of samples, one after the other.
 *
 * Whether the stream took it all is for its owner to ask, at the end.
 */
#ifndef TOWER_HTTP_EXPOSITION_H
#define TOWER_HTTP_EXPOSITION_H

#include "tower/histogram.h"

#include <stdbool.h>
#include <stdio.h>

enum tower_metric_type { TOWER_METRIC_GAUGE, TOWER_METRIC_COUNTER, TOWER_METRIC_HISTOGRAM };

/* Begins as {stream}. */
struct tower_exposition {
    FILE *out;
    const char *family; /* the one under way */
    bool has_failed;    /* something of it is missing in the stream */
};

struct tower_metric_label {
    const char *name;
    const char *value; /* any UTF-8 */
};

/* Begin a family; its samples follow. `help` is one line, without a backslash. */
void tower_exposition_family(struct tower_exposition *to, const char *name,
                             enum tower_metric_type type, const char *help);

/* A sample of the family under way. NaN says that there is no value now. */
void tower_exposition_sample(struct tower_exposition *to, const struct tower_metric_label *labels,
                             size_t n_labels, double value);

/* A sample with one label. */
void tower_exposition_labelled(struct tower_exposition *to, const char *label,
                               const char *label_value, double value);

/* A family with one sample, which has no labels. */
void tower_exposition_gauge(struct tower_exposition *to, const char *name, const char *help,
                            double value);
void tower_exposition_counter(struct tower_exposition *to, const char *name, const char *help,
                              uint64_t value);

/* A whole family, in seconds. */
void tower_exposition_histogram(struct tower_exposition *to, const char *name, const char *help,
                                const struct tower_histogram_snapshot *histogram);

#endif
