/* feed_live.c - a live source: its clock and its device. */
#include "feed_live.h"

int tower_feed_live_init(struct tower_feed_live *live, const struct tower_source *source,
                         struct tower_feed_display *display) {
    *live = (struct tower_feed_live){.source = source, .display = display};
    tower_live_clock_init(&live->clock, source->info.rate_hz);
    return tower_varispeed_new(&live->varispeed);
}

void tower_feed_live_done(struct tower_feed_live *live) {
    struct tower_clock_match_view view;
    if (!live->varispeed)
        return;
    tower_clock_match_view(&live->clock.match, &view);
    if (view.is_known)
        tower_feed_display_say(live->display,
                               "%s: its clock was %+.1f ppm off (+-%.1f), corrected by %+.1f; "
                               "%llu overruns",
                               live->display->name, view.ppm, view.spread_ppm, view.correction_ppm,
                               (unsigned long long)live->source->live.n_overruns);
    tower_varispeed_free(live->varispeed);
    live->varispeed = NULL;
}

static void look_at_clock(struct tower_feed_live *live) {
    struct tower_clock_match_view view;
    tower_clock_match_view(&live->clock.match, &view);
    if (view.is_out_of_range && !live->was_out_of_range)
        tower_feed_display_say(live->display,
                               "%s: its clock is %+.0f ppm off, more than %.0f: it is broken, or "
                               "not of %u Hz; corrected by %.0f at most",
                               live->display->name, view.ppm, TOWER_CLOCK_MATCH_ALARM_PPM,
                               live->source->info.rate_hz, TOWER_CLOCK_MATCH_LIMIT_PPM);
    else if (!view.is_out_of_range && live->was_out_of_range && view.is_known)
        tower_feed_display_say(live->display, "%s: its clock is right again, %+.1f ppm off",
                               live->display->name, view.ppm);
    live->was_out_of_range = view.is_out_of_range;
}

void tower_feed_live_look(struct tower_feed_live *live) {
    const struct tower_source_live *now = &live->source->live;
    const char *name = live->display->name;
    if (now->n_absences != live->seen.n_absences)
        tower_feed_display_say(live->display, "%s: the device went away (%s); waiting for it", name,
                               now->away_why);
    else if (now->is_away && now->away_why != live->seen.away_why)
        tower_feed_display_say(live->display, "%s: %s; waiting", name, now->away_why);
    if (!now->is_away && (live->seen.is_away || now->n_absences != live->seen.n_absences))
        tower_feed_display_say(live->display, "%s: the device is back", name);
    if (now->n_overruns != live->seen.n_overruns)
        tower_feed_display_say(live->display,
                               "%s: samples were lost, since this machine had no time for them "
                               "(%llu times so far)",
                               name, (unsigned long long)now->n_overruns);
    if (now->n_overruns != live->seen.n_overruns || now->n_absences != live->seen.n_absences)
        tower_clock_match_lose_place(&live->clock.match);
    live->seen = *now;
    look_at_clock(live);
}

bool tower_feed_live_report(struct tower_feed_live *live, int64_t now_ns,
                            struct tower_clock_report *ret_report) {
    return tower_live_clock_report(&live->clock, now_ns, live->source->live.n_overruns, ret_report);
}

int tower_feed_live_match(struct tower_feed_live *live, int64_t now_ns, size_t n_samples,
                          const int16_t **samples, size_t *n_converted) {
    tower_live_clock_observe(&live->clock, now_ns, n_samples);
    double ratio = tower_clock_match_advance(&live->clock.match, n_samples);
    return tower_varispeed_process(live->varispeed, *samples, *n_converted, ratio, samples,
                                   n_converted);
}
