/* http_body.c - the body of a request in chunks, as a client sends it. */
#include "fuzz.h"

#include "http_body.h"

#include <errno.h>

struct undone {
    int error;
    bool is_ended;
    size_t taken;
    size_t bytes;
    uint8_t *content;
};

static void undo(const uint8_t *data, size_t bytes, struct fuzz_pieces pieces,
                 struct undone *ret_undone) {
    struct tower_http_body body;
    const uint8_t *at = data;
    size_t left = bytes;
    *ret_undone = (struct undone){.content = malloc(bytes + 1)};
    FUZZ_REQUIRE(ret_undone->content);
    tower_http_body_init(&body, true, 0);
    while (left > 0 && ret_undone->error == 0 && !ret_undone->is_ended) {
        /* On the heap and alone, so that a byte too far is seen. */
        size_t n = fuzz_next_piece(&pieces, left);
        uint8_t *piece = malloc(n);
        FUZZ_REQUIRE(piece);
        memcpy(piece, at, n);
        const uint8_t *in = piece;
        size_t in_left = n;
        int result = 1;
        while (result == 1) {
            const uint8_t *content = NULL;
            size_t content_bytes = 0;
            const uint8_t *from = in;
            size_t before = in_left;
            result = tower_http_body_take(&body, &in, &in_left, &content, &content_bytes);
            FUZZ_REQUIRE((size_t)(in - from) == before - in_left && in_left <= before);
            FUZZ_REQUIRE(result == 0 || result == 1 || result == -EBADMSG || result == -EMSGSIZE);
            if (result != 1)
                break;
            FUZZ_REQUIRE(content_bytes > 0 && content + content_bytes == in && content >= from);
            FUZZ_REQUIRE(ret_undone->bytes + content_bytes <= bytes);
            memcpy(ret_undone->content + ret_undone->bytes, content, content_bytes);
            ret_undone->bytes += content_bytes;
        }
        ret_undone->error = result < 0 ? result : 0;
        ret_undone->is_ended = body.place == TOWER_HTTP_BODY_END;
        FUZZ_REQUIRE(result < 0 || in_left == 0 || ret_undone->is_ended);
        ret_undone->taken += n - in_left;
        at += n;
        left -= n;
        free(piece);
    }
    FUZZ_REQUIRE(body.line_bytes <= TOWER_HTTP_BODY_LINE_BYTES_MAX + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct undone whole, pieced;
    undo(data, bytes, (struct fuzz_pieces){.state = 1, .largest = 65536}, &whole);
    undo(data, bytes, fuzz_pieces_of(data, bytes, 1000), &pieced);
    FUZZ_REQUIRE(whole.error == pieced.error && whole.is_ended == pieced.is_ended);
    FUZZ_REQUIRE(whole.taken == pieced.taken && whole.bytes == pieced.bytes);
    FUZZ_REQUIRE(memcmp(whole.content, pieced.content, whole.bytes) == 0);
    /* What is at its end in order ends so. */
    FUZZ_REQUIRE(!whole.is_ended ||
                 (whole.taken >= 5 && memcmp(data + whole.taken - 2, "\r\n", 2) == 0));
    free(whole.content);
    free(pieced.content);
    return 0;
}
