/* icecast_json.c - Icecast's /status-json.xsl. */
#include "icecast_json.h"

#include "json_text.h"

#include "tower/version.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The calendar's time `age_ns` ago: what this format has, and nothing but this is told. */
static void write_times(int64_t age_ns, char ret_rfc2822[40], char ret_iso8601[40]) {
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    time_t then = now.tv_sec - (time_t)(age_ns / TOWER_NS_PER_S);
    (void)gmtime_r(&then, &parts);
    (void)strftime(ret_rfc2822, 40, "%a, %d %b %Y %H:%M:%S +0000", &parts);
    (void)strftime(ret_iso8601, 40, "%Y-%m-%dT%H:%M:%S+0000", &parts);
}

char *tower_icecast_json(const struct tower_status *status, const char *base_url,
                         size_t *ret_bytes) {
    char started[40], started_iso8601[40], server_id[64], audio_info[96];
    char *listen_url = NULL;
    json_int_t kbps = (json_int_t)(status->bitrate_bps / 1000);
    write_times(status->now_ns - status->started_ns, started, started_iso8601);
    (void)snprintf(server_id, sizeof server_id, "Tower %s", tower_version());
    (void)snprintf(audio_info, sizeof audio_info, "channels=2;samplerate=48000;bitrate=%d",
                   (int)kbps);
    if (asprintf(&listen_url, "%s/stream", base_url) < 0)
        return NULL;
    const char *host = strstr(base_url, "://");
    host = host ? host + 3 : base_url;
    size_t host_bytes = strcspn(host, host[0] == '[' ? "]/" : ":/");
    host_bytes += host[host_bytes] == ']' ? 1 : 0;
    json_t *json = json_pack(
        "{s:{s:s, s:s%, s:s, s:s, s:s, s:s, "
        "s:{s:s, s:I, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, "
        "s:n}}}",
        "icestats", "admin", "", "host", host, host_bytes, "location", "", "server_id", server_id,
        "server_start", started, "server_start_iso8601", started_iso8601, "source", "audio_info",
        audio_info, "bitrate", kbps, "channels", (json_int_t)TOWER_CHANNELS, "genre",
        status->station.genre, "listener_peak", (json_int_t)status->listeners.listeners_peak,
        "listeners", (json_int_t)status->listeners.listeners, "listenurl", listen_url,
        "server_description", status->station.description, "server_name", status->station.name,
        "server_type", "audio/mpeg", "server_url", status->station.url, "ice-bitrate", kbps,
        "samplerate", (json_int_t)TOWER_RATE_HZ, "stream_start", started, "stream_start_iso8601",
        started_iso8601, "title", status->title.text, "dummy");
    free(listen_url);
    return tower_json_text(json, JSON_COMPACT, "", ret_bytes);
}
