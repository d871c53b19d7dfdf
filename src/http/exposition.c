/* exposition.c - Prometheus' text format. */
#include "exposition.h"

#include <inttypes.h>
#include <math.h>

#define NS_PER_S 1e9

void tower_exposition_family(struct tower_exposition *to, const char *name,
                             enum tower_metric_type type, const char *help) {
    static const char *const types[] = {"gauge", "counter", "histogram"};
    to->family = name;
    (void)fprintf(to->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

static void write_label_value(FILE *out, const char *value) {
    for (; *value; value++) {
        if (*value == '\n')
            (void)fputs("\\n", out);
        else if (*value == '"' || *value == '\\')
            (void)fprintf(out, "\\%c", *value);
        else
            (void)fputc(*value, out);
    }
}

/* A count with all its digits, and a fraction without those that are noise. */
static void write_value(FILE *out, double value) {
    if (isnan(value))
        (void)fputs(" NaN\n", out);
    else if (isinf(value))
        (void)fputs(value > 0 ? " +Inf\n" : " -Inf\n", out);
    else
        (void)fprintf(out, trunc(value) == value ? " %.17g\n" : " %.12g\n", value);
}

void tower_exposition_sample(struct tower_exposition *to, const struct tower_metric_label *labels,
                             size_t n_labels, double value) {
    (void)fputs(to->family, to->out);
    for (size_t i = 0; i < n_labels; i++) {
        (void)fprintf(to->out, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
        write_label_value(to->out, labels[i].value);
        (void)fputc('"', to->out);
    }
    if (n_labels > 0)
        (void)fputc('}', to->out);
    write_value(to->out, value);
}

void tower_exposition_labelled(struct tower_exposition *to, const char *label,
                               const char *label_value, double value) {
    tower_exposition_sample(to, &(struct tower_metric_label){label, label_value}, 1, value);
}

void tower_exposition_gauge(struct tower_exposition *to, const char *name, const char *help,
                            double value) {
    tower_exposition_family(to, name, TOWER_METRIC_GAUGE, help);
    tower_exposition_sample(to, NULL, 0, value);
}

void tower_exposition_counter(struct tower_exposition *to, const char *name, const char *help,
                              uint64_t value) {
    tower_exposition_family(to, name, TOWER_METRIC_COUNTER, help);
    tower_exposition_sample(to, NULL, 0, (double)value);
}

void tower_exposition_histogram(struct tower_exposition *to, const char *name, const char *help,
                                const struct tower_histogram_snapshot *histogram) {
    const int64_t *bounds_ns = tower_histogram_bounds_ns[histogram->scale];
    uint64_t seen = 0;
    tower_exposition_family(to, name, TOWER_METRIC_HISTOGRAM, help);
    for (int i = 0; i < TOWER_HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->counts[i];
        (void)fprintf(to->out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                      (double)bounds_ns[i] / NS_PER_S, seen);
    }
    /* Counted here and not taken from the total, so that the sums agree whatever was written
     * while the snapshot was read. */
    seen += histogram->counts[TOWER_HISTOGRAM_BUCKETS - 1];
    (void)fprintf(to->out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum", name, seen, name);
    write_value(to->out, (double)histogram->sum_ns / NS_PER_S);
    (void)fprintf(to->out, "%s_count %" PRIu64 "\n", name, seen);
}
