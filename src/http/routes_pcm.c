/* routes_pcm.c - the programme as PCM: what is asked for, and whether it can be had. */
#include "routes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a value in the query. */
#define VALUE_BYTES 32

static int refuse(const struct tower_response_options *options, struct tower_response *response,
                  const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(const struct tower_response_options *options, struct tower_response *response,
                  const char *format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return tower_response_make_text(response, 400, options, "400 Bad Request: %s\n", line);
}

/* The number that `key` has in the query, if it is there. False if it is none from `low` to `high`.
 */
static bool read_number(const struct tower_request *request, const char *key, uint32_t low,
                        uint32_t high, uint32_t *ret_number) {
    char value[VALUE_BYTES];
    int bytes = tower_request_query(request, key, value, sizeof value);
    if (bytes == -ENOENT)
        return true;
    if (bytes <= 0 || bytes > 9 || strspn(value, "0123456789") != (size_t)bytes)
        return false;
    unsigned long number = strtoul(value, NULL, 10);
    if (number < low || number > high)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

/* One of two words. False if it is neither. */
static bool read_choice(const struct tower_request *request, const char *key, const char *no,
                        const char *yes, bool *ret_choice) {
    char value[VALUE_BYTES];
    int bytes = tower_request_query(request, key, value, sizeof value);
    if (bytes == -ENOENT)
        return true;
    if (bytes < 0 || (strcmp(value, no) != 0 && strcmp(value, yes) != 0))
        return false;
    *ret_choice = strcmp(value, yes) == 0;
    return true;
}

static const char *content_type(const struct tower_tap_format *format, char *text, size_t bytes) {
    if (format->is_wav)
        return "audio/wav";
    /* L16 alone would be big-endian (RFC 2586). */
    (void)snprintf(text, bytes, "%s;rate=%u;channels=%u;%s",
                   format->has_timestamps ? "application/x-tower-pcm" : "audio/L16",
                   (unsigned)format->rate_hz, (unsigned)format->channels,
                   format->has_timestamps ? "format=s16le" : "endianness=little-endian");
    return text;
}

int tower_route_pcm(struct tower_routes *routes, const struct tower_request *request,
                    const struct tower_response_options *options, struct tower_response *response) {
    struct tower_tap_format format = {.rate_hz = 16000, .channels = 1};
    char text[96];
    if (!read_number(request, "rate", TOWER_TAP_RATE_MIN_HZ, TOWER_TAP_RATE_MAX_HZ,
                     &format.rate_hz))
        return refuse(options, response, "rate: expected %d to %d (Hz)", TOWER_TAP_RATE_MIN_HZ,
                      TOWER_TAP_RATE_MAX_HZ);
    if (!read_number(request, "channels", 1, 2, &format.channels))
        return refuse(options, response, "channels: expected 1 or 2");
    format.samples = format.rate_hz / 10;
    if (!read_number(request, "samples", TOWER_TAP_SAMPLES_MIN, TOWER_TAP_SAMPLES_MAX,
                     &format.samples))
        return refuse(options, response, "samples: expected %d to %d (of each channel, a chunk)",
                      TOWER_TAP_SAMPLES_MIN, TOWER_TAP_SAMPLES_MAX);
    if (!read_choice(request, "format", "s16le", "wav", &format.is_wav))
        return refuse(options, response, "format: expected s16le or wav");
    if (!read_choice(request, "timestamps", "0", "1", &format.has_timestamps))
        return refuse(options, response, "timestamps: expected 0 or 1");
    if (format.has_timestamps && format.is_wav)
        return refuse(options, response,
                      "timestamps: a WAV file has no place for them; leave out format=wav");
    if (!routes->config->taps)
        return tower_response_make_text(response, 403, options,
                                        "403 Forbidden: nobody may tap here (max_taps = 0)\n");
    if (!options->is_head && !tower_taps_has_place(routes->config->taps)) {
        struct tower_response_options later = *options;
        tower_taps_note_refused(routes->config->taps);
        later.extra = "Retry-After: 10\r\n";
        return tower_response_make_text(response, 503, &later,
                                        "503 Service Unavailable: all places for taps are taken, "
                                        "try again in a while\n");
    }
    int error = tower_response_make_endless(response, content_type(&format, text, sizeof text),
                                            TOWER_RESPONSE_TAP, options);
    response->tap = format;
    return error;
}
