/* clock_report.h - how a live source's clock stands to the host's, as its producer says it.
 */
#ifndef TOWER_CLOCK_REPORT_H
#define TOWER_CLOCK_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct tower_clock_report {
    bool is_known;         /* the next four say something */
    double ppm;            /* the source's clock is so much faster than the host's */
    double spread_ppm;     /* standard error of that */
    double correction_ppm; /* what is sent is so much longer than what was captured */
    bool is_out_of_range;
    uint64_t n_overruns; /* times that samples were lost at the source */
};

#endif
