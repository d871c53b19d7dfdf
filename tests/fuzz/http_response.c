/* http_response.c - what a server sends to `tower status` and `tower aircheck`: the same whatever
 * pieces it comes in.
 *
 * Takes the client's source in, as what reads a response stands behind a connection made by name.
 */
#include "../../src/cli/http_client.c"

#include "fuzz.h"

#define BODY_BYTES_MAX 65536

struct result {
    int error; /* where reading ended, 0 in order */
    bool has_header;
    unsigned status;
    char words[WORDS_BYTES];
    char content_type[CONTENT_TYPE_BYTES];
    size_t body_bytes;
    uint8_t body[BODY_BYTES_MAX];
};

static struct result whole, pieced;

static void check_text(const char *text, size_t text_bytes) {
    size_t length = strnlen(text, text_bytes);
    FUZZ_REQUIRE(length < text_bytes);
    for (size_t i = 0; i < length; i++)
        FUZZ_REQUIRE(text[i] >= ' ' && text[i] <= '~');
}

static void take_body(struct tower_http_client *client, struct result *result) {
    while (client->is_header_done && client->body_from < client->body_to) {
        size_t left = sizeof result->body - result->body_bytes;
        FUZZ_REQUIRE(client->body_to <= sizeof client->body && left > 0);
        int64_t n = tower_http_client_read(client, result->body + result->body_bytes,
                                           left < 999 ? left : 999, 0);
        FUZZ_REQUIRE(n > 0);
        result->body_bytes += (size_t)n;
    }
}

static void run(const uint8_t *data, size_t bytes, struct fuzz_pieces pieces,
                struct result *ret_result) {
    struct tower_http_client *client = calloc(1, sizeof *client);
    FUZZ_REQUIRE(client);
    client->fd = -1;
    start_parser(client);
    memset(ret_result, 0, offsetof(struct result, body));
    while (bytes > 0 && ret_result->error == 0 && !client->is_body_done) {
        size_t n = fuzz_next_piece(&pieces, bytes);
        ret_result->error = parse(client, (const char *)data, n);
        take_body(client, ret_result);
        data += n;
        bytes -= n;
    }
    if (ret_result->error == 0 && !client->is_body_done) {
        ret_result->error = parse_end(client);
        take_body(client, ret_result);
    }
    FUZZ_REQUIRE(ret_result->error == 0 || ret_result->error == -EPROTO ||
                 ret_result->error == -EMSGSIZE || ret_result->error == -ECONNRESET);
    FUZZ_REQUIRE(ret_result->error != 0 || client->is_header_done);
    FUZZ_REQUIRE(client->header_bytes <= TOWER_HTTP_HEADER_BYTES_MAX + 1);
    ret_result->has_header = client->is_header_done;
    ret_result->status = tower_http_client_status(client);
    memcpy(ret_result->words, client->status_words, sizeof ret_result->words);
    memcpy(ret_result->content_type, client->content_type, sizeof ret_result->content_type);
    FUZZ_REQUIRE(!client->is_header_done || ret_result->status / 100 != 1);
    check_text(client->status_words, sizeof client->status_words);
    check_text(client->content_type, sizeof client->content_type);
    tower_http_client_free(client);
}

/* What a server puts into an answer comes out of it. */
static void check_comes_back(const uint8_t *data, size_t bytes) {
    static struct result back;
    char type[CONTENT_TYPE_BYTES];
    size_t type_bytes = 0;
    while (type_bytes < bytes && type_bytes < sizeof type - 1 && data[type_bytes] > ' ' &&
           data[type_bytes] <= '~') {
        type[type_bytes] = (char)data[type_bytes];
        type_bytes++;
    }
    type[type_bytes] = '\0';

    char *answer = NULL;
    size_t answer_bytes = 0;
    FILE *out = open_memstream(&answer, &answer_bytes);
    FUZZ_REQUIRE(out);
    (void)fprintf(out, "HTTP/1.1 200 Well Done\r\ncontent-type:\t%s \r\n", type);
    struct fuzz_pieces pieces = fuzz_pieces_of(data, bytes, READ_BYTES);
    if (pieces.state & 2) {
        (void)fprintf(out, "Transfer-Encoding: chunked\r\n\r\n");
        for (size_t at = 0, n; at < bytes; at += n) {
            n = fuzz_next_piece(&pieces, bytes - at);
            (void)fprintf(out, "%zx\r\n", n);
            (void)fwrite(data + at, 1, n, out);
            (void)fputs("\r\n", out);
        }
        (void)fputs("0\r\nContent-Type: in/trailer\r\n\r\n", out);
    } else {
        (void)fprintf(out, "Content-Length: %zu\r\n\r\n", bytes);
        (void)fwrite(data, 1, bytes, out);
    }
    (void)fputs("HTTP/1.1 500 Another\r\n\r\n", out);
    FUZZ_REQUIRE(fclose(out) == 0);
    run((const uint8_t *)answer, answer_bytes, pieces, &back);
    free(answer);
    FUZZ_REQUIRE(back.error == 0 && back.has_header && back.status == 200);
    FUZZ_REQUIRE(strcmp(back.words, "Well Done") == 0 && strcmp(back.content_type, type) == 0);
    FUZZ_REQUIRE(back.body_bytes == bytes && memcmp(back.body, data, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes > BODY_BYTES_MAX)
        return 0;
    check_comes_back(data, bytes);
    run(data, bytes, (struct fuzz_pieces){.state = 1, .largest = READ_BYTES}, &whole);
    run(data, bytes, fuzz_pieces_of(data, bytes, READ_BYTES), &pieced);
    FUZZ_REQUIRE(whole.error == pieced.error && whole.has_header == pieced.has_header);
    if (!whole.has_header)
        return 0;
    FUZZ_REQUIRE(whole.status == pieced.status);
    FUZZ_REQUIRE(strcmp(whole.words, pieced.words) == 0);
    FUZZ_REQUIRE(strcmp(whole.content_type, pieced.content_type) == 0);
    FUZZ_REQUIRE(whole.body_bytes == pieced.body_bytes);
    FUZZ_REQUIRE(memcmp(whole.body, pieced.body, whole.body_bytes) == 0);
    return 0;
}
