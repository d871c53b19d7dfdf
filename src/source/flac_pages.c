/* flac_pages.c - heads and frames of FLAC found, and put into Ogg. */
#include "flac_pages.h"

#include "flac_frame.h"
#include "ogg_pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* "fLaC", and the block of metadata that it begins with: its type and length, and itself. */
#define MARK_BYTES 8
#define INFO_BYTES 34
#define BLOCK_HEAD_BYTES 4
#define LAST_BLOCK 0x80U
#define COMMENT 4U
/* Of an ID3v2 tag: the word, three bytes more, and its length in four times seven bits. */
#define TAG_HEAD_BYTES 10
#define TAG_LENGTH_AT 6
/* Of comments; what is behind is cut off. */
#define COMMENT_BYTES_MAX 65536
/* The first packet: what Ogg says of FLAC, then a head of FLAC. */
#define INTRODUCTION_BYTES 9
#define DESCRIPTION_BYTES (INTRODUCTION_BYTES + MARK_BYTES + INFO_BYTES)
#define BITS_AT (INTRODUCTION_BYTES + MARK_BYTES + 12)
#define ROOM_BYTES 65536
/* Pictures, what is no frame, and what looked like one: each time as much as was looked through, so
 * that no stream makes more work than this and its own length. */
#define WASTE_BYTES_MAX (32 * 1024 * 1024)
/* And that before any head: it is something else. */
#define SEEK_BYTES_MAX TOWER_STREAM_PAGE_BYTES_MAX

enum state { START, TAG, SEEKING, INFO, BLOCK_HEAD, BLOCK, DESCRIPTION, COMMENTS, SOUND };

static const uint8_t introduction[INTRODUCTION_BYTES] = {0x7f, 'F', 'L', 'A', 'C', 1, 0, 0, 1};
static const uint8_t mark[MARK_BYTES] = {'f', 'L', 'a', 'C', 0, 0, 0, INFO_BYTES};

struct tower_flac_pages {
    enum state state;
    size_t wasted_bytes; /* less what has come of sound since */

    /* What has come and is not done with: of a frame, all of it. The last byte of what is offered
     * is held, and not yet taken, as long as something is to be given: so that we are asked again.
     */
    size_t n_ahead;
    uint8_t *held;
    size_t held_room;
    size_t held_start;
    size_t held_bytes;

    uint8_t description[DESCRIPTION_BYTES];
    uint8_t *comment; /* with the head of its block */
    size_t comment_bytes;
    bool is_last_block;
    bool is_comment;   /* the block at hand */
    size_t block_left; /* or of the tag */

    struct tower_flac_frame frame; /* at the beginning of what is held */
    size_t frame_bytes;            /* of the packet that is being given; 0: it is not sound */
    struct tower_ogg_packet packet;
    uint8_t *page;
};

int tower_flac_pages_new(struct tower_flac_pages **ret_pages) {
    struct tower_flac_pages *pages = calloc(1, sizeof *pages);
    if (!pages)
        return -ENOMEM;
    pages->held_room = ROOM_BYTES;
    pages->held = malloc(pages->held_room);
    pages->comment = malloc(BLOCK_HEAD_BYTES + COMMENT_BYTES_MAX);
    pages->page = malloc(TOWER_STREAM_PAGE_BYTES_MAX);
    if (!pages->held || !pages->comment || !pages->page) {
        tower_flac_pages_free(pages);
        return -ENOMEM;
    }
    pages->packet.is_whole = true;
    *ret_pages = pages;
    return 0;
}

void tower_flac_pages_free(struct tower_flac_pages *pages) {
    if (!pages)
        return;
    free(pages->held);
    free(pages->comment);
    free(pages->page);
    free(pages);
}

/* ---- what is held ---- */

static const uint8_t *held(const struct tower_flac_pages *pages) {
    return pages->held + pages->held_start;
}

static void drop(struct tower_flac_pages *pages, size_t bytes) {
    pages->held_start += bytes;
    pages->held_bytes -= bytes;
}

static int hold(struct tower_flac_pages *pages, const uint8_t **at, size_t *left) {
    if (pages->held_start > 0) {
        memmove(pages->held, held(pages), pages->held_bytes);
        pages->held_start = 0;
    }
    if (pages->held_bytes == pages->held_room) {
        uint8_t *more = realloc(pages->held, pages->held_room + ROOM_BYTES);
        if (!more)
            return -ENOMEM;
        pages->held = more;
        pages->held_room += ROOM_BYTES;
    }
    size_t room = pages->held_room - pages->held_bytes;
    size_t fresh = *left - pages->n_ahead;
    size_t n = fresh < room ? fresh : room;
    memcpy(pages->held + pages->held_bytes, *at + pages->n_ahead, n);
    pages->held_bytes += n;
    size_t taken = pages->n_ahead + n - 1;
    pages->n_ahead = 1;
    *at += taken;
    *left -= taken;
    return 0;
}

/* ---- the head; each of these returns 1: it went on, 0: more is needed, or an error ---- */

static int take_start(struct tower_flac_pages *pages) {
    static const uint8_t tag[] = {'I', 'D', '3'};
    const uint8_t *head = held(pages);
    if (pages->held_bytes < TAG_HEAD_BYTES)
        return 0;
    pages->state = SEEKING;
    if (memcmp(head, tag, sizeof tag) != 0)
        return 1;
    for (size_t i = TAG_LENGTH_AT; i < TAG_HEAD_BYTES; i++)
        pages->block_left = pages->block_left << 7 | (head[i] & 0x7fU);
    drop(pages, TAG_HEAD_BYTES);
    pages->state = TAG;
    return 1;
}

/* Of the block at hand, or the tag, as much as is held. */
static size_t block_bytes_held(const struct tower_flac_pages *pages) {
    return pages->block_left < pages->held_bytes ? pages->block_left : pages->held_bytes;
}

static int take_tag(struct tower_flac_pages *pages) {
    size_t n = block_bytes_held(pages);
    drop(pages, n);
    pages->block_left -= n;
    if (pages->block_left > 0)
        return 0;
    pages->state = SEEKING;
    return 1;
}

static void set_comment_bytes(struct tower_flac_pages *pages, size_t bytes) {
    pages->comment[0] = (uint8_t)(COMMENT | LAST_BLOCK);
    pages->comment[1] = (uint8_t)(bytes >> 16);
    pages->comment[2] = (uint8_t)(bytes >> 8);
    pages->comment[3] = (uint8_t)bytes;
    pages->comment_bytes = BLOCK_HEAD_BYTES + bytes;
}

static void begin_head(struct tower_flac_pages *pages) {
    pages->is_last_block = (held(pages)[BLOCK_HEAD_BYTES] & LAST_BLOCK) != 0;
    memcpy(pages->description, introduction, sizeof introduction);
    memcpy(pages->description + INTRODUCTION_BYTES, mark, sizeof mark);
    drop(pages, MARK_BYTES);
    /* None: no vendor's name, and no comment. Ogg wants as much. */
    memset(pages->comment + BLOCK_HEAD_BYTES, 0, 8);
    set_comment_bytes(pages, 8);
    pages->state = INFO;
}

static void end_block(struct tower_flac_pages *pages) {
    pages->state = pages->is_last_block ? DESCRIPTION : BLOCK_HEAD;
}

static int take_info(struct tower_flac_pages *pages) {
    if (pages->held_bytes < INFO_BYTES)
        return 0;
    memcpy(pages->description + INTRODUCTION_BYTES + MARK_BYTES, held(pages), INFO_BYTES);
    drop(pages, INFO_BYTES);
    end_block(pages);
    return 1;
}

static int take_block_head(struct tower_flac_pages *pages) {
    const uint8_t *head = held(pages);
    if (pages->held_bytes < BLOCK_HEAD_BYTES)
        return 0;
    pages->is_last_block = (head[0] & LAST_BLOCK) != 0;
    pages->is_comment = (head[0] & ~LAST_BLOCK) == COMMENT;
    pages->block_left = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (pages->is_comment)
        set_comment_bytes(pages, 0);
    drop(pages, BLOCK_HEAD_BYTES);
    pages->wasted_bytes += BLOCK_HEAD_BYTES;
    pages->state = BLOCK;
    return 1;
}

static int take_block(struct tower_flac_pages *pages) {
    size_t n = block_bytes_held(pages);
    if (pages->is_comment) {
        size_t room = BLOCK_HEAD_BYTES + COMMENT_BYTES_MAX - pages->comment_bytes;
        size_t kept = n < room ? n : room;
        memcpy(pages->comment + pages->comment_bytes, held(pages), kept);
        set_comment_bytes(pages, pages->comment_bytes - BLOCK_HEAD_BYTES + kept);
    }
    drop(pages, n);
    pages->wasted_bytes += n;
    pages->block_left -= n;
    if (pages->block_left > 0)
        return 0;
    end_block(pages);
    return 1;
}

/* ---- packets ---- */

static void begin_packet(struct tower_flac_pages *pages, const uint8_t *data, size_t bytes) {
    pages->packet.data = data;
    pages->packet.left_bytes = bytes;
    pages->packet.is_whole = false;
}

static int give_description(struct tower_flac_pages *pages) {
    const uint8_t *at = pages->description + BITS_AT;
    pages->frame = (struct tower_flac_frame){
        .stream_bits = ((at[0] & 1U) << 4 | at[1] >> 4) + 1U,
    };
    pages->packet = (struct tower_ogg_packet){
        .serial = pages->packet.serial + 1,
        .begins_stream = true,
    };
    begin_packet(pages, pages->description, sizeof pages->description);
    pages->state = COMMENTS;
    return 1;
}

static int give_comments(struct tower_flac_pages *pages) {
    begin_packet(pages, pages->comment, pages->comment_bytes);
    pages->state = SOUND;
    return 1;
}

static void restart_frame(struct tower_flac_pages *pages) {
    pages->frame = (struct tower_flac_frame){.stream_bits = pages->frame.stream_bits};
}

static int waste(struct tower_flac_pages *pages, size_t looked_through_bytes) {
    drop(pages, 1);
    pages->wasted_bytes += looked_through_bytes;
    return pages->state == SEEKING && pages->wasted_bytes > SEEK_BYTES_MAX ? -EPROTO : 1;
}

static int take_frame(struct tower_flac_pages *pages) {
    size_t bytes;
    int result = tower_flac_frame_walk(&pages->frame, held(pages), pages->held_bytes, &bytes);
    if (result == 0)
        return 0;
    if (result < 0) {
        size_t looked_through = pages->frame.at_bits / 8 + 1;
        restart_frame(pages);
        return waste(pages, looked_through);
    }
    pages->wasted_bytes -= bytes < pages->wasted_bytes ? bytes : pages->wasted_bytes;
    pages->packet.position += pages->frame.block_samples;
    restart_frame(pages);
    pages->frame_bytes = bytes;
    begin_packet(pages, held(pages), bytes);
    return 1;
}

/* A head or a frame begins here, or nothing does. */
static int seek(struct tower_flac_pages *pages) {
    if (pages->held_bytes == 0)
        return 0;
    const uint8_t *at = held(pages);
    if (pages->state == SOUND && at[0] != mark[0])
        return take_frame(pages);
    for (size_t i = 0; i < MARK_BYTES; i++) {
        if (i == pages->held_bytes)
            return 0;
        if ((i == BLOCK_HEAD_BYTES ? at[i] & ~LAST_BLOCK : at[i]) != mark[i])
            return waste(pages, 1);
    }
    begin_head(pages);
    return 1;
}

static int step(struct tower_flac_pages *pages) {
    if (pages->wasted_bytes > WASTE_BYTES_MAX)
        return -EPROTO;
    switch (pages->state) {
    case START:
        return take_start(pages);
    case TAG:
        return take_tag(pages);
    case INFO:
        return take_info(pages);
    case BLOCK_HEAD:
        return take_block_head(pages);
    case BLOCK:
        return take_block(pages);
    case DESCRIPTION:
        return give_description(pages);
    case COMMENTS:
        return give_comments(pages);
    case SEEKING:
    case SOUND:
        break;
    }
    return seek(pages);
}

int tower_flac_pages_take(struct tower_flac_pages *pages, const uint8_t **at, size_t *left,
                          const uint8_t **ret_page, size_t *ret_bytes) {
    while (pages->packet.is_whole) {
        int result = step(pages);
        if (result == 0 && *left <= pages->n_ahead) {
            *at += *left;
            *left = 0;
            pages->n_ahead = 0;
            return 0;
        }
        if (result == 0)
            result = hold(pages, at, left);
        if (result < 0)
            return result;
    }
    *ret_bytes = tower_ogg_packet_write(&pages->packet, pages->page);
    *ret_page = pages->page;
    if (pages->packet.is_whole) {
        drop(pages, pages->frame_bytes);
        pages->frame_bytes = 0;
    }
    return 1;
}
