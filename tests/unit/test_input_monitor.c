/* The input monitor: each fault at its time and not a frame before, and none in a programme. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/clock.h"
#include "tower/input_monitor.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define FRAME 1152
#define FRAME_NS INT64_C(24000000)
#define S_NS TOWER_NS_PER_S
#define EVENTS_MAX 64

/* A sample of a channel, of -32768 to 32767 and cut off there. */
typedef double waveform(uint64_t sample, unsigned channel);

static struct {
    struct tower_clock *clock;
    struct tower_input_monitor *monitor;
    int16_t frame[FRAME * TOWER_CHANNELS];
    uint64_t sample; /* of the programme, fed so far */
    uint64_t frames;
    struct tower_input_event events[EVENTS_MAX];
    size_t n_events;
} station;

static void note(void *user, const struct tower_input_event *event) {
    assert_ptr_equal(user, &station);
    assert_true(station.n_events < EVENTS_MAX);
    station.events[station.n_events++] = *event;
}

static void make(int64_t dead_air_after_ns) {
    struct tower_input_monitor_config config = {
        .frame_samples = FRAME,
        .dead_air_after_ns = dead_air_after_ns,
        .dead_air_dbfs = TOWER_INPUT_DEAD_AIR_DBFS,
        .on_event = note,
        .user = &station,
    };
    tower_input_monitor_free(station.monitor);
    assert_int_equal(tower_input_monitor_new(&config, &station.monitor), 0);
}

static int setup(void **state) {
    (void)state;
    memset(&station, 0, sizeof station);
    if (tower_clock_virtual_new(7 * S_NS, &station.clock) < 0)
        return -1;
    make(TOWER_INPUT_DEAD_AIR_AFTER_NS);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tower_input_monitor_free(station.monitor);
    tower_clock_free(station.clock);
    return 0;
}

static int64_t now_ns(void) {
    return tower_clock_now_ns(station.clock);
}

/* A frame comes when its last sample has been played. */
static void feed(waveform *wave, uint64_t frames) {
    for (; frames > 0; frames--) {
        for (int i = 0; i < FRAME; i++, station.sample++) {
            for (unsigned channel = 0; channel < TOWER_CHANNELS; channel++) {
                double value = rint(wave(station.sample, channel));
                value = value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value;
                station.frame[i * TOWER_CHANNELS + (int)channel] = (int16_t)value;
            }
        }
        tower_clock_virtual_advance(station.clock, FRAME_NS);
        tower_input_monitor_show(station.monitor, station.frame, now_ns());
        station.frames++;
    }
}

static uint64_t frames_in(int64_t ns) {
    return (uint64_t)((ns + FRAME_NS - 1) / FRAME_NS);
}

static bool has(enum tower_input_fault fault) {
    return tower_input_monitor_has(station.monitor, fault);
}

static struct tower_input_fault_stats stats_of(enum tower_input_fault fault) {
    struct tower_input_stats stats;
    tower_input_monitor_get_stats(station.monitor, &stats);
    assert_int_equal(stats.frames, station.frames);
    return stats.faults[fault];
}

/* The last event was this one, settled by the last frame. */
static void expect_event(enum tower_input_fault fault, bool has_begun, int64_t since_ns) {
    assert_true(station.n_events > 0);
    const struct tower_input_event *event = &station.events[station.n_events - 1];
    assert_string_equal(tower_input_fault_name(event->fault), tower_input_fault_name(fault));
    assert_int_equal(event->has_begun, has_begun);
    assert_int_equal(event->frame, station.frames);
    assert_int_equal(event->at_ns, now_ns());
    assert_int_equal(event->since_ns, since_ns);
}

/* `wave` is found faulty by its frame number `frames`, counted from 1, and not before. */
static void expect_begin(enum tower_input_fault fault, waveform *wave, uint64_t frames) {
    int64_t since_ns = now_ns();
    feed(wave, frames - 1);
    assert_false(has(fault));
    assert_int_equal(stats_of(fault).since_ns, INT64_MIN);
    uint64_t count = stats_of(fault).count;
    size_t n_events = station.n_events;
    feed(wave, 1);
    assert_true(has(fault));
    assert_int_equal(station.n_events, n_events + 1);
    expect_event(fault, true, since_ns);
    assert_int_equal(stats_of(fault).count, count + 1);
    assert_int_equal(stats_of(fault).since_ns, since_ns);
    /* Once only. */
    feed(wave, 10);
    assert_true(has(fault));
    assert_int_equal(stats_of(fault).count, count + 1);
}

static void expect_end(enum tower_input_fault fault, waveform *wave, uint64_t frames) {
    int64_t since_ns = stats_of(fault).since_ns;
    int64_t past_ns = stats_of(fault).past_ns;
    feed(wave, frames - 1);
    assert_true(has(fault));
    feed(wave, 1);
    assert_false(has(fault));
    expect_event(fault, false, since_ns);
    assert_int_equal(stats_of(fault).since_ns, INT64_MIN);
    assert_int_equal(stats_of(fault).past_ns, past_ns + now_ns() - since_ns);
}

/* ---- signals ---- */

/* The same for the same sample, -1 to 1. */
static double noise_at(uint64_t n) {
    n = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)(int32_t)((n ^ n >> 31) & UINT32_MAX) / 2147483648.0;
}

static double zeros(uint64_t sample, unsigned channel) {
    (void)sample, (void)channel;
    return 0;
}

/* Peaks of -66 dBFS. */
static double hiss(uint64_t sample, unsigned channel) {
    return 16 * noise_at(2 * sample + channel);
}

/* Between what is quiet (-60 dBFS) and what is not any more (-57). */
static double louder_hiss(uint64_t sample, unsigned channel) {
    return (sample & 1 ? 40 : -40) + 2 * noise_at(2 * sample + channel);
}

static double loud(uint64_t sample, unsigned channel) {
    return 8000 * noise_at(2 * sample + channel);
}

static double left_only(uint64_t sample, unsigned channel) {
    return channel == 0 ? loud(sample, 0) : hiss(sample, 1);
}

static double right_only(uint64_t sample, unsigned channel) {
    return left_only(sample, 1 - channel);
}

/* Chords that change, notes that decay, some noise: -8 dBFS or so, different on both sides. */
static double music(uint64_t sample, unsigned channel) {
    double at = (double)sample / TOWER_RATE_HZ;
    double note = floor(at / 0.35), since = at - note * 0.35;
    double hz = 110 * pow(2, floor(18 * (0.5 + 0.5 * noise_at((uint64_t)note))) / 12.0);
    double chord = sin(2 * M_PI * hz * at) + 0.6 * sin(2 * M_PI * 1.2599 * hz * at + channel) +
                   0.5 * sin(2 * M_PI * 1.4983 * hz * at) + 0.2 * sin(2 * M_PI * 3.01 * hz * at);
    double drum = exp(-30 * since) * noise_at(sample * 2 + channel);
    return 5000 * chord * (0.3 + exp(-4 * since)) + 6000 * drum;
}

static double mono(uint64_t sample, unsigned channel) {
    (void)channel;
    return music(sample, 0);
}

/* Sentences of 3 s in syllables of a quarter of a second, with pauses of 2 s as a gate makes them.
 */
static double speech(uint64_t sample, unsigned channel) {
    (void)channel;
    double at = fmod((double)sample / TOWER_RATE_HZ, 5.0);
    if (at >= 3)
        return 0;
    double syllable = sin(M_PI * fmod(at, 0.25) / 0.25);
    return 9000 * syllable * syllable * (0.7 * sin(2 * M_PI * 140 * at) + 0.3 * noise_at(sample)) *
           (fmod(at, 1.25) < 1 ? 1 : 0.0005);
}

/* Pieces of 40 s that fade out over 12 s, to nothing, and 4 s of nothing before the next. */
static double fades(uint64_t sample, unsigned channel) {
    double at = fmod((double)sample / TOWER_RATE_HZ, 44.0);
    if (at >= 40)
        return 0;
    double gain_db = at > 28 ? -90 * (at - 28) / 12 : 0;
    return music(sample, channel) * pow(10, gain_db / 20);
}

/* Made loud: flat tops at full scale on every beat, but few. */
static double loud_master(uint64_t sample, unsigned channel) {
    return 2.6 * music(sample, channel);
}

/* Nothing but flat tops, below full scale, at a pitch that wavers. */
static double square(uint64_t sample, unsigned channel) {
    double at = (double)sample / TOWER_RATE_HZ;
    double phase = 2 * M_PI * (100 + 3 * channel) * at + 5 * sin(2 * M_PI * 0.7 * at);
    return sin(phase) > 0 ? 31600 : -31600;
}

/* An old stereo record: for 25 s the left is empty, then they play together. */
static double one_sided_intro(uint64_t sample, unsigned channel) {
    double at = fmod((double)sample / TOWER_RATE_HZ, 60.0);
    return at < 25 && channel == 0 ? hiss(sample, 0) : music(sample, channel);
}

/* A beat of drum machine at 120 in the minute, each the same to the bit. */
static double drum_machine(uint64_t sample, unsigned channel) {
    uint64_t since = sample % 24000;
    (void)channel;
    return 20000 * exp(-(double)since / 9000) * sin(2 * M_PI * 55 * (double)since / TOWER_RATE_HZ);
}

/* Six pips, as on the hour, between other things. */
static double pips(uint64_t sample, unsigned channel) {
    double at = fmod((double)sample / TOWER_RATE_HZ, 30.0);
    if (at < 20)
        return music(sample, channel);
    double length = at >= 25 ? 0.5 : 0.1;
    return at < 26 && fmod(at, 1) < length ? 10000 * sin(2 * M_PI * 1000 * at) : 0;
}

/* ---- dead air ---- */

static void test_dead_air_at_its_time_and_over_at_the_third_frame(void **state) {
    (void)state;
    feed(music, 100);
    expect_begin(TOWER_INPUT_DEAD_AIR, hiss, 417); /* 10 s are 416 frames and two thirds */
    assert_false(has(TOWER_INPUT_DIGITAL_SILENCE));
    expect_end(TOWER_INPUT_DEAD_AIR, music, TOWER_INPUT_RETURN_FRAMES);
    expect_begin(TOWER_INPUT_DEAD_AIR, hiss, 417);
    assert_int_equal(stats_of(TOWER_INPUT_DEAD_AIR).count, 2);
    assert_int_equal(station.n_events, 3);
}

static void test_what_wavers_around_the_threshold_does_not_end_it(void **state) {
    (void)state;
    /* Before it is there, that is not quiet. */
    feed(louder_hiss, 1000);
    assert_int_equal(station.n_events, 0);
    expect_begin(TOWER_INPUT_DEAD_AIR, hiss, 417);
    for (int i = 0; i < 50; i++) {
        feed(louder_hiss, 20);
        feed(hiss, 20);
    }
    assert_true(has(TOWER_INPUT_DEAD_AIR));
    assert_int_equal(station.n_events, 1);
}

static void test_a_crackle_ends_dead_air_only_if_more_follow_soon(void **state) {
    (void)state;
    expect_begin(TOWER_INPUT_DEAD_AIR, hiss, 417);
    for (int i = 0; i < 20; i++) {
        feed(loud, 2);
        feed(hiss, 417);
    }
    assert_true(has(TOWER_INPUT_DEAD_AIR));
    /* Less far apart than it takes to begin: something is there, if not much. */
    feed(loud, 1);
    feed(hiss, 416);
    feed(loud, 1);
    feed(hiss, 416);
    expect_end(TOWER_INPUT_DEAD_AIR, loud, 1);
}

static void test_dead_air_can_be_turned_off(void **state) {
    (void)state;
    make(0);
    feed(hiss, 5000);
    assert_int_equal(station.n_events, 0);
    expect_begin(TOWER_INPUT_DIGITAL_SILENCE, zeros,
                 frames_in(TOWER_INPUT_DIGITAL_SILENCE_AFTER_NS));
}

static void test_one_quiet_channel_is_not_dead_air(void **state) {
    (void)state;
    feed(left_only, 1000);
    assert_int_equal(station.n_events, 0);
}

static void test_level_is_that_of_the_audio_whatever_it_is_shifted_by(void **state) {
    (void)state;
    struct tower_input_monitor_config config = {
        .frame_samples = FRAME, .dead_air_after_ns = S_NS, .dead_air_dbfs = -40};
    /* -40 dBFS is 327.68: one below it is quiet, one above it is not, at any offset. */
    for (int offset = -20000; offset <= 20000; offset += 10000) {
        for (int above = 0; above < 2; above++) {
            struct tower_input_monitor *monitor;
            int peak = above ? 328 : 327;
            assert_int_equal(tower_input_monitor_new(&config, &monitor), 0);
            for (int i = 0; i < FRAME * TOWER_CHANNELS; i++)
                station.frame[i] = (int16_t)(offset + (i / 2 % 5 == 0 ? peak : -peak));
            for (int i = 0; i < 42; i++)
                tower_input_monitor_show(monitor, station.frame, i * FRAME_NS);
            assert_int_equal(tower_input_monitor_has(monitor, TOWER_INPUT_DEAD_AIR), !above);
            tower_input_monitor_free(monitor);
        }
    }
}

static void test_time_is_counted_in_samples(void **state) {
    (void)state;
    struct tower_input_monitor *other;
    struct tower_input_monitor_config config = {
        .frame_samples = 1024, .dead_air_after_ns = S_NS, .dead_air_dbfs = -60};
    assert_int_equal(tower_input_monitor_new(&config, &other), 0);
    /* A second is 46.9 frames of 1024, and all of them may come at once. */
    for (int i = 0; i < 46; i++)
        tower_input_monitor_show(other, station.frame, 0);
    assert_false(tower_input_monitor_has(other, TOWER_INPUT_DEAD_AIR));
    tower_input_monitor_show(other, station.frame, 0);
    assert_true(tower_input_monitor_has(other, TOWER_INPUT_DEAD_AIR));
    tower_input_monitor_free(other);
}

/* ---- the others ---- */

static void test_digital_silence_is_told_from_quiet(void **state) {
    (void)state;
    feed(hiss, 300);
    expect_begin(TOWER_INPUT_DIGITAL_SILENCE, zeros,
                 frames_in(TOWER_INPUT_DIGITAL_SILENCE_AFTER_NS));
    assert_false(has(TOWER_INPUT_STUCK_DC));
    /* Silence it is on, and not a frame of hiss changes that; a second of it does. */
    feed(hiss, 1);
    feed(zeros, 300);
    assert_true(has(TOWER_INPUT_DEAD_AIR));
    expect_end(TOWER_INPUT_DIGITAL_SILENCE, hiss, frames_in(TOWER_INPUT_RETURN_NS));
    assert_true(has(TOWER_INPUT_DEAD_AIR));
}

static double constant_of_one(uint64_t sample, unsigned channel) {
    (void)sample;
    return channel == 1 ? -1 : 0;
}

static double offset_hiss(uint64_t sample, unsigned channel) {
    return (channel == 0 ? 340 : 0) + hiss(sample, channel) / 2;
}

static double less_offset_hiss(uint64_t sample, unsigned channel) {
    return (channel == 0 ? 200 : 0) + hiss(sample, channel) / 2;
}

static double offset_music(uint64_t sample, unsigned channel) {
    return 3000 + music(sample, channel);
}

static void test_stuck_at_a_constant(void **state) {
    (void)state;
    uint64_t after = frames_in(TOWER_INPUT_STUCK_DC_AFTER_NS);
    feed(offset_music, 1000);
    assert_int_equal(station.n_events, 0);
    expect_begin(TOWER_INPUT_STUCK_DC, constant_of_one, after);
    assert_false(has(TOWER_INPUT_DIGITAL_SILENCE));
    expect_end(TOWER_INPUT_STUCK_DC, music, frames_in(TOWER_INPUT_RETURN_NS));
    expect_begin(TOWER_INPUT_STUCK_DC, offset_hiss, after);
    feed(less_offset_hiss, 1000); /* a little less, but half of it is not reached */
    assert_true(has(TOWER_INPUT_STUCK_DC));
    assert_true(has(TOWER_INPUT_DEAD_AIR)); /* for those who listen it is */
    expect_end(TOWER_INPUT_STUCK_DC, hiss, frames_in(TOWER_INPUT_RETURN_NS));
    feed(less_offset_hiss, 1000);
    assert_false(has(TOWER_INPUT_STUCK_DC));
}

static uint64_t loop_samples;

static double loop(uint64_t sample, unsigned channel) {
    return loud(sample % loop_samples, channel);
}

/* A loop the half of which is silence. */
static double gappy_loop(uint64_t sample, unsigned channel) {
    return sample % loop_samples < loop_samples / 2 ? loop(sample, channel) : 0;
}

static void test_the_same_over_and_over(void **state) {
    (void)state;
    static const uint64_t lengths[] = {FRAME, 5 * FRAME, 16 * FRAME, 48, 480, 512, 1024, 2048};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        loop_samples = lengths[i];
        station.sample = 0;
        /* Once through, so that there is something to be the same as. */
        uint64_t first = 1;
        while (first * FRAME % loop_samples != 0)
            first++;
        feed(loop, first);
        expect_begin(TOWER_INPUT_REPEATING, loop, frames_in(TOWER_INPUT_REPEATING_AFTER_NS));
        expect_end(TOWER_INPUT_REPEATING, music, frames_in(TOWER_INPUT_RETURN_NS));
    }
    loop_samples = 17 * (uint64_t)FRAME;
    feed(loop, 2000);
    assert_false(has(TOWER_INPUT_REPEATING));
}

static void test_silence_does_not_repeat_but_a_loop_with_silence_does(void **state) {
    (void)state;
    feed(zeros, 5000);
    feed(constant_of_one, 5000);
    assert_int_equal(stats_of(TOWER_INPUT_REPEATING).count, 0);
    feed(music, 100);
    loop_samples = 16 * (uint64_t)FRAME;
    station.sample = 0;
    feed(gappy_loop, 2 * frames_in(TOWER_INPUT_REPEATING_AFTER_NS) + 40);
    assert_true(has(TOWER_INPUT_REPEATING));
    /* When it goes over into silence it repeats no more. */
    feed(zeros, 100);
    assert_false(has(TOWER_INPUT_REPEATING));
}

static void test_a_repeated_frame_now_and_then_is_no_loop(void **state) {
    (void)state;
    loop_samples = FRAME;
    for (int i = 0; i < 20; i++) {
        feed(loop, frames_in(TOWER_INPUT_REPEATING_AFTER_NS) - 1);
        feed(music, 1);
    }
    assert_int_equal(station.n_events, 0);
}

static uint64_t clipped_of_1000;

/* So many of 1000 samples at full scale, in one run, of one channel. */
static double clipped(uint64_t sample, unsigned channel) {
    if (channel == 1 && sample % 1000 < clipped_of_1000)
        return sample / 1000 % 2 ? INT16_MIN : INT16_MAX;
    return loud(sample, channel);
}

/* Half of the samples are at full scale, but never three in a row. */
static double spiky(uint64_t sample, unsigned channel) {
    return sample % 4 < 2 ? INT16_MAX : loud(sample, channel);
}

static void test_clipping_above_its_share(void **state) {
    (void)state;
    clipped_of_1000 = 19;
    feed(clipped, 5000);
    feed(spiky, 1000);
    assert_int_equal(station.n_events, 0);
    feed(music, 100);
    clipped_of_1000 = 1000;
    /* From the first such frame on there is 2 % of a second. */
    expect_begin(TOWER_INPUT_CLIPPING, clipped, frames_in(TOWER_INPUT_CLIPPING_AFTER_NS));
    clipped_of_1000 = 12; /* not yet half of it */
    feed(clipped, 1000);
    assert_true(has(TOWER_INPUT_CLIPPING));
    clipped_of_1000 = 0;
    feed(clipped, TOWER_INPUT_CLIPPING_WINDOW_FRAMES + frames_in(TOWER_INPUT_RETURN_NS));
    assert_false(has(TOWER_INPUT_CLIPPING));
    /* A little over 2 % is enough, a frame's edge costs next to nothing. */
    clipped_of_1000 = 21;
    feed(clipped, TOWER_INPUT_CLIPPING_WINDOW_FRAMES + frames_in(TOWER_INPUT_CLIPPING_AFTER_NS));
    assert_true(has(TOWER_INPUT_CLIPPING));
    assert_int_equal(stats_of(TOWER_INPUT_CLIPPING).count, 2);
}

static double overdriven(uint64_t sample, unsigned channel) {
    return 2 * loud_master(sample, channel);
}

/* What is loud on purpose reaches full scale all the time, and it is not that which is meant. */
static void test_music_that_is_too_loud_for_its_input(void **state) {
    (void)state;
    uint64_t at_full_scale = 0, samples = 0;
    for (int i = 0; i < 2000; i++) {
        feed(loud_master, 1);
        for (int k = 0; k < FRAME * TOWER_CHANNELS; k++, samples++)
            at_full_scale += station.frame[k] == INT16_MAX || station.frame[k] == INT16_MIN;
    }
    assert_in_range(at_full_scale * 1000 / samples, 2, 15);
    assert_int_equal(station.n_events, 0);
    feed(overdriven, 400);
    assert_true(has(TOWER_INPUT_CLIPPING));
    assert_int_equal(station.n_events, 1);
}

static void test_one_channel_dead(void **state) {
    (void)state;
    uint64_t after = frames_in(TOWER_INPUT_CHANNEL_AFTER_NS);
    expect_begin(TOWER_INPUT_RIGHT_DEAD, left_only, after);
    assert_false(has(TOWER_INPUT_LEFT_DEAD));
    expect_end(TOWER_INPUT_RIGHT_DEAD, music, frames_in(TOWER_INPUT_RETURN_NS));
    expect_begin(TOWER_INPUT_LEFT_DEAD, right_only, after);
    assert_false(has(TOWER_INPUT_RIGHT_DEAD));
    /* In a pause nothing can be said of it. */
    feed(hiss, 300);
    assert_true(has(TOWER_INPUT_LEFT_DEAD));
    expect_end(TOWER_INPUT_LEFT_DEAD, music, frames_in(TOWER_INPUT_RETURN_NS));
}

static double speech_on_the_left(uint64_t sample, unsigned channel) {
    return channel == 0 ? speech(sample, 0) : hiss(sample, 1);
}

static void test_pauses_do_not_hide_a_dead_channel(void **state) {
    (void)state;
    feed(speech_on_the_left, frames_in(75 * S_NS));
    assert_true(has(TOWER_INPUT_RIGHT_DEAD));
    assert_int_equal(station.n_events, 1);
}

static void test_the_next_programme_begins_without_faults(void **state) {
    (void)state;
    feed(zeros, 416);
    tower_input_monitor_end_programme(station.monitor, now_ns());
    assert_false(has(TOWER_INPUT_DIGITAL_SILENCE));
    expect_event(TOWER_INPUT_DIGITAL_SILENCE, false, 7 * S_NS);
    expect_begin(TOWER_INPUT_DEAD_AIR, hiss, 417);
    tower_input_monitor_end_programme(station.monitor, now_ns());
    assert_false(has(TOWER_INPUT_DEAD_AIR));
    assert_int_equal(station.n_events, 4);
}

/* ---- from outside ---- */

static int64_t watch(bool is_connected, bool has_unread) {
    return tower_input_monitor_watch(station.monitor, is_connected, has_unread, now_ns());
}

static void pass(int64_t ns) {
    tower_clock_virtual_advance(station.clock, ns);
}

static void test_disconnected(void **state) {
    (void)state;
    int64_t begun_ns = now_ns();
    assert_int_equal(watch(false, false), begun_ns + TOWER_INPUT_DISCONNECTED_AFTER_NS);
    pass(TOWER_INPUT_DISCONNECTED_AFTER_NS - 1);
    assert_int_equal(watch(false, false), begun_ns + TOWER_INPUT_DISCONNECTED_AFTER_NS);
    assert_int_equal(station.n_events, 0);
    pass(1);
    assert_int_equal(watch(false, false), INT64_MAX);
    expect_event(TOWER_INPUT_DISCONNECTED, true, begun_ns);
    /* One that is gone again within a second does not end it. */
    assert_int_equal(watch(true, false), now_ns() + TOWER_INPUT_RETURN_NS);
    pass(TOWER_INPUT_RETURN_NS - 1);
    assert_int_equal(watch(true, false), now_ns() + 1);
    assert_int_equal(watch(false, false), INT64_MAX);
    watch(true, false);
    pass(TOWER_INPUT_RETURN_NS);
    watch(true, false);
    assert_int_equal(station.n_events, 2);
    expect_event(TOWER_INPUT_DISCONNECTED, false, begun_ns);
    assert_int_equal(stats_of(TOWER_INPUT_DISCONNECTED).count, 1);
    assert_int_equal(stats_of(TOWER_INPUT_MUTE).count, 0);
}

static void test_connected_and_mute(void **state) {
    (void)state;
    int64_t begun_ns = now_ns();
    assert_int_equal(watch(true, false), begun_ns + TOWER_INPUT_MUTE_AFTER_NS);
    feed(music, 100);
    begun_ns = now_ns();
    assert_int_equal(watch(true, false), begun_ns + TOWER_INPUT_MUTE_AFTER_NS);
    pass(TOWER_INPUT_MUTE_AFTER_NS - 1);
    watch(true, false);
    pass(1);
    /* Who has sent something that was not read yet is not mute. */
    assert_int_equal(watch(true, true), INT64_MAX);
    assert_int_equal(station.n_events, 0);
    watch(true, false);
    assert_int_equal(station.n_events, 1);
    expect_event(TOWER_INPUT_MUTE, true, begun_ns);
    /* A frame now and then is not enough, a second of them is. */
    for (int i = 0; i < 100; i++) {
        feed(music, 1);
        pass(TOWER_INPUT_MUTE_AFTER_NS);
        watch(true, false);
    }
    assert_int_equal(station.n_events, 1);
    expect_end(TOWER_INPUT_MUTE, music, frames_in(TOWER_INPUT_RETURN_NS));
    assert_int_equal(stats_of(TOWER_INPUT_DISCONNECTED).count, 0);
}

static void test_mute_is_over_when_it_goes(void **state) {
    (void)state;
    watch(true, false);
    pass(TOWER_INPUT_MUTE_AFTER_NS);
    watch(true, false);
    assert_true(has(TOWER_INPUT_MUTE));
    watch(false, false);
    assert_false(has(TOWER_INPUT_MUTE));
    pass(TOWER_INPUT_DISCONNECTED_AFTER_NS);
    watch(false, false);
    assert_true(has(TOWER_INPUT_DISCONNECTED));
    assert_false(has(TOWER_INPUT_MUTE));
}

/* ---- programmes ---- */

static void test_a_programme_is_not_a_fault(void **state) {
    (void)state;
    static waveform *const programmes[] = {music,        mono,        speech, fades,
                                           loud_master,  square,      pips,   one_sided_intro,
                                           drum_machine, offset_music};
    for (size_t i = 0; i < sizeof programmes / sizeof *programmes; i++) {
        station.sample = 0;
        feed(programmes[i], frames_in(65 * S_NS));
        if (station.n_events > 0)
            fail_msg("programme %zu: %s", i, tower_input_fault_name(station.events[0].fault));
        tower_input_monitor_end_programme(station.monitor, now_ns());
    }
}

static void test_settings_out_of_range(void **state) {
    (void)state;
    struct tower_input_monitor_config good = {.frame_samples = FRAME, .dead_air_dbfs = -60};
    struct tower_input_monitor_config bad[] = {good, good, good, good, good, good};
    struct tower_input_monitor *monitor = NULL;
    bad[0].frame_samples = 0;
    bad[1].frame_samples = TOWER_FRAME_SAMPLES_MAX + 1;
    bad[2].dead_air_after_ns = -1;
    bad[3].dead_air_dbfs = -91;
    bad[4].dead_air_dbfs = -29;
    bad[5].dead_air_dbfs = NAN;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tower_input_monitor_new(&bad[i], &monitor), -EINVAL);
    assert_null(monitor);
    assert_string_equal(tower_input_fault_name((enum tower_input_fault)99), "unknown");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_dead_air_at_its_time_and_over_at_the_third_frame),
        TEST(test_what_wavers_around_the_threshold_does_not_end_it),
        TEST(test_a_crackle_ends_dead_air_only_if_more_follow_soon),
        TEST(test_dead_air_can_be_turned_off),
        TEST(test_one_quiet_channel_is_not_dead_air),
        TEST(test_level_is_that_of_the_audio_whatever_it_is_shifted_by),
        TEST(test_time_is_counted_in_samples),
        TEST(test_digital_silence_is_told_from_quiet),
        TEST(test_stuck_at_a_constant),
        TEST(test_the_same_over_and_over),
        TEST(test_silence_does_not_repeat_but_a_loop_with_silence_does),
        TEST(test_a_repeated_frame_now_and_then_is_no_loop),
        TEST(test_clipping_above_its_share),
        TEST(test_music_that_is_too_loud_for_its_input),
        TEST(test_one_channel_dead),
        TEST(test_pauses_do_not_hide_a_dead_channel),
        TEST(test_the_next_programme_begins_without_faults),
        TEST(test_disconnected),
        TEST(test_connected_and_mute),
        TEST(test_mute_is_over_when_it_goes),
        TEST(test_a_programme_is_not_a_fault),
        TEST(test_settings_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
