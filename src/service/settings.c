/* settings.c - the table of settings, and how a value of each kind is read and written. */
#include "settings.h"

#include "priorities.h"
#include "tower/taps.h"
#include "utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NS_PER_MS INT64_C(1000000)
#define NANO INT64_C(1000000000)
/* sun_path holds 108 bytes with the NUL. */
#define SOCKET_PATH_MAX 107
#define BACKOFF_MS_MAX 3600000

static const uint32_t mp3_bitrates_bps[] = {32000,  40000,  48000,  56000,  64000,
                                            80000,  96000,  112000, 128000, 160000,
                                            192000, 224000, 256000, 320000, 0};
static const uint32_t frame_sizes[] = {1024, TOWER_FRAME_SAMPLES, 0};
static const char *const encoder_words[] = {
    [TOWER_ENCODER_LAME] = "lame", [TOWER_ENCODER_FFMPEG] = "ffmpeg", NULL};
static const char *const dead_air_words[] = {
    [TOWER_DEAD_AIR_ALARM] = "alarm", [TOWER_DEAD_AIR_FALLBACK] = "fallback", NULL};
static const char *const log_level_words[] = {[TOWER_LOG_ERROR] = "error",
                                              [TOWER_LOG_WARNING] = "warning",
                                              [TOWER_LOG_INFO] = "info",
                                              [TOWER_LOG_DEBUG] = "debug",
                                              NULL};
_Static_assert(sizeof(enum tower_encoder_kind) == sizeof(unsigned), "stored as unsigned");
_Static_assert(sizeof(enum tower_dead_air_action) == sizeof(unsigned), "stored as unsigned");
_Static_assert(sizeof(enum tower_log_level) == sizeof(unsigned), "stored as unsigned");

#define FIELD(name) offsetof(struct tower_config, name)

/* clang-format off */
const struct tower_setting tower_settings[] = {
    {"host", "--host", "TOWER_HOST", "ADDRESS", TOWER_SETTING_STRING, FIELD(host), 1, 255,
     NULL, NULL, "127.0.0.1", NULL,
     "address or name to listen on; 0.0.0.0 or :: for every one"},
    {"port", "--port", "TOWER_PORT", "N", TOWER_SETTING_PORT, FIELD(port), 0, 65535,
     NULL, NULL, "8005", NULL,
     "TCP port to listen on; 0 for any free one"},
    {"socket", "--socket", "TOWER_SOCKET_PATH", "PATH", TOWER_SETTING_PATH, FIELD(socket_path),
     1, SOCKET_PATH_MAX, NULL, NULL, NULL,
     "$XDG_RUNTIME_DIR/tower/pcm.sock or /run/tower/pcm.sock",
     "Unix socket that takes PCM from producers"},
    {"encoder", "--encoder", "TOWER_ENCODER", "NAME", TOWER_SETTING_WORD, FIELD(encoder), 0, 0,
     NULL, encoder_words, "lame", NULL,
     "lame in process, or an ffmpeg child with lame as its spare"},
    {"bitrate", "--bitrate", "TOWER_BITRATE", "RATE", TOWER_SETTING_BITRATE, FIELD(bitrate_bps),
     0, 0, mp3_bitrates_bps, NULL, "128k", NULL,
     "of the MP3 stream: 32k to 320k"},
    {"fallback", "--fallback", "TOWER_SILENCE_MP3_PATH", "FILE", TOWER_SETTING_PATH,
     FIELD(fallback_path), 0, TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL, "", NULL,
     "audio file on air, looped, while nobody feeds"},
    {"tone_frequency", "--tone-frequency", "TOWER_TONE_FREQUENCY", "HZ", TOWER_SETTING_HERTZ,
     FIELD(tone_hz), 20, 20000, NULL, NULL, "440", NULL,
     "of the tone where there is no fallback file; 0 for silence"},
    {"tone_level", "--tone-level", "TOWER_TONE_LEVEL", "DBFS", TOWER_SETTING_DECIBEL,
     FIELD(tone_dbfs), -90, 0, NULL, NULL, "-18", NULL,
     "peak level of the tone in dBFS"},
    {"frame_samples", "--frame-samples", "TOWER_FRAME_SAMPLES", "N", TOWER_SETTING_INTEGER,
     FIELD(frame_samples), 0, 0, frame_sizes, NULL, "1152", NULL,
     "samples a channel in a frame, which is one tick: 1152 (24 ms) or 1024"},
    {"buffer_frames", "--buffer-frames", "TOWER_PCM_BUFFER_SIZE", "N", TOWER_SETTING_INTEGER,
     FIELD(buffer_frames), 1, 100000, NULL, NULL, "100", NULL,
     "frames that fit in the queue between producers and the pump"},
    {"cushion_frames", "--cushion-frames", "TOWER_CUSHION_FRAMES", "N", TOWER_SETTING_INTEGER,
     FIELD(cushion_frames), 0, 16, NULL, NULL, "2", NULL,
     "how long, in frames, a programme waits before it begins; under buffer_frames"},
    {"grace", "--grace", "TOWER_PCM_GRACE_SEC", "SECONDS", TOWER_SETTING_SECONDS, FIELD(grace_ns),
     0, 86400, NULL, NULL, "5", NULL,
     "silence before the fallback, when live audio runs dry"},
    {"priorities", "--priorities", "TOWER_PRIORITIES", "NAMES", TOWER_SETTING_NAMES,
     FIELD(priorities), 0, TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "live playlist", NULL,
     "names of producers, the highest first, before whom others make way; none: all are equal"},
    {"settle", "--settle", "TOWER_SETTLE", "SECONDS", TOWER_SETTING_SECONDS, FIELD(settle_ns), 0,
     86400, NULL, NULL, "3", NULL,
     "no producer makes way by rank for this long after a higher one has gone"},
    {"fade_ms", "--fade-ms", "TOWER_FADE_MS", "MS", TOWER_SETTING_MILLISECONDS, FIELD(fade_ns), 0,
     5000, NULL, NULL, "200", NULL,
     "fade from a producer that makes way to the other; 0: none"},
    {"dead_air_after", "--dead-air-after", "TOWER_DEAD_AIR_AFTER", "SECONDS",
     TOWER_SETTING_SECONDS, FIELD(dead_air_after_ns), 0, 86400, NULL, NULL, "10", NULL,
     "live audio that is quiet for this long is dead air; 0: never"},
    {"dead_air_dbfs", "--dead-air-dbfs", "TOWER_DEAD_AIR_DBFS", "DBFS", TOWER_SETTING_DECIBEL,
     FIELD(dead_air_dbfs), -90, -30, NULL, NULL, "-60", NULL,
     "quiet is what has no peak above this, in dBFS"},
    {"dead_air_action", "--dead-air-action", "TOWER_DEAD_AIR_ACTION", "WHAT", TOWER_SETTING_WORD,
     FIELD(dead_air_action), 0, 0, NULL, dead_air_words, "alarm", NULL,
     "on dead air: alarm only, or the fallback, after the grace period, until it is over"},
    {"resync_after_ms", "--resync-after-ms", "TOWER_RESYNC_AFTER_MS", "MS",
     TOWER_SETTING_MILLISECONDS, FIELD(resync_after_ns), 0, 60000, NULL, NULL, "250", NULL,
     "later than this, the pump sets its clock anew and does not catch up"},
    {"burst_ms", "--burst-ms", "TOWER_BURST_MS", "MS", TOWER_SETTING_MILLISECONDS, FIELD(burst_ns),
     0, 10000, NULL, NULL, "2000", NULL,
     "audio a new listener gets at once"},
    {"client_timeout_ms", "--client-timeout-ms", "TOWER_CLIENT_TIMEOUT_MS", "MS",
     TOWER_SETTING_MILLISECONDS, FIELD(client_timeout_ns), 100, 3600000, NULL, NULL, "15000", NULL,
     "a listener that takes nothing for this long is dropped"},
    {"client_buffer_bytes", "--client-buffer-bytes", "TOWER_CLIENT_BUFFER_BYTES", "BYTES",
     TOWER_SETTING_INTEGER, FIELD(client_buffer_bytes), 4096, 16777216, NULL, NULL, "65536", NULL,
     "send buffer of a listener's socket"},
    {"max_listeners", "--max-listeners", "TOWER_MAX_LISTENERS", "N", TOWER_SETTING_INTEGER_AUTO,
     FIELD(max_listeners), 1, TOWER_CONFIG_LISTENERS_MAX, NULL, NULL, "auto", NULL,
     "listeners at once; auto: as many as descriptors are allowed"},
    {"max_listeners_per_address", "--max-listeners-per-address", "TOWER_MAX_LISTENERS_PER_ADDRESS",
     "N", TOWER_SETTING_INTEGER_NONE, FIELD(max_listeners_per_address), 1,
     TOWER_CONFIG_LISTENERS_MAX, NULL, NULL,
     "none", NULL,
     "listeners at once from one address (IPv6: one /64 network), or none for no limit"},
    {"max_taps", "--max-taps", "TOWER_MAX_TAPS", "N", TOWER_SETTING_INTEGER, FIELD(max_taps), 0,
     TOWER_TAPS_MAX, NULL, NULL, "16", NULL,
     "clients at once that take the programme as PCM (/pcm); 0: none may"},
    {"workers", "--workers", "TOWER_WORKERS", "N", TOWER_SETTING_INTEGER_AUTO, FIELD(workers), 1,
     TOWER_CONFIG_WORKERS_MAX, NULL, NULL, "auto", NULL,
     "threads that send to listeners; auto: one a core"},
    {"cadence_ms", "--cadence-ms", "TOWER_CADENCE_MS", "MS", TOWER_SETTING_MS_AUTO,
     FIELD(cadence_ns), 1, 5000, NULL, NULL, "auto", NULL,
     "time between two sends to a listener; auto: a frame, more with many listeners"},
    {"encoder_backoff_ms", "--encoder-backoff-ms", "TOWER_ENCODER_BACKOFF_MS", "MS,MS...",
     TOWER_SETTING_BACKOFF, FIELD(encoder_backoff_ns), 1, BACKOFF_MS_MAX, NULL, NULL,
     "1000,2000,4000,8000,10000", NULL,
     "waits before ffmpeg is started again; the last one is used on and on"},
    {"encoder_max_restarts", "--encoder-max-restarts", "TOWER_ENCODER_MAX_RESTARTS", "N",
     TOWER_SETTING_INTEGER, FIELD(encoder_max_restarts), 0, 1000000, NULL, NULL, "5", NULL,
     "restarts of ffmpeg in a row before the state is degraded"},
    {"name", "--name", "TOWER_NAME", "TEXT", TOWER_SETTING_TEXT, FIELD(name), 1,
     TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "Tower", NULL,
     "of the station, as players and the page show it"},
    {"description", "--description", "TOWER_DESCRIPTION", "TEXT", TOWER_SETTING_TEXT,
     FIELD(description), 0, TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "", NULL,
     "of the station, in a line"},
    {"genre", "--genre", "TOWER_GENRE", "TEXT", TOWER_SETTING_TEXT, FIELD(genre), 0,
     TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "", NULL,
     "of the programme, for players and directories"},
    {"url", "--url", "TOWER_URL", "URL", TOWER_SETTING_URL, FIELD(url), 0,
     TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "", NULL,
     "the station's own web site, for players and directories"},
    {"public_url", "--public-url", "TOWER_PUBLIC_URL", "URL", TOWER_SETTING_URL, FIELD(public_url),
     0, TOWER_CONFIG_TEXT_BYTES - 1, NULL, NULL, "", NULL,
     "where listeners reach this server, if through a proxy; playlists name it"},
    {"password_file", "--password-file", "TOWER_PASSWORD_FILE", "FILE", TOWER_SETTING_PATH,
     FIELD(password_path), 0, TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL, "", NULL,
     "its first line is the password for titles and switching over HTTP; none: nobody may"},
    {"source_password_file", "--source-password-file", "TOWER_SOURCE_PASSWORD_FILE", "FILE",
     TOWER_SETTING_PATH, FIELD(source_password_path), 0, TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL,
     "", NULL,
     "its first line is the password of source clients; no flag takes the password itself"},
    {"source_users_file", "--source-users-file", "TOWER_SOURCE_USERS_FILE", "FILE",
     TOWER_SETTING_PATH, FIELD(source_users_path), 0, TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL, "",
     NULL,
     "lines of user:password, or user:password:mount,mount, of source clients"},
    {"journal", "--journal", "TOWER_JOURNAL", "FILE", TOWER_SETTING_PATH, FIELD(journal_path), 0,
     TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL, "", NULL,
     "file that incidents are written to, a line of JSON each; they are at /journal too"},
    {"journal_bytes", "--journal-bytes", "TOWER_JOURNAL_BYTES", "BYTES", TOWER_SETTING_INTEGER,
     FIELD(journal_bytes), 4096, 1073741824, NULL, NULL, "1048576", NULL,
     "the journal is at most as large, and so is the one before it (FILE.1)"},
    {"server_header", "--server-header", "TOWER_SERVER_HEADER", "YES|NO", TOWER_SETTING_BOOL,
     FIELD(has_server_header), 0, 0, NULL, NULL, "yes", NULL,
     "say in every HTTP answer which program and version this is"},
    {"ffmpeg", "--ffmpeg", "TOWER_FFMPEG", "PROGRAM", TOWER_SETTING_PATH, FIELD(ffmpeg), 1,
     TOWER_CONFIG_PATH_BYTES - 1, NULL, NULL, "ffmpeg", NULL,
     "the ffmpeg to run: a name looked up in PATH, or a path"},
    {"realtime", "--realtime", "TOWER_REALTIME", "YES|NO", TOWER_SETTING_BOOL, FIELD(is_realtime),
     0, 0, NULL, NULL, "yes", NULL,
     "ask for real-time scheduling; without the right to it, go on as usual"},
    {"keeper", "--keeper", "TOWER_KEEPER", "YES|NO", TOWER_SETTING_BOOL, FIELD(has_keeper), 0, 0,
     NULL, NULL, "yes", NULL,
     "run as two processes: one that serves, and one that replaces it if it dies"},
    {"log_level", "--log-level", "TOWER_LOG_LEVEL", "LEVEL", TOWER_SETTING_WORD, FIELD(log_level),
     0, 0, NULL, log_level_words, "info", NULL,
     "log lines on stderr: error, warning, info or debug"},
};
/* clang-format on */

const size_t tower_settings_count = sizeof tower_settings / sizeof *tower_settings;
_Static_assert(sizeof tower_settings / sizeof *tower_settings <= TOWER_CONFIG_SETTINGS_MAX,
               "every setting has a place that says where it came from");

size_t tower_setting_find(const char *key) {
    size_t i = 0;
    while (i < tower_settings_count && strcmp(tower_settings[i].key, key) != 0)
        i++;
    return i;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool parse_integer(const char *text, int64_t min, int64_t max, int64_t *ret_value) {
    /* strtoll() would pass over white space and take a '+'. */
    if (!is_digit(text[0]) && !(text[0] == '-' && is_digit(text[1])))
        return false;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

/* A decimal number in billionths. Not strtod(): that asks the locale what a point is, and knows
 * nan, inf, exponents and hexadecimal. */
static bool parse_decimal(const char *text, int64_t min, int64_t max, int64_t *ret_nano) {
    bool is_negative = *text == '-';
    if (is_negative)
        text++;
    int64_t nano = 0;
    const char *at = text;
    for (; is_digit(*at); at++) {
        nano = nano * 10 + (*at - '0') * NANO;
        if (nano > INT64_C(1000000) * NANO)
            return false;
    }
    if (at == text)
        return false;
    if (*at == '.') {
        const char *point = at++;
        for (int64_t unit = NANO / 10; is_digit(*at); at++, unit /= 10) {
            if (unit == 0)
                return false;
            nano += (*at - '0') * unit;
        }
        if (at == point + 1)
            return false;
    }
    if (is_negative)
        nano = -nano;
    if (*at != '\0' || nano < min * NANO || nano > max * NANO)
        return false;
    *ret_nano = nano;
    return true;
}

static bool parse_choice(const char *text, const uint32_t *choices, int64_t *ret_value) {
    int64_t value;
    if (!parse_integer(text, 0, UINT32_MAX, &value))
        return false;
    for (; *choices != 0; choices++) {
        if (*choices == value) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool parse_bitrate(const char *text, const uint32_t *choices, int64_t *ret_bps) {
    char digits[16];
    size_t length = strlen(text);
    if (length == 0 || length >= sizeof digits)
        return false;
    memcpy(digits, text, length + 1);
    bool is_kilo = digits[length - 1] == 'k' || digits[length - 1] == 'K';
    if (is_kilo)
        digits[length - 1] = '\0';
    for (; *choices != 0; choices++) {
        /* No bitrate in bit/s is as small as one in kbit/s, so a bare number is clear. */
        const uint32_t in_kbps[] = {*choices / 1000, 0};
        const uint32_t in_bps[] = {*choices, 0};
        int64_t ignored;
        if (parse_choice(digits, in_kbps, &ignored) ||
            (!is_kilo && parse_choice(digits, in_bps, &ignored))) {
            *ret_bps = *choices;
            return true;
        }
    }
    return false;
}

/* Is it `word`, which stands as 0? Else a number. */
static bool parse_integer_or(const char *word, const char *text, int64_t min, int64_t max,
                             int64_t *ret_value) {
    if (strcasecmp(text, word) != 0)
        return parse_integer(text, min, max, ret_value);
    *ret_value = 0;
    return true;
}

static bool parse_word(const char *text, const char *const *words, int64_t *ret_place) {
    for (int64_t i = 0; words[i]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_place = i;
            return true;
        }
    }
    return false;
}

static bool parse_bool(const char *text, int64_t *ret_value) {
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1", NULL};
    int64_t place;
    if (!parse_word(text, words, &place))
        return false;
    *ret_value = place % 2;
    return true;
}

static bool parse_backoff(const struct tower_setting *setting, const char *text,
                          struct tower_config *config) {
    int64_t list_ns[TOWER_ENCODER_BACKOFF_MAX];
    size_t count = 0;
    for (const char *rest = text; rest; count++) {
        const char *comma = strchr(rest, ',');
        const char *end = comma ? comma : rest + strlen(rest);
        while (*rest == ' ')
            rest++;
        while (end > rest && end[-1] == ' ')
            end--;
        char one[24];
        size_t length = (size_t)(end - rest);
        int64_t ms;
        if (count == TOWER_ENCODER_BACKOFF_MAX || length >= sizeof one)
            return false;
        memcpy(one, rest, length);
        one[length] = '\0';
        if (!parse_integer(one, setting->min, setting->max, &ms))
            return false;
        list_ns[count] = ms * NS_PER_MS;
        rest = comma ? comma + 1 : NULL;
    }
    memset(config->encoder_backoff_ns, 0, sizeof config->encoder_backoff_ns);
    memcpy(config->encoder_backoff_ns, list_ns, count * sizeof *list_ns);
    config->encoder_backoff_count = count;
    return true;
}

/* A text is one that a line of the file can bear, whichever way it came, so that what `tower check`
 * prints is always good as a file. */
static bool parse_text(const struct tower_setting *setting, const char *text, char *ret_field) {
    size_t length = strlen(text);
    if (length < (size_t)setting->min || length > (size_t)setting->max)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool is_at_end = i == 0 || i == length - 1;
        if (c < ' ' || c == 0x7f)
            return false;
        if (c == ' ' && (is_at_end || setting->kind == TOWER_SETTING_STRING))
            return false;
        if (c == ';' && (i == 0 || text[i - 1] == ' '))
            return false;
    }
    memcpy(ret_field, text, length + 1);
    return true;
}

/* UTF-8 that a terminal and a playlist in XML can bear: without U+0080 to U+009F, which are control
 * characters too, and U+FFFE and U+FFFF, which are none. */
static bool is_showable(const char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = tower_utf8_length(text, left);
        if (length == 0 || (length == 2 && text[0] == '\xc2' && text[1] < '\xa0') ||
            (length == 3 && memcmp(text, "\xef\xbf", 2) == 0 && text[2] >= '\xbe'))
            return false;
        text += length;
        left -= length;
    }
    return true;
}

/* One that a header and a playlist can bear: printable ASCII without what would have to be
 * escaped there. */
static bool parse_url(const struct tower_setting *setting, const char *text, char *ret_field) {
    size_t scheme = 0;
    if (strncasecmp(text, "http://", 7) == 0)
        scheme = 7;
    else if (strncasecmp(text, "https://", 8) == 0)
        scheme = 8;
    size_t length = strlen(text);
    if (length > 0 && (scheme == 0 || length == scheme || text[scheme] == '/'))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"<>\\^`{|}", text[i]))
            return false;
    }
    if (!parse_text(setting, text, ret_field))
        return false;
    while (length > scheme && ret_field[length - 1] == '/')
        ret_field[--length] = '\0';
    return true;
}

int tower_setting_parse(const struct tower_setting *setting, const char *text,
                        struct tower_config *config) {
    void *field = (char *)config + setting->offset;
    int64_t value = 0;
    bool is_good = false;
    switch (setting->kind) {
    case TOWER_SETTING_STRING:
    case TOWER_SETTING_PATH:
        is_good = parse_text(setting, text, field);
        break;
    case TOWER_SETTING_TEXT:
        is_good = is_showable(text) && parse_text(setting, text, field);
        break;
    case TOWER_SETTING_URL:
        is_good = parse_url(setting, text, field);
        break;
    case TOWER_SETTING_NAMES:
        is_good = tower_priorities_read(NULL, text) == 0 && parse_text(setting, text, field);
        break;
    case TOWER_SETTING_PORT:
        is_good = parse_integer(text, setting->min, setting->max, &value);
        if (is_good)
            *(uint16_t *)field = (uint16_t)value;
        break;
    case TOWER_SETTING_INTEGER:
        is_good = setting->choices ? parse_choice(text, setting->choices, &value)
                                   : parse_integer(text, setting->min, setting->max, &value);
        if (is_good)
            *(uint32_t *)field = (uint32_t)value;
        break;
    case TOWER_SETTING_BITRATE:
        is_good = parse_bitrate(text, setting->choices, &value);
        if (is_good)
            *(uint32_t *)field = (uint32_t)value;
        break;
    case TOWER_SETTING_INTEGER_AUTO:
        is_good = parse_integer_or("auto", text, setting->min, setting->max, &value);
        if (is_good)
            *(uint32_t *)field = (uint32_t)value;
        break;
    case TOWER_SETTING_INTEGER_NONE:
        is_good = parse_integer_or("none", text, setting->min, setting->max, &value);
        if (is_good)
            *(uint32_t *)field = (uint32_t)value;
        break;
    case TOWER_SETTING_MILLISECONDS:
        is_good = parse_integer(text, setting->min, setting->max, &value);
        if (is_good)
            *(int64_t *)field = value * NS_PER_MS;
        break;
    case TOWER_SETTING_MS_AUTO:
        is_good = parse_integer_or("auto", text, setting->min, setting->max, &value);
        if (is_good)
            *(int64_t *)field = value * NS_PER_MS;
        break;
    case TOWER_SETTING_SECONDS:
        is_good = parse_decimal(text, setting->min, setting->max, &value);
        if (is_good)
            *(int64_t *)field = value;
        break;
    case TOWER_SETTING_DECIBEL:
        is_good = parse_decimal(text, setting->min, setting->max, &value);
        if (is_good)
            *(double *)field = (double)value / (double)NANO;
        break;
    case TOWER_SETTING_HERTZ:
        is_good = parse_decimal(text, setting->min, setting->max, &value) ||
                  parse_decimal(text, 0, 0, &value);
        if (is_good)
            *(double *)field = (double)value / (double)NANO;
        break;
    case TOWER_SETTING_WORD:
        is_good = parse_word(text, setting->words, &value);
        if (is_good)
            *(unsigned *)field = (unsigned)value;
        break;
    case TOWER_SETTING_BOOL:
        is_good = parse_bool(text, &value);
        if (is_good)
            *(bool *)field = value != 0;
        break;
    case TOWER_SETTING_BACKOFF:
        is_good = parse_backoff(setting, text, config);
        break;
    }
    return is_good ? 0 : -EINVAL;
}

static void print_decimal(int64_t nano, FILE *out) {
    char decimals[10];
    if (nano < 0) {
        (void)fputc('-', out);
        nano = -nano;
    }
    (void)fprintf(out, "%lld", (long long)(nano / NANO));
    int64_t rest = nano % NANO;
    if (rest == 0)
        return;
    for (size_t i = 9; i-- > 0; rest /= 10)
        decimals[i] = (char)('0' + rest % 10);
    size_t length = 9;
    while (decimals[length - 1] == '0')
        length--;
    decimals[length] = '\0';
    (void)fprintf(out, ".%s", decimals);
}

static void print_integer_or(const char *word, int64_t value, FILE *out) {
    if (value == 0)
        (void)fputs(word, out);
    else
        (void)fprintf(out, "%lld", (long long)value);
}

static int64_t nearest_nano(double value) {
    return (int64_t)(value * (double)NANO + (value < 0 ? -0.5 : 0.5));
}

void tower_setting_print_value(const struct tower_setting *setting,
                               const struct tower_config *config, FILE *out) {
    const void *field = (const char *)config + setting->offset;
    switch (setting->kind) {
    case TOWER_SETTING_STRING:
    case TOWER_SETTING_PATH:
    case TOWER_SETTING_TEXT:
    case TOWER_SETTING_URL:
    case TOWER_SETTING_NAMES:
        (void)fputs(field, out);
        break;
    case TOWER_SETTING_PORT:
        (void)fprintf(out, "%u", (unsigned)*(const uint16_t *)field);
        break;
    case TOWER_SETTING_INTEGER:
        (void)fprintf(out, "%u", (unsigned)*(const uint32_t *)field);
        break;
    case TOWER_SETTING_BITRATE:
        (void)fprintf(out, "%uk", (unsigned)(*(const uint32_t *)field / 1000));
        break;
    case TOWER_SETTING_INTEGER_AUTO:
        print_integer_or("auto", *(const uint32_t *)field, out);
        break;
    case TOWER_SETTING_INTEGER_NONE:
        print_integer_or("none", *(const uint32_t *)field, out);
        break;
    case TOWER_SETTING_MILLISECONDS:
        (void)fprintf(out, "%lld", (long long)(*(const int64_t *)field / NS_PER_MS));
        break;
    case TOWER_SETTING_MS_AUTO:
        print_integer_or("auto", *(const int64_t *)field / NS_PER_MS, out);
        break;
    case TOWER_SETTING_SECONDS:
        print_decimal(*(const int64_t *)field, out);
        break;
    case TOWER_SETTING_DECIBEL:
    case TOWER_SETTING_HERTZ:
        print_decimal(nearest_nano(*(const double *)field), out);
        break;
    case TOWER_SETTING_WORD:
        (void)fputs(setting->words[*(const unsigned *)field], out);
        break;
    case TOWER_SETTING_BOOL:
        (void)fputs(*(const bool *)field ? "yes" : "no", out);
        break;
    case TOWER_SETTING_BACKOFF:
        for (size_t i = 0; i < config->encoder_backoff_count; i++)
            (void)fprintf(out, "%s%lld", i == 0 ? "" : ",",
                          (long long)(config->encoder_backoff_ns[i] / NS_PER_MS));
        break;
    }
}

/* "a, b", or "a or b" where there are two. */
static void print_choices(const struct tower_setting *setting, FILE *out) {
    size_t n = 0;
    while (setting->words ? setting->words[n] != NULL : setting->choices[n] != 0)
        n++;
    if (n > 2)
        (void)fputs("one of ", out);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            (void)fputs(n == 2 ? " or " : ", ", out);
        if (setting->words)
            (void)fputs(setting->words[i], out);
        else if (setting->kind == TOWER_SETTING_BITRATE)
            (void)fprintf(out, "%uk", (unsigned)(setting->choices[i] / 1000));
        else
            (void)fprintf(out, "%u", (unsigned)setting->choices[i]);
    }
}

void tower_setting_print_expected(const struct tower_setting *setting, FILE *out) {
    long long min = setting->min, max = setting->max;
    if (setting->words || setting->choices) {
        print_choices(setting, out);
        return;
    }
    switch (setting->kind) {
    case TOWER_SETTING_STRING:
        (void)fprintf(out, "an address or a name of %lld to %lld bytes, without white space", min,
                      max);
        break;
    case TOWER_SETTING_PATH:
        (void)fprintf(out,
                      "a path of %s%lld bytes, without control characters, a space at either end, "
                      "or a ';' at its start or after a space",
                      min == 0 ? "at most " : "1 to ", max);
        break;
    case TOWER_SETTING_TEXT:
        (void)fprintf(out,
                      "UTF-8 text of %s%lld bytes, without control characters, a space at either "
                      "end, or a ';' at its start or after a space",
                      min == 0 ? "at most " : "1 to ", max);
        break;
    case TOWER_SETTING_URL:
        (void)fprintf(out, "an address that begins with http:// or https://, of at most %lld bytes",
                      max);
        break;
    case TOWER_SETTING_NAMES:
        (void)fprintf(out,
                      "at most %d different names of 1 to %d of a-z, 0-9, '.', '_' and '-', with "
                      "spaces between",
                      TOWER_PRIORITIES_MAX, TOWER_PRODUCER_NAME_BYTES - 1);
        break;
    case TOWER_SETTING_PORT:
        (void)fprintf(out, "a port from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_INTEGER:
    case TOWER_SETTING_BITRATE:
    case TOWER_SETTING_WORD:
        (void)fprintf(out, "a whole number from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_INTEGER_AUTO:
        (void)fprintf(out, "auto or a whole number from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_INTEGER_NONE:
        (void)fprintf(out, "none or a whole number from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_MS_AUTO:
        (void)fprintf(out, "auto or a whole number of milliseconds from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_MILLISECONDS:
        (void)fprintf(out, "a whole number of milliseconds from %lld to %lld", min, max);
        break;
    case TOWER_SETTING_SECONDS:
        (void)fprintf(out, "a number of seconds from %lld to %lld, such as 5 or 2.5", min, max);
        break;
    case TOWER_SETTING_DECIBEL:
        (void)fprintf(out, "a level in dBFS from %lld to %lld, such as -18 or -12.5", min, max);
        break;
    case TOWER_SETTING_HERTZ:
        (void)fprintf(out, "a frequency in Hz from %lld to %lld, or 0 for silence", min, max);
        break;
    case TOWER_SETTING_BOOL:
        (void)fputs("yes or no", out);
        break;
    case TOWER_SETTING_BACKOFF:
        (void)fprintf(out,
                      "1 to %d whole numbers of milliseconds from %lld to %lld with commas "
                      "between, such as 1000,2000",
                      TOWER_ENCODER_BACKOFF_MAX, min, max);
        break;
    }
}

void tower_setting_print_default(const struct tower_setting *setting, FILE *out) {
    if (setting->default_reader)
        (void)fputs(setting->default_reader, out);
    else
        (void)fputs(setting->default_text[0] == '\0' ? "none" : setting->default_text, out);
}

#define WORD_BYTES 48

/* Letters added, left out, replaced or swapped with their neighbour (each counts one) that lead
 * from `a` to `b`; upper and lower case are the same. */
static size_t slips_between(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][WORD_BYTES + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            size_t best = last[j - 1] + (x != y);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]) && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_length];
}

const char *tower_word_nearest(const char *word, const char *const *words, size_t n_words) {
    const char *nearest = NULL;
    size_t length = strlen(word);
    if (length == 0 || length > WORD_BYTES)
        return NULL;
    /* More than a third of a word is another word. */
    size_t fewest = length < 3 ? 2 : length / 3 + 1;
    for (size_t i = 0; i < n_words; i++) {
        if (!words[i] || strlen(words[i]) > WORD_BYTES)
            continue;
        size_t slips = slips_between(word, length, words[i], strlen(words[i]));
        if (slips < fewest) {
            fewest = slips;
            nearest = words[i];
        }
    }
    return nearest;
}
