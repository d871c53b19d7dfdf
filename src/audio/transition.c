/* transition.c - joins what follows on to what was. */
#include "tower/transition.h"

#include "extrapolate.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH TOWER_TRANSITION_SAMPLES
/* Samples behind a seam whose own steps say how large a step goes unheard there. */
#define NEIGHBOURHOOD 32
/* A step that nobody hears, whatever stands around it: -78 dBFS. */
#define INAUDIBLE_STEP 4
/* The least that a join may step by: what lies far apart must meet in the end. -60 dBFS. */
#define JOIN_STEP 32

_Static_assert(LENGTH <= TOWER_EXTRAPOLATE_SAMPLES_MAX, "a join can be foretold");

/* Gain of what fades out, of 32768, `i` samples into the join. */
static int32_t fade_out_gain(uint32_t i) {
    /* Smoothstep, 1 - 3x^2 + 2x^3 with x = i / LENGTH: flat at both ends like the raised cosine,
     * and exact in integers. */
    int64_t n = LENGTH, x = i;
    return (int32_t)(32768 * (n * n * n - 3 * x * x * n + 2 * x * x * x) / (n * n * n));
}

void tower_transition_init(struct tower_transition *transition) {
    memset(transition, 0, sizeof *transition);
}

bool tower_transition_is_valid(const struct tower_transition *transition) {
    /* As the byte it is: as a bool it may be neither. */
    uint8_t is_joining;
    memcpy(&is_joining, &transition->is_joining, sizeof is_joining);
    bool is_valid = is_joining <= 1 && transition->done_samples <= LENGTH;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++)
        is_valid &= transition->largest_step[channel] >= 0 &&
                    transition->largest_step[channel] <= INT16_MAX - INT16_MIN;
    return is_valid;
}

static int32_t largest_step(const int16_t *samples, size_t n_samples, unsigned channel) {
    int32_t largest = INAUDIBLE_STEP;
    for (size_t i = 1; i < n_samples; i++) {
        int32_t step = abs(samples[i * TOWER_CHANNELS + channel] -
                           samples[(i - 1) * TOWER_CHANNELS + channel]);
        if (step > largest)
            largest = step;
    }
    return largest;
}

/* Would the bare seam stand out from the steps that follow it? What went before does not count:
 * loud noise cut off into silence makes no larger a step than it did itself, and is a cut all the
 * same. */
static bool is_audible(const struct tower_transition *transition, const int16_t *samples,
                       size_t n_samples) {
    size_t after = n_samples < NEIGHBOURHOOD ? n_samples : NEIGHBOURHOOD;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        int32_t last = transition->history[(LENGTH - 1) * TOWER_CHANNELS + channel];
        int32_t step = abs(samples[channel] - last);
        if (step > largest_step(samples, after, channel))
            return true;
    }
    return false;
}

static void begin_join(struct tower_transition *transition, const int16_t *samples) {
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        tower_extrapolate(transition->history + channel, LENGTH, transition->tail + channel, LENGTH,
                          TOWER_CHANNELS);
        int32_t own = largest_step(transition->history, LENGTH, channel);
        transition->largest_step[channel] = own > JOIN_STEP ? own : JOIN_STEP;
        transition->last_in[channel] = samples[channel];
    }
    transition->done_samples = 0;
    transition->is_joining = true;
}

/* One sample of one channel of a join: from the old programme's tail to the new programme. Mixing
 * two loud waves adds the difference between them to their slopes, so the step from `before` is
 * held to the largest that either makes of itself; what is lacking is caught up with where they are
 * flatter. */
static int16_t join_sample(struct tower_transition *transition, unsigned channel, int16_t before,
                           int16_t in) {
    int32_t wanted = in;
    if (transition->done_samples < LENGTH) {
        /* One sample on, so that neither end of the fade stands still. */
        int32_t gain = fade_out_gain(transition->done_samples + 1);
        int32_t tail = transition->tail[transition->done_samples * TOWER_CHANNELS + channel];
        wanted = (tail * gain + in * (32768 - gain)) / 32768;
    }
    int32_t limit = abs(in - transition->last_in[channel]);
    if (limit < transition->largest_step[channel])
        limit = transition->largest_step[channel];
    transition->last_in[channel] = in;
    if (wanted > before + limit)
        wanted = before + limit;
    else if (wanted < before - limit)
        wanted = before - limit;
    return (int16_t)wanted;
}

/* Join sample `i` of `samples`; a join ends when it has faded and both channels have met. */
static void join(struct tower_transition *transition, int16_t *samples, size_t i) {
    const int16_t *before =
        (i > 0 ? samples + i * TOWER_CHANNELS : transition->history + LENGTH * TOWER_CHANNELS) -
        TOWER_CHANNELS;
    bool have_met = true;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        int16_t in = samples[i * TOWER_CHANNELS + channel];
        int16_t out = join_sample(transition, channel, before[channel], in);
        samples[i * TOWER_CHANNELS + channel] = out;
        have_met &= out == in;
    }
    if (transition->done_samples < LENGTH)
        transition->done_samples++;
    transition->is_joining = transition->done_samples < LENGTH || !have_met;
}

static void remember(struct tower_transition *transition, const int16_t *samples,
                     size_t n_samples) {
    if (n_samples >= LENGTH) {
        memcpy(transition->history, samples + (n_samples - LENGTH) * TOWER_CHANNELS,
               sizeof transition->history);
        return;
    }
    size_t kept = LENGTH - n_samples;
    memmove(transition->history, transition->history + n_samples * TOWER_CHANNELS,
            kept * TOWER_SAMPLE_BYTES);
    memcpy(transition->history + kept * TOWER_CHANNELS, samples, n_samples * TOWER_SAMPLE_BYTES);
}

void tower_transition_process(struct tower_transition *transition, int16_t *samples,
                              size_t n_samples, bool is_seam) {
    if (n_samples == 0)
        return;
    if (is_seam) {
        /* A join that still runs was one to the programme that ends here. */
        transition->is_joining = false;
        if (is_audible(transition, samples, n_samples))
            begin_join(transition, samples);
    }
    for (size_t i = 0; i < n_samples && transition->is_joining; i++)
        join(transition, samples, i);
    remember(transition, samples, n_samples);
}
