/* test_aircheck.c - the aircheck engine, on streams made with LAME and then damaged. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "aircheck.h"
#include "aircheck_print.h"
#include "tower/mp3.h"

#include <jansson.h>
#include <lame/lame.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define TICK (24 * MS)
/* An MP3 frame of 128 kbit/s at 48 kHz. */
#define FRAME 384
/* Samples by which an MP3 decoder is behind its encoder's own delay. */
#define DECODER_DELAY 529

struct stream {
    uint8_t *data;
    size_t bytes;
    int encoder_delay;
};

struct programme {
    uint32_t rate_hz;
    unsigned channels;
    int kbps;
    bool has_reservoir;
    double seconds;
    double tone_hz; /* 0: noise */
    double amplitude;
    double silence_from_s, silence_to_s;
    double click_at_s; /* 0: none */
};

static const struct programme SINE = {
    .rate_hz = 48000, .channels = 2, .kbps = 128, .seconds = 3, .tone_hz = 440, .amplitude = 8000};

static uint32_t random_state = 1;

static uint32_t next_random(void) {
    random_state = random_state * 1664525U + 1013904223U;
    return random_state >> 8;
}

static int16_t sample_at(const struct programme *p, size_t i) {
    double at_s = (double)i / p->rate_hz;
    if (at_s >= p->silence_from_s && at_s < p->silence_to_s)
        return 0;
    if (p->click_at_s > 0 && i == (size_t)(p->click_at_s * p->rate_hz))
        return 30000;
    if (p->tone_hz > 0)
        return (int16_t)lround(p->amplitude * sin(2 * M_PI * p->tone_hz * at_s));
    /* Noise whose level swells, so that the reservoir fills and empties. */
    double level = p->amplitude * (0.5 + 0.5 * sin(2 * M_PI * 3 * at_s));
    return (int16_t)lround(level * ((double)next_random() / 8388608.0 - 1));
}

static struct stream encode(const struct programme *p) {
    lame_t lame = lame_init();
    assert_non_null(lame);
    assert_int_equal(lame_set_in_samplerate(lame, (int)p->rate_hz), 0);
    assert_int_equal(lame_set_out_samplerate(lame, (int)p->rate_hz), 0);
    assert_int_equal(lame_set_num_channels(lame, (int)p->channels), 0);
    assert_int_equal(lame_set_mode(lame, p->channels == 1 ? MONO : STEREO), 0);
    assert_int_equal(lame_set_brate(lame, p->kbps), 0);
    assert_int_equal(lame_set_disable_reservoir(lame, !p->has_reservoir), 0);
    assert_int_equal(lame_set_bWriteVbrTag(lame, 0), 0);
    assert_int_equal(lame_set_quality(lame, 7), 0);
    /* At most bitrates it takes the level down by so much, by itself. */
    assert_int_equal(lame_set_scale(lame, 1 / 0.95F), 0);
    assert_true(lame_init_params(lame) >= 0);

    size_t n_samples = (size_t)(p->seconds * p->rate_hz);
    int16_t *pcm = calloc(n_samples * 2, sizeof *pcm);
    size_t room_bytes = n_samples * 2 + 16384;
    struct stream stream = {.data = malloc(room_bytes)};
    assert_non_null(pcm);
    assert_non_null(stream.data);
    for (size_t i = 0; i < n_samples; i++)
        pcm[2 * i] = pcm[2 * i + 1] = sample_at(p, i);
    int n;
    if (p->channels == 2) {
        n = lame_encode_buffer_interleaved(lame, pcm, (int)n_samples, stream.data, (int)room_bytes);
    } else {
        for (size_t i = 0; i < n_samples; i++)
            pcm[i] = pcm[2 * i];
        n = lame_encode_buffer(lame, pcm, pcm, (int)n_samples, stream.data, (int)room_bytes);
    }
    assert_true(n > 0);
    stream.bytes = (size_t)n;
    n = lame_encode_flush(lame, stream.data + n, (int)(room_bytes - (size_t)n));
    assert_true(n >= 0);
    stream.bytes += (size_t)n;
    stream.encoder_delay = lame_get_encoder_delay(lame);
    free(pcm);
    lame_close(lame);
    return stream;
}

/* Put `bytes` of `data` in at `at`, after taking `cut_bytes` away there. */
static void splice(struct stream *stream, size_t at, size_t cut_bytes, const void *data,
                   size_t bytes) {
    assert_true(at + cut_bytes <= stream->bytes);
    uint8_t *joined = malloc(stream->bytes - cut_bytes + bytes);
    assert_non_null(joined);
    memcpy(joined, stream->data, at);
    if (bytes > 0)
        memcpy(joined + at, data, bytes);
    memcpy(joined + at + bytes, stream->data + at + cut_bytes, stream->bytes - at - cut_bytes);
    free(stream->data);
    stream->data = joined;
    stream->bytes = stream->bytes - cut_bytes + bytes;
}

/* Feed all of it in pieces of `piece_bytes`, `piece_ns` apart. */
static struct tower_aircheck_report check_paced(const uint8_t *data, size_t bytes,
                                                size_t piece_bytes, int64_t piece_ns) {
    struct tower_aircheck *check = NULL;
    struct tower_aircheck_report report;
    assert_int_equal(tower_aircheck_new(&check), 0);
    int64_t now_ns = 17 * S;
    int64_t last_ns = now_ns;
    for (size_t from = 0; from < bytes; from += piece_bytes) {
        size_t n = bytes - from < piece_bytes ? bytes - from : piece_bytes;
        tower_aircheck_feed(check, data + from, n, now_ns);
        last_ns = now_ns;
        now_ns += piece_ns;
    }
    tower_aircheck_finish(check, last_ns);
    tower_aircheck_get_report(check, &report);
    tower_aircheck_free(check);
    return report;
}

static struct tower_aircheck_report check_stream(const struct stream *stream) {
    return check_paced(stream->data, stream->bytes, FRAME, TICK);
}

static void assert_near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%f is not within %f of %f", value, tolerance, expected);
}

static void assert_sound(const struct tower_aircheck_report *report) {
    assert_int_equal(report->lost_syncs, 0);
    assert_int_equal(report->junk_bytes, 0);
    assert_int_equal(report->broken_frames, 0);
    assert_int_equal(report->decoder_errors, 0);
    assert_int_equal(report->format_changes, 0);
    assert_int_equal(report->decoded_frames, report->frames);
}

static void a_clean_sine_is_good(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    struct tower_aircheck_report report = check_stream(&stream);
    assert_sound(&report);
    assert_int_equal(stream.bytes % FRAME, 0);
    assert_int_equal(report.bytes, stream.bytes);
    assert_int_equal(report.frames, stream.bytes / FRAME);
    assert_int_equal(report.leading_bytes, 0);
    assert_int_equal(report.reservoir_frames, 0);
    assert_int_equal(report.rate_hz, 48000);
    assert_int_equal(report.channels, 2);
    assert_near(report.audio_s, (double)report.frames * 0.024, 1e-9);
    assert_near(report.bitrate_bps, 128000, 1e-6);
    assert_int_equal(report.pcm.samples, report.frames * 1152);
    assert_int_equal(report.pcm.silences, 0);
    assert_near(report.pcm.peak[0], 8000, 100);
    assert_near(report.pcm.peak[1], 8000, 100);
    /* Less the fraction of the stream that is the encoder's padding. */
    double sounding = 3.0 / report.audio_s;
    assert_near(tower_pcm_meter_rms(&report.pcm, 0), 8000 / sqrt(2) * sqrt(sounding), 60);
    assert_near(tower_pcm_meter_dc(&report.pcm, 0), 0, 5);
    free(stream.data);
}

/* Also where one joins in the middle: the decoder's own first steps and peaks are left out. The
 * ends of the stream, where the encoder rings, are cut off. */
static void the_step_is_that_of_the_programme(void **state) {
    (void)state;
    struct programme programme = SINE;
    for (int i = 0; i < 4; i++) {
        programme.tone_hz = 220 << i;
        struct stream stream = encode(&programme);
        struct tower_aircheck_report report =
            check_paced(stream.data + (17 + i) * FRAME, 80 * FRAME, FRAME, TICK);
        assert_sound(&report);
        /* A sine's largest step is 2 A sin(pi f / rate). */
        double expected = 2 * 8000 * sin(M_PI * programme.tone_hz / 48000);
        assert_near(report.pcm.step, expected, 0.02 * expected);
        assert_near(report.pcm.peak[0], 8000, 80);
        free(stream.data);
    }
}

static void the_clock_is_measured_exactly(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    const int64_t piece_ns[] = {TICK, TICK - TICK / 4000, TICK + TICK / 1000};
    for (size_t i = 0; i < 3; i++) {
        struct tower_aircheck_report report =
            check_paced(stream.data, stream.bytes, FRAME, piece_ns[i]);
        assert_true(report.has_clock);
        double expected = ((double)TICK / (double)piece_ns[i] - 1) * 1e6;
        assert_near(report.clock_ppm, expected, 0.01);
        assert_near(report.clock_mean_ppm, expected, 0.01);
        assert_near((double)report.clock_frames, report.clock_expected_frames,
                    report.clock_expected_frames * 0.0011);
        assert_near(report.clock_resolution_ppm, 0.024 / report.clock_s * 1e6, 1e-6);
        assert_near(report.burst_s, 0.024, 0.002);
    }
    free(stream.data);
}

/* Two seconds at once and then ten frames every ten ticks. */
static void the_burst_is_taken_off_the_clock(void **state) {
    (void)state;
    struct programme programme = SINE;
    programme.seconds = 12;
    struct stream stream = encode(&programme);
    struct tower_aircheck *check = NULL;
    struct tower_aircheck_report report;
    assert_int_equal(tower_aircheck_new(&check), 0);
    size_t at = 84 * FRAME;
    tower_aircheck_feed(check, stream.data, at, 0);
    for (int64_t now_ns = 10 * TICK; at + 10 * FRAME <= stream.bytes; now_ns += 10 * TICK) {
        tower_aircheck_feed(check, stream.data + at, 10 * FRAME, now_ns);
        at += 10 * FRAME;
    }
    tower_aircheck_get_report(check, &report);
    assert_true(report.has_clock);
    assert_near(report.clock_ppm, 0, 0.01);
    assert_near(report.burst_s, 84 * 0.024, 1e-6);
    assert_true(report.clock_s > 7);
    assert_near((double)report.clock_frames, report.clock_expected_frames, 1e-6);
    tower_aircheck_free(check);
    free(stream.data);
}

/* A second in which nothing comes and then all of it at once. */
static void a_stall_made_up_for_is_no_drift_from_first_to_last(void **state) {
    (void)state;
    struct programme programme = SINE;
    programme.seconds = 6;
    struct stream stream = encode(&programme);
    struct tower_aircheck *check = NULL;
    struct tower_aircheck_report report;
    assert_int_equal(tower_aircheck_new(&check), 0);
    for (int i = 0; i < 240; i++)
        tower_aircheck_feed(check, stream.data + i * FRAME, FRAME,
                            i >= 150 && i < 192 ? 192 * TICK : i * TICK);
    tower_aircheck_get_report(check, &report);
    assert_near(report.clock_mean_ppm, 0, 0.01);
    assert_near((double)report.clock_frames, report.clock_expected_frames, 1e-6);
    assert_true(fabs(report.clock_ppm) > 1000);
    assert_int_equal(report.longest_gap_ns, 43 * TICK);
    tower_aircheck_free(check);
    free(stream.data);
}

static void too_short_a_stream_has_no_clock(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    struct tower_aircheck_report report = check_paced(stream.data, 20 * FRAME, FRAME, TICK);
    assert_false(report.has_clock);
    report = check_paced(stream.data, stream.bytes, FRAME, 0);
    assert_false(report.has_clock);
    free(stream.data);
}

static void a_gap_in_arrival_is_found(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    struct tower_aircheck *check = NULL;
    struct tower_aircheck_report report;
    assert_int_equal(tower_aircheck_new(&check), 0);
    for (int i = 0; i < 60; i++)
        tower_aircheck_feed(check, stream.data + i * FRAME, FRAME,
                            5 * S + i * TICK + (i >= 40 ? 700 * MS : 0));
    tower_aircheck_get_report(check, &report);
    assert_int_equal(report.longest_gap_ns, 700 * MS + TICK);
    assert_int_equal(report.longest_gap_at_ns, 39 * TICK);
    /* The end counts as well: nothing came for two seconds before it. */
    tower_aircheck_finish(check, 5 * S + 59 * TICK + 2700 * MS);
    tower_aircheck_get_report(check, &report);
    assert_int_equal(report.longest_gap_ns, 2 * S);
    assert_int_equal(report.longest_gap_at_ns, 59 * TICK + 700 * MS);
    assert_int_equal(report.listened_ns, 59 * TICK + 2700 * MS);
    tower_aircheck_free(check);
    free(stream.data);
}

static void a_click_is_found_at_its_place(void **state) {
    (void)state;
    struct programme programme = SINE;
    programme.click_at_s = 1.5;
    struct stream stream = encode(&programme);
    struct tower_aircheck_report report = check_stream(&stream);
    assert_sound(&report);
    double delay_s = (stream.encoder_delay + DECODER_DELAY) / 48000.0;
    assert_true(report.pcm.step > 3000);
    assert_near(report.pcm.step_at_s, 1.5 + delay_s, 0.001);
    free(stream.data);
}

static void silences_are_found(void **state) {
    (void)state;
    struct programme programme = SINE;
    programme.seconds = 4;
    programme.silence_from_s = 1;
    programme.silence_to_s = 2.5;
    struct stream stream = encode(&programme);
    struct tower_aircheck_report report = check_stream(&stream);
    double delay_s = (stream.encoder_delay + DECODER_DELAY) / 48000.0;
    assert_int_equal(report.pcm.silences, 1);
    assert_near(report.pcm.silence_total_s, 1.5, 0.05);
    assert_near(report.pcm.silence_longest_s, report.pcm.silence_total_s, 1e-9);
    assert_near(report.pcm.silence_longest_at_s, 1 + delay_s, 0.05);
    free(stream.data);

    programme.silence_to_s = 1.4;
    stream = encode(&programme);
    report = check_stream(&stream);
    assert_int_equal(report.pcm.silences, 0);
    free(stream.data);

    /* One that has not ended counts too. */
    programme.silence_to_s = 10;
    stream = encode(&programme);
    report = check_stream(&stream);
    assert_int_equal(report.pcm.silences, 1);
    assert_near(report.pcm.silence_total_s, report.audio_s - 1 - delay_s, 0.05);
    free(stream.data);
}

static void junk_between_frames_is_a_lost_sync(void **state) {
    (void)state;
    const size_t sizes[] = {1, 3, 100, 1000, 20000};
    uint8_t junk[20000];
    memset(junk, 0x55, sizeof junk);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct stream stream = encode(&SINE);
        uint64_t frames = stream.bytes / FRAME;
        splice(&stream, 50 * FRAME, 0, junk, sizes[i]);
        struct tower_aircheck_report report = check_paced(stream.data, stream.bytes, 500, TICK);
        assert_int_equal(report.lost_syncs, 1);
        assert_int_equal(report.junk_bytes, sizes[i]);
        assert_int_equal(report.frames, frames);
        assert_int_equal(report.decoded_frames, frames);
        assert_int_equal(report.decoder_errors, 1);
        assert_string_not_equal(report.decoder_message, "");
        free(stream.data);
    }
}

static void a_frame_cut_short_is_a_lost_sync(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    uint64_t frames = stream.bytes / FRAME;
    splice(&stream, 50 * FRAME + 200, 100, NULL, 0);
    struct tower_aircheck_report report = check_stream(&stream);
    assert_int_equal(report.lost_syncs, 1);
    assert_int_equal(report.junk_bytes, FRAME - 100);
    assert_int_equal(report.frames, frames - 1);
    assert_true(report.decoder_errors >= 1);
    free(stream.data);
}

/* Self-contained frames are a good splice anywhere: only the count tells. */
static void a_whole_frame_cut_out_is_missing_from_the_clock(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    uint64_t frames = stream.bytes / FRAME;
    struct tower_aircheck *check = NULL;
    struct tower_aircheck_report report;
    assert_int_equal(tower_aircheck_new(&check), 0);
    for (uint64_t i = 0; i < frames; i++)
        if (i != 60)
            tower_aircheck_feed(check, stream.data + i * FRAME, FRAME, (int64_t)i * TICK);
    tower_aircheck_finish(check, (int64_t)frames * TICK);
    tower_aircheck_get_report(check, &report);
    assert_sound(&report);
    assert_int_equal(report.frames, frames - 1);
    assert_near(report.clock_expected_frames - (double)report.clock_frames, 1, 1e-6);
    assert_true(report.clock_ppm < -1000);
    tower_aircheck_free(check);
    free(stream.data);
}

static void a_corrupted_header_is_a_lost_sync(void **state) {
    (void)state;
    /* No sync; no layer; another rate; free format. */
    static const struct {
        size_t at;
        uint8_t flip;
    } damage[] = {{0, 0x80}, {1, 0x02}, {2, 0x0c}, {2, 0x90}};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct stream stream = encode(&SINE);
        uint64_t frames = stream.bytes / FRAME;
        stream.data[50 * FRAME + damage[i].at] ^= damage[i].flip;
        struct tower_aircheck_report report = check_stream(&stream);
        assert_int_equal(report.lost_syncs, 1);
        assert_int_equal(report.junk_bytes, FRAME);
        assert_int_equal(report.frames, frames - 1);
        assert_true(report.decoder_errors >= 1);
        free(stream.data);
    }
}

/* libmpg123 conceals this one: it plays silence and reports nothing. */
static void a_frame_that_wants_more_than_it_has_is_broken(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    /* part2_3_length of the first granule begins 20 bits into the side information. */
    stream.data[50 * FRAME + 4 + 2] |= 0x0f;
    stream.data[50 * FRAME + 4 + 3] = 0xff;
    struct tower_aircheck_report report = check_stream(&stream);
    assert_int_equal(report.broken_frames, 1);
    assert_int_equal(report.lost_syncs, 0);
    free(stream.data);
}

static struct stream encode_with_reservoir(void) {
    struct programme programme = SINE;
    programme.has_reservoir = true;
    programme.tone_hz = 0;
    return encode(&programme);
}

static void a_reservoir_is_seen_and_may_be_missed_at_the_start(void **state) {
    (void)state;
    struct stream stream = encode_with_reservoir();
    struct tower_aircheck_report report = check_stream(&stream);
    assert_sound(&report);
    assert_true(report.reservoir_frames > 20);
    report =
        check_paced(stream.data + 50 * FRAME + 100, stream.bytes - 50 * FRAME - 100, FRAME, TICK);
    assert_sound(&report);
    assert_int_equal(report.leading_bytes, FRAME - 100);
    free(stream.data);
}

static void a_frame_lost_from_a_reservoir_is_found(void **state) {
    (void)state;
    struct stream stream = encode_with_reservoir();
    /* Cut one out whose successor reaches further back than it did: into what is gone. */
    size_t cut = 0;
    for (size_t at = 40 * FRAME; cut == 0 && at + 2 * FRAME < stream.bytes; at += FRAME) {
        struct tower_mp3_header here, next;
        assert_int_equal(tower_mp3_parse(stream.data + at, FRAME, &here), 0);
        assert_int_equal(tower_mp3_parse(stream.data + at + FRAME, FRAME, &next), 0);
        if (next.main_data_begin > here.main_data_begin)
            cut = at;
    }
    assert_true(cut > 0);
    splice(&stream, cut, FRAME, NULL, 0);
    struct tower_aircheck_report report = check_stream(&stream);
    assert_int_equal(report.lost_syncs, 0);
    assert_true(report.broken_frames >= 1);
    free(stream.data);
}

static void a_tag_and_part_of_a_frame_may_come_first(void **state) {
    (void)state;
    struct stream stream = encode(&SINE);
    uint64_t frames = stream.bytes / FRAME;
    uint8_t tag[310] = {'I', 'D', '3', 4, 0, 0, 0, 0, 2, 44};
    memset(tag + 10, 0xff, sizeof tag - 10);
    splice(&stream, 0, 0, tag, sizeof tag);
    struct tower_aircheck_report report = check_paced(stream.data, stream.bytes, 7, MS);
    assert_sound(&report);
    assert_int_equal(report.tag_bytes, sizeof tag);
    assert_int_equal(report.leading_bytes, 0);
    assert_int_equal(report.frames, frames);

    report = check_paced(stream.data + sizeof tag + 5, stream.bytes - sizeof tag - 5, FRAME, TICK);
    assert_sound(&report);
    assert_int_equal(report.leading_bytes, FRAME - 5);
    assert_int_equal(report.frames, frames - 1);
    free(stream.data);
}

static void every_rate_and_channel_count_works(void **state) {
    (void)state;
    static const struct {
        uint32_t rate_hz;
        unsigned channels;
        int kbps;
    } kinds[] = {{44100, 1, 64}, {44100, 2, 320}, {32000, 2, 96},
                 {24000, 2, 64}, {22050, 1, 32},  {8000, 1, 8}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct programme programme = SINE;
        programme.rate_hz = kinds[i].rate_hz;
        programme.channels = kinds[i].channels;
        programme.kbps = kinds[i].kbps;
        struct stream stream = encode(&programme);
        struct tower_aircheck_report report = check_paced(stream.data, stream.bytes, 100, MS);
        assert_sound(&report);
        assert_int_equal(report.leading_bytes, 0);
        assert_int_equal(report.rate_hz, kinds[i].rate_hz);
        assert_int_equal(report.channels, kinds[i].channels);
        assert_int_equal(report.pcm.channels, kinds[i].channels);
        assert_near(report.bitrate_bps, kinds[i].kbps * 1000.0, 600);
        assert_near(tower_pcm_meter_seconds(&report.pcm), report.audio_s, 1e-6);
        assert_true(report.audio_s >= 3 && report.audio_s < 3.4);
        assert_near(report.pcm.peak[0], 8000, 1200);
        free(stream.data);
    }
}

static void another_format_in_mid_stream_is_counted(void **state) {
    (void)state;
    struct programme programme = SINE;
    struct stream stream = encode(&programme);
    programme.rate_hz = 44100;
    struct stream other = encode(&programme);
    splice(&stream, stream.bytes, 0, other.data, other.bytes);
    struct tower_aircheck_report report = check_stream(&stream);
    assert_int_equal(report.format_changes, 1);
    assert_int_equal(report.rate_hz, 44100);
    assert_near(report.audio_s, 6.1, 0.1);
    assert_near(tower_pcm_meter_seconds(&report.pcm), report.audio_s, 0.06);
    free(other.data);
    free(stream.data);
}

static void how_it_is_cut_up_makes_no_difference(void **state) {
    (void)state;
    struct stream stream = encode_with_reservoir();
    uint8_t junk[777];
    memset(junk, 0xff, sizeof junk);
    splice(&stream, 30 * FRAME, 0, junk, sizeof junk);
    splice(&stream, 60 * FRAME, 99, NULL, 0);
    struct tower_aircheck_report whole = check_paced(stream.data, stream.bytes, stream.bytes, 0);
    const size_t pieces[] = {1, 2, 383, 4096, 8192, 8193};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct tower_aircheck_report report = check_paced(stream.data, stream.bytes, pieces[i], 0);
        assert_int_equal(report.lost_syncs, 2);
        assert_int_equal(report.lost_syncs, whole.lost_syncs);
        assert_int_equal(report.junk_bytes, whole.junk_bytes);
        assert_int_equal(report.frames, whole.frames);
        assert_int_equal(report.broken_frames, whole.broken_frames);
        assert_int_equal(report.decoder_errors, whole.decoder_errors);
        assert_memory_equal(&report.pcm, &whole.pcm, sizeof whole.pcm);
    }
    free(stream.data);
}

static void garbage_is_no_music_and_no_harm(void **state) {
    (void)state;
    enum { GARBAGE = 1 << 20 };
    uint8_t *data = malloc(GARBAGE);
    assert_non_null(data);
    for (size_t i = 0; i < GARBAGE; i++)
        data[i] = (uint8_t)next_random();
    struct tower_aircheck_report report = check_paced(data, GARBAGE, 1447, MS);
    assert_int_equal(report.frames, 0);
    assert_int_equal(report.decoded_frames, 0);
    assert_int_equal(report.leading_bytes, GARBAGE);
    memset(data, 0xff, GARBAGE);
    report = check_paced(data, GARBAGE, 1447, MS);
    assert_int_equal(report.frames, 0);
    assert_int_equal(report.leading_bytes, GARBAGE);
    free(data);
}

/* Whatever happens to a stream: every byte is accounted for, and nothing breaks. */
static void damage_of_any_kind_is_survived(void **state) {
    (void)state;
    struct stream clean = encode_with_reservoir();
    enum { FRAMES = 40 };
    uint8_t data[FRAMES * FRAME];
    for (int round = 0; round < 200; round++) {
        memcpy(data, clean.data + 20 * FRAME, sizeof data);
        size_t n_hits = 1 + next_random() % 40;
        for (size_t i = 0; i < n_hits; i++) {
            size_t at = next_random() % sizeof data;
            size_t run = 1 + next_random() % (round % 4 == 0 ? 1000 : 4);
            for (size_t j = at; j < sizeof data && j < at + run; j++)
                data[j] = (uint8_t)next_random();
        }
        struct tower_aircheck_report report =
            check_paced(data, sizeof data, 1 + next_random() % 5000, MS);
        assert_true(report.frames <= FRAMES * 8);
        assert_true(report.junk_bytes + report.leading_bytes <= sizeof data);
        if (report.junk_bytes > 0)
            assert_true(report.lost_syncs > 0 && report.decoder_errors > 0);
    }
    free(clean.data);
}

static struct tower_aircheck_run good_run(void) {
    struct stream stream = encode(&SINE);
    struct tower_aircheck_run run = {.url = "http://x/",
                                     .content_type = "audio/mpeg",
                                     .seconds = 3,
                                     .max_gap_ns = S,
                                     .first_byte_ns = 5 * MS,
                                     .report = check_stream(&stream)};
    free(stream.data);
    return run;
}

static void each_fault_alone_makes_a_bad_verdict(void **state) {
    (void)state;
    const struct tower_aircheck_run good = good_run();
    struct tower_aircheck_faults faults;
    tower_aircheck_judge(&good, &faults);
    assert_int_equal(faults.n, 0);
    for (int i = 0; i < 12; i++) {
        struct tower_aircheck_run run = good;
        struct tower_aircheck_report *report = &run.report;
        switch (i) {
        case 0:
            run.is_ended_early = true;
            run.end_words = "the server closed it";
            break;
        case 1:
            *report = (struct tower_aircheck_report){.bytes = 0};
            break;
        case 2:
            *report = (struct tower_aircheck_report){.bytes = 1000, .leading_bytes = 1000};
            break;
        case 3:
            report->lost_syncs = 1;
            break;
        case 4:
            report->broken_frames = 1;
            break;
        case 5:
            report->decoder_errors = 1;
            break;
        case 6:
            report->decoded_frames -= 3;
            break;
        case 7:
            report->format_changes = 1;
            break;
        case 8:
            report->longest_gap_ns = S + 1;
            break;
        case 9:
            run.max_step = report->pcm.step - 1;
            break;
        case 10:
            run.save_words = "No space left on device";
            break;
        default:
            report->decoded_frames = 0;
        }
        tower_aircheck_judge(&run, &faults);
        if (faults.n != 1)
            fail_msg("fault %d gave %zu lines", i, faults.n);
    }
    struct tower_aircheck_run run = good;
    run.report.longest_gap_ns = 100 * S;
    run.max_gap_ns = 0;
    run.max_step = run.report.pcm.step;
    tower_aircheck_judge(&run, &faults);
    assert_int_equal(faults.n, 0);
}

static void the_json_says_it_all(void **state) {
    (void)state;
    struct tower_aircheck_run run = good_run();
    struct tower_aircheck_faults faults;
    run.report.lost_syncs = 7;
    tower_aircheck_judge(&run, &faults);
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    assert_int_equal(tower_aircheck_print_json(file, &run, &faults), 0);
    assert_int_equal(fclose(file), 0);
    json_t *json = json_loadb(text, bytes, 0, NULL);
    assert_non_null(json);
    assert_true(json_is_false(json_object_get(json, "good")));
    assert_int_equal(json_array_size(json_object_get(json, "faults")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "lost_syncs")), 7);
    assert_int_equal(json_integer_value(json_object_get(json, "mp3_frames")), run.report.frames);
    assert_int_equal(json_array_size(json_object_get(json, "rms_dbfs")), 2);
    assert_near(json_number_value(json_object_get(json, "clock_ppm")), 0, 0.01);
    assert_near(json_number_value(json_object_get(json, "longest_gap_ms")), 24, 1e-6);
    /* --help names every key. */
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        if (!strstr(tower_aircheck_json_help, key))
            fail_msg("--help does not explain %s", key);
    }
    json_decref(json);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clean_sine_is_good),
        cmocka_unit_test(the_step_is_that_of_the_programme),
        cmocka_unit_test(the_clock_is_measured_exactly),
        cmocka_unit_test(the_burst_is_taken_off_the_clock),
        cmocka_unit_test(a_stall_made_up_for_is_no_drift_from_first_to_last),
        cmocka_unit_test(too_short_a_stream_has_no_clock),
        cmocka_unit_test(a_gap_in_arrival_is_found),
        cmocka_unit_test(a_click_is_found_at_its_place),
        cmocka_unit_test(silences_are_found),
        cmocka_unit_test(junk_between_frames_is_a_lost_sync),
        cmocka_unit_test(a_frame_cut_short_is_a_lost_sync),
        cmocka_unit_test(a_whole_frame_cut_out_is_missing_from_the_clock),
        cmocka_unit_test(a_corrupted_header_is_a_lost_sync),
        cmocka_unit_test(a_frame_that_wants_more_than_it_has_is_broken),
        cmocka_unit_test(a_reservoir_is_seen_and_may_be_missed_at_the_start),
        cmocka_unit_test(a_frame_lost_from_a_reservoir_is_found),
        cmocka_unit_test(a_tag_and_part_of_a_frame_may_come_first),
        cmocka_unit_test(every_rate_and_channel_count_works),
        cmocka_unit_test(another_format_in_mid_stream_is_counted),
        cmocka_unit_test(how_it_is_cut_up_makes_no_difference),
        cmocka_unit_test(garbage_is_no_music_and_no_harm),
        cmocka_unit_test(damage_of_any_kind_is_survived),
        cmocka_unit_test(each_fault_alone_makes_a_bad_verdict),
        cmocka_unit_test(the_json_says_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
