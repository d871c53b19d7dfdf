/* feed_display.h - what `tower feed` shows on stderr: messages, and a line of state on a terminal.
 */
#ifndef TOWER_CLI_FEED_DISPLAY_H
#define TOWER_CLI_FEED_DISPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often the line is drawn. */
#define TOWER_FEED_DRAW_NS INT64_C(200000000)

struct tower_feed_display {
    const char *name; /* of the source */
    bool is_terminal;
    bool has_line; /* the cursor stands in a line of ours */
    int64_t drawn_ns;
};

/* What the line says. */
struct tower_feed_view {
    int64_t position_ns; /* in the source */
    int64_t length_ns;   /* -1: not known, or none */
    double peak_dbfs;    /* since the line was last drawn */
    const char *state;
    int64_t ahead_ns;   /* of what is heard; -1: not to be shown */
    int64_t dropped_ns; /* of a live source; 0: not to be shown */
    size_t number;      /* of the file in its playlist, from 1; 0: there is none */
    size_t n_files;
    const char *name; /* what is playing; NULL or "": the source's name */
    bool has_clock;   /* the next three are known */
    double clock_ppm; /* the source's clock is so much faster than the host's */
    double clock_spread_ppm;
    double correction_ppm;
    uint64_t n_overruns; /* 0: not to be shown */
};

void tower_feed_display_init(struct tower_feed_display *display, const char *name);

/* Is it time to draw? Never, where stderr is no terminal. */
bool tower_feed_display_is_due(const struct tower_feed_display *display, int64_t now_ns);
void tower_feed_display_draw(struct tower_feed_display *display, int64_t now_ns,
                             const struct tower_feed_view *view);

/* Print "tower feed: ..." as a line of its own. */
void tower_feed_display_say(struct tower_feed_display *display, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Leave the line of state as it is, and the cursor below it. */
void tower_feed_display_done(struct tower_feed_display *display);

#endif
