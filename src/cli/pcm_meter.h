/* pcm_meter.h - what a programme sounds like in numbers: level, silences, steps. O(1) a sample and
 * in memory, for days on end. */
#ifndef TOWER_CLI_PCM_METER_H
#define TOWER_CLI_PCM_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_PCM_METER_CHANNELS 2

/* Silence: every channel at or below this magnitude (-60 dBFS is 32.8) for longer than this. */
#define TOWER_PCM_METER_SILENCE_PEAK 32
#define TOWER_PCM_METER_SILENCE_MS 500

struct tower_pcm_meter {
    uint32_t rate_hz;
    unsigned channels;
    uint64_t samples; /* a channel, since the start */
    double base_s;    /* where the samples at this rate began */
    uint64_t base_samples;

    /* Over everything measured; a mono programme fills channel 0. */
    uint32_t peak[TOWER_PCM_METER_CHANNELS]; /* 0 to 32768 */
    double square_sum[TOWER_PCM_METER_CHANNELS];
    int64_t sum[TOWER_PCM_METER_CHANNELS];
    uint64_t channel_samples[TOWER_PCM_METER_CHANNELS];

    /* The largest step between neighbouring samples of one channel, 0 to 65535. */
    uint32_t step;
    unsigned step_channel;
    double step_at_s; /* of the later of the two samples */

    /* Silences longer than TOWER_PCM_METER_SILENCE_MS. The one that runs is counted in as soon as
     * it is long enough. */
    uint64_t silences;
    double silence_total_s;
    double silence_longest_s;
    double silence_longest_at_s;

    uint64_t run_samples; /* of the running silence */
    double run_at_s;
    double run_counted_s; /* of it already in silence_total_s */
    int16_t last[TOWER_PCM_METER_CHANNELS];
    bool has_last;
};

/* Ready for the first samples. */
void tower_pcm_meter_init(struct tower_pcm_meter *meter);

/* From here on the samples come at `rate_hz` in `channels` (1 or 2). Before the first of them, and
 * wherever that changes; the last sample has no neighbour across such a change. */
void tower_pcm_meter_set_format(struct tower_pcm_meter *meter, uint32_t rate_hz, unsigned channels);

/* Measure `n_samples` samples a channel of interleaved s16. Where `is_warm_up` their
 * peaks, and the steps that end in them, are left out. */
void tower_pcm_meter_add(struct tower_pcm_meter *meter, const int16_t *samples, size_t n_samples,
                         bool is_warm_up);

/* Seconds measured so far. */
double tower_pcm_meter_seconds(const struct tower_pcm_meter *meter);

/* RMS of a channel as a magnitude, and its mean (DC); 0 where nothing was measured. */
double tower_pcm_meter_rms(const struct tower_pcm_meter *meter, unsigned channel);
double tower_pcm_meter_dc(const struct tower_pcm_meter *meter, unsigned channel);

#endif
