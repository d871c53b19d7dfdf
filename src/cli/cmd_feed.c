/* cmd_feed.c - `tower feed`: source, converter, socket, one thread. */
#include "cmd_feed.h"

#include "feed_display.h"
#include "feed_link.h"
#include "feed_live.h"
#include "feed_options.h"
#include "feed_title.h"
#include "loudness_cache.h"
#include "playlist_source.h"
#include "program.h"
#include "tower/converter.h"
#include "tower/levels.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* Chunks of the mock and of stdin: one frame. */
#define CHUNK_MS 24
#define MS_PER_S 1000

struct feed {
    const struct tower_feed_options *options;
    struct tower_clock *clock;
    struct tower_source *source;
    struct tower_converter *converter;
    void *chunk;
    struct tower_feed_live live; /* zeros unless the source is live */
    struct tower_feed_link link;
    struct tower_feed_display display;
    struct tower_levels levels;    /* since the line was last drawn */
    double peak_dbfs;              /* as shown */
    int64_t round_samples;         /* read since the source began, or began again */
    char *title;                   /* of every round, or of the file; NULL: none is sent */
    char *title_before;            /* which the link may still borrow */
    struct tower_playlist_now now; /* of a playlist: what was read last */
    /* Where each round begins in what is delivered, though the converter lags behind the source. */
    int64_t read_samples;     /* in all rounds */
    int64_t passed_samples;   /* converted, at 48 kHz */
    int64_t title_at_samples; /* of them: where the title is due; -1: it has been given */
    int64_t dropped_samples;  /* of a live source, at 48 kHz */
};

/* ---- signals ---- */

static volatile sig_atomic_t stop_signal;

static void note_stop(int signal_number) {
    stop_signal = signal_number;
}

static void note_tick(int signal_number) {
    (void)signal_number;
}

/* Nothing is restarted after a signal: every wait ends with -EINTR, and whoever waited looks around
 * and goes on. The tick does so five times a second, so that the line is drawn while stdin is mute,
 * and so that a stop that arrives just before a wait is seen soon. It measures nothing: that is the
 * clock's. */
static void catch_signals(void) {
    const struct sigaction stop = {.sa_handler = note_stop};
    const struct sigaction tick = {.sa_handler = note_tick};
    struct sigaction hangup;
    (void)sigaction(SIGINT, &stop, NULL);
    (void)sigaction(SIGTERM, &stop, NULL);
    /* Under nohup it is ignored, and stays so. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &stop, NULL);
    (void)sigaction(SIGALRM, &tick, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    const struct timeval period = {.tv_usec = TOWER_FEED_DRAW_NS / 1000};
    const struct itimerval timer = {.it_interval = period, .it_value = period};
    (void)setitimer(ITIMER_REAL, &timer, NULL);
}

static void stop_ticks(void) {
    const struct itimerval never = {0};
    (void)setitimer(ITIMER_REAL, &never, NULL);
}

static bool is_stopped(void) {
    return stop_signal != 0;
}

/* ---- looking around ---- */

static void draw(struct feed *feed, int64_t now_ns) {
    const struct tower_source_info *info = &feed->source->info;
    uint16_t peak = feed->levels.peak[0];
    if (feed->levels.peak[1] > peak)
        peak = feed->levels.peak[1];
    bool is_on_air = feed->link.state == TOWER_FEED_ON_AIR;
    struct tower_clock_match_view clock = {0};
    if (info->is_live)
        tower_clock_match_view(&feed->live.clock.match, &clock);
    /* A file goes out in bursts: between them, what was seen last stands. */
    if (feed->levels.n_samples > 0 || !is_on_air)
        feed->peak_dbfs = tower_levels_dbfs(peak);
    bool is_playlist = feed->options->kind == TOWER_FEED_PLAYLIST;
    int64_t position_samples = is_playlist ? feed->now.position_samples : feed->round_samples;
    int64_t length_samples = info->length_samples;
    if (is_playlist)
        length_samples = feed->now.turn > 0 ? feed->now.length_samples : -1;
    const struct tower_feed_view view = {
        .position_ns = tower_samples_to_ns(position_samples, info->rate_hz),
        .length_ns = length_samples >= 0 ? tower_samples_to_ns(length_samples, info->rate_hz) : -1,
        .peak_dbfs = feed->peak_dbfs,
        .state = feed->source->live.is_away ? "no device" : tower_feed_link_state_name(&feed->link),
        .has_clock = clock.is_known,
        .clock_ppm = clock.ppm,
        .clock_spread_ppm = clock.spread_ppm,
        .correction_ppm = clock.correction_ppm,
        .n_overruns = feed->source->live.n_overruns,
        .ahead_ns = is_on_air && !info->is_live ? tower_feed_link_ahead_ns(&feed->link) : -1,
        .dropped_ns = tower_samples_to_ns(feed->dropped_samples, TOWER_RATE_HZ),
        .number = feed->now.number,
        .n_files = feed->now.n_files,
        .name = is_playlist ? feed->title : NULL,
    };
    tower_feed_display_draw(&feed->display, now_ns, &view);
    tower_levels_reset(&feed->levels);
}

static void look_around(struct feed *feed) {
    if (feed->source->info.is_live)
        tower_feed_live_look(&feed->live);
    tower_feed_link_step(&feed->link);
    int64_t now_ns = tower_clock_now_ns(feed->clock);
    if (tower_feed_display_is_due(&feed->display, now_ns))
        draw(feed, now_ns);
}

/* ---- delivering ---- */

/* Write all of it, however long that takes and however often the transmitter goes away. */
static void deliver_all(struct feed *feed, const int16_t *samples, size_t n_samples) {
    while (n_samples > 0 && !is_stopped()) {
        look_around(feed);
        if (!tower_feed_link_is_up(&feed->link)) {
            tower_feed_link_wait(&feed->link);
            continue;
        }
        size_t n = tower_feed_link_write(&feed->link, samples, n_samples);
        samples += n * TOWER_CHANNELS;
        n_samples -= n;
    }
}

/* Write it now or not at all. What was begun is finished, not to leave half a sample behind. */
static void deliver_now(struct feed *feed, const int16_t *samples, size_t n_samples) {
    struct tower_clock_report report;
    look_around(feed);
    if (tower_feed_live_report(&feed->live, tower_clock_now_ns(feed->clock), &report))
        tower_feed_link_set_clock(&feed->link, &report);
    bool has_room = tower_feed_link_is_up(&feed->link) && tower_feed_link_has_room(&feed->link);
    while (has_room && n_samples > 0 && tower_feed_link_is_up(&feed->link) && !is_stopped()) {
        size_t n = tower_feed_link_write(&feed->link, samples, n_samples);
        samples += n * TOWER_CHANNELS;
        n_samples -= n;
    }
    feed->dropped_samples += (int64_t)n_samples;
}

static void deliver(struct feed *feed, const int16_t *samples, size_t n_samples) {
    tower_levels_add(&feed->levels, samples, n_samples);
    if (feed->source->info.is_live)
        deliver_now(feed, samples, n_samples);
    else
        deliver_all(feed, samples, n_samples);
}

/* Fill the last frame of this connection: one that is not whole would not be heard. */
static void pad_last_frame(struct feed *feed) {
    static const int16_t silence[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
    if (!tower_feed_link_is_up(&feed->link))
        return;
    uint64_t over = tower_producer_written(feed->link.producer) % feed->options->frame_samples;
    size_t left = over > 0 ? feed->options->frame_samples - (size_t)over : 0;
    while (left > 0 && tower_feed_link_is_up(&feed->link)) {
        /* Somebody who has asked for the end does not wait for another producer's. */
        if (is_stopped() && !tower_feed_link_has_room(&feed->link))
            return;
        left -= tower_feed_link_write(&feed->link, silence, left);
        if (left > 0)
            look_around(feed);
    }
}

/* ---- the way of a chunk ---- */

static int fail(struct feed *feed, const char *what, const char *why) {
    tower_feed_display_say(&feed->display, "%s: %s: %s", feed->options->name, what, why);
    return TOWER_EXIT_FAILED;
}

/* A round begins: what is read next is the first of it. A title that is still due is the same. */
static void begin_round(struct feed *feed) {
    int64_t rate_hz = feed->source->info.rate_hz;
    feed->round_samples = 0;
    if (feed->title && feed->title_at_samples < 0)
        feed->title_at_samples = (feed->read_samples * TOWER_RATE_HZ + rate_hz / 2) / rate_hz;
}

static void deliver_with_title(struct feed *feed, const int16_t *samples, size_t n_samples) {
    int64_t before_title = feed->title_at_samples - feed->passed_samples;
    feed->passed_samples += (int64_t)n_samples;
    if (feed->title_at_samples >= 0 && before_title < (int64_t)n_samples) {
        size_t n = before_title > 0 ? (size_t)before_title : 0;
        deliver(feed, samples, n);
        tower_feed_link_set_title(&feed->link, feed->title);
        feed->title_at_samples = -1;
        samples += n * TOWER_CHANNELS;
        n_samples -= n;
    }
    deliver(feed, samples, n_samples);
}

/* Convert and deliver; `chunk` NULL: what the converter still holds. Returns -1 to go on. */
static int pass_on(struct feed *feed, const void *chunk, size_t n_samples) {
    const int16_t *converted;
    size_t n_converted;
    int error =
        tower_converter_process(feed->converter, chunk, n_samples, &converted, &n_converted);
    if (error < 0)
        return fail(feed, "converting it to 48 kHz stereo", strerror(-error));
    if (feed->source->info.is_live && chunk) {
        error = tower_feed_live_match(&feed->live, tower_clock_now_ns(feed->clock), n_samples,
                                      &converted, &n_converted);
        if (error < 0)
            return fail(feed, "matching its clock", strerror(-error));
    }
    deliver_with_title(feed, converted, n_converted);
    return -1;
}

/* The source has ended. Returns -1 to go on. */
static int end_round(struct feed *feed) {
    if (feed->options->kind == TOWER_FEED_FILE && feed->round_samples == 0)
        return fail(feed, "there is no audio in it", "name a file that has some");
    if (feed->options->is_looped && feed->options->kind != TOWER_FEED_PLAYLIST) {
        int error = tower_source_rewind(feed->source);
        if (error < 0)
            return fail(feed, "cannot begin again",
                        error == -ENOTSUP ? "it comes only once; leave out --loop"
                                          : strerror(-error));
        begin_round(feed);
        return -1;
    }
    int exit_code = pass_on(feed, NULL, 0);
    if (exit_code < 0 && !is_stopped())
        exit_code = TOWER_EXIT_OK;
    return exit_code;
}

static int fail_reading(struct feed *feed, int error) {
    const char *why = *feed->source->error ? feed->source->error : strerror(-error);
    char where[64];
    if (feed->options->kind == TOWER_FEED_PLAYLIST)
        return fail(feed, "nothing to play", why);
    (void)snprintf(where, sizeof where, "reading failed after %.1f s, what came before was sent",
                   (double)feed->round_samples / feed->source->info.rate_hz);
    (void)pass_on(feed, NULL, 0);
    return fail(feed, where, why);
}

/* Of a playlist: what was read is the first of another file, or goes on with the present one.
 * Returns -1 to go on. */
static int note_file(struct feed *feed) {
    uint64_t turn = feed->now.turn;
    tower_playlist_source_get_now(feed->source, &feed->now);
    if (feed->now.turn == turn)
        return -1;
    char *title;
    int error = tower_feed_title_new(feed->options, feed->now.path, feed->now.artist,
                                     feed->now.title, &title);
    if (error < 0)
        return fail(feed, "its title", strerror(-error));
    free(feed->title_before);
    feed->title_before = feed->title;
    feed->title = title;
    begin_round(feed);
    return -1;
}

/* Returns the exit code, or -1 if a signal ended it. */
static int run(struct feed *feed) {
    size_t sample_bytes = feed->source->info.channels * sizeof(int16_t);
    int exit_code = -1;
    while (exit_code < 0 && !is_stopped()) {
        size_t bytes;
        int got = tower_source_read(feed->source, feed->chunk, &bytes);
        if (got > 0 && feed->options->kind == TOWER_FEED_PLAYLIST)
            exit_code = note_file(feed);
        if (exit_code >= 0)
            break;
        if (got > 0) {
            feed->round_samples += (int64_t)(bytes / sample_bytes);
            feed->read_samples += (int64_t)(bytes / sample_bytes);
            exit_code = pass_on(feed, feed->chunk, bytes / sample_bytes);
        } else if (got == 0) {
            exit_code = end_round(feed);
        } else if (got == -EINTR) {
            look_around(feed);
        } else if (!is_stopped()) {
            /* Ctrl-C on a terminal ends an ffmpeg child as well, which is no failure. */
            exit_code = fail_reading(feed, got);
        }
    }
    pad_last_frame(feed);
    return exit_code;
}

/* ---- opening ---- */

static void say_of_file(void *context, const char *what, const char *why) {
    struct feed *feed = context;
    tower_feed_display_say(&feed->display, "%s: %s", what, why);
}

static int open_playlist(struct feed *feed, char *why, size_t why_bytes) {
    const struct tower_feed_options *options = feed->options;
    char *cache = options->is_levelled ? tower_loudness_cache_path() : NULL;
    int error =
        tower_source_open_playlist(feed->clock,
                                   &(struct tower_playlist_config){
                                       .path = options->path,
                                       .is_paced = options->is_paced,
                                       .is_looped = options->is_looped,
                                       .is_shuffled = options->is_shuffled,
                                       .seed = options->seed,
                                       .reads_tags = options->sends_title && !options->title,
                                       .crossfade_ns = options->crossfade_ns,
                                       .is_levelled = options->is_levelled,
                                       .target_lufs = options->target_lufs,
                                       .cache = cache,
                                       .say = say_of_file,
                                       .context = feed,
                                   },
                                   &feed->source, why, why_bytes);
    free(cache);
    return error;
}

static int open_source(struct feed *feed) {
    const struct tower_feed_options *options = feed->options;
    size_t chunk_samples = options->rate_hz * CHUNK_MS / MS_PER_S;
    char why[512] = "";
    int error = 0;
    switch (options->kind) {
    case TOWER_FEED_MOCK:
        error = tower_source_open_mock(feed->clock,
                                       &(struct tower_mock_config){
                                           .content = options->content,
                                           .rate_hz = options->rate_hz,
                                           .channels = options->channels,
                                           .chunk_samples = chunk_samples,
                                       },
                                       &feed->source);
        break;
    case TOWER_FEED_FILE:
        error = tower_source_open_file(feed->clock,
                                       &(struct tower_file_config){
                                           .path = options->path,
                                           .is_paced = options->is_paced,
                                           .reads_tags = options->sends_title && !options->title,
                                       },
                                       &feed->source, why, sizeof why);
        break;
    case TOWER_FEED_PLAYLIST:
        error = open_playlist(feed, why, sizeof why);
        break;
    case TOWER_FEED_STDIN:
        error = tower_source_open_raw(
            &(struct tower_raw_config){
                .fd = STDIN_FILENO,
                .rate_hz = options->rate_hz,
                .channels = options->channels,
                .chunk_samples = chunk_samples,
            },
            &feed->source);
        break;
    case TOWER_FEED_MIC:
        error = tower_source_open_mic(feed->clock,
                                      &(struct tower_mic_config){
                                          .device = options->device,
                                          .rate_hz = options->rate_hz,
                                          .channels = options->channels,
                                          .chunk_samples = chunk_samples,
                                      },
                                      &feed->source, why, sizeof why);
        break;
    }
    if (error < 0)
        tower_feed_display_say(&feed->display, "%s: %s", options->name,
                               *why ? why : strerror(-error));
    return error;
}

static int open_feed(struct feed *feed) {
    int error = open_source(feed);
    if (error < 0)
        return error;
    const struct tower_source_info *info = &feed->source->info;
    error = tower_converter_new(info->rate_hz, info->channels, &feed->converter);
    if (error == 0 && info->is_live)
        error = tower_feed_live_init(&feed->live, feed->source, &feed->display);
    if (error == 0 && !(feed->chunk = malloc(tower_source_chunk_bytes(feed->source))))
        error = -ENOMEM;
    bool is_file = feed->options->kind == TOWER_FEED_FILE;
    if (error == 0 && feed->options->kind != TOWER_FEED_PLAYLIST)
        error = tower_feed_title_new(feed->options, is_file ? feed->options->path : NULL,
                                     info->artist, info->title, &feed->title);
    if (error < 0)
        (void)fail(feed, "cannot convert it to 48 kHz stereo", strerror(-error));
    return error;
}

static void print_device(void *arg, const char *name, const char *description) {
    (void)arg;
    (void)printf("mic:%-40s %s\n", name, description);
}

/* Where there are none that is no failure. */
static int list_devices(void) {
    if (tower_mic_list(print_device, NULL) == 0)
        (void)fputs("tower feed: nothing here can be captured from\n", stderr);
    return fflush(stdout) == 0 ? TOWER_EXIT_OK : TOWER_EXIT_FAILED;
}

int tower_cmd_feed(int argc, char **argv) {
    struct tower_feed_options options;
    int exit_code = tower_feed_options_read(&options, argc, argv);
    if (exit_code >= 0)
        return exit_code;
    if (options.lists_devices)
        return list_devices();
    struct feed feed = {.options = &options, .clock = tower_clock_real(), .title_at_samples = -1};
    tower_feed_display_init(&feed.display, options.name);
    tower_feed_link_init(&feed.link, feed.clock, options.socket_path, &options.identity,
                         &feed.display);
    tower_levels_reset(&feed.levels);
    exit_code = TOWER_EXIT_FAILED;
    int error = open_feed(&feed);
    if (error == -ENOENT && options.kind == TOWER_FEED_MIC)
        exit_code = TOWER_EXIT_USAGE;
    if (error == 0) {
        catch_signals();
        begin_round(&feed);
        exit_code = run(&feed);
        if (feed.display.is_terminal)
            draw(&feed, tower_clock_now_ns(feed.clock));
        stop_ticks();
    }
    bool is_of_files = options.kind == TOWER_FEED_FILE || options.kind == TOWER_FEED_PLAYLIST;
    bool is_cut_short = is_of_files && !options.is_looped;
    if (exit_code < 0)
        exit_code = is_cut_short ? TOWER_EXIT_FAILED : TOWER_EXIT_OK;
    tower_feed_link_done(&feed.link);
    tower_feed_live_done(&feed.live);
    tower_feed_display_done(&feed.display);
    tower_converter_free(feed.converter);
    tower_source_close(feed.source);
    free(feed.title);
    free(feed.title_before);
    free(feed.chunk);
    return exit_code;
}
