/* loudness.c - libebur128 over what a file would put on air. */
#include "loudness.h"

#include "tower/converter.h"
#include "tower/source.h"

#include <ebur128.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* How often what is known so far is told, in audio. The sum over all of it is made anew for that.
 */
#define TELL_SAMPLES (5 * TOWER_RATE_HZ)

struct measurement {
    struct tower_source *source;
    struct tower_converter *converter;
    ebur128_state *state;
    int16_t *chunk;
    int sample_peak; /* of the file's own channels: what a gain must not take out of range */
    int64_t n_samples;
    int64_t told_samples;
};

double tower_loudness_gain(const struct tower_loudness *loudness, double target_lufs,
                           bool is_whole) {
    if (!(loudness->lufs > -HUGE_VAL))
        return 1;
    double gain_db = target_lufs - loudness->lufs;
    if (gain_db > TOWER_LOUDNESS_PEAK_DBFS - loudness->peak_dbfs)
        gain_db = TOWER_LOUDNESS_PEAK_DBFS - loudness->peak_dbfs;
    if (!is_whole && gain_db > 0)
        gain_db = 0;
    return pow(10, gain_db / 20);
}

static int get_result(const struct measurement *measurement, struct tower_loudness *ret_loudness) {
    double lufs, peak = measurement->sample_peak / 32768.0;
    if (ebur128_loudness_global(measurement->state, &lufs) != EBUR128_SUCCESS)
        return -ENOMEM;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        double channel_peak;
        if (ebur128_true_peak(measurement->state, channel, &channel_peak) == EBUR128_SUCCESS &&
            channel_peak > peak)
            peak = channel_peak;
    }
    ret_loudness->lufs = lufs;
    ret_loudness->peak_dbfs = peak > 0 ? 20 * log10(peak) : -HUGE_VAL;
    return 0;
}

static void note_peak(struct measurement *measurement, size_t bytes) {
    for (size_t i = 0; i < bytes / sizeof(int16_t); i++) {
        int level = abs((int)measurement->chunk[i]);
        if (level > measurement->sample_peak)
            measurement->sample_peak = level;
    }
}

/* `n_samples` 0: what the converter still holds. */
static int take(struct measurement *measurement, size_t n_samples) {
    const int16_t *converted;
    size_t n_converted;
    int error =
        tower_converter_process(measurement->converter, n_samples > 0 ? measurement->chunk : NULL,
                                n_samples, &converted, &n_converted);
    if (error == 0 && n_converted > 0 &&
        ebur128_add_frames_short(measurement->state, converted, n_converted) != EBUR128_SUCCESS)
        error = -ENOMEM;
    measurement->n_samples += (int64_t)n_converted;
    return error;
}

static int measure_all(struct measurement *measurement, const _Atomic bool *is_cancelled,
                       void (*tell)(void *context, const struct tower_loudness *so_far),
                       void *context) {
    size_t sample_bytes = measurement->source->info.channels * sizeof(int16_t);
    int error = 0;
    int got = 1;
    while (error == 0 && (got > 0 || got == -EINTR)) {
        size_t bytes;
        if (atomic_load(is_cancelled))
            return -ECANCELED;
        got = tower_source_read(measurement->source, measurement->chunk, &bytes);
        if (got > 0) {
            note_peak(measurement, bytes);
            error = take(measurement, bytes / sample_bytes);
        }
        struct tower_loudness so_far;
        if (tell && measurement->n_samples - measurement->told_samples >= TELL_SAMPLES &&
            get_result(measurement, &so_far) == 0) {
            measurement->told_samples = measurement->n_samples;
            tell(context, &so_far);
        }
    }
    /* Of a file that is damaged further on, what comes before is what will be heard. */
    if (error == 0)
        error = got < 0 && measurement->n_samples == 0 ? got : take(measurement, 0);
    return error;
}

int tower_loudness_measure(struct tower_clock *clock, const char *ffmpeg, const char *path,
                           const _Atomic bool *is_cancelled,
                           void (*tell)(void *context, const struct tower_loudness *so_far),
                           void *context, struct tower_loudness *ret_loudness) {
    struct measurement measurement = {0};
    const struct tower_file_config config = {.path = path, .ffmpeg = ffmpeg};
    int error = tower_source_open_file(clock, &config, &measurement.source, NULL, 0);
    if (error < 0)
        return error;
    const struct tower_source_info *info = &measurement.source->info;
    measurement.chunk = malloc(tower_source_chunk_bytes(measurement.source));
    measurement.state =
        ebur128_init(TOWER_CHANNELS, TOWER_RATE_HZ,
                     EBUR128_MODE_I | EBUR128_MODE_TRUE_PEAK | EBUR128_MODE_HISTOGRAM);
    error = measurement.chunk && measurement.state
                ? tower_converter_new(info->rate_hz, info->channels, &measurement.converter)
                : -ENOMEM;
    if (error == 0)
        error = measure_all(&measurement, is_cancelled, tell, context);
    if (error == 0)
        error = get_result(&measurement, ret_loudness);
    if (measurement.state)
        ebur128_destroy(&measurement.state);
    tower_converter_free(measurement.converter);
    tower_source_close(measurement.source);
    free(measurement.chunk);
    return error;
}
