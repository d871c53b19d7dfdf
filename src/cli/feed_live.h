/* feed_live.h - what `tower feed` does for a live source: keeps it to the host's clock, and says
 * when its device goes and comes. */
#ifndef TOWER_CLI_FEED_LIVE_H
#define TOWER_CLI_FEED_LIVE_H

#include "feed_display.h"
#include "live_clock.h"
#include "tower/source.h"
#include "varispeed.h"

struct tower_feed_live {
    /* Constant. */
    const struct tower_source *source;
    struct tower_feed_display *display;

    struct tower_varispeed *varispeed;
    struct tower_live_clock clock; /* at the source's rate */
    struct tower_source_live seen;
    bool was_out_of_range;
};

/* Errors: -ENOMEM. */
int tower_feed_live_init(struct tower_feed_live *live, const struct tower_source *source,
                         struct tower_feed_display *display);
/* Say how the clocks were, if that is known. Also of zeros. */
void tower_feed_live_done(struct tower_feed_live *live);

/* See what became of the device, and say it. Between reads. */
void tower_feed_live_look(struct tower_feed_live *live);

/* Is it time to tell the transmitter? Then what is in `ret_report`. */
bool tower_feed_live_report(struct tower_feed_live *live, int64_t now_ns,
                            struct tower_clock_report *ret_report);

/* `n_samples` samples, at the source's rate, were just read; 48 kHz stereo was made of them, which
 * is resampled. Errors: those of tower_varispeed_process(). */
int tower_feed_live_match(struct tower_feed_live *live, int64_t now_ns, size_t n_samples,
                          const int16_t **samples, size_t *n_converted);

#endif
