/* mp3_finder.c - finds MP3 frames, and what stands between them. */
#include "mp3_finder.h"

#include <errno.h>
#include <string.h>

#define TAG_HEADER_BYTES 10
#define HEADERS_TO_BELIEVE 3

enum verdict { IS_FRAME, IS_NONE, NEEDS_MORE };

void tower_mp3_finder_init(struct tower_mp3_finder *finder,
                           const struct tower_mp3_finder_events *events) {
    memset(finder, 0, sizeof *finder);
    finder->events = *events;
}

static bool is_mono(const uint8_t *header) {
    return header[3] >> 6 == 3;
}

/* Bitrate, padding, joint stereo and the like may change from frame to frame. Version, layer, rate
 * and the number of channels may not. */
static bool have_one_shape(const uint8_t *a, const uint8_t *b) {
    return (a[1] & 0xfe) == (b[1] & 0xfe) && (a[2] & 0x0c) == (b[2] & 0x0c) &&
           is_mono(a) == is_mono(b);
}

/* Does a run of frames begin at `data`? At the end of everything (`is_end`) as many headers do as
 * there are. */
static enum verdict look_for_run(const uint8_t *data, size_t bytes, bool is_end) {
    const uint8_t *header = data;
    for (int i = 0; i < HEADERS_TO_BELIEVE; i++) {
        struct tower_mp3_header parsed;
        size_t left_bytes = bytes - (size_t)(header - data);
        /* Most bytes are no first byte of a header, and that can be said at once. */
        if (left_bytes > 0 && header[0] != 0xff)
            return IS_NONE;
        if (left_bytes < TOWER_MP3_HEADER_BYTES)
            return !is_end ? NEEDS_MORE : i > 0 ? IS_FRAME : IS_NONE;
        if (tower_mp3_parse(header, left_bytes, &parsed) < 0 || !have_one_shape(data, header))
            return IS_NONE;
        if (i + 1 == HEADERS_TO_BELIEVE)
            break;
        if (left_bytes < parsed.frame_bytes)
            return !is_end ? NEEDS_MORE : i > 0 ? IS_FRAME : IS_NONE;
        header += parsed.frame_bytes;
    }
    return IS_FRAME;
}

/* An ID3v2 tag may stand before the first frame. Returns false where more bytes are needed. */
static bool take_tag_header(struct tower_mp3_finder *finder, bool is_end) {
    static const uint8_t mark[3] = {'I', 'D', '3'};
    const uint8_t *data = finder->buffer;
    size_t n = finder->fill_bytes < sizeof mark ? finder->fill_bytes : sizeof mark;
    if (memcmp(data, mark, n) == 0 && finder->fill_bytes < TAG_HEADER_BYTES && !is_end)
        return false;
    finder->is_tag_over = true;
    if (finder->fill_bytes < TAG_HEADER_BYTES || memcmp(data, mark, sizeof mark) != 0)
        return true;
    /* A size byte with its top bit set is no tag's. */
    if ((data[6] | data[7] | data[8] | data[9]) & 0x80)
        return true;
    uint32_t body_bytes =
        (uint32_t)data[6] << 21 | (uint32_t)data[7] << 14 | (uint32_t)data[8] << 7 | data[9];
    bool has_footer = data[5] & 0x10;
    finder->tag_left_bytes =
        TAG_HEADER_BYTES + body_bytes + (has_footer ? (uint32_t)TAG_HEADER_BYTES : 0);
    return true;
}

static void count_junk(struct tower_mp3_finder *finder, size_t bytes) {
    if (bytes == 0)
        return;
    if (finder->frames == 0) {
        finder->leading_bytes += bytes;
        return;
    }
    finder->junk_bytes += bytes;
    if (!finder->is_junk_begun)
        finder->events.junk(finder->events.user);
    finder->is_junk_begun = true;
}

/* Look for a run of frames from `position` on; returns where it begins or the search stands. */
static size_t search(struct tower_mp3_finder *finder, size_t position, bool is_end) {
    size_t begin = position;
    while (position < finder->fill_bytes) {
        const uint8_t *here = finder->buffer + position;
        enum verdict verdict = look_for_run(here, finder->fill_bytes - position, is_end);
        if (verdict == NEEDS_MORE)
            break;
        if (verdict == IS_FRAME) {
            if (finder->frames > 0 && !have_one_shape(here, finder->shape))
                finder->format_changes++;
            memcpy(finder->shape, here, sizeof finder->shape);
            finder->is_locked = true;
            break;
        }
        position++;
    }
    count_junk(finder, position - begin);
    if (finder->is_locked)
        finder->is_junk_begun = false;
    return position;
}

/* Returns how many bytes of the buffer are done with. What is left is at most two frames and
 * part of a header, so that there is always room for more. */
static size_t work(struct tower_mp3_finder *finder, bool is_end) {
    size_t position = 0;
    if (!finder->is_tag_over && !take_tag_header(finder, is_end))
        return 0;
    if (finder->tag_left_bytes > 0) {
        position = finder->fill_bytes < finder->tag_left_bytes ? finder->fill_bytes
                                                               : finder->tag_left_bytes;
        finder->tag_left_bytes -= (uint32_t)position;
        finder->tag_bytes += position;
    }
    for (;;) {
        if (!finder->is_locked) {
            position = search(finder, position, is_end);
            if (!finder->is_locked)
                return position;
        }
        const uint8_t *here = finder->buffer + position;
        size_t left_bytes = finder->fill_bytes - position;
        struct tower_mp3_header header;
        int error = tower_mp3_parse(here, left_bytes, &header);
        if (error == -EAGAIN)
            return position;
        if (error < 0 || !have_one_shape(here, finder->shape)) {
            finder->is_locked = false;
            finder->lost_syncs++;
            continue;
        }
        if (left_bytes < header.frame_bytes)
            return position;
        finder->frames++;
        memcpy(finder->shape, here, sizeof finder->shape);
        finder->events.frame(finder->events.user, here, &header);
        position += header.frame_bytes;
    }
}

static void work_and_shift(struct tower_mp3_finder *finder, bool is_end) {
    size_t done_bytes = work(finder, is_end);
    finder->fill_bytes -= done_bytes;
    memmove(finder->buffer, finder->buffer + done_bytes, finder->fill_bytes);
}

void tower_mp3_finder_feed(struct tower_mp3_finder *finder, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        size_t room_bytes = sizeof finder->buffer - finder->fill_bytes;
        size_t n = bytes < room_bytes ? bytes : room_bytes;
        memcpy(finder->buffer + finder->fill_bytes, data, n);
        finder->fill_bytes += n;
        data += n;
        bytes -= n;
        work_and_shift(finder, false);
    }
}

void tower_mp3_finder_finish(struct tower_mp3_finder *finder) {
    if (finder->fill_bytes > 0)
        work_and_shift(finder, true);
}
