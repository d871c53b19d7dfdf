/* mp3_side.c - reads an MP3 frame's side information (ISO/IEC 11172-3 2.4.1.7, 13818-3 2.4.1.7). */
#include "mp3_side.h"

#define CRC_BYTES 2U
#define LINES_MAX 576U

/* Main data may begin this far back, by the width of the field. */
#define MPEG1_RESERVOIR_MAX_BYTES 511U
#define MPEG2_RESERVOIR_MAX_BYTES 255U

struct bits {
    const uint8_t *data;
    size_t position;
};

static unsigned read_bits(struct bits *bits, unsigned n) {
    unsigned value = 0;
    for (; n > 0; n--, bits->position++) {
        unsigned byte = bits->data[bits->position / 8];
        value = value << 1 | (byte >> (7 - bits->position % 8) & 1U);
    }
    return value;
}

enum tower_mp3_side_result tower_mp3_side_check(const uint8_t *frame,
                                                const struct tower_mp3_header *header,
                                                struct tower_mp3_reservoir *reservoir) {
    unsigned channels = header->channels;
    unsigned granules = header->is_mpeg1 ? 2 : 1;
    bool has_crc = (frame[1] & 1U) == 0;
    size_t side_offset = TOWER_MP3_HEADER_BYTES + (has_crc ? CRC_BYTES : 0);
    size_t side_bytes = header->is_mpeg1 ? (channels == 1 ? 17 : 32) : (channels == 1 ? 9 : 17);
    if (header->frame_bytes < side_offset + side_bytes)
        return TOWER_MP3_SIDE_BROKEN;
    size_t main_bytes = header->frame_bytes - side_offset - side_bytes;

    struct bits bits = {.data = frame + side_offset};
    size_t begin_bytes = read_bits(&bits, header->is_mpeg1 ? 9 : 8);
    if (header->is_mpeg1)
        bits.position += (channels == 1 ? 5 : 3) + 4U * channels;
    else
        bits.position += channels == 1 ? 1 : 2;
    size_t used_bits = 0;
    bool has_too_many_lines = false;
    for (unsigned i = 0; i < granules * channels; i++) {
        size_t next = bits.position + (header->is_mpeg1 ? 59 : 63);
        used_bits += read_bits(&bits, 12);
        has_too_many_lines |= read_bits(&bits, 9) * 2 > LINES_MAX;
        bits.position = next;
    }

    enum tower_mp3_side_result result = TOWER_MP3_SIDE_GOOD;
    size_t there_bytes = begin_bytes + main_bytes;
    size_t used_bytes = (used_bits + 7) / 8;
    if (used_bytes > there_bytes || has_too_many_lines)
        result = TOWER_MP3_SIDE_BROKEN;
    else if (begin_bytes > reservoir->left_bytes)
        result = TOWER_MP3_SIDE_BORROWS;

    size_t max_bytes = header->is_mpeg1 ? MPEG1_RESERVOIR_MAX_BYTES : MPEG2_RESERVOIR_MAX_BYTES;
    size_t left_bytes;
    if (result == TOWER_MP3_SIDE_GOOD)
        left_bytes = there_bytes - used_bytes;
    else
        left_bytes = reservoir->left_bytes + main_bytes; /* at most: nobody knows what it used */
    reservoir->left_bytes = left_bytes < max_bytes ? left_bytes : max_bytes;
    return result;
}
