/* exposition.c - Prometheus' text format. */
#include "exposition.h"

#include <inttypes.h>
#include <math.h>

#define NS_PER_S 1e9

/* Of a write. The stream alone does not tell: it can be out of memory for one piece, and take the
 * next. */
static void note(struct tower_exposition *to, int result) {
    to->has_failed |= result < 0;
}

void tower_exposition_family(struct tower_exposition *to, const char *name,
                             enum tower_metric_type type, const char *help) {
    static const char *const types[] = {"gauge", "counter", "histogram"};
    to->family = name;
    note(to, fprintf(to->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]));
}

static void write_label_value(struct tower_exposition *to, const char *value) {
    for (; *value; value++) {
        if (*value == '\n')
            note(to, fputs("\\n", to->out));
        else if (*value == '"' || *value == '\\')
            note(to, fprintf(to->out, "\\%c", *value));
        else
            note(to, fputc(*value, to->out));
    }
}

/* A count with all its digits, and a fraction without those that are noise. */
static void write_value(struct tower_exposition *to, double value) {
    if (isnan(value))
        note(to, fputs(" NaN\n", to->out));
    else if (isinf(value))
        note(to, fputs(value > 0 ? " +Inf\n" : " -Inf\n", to->out));
    else
        note(to, fprintf(to->out, trunc(value) == value ? " %.17g\n" : " %.12g\n", value));
}

void tower_exposition_sample(struct tower_exposition *to, const struct tower_metric_label *labels,
                             size_t n_labels, double value) {
    note(to, fputs(to->family, to->out));
    for (size_t i = 0; i < n_labels; i++) {
        note(to, fprintf(to->out, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name));
        write_label_value(to, labels[i].value);
        note(to, fputc('"', to->out));
    }
    if (n_labels > 0)
        note(to, fputc('}', to->out));
    write_value(to, value);
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
        note(to, fprintf(to->out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                         (double)bounds_ns[i] / NS_PER_S, seen));
    }
    /* Counted here and not taken from the total, so that the sums agree whatever was written
     * while the snapshot was read. */
    seen += histogram->counts[TOWER_HISTOGRAM_BUCKETS - 1];
    note(to, fprintf(to->out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum", name, seen, name));
    write_value(to, (double)histogram->sum_ns / NS_PER_S);
    note(to, fprintf(to->out, "%s_count %" PRIu64 "\n", name, seen));
}
