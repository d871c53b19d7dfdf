/* playlist_source.h - AudioSource of many files, one behind the other without a gap. */
#ifndef TOWER_SOURCE_PLAYLIST_SOURCE_H
#define TOWER_SOURCE_PLAYLIST_SOURCE_H

#include "tower/source.h"

/* Longer makes no programme, and all of it is held. */
#define TOWER_PLAYLIST_CROSSFADE_MAX_S 30

struct tower_playlist_config {
    const char *path;   /* a list or a folder, or a file, which is then the only one */
    const char *ffmpeg; /* as of struct tower_file_config */
    bool is_paced;
    bool is_looped;
    bool is_shuffled;
    uint64_t seed; /* of the shuffling */
    bool reads_tags;
    int64_t crossfade_ns; /* 0: none */
    bool is_levelled;     /* bring each file to `target_lufs` */
    double target_lufs;
    const char *cache; /* where their loudness is kept, see loudness_cache.h; NULL: nowhere */
    /* Told what was skipped and why, each in a line; `what` is a path. Called while reading. */
    void (*say)(void *context, const char *what, const char *why);
    void *context;
};

/* What the samples are of that were read last. */
struct tower_playlist_now {
    uint64_t turn;            /* how many files have begun; 0: none yet */
    size_t number;            /* of this file in its round, from 1 */
    size_t n_files;           /* in a round */
    const char *path;         /* the source's, until the next read, and so are these: */
    const char *artist;       /* NULL: not known */
    const char *title;        /* what the list says, else the file's tags; NULL: not known */
    int64_t position_samples; /* of the file, up to the end of what was read; at 48 kHz */
    int64_t length_samples;   /* -1: not known */
};

/* Open a list: 48 kHz stereo comes out, whatever the files are. The sample behind the last of one
 * file is the first of the next, and no chunk holds samples of two, so that it can be told whose
 * each one is; with a crossfade, which is at most half of either file, a file begins where it
 * begins to be heard. The next file is opened, and its first samples decoded, while the present one
 * goes on. A file that cannot be read, or ends early, is told and passed over.
 *
 * tower_source_read() also returns -EINTR behind each file that was passed over. It returns -EIO at
 * the end if no file could be read, or when looping none in a whole round. A source like this
 * cannot be rewound.
 *
 * Loudness: the file whose turn is next is measured by a thread with the source's lifetime. Each
 * file is multiplied by one factor from its first sample to its last, that of
 * tower_loudness_gain(). Where the measurement is not there when the turn comes it is waited for
 * for a second at most (when paced only before the first), then what is known of the part measured
 * so far is taken, else the file stays as it is. Where the factor is 1, or nothing is levelled, 48
 * kHz stereo passes bit for bit.
 *
 * Errors: as of tower_playlist_read(); -EINVAL (a crossfade out of range), -EAGAIN (no thread).
 * Where `error` is not NULL one line says in words why. */
int tower_source_open_playlist(struct tower_clock *clock,
                               const struct tower_playlist_config *config,
                               struct tower_source **ret_source, char *error, size_t error_bytes);

/* Of a source that tower_source_open_playlist() has made. The reader's thread. */
void tower_playlist_source_get_now(const struct tower_source *source,
                                   struct tower_playlist_now *ret_now);

#endif
