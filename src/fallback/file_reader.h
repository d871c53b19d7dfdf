/* file_reader.h - decodes the fallback file ahead of need, round and round. */
#ifndef TOWER_FALLBACK_FILE_READER_H
#define TOWER_FALLBACK_FILE_READER_H

#include "tower/clock.h"
#include "tower/format.h"

struct tower_file_reader;

struct tower_file_reader_stats {
    uint64_t opens;  /* times it was opened: at first, after an outage, after an error */
    uint64_t loops;  /* times the file began again behind its end */
    uint64_t errors; /* times it could not be opened or read on */
    bool is_ready;   /* a frame is waiting */
};

/* Start the thread. `path` and `ffmpeg` are copied. Errors: -ENOMEM, -EAGAIN (no thread). */
int tower_file_reader_new(struct tower_clock *clock, const char *path, const char *ffmpeg,
                          uint32_t frame_samples, struct tower_file_reader **ret_reader);
/* Stop the thread and free all; takes NULL. A thread that hangs on a disk or a decoder is waited
 * for half a second and then left behind, with the little it uses; such a `clock` must live on. */
void tower_file_reader_free(struct tower_file_reader *reader);

/* The next frame of the file, in `ret_frame`. Returns 1, or 0 where none is there: the file has
 * failed, or its decoder fell behind. Once nothing has been taken for a second the file goes back
 * to its start; the first frame from there bears TOWER_FRAME_DISCONTINUITY in `ret_flags`. For the
 * pump: no allocation, and no lock that is held for longer than a copy. */
int tower_file_reader_pop_frame(struct tower_file_reader *reader, int16_t *ret_frame,
                                unsigned *ret_flags);

/* Any thread, no lock. */
void tower_file_reader_get_stats(const struct tower_file_reader *reader,
                                 struct tower_file_reader_stats *ret_stats);

#endif
