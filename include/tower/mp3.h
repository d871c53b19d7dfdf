/* mp3.h - MPEG-1 Layer III framing: where a frame begins and how long it is (ISO/IEC 11172-3). */
#ifndef TOWER_MP3_H
#define TOWER_MP3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOWER_MP3_HEADER_BYTES 4

struct tower_mp3_header {
    uint32_t bitrate_bps;
    uint32_t rate_hz;
    unsigned channels;
    unsigned samples;   /* a channel in this frame: 1152, or 576 for MPEG-2 and 2.5 */
    size_t frame_bytes; /* with the header */
    bool is_mpeg1;
    unsigned main_data_begin; /* bytes borrowed from earlier frames; 0: self-contained. Read only
                                 if `available` reached it, else 0 */
};

/* Read the header at `data`. `available` >= 4 bytes may be read; with 2 more behind the header (and
 * 2 for a CRC) main_data_begin is read too. Any thread, pure.
 * Errors: -EBADMSG if these bytes are no Layer III header (bad sync, layer, bitrate or rate; the
 * free format is refused), -EAGAIN if fewer than 4 bytes are available. */
int tower_mp3_parse(const uint8_t *data, size_t available, struct tower_mp3_header *ret_header);

#endif
