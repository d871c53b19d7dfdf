/* mp3_finder.h - finds the MP3 frames in a stream that may hold anything, and says what else it
 * held.
 *
 * A frame is believed where three headers of one shape follow each other at the right distances;
 * from there on each header must stand where the frame before it ends. Where it does not, the sync
 * is lost, and what is passed over until three headers are found again is junk.
 */
#ifndef TOWER_CLI_MP3_FINDER_H
#define TOWER_CLI_MP3_FINDER_H

#include "tower/mp3.h"

/* Room for more than the two largest frames and a header that a search holds back. */
#define TOWER_MP3_FINDER_BYTES 8192

struct tower_mp3_finder_events {
    void *user;
    /* A whole frame, header->frame_bytes long. `data` is good for the call. */
    void (*frame)(void *user, const uint8_t *data, const struct tower_mp3_header *header);
    /* A run of junk begins, after a lost sync; in order with the frames. */
    void (*junk)(void *user);
};

struct tower_mp3_finder {
    struct tower_mp3_finder_events events; /* constant after init */

    uint8_t buffer[TOWER_MP3_FINDER_BYTES];
    size_t fill_bytes;
    uint32_t tag_left_bytes; /* of an ID3v2 tag at the very start */
    bool is_tag_over;        /* the very start is behind us */
    bool is_locked;
    bool is_junk_begun; /* some of the running junk has been reported */
    uint8_t shape[4];   /* the header of the last frame, for what must not change */

    /* Results. */
    uint64_t frames;
    uint64_t lost_syncs;     /* times a header was not where it had to be */
    uint64_t junk_bytes;     /* passed over after a lost sync */
    uint64_t leading_bytes;  /* passed over before the first frame, without the tag */
    uint64_t tag_bytes;      /* of an ID3v2 tag at the very start */
    uint64_t format_changes; /* syncs found at another rate, version or number of channels */
};

/* `events` is copied. */
void tower_mp3_finder_init(struct tower_mp3_finder *finder,
                           const struct tower_mp3_finder_events *events);

/* Look through `bytes` bytes more. A frame is reported as soon as its last byte is there (the first
 * after a search once the two headers behind it are). Any bytes whatever; O(1) a byte. */
void tower_mp3_finder_feed(struct tower_mp3_finder *finder, const uint8_t *data, size_t bytes);

/* Nothing more comes: report whole frames still held back for want of headers behind them. A last
 * frame begun is no junk. Call once. */
void tower_mp3_finder_finish(struct tower_mp3_finder *finder);

#endif
