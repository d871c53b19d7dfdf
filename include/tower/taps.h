/* taps.h - the taps: the programme as PCM, from the pump to whoever asks for it.
 *
 * The pump writes each frame once into a ring without locks, and only while somebody taps. One
 * thread of its own reads it for every tap, converts, and sends; a client that is slow loses whole
 * chunks, and one that takes nothing is dropped.
 */
#ifndef TOWER_TAPS_H
#define TOWER_TAPS_H

#include "tower/clock.h"
#include "tower/tap.h"

#define TOWER_TAPS_MAX 256

struct tower_taps;

struct tower_taps_config {
    struct tower_clock *clock;
    uint32_t max_taps;         /* at once: 1 to TOWER_TAPS_MAX */
    uint32_t frame_samples;    /* 1 to TOWER_FRAME_SAMPLES_MAX */
    int64_t client_timeout_ns; /* of one that takes nothing; then dropped */
    /* The time that people go by, in ns of CLOCK_REALTIME; NULL: the system's. */
    int64_t (*wall_ns)(void *user);
    void *user;
};

struct tower_taps_stats {
    uint64_t taps;     /* now */
    uint64_t capacity; /* at once */
    uint64_t accepted; /* since the start, as the rest */
    uint64_t refused;  /* no place was left */
    uint64_t timeouts; /* dropped, as they took nothing */
    uint64_t chunks;   /* made, be they sent or lost */
    uint64_t chunks_lost;
    uint64_t sent_bytes;
};

/* Errors: -EINVAL, -ENOMEM, -EMFILE. */
int tower_taps_new(const struct tower_taps_config *config, struct tower_taps **ret_taps);
/* Stops it first. Takes NULL. */
void tower_taps_free(struct tower_taps *taps);

/* Errors: -EALREADY (it was started before), -EAGAIN (no thread). */
int tower_taps_start(struct tower_taps *taps);
/* Close every tap and end the thread. What the sockets do not take at once is not waited for. */
void tower_taps_stop(struct tower_taps *taps);

/* Put a frame of `frame_samples` of 48 kHz stereo before those who tap; its tick was due at
 * `due_ns` on the clock, it is heard from sample `position_samples` of the stream on. One thread,
 * the pump; never blocks, never allocates; without a tap it is one load. */
void tower_taps_write(struct tower_taps *taps, const int16_t *frame, int64_t due_ns,
                      uint64_t position_samples, enum tower_origin origin);

/* Is there a place for one more? Any thread. */
bool tower_taps_has_place(const struct tower_taps *taps);
/* Count one that was refused before tower_taps_add(). Any thread. */
void tower_taps_note_refused(struct tower_taps *taps);

/* Take over `fd`, a connected non-blocking socket that has its answer's header: it gets the
 * programme from the next frame on. On success the socket belongs to the taps. Any thread; a short
 * lock. Errors: -ENOSPC (no place left; counted), -ESHUTDOWN (not running), -EINVAL (the format),
 * -ENOMEM: the socket stays the caller's. */
int tower_taps_add(struct tower_taps *taps, int fd, const struct tower_tap_format *format);

/* Any thread, no lock. */
void tower_taps_get_stats(const struct tower_taps *taps, struct tower_taps_stats *ret_stats);

#endif
