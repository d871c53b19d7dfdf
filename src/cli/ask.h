/* ask.h - asks a transmitter for JSON, or to do something, and shows text from elsewhere. */
#ifndef TOWER_CLI_ASK_H
#define TOWER_CLI_ASK_H

#include "http_client.h"

#include <jansson.h>

/* Where a transmitter is if nothing else is said. */
#define TOWER_ASK_URL "http://127.0.0.1:8005"

/* Make `text`, the address of a transmitter, that of `path` there; it may name the path already.
 * Errors: -EINVAL or what tower_http_url_parse() says; one line on stderr says what is wrong, for
 * `command`. */
int tower_ask_url(const char *command, const char *text, const char *path,
                  struct tower_http_url *ret_url);

/* Ask for it: an object, which belongs to the caller. Waits some seconds at most. NULL: there is
 * none, and a line on stderr says why; `text` is how the address was given. `command`
 * NULL: nothing is said. */
json_t *tower_ask(const char *command, const char *text, const struct tower_http_url *url);

/* The same with POST of `body`, with the password. Where the answer is not 200, what it says is in
 * the line on stderr. */
json_t *tower_ask_post(const char *command, const char *text, const struct tower_http_url *url,
                       const char *password, const char *body);

/* Write text to stdout so that nothing in it steers a terminal: a control character is a question
 * mark. */
void tower_print_text(const char *text);

#endif
