/* aircheck.c - judges an MP3 stream: arrival, frames, clock, sound. */
#include "aircheck.h"

#include "mp3_finder.h"
#include "mp3_side.h"
#include "tower/format.h"

#include <errno.h>
#include <mpg123.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first burst is over when, in a stretch of at least this long, no more than a quarter more
 * audio (and two frames) has arrived than time has passed. */
#define STRETCH_NS INT64_C(500000000)
#define BURST_FACTOR_NUM 5
#define BURST_FACTOR_DEN 4
#define BURST_SLACK_FRAMES 2

/* A decoder that joins a stream has not the overlap of the frame before: its first peaks and steps
 * are its own and not the station's. */
#define WARM_UP_FRAMES 2

/* In the place of junk the decoder is shown this much that is no header: it says that it is lost,
 * and has nothing in which to find a frame where there is none, and play that. */
#define JUNK_SHOWN_BYTES 4

struct stretch {
    int64_t at_ns;
    int64_t audio_ns;
    uint64_t frames;
};

/* Running least squares of how far the audio is ahead of the clock. */
struct drift {
    uint64_t n;
    double mean_x, mean_y; /* seconds */
    double sxx, sxy;
};

struct tower_aircheck {
    struct tower_mp3_finder finder;
    mpg123_handle *decoder;
    bool is_decoder_lost; /* since its last error it has decoded nothing */
    uint64_t decoded_frames;
    uint64_t decoder_errors;
    char decoder_message[128];
    struct tower_pcm_meter pcm;

    struct tower_mp3_reservoir reservoir;
    bool is_settled; /* the reservoir we could not have at the start is behind us */
    uint64_t warm_up_frames;
    uint64_t reservoir_frames;
    uint64_t broken_frames;

    /* The audio that the frames hold. */
    struct tower_mp3_header header; /* of the last frame */
    int64_t audio_base_ns;          /* where its rate began */
    int64_t audio_samples;          /* since then */
    uint64_t frame_bytes;

    /* Arrival. */
    uint64_t bytes;
    int64_t first_ns;
    int64_t last_ns;
    int64_t longest_gap_ns;
    int64_t longest_gap_at_ns;

    /* Clock. */
    bool is_burst_over;
    struct stretch begin; /* of the running stretch; once the burst is over, of the measurement */
    struct stretch end;   /* of the measurement so far */
    struct drift drift;
};

static int64_t audio_ns(const struct tower_aircheck *check) {
    if (check->header.rate_hz == 0)
        return 0;
    return check->audio_base_ns + tower_samples_to_ns(check->audio_samples, check->header.rate_hz);
}

static int64_t frame_ns(const struct tower_aircheck *check) {
    if (check->header.rate_hz == 0)
        return 0;
    return tower_samples_to_ns(check->header.samples, check->header.rate_hz);
}

static int start_decoder(struct tower_aircheck *check) {
    int error = MPG123_OK;
    check->decoder = mpg123_new(NULL, &error);
    if (!check->decoder)
        return error == MPG123_OUT_OF_MEM ? -ENOMEM : -EIO;
    mpg123_handle *decoder = check->decoder;
    /* Every frame is to come out as it is on air, and whatever is wrong is to be an error. */
    const long wanted = MPG123_QUIET | MPG123_NO_RESYNC | MPG123_IGNORE_INFOFRAME |
                        MPG123_IGNORE_STREAMLENGTH | MPG123_SKIP_ID3V2;
    if (mpg123_param(decoder, MPG123_REMOVE_FLAGS, MPG123_GAPLESS, 0) != MPG123_OK ||
        mpg123_param(decoder, MPG123_ADD_FLAGS, wanted, 0) != MPG123_OK ||
        mpg123_param(decoder, MPG123_RESYNC_LIMIT, -1, 0) != MPG123_OK ||
        mpg123_param(decoder, MPG123_INDEX_SIZE, 0, 0) != MPG123_OK ||
        mpg123_format_none(decoder) != MPG123_OK)
        return -EIO;
    const long *rates = NULL;
    size_t n_rates = 0;
    mpg123_rates(&rates, &n_rates);
    for (size_t i = 0; i < n_rates; i++)
        if (mpg123_format(decoder, rates[i], MPG123_MONO | MPG123_STEREO, MPG123_ENC_SIGNED_16) !=
            MPG123_OK)
            return -EIO;
    return mpg123_open_feed(decoder) == MPG123_OK ? 0 : -EIO;
}

static void take_format(struct tower_aircheck *check) {
    long rate_hz = 0;
    int channels = 0;
    int encoding = 0;
    if (mpg123_getformat(check->decoder, &rate_hz, &channels, &encoding) == MPG123_OK &&
        rate_hz > 0 && channels >= 1 && channels <= TOWER_PCM_METER_CHANNELS)
        tower_pcm_meter_set_format(&check->pcm, (uint32_t)rate_hz, (unsigned)channels);
}

static void take_decoded(struct tower_aircheck *check, const unsigned char *pcm, size_t bytes) {
    int16_t samples[1152 * TOWER_PCM_METER_CHANNELS];
    bool is_warm_up = check->decoded_frames < check->warm_up_frames;
    check->decoded_frames++;
    if (check->pcm.channels == 0)
        return;
    while (bytes > 0) {
        size_t n = bytes < sizeof samples ? bytes : sizeof samples;
        memcpy(samples, pcm, n);
        tower_pcm_meter_add(&check->pcm, samples, n / sizeof *samples / check->pcm.channels,
                            is_warm_up);
        pcm += n;
        bytes -= n;
    }
}

static void note_decoder_error(struct tower_aircheck *check, const char *message) {
    check->decoder_errors++;
    (void)snprintf(check->decoder_message, sizeof check->decoder_message, "%s", message);
}

/* Begin anew with nothing in hand, where going on would lead nowhere. */
static void reopen_decoder(struct tower_aircheck *check) {
    (void)mpg123_close(check->decoder);
    if (mpg123_open_feed(check->decoder) != MPG123_OK)
        note_decoder_error(check, "the decoder could not be opened again");
}

static void decode(struct tower_aircheck *check, const uint8_t *data, size_t bytes) {
    mpg123_handle *decoder = check->decoder;
    if (mpg123_feed(decoder, data, bytes) != MPG123_OK) {
        note_decoder_error(check, mpg123_strerror(decoder));
        reopen_decoder(check);
        return;
    }
    for (;;) {
        off_t number = 0;
        unsigned char *pcm = NULL;
        size_t pcm_bytes = 0;
        int result = mpg123_decode_frame(decoder, &number, &pcm, &pcm_bytes);
        if (result == MPG123_NEED_MORE)
            return;
        if (result == MPG123_NEW_FORMAT) {
            take_format(check);
        } else if (result == MPG123_OK) {
            take_decoded(check, pcm, pcm_bytes);
            if (check->is_decoder_lost)
                (void)mpg123_param(decoder, MPG123_ADD_FLAGS, MPG123_NO_RESYNC, 0);
            check->is_decoder_lost = false;
        } else {
            note_decoder_error(check, result == MPG123_ERR ? mpg123_strerror(decoder)
                                                           : mpg123_plain_strerror(result));
            if (check->is_decoder_lost) {
                reopen_decoder(check);
                return;
            }
            /* It has said that it is lost; now it is to find its way as a player's would. */
            check->is_decoder_lost = true;
            (void)mpg123_param(decoder, MPG123_REMOVE_FLAGS, MPG123_NO_RESYNC, 0);
        }
    }
}

static void check_side(struct tower_aircheck *check, const uint8_t *data,
                       const struct tower_mp3_header *header) {
    enum tower_mp3_side_result result = tower_mp3_side_check(data, header, &check->reservoir);
    if (result == TOWER_MP3_SIDE_BROKEN || (result == TOWER_MP3_SIDE_BORROWS && check->is_settled))
        check->broken_frames++;
    if (!check->is_settled) {
        check->warm_up_frames = check->finder.frames - 1 + WARM_UP_FRAMES;
        check->is_settled = result == TOWER_MP3_SIDE_GOOD;
    }
}

static void on_frame(void *user, const uint8_t *data, const struct tower_mp3_header *header) {
    struct tower_aircheck *check = user;
    if (header->rate_hz != check->header.rate_hz) {
        check->audio_base_ns = audio_ns(check);
        check->audio_samples = 0;
    }
    check->header = *header;
    check->audio_samples += header->samples;
    check->frame_bytes += header->frame_bytes;
    if (header->main_data_begin > 0)
        check->reservoir_frames++;
    check_side(check, data, header);
    decode(check, data, header->frame_bytes);
}

static void on_junk(void *user) {
    static const uint8_t no_header[JUNK_SHOWN_BYTES] = {0};
    struct tower_aircheck *check = user;
    check->reservoir.left_bytes = 0;
    decode(check, no_header, sizeof no_header);
}

int tower_aircheck_new(struct tower_aircheck **ret_check) {
    struct tower_aircheck *check = calloc(1, sizeof *check);
    if (!check)
        return -ENOMEM;
    tower_mp3_finder_init(&check->finder, &(struct tower_mp3_finder_events){
                                              .user = check, .frame = on_frame, .junk = on_junk});
    tower_pcm_meter_init(&check->pcm);
    int error = start_decoder(check);
    if (error < 0) {
        tower_aircheck_free(check);
        return error;
    }
    *ret_check = check;
    return 0;
}

void tower_aircheck_free(struct tower_aircheck *check) {
    if (!check)
        return;
    mpg123_delete(check->decoder);
    free(check);
}

static void add_drift(struct drift *drift, double x, double y) {
    /* Running means keep their precision over days, where sums of squares would not. */
    drift->n++;
    double dx = x - drift->mean_x;
    drift->mean_x += dx / (double)drift->n;
    drift->mean_y += (y - drift->mean_y) / (double)drift->n;
    drift->sxx += dx * (x - drift->mean_x);
    drift->sxy += dx * (y - drift->mean_y);
}

static double to_s(int64_t ns) {
    return (double)ns / (double)TOWER_NS_PER_S;
}

static void watch_clock(struct tower_aircheck *check, int64_t now_ns) {
    struct stretch now = {
        .at_ns = now_ns, .audio_ns = audio_ns(check), .frames = check->finder.frames};
    if (!check->is_burst_over) {
        int64_t passed_ns = now_ns - check->begin.at_ns;
        int64_t arrived_ns = now.audio_ns - check->begin.audio_ns;
        if (passed_ns < STRETCH_NS)
            return;
        check->begin = now;
        check->is_burst_over =
            arrived_ns > 0 && arrived_ns <= passed_ns / BURST_FACTOR_DEN * BURST_FACTOR_NUM +
                                                BURST_SLACK_FRAMES * frame_ns(check);
        if (!check->is_burst_over)
            return;
    }
    check->end = now;
    double x = to_s(now_ns - check->begin.at_ns);
    add_drift(&check->drift, x, to_s(now.audio_ns - check->begin.audio_ns) - x);
}

static void watch_gap(struct tower_aircheck *check, int64_t now_ns) {
    int64_t gap_ns = now_ns - check->last_ns;
    if (gap_ns > check->longest_gap_ns) {
        check->longest_gap_ns = gap_ns;
        check->longest_gap_at_ns = check->last_ns - check->first_ns;
    }
    check->last_ns = now_ns;
}

void tower_aircheck_feed(struct tower_aircheck *check, const void *data, size_t bytes,
                         int64_t now_ns) {
    if (check->bytes == 0) {
        check->first_ns = now_ns;
        check->last_ns = now_ns;
        check->begin.at_ns = now_ns;
    }
    check->bytes += bytes;
    watch_gap(check, now_ns);
    tower_mp3_finder_feed(&check->finder, data, bytes);
    watch_clock(check, now_ns);
}

void tower_aircheck_finish(struct tower_aircheck *check, int64_t now_ns) {
    tower_mp3_finder_finish(&check->finder);
    if (check->bytes > 0)
        watch_gap(check, now_ns);
}

static void report_clock(const struct tower_aircheck *check, struct tower_aircheck_report *report) {
    const struct drift *drift = &check->drift;
    if (!check->is_burst_over || drift->n < 2 || drift->sxx <= 0)
        return;
    report->has_clock = true;
    report->burst_s = to_s(check->begin.audio_ns - (check->begin.at_ns - check->first_ns));
    report->clock_ppm = drift->sxy / drift->sxx * 1e6;
    report->clock_s = to_s(check->end.at_ns - check->begin.at_ns);
    report->clock_resolution_ppm = to_s(frame_ns(check)) / report->clock_s * 1e6;
    report->clock_frames = check->end.frames - check->begin.frames;
    report->clock_mean_ppm =
        (to_s(check->end.audio_ns - check->begin.audio_ns) / report->clock_s - 1) * 1e6;
    report->clock_expected_frames = report->clock_s / to_s(frame_ns(check));
}

void tower_aircheck_get_report(const struct tower_aircheck *check,
                               struct tower_aircheck_report *ret_report) {
    struct tower_aircheck_report report = {
        .bytes = check->bytes,
        .listened_ns = check->last_ns - check->first_ns,
        .longest_gap_ns = check->longest_gap_ns,
        .longest_gap_at_ns = check->longest_gap_at_ns,
        .frames = check->finder.frames,
        .audio_s = to_s(audio_ns(check)),
        .rate_hz = check->header.rate_hz,
        .channels = check->header.channels,
        .lost_syncs = check->finder.lost_syncs,
        .junk_bytes = check->finder.junk_bytes,
        .leading_bytes = check->finder.leading_bytes,
        .tag_bytes = check->finder.tag_bytes,
        .format_changes = check->finder.format_changes,
        .reservoir_frames = check->reservoir_frames,
        .broken_frames = check->broken_frames,
        .decoded_frames = check->decoded_frames,
        .decoder_errors = check->decoder_errors,
        .pcm = check->pcm,
    };
    if (report.audio_s > 0)
        report.bitrate_bps = (double)check->frame_bytes * 8 / report.audio_s;
    memcpy(report.decoder_message, check->decoder_message, sizeof report.decoder_message);
    report_clock(check, &report);
    *ret_report = report;
}
