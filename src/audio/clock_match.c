/* clock_match.c - a delay-locked loop over the least late chunks. */
#include "clock_match.h"

#include "tower/format.h"

#include <math.h>

/* Long enough that one chunk in it came all but at once, short enough for 15 in a minute. */
#define BLOCK_NS (4 * TOWER_NS_PER_S)
/* How many points the loop remembers: five minutes. A card's clock drifts with its temperature. */
#define POINTS_MAX 75
/* From this many points on the line can judge points. */
#define POINTS_JUDGING 3
#define POINTS_SETTLED 5
/* A point is off the line if by more than this and by more than OFF_DEVIATIONS. */
#define OFF_S 2e-3
#define OFF_DEVIATIONS 6
/* So many in a row that are off have not been late: the source is elsewhere. */
#define REJECTED_MAX 3
/* What is made is brought to its place in about this time, and so fast at most. */
#define PLACE_S 30.0
#define PLACE_LIMIT 2e-4
/* Further than this it is not brought, but left where it is. */
#define PLACE_FAR_S 0.1
#define PPM 1e6
/* The alarm ends where the error is so much below what began it. */
#define ALARM_HYSTERESIS_PPM 20.0

void tower_clock_match_init(struct tower_clock_match *match, uint32_t rate_hz) {
    *match =
        (struct tower_clock_match){.rate_hz = rate_hz, .begin_ns = INT64_MIN, .is_rough = true};
}

static double line_at(const struct tower_clock_match *match, double time_s) {
    return match->late_s + match->slope * (time_s - match->line_s);
}

static double spread_of(const struct tower_clock_match *match) {
    double n = match->n_points;
    double length_s = n * ((double)BLOCK_NS / (double)TOWER_NS_PER_S);
    return sqrt(12 / n * match->residual_s2) / length_s;
}

/* ---- the loop ---- */

static void begin_line(struct tower_clock_match *match) {
    match->n_points = 1;
    match->line_s = match->best_s;
    match->late_s = match->best_late_s;
    match->residual_s2 = 0;
    match->is_moved = false;
}

/* The points are elsewhere. The first time the rate is believed still, the second time nothing. */
static void move_line(struct tower_clock_match *match) {
    match->n_jumps++;
    if (match->has_lost)
        match->has_anchor = false;
    match->has_lost = false;
    if (match->is_moved || match->n_points <= POINTS_JUDGING) {
        match->slope = 0;
        match->is_rough = true;
        begin_line(match);
        return;
    }
    match->line_s = match->best_s;
    match->late_s = match->best_late_s;
    match->is_moved = true;
}

static bool is_off(const struct tower_clock_match *match, double residual_s) {
    return match->n_points >= POINTS_JUDGING && fabs(residual_s) > OFF_S &&
           fabs(residual_s) > OFF_DEVIATIONS * sqrt(match->residual_s2);
}

static void update_line(struct tower_clock_match *match) {
    double step_s = match->best_s - match->line_s;
    double predicted_s = line_at(match, match->best_s);
    double residual_s = match->best_late_s - predicted_s;
    if (is_off(match, residual_s)) {
        if (++match->n_rejected >= REJECTED_MAX) {
            match->n_rejected = 0;
            move_line(match);
        }
        return;
    }
    match->n_rejected = 0;
    match->is_moved = false;
    match->has_lost = false;
    /* With k growing these are the gains of least squares; held, of a loop with damping 0.8. */
    double k = match->n_points;
    match->late_s = predicted_s + residual_s * 2 * (2 * k + 1) / ((k + 1) * (k + 2));
    match->slope += residual_s / step_s * 6 / ((k + 1) * (k + 2));
    match->line_s = match->best_s;
    /* The first residual is the clock's error, and says nothing of how points scatter. */
    if (match->n_points >= 2)
        match->residual_s2 += (residual_s * residual_s - match->residual_s2) / (k - 1);
    if (match->n_points < POINTS_MAX)
        match->n_points++;
    /* The least late of a block is known only along a slope: so the first two make one, and then
     * the line begins. */
    if (match->is_rough) {
        match->is_rough = false;
        match->has_line = true;
        match->n_points = 0;
    }
}

static void judge(struct tower_clock_match *match) {
    double off_ppm = fabs(match->slope) * PPM;
    double limit_ppm = TOWER_CLOCK_MATCH_ALARM_PPM;
    if (match->is_alarmed)
        limit_ppm -= ALARM_HYSTERESIS_PPM;
    match->is_alarmed = match->n_points >= POINTS_SETTLED && off_ppm > limit_ppm;
}

void tower_clock_match_observe(struct tower_clock_match *match, int64_t now_ns, uint64_t samples) {
    if (match->begin_ns == INT64_MIN)
        match->begin_ns = now_ns;
    if (match->has_best && now_ns >= match->block_end_ns) {
        if (match->n_points == 0)
            begin_line(match);
        else if (match->best_s > match->line_s)
            update_line(match);
        judge(match);
        match->has_best = false;
    }
    if (!match->has_best)
        match->block_end_ns = now_ns + BLOCK_NS;
    double now_s = (double)(now_ns - match->begin_ns) / (double)TOWER_NS_PER_S;
    double late_s = now_s - (double)samples / match->rate_hz;
    /* Compared along the line, or the end of a block would win where the source is fast. */
    if (!match->has_best || late_s - match->best_late_s < match->slope * (now_s - match->best_s)) {
        match->has_best = true;
        match->best_s = now_s;
        match->best_late_s = late_s;
    }
    match->now_s = now_s;
    match->in_s = (double)samples / match->rate_hz;
}

/* ---- what follows from it ---- */

static double limited(double value, double limit) {
    return fmax(-limit, fmin(limit, value));
}

double tower_clock_match_advance(struct tower_clock_match *match, size_t n_samples) {
    double taken_s = (double)n_samples / match->rate_hz;
    match->correction = 0;
    if (match->has_line) {
        /* Before these, or a chunk that is longer than the last would seem to be elsewhere. */
        double due_s = match->in_s - taken_s + line_at(match, match->now_s);
        double off_s = due_s - match->anchor_s - match->made_s;
        if (!match->has_anchor || fabs(off_s) > PLACE_FAR_S) {
            match->anchor_s = due_s - match->made_s;
            match->has_anchor = true;
            off_s = 0;
        }
        match->correction = limited(match->slope, TOWER_CLOCK_MATCH_LIMIT_PPM / PPM) +
                            limited(off_s / PLACE_S, PLACE_LIMIT);
        match->correction = limited(match->correction, TOWER_CLOCK_MATCH_LIMIT_PPM / PPM);
    }
    match->made_s += (1 + match->correction) * taken_s;
    return 1 + match->correction;
}

void tower_clock_match_lose_place(struct tower_clock_match *match) {
    match->has_anchor = false;
    match->has_best = false;
    match->has_lost = true;
    match->n_rejected = REJECTED_MAX - 1;
    /* Too young a line could not tell a loss from a wrong rate. */
    if (match->n_points < POINTS_JUDGING)
        match->n_points = 0;
}

void tower_clock_match_view(const struct tower_clock_match *match,
                            struct tower_clock_match_view *ret_view) {
    bool is_known = match->n_points >= POINTS_JUDGING;
    *ret_view = (struct tower_clock_match_view){
        .is_known = is_known,
        .ppm = is_known ? -match->slope * PPM : 0,
        .spread_ppm = is_known ? spread_of(match) * PPM : 0,
        .correction_ppm = match->correction * PPM,
        .is_out_of_range = match->is_alarmed,
        .n_jumps = match->n_jumps,
    };
}
