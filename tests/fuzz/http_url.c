/* http_url.c - the address that a person gives to `tower status` and `tower aircheck`. */
#include "fuzz.h"

#include "http_client.h"

#include <ctype.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char text[4096], error[128], again_text[4096];
    struct tower_http_url url, again;
    memset(&url, 'x', sizeof url);
    struct tower_http_url before = url;
    fuzz_take_text('\0', &data, &bytes, text, sizeof text);
    error[0] = '\0';
    int result = tower_http_url_parse(text, &url, error, sizeof error);
    if (result < 0) {
        FUZZ_REQUIRE(result == -EPROTONOSUPPORT || result == -EINVAL || result == -ENAMETOOLONG);
        FUZZ_REQUIRE(*error != '\0');
        FUZZ_REQUIRE(memcmp(&url, &before, sizeof url) == 0);
        return 0;
    }
    FUZZ_REQUIRE(result == 0 && url.port != 0 && url.path[0] == '/');
    size_t host_bytes = strnlen(url.host, sizeof url.host);
    size_t path_bytes = strnlen(url.path, sizeof url.path);
    FUZZ_REQUIRE(host_bytes > 0 && host_bytes < sizeof url.host && path_bytes < sizeof url.path);
    /* Nothing that would end the request line, or the Host line, that they are put into. */
    for (size_t i = 0; i < path_bytes; i++)
        FUZZ_REQUIRE(url.path[i] > ' ' && url.path[i] <= '~' && url.path[i] != '#');
    for (size_t i = 0; i < host_bytes; i++)
        FUZZ_REQUIRE(isalnum((unsigned char)url.host[i]) || strchr(".-_:", url.host[i]));
    const char *authority = text + strlen("http://");
    const char *colon = memrchr(authority, ':', strcspn(authority, "/?#"));
    bool has_port = colon && !memchr(colon, ']', strcspn(colon, "/?#"));
    FUZZ_REQUIRE(url.port == (has_port ? strtoull(colon + 1, NULL, 10) : 80));
    bool is_ipv6 = strchr(url.host, ':') != NULL;
    (void)snprintf(again_text, sizeof again_text, "http://%s%s%s:%u%s", is_ipv6 ? "[" : "",
                   url.host, is_ipv6 ? "]" : "", (unsigned)url.port, url.path);
    FUZZ_REQUIRE(tower_http_url_parse(again_text, &again, error, sizeof error) == 0);
    FUZZ_REQUIRE(strcmp(again.host, url.host) == 0 && again.port == url.port &&
                 strcmp(again.path, url.path) == 0);
    return 0;
}
