/* waves.c - waves that are loud, quiet, steep, silent and off centre. */
#include "waves.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STAMP_WORDS (SIM_STAMP_BYTES / 8)
#define LOW_BITS UINT64_C(0x0001000100010001)
/* What changing the lowest bits can add to a step. */
#define STAMP_STEP 2

enum kind { SINE, SILENCE, CHORD, QUIET, CLIPPED, NOISE, OFF_CENTRE, SAW };
_Static_assert(SAW + 1 == SIM_WAVE_KINDS, "every kind has its place");

static double sine(double turns) {
    return sin(2 * M_PI * turns);
}

/* `x` is the place in the wave, 0 to 1: whole numbers of turns meet themselves. */
static double value(enum kind kind, double x, int channel, uint32_t *noise) {
    switch (kind) {
    case SINE:
        return 12000 * sine(90 * x);
    case SILENCE:
        return 0;
    case CHORD:
        return 6000 * sine(50 * x) + 4000 * sine(63 * x + 0.25 * channel) + 3000 * sine(75 * x);
    case QUIET:
        return 60 * sine(211 * x);
    case CLIPPED:
        return fmax(-32000, fmin(32000, 200000 * sine(20 * x)));
    case NOISE:
        *noise = *noise * 1664525U + 1013904223U;
        return (double)(*noise >> 16) / 65536.0 * 20000 - 10000;
    case OFF_CENTRE:
        return 15000 + 200 * sine(30 * x);
    case SAW:
        return -30000 + 60000 * fmod(40 * x, 1);
    }
    return 0;
}

int32_t sim_largest_step(const int16_t *samples, size_t n_samples) {
    int32_t largest = 0;
    for (size_t i = TOWER_CHANNELS; i < n_samples * TOWER_CHANNELS; i++) {
        int32_t step = samples[i] - samples[i - TOWER_CHANNELS];
        step = step < 0 ? -step : step;
        largest = step > largest ? step : largest;
    }
    return largest;
}

static void fill(int16_t *samples, size_t n_samples, enum kind kind) {
    uint32_t noise = 1;
    for (size_t i = 0; i < n_samples; i++) {
        for (int channel = 0; channel < TOWER_CHANNELS; channel++)
            samples[i * TOWER_CHANNELS + (size_t)channel] =
                (int16_t)lrint(value(kind, (double)i / (double)n_samples, channel, &noise));
    }
}

int sim_waves_init(struct sim_waves *waves, uint32_t frame_samples) {
    memset(waves, 0, sizeof *waves);
    waves->frame_samples = frame_samples;
    size_t n_samples = (size_t)frame_samples * SIM_WAVE_FRAMES;
    for (int kind = 0; kind < SIM_WAVE_KINDS; kind++) {
        /* One sample more, for the step from the end to the start. */
        int16_t *samples = malloc((n_samples + 1) * TOWER_SAMPLE_BYTES);
        if (!samples) {
            sim_waves_done(waves);
            return -ENOMEM;
        }
        fill(samples, n_samples, (enum kind)kind);
        memcpy(samples + n_samples * TOWER_CHANNELS, samples, TOWER_SAMPLE_BYTES);
        waves->samples[kind] = samples;
        waves->own_step[kind] =
            sim_largest_step(samples, n_samples + 1) + (kind == SILENCE ? 0 : STAMP_STEP);
    }
    return 0;
}

void sim_waves_done(struct sim_waves *waves) {
    for (int kind = 0; kind < SIM_WAVE_KINDS; kind++)
        free(waves->samples[kind]);
}

struct sim_content sim_waves_at(const struct sim_waves *waves, unsigned kind, uint64_t n,
                                uint64_t stamp) {
    size_t place = (size_t)(n % SIM_WAVE_FRAMES);
    return (struct sim_content){
        .samples = waves->samples[kind] + place * waves->frame_samples * TOWER_CHANNELS,
        .stamp = kind == SILENCE ? 0 : stamp,
        .id = (uint32_t)(kind * SIM_WAVE_FRAMES + place),
        .own_step = waves->own_step[kind],
    };
}

/* ---- the stamp: one bit in each of the first 64 values ---- */

/* Four bits, each in the lowest place of a 16-bit word: of four copies of them, one bit of each. */
static uint64_t spread(uint64_t bits) {
    return bits * (UINT64_C(1) | 1 << 15 | 1 << 30 | UINT64_C(1) << 45) & LOW_BITS;
}

/* And back, side by side at the top of the product. */
static uint64_t gather(uint64_t word) {
    return (word & LOW_BITS) * (UINT64_C(1) << 48 | UINT64_C(1) << 33 | 1 << 18 | 1 << 3) >> 48 &
           15;
}

void sim_content_fill(const struct sim_content *content, void *ret_frame, size_t frame_bytes) {
    memcpy(ret_frame, content->samples, frame_bytes);
    if (content->stamp == 0)
        return;
    uint64_t words[STAMP_WORDS];
    memcpy(words, ret_frame, sizeof words);
    for (int i = 0; i < STAMP_WORDS; i++)
        words[i] = (words[i] & ~LOW_BITS) | spread(content->stamp >> (4 * i) & 15);
    memcpy(ret_frame, words, sizeof words);
}

uint64_t sim_content_stamp(const void *frame) {
    uint64_t words[STAMP_WORDS];
    uint64_t stamp = 0;
    memcpy(words, frame, sizeof words);
    for (int i = 0; i < STAMP_WORDS; i++)
        stamp |= gather(words[i]) << (4 * i);
    return stamp;
}

bool sim_content_is(const struct sim_content *content, const void *frame, size_t frame_bytes) {
    if (content->stamp == 0)
        return memcmp(frame, content->samples, frame_bytes) == 0;
    uint64_t is[STAMP_WORDS], base[STAMP_WORDS];
    uint64_t differences = 0;
    memcpy(is, frame, sizeof is);
    memcpy(base, content->samples, sizeof base);
    for (int i = 0; i < STAMP_WORDS; i++)
        differences |= is[i] ^ ((base[i] & ~LOW_BITS) | spread(content->stamp >> (4 * i) & 15));
    return differences == 0 && memcmp((const uint8_t *)frame + SIM_STAMP_BYTES,
                                      (const uint8_t *)content->samples + SIM_STAMP_BYTES,
                                      frame_bytes - SIM_STAMP_BYTES) == 0;
}
