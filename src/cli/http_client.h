/* http_client.h - GET and POST over HTTP/1.1, as much of it as the subcommands need.
 *
 * One request a connection. The body comes in pieces as it arrives: whole (Content-Length),
 * chunked, or until the server closes. Nothing waits past its deadline, which is on the real clock.
 */
#ifndef TOWER_CLI_HTTP_CLIENT_H
#define TOWER_CLI_HTTP_CLIENT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_HTTP_HOST_BYTES 256
#define TOWER_HTTP_PATH_BYTES 2048
/* A response's header may be this long. */
#define TOWER_HTTP_HEADER_BYTES_MAX 16384

struct tower_http_url {
    char host[TOWER_HTTP_HOST_BYTES]; /* a name or an address, without the brackets of IPv6 */
    uint16_t port;
    char path[TOWER_HTTP_PATH_BYTES]; /* with the query; "/" where there is none */
};

/* Read http://host[:port][/path]. Errors: -EPROTONOSUPPORT (https or another scheme), -EINVAL
 * (anything else that is wrong), -ENAMETOOLONG. One line in `error` says what. Pure. */
int tower_http_url_parse(const char *text, struct tower_http_url *ret_url, char *error,
                         size_t error_bytes);

struct tower_http_client;

/* Connect, send the request and wait for the header of the response; all of it by `timeout_ns` from
 * now (looking up a name may take longer). Any status is a success; a 1xx is passed over. Blocks.
 * Errors: -ENOENT (no such host), -ETIMEDOUT, -ECONNREFUSED and the like, -ECONNRESET (closed
 * before the header was over), -EPROTO (no HTTP), -EMSGSIZE (header over
 * TOWER_HTTP_HEADER_BYTES_MAX), -EINTR (a signal, or `is_interrupted`, which a signal handler may
 * set and which is looked at every 100 ms; NULL: nobody interrupts), -ENOMEM, -EMFILE. One line in
 * `error` says what was done, to whom, and why it failed. */
int tower_http_get(const struct tower_http_url *url, int64_t timeout_ns,
                   const volatile sig_atomic_t *is_interrupted,
                   struct tower_http_client **ret_client, char *error, size_t error_bytes);

/* The same with POST, of `body`, which is JSON in UTF-8, at most TOWER_HTTP_POST_BYTES_MAX, and
 * bears `password` (at most TOWER_HTTP_PASSWORD_BYTES_MAX) as HTTP's Basic scheme has it; no copy
 * of that stays in memory. Errors: also -EMSGSIZE (one of the two is longer). */
#define TOWER_HTTP_POST_BYTES_MAX 1024
#define TOWER_HTTP_PASSWORD_BYTES_MAX 255
int tower_http_post(const struct tower_http_url *url, const char *password, const char *body,
                    int64_t timeout_ns, const volatile sig_atomic_t *is_interrupted,
                    struct tower_http_client **ret_client, char *error, size_t error_bytes);

/* Close the connection. Takes NULL. */
void tower_http_client_free(struct tower_http_client *client);

/* The status code, its words ("OK", "Not Found") and the Content-Type ("" where there was none). */
unsigned tower_http_client_status(const struct tower_http_client *client);
const char *tower_http_client_status_words(const struct tower_http_client *client);
const char *tower_http_client_content_type(const struct tower_http_client *client);

/* Wait up to `timeout_ns` for some of the body and copy at most `bytes` (> 0) of it to `ret_data`.
 * Returns how many, 0 at the end of the body. What was read before an error is given out first.
 * Errors: -ETIMEDOUT (nothing came; read again), -EINTR (a signal; read again), -ECONNRESET (closed
 * before the end that was announced), -EPROTO (bad chunks), or what recv() said. */
int64_t tower_http_client_read(struct tower_http_client *client, void *ret_data, size_t bytes,
                               int64_t timeout_ns);

#endif
