/* web.c - the page for people, from the files in web/. */
#include "web.h"

#include "routes.h"

#include <stdlib.h>
#include <string.h>

/* The page is made of its own files and nothing else, and is in nobody's frame. */
#define PAGE_HEADERS                                                                               \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "           \
    "img-src 'self'; media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "  \
    "frame-ancestors 'none'\r\n"                                                                   \
    "Referrer-Policy: no-referrer\r\n"

const struct tower_web_file *tower_web_find(const char *path, size_t path_bytes) {
    for (const struct tower_web_file *file = tower_web_files; file->path; file++) {
        if (strlen(file->path) == path_bytes && memcmp(file->path, path, path_bytes) == 0)
            return file;
    }
    return NULL;
}

int tower_route_web(struct tower_routes *routes, const struct tower_request *request,
                    const struct tower_response_options *options, struct tower_response *response) {
    (void)routes;
    const char *path;
    size_t path_bytes;
    tower_request_path(request, &path, &path_bytes);
    const struct tower_web_file *file = tower_web_find(path, path_bytes);
    char *body = malloc(file->size);
    if (body)
        memcpy(body, file->bytes, file->size);
    struct tower_response_options page = *options;
    page.cache_control = "no-cache";
    page.extra = PAGE_HEADERS;
    return tower_response_make(response, 200, file->content_type, body, file->size, &page);
}
