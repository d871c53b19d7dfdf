/* handover.c - one programme faded into another, at equal power, a whole frame at a time. */
#include "handover.h"

#include <math.h>

uint16_t tower_handover_frames(int64_t fade_ns, uint32_t frame_samples) {
    int64_t frame_ns = tower_samples_to_ns(frame_samples, TOWER_RATE_HZ);
    if (fade_ns <= 0)
        return 0;
    int64_t frames = (fade_ns - 1) / frame_ns + 1;
    return frames < UINT16_MAX ? (uint16_t)frames : UINT16_MAX;
}

static int16_t to_sample(double value) {
    return (int16_t)lrint(fmax(INT16_MIN, fmin(INT16_MAX, value)));
}

void tower_handover_mix(const int16_t *goes, const int16_t *comes, int16_t *ret_frame,
                        uint32_t frame_samples, uint16_t done, uint16_t frames) {
    double length = (double)frames * frame_samples;
    for (uint32_t i = 0; i < frame_samples; i++) {
        double angle = M_PI / 2 * ((double)done * frame_samples + i) / length;
        double goes_gain = cos(angle), comes_gain = sin(angle);
        for (size_t at = (size_t)i * TOWER_CHANNELS; at < ((size_t)i + 1) * TOWER_CHANNELS; at++)
            ret_frame[at] =
                to_sample((goes ? goes_gain * goes[at] : 0) + (comes ? comes_gain * comes[at] : 0));
    }
}
