/* air.h - the air ring of a mount: encoded frames, one writer, any number of readers.
 *
 * A position in the stream is a count of bytes since the start, 64 bits wide; a reader is nothing
 * but such a cursor. The writer never waits for a reader: who is overrun finds out. The ring lies
 * in a region, plain data and offsets, so that it can outlive the process.
 */
#ifndef TOWER_AIR_H
#define TOWER_AIR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct tower_air;

/* Make a ring of at least `ring_bytes` (rounded up to a power of two, 4 KiB to 1 GiB) that can look
 * back on at least `frames` frame boundaries. Errors: -EINVAL, -ENOMEM, -EMFILE. */
int tower_air_new(size_t ring_bytes, size_t frames, struct tower_air **ret_air);
/* The same from the region behind `fd`, as a process that was killed left it; -1 is
 * tower_air_new(). Bytes, frames and positions go on where they were; a frame that was not
 * published to its end is as if it had never come. Returns 1 then. Where the sizes asked for are
 * others, what there is goes to a ring of these. Where what is behind `fd` does not hold, a warning
 * is logged and the ring is made anew: returns 0. `fd` belongs to the air if tower_air_fd() is the
 * same then, else it is still the caller's, and open. Nobody else uses the region. Errors: as
 * above. */
int tower_air_open(int fd, size_t ring_bytes, size_t frames, struct tower_air **ret_air);
void tower_air_free(struct tower_air *air);

/* Of the region it lies in: for tower_air_open() in the next process. Stays the air's. */
int tower_air_fd(const struct tower_air *air);

/* Put one encoded frame on air and wake every reader thread that asked. One writer thread. Never
 * blocks. Errors: -EINVAL (empty, or more than a quarter of the ring). */
int tower_air_publish(struct tower_air *air, const uint8_t *frame, size_t bytes);

/* Have the eventfd `fd` (non-blocking) written to at each frame. Up to 64; before the writer
 * starts. `fd` stays the caller's, and open until the writer has ended. Errors: -ENOSPC. */
int tower_air_add_waker(struct tower_air *air, int fd);

/* Bytes, and frames, published since the start. Any thread. Whoever asks for the head says by it
 * that this thread is done with all pieces it got from tower_air_peek() before: a reader asks after
 * each round. */
uint64_t tower_air_head(const struct tower_air *air);
uint64_t tower_air_frames(const struct tower_air *air);

/* The frame boundary `frames` frames before the head, or the oldest one where there are not that
 * many. Never further back than half the ring, so that a reader who starts there is not overrun
 * before it has begun. Any thread. */
uint64_t tower_air_back(const struct tower_air *air, uint64_t frames);

/* The first frame boundary at or after `cursor`; the head where there is none. */
uint64_t tower_air_align(const struct tower_air *air, uint64_t cursor);

/* What there is to read from `cursor`, at most `max_bytes`, as one or two pieces in `ret_pieces`
 * (`*ret_n`, 0 if none). Returns the bytes in all. The pieces stay good for as long as it takes the
 * writer to go a quarter of the ring further. Any thread, no lock.
 * Errors: -ESTALE if the writer has overrun `cursor` (or is close to), -EINVAL if it lies ahead. */
int64_t tower_air_peek(const struct tower_air *air, uint64_t cursor, size_t max_bytes,
                       struct iovec ret_pieces[2], int *ret_n);

/* Copy what is left of the frame that `cursor` lies in to `ret_data`: for a reader that was overrun
 * in the middle of a frame and owes its listener the end of it. Returns the bytes, 0 at a frame
 * boundary. Any thread, no lock. Errors: -ESTALE if the writer has written over some of it, if it
 * is more than `max_bytes`, or if `cursor` lies ahead; `ret_data` may have been written to. */
int64_t tower_air_copy_rest(const struct tower_air *air, uint64_t cursor, uint8_t *ret_data,
                            size_t max_bytes);

#endif
