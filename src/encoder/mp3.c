/* mp3.c - reads MPEG audio Layer III headers. */
#include "tower/mp3.h"

#include <errno.h>

/* In kbit/s, by the header's four bits; 0 (free format) and 15 are refused before the look-up. */
static const uint16_t mpeg1_kbps[16] = {0,   32,  40,  48,  56,  64,  80,  96,
                                        112, 128, 160, 192, 224, 256, 320, 0};
static const uint16_t mpeg2_kbps[16] = {0,  8,  16, 24,  32,  40,  48,  56,
                                        64, 80, 96, 112, 128, 144, 160, 0};
static const uint16_t mpeg1_hz[3] = {44100, 48000, 32000};

enum version { VERSION_2_5 = 0, VERSION_RESERVED = 1, VERSION_2 = 2, VERSION_1 = 3 };
#define LAYER_III 1U
#define MONO 3U
#define CRC_BYTES 2U

/* Side information begins with main_data_begin: 9 bits in MPEG-1, 8 in the others. */
static unsigned read_main_data_begin(const uint8_t *side, bool is_mpeg1) {
    return is_mpeg1 ? (unsigned)(side[0] << 1 | side[1] >> 7) : side[0];
}

int tower_mp3_parse(const uint8_t *data, size_t available, struct tower_mp3_header *ret_header) {
    if (available < TOWER_MP3_HEADER_BYTES)
        return -EAGAIN;
    unsigned version = data[1] >> 3 & 3U;
    unsigned layer = data[1] >> 1 & 3U;
    bool has_crc = (data[1] & 1U) == 0;
    unsigned bitrate = data[2] >> 4;
    unsigned rate = data[2] >> 2 & 3U;
    unsigned padding = data[2] >> 1 & 1U;
    if (data[0] != 0xff || (data[1] & 0xe0) != 0xe0 || version == VERSION_RESERVED ||
        layer != LAYER_III || bitrate == 0 || bitrate == 15 || rate == 3)
        return -EBADMSG;

    struct tower_mp3_header header = {.is_mpeg1 = version == VERSION_1};
    header.bitrate_bps = (header.is_mpeg1 ? mpeg1_kbps : mpeg2_kbps)[bitrate] * 1000U;
    header.rate_hz = (uint32_t)mpeg1_hz[rate] >> (version == VERSION_2     ? 1
                                                  : version == VERSION_2_5 ? 2
                                                                           : 0);
    header.channels = data[3] >> 6 == MONO ? 1 : 2;
    header.samples = header.is_mpeg1 ? 1152 : 576;
    header.frame_bytes = header.samples / 8 * header.bitrate_bps / header.rate_hz + padding;
    size_t side_offset = TOWER_MP3_HEADER_BYTES + (has_crc ? CRC_BYTES : 0);
    if (available >= side_offset + 2)
        header.main_data_begin = read_main_data_begin(data + side_offset, header.is_mpeg1);
    *ret_header = header;
    return 0;
}
