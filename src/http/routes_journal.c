/* routes_journal.c - the journal's last incidents over HTTP. */
#include "routes.h"

#include "tower/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* `since` in the query; 0 where it is not there. Errors: -EINVAL (no number). */
static int query_since(const struct tower_request *request, uint64_t *ret_since) {
    char text[24];
    int n = tower_request_query(request, "since", text, sizeof text);
    if (n == -ENOENT) {
        *ret_since = 0;
        return 0;
    }
    /* strtoull() would take white space and signs. */
    char *end = text;
    errno = 0;
    uint64_t since = n > 0 && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (end == text || *end != '\0' || errno != 0)
        return -EINVAL;
    *ret_since = since;
    return 0;
}

/* From malloc; NULL without memory for all of it. */
static char *make_json(const struct tower_incident *incidents, size_t n,
                       const struct tower_journal_stats *stats, size_t *ret_bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_bytes);
    if (!out)
        return NULL;
    bool is_whole = true;
    (void)fputs("{\"incidents\":[", out);
    for (size_t i = 0; i < n && is_whole; i++) {
        size_t bytes;
        char *line = tower_incident_json(&incidents[i], &bytes);
        is_whole = line && fprintf(out, "%s\n%s", i > 0 ? "," : "", line) > 0;
        free(line);
    }
    (void)fprintf(out, "],\n\"lines_lost\":%" PRIu64 ",\"began_ms\":%" PRId64 "}\n",
                  stats->lines_lost + stats->submissions_lost, stats->began_unix_ms);
    if (fclose(out) != 0 || !is_whole) {
        free(text);
        return NULL;
    }
    return text;
}

int tower_route_journal(struct tower_routes *routes, const struct tower_request *request,
                        const struct tower_response_options *options,
                        struct tower_response *response) {
    struct tower_journal *journal = routes->config->journal;
    struct tower_journal_stats stats = {0};
    struct tower_incident *incidents = NULL;
    uint64_t since;
    size_t n = 0;
    if (query_since(request, &since) < 0)
        return tower_response_make_text(response, 400, options,
                                        "400 Bad Request: since= takes the number of an "
                                        "incident, such as 12\n");
    if (journal) {
        incidents = malloc(TOWER_JOURNAL_KEPT * sizeof *incidents);
        if (!incidents)
            return -ENOMEM;
        n = tower_journal_read(journal, since, incidents, TOWER_JOURNAL_KEPT);
        tower_journal_get_stats(journal, &stats);
    }
    size_t bytes = 0;
    char *json = make_json(incidents, n, &stats, &bytes);
    free(incidents);
    return tower_response_make(response, 200, "application/json", json, bytes, options);
}
