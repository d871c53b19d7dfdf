/* routes_stream.c - for listeners: the stream, and playlists that name it. */
#include "routes.h"

#include "tower/titles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Four texts of a station, and what is fixed. */
#define STREAM_HEADER_BYTES 2048

static bool has_place(const struct tower_routes *routes) {
    for (size_t i = 0; i < routes->config->n_fanouts; i++) {
        struct tower_fanout_stats stats;
        tower_fanout_get_stats(routes->config->fanouts[i], &stats);
        if (stats.listeners < stats.capacity)
            return true;
    }
    return false;
}

/* May the address that asks have one more listener? It becomes one only when the header has gone
 * out, so this is asked twice. */
static bool has_place_for_address(const struct tower_routes *routes,
                                  const struct tower_request *request) {
    uint32_t place = TOWER_ADDRESS_NONE;
    if (!routes->config->addresses)
        return true;
    if (tower_addresses_enter(routes->config->addresses, request->peer, &place) < 0)
        return false;
    tower_addresses_leave(routes->config->addresses, place);
    return true;
}

static int refuse_listener(_Atomic uint64_t *count, const char *why,
                           const struct tower_response_options *options,
                           struct tower_response *response) {
    struct tower_response_options later = *options;
    if (!options->is_head)
        (*count)++;
    later.extra = "Retry-After: 10\r\n";
    return tower_response_make_text(response, 503, &later,
                                    "503 Service Unavailable: %s, try again in a while\n", why);
}

/* The field is left out where there is nothing to say. */
static void print_field(FILE *out, const char *name, const char *value) {
    if (*value != '\0')
        (void)fprintf(out, "%s: %s\r\n", name, value);
}

int tower_route_stream(struct tower_routes *routes, const struct tower_request *request,
                       const struct tower_response_options *options,
                       struct tower_response *response) {
    const struct tower_http_server_config *config = routes->config;
    if (!has_place(routes))
        return refuse_listener(&routes->n_refused, "all places for listeners are taken", options,
                               response);
    if (!has_place_for_address(routes, request))
        return refuse_listener(&routes->n_refused_address,
                               "there are too many listeners from your address", options, response);

    bool has_titles =
        config->titles && strcmp(request->fields[TOWER_REQUEST_ICY_METADATA], "1") == 0;
    char lines[STREAM_HEADER_BYTES] = "";
    FILE *out = fmemopen(lines, sizeof lines - 1, "w");
    if (!out)
        return -ENOMEM;
    print_field(out, "icy-name", config->station.name);
    print_field(out, "icy-description", config->station.description);
    print_field(out, "icy-genre", config->station.genre);
    print_field(out, "icy-url", config->station.url);
    (void)fprintf(out,
                  "icy-pub: 0\r\nicy-br: %u\r\n"
                  "ice-audio-info: channels=2;samplerate=48000;bitrate=%u\r\n",
                  (unsigned)(config->bitrate_bps / 1000), (unsigned)(config->bitrate_bps / 1000));
    if (has_titles)
        (void)fprintf(out, "icy-metaint: %d\r\n", TOWER_ICY_METAINT);
    (void)fprintf(out, "Access-Control-Expose-Headers: icy-metaint, icy-name, icy-description, "
                       "icy-genre, icy-url, icy-br\r\n");
    if (fclose(out) != 0)
        return -ENOSPC;
    struct tower_response_options with_station = *options;
    with_station.extra = lines;
    int error =
        tower_response_make_endless(response, "audio/mpeg", TOWER_RESPONSE_STREAM, &with_station);
    response->has_titles = error == 0 && has_titles;
    return error;
}

/* ---- playlists ---- */

static void print_xml(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '&')
            (void)fputs("&amp;", out);
        else if (*text == '<')
            (void)fputs("&lt;", out);
        else if (*text == '>')
            (void)fputs("&gt;", out);
        else
            (void)fputc(*text, out);
    }
}

static void print_m3u(FILE *out, const char *name, const char *url) {
    (void)fprintf(out, "#EXTM3U\n#EXTINF:-1,%s\n%s/stream\n", name, url);
}

static void print_pls(FILE *out, const char *name, const char *url) {
    (void)fprintf(out,
                  "[playlist]\nNumberOfEntries=1\nFile1=%s/stream\nTitle1=%s\nLength1=-1\n"
                  "Version=2\n",
                  url, name);
}

static void print_xspf(FILE *out, const char *name, const char *url) {
    (void)fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                "<playlist version=\"1\" xmlns=\"http://xspf.org/ns/0/\">\n  <title>",
                out);
    print_xml(out, name);
    (void)fputs("</title>\n  <trackList>\n    <track>\n      <location>", out);
    print_xml(out, url);
    (void)fputs("/stream</location>\n      <title>", out);
    print_xml(out, name);
    (void)fputs("</title>\n    </track>\n  </trackList>\n</playlist>\n", out);
}

static int answer_playlist(const struct tower_routes *routes, const struct tower_request *request,
                           const struct tower_response_options *options,
                           struct tower_response *response, const char *content_type,
                           const char *file_name,
                           void (*print)(FILE *out, const char *name, const char *url)) {
    char url[TOWER_HTTP_FIELD_BYTES_MAX + 16];
    char extra[96];
    tower_request_base_url(request, routes->config->public_url, url, sizeof url);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return -ENOMEM;
    print(out, routes->config->station.name, url);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    struct tower_response_options as_file = *options;
    (void)snprintf(extra, sizeof extra, "Content-Disposition: inline; filename=\"%s\"\r\n",
                   file_name);
    as_file.extra = extra;
    return tower_response_make(response, 200, content_type, text, bytes, &as_file);
}

int tower_route_m3u(struct tower_routes *routes, const struct tower_request *request,
                    const struct tower_response_options *options, struct tower_response *response) {
    return answer_playlist(routes, request, options, response, "audio/x-mpegurl", "listen.m3u",
                           print_m3u);
}

int tower_route_pls(struct tower_routes *routes, const struct tower_request *request,
                    const struct tower_response_options *options, struct tower_response *response) {
    return answer_playlist(routes, request, options, response, "audio/x-scpls", "listen.pls",
                           print_pls);
}

int tower_route_xspf(struct tower_routes *routes, const struct tower_request *request,
                     const struct tower_response_options *options,
                     struct tower_response *response) {
    return answer_playlist(routes, request, options, response, "application/xspf+xml",
                           "listen.xspf", print_xspf);
}
