/* stream_clock.h - the clock of a client that sends a stream: whether it goes by one at all, and
 * what to resample by.
 *
 * A client may send a file, as fast as it is taken, or what a sound card captures. Which it is
 * shows: the second never has to wait for us, and keeps to a rate that a sound card can have. What
 * comes of such a client is kept to the host's clock from when that is sure, in rate and in place;
 * everything else is to be left as it is.
 */
#ifndef TOWER_SOURCE_STREAM_CLOCK_H
#define TOWER_SOURCE_STREAM_CLOCK_H

#include "live_clock.h"

/* One thread's. */
struct tower_stream_clock {
    struct tower_live_clock live;
    int64_t began_ns; /* the client has not had to wait since */
    bool is_observed; /* for long enough to be looked at */
    bool is_matched;
    bool is_told; /* the transmitter knows an estimate */
    struct tower_clock_match_view seen;
};

void tower_stream_clock_init(struct tower_stream_clock *clock, int64_t now_ns);

/* `n_samples` samples at 48 kHz were just decoded. Returns the ratio, output to input, to resample
 * them by, which count as made with it; 0: leave them as they are. Pure. */
double tower_stream_clock_take(struct tower_stream_clock *clock, int64_t now_ns, size_t n_samples);

/* The client has to wait, or something else shows that it is not to be matched: begin anew. */
void tower_stream_clock_begin(struct tower_stream_clock *clock, int64_t now_ns);

/* It stopped and goes on, or something was lost: its place is found anew, its rate is kept. */
void tower_stream_clock_lose_place(struct tower_stream_clock *clock);

/* Is it time to tell the transmitter? Then what is in `ret_report`: every 5 s while it is matched,
 * and once when it is no more. Pure. */
bool tower_stream_clock_report(struct tower_stream_clock *clock, int64_t now_ns,
                               struct tower_clock_report *ret_report);

/* As it was when it was matched last; not known where it never was. */
void tower_stream_clock_view(const struct tower_stream_clock *clock,
                             struct tower_clock_match_view *ret_view);

#endif
