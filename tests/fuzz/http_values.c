/* http_values.c - what is read out of a request's words: query, password, address.
 *
 * Lines: target, Authorization, Host, X-Forwarded-Host, key, value, password.
 */
#include "fuzz.h"

#include "request.h"

#include <errno.h>
#include <strings.h>

#define TEXT_BYTES 300

static struct tower_request request;

static size_t escape(const char *text, char *ret_escaped, size_t escaped_bytes) {
    size_t n = 0;
    for (; *text != '\0' && n + 4 < escaped_bytes; text++) {
        if (*text == ' ' && n % 2 == 0)
            ret_escaped[n++] = '+';
        else
            n += (size_t)snprintf(ret_escaped + n, escaped_bytes - n, n % 3 ? "%%%02x" : "%%%02X",
                                  (unsigned)(unsigned char)*text);
    }
    ret_escaped[n] = '\0';
    return n;
}

static void set_target(const char *target) {
    (void)snprintf(request.target, sizeof request.target, "%s", target);
    request.target_bytes = strlen(request.target);
}

/* What is put into a query comes out of it. */
static void check_query_comes_back(const char *key, const char *value) {
    char escaped[3 * TEXT_BYTES + 8], back[TEXT_BYTES], target[4 * TEXT_BYTES];
    if (key[strcspn(key, "&=# ")] != '\0' || strlen(key) > 20)
        return;
    for (const char *c = key; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return;
    (void)escape(value, escaped, sizeof escaped);
    (void)snprintf(target, sizeof target, "/admin/metadata?x%s=1&%s=%s&%s=2", key, key, escaped,
                   key);
    set_target(target);
    FUZZ_REQUIRE(tower_request_query(&request, key, back, sizeof back) == (int)strlen(value));
    FUZZ_REQUIRE(strcmp(back, value) == 0);
    if (*value != '\0')
        FUZZ_REQUIRE(tower_request_query(&request, key, back, strlen(value)) == -ENOSPC);
}

static void check_query(const char *key) {
    /* On the heap and of exactly its size, so that a byte too much is seen. */
    for (size_t room = 1; room < 40; room += 7) {
        char *value = malloc(room);
        int n = tower_request_query(&request, key, value, room);
        FUZZ_REQUIRE(n == -ENOENT || n == -EINVAL || n == -ENOSPC ||
                     (n >= 0 && (size_t)n < room && strlen(value) == (size_t)n));
        free(value);
    }
}

static void encode_base64(const uint8_t *data, size_t bytes, char *ret_text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < bytes ? (uint32_t)data[i + 1] << 8 : 0) |
                        (i + 2 < bytes ? data[i + 2] : 0);
        for (unsigned k = 0; k < 4; k++)
            *ret_text++ = i + k < bytes + 1 ? digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    *ret_text = '\0';
}

static bool has_password(const char *password) {
    struct tower_request_login login;
    if (!tower_request_login(&request, &login))
        return false;
    const struct tower_credentials *given = &login.given;
    FUZZ_REQUIRE(given->user == login.bytes && given->user[given->user_bytes] == ':');
    FUZZ_REQUIRE(given->password == given->user + given->user_bytes + 1);
    FUZZ_REQUIRE(given->user_bytes + 1 + given->password_bytes <= sizeof login.bytes);
    return tower_password_is(password, given->password, given->password_bytes);
}

static bool bears(const char *user, const char *given, const char *password) {
    char words[TEXT_BYTES];
    int n = snprintf(words, sizeof words, "%s:%s", user, given);
    char *field = request.fields[TOWER_REQUEST_AUTHORIZATION];
    memcpy(field, "Basic ", 7);
    encode_base64((const uint8_t *)words, (size_t)n, field + 6);
    return has_password(password);
}

static void check_password(const char *user, const char *password) {
    char other[TEXT_BYTES];
    size_t length = strlen(password);
    /* Three quarters of a field is all that fits. */
    if (strchr(user, ':') || strlen(user) + length > 250)
        return;
    FUZZ_REQUIRE(bears(user, password, password) == (length > 0));
    (void)snprintf(other, sizeof other, "%s%s", password, password);
    FUZZ_REQUIRE(!bears("", other, password) || length == 0);
    (void)snprintf(other, sizeof other, "%s ", password);
    FUZZ_REQUIRE(!bears(user, other, password));
    if (length > 0) {
        other[length - 1] ^= 1;
        other[length] = '\0';
        FUZZ_REQUIRE(!bears(user, other, password));
        other[length - 1] = '\0';
        FUZZ_REQUIRE(!bears(user, other, password));
    }
}

static void check_base_url(void) {
    char *url = malloc(TOWER_HTTP_FIELD_BYTES_MAX + 16);
    tower_request_base_url(&request, "", url, TOWER_HTTP_FIELD_BYTES_MAX + 16);
    const char *host = strstr(url, "://");
    FUZZ_REQUIRE(host && strlen(host) > 3);
    FUZZ_REQUIRE(strspn(host + 3, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  ".-_:[]") == strlen(host + 3));
    free(url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char key[TEXT_BYTES], value[TEXT_BYTES], password[TEXT_BYTES];
    memset(&request, 0, sizeof request);
    fuzz_take_text('\n', &data, &bytes, request.target, sizeof request.target);
    request.target_bytes = strlen(request.target);
    const enum tower_request_field fields[] = {TOWER_REQUEST_AUTHORIZATION, TOWER_REQUEST_HOST,
                                               TOWER_REQUEST_FORWARDED_HOST};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        fuzz_take_text('\n', &data, &bytes, request.fields[fields[i]],
                       sizeof request.fields[fields[i]]);
    fuzz_take_text('\n', &data, &bytes, key, sizeof key);
    fuzz_take_text('\n', &data, &bytes, value, sizeof value);
    fuzz_take_text('\n', &data, &bytes, password, sizeof password);

    const char *path;
    size_t path_bytes;
    tower_request_path(&request, &path, &path_bytes);
    FUZZ_REQUIRE(path_bytes <= request.target_bytes);
    check_query(key);
    check_base_url();
    bool is_let_in = has_password(password);
    FUZZ_REQUIRE(!is_let_in ||
                 (*password != '\0' &&
                  strncasecmp(request.fields[TOWER_REQUEST_AUTHORIZATION], "basic ", 6) == 0));
    check_password(key, password);
    check_query_comes_back(key, value);
    return 0;
}
