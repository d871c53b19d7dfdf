/* source.h - AudioSource: where audio comes from (S1-S9).
 *
 * One interface for every source; the reader can't tell them apart. A reader opens one with the
 * function for its kind, reads chunks until the end, and closes it.
 */
#ifndef TOWER_SOURCE_H
#define TOWER_SOURCE_H

#include "tower/clock.h"
#include "tower/format.h"

struct tower_source;

/* What a source yields, fixed once it is open. */
struct tower_source_info {
    uint32_t rate_hz;
    unsigned channels;
    size_t chunk_samples;   /* samples a channel in one chunk; the last of a file may be shorter */
    bool is_live;           /* S3: true if chunks come in real time by nature */
    int64_t length_samples; /* samples a channel in all, -1 where not known */
    /* What a file says it is, if it was asked; else, and where it does not say, NULL. UTF-8, not
     * "", the source's. */
    const char *artist;
    const char *title;
};

/* How a live source fares, as of the last read. */
struct tower_source_live {
    bool is_away;         /* its device is not there, and is waited for */
    uint64_t n_absences;  /* times that it was not */
    uint64_t n_overruns;  /* times that samples were lost, since nobody read them in time */
    const char *away_why; /* the last time, in words; NULL: never */
};

/* The interface. A kind of source embeds struct tower_source first and fills in `ops`. */
struct tower_source_ops {
    int (*read)(struct tower_source *source, void *ret_chunk, size_t *ret_bytes);
    void (*close)(struct tower_source *source);
    /* NULL where the source cannot start over. */
    int (*rewind)(struct tower_source *source);
};
struct tower_source {
    const struct tower_source_ops *ops;
    struct tower_source_info info;
    struct tower_source_live live;
    char error[192]; /* after -EIO: why, in words for a person; "" where nothing more is known */
};

/* Bytes of a whole chunk: chunk_samples x channels x 2 (S9). */
size_t tower_source_chunk_bytes(const struct tower_source *source);

/* Wait until the next chunk is due and read it into `ret_chunk` (of tower_source_chunk_bytes):
 * raw interleaved s16le. Returns 1 with `*ret_bytes` > 0, 0 at the end of the stream. A live or
 * paced source waits on its clock, on an absolute schedule (S3, S6): chunk k of n samples is due
 * (k + 1) * n / rate seconds after the first read began. Not from the pump.
 * Errors: -EIO (the medium failed or a decoder died), -EINTR (a signal came, or tower_clock_wake()
 * on a virtual clock; nothing is lost: read again), -ENOMEM. After an error only close. */
int tower_source_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes);

/* Start again at the beginning (a file); the schedule of a paced one runs on without a gap.
 * Errors: -ENOTSUP (live or a pipe), -EIO; those of opening a file, where a decoder is started
 * anew. */
int tower_source_rewind(struct tower_source *source);

/* S2: release everything, at any point, also after an error. Takes NULL. */
void tower_source_close(struct tower_source *source);

enum tower_mock_content { TOWER_MOCK_SILENCE, TOWER_MOCK_NOISE, TOWER_MOCK_TONE };

/* MockAudioSource (S4-S6): a microphone that isn't there. Zero stands for the default. Noise is
 * white and the same for the same `seed`. */
struct tower_mock_config {
    enum tower_mock_content content;
    uint32_t rate_hz;     /* default 16000; 1000 to 384000 */
    size_t chunk_samples; /* default 1024; 1 to 1048576 */
    unsigned channels;    /* default 1; 1 to 8 */
    double tone_hz;       /* default 440; below half the rate */
    uint32_t seed;
    double error_ppm;    /* its clock is so much faster than `clock`: -100000 to 100000 */
    int64_t late_max_ns; /* each chunk comes up to so late, by chance: 0 to 10^9 */
};

/* Errors: -EINVAL (a value out of range), -ENOMEM. */
int tower_source_open_mock(struct tower_clock *clock, const struct tower_mock_config *config,
                           struct tower_source **ret_source);

struct tower_file_config {
    const char *path;
    bool is_paced;        /* true: chunks come in real time; false: as fast as they are read */
    size_t chunk_samples; /* 0: 1152 */
    const char *ffmpeg;   /* the program for what libsndfile can't read; NULL: "ffmpeg" */
    bool reads_tags; /* fill in artist and title; with ffmpeg, by another run of it, 3 s at most */
};

/* Open a file: whatever libsndfile reads, else whatever an ffmpeg child decodes (to 48 kHz stereo).
 * The child has its stderr kept, for the error text, is given no descriptor but its own three, and
 * is gone when the source is closed, or the thread that opened it has ended. Blocks for the disk.
 * Errors: -ENOENT, -EACCES, -EISDIR, -EILSEQ (nothing here can decode it), -EINVAL (a chunk of more
 * than 1048576 samples), -ENOMEM, -EMFILE, or whatever else open() says. Where `error` is not NULL
 * one line of up to `error_bytes` says in words, without the path, why and what to do. */
int tower_source_open_file(struct tower_clock *clock, const struct tower_file_config *config,
                           struct tower_source **ret_source, char *error, size_t error_bytes);

struct tower_raw_config {
    int fd;               /* read from here; stays the caller's, is not closed */
    uint32_t rate_hz;     /* 1000 to 384000 */
    unsigned channels;    /* 1 to 8 */
    size_t chunk_samples; /* 0: 1152 */
};

/* Raw s16le from a descriptor, such as stdin: chunks come as they arrive. A trailing part of a
 * sample is dropped; a last short chunk is yielded. Errors: -EINVAL, -ENOMEM. */
int tower_source_open_raw(const struct tower_raw_config *config, struct tower_source **ret_source);

struct tower_mic_config {
    const char *device;   /* as ALSA names it; NULL: "default" */
    uint32_t rate_hz;     /* wanted, 1000 to 384000; 0: 48000. Where the device has none such, the
                             nearest; see the info */
    unsigned channels;    /* likewise, 1 to 8; 0: 2 */
    size_t chunk_samples; /* 0: 1152 */
};

/* A microphone or whatever else ALSA captures from: PipeWire, PulseAudio and JACK too, by their
 * devices' names. A read waits for the device, half a second at most: then it is -EINTR, though
 * there was no signal. What is lost where nobody reads for half a second is counted in `live`. A
 * device that goes away is tried again, after 0.25 s and then less often up to every 5 s, until it
 * is back; what was read of a chunk is dropped. Opening may wait for a sound server. Writes nothing
 * to stderr: ALSA is told to be quiet, for the whole process. One thread at a time.
 * Errors: -ENOENT (no device of that name), -EBUSY, -EACCES, -EINVAL (a value out of range, or a
 * device without 16 bits or so many channels), -ENOMEM, or whatever else ALSA says. Where `error`
 * is not NULL, one line of up to `error_bytes` says in words, without the name, what is wrong and
 * what to do. */
int tower_source_open_mic(struct tower_clock *clock, const struct tower_mic_config *config,
                          struct tower_source **ret_source, char *error, size_t error_bytes);

/* Tell `tell` of each device that can be captured from: its name, and what a person calls it. Both
 * are gone when it returns. Returns how many there were. May wait for the devices' drivers. */
size_t tower_mic_list(void (*tell)(void *arg, const char *name, const char *description),
                      void *arg);

#endif
