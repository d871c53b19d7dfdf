/* mp3_cutter.c - cuts a byte stream into MP3 frames of one shape. */
#include "mp3_cutter.h"

#include "tower/mp3.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void tower_mp3_cutter_init(struct tower_mp3_cutter *cutter, uint32_t bitrate_bps,
                           size_t frame_bytes) {
    assert(frame_bytes > TOWER_MP3_HEADER_BYTES && frame_bytes <= TOWER_MP3_FRAME_BYTES_MAX);
    cutter->bitrate_bps = bitrate_bps;
    cutter->frame_bytes = frame_bytes;
    cutter->have_bytes = 0;
}

void tower_mp3_cutter_reset(struct tower_mp3_cutter *cutter) {
    cutter->have_bytes = 0;
}

static void fill(struct tower_mp3_cutter *cutter, size_t up_to_bytes, const uint8_t **data,
                 size_t *bytes) {
    if (cutter->have_bytes >= up_to_bytes)
        return;
    size_t wanted = up_to_bytes - cutter->have_bytes;
    size_t n = *bytes < wanted ? *bytes : wanted;
    memcpy(cutter->frame + cutter->have_bytes, *data, n);
    cutter->have_bytes += n;
    *data += n;
    *bytes -= n;
}

static int check(const struct tower_mp3_cutter *cutter) {
    struct tower_mp3_header header;
    int error = tower_mp3_parse(cutter->frame, cutter->have_bytes, &header);
    if (error < 0)
        return error;
    bool is_asked_for = header.is_mpeg1 && header.bitrate_bps == cutter->bitrate_bps &&
                        header.rate_hz == TOWER_RATE_HZ && header.channels == TOWER_CHANNELS &&
                        header.frame_bytes == cutter->frame_bytes && header.main_data_begin == 0;
    return is_asked_for ? 0 : -EBADMSG;
}

int tower_mp3_cutter_take(struct tower_mp3_cutter *cutter, const uint8_t **data, size_t *bytes) {
    if (cutter->have_bytes == cutter->frame_bytes)
        cutter->have_bytes = 0;
    /* Junk is told at its first four bytes: there may never come a whole frame of it. */
    fill(cutter, TOWER_MP3_HEADER_BYTES, data, bytes);
    if (cutter->have_bytes < TOWER_MP3_HEADER_BYTES)
        return 0;
    if (cutter->have_bytes == TOWER_MP3_HEADER_BYTES && check(cutter) < 0)
        return -EBADMSG;
    fill(cutter, cutter->frame_bytes, data, bytes);
    if (cutter->have_bytes < cutter->frame_bytes)
        return 0;
    /* Once more with the side information there: it must borrow from no other frame. */
    return check(cutter) < 0 ? -EBADMSG : 1;
}
