/* stream_head.c - a client's Ogg, FLAC or Matroska, its head and its title; and WAV.
 *
 * The first byte says which: O, F, M, or W; anything else is a comment by itself.
 */
#include "fuzz.h"

#include "pcm_stream.h"
#include "stream_head.h"
#include "tower/titles.h"
#include "vorbis_comment.h"

#include <errno.h>

struct heard {
    int error;
    size_t bytes; /* in pieces */
    uint64_t sum; /* over them and their marks; pieces other than pages may be cut anywhere */
    size_t head_bytes;
    size_t n_titles;
    char title[TOWER_TITLE_BYTES_MAX + 1]; /* the last */
};

static void check_title(char *title, struct heard *heard) {
    if (!title)
        return;
    size_t bytes = strlen(title);
    FUZZ_REQUIRE(bytes <= TOWER_TITLE_BYTES_MAX);
    FUZZ_REQUIRE(tower_utf8_is_valid(title, bytes));
    for (size_t i = 0; i < bytes; i++)
        FUZZ_REQUIRE((unsigned char)title[i] >= ' ' && title[i] != 0x7f);
    if (heard) {
        heard->n_titles++;
        memcpy(heard->title, title, bytes + 1);
    }
    free(title);
}

static void add(struct heard *heard, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        heard->sum = (heard->sum ^ data[i]) * UINT64_C(0x100000001b3);
    heard->bytes += bytes;
}

static void check_piece(enum tower_stream_kind kind, const struct tower_stream_piece *piece,
                        struct heard *heard) {
    FUZZ_REQUIRE(piece->bytes > 0);
    FUZZ_REQUIRE(!piece->changes_codec || piece->begins_link);
    FUZZ_REQUIRE(!piece->begins_link || (kind != TOWER_STREAM_MATROSKA && piece->is_head));
    FUZZ_REQUIRE(!piece->ends_head || piece->is_head);
    add(heard, piece->data, piece->bytes);
    if (kind == TOWER_STREAM_MATROSKA)
        return;
    FUZZ_REQUIRE(piece->bytes >= 27 && piece->bytes <= TOWER_STREAM_PAGE_BYTES_MAX);
    FUZZ_REQUIRE(memcmp(piece->data, "OggS\0", 5) == 0);
    heard->sum += piece->is_head + 2U * piece->begins_link + 4U * piece->changes_codec +
                  8U * piece->ends_head;
}

static void hear(enum tower_stream_kind kind, const uint8_t *data, size_t bytes,
                 struct fuzz_pieces pieces, struct heard *ret_heard) {
    struct tower_stream_head *head;
    *ret_heard = (struct heard){.error = 0};
    FUZZ_REQUIRE(tower_stream_head_new(kind, &head) == 0);
    while (bytes > 0 && ret_heard->error == 0) {
        size_t n = fuzz_next_piece(&pieces, bytes);
        uint8_t *part = malloc(n);
        FUZZ_REQUIRE(part);
        memcpy(part, data, n);
        const uint8_t *at = part;
        size_t left = n;
        int result = 1;
        while (result == 1) {
            struct tower_stream_piece piece;
            result = tower_stream_head_take(head, &at, &left, &piece);
            FUZZ_REQUIRE(result == 1 || result == 0 || result == -EPROTO);
            FUZZ_REQUIRE(at + left == part + n && (result != 0 || left == 0));
            if (result != 1)
                break;
            check_piece(kind, &piece, ret_heard);
            if (piece.ends_head)
                check_title(tower_stream_head_title(head), ret_heard);
        }
        ret_heard->error = result;
        data += n;
        bytes -= n;
        free(part);
    }
    const uint8_t *kept = tower_stream_head_get(head, &ret_heard->head_bytes);
    FUZZ_REQUIRE(ret_heard->head_bytes <= TOWER_STREAM_HEAD_BYTES_MAX);
    add(ret_heard, kept, ret_heard->head_bytes);
    check_title(tower_stream_head_title(head), NULL);
    tower_stream_head_free(head);
}

static void count_samples(void *user, const int16_t *samples, size_t n_samples) {
    uint64_t *sums = user;
    sums[0] += n_samples;
    for (size_t i = 0; i < n_samples; i++)
        sums[1] += (uint64_t)((int64_t)samples[2 * i] + samples[2 * i + 1]);
}

/* A rate of 1000 Hz makes 48 times as much of it. */
static int hear_wav(const uint8_t *data, size_t bytes, struct fuzz_pieces pieces,
                    uint64_t sums[2]) {
    struct tower_pcm_stream *stream;
    int error = 0;
    sums[0] = sums[1] = 0;
    FUZZ_REQUIRE(tower_pcm_stream_new_wav(count_samples, sums, &stream) == 0);
    while (bytes > 0 && error == 0) {
        size_t n = fuzz_next_piece(&pieces, bytes);
        uint8_t *part = malloc(n);
        FUZZ_REQUIRE(part);
        memcpy(part, data, n);
        error = tower_pcm_stream_take(stream, part, n);
        free(part);
        data += n;
        bytes -= n;
    }
    FUZZ_REQUIRE(error == 0 || error == -EPROTO || error == -ENOTSUP);
    if (error == 0)
        error = tower_pcm_stream_end(stream);
    tower_pcm_stream_free(stream);
    return error;
}

static void check_wav(const uint8_t *data, size_t bytes) {
    uint64_t whole[2], pieced[2];
    int error = hear_wav(data, bytes, (struct fuzz_pieces){.state = 1, .largest = 65536}, whole);
    FUZZ_REQUIRE(hear_wav(data, bytes, fuzz_pieces_of(data, bytes, 1000), pieced) == error);
    /* What was on the way when it failed depends on the pieces. */
    FUZZ_REQUIRE(error < 0 || (whole[0] == pieced[0] && whole[1] == pieced[1]));
    FUZZ_REQUIRE(whole[0] <= bytes * 48 + 48);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct heard whole, pieced;
    if (bytes < 1)
        return 0;
    enum tower_stream_kind kind = TOWER_STREAM_PLAIN;
    uint8_t which = *data;
    data++;
    bytes--;
    if (which == 'O')
        kind = TOWER_STREAM_OGG;
    else if (which == 'F')
        kind = TOWER_STREAM_FLAC;
    else if (which == 'M')
        kind = TOWER_STREAM_MATROSKA;
    if (which == 'W') {
        check_wav(data, bytes);
        return 0;
    }
    if (kind == TOWER_STREAM_PLAIN) {
        check_title(tower_vorbis_comment_title(data, bytes), NULL);
        return 0;
    }
    hear(kind, data, bytes, (struct fuzz_pieces){.state = 1, .largest = 65536}, &whole);
    hear(kind, data, bytes, fuzz_pieces_of(data, bytes, 1000), &pieced);
    FUZZ_REQUIRE(whole.error == pieced.error && whole.bytes == pieced.bytes);
    FUZZ_REQUIRE(whole.sum == pieced.sum && whole.head_bytes == pieced.head_bytes);
    FUZZ_REQUIRE(whole.n_titles == pieced.n_titles && strcmp(whole.title, pieced.title) == 0);
    FUZZ_REQUIRE(kind != TOWER_STREAM_MATROSKA || whole.bytes - whole.head_bytes == bytes);
    return 0;
}
