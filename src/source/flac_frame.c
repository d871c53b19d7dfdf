/* flac_frame.c - through the bits of a frame to its end. */
#include "flac_frame.h"

#include <errno.h>
#include <stdbool.h>

#define CRC8_POLYNOMIAL 0x07U
#define CRC16_POLYNOMIAL 0x8005U
#define CRC16_BYTES 2
#define FIXED_BYTES 4 /* of a header, before the number of the frame */
#define BLOCK_SAMPLES_MAX 65535
#define CHANNELS_MAX 8
#define AT_BITS_MAX (TOWER_FLAC_FRAME_BYTES_MAX * 8)

enum step { STEP_HEADER, STEP_SUBFRAME, STEP_PARTITION, STEP_SAMPLES, STEP_END };

/* What a step comes to. */
enum { BAD = -EBADMSG, WANTS_MORE = 0, DONE = 1 };

struct bits {
    const uint8_t *data;
    size_t n; /* that there are */
    size_t at;
};

/* Take the next `n` bits, at most 16. */
static bool take(struct bits *bits, unsigned n, unsigned *ret_number) {
    if (bits->at + n > bits->n)
        return false;
    unsigned number = 0;
    for (size_t end = bits->at + n; bits->at < end; bits->at++)
        number = number << 1 | ((unsigned)bits->data[bits->at / 8] >> (7 - bits->at % 8) & 1);
    *ret_number = number;
    return true;
}

/* Past zeros and the one behind them. False: as far as there are any, and there is no one. */
static bool pass_unary(struct bits *bits) {
    while (bits->at < bits->n) {
        unsigned rest = bits->data[bits->at / 8] & 0xffU >> bits->at % 8;
        if (rest) {
            bits->at = bits->at / 8 * 8 + (size_t)__builtin_clz(rest) - 24 + 1;
            return true;
        }
        bits->at = (bits->at / 8 + 1) * 8;
    }
    return false;
}

static uint8_t crc8(const uint8_t *data, size_t bytes) {
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i++) {
        sum ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            sum = (sum << 1 ^ (sum & 0x80 ? CRC8_POLYNOMIAL : 0)) & 0xff;
    }
    return (uint8_t)sum;
}

static uint16_t crc16(const uint8_t *data, size_t bytes) {
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i++) {
        sum ^= (unsigned)data[i] << 8;
        for (unsigned bit = 0; bit < 8; bit++)
            sum = (sum << 1 ^ (sum & 0x8000 ? CRC16_POLYNOMIAL : 0)) & 0xffff;
    }
    return (uint16_t)sum;
}

/* ---- the header ---- */

/* Of the number of a frame, by its first byte; 0: it is none. */
static size_t number_bytes(uint8_t first) {
    if (first < 0x80)
        return 1;
    size_t bytes = 0;
    for (unsigned bit = 0x80; first & bit; bit >>= 1)
        bytes++;
    return bytes >= 2 && bytes <= 7 ? bytes : 0;
}

/* By its code; 0: it is not allowed. `more`: the two bytes behind the frame's number. */
static uint32_t block_samples_of(unsigned code, const uint8_t *more) {
    uint32_t samples = 0;
    if (code == 1)
        samples = 192;
    else if (code >= 2 && code <= 5)
        samples = 144U << code;
    else if (code == 6)
        samples = more[0] + 1U;
    else if (code == 7)
        samples = ((uint32_t)more[0] << 8 | more[1]) + 1U;
    else if (code >= 8)
        samples = 1U << code;
    return samples <= BLOCK_SAMPLES_MAX ? samples : 0;
}

static unsigned bits_of(unsigned code, unsigned stream_bits) {
    static const uint8_t bits[] = {0, 8, 12, 0, 16, 20, 24, 32};
    return code == 0 ? stream_bits : bits[code];
}

static bool take_channels(struct tower_flac_frame *frame, unsigned code) {
    static const uint8_t sides[] = {1, 0, 1}; /* left and side, side and right, mid and side */
    frame->n_channels = code < CHANNELS_MAX ? code + 1 : 2;
    frame->side_channel = CHANNELS_MAX;
    if (code >= CHANNELS_MAX && code - CHANNELS_MAX < sizeof sides)
        frame->side_channel = sides[code - CHANNELS_MAX];
    return code < CHANNELS_MAX + sizeof sides;
}

static int step_header(struct tower_flac_frame *frame, const uint8_t *data, size_t bytes) {
    /* As early as can be told: most of what is asked about is no header. */
    if ((bytes > 0 && data[0] != 0xff) || (bytes > 1 && (data[1] & 0xfe) != 0xf8))
        return BAD;
    if (bytes < FIXED_BYTES + 1)
        return WANTS_MORE;
    unsigned block_code = data[2] >> 4, rate_code = data[2] & 0x0f, bits_code = data[3] >> 1 & 7;
    size_t n = number_bytes(data[FIXED_BYTES]);
    if (block_code == 0 || rate_code == 15 || bits_code == 3 || data[3] & 1 || n == 0 ||
        !take_channels(frame, data[3] >> 4))
        return BAD;
    size_t block_bytes = block_code == 6 ? 1 : block_code == 7 ? 2 : 0;
    size_t rate_bytes = rate_code == 12 ? 1 : rate_code > 12 ? 2 : 0;
    size_t header_bytes = FIXED_BYTES + n + block_bytes + rate_bytes + 1;
    if (bytes < header_bytes)
        return WANTS_MORE;
    for (size_t i = 1; i < n; i++) {
        if ((data[FIXED_BYTES + i] & 0xc0) != 0x80)
            return BAD;
    }
    if (crc8(data, header_bytes) != 0)
        return BAD;
    frame->block_samples = block_samples_of(block_code, data + FIXED_BYTES + n);
    frame->bits = bits_of(bits_code, frame->stream_bits);
    if (frame->block_samples == 0)
        return BAD;
    frame->at_bits = header_bytes * 8;
    frame->channel = 0;
    frame->step = STEP_SUBFRAME;
    return DONE;
}

/* ---- subframes ---- */

static void end_subframe(struct tower_flac_frame *frame) {
    frame->channel++;
    frame->step = frame->channel < frame->n_channels ? STEP_SUBFRAME : STEP_END;
}

/* How the residual is written, behind a predictor of `order`. */
static int take_residual(struct tower_flac_frame *frame, struct bits *bits, unsigned order) {
    unsigned method, partition_order;
    if (!take(bits, 2, &method) || !take(bits, 4, &partition_order))
        return WANTS_MORE;
    uint32_t samples = frame->block_samples >> partition_order;
    if (method > 1 || samples << partition_order != frame->block_samples || samples < order)
        return BAD;
    frame->parameter_bits = method == 0 ? 4 : 5;
    frame->partition_order = partition_order;
    frame->partitions_left = 1U << partition_order;
    frame->missing_samples = order;
    frame->step = STEP_PARTITION;
    return DONE;
}

static int take_predictor(struct tower_flac_frame *frame, struct bits *bits, unsigned type,
                          unsigned sample_bits) {
    bool is_fixed = type >= 8 && type <= 12;
    bool is_linear = type >= 32;
    unsigned order = is_fixed ? type - 8 : type - 31;
    if ((!is_fixed && !is_linear) || order > frame->block_samples)
        return BAD;
    bits->at += (size_t)order * sample_bits;
    if (is_linear) {
        unsigned precision, shift;
        if (!take(bits, 4, &precision) || !take(bits, 5, &shift))
            return WANTS_MORE;
        if (precision == 15)
            return BAD;
        bits->at += (size_t)order * (precision + 1);
    }
    return take_residual(frame, bits, order);
}

static int step_subframe(struct tower_flac_frame *frame, struct bits *bits) {
    unsigned type, has_wasted, wasted_bits = 0;
    unsigned sample_bits = frame->bits + (frame->channel == frame->side_channel);
    if (!take(bits, 7, &type) || !take(bits, 1, &has_wasted))
        return WANTS_MORE;
    for (unsigned is_last = !has_wasted; !is_last;) {
        if (!take(bits, 1, &is_last))
            return WANTS_MORE;
        if (++wasted_bits >= sample_bits)
            return BAD;
    }
    sample_bits -= wasted_bits;
    if (type > 1)
        return type < 64 ? take_predictor(frame, bits, type, sample_bits) : BAD;
    bits->at += (size_t)sample_bits * (type == 0 ? 1 : frame->block_samples);
    end_subframe(frame);
    return DONE;
}

static int step_partition(struct tower_flac_frame *frame, struct bits *bits) {
    if (frame->partitions_left == 0) {
        end_subframe(frame);
        return DONE;
    }
    unsigned parameter, plain_bits;
    uint32_t samples = (frame->block_samples >> frame->partition_order) - frame->missing_samples;
    if (!take(bits, frame->parameter_bits, &parameter))
        return WANTS_MORE;
    if (parameter == (1U << frame->parameter_bits) - 1) {
        if (!take(bits, 5, &plain_bits))
            return WANTS_MORE;
        bits->at += (size_t)plain_bits * samples;
        samples = 0;
    }
    frame->missing_samples = 0;
    frame->partitions_left--;
    frame->parameter = parameter;
    frame->samples_left = samples;
    frame->step = STEP_SAMPLES;
    return DONE;
}

/* Half of a sample is progress too: how many zeros there were is of no interest. */
static int step_samples(struct tower_flac_frame *frame, struct bits *bits) {
    for (; frame->samples_left > 0; frame->samples_left--) {
        if (!pass_unary(bits)) {
            frame->at_bits = bits->at;
            return WANTS_MORE;
        }
        bits->at += frame->parameter;
    }
    frame->step = STEP_PARTITION;
    return DONE;
}

static int step_end(const struct tower_flac_frame *frame, const uint8_t *data, size_t bytes,
                    size_t *ret_frame_bytes) {
    size_t frame_bytes = (frame->at_bits + 7) / 8 + CRC16_BYTES;
    if (frame_bytes > TOWER_FLAC_FRAME_BYTES_MAX)
        return BAD;
    if (bytes < frame_bytes)
        return WANTS_MORE;
    if (crc16(data, frame_bytes) != 0)
        return BAD;
    *ret_frame_bytes = frame_bytes;
    return DONE;
}

int tower_flac_frame_walk(struct tower_flac_frame *frame, const uint8_t *data, size_t bytes,
                          size_t *ret_frame_bytes) {
    int result = DONE;
    if (frame->step == STEP_HEADER)
        result = step_header(frame, data, bytes);
    while (result == DONE && frame->step != STEP_END) {
        struct bits bits = {.data = data, .n = bytes * 8, .at = frame->at_bits};
        if (frame->step == STEP_SUBFRAME)
            result = step_subframe(frame, &bits);
        else if (frame->step == STEP_PARTITION)
            result = step_partition(frame, &bits);
        else
            result = step_samples(frame, &bits);
        if (result == DONE)
            frame->at_bits = bits.at;
        if (frame->at_bits > AT_BITS_MAX)
            return BAD;
    }
    return result == DONE ? step_end(frame, data, bytes, ret_frame_bytes) : result;
}
