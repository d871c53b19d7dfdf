/* clock_match.h - how fast a live source's clock goes by the host's, and what to do about it.
 *
 * Samples come in chunks that may be late and never early, so of all chunks within some seconds the
 * least late one tells the time best. Those feed a second-order delay-locked loop, whose gains
 * begin as those of a straight line through all there is and end as those of a filter of five
 * minutes. From it comes the ratio to resample by, so that what is made keeps to the host's clock,
 * in rate and in place: nothing adds up, in weeks.
 */
#ifndef TOWER_AUDIO_CLOCK_MATCH_H
#define TOWER_AUDIO_CLOCK_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A clock that is further off is broken, or not of the rate that it says. */
#define TOWER_CLOCK_MATCH_ALARM_PPM 500.0
/* Nothing is corrected by more. */
#define TOWER_CLOCK_MATCH_LIMIT_PPM 1000.0

/* One thread's. Fields are not for others: see tower_clock_match_view(). */
struct tower_clock_match {
    double rate_hz;
    int64_t begin_ns; /* times and lateness count from here; INT64_MIN: nothing was seen yet */

    /* The least late of the present block. */
    int64_t block_end_ns;
    bool has_best;
    double best_s;      /* when it came */
    double best_late_s; /* its lateness: time less samples / rate */

    /* The loop: lateness at `line_s`, and its slope, which is minus the clock's error. */
    bool is_rough;     /* it has no slope yet to compare points along */
    bool has_line;     /* there has been a slope */
    unsigned n_points; /* of the line at hand; 0: it begins with the next */
    double line_s;
    double late_s;
    double slope;
    double residual_s2; /* mean square of how far points are off the line */
    unsigned n_rejected;
    bool has_lost; /* the next point that is off is where the source is now */
    bool is_moved; /* the line was moved to where the points went, and none has borne it out */

    /* What is made. */
    double now_s;
    double in_s;     /* samples taken, as time */
    double made_s;   /* samples made, as time */
    double anchor_s; /* of them and lateness, kept constant; valid where has_anchor */
    bool has_anchor;
    double correction; /* ratio less one */
    bool is_alarmed;
    uint64_t n_jumps;
};

struct tower_clock_match_view {
    bool is_known;         /* there is an estimate */
    double ppm;            /* the source's clock is so much faster than the host's */
    double spread_ppm;     /* standard error of that */
    double correction_ppm; /* what is made is so much longer than what was taken */
    bool is_out_of_range;  /* over TOWER_CLOCK_MATCH_ALARM_PPM, and surely so */
    uint64_t n_jumps;      /* times the source was found elsewhere than expected */
};

void tower_clock_match_init(struct tower_clock_match *match, uint32_t rate_hz);

/* By `now_ns` on the host's clock the source had captured `samples` samples a channel in all. Pure;
 * neither may go back. */
void tower_clock_match_observe(struct tower_clock_match *match, int64_t now_ns, uint64_t samples);

/* The ratio, output to input, to resample the next `n_samples` samples a channel by, which count as
 * made with it. Within TOWER_CLOCK_MATCH_LIMIT_PPM of 1; exactly 1 until there is an estimate. */
double tower_clock_match_advance(struct tower_clock_match *match, size_t n_samples);

/* The source has lost samples, or was away: its place is found anew, its rate is kept. */
void tower_clock_match_lose_place(struct tower_clock_match *match);

void tower_clock_match_view(const struct tower_clock_match *match,
                            struct tower_clock_match_view *ret_view);

#endif
