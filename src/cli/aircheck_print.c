/* aircheck_print.c - says what an aircheck found. */
#include "aircheck_print.h"

#include "tower/levels.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

/* Enough for a sample's place in days of sound, and no more than it is worth. */
#define REAL_DIGITS 12

/* A decoder may hold back, or make of the first frames, this much. */
#define DECODED_SLACK_FRAMES 2

const char tower_aircheck_json_help[] =
    "The JSON object (times count from the first byte, or in the decoded sound where said):\n"
    "  url, content_type         what was listened to\n"
    "  good, faults              the verdict, and each reason against it in words\n"
    "  seconds                   asked for; 0: until interrupted\n"
    "  listened_s                from the first byte to the end\n"
    "  first_byte_ms             from the request to the first byte; null: none came\n"
    "  ended_early               the stream ended before the time was up\n"
    "  bytes                     received, without the HTTP header\n"
    "  mp3_frames, audio_s       whole frames in them, and how long these last\n"
    "  rate_hz, channels         of the last frame\n"
    "  bitrate_bps               mean\n"
    "  clock_ppm                 frames against the wall clock, the first burst taken off, by the\n"
    "                            trend of all arrivals; above 0: more audio than time; null: too\n"
    "                            short to tell\n"
    "  clock_mean_ppm            the same by the first and last arrival only: a stall that was\n"
    "                            made up for does not count, jitter does\n"
    "  clock_resolution_ppm      what one frame more or less makes\n"
    "  clock_s, clock_frames     measured for this long, and the frames that came in it\n"
    "  clock_expected_frames     what should have come\n"
    "  burst_s                   how far ahead of the clock the first burst was\n"
    "  longest_gap_ms, longest_gap_at_s    in which nothing arrived\n"
    "  lost_syncs, junk_bytes    times something else stood where a frame had to begin, and how\n"
    "                            much of it there was\n"
    "  leading_bytes, tag_bytes  before the first frame: part of a frame; an ID3 tag\n"
    "  format_changes            of rate, channels or MPEG version\n"
    "  reservoir_frames          frames that are not self-contained\n"
    "  broken_frames             frames without the data they need: a decoder plays silence\n"
    "  decoded_frames, decoder_errors, decoder_message     what libmpg123 said\n"
    "  silences, silence_total_s, silence_longest_s, silence_longest_at_s\n"
    "                            below -60 dBFS for over 0.5 s, in the decoded sound\n"
    "  rms_dbfs, peak_dbfs, peak, dc       for each channel; peak and dc of 32768\n"
    "  largest_step, largest_step_channel, largest_step_at_s\n"
    "                            between neighbouring samples, 0 to 65535, in the decoded sound;\n"
    "                            in the first two frames steps and peaks are the decoder's own\n"
    "                            and not measured\n";

static double to_ms(int64_t ns) {
    return (double)ns / 1e6;
}

static double to_s(int64_t ns) {
    return (double)ns / 1e9;
}

static void add_fault(struct tower_aircheck_faults *faults, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_fault(struct tower_aircheck_faults *faults, const char *format, ...) {
    if (faults->n == TOWER_AIRCHECK_FAULTS_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(faults->lines[faults->n], sizeof faults->lines[0], format, arguments);
    va_end(arguments);
    faults->n++;
}

static const char *times(uint64_t n) {
    return n == 1 ? "time" : "times";
}

void tower_aircheck_judge(const struct tower_aircheck_run *run,
                          struct tower_aircheck_faults *ret_faults) {
    const struct tower_aircheck_report *report = &run->report;
    struct tower_aircheck_faults faults = {.n = 0};
    if (run->is_ended_early)
        add_fault(&faults, "the stream ended early, after %.1f s: %s", to_s(report->listened_ns),
                  run->end_words);
    if (report->bytes == 0)
        add_fault(&faults, "nothing arrived");
    else if (report->frames == 0)
        add_fault(&faults, "there is no MP3 in what arrived (%s)",
                  run->content_type[0] ? run->content_type : "no content type given");
    else if (report->decoded_frames == 0)
        add_fault(&faults, "nothing could be decoded");
    if (report->lost_syncs > 0)
        add_fault(&faults, "the sync was lost %" PRIu64 " %s, %" PRIu64 " bytes of junk",
                  report->lost_syncs, times(report->lost_syncs), report->junk_bytes);
    if (report->broken_frames > 0)
        add_fault(&faults, "%" PRIu64 " frames lack data they need", report->broken_frames);
    if (report->decoder_errors > 0)
        add_fault(&faults, "the decoder failed %" PRIu64 " %s, last: %s", report->decoder_errors,
                  times(report->decoder_errors), report->decoder_message);
    else if (report->decoded_frames > 0 &&
             report->decoded_frames + DECODED_SLACK_FRAMES < report->frames)
        add_fault(&faults, "the decoder made %" PRIu64 " frames of %" PRIu64,
                  report->decoded_frames, report->frames);
    if (report->format_changes > 0)
        add_fault(&faults, "the format changed %" PRIu64 " %s", report->format_changes,
                  times(report->format_changes));
    if (run->max_gap_ns > 0 && report->longest_gap_ns > run->max_gap_ns)
        add_fault(&faults, "nothing arrived for %.0f ms, %.1f s after the first byte (limit %.0f)",
                  to_ms(report->longest_gap_ns), to_s(report->longest_gap_at_ns),
                  to_ms(run->max_gap_ns));
    if (run->max_step > 0 && report->pcm.step > run->max_step)
        add_fault(&faults, "a step of %" PRIu32 " between samples at %.4f s (limit %" PRIu32 ")",
                  report->pcm.step, report->pcm.step_at_s, run->max_step);
    if (run->save_words)
        add_fault(&faults, "what arrived could not be saved: %s", run->save_words);
    *ret_faults = faults;
}

static const char *channel_name(unsigned channel, unsigned channels) {
    if (channels == 1)
        return "mono";
    return channel == 0 ? "left" : "right";
}

static double peak_dbfs(const struct tower_pcm_meter *pcm, unsigned channel) {
    return tower_levels_dbfs(pcm->peak[channel]);
}

static double rms_dbfs(const struct tower_pcm_meter *pcm, unsigned channel) {
    return tower_levels_dbfs(tower_pcm_meter_rms(pcm, channel));
}

static void print_label(FILE *file, const char *label) {
    (void)fprintf(file, "%-14s", label);
}

static void print_sound(FILE *file, const struct tower_aircheck_report *report) {
    const struct tower_pcm_meter *pcm = &report->pcm;
    print_label(file, "silence");
    if (pcm->silences == 0)
        (void)fprintf(file, "none over 0.5 s\n");
    else
        (void)fprintf(file, "%" PRIu64 " %s, %.2f s in all, the longest %.2f s at %.2f s\n",
                      pcm->silences, times(pcm->silences), pcm->silence_total_s,
                      pcm->silence_longest_s, pcm->silence_longest_at_s);
    for (unsigned channel = 0; channel < pcm->channels; channel++) {
        print_label(file, channel == 0 ? "level" : "");
        (void)fprintf(file, "%-5s RMS %6.1f dBFS, peak %6.1f dBFS, DC %+.1f\n",
                      channel_name(channel, pcm->channels), rms_dbfs(pcm, channel),
                      peak_dbfs(pcm, channel), tower_pcm_meter_dc(pcm, channel));
    }
    print_label(file, "largest step");
    (void)fprintf(file, "%" PRIu32 " at %.4f s (%s)\n", pcm->step, pcm->step_at_s,
                  channel_name(pcm->step_channel, pcm->channels));
}

int tower_aircheck_print_words(FILE *file, const struct tower_aircheck_run *run,
                               const struct tower_aircheck_faults *faults) {
    const struct tower_aircheck_report *report = &run->report;
    print_label(file, "address");
    (void)fprintf(file, "%s (%s)\n", run->url,
                  run->content_type[0] ? run->content_type : "no content type");
    print_label(file, "listened");
    (void)fprintf(file, "%.2f s, %" PRIu64 " bytes", to_s(report->listened_ns), report->bytes);
    if (run->first_byte_ns >= 0)
        (void)fprintf(file, ", the first after %.0f ms", to_ms(run->first_byte_ns));
    (void)fprintf(file, "\n");
    print_label(file, "frames");
    (void)fprintf(file, "%" PRIu64, report->frames);
    if (report->frames > 0)
        (void)fprintf(file, " of MP3, %.3f s of audio, %.0f kbit/s, %" PRIu32 " Hz %s",
                      report->audio_s, report->bitrate_bps / 1000, report->rate_hz,
                      report->channels == 1 ? "mono" : "stereo");
    (void)fprintf(file, "\n");
    print_label(file, "clock");
    if (report->has_clock)
        (void)fprintf(file,
                      "%+.0f ppm, first to last %+.0f ppm (one frame is %.0f ppm)\n%-14s%" PRIu64
                      " frames in %.2f s, expected %.1f, after a burst of %.2f s\n",
                      report->clock_ppm, report->clock_mean_ppm, report->clock_resolution_ppm, "",
                      report->clock_frames, report->clock_s, report->clock_expected_frames,
                      report->burst_s);
    else
        (void)fprintf(file, "too short to tell\n");
    print_label(file, "longest gap");
    (void)fprintf(file, "%.0f ms, %.2f s after the first byte\n", to_ms(report->longest_gap_ns),
                  to_s(report->longest_gap_at_ns));
    print_label(file, "sync");
    (void)fprintf(file,
                  "lost %" PRIu64 " %s, %" PRIu64 " bytes of junk, %" PRIu64
                  " bytes before the first frame\n",
                  report->lost_syncs, times(report->lost_syncs), report->junk_bytes,
                  report->leading_bytes + report->tag_bytes);
    print_label(file, "decoder");
    (void)fprintf(file,
                  "%" PRIu64 " frames, %" PRIu64 " errors, %" PRIu64 " broken frames, %" PRIu64
                  " not self-contained\n",
                  report->decoded_frames, report->decoder_errors, report->broken_frames,
                  report->reservoir_frames);
    if (report->pcm.samples > 0)
        print_sound(file, report);
    print_label(file, "verdict");
    if (faults->n == 0)
        (void)fprintf(file, "good\n");
    for (size_t i = 0; i < faults->n; i++) {
        if (i > 0)
            print_label(file, "");
        (void)fprintf(file, "bad: %s\n", faults->lines[i]);
    }
    return fflush(file) == 0 && !ferror(file) ? 0 : -EIO;
}

static int set(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

/* Thousandths are enough of a second or a dB. */
static json_t *rounded(double value) {
    return json_real(round(value * 1000) / 1000);
}

static json_t *count(uint64_t n) {
    return json_integer((json_int_t)n);
}

static int set_clock(json_t *object, const struct tower_aircheck_report *report) {
    bool has = report->has_clock;
    int error = set(object, "clock_ppm", has ? rounded(report->clock_ppm) : json_null());
    error |= set(object, "clock_mean_ppm", has ? rounded(report->clock_mean_ppm) : json_null());
    error |= set(object, "clock_resolution_ppm",
                 has ? rounded(report->clock_resolution_ppm) : json_null());
    error |= set(object, "clock_s", has ? rounded(report->clock_s) : json_null());
    error |= set(object, "clock_frames", has ? count(report->clock_frames) : json_null());
    error |= set(object, "clock_expected_frames",
                 has ? rounded(report->clock_expected_frames) : json_null());
    error |= set(object, "burst_s", has ? rounded(report->burst_s) : json_null());
    return error;
}

static int set_sound(json_t *object, const struct tower_pcm_meter *pcm) {
    json_t *rms = json_array();
    json_t *peak_db = json_array();
    json_t *peak = json_array();
    json_t *dc = json_array();
    int error = 0;
    for (unsigned channel = 0; channel < pcm->channels; channel++) {
        error |= json_array_append_new(rms, rounded(rms_dbfs(pcm, channel)));
        error |= json_array_append_new(peak_db, rounded(peak_dbfs(pcm, channel)));
        error |= json_array_append_new(peak, count(pcm->peak[channel]));
        error |= json_array_append_new(dc, rounded(tower_pcm_meter_dc(pcm, channel)));
    }
    error |= set(object, "rms_dbfs", rms);
    error |= set(object, "peak_dbfs", peak_db);
    error |= set(object, "peak", peak);
    error |= set(object, "dc", dc);
    error |= set(object, "silences", count(pcm->silences));
    error |= set(object, "silence_total_s", rounded(pcm->silence_total_s));
    error |= set(object, "silence_longest_s", rounded(pcm->silence_longest_s));
    error |= set(object, "silence_longest_at_s", rounded(pcm->silence_longest_at_s));
    error |= set(object, "largest_step", count(pcm->step));
    error |= set(object, "largest_step_channel", count(pcm->step_channel));
    error |= set(object, "largest_step_at_s", json_real(pcm->step_at_s));
    return error;
}

static int set_run(json_t *object, const struct tower_aircheck_run *run,
                   const struct tower_aircheck_faults *faults) {
    json_t *lines = json_array();
    int error = 0;
    for (size_t i = 0; i < faults->n; i++)
        error |= json_array_append_new(lines, json_string(faults->lines[i]));
    error |= set(object, "url", json_string(run->url));
    error |= set(object, "content_type", json_string(run->content_type));
    error |= set(object, "good", json_boolean(faults->n == 0));
    error |= set(object, "faults", lines);
    error |= set(object, "seconds", rounded(run->seconds));
    error |= set(object, "listened_s", rounded(to_s(run->report.listened_ns)));
    error |= set(object, "first_byte_ms",
                 run->first_byte_ns >= 0 ? rounded(to_ms(run->first_byte_ns)) : json_null());
    error |= set(object, "ended_early", json_boolean(run->is_ended_early));
    return error;
}

static int set_frames(json_t *object, const struct tower_aircheck_report *report) {
    int error = set(object, "bytes", count(report->bytes));
    error |= set(object, "mp3_frames", count(report->frames));
    error |= set(object, "audio_s", rounded(report->audio_s));
    error |= set(object, "rate_hz", count(report->rate_hz));
    error |= set(object, "channels", count(report->channels));
    error |= set(object, "bitrate_bps", rounded(report->bitrate_bps));
    error |= set(object, "longest_gap_ms", rounded(to_ms(report->longest_gap_ns)));
    error |= set(object, "longest_gap_at_s", rounded(to_s(report->longest_gap_at_ns)));
    error |= set(object, "lost_syncs", count(report->lost_syncs));
    error |= set(object, "junk_bytes", count(report->junk_bytes));
    error |= set(object, "leading_bytes", count(report->leading_bytes));
    error |= set(object, "tag_bytes", count(report->tag_bytes));
    error |= set(object, "format_changes", count(report->format_changes));
    error |= set(object, "reservoir_frames", count(report->reservoir_frames));
    error |= set(object, "broken_frames", count(report->broken_frames));
    error |= set(object, "decoded_frames", count(report->decoded_frames));
    error |= set(object, "decoder_errors", count(report->decoder_errors));
    error |= set(object, "decoder_message", json_string(report->decoder_message));
    return error;
}

int tower_aircheck_print_json(FILE *file, const struct tower_aircheck_run *run,
                              const struct tower_aircheck_faults *faults) {
    json_t *object = json_object();
    int error = set_run(object, run, faults);
    error |= set_frames(object, &run->report);
    error |= set_clock(object, &run->report);
    error |= set_sound(object, &run->report.pcm);
    char *text =
        error ? NULL : json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS));
    json_decref(object);
    if (!text)
        return -ENOMEM;
    (void)fprintf(file, "%s\n", text);
    free(text);
    return fflush(file) == 0 && !ferror(file) ? 0 : -EIO;
}
