/* loudness.h - how loud files are by EBU R128, measured ahead of their turn by a thread. */
#ifndef TOWER_SOURCE_LOUDNESS_H
#define TOWER_SOURCE_LOUDNESS_H

#include "loudness_cache.h"
#include "tower/clock.h"

#include <stdatomic.h>
#include <stdbool.h>

/* No gain takes a true peak above this. */
#define TOWER_LOUDNESS_PEAK_DBFS (-1.0)

/* The factor that brings what is measured to `target_lufs`, as far as its true peak lets it. From
 * a part of a file (`is_whole` false) never above 1, as the rest may be louder. Pure. */
double tower_loudness_gain(const struct tower_loudness *loudness, double target_lufs,
                           bool is_whole);

struct tower_loudness_meter;

/* Start the thread. `ffmpeg` as of struct tower_file_config; `cache` NULL: nothing is kept. Errors:
 * -ENOMEM, -EAGAIN. */
int tower_loudness_meter_new(struct tower_clock *clock, const char *ffmpeg, const char *cache,
                             struct tower_loudness_meter **ret_meter);

/* Stop measuring, wherever it is. Takes NULL. A decoder that does not answer is waited for two
 * seconds, then left to its fate, which is the program's end. */
void tower_loudness_meter_free(struct tower_loudness_meter *meter);

/* Have the file at `path` measured, behind what was asked before. Only the four files asked for
 * last are remembered, but for the one at work. Does not block. */
void tower_loudness_meter_ask(struct tower_loudness_meter *meter, const char *path);

/* What is known of a file that was asked for, after waiting up to `wait_ns` for all of it. Its
 * loudness is what the transmitter would be sent: at 48 kHz, mixed to stereo. `*ret_is_whole`:
 * the whole file was measured, or found in the cache. Errors: -EAGAIN (nothing is known yet),
 * -EIO (it cannot be measured), -ENOENT (it was not asked for, or is forgotten). */
int tower_loudness_meter_get(struct tower_loudness_meter *meter, const char *path, int64_t wait_ns,
                             struct tower_loudness *ret_loudness, bool *ret_is_whole);

/* Measure a file in this thread; `*is_cancelled` ends it. `tell`, if not NULL, is given what is
 * known so far now and then. Blocks. Errors: those of opening a file, -EIO, -ENOMEM, -ECANCELED. */
int tower_loudness_measure(struct tower_clock *clock, const char *ffmpeg, const char *path,
                           const _Atomic bool *is_cancelled,
                           void (*tell)(void *context, const struct tower_loudness *so_far),
                           void *context, struct tower_loudness *ret_loudness);

#endif
