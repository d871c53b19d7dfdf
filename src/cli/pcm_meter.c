/* pcm_meter.c - level, silences and steps of a programme. */
#include "pcm_meter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void tower_pcm_meter_init(struct tower_pcm_meter *meter) {
    memset(meter, 0, sizeof *meter);
}

static double seconds_at(const struct tower_pcm_meter *meter, uint64_t sample) {
    if (meter->rate_hz == 0)
        return 0;
    return meter->base_s + (double)(sample - meter->base_samples) / meter->rate_hz;
}

double tower_pcm_meter_seconds(const struct tower_pcm_meter *meter) {
    return seconds_at(meter, meter->samples);
}

void tower_pcm_meter_set_format(struct tower_pcm_meter *meter, uint32_t rate_hz,
                                unsigned channels) {
    if (rate_hz == meter->rate_hz && channels == meter->channels)
        return;
    meter->base_s = tower_pcm_meter_seconds(meter);
    meter->base_samples = meter->samples;
    meter->rate_hz = rate_hz;
    meter->channels = channels;
    meter->has_last = false;
    meter->run_samples = 0;
    meter->run_counted_s = 0;
}

/* Called at the end of each block and wherever a silence ends: keeps the totals true of a silence
 * that still runs. */
static void count_silence(struct tower_pcm_meter *meter) {
    double run_s = (double)meter->run_samples / meter->rate_hz;
    if (run_s * 1000 <= TOWER_PCM_METER_SILENCE_MS)
        return;
    if (meter->run_counted_s <= 0)
        meter->silences++;
    meter->silence_total_s += run_s - meter->run_counted_s;
    meter->run_counted_s = run_s;
    if (run_s > meter->silence_longest_s) {
        meter->silence_longest_s = run_s;
        meter->silence_longest_at_s = meter->run_at_s;
    }
}

static void watch_silence(struct tower_pcm_meter *meter, const int16_t *samples, size_t n_samples) {
    for (size_t i = 0; i < n_samples; i++) {
        bool is_silent = true;
        for (unsigned channel = 0; channel < meter->channels; channel++)
            is_silent &=
                abs(samples[i * meter->channels + channel]) <= TOWER_PCM_METER_SILENCE_PEAK;
        if (is_silent) {
            if (meter->run_samples++ == 0)
                meter->run_at_s = seconds_at(meter, meter->samples + i);
        } else if (meter->run_samples > 0) {
            count_silence(meter);
            meter->run_samples = 0;
            meter->run_counted_s = 0;
        }
    }
    count_silence(meter);
}

void tower_pcm_meter_add(struct tower_pcm_meter *meter, const int16_t *samples, size_t n_samples,
                         bool is_warm_up) {
    if (n_samples == 0 || meter->channels == 0)
        return;
    for (unsigned channel = 0; channel < meter->channels; channel++) {
        int32_t last = meter->has_last ? meter->last[channel] : samples[channel];
        uint32_t peak = meter->peak[channel];
        uint64_t square_sum = 0;
        int64_t sum = 0;
        for (size_t i = 0; i < n_samples; i++) {
            int32_t sample = samples[i * meter->channels + channel];
            uint32_t magnitude = (uint32_t)abs(sample);
            if (magnitude > peak && !is_warm_up)
                peak = magnitude;
            square_sum += (uint64_t)magnitude * magnitude;
            sum += sample;
            uint32_t step = (uint32_t)abs(sample - last);
            if (step > meter->step && !is_warm_up) {
                meter->step = step;
                meter->step_channel = channel;
                meter->step_at_s = seconds_at(meter, meter->samples + i);
            }
            last = sample;
        }
        meter->peak[channel] = peak;
        /* A double, since 64 bits of squares run over after four days of full scale. */
        meter->square_sum[channel] += (double)square_sum;
        meter->sum[channel] += sum;
        meter->channel_samples[channel] += n_samples;
        meter->last[channel] = (int16_t)last;
    }
    watch_silence(meter, samples, n_samples);
    meter->has_last = true;
    meter->samples += n_samples;
}

double tower_pcm_meter_rms(const struct tower_pcm_meter *meter, unsigned channel) {
    if (meter->channel_samples[channel] == 0)
        return 0;
    return sqrt(meter->square_sum[channel] / (double)meter->channel_samples[channel]);
}

double tower_pcm_meter_dc(const struct tower_pcm_meter *meter, unsigned channel) {
    if (meter->channel_samples[channel] == 0)
        return 0;
    return (double)meter->sum[channel] / (double)meter->channel_samples[channel];
}
