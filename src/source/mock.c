/* mock.c - MockAudioSource: silence, noise or a tone, in real time. */
#include "tower/source.h"

#include "bounds.h"
#include "pacer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_RATE_HZ 16000
#define DEFAULT_CHUNK_SAMPLES 1024
#define DEFAULT_TONE_HZ 440.0
/* A quarter of full scale, -12 dBFS: whoever puts the mock on air should not be deafened. */
#define AMPLITUDE 8192
#define ERROR_MAX_PPM 100000.0
#define LATE_MAX_NS TOWER_NS_PER_S

struct mock_source {
    struct tower_source base;

    /* Constant after open. */
    enum tower_mock_content content;
    int64_t late_max_ns;
    uint64_t phase_step; /* of the tone, a whole turn being 2^64 */

    /* Owned by the reader. */
    struct tower_pacer pacer;
    uint64_t phase;
    uint64_t noise_state;
    uint64_t late_state;
};

/* The splitmix64 generator: any seed, 0 too, gives white noise. */
static uint64_t next_random(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = *state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static void fill_noise(struct mock_source *mock, int16_t *values, size_t n_values) {
    for (size_t i = 0; i < n_values; i++) {
        /* Whole numbers from -AMPLITUDE to AMPLITUDE - 1, all equally likely. */
        int value = (int)(next_random(&mock->noise_state) % (2U * AMPLITUDE)) - AMPLITUDE;
        values[i] = (int16_t)value;
    }
}

static void fill_tone(struct mock_source *mock, int16_t *values, size_t n_samples,
                      unsigned channels) {
    for (size_t i = 0; i < n_samples; i++) {
        double turn = ldexp((double)mock->phase, -64);
        int16_t value = (int16_t)lrint(AMPLITUDE * sin(2 * M_PI * turn));
        for (unsigned channel = 0; channel < channels; channel++)
            values[i * channels + channel] = value;
        mock->phase += mock->phase_step;
    }
}

static int mock_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct mock_source *mock = (struct mock_source *)source;
    size_t n_samples = source->info.chunk_samples;
    unsigned channels = source->info.channels;
    tower_pacer_start(&mock->pacer);
    if (mock->late_max_ns > 0)
        mock->pacer.late_ns =
            (int64_t)(next_random(&mock->late_state) % ((uint64_t)mock->late_max_ns + 1));
    int error = tower_pacer_wait(&mock->pacer, n_samples);
    if (error < 0)
        return error;
    switch (mock->content) {
    case TOWER_MOCK_SILENCE:
        memset(ret_chunk, 0, tower_source_chunk_bytes(source));
        break;
    case TOWER_MOCK_NOISE:
        fill_noise(mock, ret_chunk, n_samples * channels);
        break;
    case TOWER_MOCK_TONE:
        fill_tone(mock, ret_chunk, n_samples, channels);
        break;
    }
    *ret_bytes = tower_source_chunk_bytes(source);
    return 1;
}

static void mock_close(struct tower_source *source) {
    free(source);
}

static const struct tower_source_ops mock_ops = {.read = mock_read, .close = mock_close};

int tower_source_open_mock(struct tower_clock *clock, const struct tower_mock_config *config,
                           struct tower_source **ret_source) {
    uint32_t rate_hz = config->rate_hz ? config->rate_hz : DEFAULT_RATE_HZ;
    size_t chunk_samples = config->chunk_samples ? config->chunk_samples : DEFAULT_CHUNK_SAMPLES;
    unsigned channels = config->channels ? config->channels : 1;
    double tone_hz = config->tone_hz != 0 ? config->tone_hz : DEFAULT_TONE_HZ;
    if (rate_hz < TOWER_SOURCE_RATE_MIN_HZ || rate_hz > TOWER_SOURCE_RATE_MAX_HZ ||
        chunk_samples > TOWER_SOURCE_CHUNK_SAMPLES_MAX || channels > TOWER_SOURCE_CHANNELS_MAX ||
        (unsigned)config->content > TOWER_MOCK_TONE)
        return -EINVAL;
    /* Written so that a NaN is refused too. */
    if (!(tone_hz > 0 && tone_hz < rate_hz / 2.0))
        return -EINVAL;
    if (!(fabs(config->error_ppm) <= ERROR_MAX_PPM) || config->late_max_ns < 0 ||
        config->late_max_ns > LATE_MAX_NS)
        return -EINVAL;
    struct mock_source *mock = calloc(1, sizeof *mock);
    if (!mock)
        return -ENOMEM;
    mock->base = (struct tower_source){
        .ops = &mock_ops,
        .info = {.rate_hz = rate_hz,
                 .channels = channels,
                 .chunk_samples = chunk_samples,
                 .is_live = true,
                 .length_samples = -1},
    };
    mock->content = config->content;
    mock->phase_step = (uint64_t)ldexp(tone_hz / rate_hz, 64);
    mock->noise_state = config->seed;
    mock->late_state = config->seed;
    mock->late_max_ns = config->late_max_ns;
    tower_pacer_init(&mock->pacer, clock, rate_hz);
    mock->pacer.error_ppm = config->error_ppm;
    *ret_source = &mock->base;
    return 0;
}
