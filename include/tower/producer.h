/* producer.h - the producer's side of the PCM socket.
 *
 * A producer connects and writes interleaved s16le stereo at 48 kHz, in pieces of any size. The
 * transmitter reads as fast as it has room, so a write waits when the producer is ahead.
 */
#ifndef TOWER_PRODUCER_H
#define TOWER_PRODUCER_H

#include "tower/clock_report.h"
#include "tower/producer_identity.h"

#include <stddef.h>
#include <stdint.h>

struct tower_producer;

/* Connect to the transmitter's socket at `path`; NULL stands for TOWER_SOCKET_PATH or the default
 * path (tower_socket_path_default()). Does not wait. The socket is CLOEXEC and non-blocking.
 * Errors: -ENOENT, -ECONNREFUSED (nobody listens there), -EAGAIN (somebody does, but has not
 * accepted those before us), -EACCES, -ENAMETOOLONG, -EMFILE, -ENOMEM. */
int tower_producer_connect(const char *path, struct tower_producer **ret_producer);

/* Write `n_samples` samples a channel. Waits until the transmitter has taken them all into its
 * socket. Errors: -EPIPE or -ECONNRESET (it went away; connect anew), -EINTR (a signal came while
 * waiting; some may have been written: go on with the first sample that tower_producer_written()
 * has not counted). Raises no SIGPIPE. */
int tower_producer_write(struct tower_producer *producer, const int16_t *samples, size_t n_samples);

/* Say what is playing from the first sample of the next tower_producer_write() on: UTF-8, at most
 * 4065 bytes (what is longer is cut at a character), "" for nothing. It travels with the first byte
 * of that write, also where the write sends only a part of what it was given; a later title before
 * that takes its place, and one that no write follows is never sent. Where the kernel has too many
 * descriptors of this user under way it is left out, and the write goes on without it. Does not
 * wait. Errors: -EINVAL (not UTF-8), -EMFILE, -ENFILE, -ENOMEM; the title that was to go with the
 * next write is then still that. */
int tower_producer_set_title(struct tower_producer *producer, const char *text);

/* Say how the source's clock stands, for who looks at the transmitter. It travels as a title does,
 * with the next write, or the one after that if a title goes with the next. Only where it has
 * changed, and not more often than every few seconds. Does not wait. Errors: -EMFILE, -ENFILE,
 * -ENOMEM; what was to go with the next write is then still that. */
int tower_producer_set_clock(struct tower_producer *producer,
                             const struct tower_clock_report *report);

/* Say who this is, with the first byte of the connection: before the first write. Its audio waits
 * in the socket, which is made large for it: some 2 s. Where the kernel has too many descriptors of
 * this user under way it is left out, and the producer is anonymous. Does not wait. Errors: -EINVAL
 * (not a name, or not a label), -EALREADY (something was written), -EMFILE, -ENFILE, -ENOMEM. */
int tower_producer_set_identity(struct tower_producer *producer,
                                const struct tower_producer_identity *identity);

/* Samples a channel written so far. */
uint64_t tower_producer_written(const struct tower_producer *producer);

/* The socket, for poll(); stays the producer's. */
int tower_producer_fd(const struct tower_producer *producer);

/* End: pads with silence to a whole frame of `frame_samples` (0: no padding; a frame that is not
 * whole is dropped by the transmitter), closes. The padding waits for room as a write does; a
 * signal, or a transmitter that went away, ends it. Takes NULL. */
void tower_producer_close(struct tower_producer *producer, uint32_t frame_samples);

/* Write the default socket path, $XDG_RUNTIME_DIR/tower/pcm.sock or /run/tower/pcm.sock, to
 * `ret_path`. Errors: -ENAMETOOLONG (for `path_bytes`, or for a socket: 107 bytes). */
int tower_socket_path_default(char *ret_path, size_t path_bytes);

#endif
