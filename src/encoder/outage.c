/* outage.c - failures and frames become events. */
#include "outage.h"

#include <stdio.h>

static void tell(const struct tower_encoder_outage *outage, bool is_back, uint64_t frame,
                 int64_t at_ns) {
    struct tower_encoder_event event = {
        .is_back = is_back,
        .cause = outage->cause,
        .detail = outage->detail,
        .frame = frame,
        .at_ns = at_ns,
        .to_substitute_ns = is_back ? -1 : outage->to_substitute_ns,
        .duration_ns = is_back ? at_ns - outage->failed_ns : -1,
        .failures = outage->failures,
        .frames_spare = outage->frames_spare,
        .frames_repair = outage->frames_repair,
    };
    if (outage->on_event)
        outage->on_event(outage->user, &event);
}

static void open_outage(struct tower_encoder_outage *outage, const char *cause, const char *detail,
                        int64_t now_ns) {
    outage->is_open = true;
    outage->is_told = false;
    outage->failed_ns = now_ns;
    outage->to_substitute_ns = 0;
    outage->failures = 1;
    outage->frames_spare = 0;
    outage->frames_repair = 0;
    outage->cause = cause;
    (void)snprintf(outage->detail, sizeof outage->detail, "%s", detail);
}

void tower_encoder_outage_fail(struct tower_encoder_outage *outage, const char *cause,
                               const char *detail, uint64_t frame, int64_t now_ns) {
    if (outage->is_open) {
        outage->failures++;
        return;
    }
    open_outage(outage, cause, detail, now_ns);
    if (outage->was_primary && outage->run_frames == 0)
        return;
    /* The spare has been on air since before the failure was seen. What it gave before the encoder
     * was ever on air was no substitute. */
    if (outage->was_primary)
        outage->frames_spare = outage->run_frames;
    outage->is_told = true;
    tell(outage, false, frame - outage->frames_spare, now_ns);
}

void tower_encoder_outage_emit(struct tower_encoder_outage *outage, uint64_t frame,
                               enum tower_delay_maker maker, bool is_back, int64_t now_ns) {
    bool is_primary = maker == TOWER_DELAY_PRIMARY;
    outage->was_primary |= is_primary;
    outage->run_frames = is_primary ? 0 : outage->run_frames + 1;
    if (!outage->is_open && maker == TOWER_DELAY_REPAIR)
        open_outage(outage, "too-slow", "the encoder thread fell behind", now_ns);
    if (!outage->is_open)
        return;
    outage->frames_spare += maker == TOWER_DELAY_SPARE;
    outage->frames_repair += maker == TOWER_DELAY_REPAIR;
    if (!outage->is_told && (!is_primary || is_back)) {
        outage->is_told = true;
        outage->to_substitute_ns = is_primary ? -1 : now_ns - outage->failed_ns;
        tell(outage, false, frame, outage->failed_ns);
    }
    if (is_back) {
        outage->is_open = false;
        tell(outage, true, frame, now_ns);
    }
}
