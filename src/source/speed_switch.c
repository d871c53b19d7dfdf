/* speed_switch.c - what came last leads in and out. */
#include "speed_switch.h"

#include <string.h>

#define RECENT_SAMPLES TOWER_SPEED_SWITCH_RECENT_SAMPLES

int tower_speed_switch_init(struct tower_speed_switch *speed) {
    *speed = (struct tower_speed_switch){.is_in = false};
    return tower_varispeed_new(&speed->varispeed);
}

void tower_speed_switch_done(struct tower_speed_switch *speed) {
    tower_varispeed_free(speed->varispeed);
    speed->varispeed = NULL;
}

static void remember(struct tower_speed_switch *speed, const int16_t *samples, size_t n_samples) {
    if (n_samples > RECENT_SAMPLES) {
        samples += (n_samples - RECENT_SAMPLES) * TOWER_CHANNELS;
        n_samples = RECENT_SAMPLES;
    }
    size_t n_kept = RECENT_SAMPLES - n_samples;
    memmove(speed->recent, speed->recent + n_samples * TOWER_CHANNELS, n_kept * TOWER_SAMPLE_BYTES);
    memcpy(speed->recent + n_kept * TOWER_CHANNELS, samples, n_samples * TOWER_SAMPLE_BYTES);
}

/* What it makes of the past has been heard; what it still owes of it, too. */
static int put_in(struct tower_speed_switch *speed) {
    const int16_t *made;
    size_t n_made;
    tower_varispeed_reset(speed->varispeed);
    int error =
        tower_varispeed_process(speed->varispeed, speed->recent, RECENT_SAMPLES, 1, &made, &n_made);
    if (error < 0)
        return error;
    speed->lag_samples = n_made < RECENT_SAMPLES ? RECENT_SAMPLES - n_made : 0;
    speed->skip_samples = speed->lag_samples;
    speed->is_in = true;
    return 0;
}

static int resample(struct tower_speed_switch *speed, struct tower_pcm_backlog *backlog,
                    const int16_t *samples, size_t n_samples, double ratio) {
    const int16_t *made;
    size_t n_made;
    int error =
        tower_varispeed_process(speed->varispeed, samples, n_samples, ratio, &made, &n_made);
    if (error < 0)
        return error;
    size_t n_skipped = n_made < speed->skip_samples ? n_made : speed->skip_samples;
    speed->skip_samples -= n_skipped;
    tower_pcm_backlog_put(backlog, made + n_skipped * TOWER_CHANNELS, n_made - n_skipped);
    return 0;
}

int tower_speed_switch_put(struct tower_speed_switch *speed, struct tower_pcm_backlog *backlog,
                           const int16_t *samples, size_t n_samples, double ratio) {
    int error = 0;
    if (ratio > 0 && !speed->is_in)
        error = put_in(speed);
    else if (ratio <= 0)
        tower_speed_switch_take_out(speed, backlog);
    if (speed->is_in) {
        error = resample(speed, backlog, samples, n_samples, ratio);
        if (error < 0)
            tower_speed_switch_take_out(speed, backlog);
    }
    if (!speed->is_in)
        tower_pcm_backlog_put(backlog, samples, n_samples);
    remember(speed, samples, n_samples);
    return error;
}

size_t tower_speed_switch_held(const struct tower_speed_switch *speed) {
    return speed->is_in ? speed->lag_samples - speed->skip_samples : 0;
}

void tower_speed_switch_take_out(struct tower_speed_switch *speed,
                                 struct tower_pcm_backlog *backlog) {
    size_t n_samples = tower_speed_switch_held(speed);
    speed->is_in = false;
    tower_pcm_backlog_put(backlog, speed->recent + (RECENT_SAMPLES - n_samples) * TOWER_CHANNELS,
                          n_samples);
}
