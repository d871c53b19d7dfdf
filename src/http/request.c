/* request.c - what a client asks for. */
#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const field_names[TOWER_REQUEST_FIELD_COUNT] = {
    [TOWER_REQUEST_HOST] = "host",
    [TOWER_REQUEST_AUTHORIZATION] = "authorization",
    [TOWER_REQUEST_EXPECT] = "expect",
    [TOWER_REQUEST_CONTENT_TYPE] = "content-type",
    [TOWER_REQUEST_ICE_NAME] = "ice-name",
    [TOWER_REQUEST_ICY_METADATA] = "icy-metadata",
    [TOWER_REQUEST_FORWARDED_HOST] = "x-forwarded-host",
    [TOWER_REQUEST_FORWARDED_PROTO] = "x-forwarded-proto",
};

enum tower_request_field tower_request_find_field(const char *name) {
    unsigned field = 0;
    while (field < TOWER_REQUEST_FIELD_COUNT && strcasecmp(name, field_names[field]) != 0)
        field++;
    return (enum tower_request_field)field;
}

/* The part `part` of the target; false if there is none. */
static bool find_part(const struct tower_request *request, enum http_parser_url_fields part,
                      const char **ret_at, size_t *ret_bytes) {
    struct http_parser_url url;
    http_parser_url_init(&url);
    if (http_parser_parse_url(request->target, request->target_bytes, 0, &url) != 0 ||
        !(url.field_set & (1U << part)))
        return false;
    *ret_at = request->target + url.field_data[part].off;
    *ret_bytes = url.field_data[part].len;
    return true;
}

void tower_request_path(const struct tower_request *request, const char **ret_path,
                        size_t *ret_bytes) {
    *ret_path = "";
    *ret_bytes = 0;
    (void)find_part(request, UF_PATH, ret_path, ret_bytes);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(const char *text, size_t bytes, char *ret_value, size_t value_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < bytes ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < bytes ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -EINVAL;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0')
            return -EINVAL;
        if (n + 1 >= value_bytes)
            return -ENOSPC;
        ret_value[n++] = c;
    }
    ret_value[n] = '\0';
    return (int)n;
}

int tower_request_query(const struct tower_request *request, const char *key, char *ret_value,
                        size_t value_bytes) {
    const char *at;
    size_t left;
    size_t key_bytes = strlen(key);
    if (!find_part(request, UF_QUERY, &at, &left))
        return -ENOENT;
    while (left > 0) {
        const char *end = memchr(at, '&', left);
        size_t bytes = end ? (size_t)(end - at) : left;
        if (bytes > key_bytes && memcmp(at, key, key_bytes) == 0 && at[key_bytes] == '=')
            return decode(at + key_bytes + 1, bytes - key_bytes - 1, ret_value, value_bytes);
        size_t step = bytes + (end ? 1 : 0);
        at += step;
        left -= step;
    }
    return -ENOENT;
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c != '\0' ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Returns the bytes, or -EINVAL. `ret_bytes` has room for three quarters of the text. */
static int decode_base64(const char *text, uint8_t *ret_bytes) {
    uint32_t bits = 0;
    int n_bits = 0;
    int n = 0;
    size_t length = strcspn(text, "=");
    if (strspn(text + length, "=") > 2 || text[length + strspn(text + length, "=")] != '\0')
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            ret_bytes[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    return n;
}

bool tower_request_login(const struct tower_request *request,
                         struct tower_request_login *ret_login) {
    const char *field = request->fields[TOWER_REQUEST_AUTHORIZATION];
    if (strncasecmp(field, "basic ", 6) != 0)
        return false;
    int n = decode_base64(field + 6 + strspn(field + 6, " "), ret_login->bytes);
    const unsigned char *colon = n > 0 ? memchr(ret_login->bytes, ':', (size_t)n) : NULL;
    if (!colon)
        return false;
    ret_login->given = (struct tower_credentials){
        .user = ret_login->bytes,
        .user_bytes = (size_t)(colon - ret_login->bytes),
        .password = colon + 1,
        .password_bytes = (size_t)(ret_login->bytes + n - (colon + 1)),
    };
    return true;
}

/* A host, with or without a port, as it may stand in an address: nothing that would end it. */
static bool is_authority(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 ".-_:[]");
    return length > 0 && text[length] == '\0';
}

static void write_local(const struct sockaddr *local, char *ret_url, size_t url_bytes) {
    char host[INET6_ADDRSTRLEN] = "localhost";
    unsigned port = 0;
    bool is_ipv6 = false;
    if (local && local->sa_family == AF_INET) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)local;
        (void)inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
        port = ntohs(address->sin_port);
    } else if (local && local->sa_family == AF_INET6) {
        const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)(const void *)local;
        is_ipv6 = !IN6_IS_ADDR_V4MAPPED(&address->sin6_addr);
        if (is_ipv6)
            (void)inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof host);
        else
            (void)inet_ntop(AF_INET, &address->sin6_addr.s6_addr[12], host, sizeof host);
        port = ntohs(address->sin6_port);
    }
    (void)snprintf(ret_url, url_bytes, "http://%s%s%s:%u", is_ipv6 ? "[" : "", host,
                   is_ipv6 ? "]" : "", port);
}

void tower_request_base_url(const struct tower_request *request, const char *public_url,
                            char *ret_url, size_t url_bytes) {
    const char *host = request->fields[TOWER_REQUEST_FORWARDED_HOST];
    bool is_https = strcasecmp(request->fields[TOWER_REQUEST_FORWARDED_PROTO], "https") == 0;
    if (!is_authority(host))
        host = request->fields[TOWER_REQUEST_HOST];
    if (*public_url != '\0')
        (void)snprintf(ret_url, url_bytes, "%s", public_url);
    else if (is_authority(host))
        (void)snprintf(ret_url, url_bytes, "%s://%s", is_https ? "https" : "http", host);
    else
        write_local(request->local, ret_url, url_bytes);
}
