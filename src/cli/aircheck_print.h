/* aircheck_print.h - the verdict of an aircheck, and the report for people and for programs. */
#ifndef TOWER_CLI_AIRCHECK_PRINT_H
#define TOWER_CLI_AIRCHECK_PRINT_H

#include "aircheck.h"

#include <stdio.h>

#define TOWER_AIRCHECK_FAULTS_MAX 12

/* One listening: what was asked, how it went, what was found. */
struct tower_aircheck_run {
    const char *url;
    const char *content_type;
    double seconds;        /* asked for; 0: until interrupted */
    int64_t max_gap_ns;    /* 0: any */
    uint32_t max_step;     /* 0: any */
    int64_t first_byte_ns; /* from the request to the first byte; -1: none came */
    bool is_ended_early;   /* by the server or the network */
    const char *end_words; /* how, where it was */
    const char
        *save_words; /* why what was received could not be saved; NULL: it was, or need not */
    struct tower_aircheck_report report;
};

struct tower_aircheck_faults {
    size_t n; /* 0: good */
    char lines[TOWER_AIRCHECK_FAULTS_MAX][160];
};

/* Everything that makes this run a bad one. Pure. */
void tower_aircheck_judge(const struct tower_aircheck_run *run,
                          struct tower_aircheck_faults *ret_faults);

/* Write the report in words, or as one JSON object and a line end. Errors: -ENOMEM, -EIO. */
int tower_aircheck_print_words(FILE *file, const struct tower_aircheck_run *run,
                               const struct tower_aircheck_faults *faults);
int tower_aircheck_print_json(FILE *file, const struct tower_aircheck_run *run,
                              const struct tower_aircheck_faults *faults);

/* What the keys of the JSON object mean, for --help. */
extern const char tower_aircheck_json_help[];

#endif
