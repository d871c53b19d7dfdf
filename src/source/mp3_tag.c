/* mp3_tag.c - looks for the tag that holds an MP3 file's length. */
#include "mp3_tag.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define ID3_HEADER_BYTES 10
#define ID3_FOOTER_FLAG 0x10
/* The tag lies behind a frame's header, its CRC and its side information: 42 bytes at most; a VBRI
 * tag at 36. A few bytes of padding may come before the frame. */
#define SEARCH_BYTES 512

/* Where the audio begins: behind an ID3v2 tag, if there is one. */
static off_t find_audio(int fd) {
    uint8_t header[ID3_HEADER_BYTES];
    if (pread(fd, header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header, "ID3", 3) != 0)
        return 0;
    off_t bytes = 0;
    for (int i = 6; i < 10; i++)
        bytes = bytes << 7 | (header[i] & 0x7f);
    bytes += ID3_HEADER_BYTES;
    return header[5] & ID3_FOOTER_FLAG ? bytes + ID3_HEADER_BYTES : bytes;
}

bool tower_mp3_tag_is_there(int fd) {
    static const char tags[][5] = {"Xing", "Info", "VBRI"};
    uint8_t start[SEARCH_BYTES];
    ssize_t n = pread(fd, start, sizeof start, find_audio(fd));
    for (size_t i = 0; n > 0 && i < sizeof tags / sizeof *tags; i++) {
        if (memmem(start, (size_t)n, tags[i], 4))
            return true;
    }
    return false;
}
