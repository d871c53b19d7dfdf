/* ogg_pages.c - Ogg pages, read and written, and the heads of a chain's links. */
#include "ogg_pages.h"

#include "vorbis_comment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS_AT 5
#define POSITION_AT 6
#define POSITION_BYTES 8
#define SERIAL_AT 14
#define NUMBER_AT 18
#define CHECKSUM_AT 22
#define CHECKSUM_BYTES 4
#define CHECKSUM_POLYNOMIAL UINT32_C(0x04c11db7)
#define SEGMENTS_AT 26
#define HEADER_BYTES 27
#define FLAG_CONTINUED 0x01 /* it begins within a packet */
#define FLAG_BEGIN 0x02     /* the first page of a stream */
#define FLAG_END 0x04       /* the last one */
#define SEGMENT_WHOLE 255
#define SEGMENTS_MAX 255
#define BODY_BYTES_MAX (SEGMENTS_MAX * SEGMENT_WHOLE)
/* Of OpusHead (RFC 7845, 5.1): how many samples are left out at the beginning; and as many as it
 * takes an encoder and a decoder to find together. */
#define PRE_SKIP_AT 10
#define PRE_SKIP_BYTES 2
#define PRE_SKIP_SAMPLES 960
/* In the first packet of FLAC in Ogg, behind what Ogg says of it and a block's head. */
#define FLAC_INFO_AT 17
#define FLAC_INFO_BYTES 34
/* Of the packet with the comments, as much as is looked at. */
#define COMMENT_BYTES_MAX 65536

/* With the version behind it: another one is no page of ours. */
static const uint8_t magic[] = {'O', 'g', 'g', 'S', 0};

enum codec { CODEC_OTHER, CODEC_VORBIS, CODEC_OPUS, CODEC_FLAC, CODEC_SPEEX };

struct tower_ogg_pages {
    uint8_t *page; /* at hand */
    size_t page_bytes;
    bool is_given; /* it is whole and was handed out */
    size_t skipped_bytes;

    /* The link at hand. */
    bool has_begun;
    bool is_whole;    /* its head */
    bool is_too_long; /* its head; not kept then */
    unsigned n_streams;
    enum codec codec; /* of its first stream with sound that we know, whose serial number this is */
    uint32_t serial;
    uint32_t flac_shape;
    unsigned headers_left; /* packets of the head still to come */
    size_t kept_bytes;
    uint8_t *kept;
};

int tower_ogg_pages_new(struct tower_ogg_pages **ret_pages) {
    struct tower_ogg_pages *pages = calloc(1, sizeof *pages);
    if (!pages)
        return -ENOMEM;
    pages->page = malloc(TOWER_STREAM_PAGE_BYTES_MAX);
    pages->kept = malloc(TOWER_STREAM_HEAD_BYTES_MAX);
    if (!pages->page || !pages->kept) {
        tower_ogg_pages_free(pages);
        return -ENOMEM;
    }
    *ret_pages = pages;
    return 0;
}

void tower_ogg_pages_free(struct tower_ogg_pages *pages) {
    if (!pages)
        return;
    free(pages->page);
    free(pages->kept);
    free(pages);
}

/* ---- a page ---- */

static uint32_t serial_of(const uint8_t *page) {
    const uint8_t *at = page + SERIAL_AT;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static const uint8_t *body_of(const uint8_t *page) {
    return page + HEADER_BYTES + page[SEGMENTS_AT];
}

/* How long a page is whose header, with its table of segments, is there. */
static size_t whole_bytes(const uint8_t *page) {
    size_t bytes = HEADER_BYTES + (size_t)page[SEGMENTS_AT];
    for (size_t i = 0; i < page[SEGMENTS_AT]; i++)
        bytes += page[HEADER_BYTES + i];
    return bytes;
}

/* How many packets end in it. */
static unsigned packets_ended(const uint8_t *page) {
    unsigned n = 0;
    for (size_t i = 0; i < page[SEGMENTS_AT]; i++)
        n += page[HEADER_BYTES + i] < SEGMENT_WHOLE;
    return n;
}

static bool begins_with(const uint8_t *data, size_t bytes, const char *word, size_t word_bytes) {
    return bytes >= word_bytes && memcmp(data, word, word_bytes) == 0;
}

static enum codec codec_of(const uint8_t *page, size_t page_bytes, unsigned *ret_headers) {
    const uint8_t *body = body_of(page);
    size_t bytes = page_bytes - (size_t)(body - page);
    if (begins_with(body, bytes, "\x01vorbis", 7)) {
        *ret_headers = 3;
        return CODEC_VORBIS;
    }
    if (begins_with(body, bytes, "OpusHead", 8)) {
        *ret_headers = 2;
        return CODEC_OPUS;
    }
    if (begins_with(body, bytes,
                    "\x7f"
                    "FLAC",
                    5)) {
        /* Of packets behind this one, 0: not known; but the comments always come. */
        unsigned n = bytes >= 9 ? (unsigned)body[7] << 8 | body[8] : 0;
        *ret_headers = 1 + (n > 0 ? n : 1);
        return CODEC_FLAC;
    }
    if (begins_with(body, bytes, "Speex   ", 8)) {
        *ret_headers = 2;
        return CODEC_SPEEX;
    }
    return CODEC_OTHER;
}

static void put_number(uint8_t *at, unsigned bytes, uint64_t number) {
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(number >> (8 * i));
}

static void set_checksum(uint8_t *page, size_t bytes) {
    uint32_t sum = 0;
    memset(page + CHECKSUM_AT, 0, CHECKSUM_BYTES);
    for (size_t i = 0; i < bytes; i++) {
        sum ^= (uint32_t)page[i] << 24;
        for (unsigned bit = 0; bit < 8; bit++)
            sum = sum << 1 ^ (sum & UINT32_C(0x80000000) ? CHECKSUM_POLYNOMIAL : 0);
    }
    put_number(page + CHECKSUM_AT, CHECKSUM_BYTES, sum);
}

/* Is the last segment a packet by itself, and empty? */
static bool has_empty_end(const uint8_t *page) {
    const uint8_t *segments = page + HEADER_BYTES;
    unsigned n = page[SEGMENTS_AT];
    if (n == 0 || segments[n - 1] > 0)
        return false;
    return n == 1 ? !(page[FLAGS_AT] & FLAG_CONTINUED) : segments[n - 2] < SEGMENT_WHOLE;
}

/* Liquidsoap ends each link of Opus with an empty packet, at which ffmpeg gives up the whole chain.
 * Returns how long the page then is; 0: nothing is left of it. */
static size_t drop_empty_end(uint8_t *page, size_t bytes) {
    if (!(page[FLAGS_AT] & FLAG_END) || !has_empty_end(page))
        return bytes;
    while (has_empty_end(page)) {
        size_t last = HEADER_BYTES + page[SEGMENTS_AT] - 1U;
        memmove(page + last, page + last + 1, bytes - last - 1);
        page[SEGMENTS_AT]--;
        bytes--;
    }
    set_checksum(page, bytes);
    return page[SEGMENTS_AT] > 0 ? bytes : 0;
}

/* ---- the link ---- */

static void begin_link(struct tower_ogg_pages *pages) {
    pages->is_whole = false;
    pages->is_too_long = false;
    pages->n_streams = 0;
    pages->codec = CODEC_OTHER;
    pages->headers_left = 0;
    pages->kept_bytes = 0;
}

static void keep_page(struct tower_ogg_pages *pages) {
    if (pages->is_too_long)
        return;
    if (pages->page_bytes > TOWER_STREAM_HEAD_BYTES_MAX - pages->kept_bytes) {
        pages->is_too_long = true;
        pages->kept_bytes = 0;
        return;
    }
    memcpy(pages->kept + pages->kept_bytes, pages->page, pages->page_bytes);
    pages->kept_bytes += pages->page_bytes;
}

/* Liquidsoap goes on with its sound in a new link for each title, of which 80 ms would be left out:
 * what is missing each time makes a gap in the end. */
static void limit_pre_skip(struct tower_ogg_pages *pages) {
    uint8_t *at = pages->page + (body_of(pages->page) - pages->page) + PRE_SKIP_AT;
    if (at + PRE_SKIP_BYTES > pages->page + pages->page_bytes ||
        ((unsigned)at[1] << 8 | at[0]) <= PRE_SKIP_SAMPLES)
        return;
    at[0] = PRE_SKIP_SAMPLES & 0xff;
    at[1] = PRE_SKIP_SAMPLES >> 8;
    set_checksum(pages->page, pages->page_bytes);
}

/* Of a stream of FLAC, what its decoder goes by from the first link on: how long its frames are at
 * most, and the bits of a sample. 0 of any other. */
static uint32_t flac_shape_of(enum codec codec, const uint8_t *page, size_t page_bytes) {
    const uint8_t *info = body_of(page) + FLAC_INFO_AT;
    if (codec != CODEC_FLAC || info + FLAC_INFO_BYTES > page + page_bytes)
        return 0;
    unsigned block_samples = (unsigned)info[2] << 8 | info[3];
    unsigned bits = (info[12] & 1U) << 4 | info[13] >> 4;
    return (uint32_t)block_samples << 8 | bits;
}

static void take_begin_page(struct tower_ogg_pages *pages, struct tower_stream_piece *piece) {
    unsigned headers = 0;
    enum codec codec = codec_of(pages->page, pages->page_bytes, &headers);
    enum codec codec_before = pages->codec;
    unsigned streams_before = pages->n_streams;
    uint32_t shape = flac_shape_of(codec, pages->page, pages->page_bytes);
    /* Streams side by side all begin before any of them goes on. */
    if (pages->has_begun && pages->is_whole) {
        begin_link(pages);
        piece->begins_link = true;
        /* A decoder goes on across links only where nothing but a stream of one kind is in each. */
        piece->changes_codec = codec != codec_before || codec == CODEC_OTHER ||
                               streams_before != 1 || shape != pages->flac_shape;
        if (codec == CODEC_OPUS && !piece->changes_codec)
            limit_pre_skip(pages);
    }
    pages->has_begun = true;
    pages->n_streams++;
    if (pages->codec == CODEC_OTHER && codec != CODEC_OTHER) {
        pages->codec = codec;
        pages->flac_shape = shape;
        pages->serial = serial_of(pages->page);
        pages->headers_left = headers;
    }
}

static void classify(struct tower_ogg_pages *pages, struct tower_stream_piece *piece) {
    const uint8_t *page = pages->page;
    *piece = (struct tower_stream_piece){.data = page, .bytes = pages->page_bytes};
    if (page[FLAGS_AT] & FLAG_BEGIN)
        take_begin_page(pages, piece);
    if (pages->is_whole)
        return;
    piece->is_head = true;
    keep_page(pages);
    if (pages->codec != CODEC_OTHER && serial_of(page) == pages->serial) {
        unsigned n = packets_ended(page);
        pages->headers_left -= n < pages->headers_left ? n : pages->headers_left;
        pages->is_whole = pages->headers_left == 0;
    }
    /* Of streams we know nothing of, or with much in front, this is where hope ends. */
    pages->is_whole = pages->is_whole || pages->is_too_long;
    piece->ends_head = pages->is_whole;
}

/* ---- cutting ---- */

/* How many bytes the page at hand must have before more can be told of it. */
static size_t wanted_bytes(const struct tower_ogg_pages *pages) {
    if (pages->page_bytes < HEADER_BYTES)
        return HEADER_BYTES;
    size_t header_bytes = HEADER_BYTES + (size_t)pages->page[SEGMENTS_AT];
    return pages->page_bytes < header_bytes ? header_bytes : whole_bytes(pages->page);
}

/* The next byte belongs to the magic, or is passed over. */
static int seek_page(struct tower_ogg_pages *pages, uint8_t byte) {
    if (byte != magic[pages->page_bytes]) {
        pages->skipped_bytes += pages->page_bytes;
        pages->page_bytes = 0;
        if (byte != magic[0])
            return ++pages->skipped_bytes > TOWER_STREAM_PAGE_BYTES_MAX ? -EPROTO : 0;
    }
    pages->page[pages->page_bytes++] = byte;
    return 0;
}

int tower_ogg_pages_take(struct tower_ogg_pages *pages, const uint8_t **at, size_t *left,
                         struct tower_stream_piece *ret_piece) {
    if (pages->is_given) {
        pages->is_given = false;
        pages->page_bytes = 0;
    }
    while (*left > 0) {
        if (pages->page_bytes < sizeof magic) {
            int error = seek_page(pages, **at);
            ++*at;
            --*left;
            if (error < 0)
                return error;
            continue;
        }
        size_t missing = wanted_bytes(pages) - pages->page_bytes;
        size_t n = missing < *left ? missing : *left;
        memcpy(pages->page + pages->page_bytes, *at, n);
        pages->page_bytes += n;
        *at += n;
        *left -= n;
        size_t header_bytes = HEADER_BYTES;
        if (pages->page_bytes >= HEADER_BYTES)
            header_bytes += pages->page[SEGMENTS_AT];
        if (pages->page_bytes < header_bytes || pages->page_bytes < wanted_bytes(pages))
            continue;
        pages->skipped_bytes = 0;
        pages->page_bytes = drop_empty_end(pages->page, pages->page_bytes);
        if (pages->page_bytes == 0)
            continue;
        pages->is_given = true;
        classify(pages, ret_piece);
        return 1;
    }
    return 0;
}

const uint8_t *tower_ogg_pages_head(const struct tower_ogg_pages *pages, size_t *ret_bytes) {
    *ret_bytes = pages->kept_bytes;
    return pages->kept;
}

/* ---- the comments ---- */

/* Put the second packet of the stream together, which is the comments in every codec we know.
 * Returns how much of it there is. */
static size_t second_packet(const struct tower_ogg_pages *pages, uint8_t *ret_packet) {
    size_t filled = 0;
    unsigned packet = 0;
    size_t page_bytes;
    for (size_t at = 0; at < pages->kept_bytes && packet < 2; at += page_bytes) {
        const uint8_t *page = pages->kept + at;
        page_bytes = whole_bytes(page);
        if (serial_of(page) != pages->serial)
            continue;
        const uint8_t *segment = body_of(page);
        for (size_t i = 0; i < page[SEGMENTS_AT] && packet < 2; i++) {
            size_t bytes = page[HEADER_BYTES + i];
            if (packet == 1) {
                size_t room = COMMENT_BYTES_MAX - filled;
                size_t n = bytes < room ? bytes : room;
                memcpy(ret_packet + filled, segment, n);
                filled += n;
            }
            packet += bytes < SEGMENT_WHOLE;
            segment += bytes;
        }
    }
    return filled;
}

/* Where in the packet the comments begin; 0: they are not there. */
static size_t comments_at(enum codec codec, const uint8_t *packet, size_t bytes) {
    switch (codec) {
    case CODEC_VORBIS:
        return begins_with(packet, bytes, "\x03vorbis", 7) ? 7 : 0;
    case CODEC_OPUS:
        return begins_with(packet, bytes, "OpusTags", 8) ? 8 : 0;
    case CODEC_FLAC:
        /* The head of a block of metadata. */
        return bytes >= 4 && (packet[0] & 0x7f) == 4 ? 4 : 0;
    case CODEC_SPEEX:
    case CODEC_OTHER:
        break;
    }
    return 0;
}

char *tower_ogg_pages_title(const struct tower_ogg_pages *pages) {
    if (!pages->is_whole || pages->codec == CODEC_OTHER)
        return NULL;
    uint8_t *packet = malloc(COMMENT_BYTES_MAX);
    if (!packet)
        return NULL;
    size_t bytes = second_packet(pages, packet);
    size_t at = comments_at(pages->codec, packet, bytes);
    char *title = at > 0 ? tower_vorbis_comment_title(packet + at, bytes - at) : NULL;
    free(packet);
    return title;
}

/* ---- writing ---- */

size_t tower_ogg_packet_write(struct tower_ogg_packet *packet, uint8_t *ret_page) {
    /* One that fills its page goes on: its end is a segment that is not full. */
    bool is_end = packet->left_bytes < BODY_BYTES_MAX;
    size_t bytes = is_end ? packet->left_bytes : BODY_BYTES_MAX;
    size_t n_segments = is_end ? bytes / SEGMENT_WHOLE + 1 : SEGMENTS_MAX;
    memcpy(ret_page, magic, sizeof magic);
    ret_page[FLAGS_AT] = (uint8_t)((packet->is_continued ? FLAG_CONTINUED : 0) |
                                   (packet->begins_stream ? FLAG_BEGIN : 0));
    /* No packet ends in it: -1. */
    put_number(ret_page + POSITION_AT, POSITION_BYTES, is_end ? packet->position : UINT64_MAX);
    put_number(ret_page + SERIAL_AT, 4, packet->serial);
    put_number(ret_page + NUMBER_AT, 4, packet->n_pages++);
    ret_page[SEGMENTS_AT] = (uint8_t)n_segments;
    memset(ret_page + HEADER_BYTES, SEGMENT_WHOLE, n_segments);
    if (is_end)
        ret_page[HEADER_BYTES + n_segments - 1] = (uint8_t)(bytes % SEGMENT_WHOLE);
    memcpy(ret_page + HEADER_BYTES + n_segments, packet->data, bytes);
    set_checksum(ret_page, HEADER_BYTES + n_segments + bytes);
    packet->data += bytes;
    packet->left_bytes -= bytes;
    packet->begins_stream = false;
    packet->is_continued = !is_end;
    packet->is_whole = is_end;
    return HEADER_BYTES + n_segments + bytes;
}
