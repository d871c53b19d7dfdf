/* incident.c - an incident as a line of JSON, with what it means in words. */
#include "tower/journal.h"

#include "utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1e6
#define REAL_DIGITS 9
#define COUNT_MAX ((uint64_t)INT64_MAX)
#define UNIX_MS_MAX INT64_C(253402300799999) /* the end of the year 9999 */

static const char *const kind_names[TOWER_INCIDENT_KIND_COUNT] = {
    [TOWER_INCIDENT_STARTED] = "started",
    [TOWER_INCIDENT_STOPPED] = "stopped",
    [TOWER_INCIDENT_PROGRAMME_LOST] = "programme-lost",
    [TOWER_INCIDENT_PROGRAMME_BACK] = "programme-back",
    [TOWER_INCIDENT_INPUT_FAULT] = "input-fault",
    [TOWER_INCIDENT_INPUT_FAULT_OVER] = "input-fault-over",
    [TOWER_INCIDENT_PRODUCER_CAME] = "producer-came",
    [TOWER_INCIDENT_PRODUCER_WENT] = "producer-went",
    [TOWER_INCIDENT_ENCODER_FAILED] = "encoder-failed",
    [TOWER_INCIDENT_ENCODER_BACK] = "encoder-back",
    [TOWER_INCIDENT_FALLBACK_FAILED] = "fallback-failed",
    [TOWER_INCIDENT_FALLBACK_BACK] = "fallback-back",
    [TOWER_INCIDENT_STALLED] = "stalled",
    [TOWER_INCIDENT_LISTENERS_REFUSED] = "listeners-refused",
    [TOWER_INCIDENT_LINES_LOST] = "lines-lost",
    [TOWER_INCIDENT_WORKER_KILLED] = "worker-killed",
    [TOWER_INCIDENT_WORKER_STALLED] = "worker-stalled",
    [TOWER_INCIDENT_RELOADED] = "reloaded",
    [TOWER_INCIDENT_UPGRADED] = "upgraded",
    [TOWER_INCIDENT_KEEPER_KILLED] = "keeper-killed",
    [TOWER_INCIDENT_ORIGIN_CHANGED] = "origin-changed",
    [TOWER_INCIDENT_STATE_LOST] = "state-lost",
    [TOWER_INCIDENT_RELOAD_REFUSED] = "reload-refused",
    [TOWER_INCIDENT_UPGRADE_REFUSED] = "upgrade-refused",
};

const char *tower_incident_kind_name(enum tower_incident_kind kind) {
    return (unsigned)kind < TOWER_INCIDENT_KIND_COUNT ? kind_names[kind] : "unknown";
}

const char *tower_incident_frames_name(unsigned what) {
    return what == TOWER_INCIDENT_SPARE ? "spare" : tower_origin_name((enum tower_origin)what);
}

/* `text` cut at a character. */
static void set_text(char *to, size_t bytes, const char *text) {
    size_t length = tower_utf8_cut(text, strlen(text), bytes - 1);
    memcpy(to, text, length);
    to[length] = '\0';
}

void tower_incident_init(struct tower_incident *incident, enum tower_incident_kind kind,
                         int64_t at_ns, uint64_t frame, const char *subject) {
    *incident = (struct tower_incident){
        .kind = kind, .at_ns = at_ns, .frame = frame, .to_substitute_ns = -1, .duration_ns = -1};
    set_text(incident->subject, sizeof incident->subject, subject);
}

void tower_incident_set_cause(struct tower_incident *incident, const char *cause) {
    set_text(incident->cause, sizeof incident->cause, cause);
}

void tower_incident_set_detail(struct tower_incident *incident, const char *detail) {
    set_text(incident->detail, sizeof incident->detail, detail);
}

/* ---- from outside ---- */

static void mend_text(char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = tower_utf8_length(text, left);
        if (length == 0)
            *text = '?';
        length = length > 0 ? length : 1;
        text += length;
        left -= length;
    }
}

void tower_incident_mend(struct tower_incident *incident) {
    mend_text(incident->subject);
    mend_text(incident->cause);
    mend_text(incident->detail);
}

static bool is_text(const char *text, size_t bytes) {
    size_t length = strnlen(text, bytes);
    return length < bytes && tower_utf8_is_valid(text, length);
}

bool tower_incident_is_sound(const struct tower_incident *incident) {
    const uint64_t counts[] = {incident->frame, incident->frames_missed, incident->listeners_lost,
                               incident->count, incident->more,          incident->number};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i] > COUNT_MAX)
            return false;
    }
    for (unsigned i = 0; i < TOWER_INCIDENT_FRAMES; i++) {
        if (incident->frames[i] > COUNT_MAX)
            return false;
    }
    return (unsigned)incident->kind < TOWER_INCIDENT_KIND_COUNT &&
           incident->kind != TOWER_INCIDENT_ORIGIN_CHANGED && incident->number > 0 &&
           incident->unix_ms >= 0 && incident->unix_ms <= UNIX_MS_MAX &&
           is_text(incident->subject, sizeof incident->subject) &&
           is_text(incident->cause, sizeof incident->cause) &&
           is_text(incident->detail, sizeof incident->detail);
}

/* ---- in words ---- */

static void print_duration(int64_t ns, FILE *out) {
    long long s = (long long)(ns / TOWER_NS_PER_S);
    if (s >= 86400)
        (void)fprintf(out, "%lld d %lld h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        (void)fprintf(out, "%lld h %lld min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        (void)fprintf(out, "%lld min %lld s", s / 60, s % 60);
    else
        (void)fprintf(out, "%.1f s", (double)ns / (double)TOWER_NS_PER_S);
}

/* " after 3.2 s", where it is known. */
static void print_after(const struct tower_incident *incident, const char *word, FILE *out) {
    if (incident->duration_ns < 0)
        return;
    (void)fprintf(out, " %s ", word);
    print_duration(incident->duration_ns, out);
}

/* Those before it of which none could tell. */
static void print_untold(const struct tower_incident *incident, FILE *out) {
    if (incident->count > 1)
        (void)fprintf(out, ", like %" PRIu64 " before it", incident->count - 1);
}

static void print_what(const struct tower_incident *incident, FILE *out) {
    const char *subject = incident->subject, *detail = incident->detail;
    switch (incident->kind) {
    case TOWER_INCIDENT_STARTED:
        (void)fputs("the transmitter started", out);
        break;
    case TOWER_INCIDENT_STOPPED:
        (void)fputs("the transmitter stopped", out);
        print_after(incident, "after", out);
        break;
    case TOWER_INCIDENT_PROGRAMME_LOST:
        (void)fputs("the programme is lost", out);
        break;
    case TOWER_INCIDENT_PROGRAMME_BACK:
        (void)fputs("the programme is back", out);
        print_after(incident, "after", out);
        break;
    case TOWER_INCIDENT_INPUT_FAULT:
        (void)fprintf(out, "input: %s", *detail ? detail : subject);
        print_after(incident, "for", out);
        return;
    case TOWER_INCIDENT_INPUT_FAULT_OVER:
        (void)fprintf(out, "input: %s is over", *detail ? detail : subject);
        print_after(incident, "after", out);
        return;
    case TOWER_INCIDENT_PRODUCER_CAME:
        (void)fprintf(out, "%s is on air%s", subject,
                      strcmp(incident->cause, "by-hand") == 0   ? ", chosen by hand"
                      : strcmp(incident->cause, "by-rank") == 0 ? ", above the one before by rank"
                                                                : "");
        break;
    case TOWER_INCIDENT_PRODUCER_WENT:
        (void)fprintf(out, "%s is off air", subject);
        break;
    case TOWER_INCIDENT_ENCODER_FAILED:
        (void)fprintf(out, "%s failed", subject);
        break;
    case TOWER_INCIDENT_ENCODER_BACK:
        (void)fprintf(out, "%s is on air again", subject);
        print_after(incident, "after", out);
        if (incident->count > 1)
            (void)fprintf(out, ", having failed %" PRIu64 " times", incident->count);
        break;
    case TOWER_INCIDENT_FALLBACK_FAILED:
        (void)fputs("the fallback file can't be read", out);
        break;
    case TOWER_INCIDENT_FALLBACK_BACK:
        (void)fputs("the fallback file can be read again", out);
        print_after(incident, "after", out);
        break;
    case TOWER_INCIDENT_STALLED:
        (void)fprintf(out, "the machine stood still for %.0f ms",
                      (double)incident->duration_ns / NS_PER_MS);
        break;
    case TOWER_INCIDENT_LISTENERS_REFUSED:
        (void)fprintf(out, "%" PRIu64 " listeners refused", incident->count);
        break;
    case TOWER_INCIDENT_LINES_LOST:
        (void)fprintf(out, "%" PRIu64 " lines of the journal are lost", incident->count);
        break;
    case TOWER_INCIDENT_WORKER_KILLED:
        (void)fprintf(out, "%s died%s%s and was replaced", subject, *incident->cause ? " by " : "",
                      incident->cause);
        print_untold(incident, out);
        break;
    case TOWER_INCIDENT_WORKER_STALLED:
        (void)fprintf(out, "%s put nothing on air and was replaced", subject);
        print_untold(incident, out);
        break;
    case TOWER_INCIDENT_RELOADED:
        (void)fprintf(out, "the settings were read anew, and %s was replaced", subject);
        print_untold(incident, out);
        break;
    case TOWER_INCIDENT_UPGRADED:
        (void)fprintf(out, "the program was replaced, and with it %s", subject);
        print_untold(incident, out);
        break;
    case TOWER_INCIDENT_KEEPER_KILLED:
        (void)fprintf(out, "%s died, and the worker went on as one", subject);
        print_untold(incident, out);
        break;
    case TOWER_INCIDENT_STATE_LOST:
        (void)fputs("what a worker was to go on with was given up", out);
        break;
    case TOWER_INCIDENT_RELOAD_REFUSED:
        (void)fputs("the settings stay as they are", out);
        break;
    case TOWER_INCIDENT_UPGRADE_REFUSED:
        (void)fputs("the program stays as it is", out);
        break;
    case TOWER_INCIDENT_ORIGIN_CHANGED:
        break;
    }
    if (*detail)
        (void)fprintf(out, " (%s)", detail);
}

static void print_sum(const struct tower_incident *incident, FILE *out) {
    (void)fprintf(out, "%" PRIu64 " more of %s within a minute", incident->more,
                  tower_incident_kind_name(incident->kind));
    if (incident->duration_ns >= 0) {
        (void)fputs(", ", out);
        print_duration(incident->duration_ns, out);
        (void)fputs(" in all", out);
    }
}

static void print_consequences(const struct tower_incident *incident, FILE *out) {
    const char *between =
        incident->kind == TOWER_INCIDENT_STOPPED ? "; frames on air: " : "; frames instead: ";
    for (unsigned i = 0; i < TOWER_INCIDENT_FRAMES; i++) {
        if (incident->frames[i] == 0)
            continue;
        (void)fprintf(out, "%s%" PRIu64 " %s", between, incident->frames[i],
                      tower_incident_frames_name(i));
        between = ", ";
    }
    if (incident->to_substitute_ns >= 0)
        (void)fprintf(out, "; substitute after %.1f ms",
                      (double)incident->to_substitute_ns / NS_PER_MS);
    if (incident->frames_missed > 0 || incident->to_substitute_ns >= 0)
        (void)fprintf(out, "; %" PRIu64 " frames missed", incident->frames_missed);
    if (incident->listeners_lost > 0)
        (void)fprintf(out, "; %" PRIu64 " listeners lost", incident->listeners_lost);
}

/* From malloc; NULL without memory. */
static char *make_text(const struct tower_incident *incident) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    if (incident->more > 0)
        print_sum(incident, out);
    else
        print_what(incident, out);
    print_consequences(incident, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- as JSON ---- */

/* A path may be any bytes; what is no UTF-8 is shown as a question mark. */
static json_t *json_text(const char *text) {
    size_t left = strlen(text);
    char *good = malloc(left + 1);
    if (!good)
        return NULL;
    char *to = good;
    while (left > 0) {
        size_t length = tower_utf8_length(text, left);
        if (length == 0)
            *to = '?';
        else
            memcpy(to, text, length);
        length = length > 0 ? length : 1;
        to += length;
        text += length;
        left -= length;
    }
    json_t *json = json_stringn(good, (size_t)(to - good));
    free(good);
    return json;
}

static json_t *json_time(int64_t unix_ms) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm utc;
    char stamp[32] = "", text[64];
    if (gmtime_r(&seconds, &utc))
        (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text, sizeof text, "%s.%03dZ", stamp, (int)(unix_ms % 1000));
    return json_string(text);
}

/* To the microsecond. */
static json_t *json_ms(int64_t ns) {
    int64_t us = ns / 1000;
    return ns < 0 ? json_null() : json_real((double)us / 1000.0);
}

static json_t *json_count(uint64_t count) {
    return json_integer((json_int_t)count);
}

static json_t *json_frames(const struct tower_incident *incident) {
    json_t *frames = json_object();
    for (unsigned i = 0; i < TOWER_INCIDENT_FRAMES; i++) {
        if (incident->frames[i] > 0 && frames &&
            json_object_set_new(frames, tower_incident_frames_name(i),
                                json_count(incident->frames[i])) < 0) {
            json_decref(frames);
            return NULL;
        }
    }
    return frames;
}

char *tower_incident_json(const struct tower_incident *incident, size_t *ret_bytes) {
    char *text = make_text(incident);
    if (!text)
        return NULL;
    json_t *json = json_pack(
        "{s:o, s:o, s:o, s:s, s:o, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "number",
        json_count(incident->number), "time", json_time(incident->unix_ms), "frame",
        json_count(incident->frame), "event", tower_incident_kind_name(incident->kind), "subject",
        json_text(incident->subject), "cause", *incident->cause ? incident->cause : NULL,
        "ms_to_substitute", json_ms(incident->to_substitute_ns), "duration_ms",
        json_ms(incident->duration_ns), "frames", json_frames(incident), "frames_missed",
        json_count(incident->frames_missed), "listeners_lost", json_count(incident->listeners_lost),
        "count", json_count(incident->count), "more", json_count(incident->more), "text",
        json_text(text));
    free(text);
    char *dump = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
    json_decref(json);
    if (dump)
        *ret_bytes = strlen(dump);
    return dump;
}
