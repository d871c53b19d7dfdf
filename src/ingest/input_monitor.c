/* input_monitor.c - measures each frame, and lets what it finds speak for or against each fault. */
#include "tower/input_monitor.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FULL_SCALE 32768.0
/* Whoever clips does so at +32767, and at -32768 or -32767. */
#define CLIPPED 32767
#define HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15)

struct fault {
    int64_t after_ns;  /* constant */
    int64_t return_ns; /* constant */

    /* Owned by who shows frames. */
    int64_t for_ns; /* what speaks for it, without interruption */
    int64_t against_ns;
    int64_t first_ns; /* when what speaks for it began */

    /* Atomic: written by who shows frames, read by anyone. */
    _Atomic int64_t since_ns; /* INT64_MIN: it is not there */
    _Atomic uint64_t count;
    _Atomic int64_t past_ns;
};

struct tower_input_monitor {
    /* Constant after new. */
    struct tower_input_monitor_config config;
    int64_t frame_ns;
    /* Spans, twice the levels: a channel is quiet below the first, not any more from the second. */
    int32_t quiet_span;
    int32_t return_span;
    int32_t other_span; /* of the channel that is not dead */

    /* Owned by who shows frames. */
    uint64_t hashes[TOWER_INPUT_REPEATING_FRAMES]; /* of the last frames, in turn */
    size_t n_hashes;                               /* of this programme */
    size_t quiet_frames;                           /* in a row */
    uint32_t clipped[TOWER_INPUT_CLIPPING_WINDOW_FRAMES][TOWER_CHANNELS]; /* in turn */
    uint32_t clipped_sum[TOWER_CHANNELS];
    size_t next_clipped;
    bool is_connected;
    int64_t link_since_ns; /* when that became so; INT64_MIN: not told yet */
    int64_t last_ns;       /* when the last frame was shown; INT64_MIN: none was */
    int64_t heard_ns;      /* of audio since it was last mute */

    struct fault faults[TOWER_INPUT_FAULT_COUNT];
    _Atomic uint64_t frames;
};

static const int64_t after_ns[TOWER_INPUT_FAULT_COUNT] = {
    [TOWER_INPUT_DISCONNECTED] = TOWER_INPUT_DISCONNECTED_AFTER_NS,
    [TOWER_INPUT_MUTE] = TOWER_INPUT_MUTE_AFTER_NS,
    [TOWER_INPUT_DIGITAL_SILENCE] = TOWER_INPUT_DIGITAL_SILENCE_AFTER_NS,
    [TOWER_INPUT_STUCK_DC] = TOWER_INPUT_STUCK_DC_AFTER_NS,
    [TOWER_INPUT_REPEATING] = TOWER_INPUT_REPEATING_AFTER_NS,
    [TOWER_INPUT_CLIPPING] = TOWER_INPUT_CLIPPING_AFTER_NS,
    [TOWER_INPUT_LEFT_DEAD] = TOWER_INPUT_CHANNEL_AFTER_NS,
    [TOWER_INPUT_RIGHT_DEAD] = TOWER_INPUT_CHANNEL_AFTER_NS,
};

static double magnitude(double dbfs) {
    return FULL_SCALE * pow(10.0, dbfs / 20.0);
}

int tower_input_monitor_new(const struct tower_input_monitor_config *config,
                            struct tower_input_monitor **ret_monitor) {
    if (config->frame_samples == 0 || config->frame_samples > TOWER_FRAME_SAMPLES_MAX ||
        config->dead_air_after_ns < 0 || !(config->dead_air_dbfs >= -90) ||
        !(config->dead_air_dbfs <= -30))
        return -EINVAL;
    struct tower_input_monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return -ENOMEM;
    double dbfs = config->dead_air_dbfs;
    monitor->config = *config;
    monitor->frame_ns = tower_samples_to_ns(config->frame_samples, TOWER_RATE_HZ);
    monitor->quiet_span = (int32_t)ceil(2 * magnitude(dbfs));
    monitor->return_span = (int32_t)ceil(2 * magnitude(dbfs + TOWER_INPUT_RETURN_DB));
    monitor->other_span = (int32_t)ceil(2 * magnitude(dbfs + TOWER_INPUT_CHANNEL_MARGIN_DB));
    monitor->link_since_ns = INT64_MIN;
    monitor->last_ns = INT64_MIN;
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++) {
        monitor->faults[i].after_ns = after_ns[i];
        monitor->faults[i].return_ns = TOWER_INPUT_RETURN_NS;
        monitor->faults[i].since_ns = INT64_MIN;
    }
    struct fault *dead_air = &monitor->faults[TOWER_INPUT_DEAD_AIR];
    dead_air->after_ns = config->dead_air_after_ns > 0 ? config->dead_air_after_ns : INT64_MAX;
    dead_air->return_ns = TOWER_INPUT_RETURN_FRAMES * monitor->frame_ns;
    *ret_monitor = monitor;
    return 0;
}

void tower_input_monitor_free(struct tower_input_monitor *monitor) {
    free(monitor);
}

/* ---- beginning and end ---- */

static int64_t since_ns(const struct fault *fault) {
    return atomic_load_explicit(&fault->since_ns, memory_order_relaxed);
}

bool tower_input_monitor_has(const struct tower_input_monitor *monitor,
                             enum tower_input_fault fault) {
    return since_ns(&monitor->faults[fault]) != INT64_MIN;
}

static void tell(struct tower_input_monitor *monitor, enum tower_input_fault fault, bool has_begun,
                 int64_t begun_ns, int64_t now_ns) {
    struct tower_input_event event = {
        .fault = fault,
        .has_begun = has_begun,
        .frame = atomic_load_explicit(&monitor->frames, memory_order_relaxed),
        .at_ns = now_ns,
        .since_ns = begun_ns,
    };
    if (monitor->config.on_event)
        monitor->config.on_event(monitor->config.user, &event);
}

static void begin(struct tower_input_monitor *monitor, enum tower_input_fault which,
                  int64_t now_ns) {
    struct fault *fault = &monitor->faults[which];
    atomic_fetch_add_explicit(&fault->count, 1, memory_order_relaxed);
    atomic_store_explicit(&fault->since_ns, fault->first_ns, memory_order_relaxed);
    fault->for_ns = 0;
    fault->against_ns = 0;
    tell(monitor, which, true, fault->first_ns, now_ns);
}

static void end(struct tower_input_monitor *monitor, enum tower_input_fault which, int64_t now_ns) {
    struct fault *fault = &monitor->faults[which];
    int64_t begun_ns = since_ns(fault);
    atomic_store_explicit(&fault->since_ns, INT64_MIN, memory_order_relaxed);
    atomic_fetch_add_explicit(&fault->past_ns, now_ns - begun_ns, memory_order_relaxed);
    fault->for_ns = 0;
    fault->against_ns = 0;
    tell(monitor, which, false, begun_ns, now_ns);
}

bool tower_input_monitor_resume_dead_air(struct tower_input_monitor *monitor, int64_t since_ns,
                                         int64_t now_ns) {
    if (monitor->config.dead_air_after_ns == 0)
        return false;
    monitor->faults[TOWER_INPUT_DEAD_AIR].first_ns = since_ns;
    begin(monitor, TOWER_INPUT_DEAD_AIR, now_ns);
    return true;
}

/* A frame speaks for the fault or against it. One of which neither can be said is not judged. */
static void judge(struct tower_input_monitor *monitor, enum tower_input_fault which, bool is_for,
                  int64_t now_ns) {
    struct fault *fault = &monitor->faults[which];
    bool is_there = tower_input_monitor_has(monitor, which);
    if (!is_for) {
        fault->for_ns = 0;
        fault->against_ns += monitor->frame_ns;
        if (is_there && fault->against_ns >= fault->return_ns)
            end(monitor, which, now_ns);
        return;
    }
    if (fault->for_ns == 0 && !is_there)
        fault->first_ns = now_ns - monitor->frame_ns;
    fault->for_ns += monitor->frame_ns;
    if (fault->for_ns < fault->after_ns)
        return;
    if (is_there)
        fault->against_ns = 0;
    else
        begin(monitor, which, now_ns);
}

/* ---- what is in a frame ---- */

struct measures {
    int32_t min[TOWER_CHANNELS];
    int32_t max[TOWER_CHANNELS];
    int32_t span[TOWER_CHANNELS];
    uint64_t hash;
};

static void measure(const uint8_t *frame, uint32_t n_samples, struct measures *ret_measures) {
    int32_t min[TOWER_CHANNELS] = {INT16_MAX, INT16_MAX};
    int32_t max[TOWER_CHANNELS] = {INT16_MIN, INT16_MIN};
    uint64_t hash = 0;
    for (uint32_t i = 0; i < n_samples; i++) {
        uint32_t bits;
        int16_t sample[TOWER_CHANNELS];
        memcpy(&bits, frame + (size_t)i * TOWER_SAMPLE_BYTES, sizeof bits);
        memcpy(sample, &bits, sizeof sample);
        hash = (hash ^ bits) * HASH_FACTOR;
        for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
            int32_t value = sample[channel];
            min[channel] = value < min[channel] ? value : min[channel];
            max[channel] = value > max[channel] ? value : max[channel];
        }
    }
    *ret_measures = (struct measures){.hash = hash};
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        ret_measures->min[channel] = min[channel];
        ret_measures->max[channel] = max[channel];
        ret_measures->span[channel] = max[channel] - min[channel];
    }
}

static bool are_below(const struct measures *measures, int32_t span) {
    return measures->span[0] < span && measures->span[1] < span;
}

/* What counts as quiet for a fault: once it is there, a little more. */
static int32_t quiet_span(const struct tower_input_monitor *monitor, enum tower_input_fault which) {
    return tower_input_monitor_has(monitor, which) ? monitor->return_span : monitor->quiet_span;
}

static bool is_stuck(const struct tower_input_monitor *monitor, const struct measures *measures) {
    bool is_there = tower_input_monitor_has(monitor, TOWER_INPUT_STUCK_DC);
    int32_t least = is_there ? TOWER_INPUT_STUCK_DC_OFFSET / 2 : TOWER_INPUT_STUCK_DC_OFFSET;
    if (!are_below(measures, quiet_span(monitor, TOWER_INPUT_STUCK_DC)))
        return false;
    if (are_below(measures, 1))
        least = 1;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        if (abs(measures->min[channel] + measures->max[channel]) / 2 >= least)
            return true;
    }
    return false;
}

/* Silence repeats itself as well, and is another fault: for as long as it could be a part of a loop
 * it says nothing, and then it speaks against one. */
static void judge_repeating(struct tower_input_monitor *monitor, const struct measures *measures,
                            int64_t now_ns) {
    bool is_known = false;
    for (size_t i = 0; i < monitor->n_hashes && i < TOWER_INPUT_REPEATING_FRAMES; i++)
        is_known = is_known || monitor->hashes[i] == measures->hash;
    monitor->hashes[monitor->n_hashes++ % TOWER_INPUT_REPEATING_FRAMES] = measures->hash;
    bool is_quiet = are_below(measures, monitor->quiet_span);
    monitor->quiet_frames = is_quiet ? monitor->quiet_frames + 1 : 0;
    if (!is_quiet || monitor->quiet_frames >= TOWER_INPUT_REPEATING_FRAMES)
        judge(monitor, TOWER_INPUT_REPEATING, !is_quiet && is_known, now_ns);
}

/* Samples in runs long enough to be clipped; a run that a frame's edge cuts short is not missed. */
static uint32_t count_clipped(const uint8_t *frame, uint32_t n_samples, unsigned channel) {
    uint32_t n = 0, run = 0;
    for (uint32_t i = 0; i < n_samples; i++) {
        int16_t value;
        memcpy(&value, frame + ((size_t)i * TOWER_CHANNELS + channel) * sizeof value, sizeof value);
        run = value >= CLIPPED || value <= -CLIPPED ? run + 1 : 0;
        if (run == TOWER_INPUT_CLIPPING_RUN)
            n += TOWER_INPUT_CLIPPING_RUN;
        else if (run > TOWER_INPUT_CLIPPING_RUN)
            n++;
    }
    return n;
}

static void judge_clipping(struct tower_input_monitor *monitor, const uint8_t *frame,
                           const struct measures *measures, int64_t now_ns) {
    double least = TOWER_INPUT_CLIPPING_RATIO;
    if (tower_input_monitor_has(monitor, TOWER_INPUT_CLIPPING))
        least /= 2;
    least *= (double)monitor->config.frame_samples * TOWER_INPUT_CLIPPING_WINDOW_FRAMES;
    bool is_clipped = false;
    for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
        uint32_t n = 0;
        if (measures->max[channel] >= CLIPPED || measures->min[channel] <= -CLIPPED)
            n = count_clipped(frame, monitor->config.frame_samples, channel);
        uint32_t *place = &monitor->clipped[monitor->next_clipped][channel];
        monitor->clipped_sum[channel] += n - *place;
        *place = n;
        is_clipped = is_clipped || monitor->clipped_sum[channel] >= least;
    }
    monitor->next_clipped = (monitor->next_clipped + 1) % TOWER_INPUT_CLIPPING_WINDOW_FRAMES;
    judge(monitor, TOWER_INPUT_CLIPPING, is_clipped, now_ns);
}

/* While neither has anything, nothing can be said of the one. */
static void judge_channel(struct tower_input_monitor *monitor, const struct measures *measures,
                          unsigned channel, enum tower_input_fault which, int64_t now_ns) {
    bool is_quiet = measures->span[channel] < quiet_span(monitor, which);
    if (!is_quiet || measures->span[1 - channel] >= monitor->other_span)
        judge(monitor, which, is_quiet, now_ns);
}

void tower_input_monitor_show(struct tower_input_monitor *monitor, const void *frame,
                              int64_t now_ns) {
    struct measures measures;
    measure(frame, monitor->config.frame_samples, &measures);
    atomic_fetch_add_explicit(&monitor->frames, 1, memory_order_relaxed);

    if (monitor->last_ns == INT64_MIN || now_ns - monitor->last_ns >= TOWER_INPUT_MUTE_AFTER_NS)
        monitor->heard_ns = 0;
    monitor->last_ns = now_ns;
    monitor->heard_ns += monitor->frame_ns;
    if (tower_input_monitor_has(monitor, TOWER_INPUT_MUTE) &&
        monitor->heard_ns >= TOWER_INPUT_RETURN_NS)
        end(monitor, TOWER_INPUT_MUTE, now_ns);

    judge(monitor, TOWER_INPUT_DEAD_AIR,
          are_below(&measures, quiet_span(monitor, TOWER_INPUT_DEAD_AIR)), now_ns);
    judge(monitor, TOWER_INPUT_DIGITAL_SILENCE,
          are_below(&measures, 1) && measures.max[0] == 0 && measures.max[1] == 0, now_ns);
    judge(monitor, TOWER_INPUT_STUCK_DC, is_stuck(monitor, &measures), now_ns);
    judge_repeating(monitor, &measures, now_ns);
    judge_clipping(monitor, frame, &measures, now_ns);
    judge_channel(monitor, &measures, 0, TOWER_INPUT_LEFT_DEAD, now_ns);
    judge_channel(monitor, &measures, 1, TOWER_INPUT_RIGHT_DEAD, now_ns);
}

void tower_input_monitor_end_programme(struct tower_input_monitor *monitor, int64_t now_ns) {
    for (enum tower_input_fault i = TOWER_INPUT_DEAD_AIR; i < TOWER_INPUT_FAULT_COUNT; i++) {
        if (tower_input_monitor_has(monitor, i))
            end(monitor, i, now_ns);
        monitor->faults[i].for_ns = 0;
    }
    monitor->n_hashes = 0;
    monitor->quiet_frames = 0;
    memset(monitor->clipped, 0, sizeof monitor->clipped);
    memset(monitor->clipped_sum, 0, sizeof monitor->clipped_sum);
}

/* ---- from outside ---- */

/* Begin or end `which` if it is time; else return when that will be. */
static int64_t begin_at(struct tower_input_monitor *monitor, enum tower_input_fault which,
                        int64_t first_ns, int64_t now_ns) {
    struct fault *fault = &monitor->faults[which];
    if (now_ns < first_ns + fault->after_ns)
        return first_ns + fault->after_ns;
    fault->first_ns = first_ns;
    begin(monitor, which, now_ns);
    return INT64_MAX;
}

static int64_t end_at(struct tower_input_monitor *monitor, enum tower_input_fault which,
                      int64_t first_ns, int64_t now_ns) {
    if (now_ns < first_ns + monitor->faults[which].return_ns)
        return first_ns + monitor->faults[which].return_ns;
    end(monitor, which, now_ns);
    return INT64_MAX;
}

int64_t tower_input_monitor_watch(struct tower_input_monitor *monitor, bool is_connected,
                                  bool has_unread, int64_t now_ns) {
    if (monitor->link_since_ns == INT64_MIN || is_connected != monitor->is_connected)
        monitor->link_since_ns = now_ns;
    monitor->is_connected = is_connected;
    bool is_mute = tower_input_monitor_has(monitor, TOWER_INPUT_MUTE);
    bool is_gone = tower_input_monitor_has(monitor, TOWER_INPUT_DISCONNECTED);
    if (!is_connected) {
        if (is_mute)
            end(monitor, TOWER_INPUT_MUTE, now_ns);
        if (is_gone)
            return INT64_MAX;
        return begin_at(monitor, TOWER_INPUT_DISCONNECTED, monitor->link_since_ns, now_ns);
    }
    int64_t again_ns = INT64_MAX;
    if (is_gone)
        again_ns = end_at(monitor, TOWER_INPUT_DISCONNECTED, monitor->link_since_ns, now_ns);
    if (!is_mute && !has_unread) {
        int64_t first_ns =
            monitor->last_ns > monitor->link_since_ns ? monitor->last_ns : monitor->link_since_ns;
        int64_t mute_ns = begin_at(monitor, TOWER_INPUT_MUTE, first_ns, now_ns);
        again_ns = mute_ns < again_ns ? mute_ns : again_ns;
    }
    return again_ns;
}

/* ---- for others ---- */

void tower_input_monitor_get_stats(const struct tower_input_monitor *monitor,
                                   struct tower_input_stats *ret_stats) {
    ret_stats->frames = atomic_load_explicit(&monitor->frames, memory_order_relaxed);
    for (unsigned i = 0; i < TOWER_INPUT_FAULT_COUNT; i++) {
        const struct fault *fault = &monitor->faults[i];
        ret_stats->faults[i] = (struct tower_input_fault_stats){
            .since_ns = since_ns(fault),
            .count = atomic_load_explicit(&fault->count, memory_order_relaxed),
            .past_ns = atomic_load_explicit(&fault->past_ns, memory_order_relaxed),
        };
    }
}

struct words {
    const char *name;
    const char *text;
};

static const struct words *words_for(enum tower_input_fault fault) {
    static const struct words words[TOWER_INPUT_FAULT_COUNT] = {
        [TOWER_INPUT_DISCONNECTED] = {"disconnected", "no producer is connected"},
        [TOWER_INPUT_MUTE] = {"mute", "the producer sends nothing"},
        [TOWER_INPUT_DEAD_AIR] = {"dead_air", "dead air"},
        [TOWER_INPUT_DIGITAL_SILENCE] = {"digital_silence", "nothing but zeros"},
        [TOWER_INPUT_STUCK_DC] = {"stuck_dc", "stuck at a constant"},
        [TOWER_INPUT_REPEATING] = {"repeating", "the same audio over and over"},
        [TOWER_INPUT_CLIPPING] = {"clipping", "clipping"},
        [TOWER_INPUT_LEFT_DEAD] = {"left_dead", "the left channel is dead"},
        [TOWER_INPUT_RIGHT_DEAD] = {"right_dead", "the right channel is dead"},
    };
    static const struct words unknown = {"unknown", "unknown"};
    return (unsigned)fault < TOWER_INPUT_FAULT_COUNT ? &words[fault] : &unknown;
}

const char *tower_input_fault_name(enum tower_input_fault fault) {
    return words_for(fault)->name;
}

const char *tower_input_fault_text(enum tower_input_fault fault) {
    return words_for(fault)->text;
}
