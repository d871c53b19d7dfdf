/* icy.c - titles of any text woven into the stream: a player takes both apart again, wherever the
 * sends end.
 *
 * The input is a script: a byte that says what happens, then what it needs. T, a text and a line's
 * end: a title. L, two bytes, and the same: a title that begins with so many x. Any other: so many
 * frames go on air, and the listener takes as many bytes as the next two say.
 */
#include "icy.h"

#include "fuzz.h"
#include "tower/fanout.h"

#include <errno.h>

#define RING_BYTES 65536
#define FRAME_BYTES 384
#define TURN_BYTES_MAX 40000
#define STEPS_MAX 200
#define STREAM_BYTES_MAX 400000
#define TITLES_MAX 64

static uint8_t ring[RING_BYTES];
static uint8_t turn[TURN_BYTES_MAX + TOWER_ICY_SAID_BYTES_MAX + 64];

/* What a player has understood. */
struct player {
    size_t until_block;
    size_t block_left;
    bool is_in_block;
    bool is_forgotten; /* the block's title, before all of it was sent: nobody knows its end */
    size_t filled;
    char block[255 * 16 + 1];
    uint64_t n_stream; /* bytes */
    uint64_t told;     /* number of the title shown */
};

/* What has been on air. */
static struct {
    size_t n;
    struct {
        uint64_t cursor;
        char text[TOWER_TITLE_BYTES_MAX + 1];
    } titles[TITLES_MAX + 1]; /* by number */
} aired;

/* The stream comes round with the ring: filled once, it is right for good. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < RING_BYTES; i++)
        ring[i] = (uint8_t)(i * 2654435761U >> 13);
    return 0;
}

/* Cleaned: no control character, no space at an end, whole characters. */
static void check_text(const char *text) {
    size_t length = strnlen(text, TOWER_TITLE_BYTES_MAX + 1);
    FUZZ_REQUIRE(length <= TOWER_TITLE_BYTES_MAX && fuzz_is_plain(text, length));
    FUZZ_REQUIRE(length == 0 || (text[0] != ' ' && text[length - 1] != ' '));
}

static bool is_remembered(size_t number) {
    return number > 0 && aired.n - number < TOWER_TITLES_KEPT;
}

/* A block says one title, as players read it: up to the first "';". */
static void end_block(struct player *player) {
    /* The title of this byte of the stream is the newest that began at or before it. */
    size_t number = aired.n;
    while (number > 0 && aired.titles[number].cursor > player->n_stream)
        number--;
    player->is_in_block = false;
    player->until_block = TOWER_ICY_METAINT;
    if (player->filled == 0) {
        FUZZ_REQUIRE(number == player->told || !is_remembered(number));
        return;
    }
    if (player->is_forgotten) {
        player->told = number;
        return;
    }
    char *text = player->block + strlen("StreamTitle='");
    player->block[player->filled] = '\0';
    FUZZ_REQUIRE(strncmp(player->block, "StreamTitle='", 13) == 0);
    char *end = strstr(text, "';");
    FUZZ_REQUIRE(end);
    for (const char *c = end + 2; c < player->block + player->filled; c++)
        FUZZ_REQUIRE(*c == '\0');
    *end = '\0';
    FUZZ_REQUIRE(is_remembered(number) && number != player->told);
    player->told = number;
    const char *wanted = aired.titles[number].text;
    FUZZ_REQUIRE(strlen(text) == strlen(wanted));
    for (size_t i = 0; text[i] != '\0'; i++)
        FUZZ_REQUIRE(text[i] == wanted[i] ||
                     (text[i] == ',' && wanted[i] == ';' && i > 0 && wanted[i - 1] == '\''));
}

static void play(struct player *player, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        size_t n = 1;
        if (player->is_in_block) {
            player->block[player->filled++] = (char)*data;
            if (--player->block_left == 0)
                end_block(player);
        } else if (player->until_block == 0) {
            player->is_in_block = true;
            player->is_forgotten = false;
            player->filled = 0;
            player->block_left = (size_t)*data * 16;
            if (player->block_left == 0)
                end_block(player);
        } else {
            size_t place = (size_t)(player->n_stream % RING_BYTES);
            n = bytes < player->until_block ? bytes : player->until_block;
            n = n < RING_BYTES - place ? n : RING_BYTES - place;
            FUZZ_REQUIRE(memcmp(data, ring + place, n) == 0);
            player->until_block -= n;
            player->n_stream += n;
        }
        data += n;
        bytes -= n;
    }
}

static void set_title(struct tower_titles *titles, const char *text, size_t bytes, uint64_t frame,
                      uint64_t cursor) {
    int error = tower_titles_set(titles, text, bytes, TOWER_TITLE_FROM_NEXT);
    FUZZ_REQUIRE(error == (tower_utf8_is_valid(text, bytes) ? 0 : -EINVAL));
    struct tower_title now;
    tower_titles_get(titles, &now);
    FUZZ_REQUIRE(now.number == aired.n);
    tower_titles_mark(titles, frame, cursor);
    tower_titles_get(titles, &now);
    FUZZ_REQUIRE(now.number == aired.n + (error == 0 ? 1 : 0));
    if (error < 0)
        return;
    check_text(now.text);
    FUZZ_REQUIRE(now.from_frame == frame);
    aired.n = now.number;
    aired.titles[aired.n].cursor = cursor;
    memcpy(aired.titles[aired.n].text, now.text, sizeof now.text);
}

/* Weave `bytes` of the stream for the listener, who takes `taken` of what was woven. Returns how
 * many of them are stream. */
static size_t serve(struct tower_icy *icy, const struct tower_titles *titles, uint64_t cursor,
                    size_t bytes, size_t taken, struct player *player) {
    static struct tower_icy_woven woven;
    struct iovec pieces[2];
    int n = 0;
    for (size_t at = 0; at < bytes;) {
        size_t place = (size_t)((cursor + at) % RING_BYTES);
        size_t length = bytes - at < RING_BYTES - place ? bytes - at : RING_BYTES - place;
        pieces[n++] = (struct iovec){.iov_base = ring + place, .iov_len = length};
        at += length;
    }
    player->is_forgotten |= icy->block_sent > 0 && !is_remembered(icy->told);
    tower_icy_weave(icy, titles, cursor, pieces, n, &woven);
    size_t woven_bytes = 0, stream_bytes = 0;
    FUZZ_REQUIRE(woven.n_pieces >= 0 && woven.n_pieces <= TOWER_ICY_PIECES_MAX);
    for (int i = 0; i < woven.n_pieces; i++) {
        FUZZ_REQUIRE(woven.pieces[i].iov_len > 0);
        memcpy(turn + woven_bytes, woven.pieces[i].iov_base, woven.pieces[i].iov_len);
        woven_bytes += woven.pieces[i].iov_len;
        stream_bytes += woven.blocks[i].bytes == 0 ? woven.pieces[i].iov_len : 0;
    }
    FUZZ_REQUIRE(woven_bytes == woven.bytes);
    FUZZ_REQUIRE(stream_bytes <= bytes);
    FUZZ_REQUIRE(stream_bytes >= (bytes < 16000 ? bytes : 16000));
    if (taken > woven_bytes)
        taken = woven_bytes;
    uint64_t before = player->n_stream;
    play(player, turn, taken);
    size_t advanced = tower_icy_advance(icy, &woven, taken);
    FUZZ_REQUIRE(advanced == player->n_stream - before);
    FUZZ_REQUIRE(icy->until_block == player->until_block);
    FUZZ_REQUIRE((icy->block_sent > 0) == player->is_in_block);
    return advanced;
}

static size_t take_number(const uint8_t **data, size_t *bytes) {
    size_t number = 0;
    for (int i = 0; i < 2 && *bytes > 0; i++, (*data)++, (*bytes)--)
        number = number << 8 | **data;
    return number;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct player player;
    struct tower_titles *titles;
    struct tower_icy icy;
    uint64_t head = 0, frame = 0, cursor = 0;
    FUZZ_REQUIRE(tower_titles_new(&titles) == 0);
    tower_icy_init(&icy);
    memset(&player, 0, sizeof player);
    player.until_block = TOWER_ICY_METAINT;
    aired.n = 0;
    for (int step = 0; bytes > 0 && step < STEPS_MAX && cursor < STREAM_BYTES_MAX; step++) {
        uint8_t what = *data;
        data++;
        bytes--;
        if ((what == 'T' || what == 'L') && aired.n < TITLES_MAX) {
            static char text[6000];
            const uint8_t *end;
            size_t n = what == 'L' ? take_number(&data, &bytes) % 5000 : 0;
            size_t end_bytes = fuzz_take_until('\n', &data, &bytes, &end);
            end_bytes = end_bytes < 1000 ? end_bytes : 1000;
            memset(text, 'x', n);
            memcpy(text + n, end, end_bytes);
            set_title(titles, text, n + end_bytes, frame, head);
        } else {
            size_t frames = 1 + what % 100;
            head += frames * FRAME_BYTES;
            frame += frames;
            size_t due = head - cursor < TURN_BYTES_MAX ? (size_t)(head - cursor) : TURN_BYTES_MAX;
            cursor += serve(&icy, titles, cursor, due, take_number(&data, &bytes), &player);
        }
    }
    FUZZ_REQUIRE(player.n_stream == cursor);
    tower_titles_free(titles);
    return 0;
}
