/* file.c - the file source: libsndfile in process, else an ffmpeg child. */
#include "tower/source.h"

#include "decoder_child.h"
#include "fd.h"
#include "bounds.h"
#include "mp3_tag.h"
#include "pacer.h"
#include "tags.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sndfile.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_FFMPEG "ffmpeg"

struct file_source {
    struct tower_source base;

    /* Constant after open. */
    struct tower_clock *clock;
    bool is_paced;
    bool reads_tags;
    char *path;
    char *ffmpeg;
    struct tower_tags tags;
    size_t sample_bytes; /* of all channels */

    /* Owned by the reader. */
    struct tower_pacer pacer;
    int fd;                             /* of sndfile; -1: none */
    SNDFILE *sndfile;                   /* NULL: a child decodes */
    float *floats;                      /* a chunk as sndfile gives it; NULL: it gives integers */
    struct tower_decoder_child decoder; /* if not sndfile */
    uint8_t *held;                      /* a chunk that is not yet due, or not yet whole */
    size_t held_bytes;
    bool is_at_end;
    int end; /* what a read returns behind the last chunk */
};

/* ---- reading ---- */

/* libsndfile's own way from float to integer either wraps what is over full scale or, asked not to,
 * makes a quiet file loud. */
static void convert_floats(const float *floats, int16_t *values, size_t n_values) {
    for (size_t i = 0; i < n_values; i++) {
        float scaled = floats[i] * 32768.0F;
        if (scaled >= 32767.0F)
            values[i] = INT16_MAX;
        else if (scaled <= -32768.0F)
            values[i] = INT16_MIN;
        else
            values[i] = isnan(scaled) ? 0 : (int16_t)lrintf(scaled);
    }
}

static ssize_t read_sndfile(struct file_source *file, uint8_t *ret_pcm, size_t bytes) {
    size_t n_samples = bytes / file->sample_bytes; /* whole: only whole samples are held */
    sf_count_t n;
    if (file->floats) {
        n = sf_readf_float(file->sndfile, file->floats, (sf_count_t)n_samples);
        if (n > 0)
            convert_floats(file->floats, (int16_t *)ret_pcm, (size_t)n * file->base.info.channels);
    } else {
        n = sf_readf_short(file->sndfile, (int16_t *)ret_pcm, (sf_count_t)n_samples);
    }
    if (n == (sf_count_t)n_samples)
        return (ssize_t)bytes;
    /* The next read would have forgotten the error. */
    file->is_at_end = true;
    if (sf_error(file->sndfile) != SF_ERR_NO_ERROR) {
        file->end = -EIO;
        (void)snprintf(file->base.error, sizeof file->base.error, "the file is damaged here: %s",
                       sf_strerror(file->sndfile));
    }
    return n > 0 ? (ssize_t)((size_t)n * file->sample_bytes) : file->end;
}

static ssize_t read_decoder(struct file_source *file, uint8_t *ret_pcm, size_t bytes) {
    ssize_t n = tower_decoder_child_read(&file->decoder, ret_pcm, bytes);
    if (n == -EIO)
        (void)snprintf(file->base.error, sizeof file->base.error, "the decoder gave up: %s",
                       *file->decoder.last ? file->decoder.last : "it ended and said nothing");
    return n;
}

/* Hold some more, or know the end. Returns 0 or -EINTR. */
static int hold_more(struct file_source *file) {
    size_t room_bytes = tower_source_chunk_bytes(&file->base) - file->held_bytes;
    uint8_t *room = file->held + file->held_bytes;
    ssize_t n =
        file->sndfile ? read_sndfile(file, room, room_bytes) : read_decoder(file, room, room_bytes);
    if (n == -EINTR)
        return -EINTR;
    if (n > 0) {
        file->held_bytes += (size_t)n;
    } else {
        file->is_at_end = true;
        file->end = (int)n;
    }
    return 0;
}

static int file_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct file_source *file = (struct file_source *)source;
    tower_pacer_start(&file->pacer);
    while (file->held_bytes < tower_source_chunk_bytes(source) && !file->is_at_end) {
        int error = hold_more(file);
        if (error < 0)
            return error;
    }
    size_t n_samples = file->held_bytes / file->sample_bytes;
    if (n_samples == 0)
        return file->end;
    int error = file->is_paced ? tower_pacer_wait(&file->pacer, n_samples) : 0;
    if (error < 0)
        return error;
    *ret_bytes = n_samples * file->sample_bytes;
    memcpy(ret_chunk, file->held, *ret_bytes);
    file->held_bytes = 0;
    return 1;
}

static int file_rewind(struct tower_source *source) {
    struct file_source *file = (struct file_source *)source;
    if (file->sndfile) {
        if (sf_seek(file->sndfile, 0, SEEK_SET) != 0)
            return file->base.info.length_samples < 0 ? -ENOTSUP : -EIO;
    } else {
        struct tower_decoder_child decoder = TOWER_DECODER_CHILD_NONE;
        int error = tower_decoder_child_start(&decoder, file->clock, file->ffmpeg, file->path);
        if (error < 0)
            return error;
        tower_decoder_child_stop(&file->decoder);
        file->decoder = decoder;
    }
    file->held_bytes = 0;
    file->is_at_end = false;
    file->end = 0;
    return 0;
}

static void file_close(struct tower_source *source) {
    struct file_source *file = (struct file_source *)source;
    if (file->sndfile)
        (void)sf_close(file->sndfile);
    tower_fd_close(&file->fd);
    tower_decoder_child_stop(&file->decoder);
    tower_tags_done(&file->tags);
    free(file->held);
    free(file->floats);
    free(file->path);
    free(file->ffmpeg);
    free(file);
}

static const struct tower_source_ops file_ops = {
    .read = file_read,
    .close = file_close,
    .rewind = file_rewind,
};

/* ---- opening ---- */

/* Where the caller wants to know why. */
struct reason {
    char *text;
    size_t bytes;
};

static void say(const struct reason *reason, const char *text) {
    if (reason->text && reason->bytes > 0)
        (void)snprintf(reason->text, reason->bytes, "%s", text);
}

/* Open the path itself: what is wrong with it has nothing to do with decoding. */
static int open_path(struct file_source *file, bool *ret_is_regular, const struct reason *reason) {
    struct stat status = {0};
    do {
        file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    } while (file->fd < 0 && errno == EINTR);
    int error = file->fd < 0 || fstat(file->fd, &status) < 0 ? -errno : 0;
    if (error == 0 && S_ISDIR(status.st_mode))
        error = -EISDIR;
    if (error == 0) {
        *ret_is_regular = S_ISREG(status.st_mode);
        return 0;
    }
    if (error == -ENOENT)
        say(reason, "there is no such file; check the name and the folder");
    else if (error == -EACCES)
        say(reason, "this user may not read it; change its permissions, or those of its folder");
    else if (error == -EISDIR)
        say(reason, "this is a folder; name a file in it");
    else
        say(reason, strerror(-error));
    return error;
}

static bool gives_floats(int format) {
    switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_FLOAT:
    case SF_FORMAT_DOUBLE:
    case SF_FORMAT_VORBIS:
    case SF_FORMAT_OPUS:
    case SF_FORMAT_MPEG_LAYER_I:
    case SF_FORMAT_MPEG_LAYER_II:
    case SF_FORMAT_MPEG_LAYER_III:
        return true;
    default:
        return false;
    }
}

static bool is_mpeg(int format) {
    return (format & SF_FORMAT_TYPEMASK) == SF_FORMAT_MPEG;
}

static bool is_within_limits(const SF_INFO *info) {
    return info->samplerate >= TOWER_SOURCE_RATE_MIN_HZ &&
           info->samplerate <= TOWER_SOURCE_RATE_MAX_HZ && info->channels >= 1 &&
           info->channels <= TOWER_SOURCE_CHANNELS_MAX;
}

static void close_sndfile(struct file_source *file) {
    if (file->sndfile)
        (void)sf_close(file->sndfile);
    file->sndfile = NULL;
    tower_fd_close(&file->fd);
}

/* Let libsndfile read it. Without success file->sndfile is NULL and `ret_why` says why. */
static void try_sndfile(struct file_source *file, SF_INFO *ret_info, char *ret_why,
                        size_t why_bytes) {
    memset(ret_info, 0, sizeof *ret_info);
    /* What it cannot read it closes, even where it is told not to, and by the time that we did so
     * too the number might be another thread's: so it has one of its own. */
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    file->sndfile = fd < 0 ? NULL : sf_open_fd(fd, SFM_READ, ret_info, SF_TRUE);
    if (!file->sndfile) {
        (void)snprintf(ret_why, why_bytes, "%s", fd < 0 ? strerror(errno) : sf_strerror(NULL));
        ret_why[strcspn(ret_why, ".\n")] = '\0';
        return;
    }
    if (is_within_limits(ret_info))
        return;
    (void)snprintf(ret_why, why_bytes, "%d Hz and %d channels", ret_info->samplerate,
                   ret_info->channels);
    (void)sf_close(file->sndfile);
    file->sndfile = NULL;
}

static void read_tags(struct file_source *file) {
    const char *artist = sf_get_string(file->sndfile, SF_STR_ARTIST);
    const char *title = sf_get_string(file->sndfile, SF_STR_TITLE);
    file->tags.artist = artist ? tower_tag_new(artist) : NULL;
    file->tags.title = title ? tower_tag_new(title) : NULL;
}

static int use_sndfile(struct file_source *file, const SF_INFO *info) {
    struct tower_source_info *out = &file->base.info;
    out->rate_hz = (uint32_t)info->samplerate;
    out->channels = (unsigned)info->channels;
    out->length_samples = info->seekable && info->frames < SF_COUNT_MAX ? info->frames : -1;
    if (!gives_floats(info->format))
        return 0;
    file->floats = malloc(out->chunk_samples * out->channels * sizeof *file->floats);
    return file->floats ? 0 : -ENOMEM;
}

/* Let ffmpeg decode it, and wait until it has shown that it can. `why` is libsndfile's word. */
static int use_decoder(struct file_source *file, const char *why, const struct reason *reason) {
    char text[512];
    struct tower_source_info *out = &file->base.info;
    out->rate_hz = TOWER_RATE_HZ;
    out->channels = TOWER_CHANNELS;
    out->length_samples = -1;
    int error = tower_decoder_child_start(&file->decoder, file->clock, file->ffmpeg, file->path);
    if (error == -ENOENT || error == -EACCES) {
        (void)snprintf(text, sizeof text,
                       "libsndfile cannot read it (%s), and the program %.200s cannot be run (%s); "
                       "install ffmpeg, or convert the file to WAV or FLAC",
                       why, file->ffmpeg, strerror(-error));
        say(reason, text);
        return -EILSEQ;
    }
    if (error < 0) {
        say(reason, strerror(-error));
        return error;
    }
    uint8_t first[TOWER_SAMPLE_BYTES];
    ssize_t n;
    do {
        n = tower_decoder_child_read(&file->decoder, first, sizeof first);
    } while (n == -EINTR);
    if (n > 0) {
        file->held = malloc(tower_source_chunk_bytes(&file->base));
        if (!file->held)
            return -ENOMEM;
        memcpy(file->held, first, (size_t)n);
        file->held_bytes = (size_t)n;
        return 0;
    }
    const char *said = *file->decoder.last ? file->decoder.last : "no audio in it";
    /* ffmpeg names the file it speaks of; whoever shows this line does so too. */
    const char *name = strstr(said, file->path);
    if (name && strncmp(name + strlen(file->path), ": ", 2) == 0)
        said = name + strlen(file->path) + 2;
    (void)snprintf(
        text, sizeof text,
        "nothing here can decode it (libsndfile: %s; ffmpeg: %s); is it audio, and whole?", why,
        said);
    say(reason, text);
    return -EILSEQ;
}

static int open_decoder(struct file_source *file, const struct reason *reason) {
    bool is_regular = false;
    char why[160] = "";
    SF_INFO info;
    int error = open_path(file, &is_regular, reason);
    if (error < 0)
        return error;
    try_sndfile(file, &info, why, sizeof why);
    if (file->sndfile && file->reads_tags)
        read_tags(file);
    /* Where an MP3 file does not say how long it is, libsndfile guesses from its first frame, and
     * stops there: a file of varying bitrate would lose most of its audio. ffmpeg reads on. */
    if (file->sndfile && is_regular && is_mpeg(info.format) && !tower_mp3_tag_is_there(file->fd) &&
        use_decoder(file, "a guessed length", &(struct reason){NULL, 0}) == 0) {
        close_sndfile(file);
        return 0;
    }
    if (file->sndfile) {
        tower_decoder_child_stop(&file->decoder);
        error = use_sndfile(file, &info);
        if (error == 0 && !(file->held = malloc(tower_source_chunk_bytes(&file->base))))
            error = -ENOMEM;
        return error;
    }
    close_sndfile(file);
    if (!is_regular) {
        /* What libsndfile has read from a pipe is gone. */
        say(reason, "this is no regular file, and libsndfile cannot read it as it comes; "
                    "save it to a file first");
        return -EILSEQ;
    }
    return use_decoder(file, why, reason);
}

int tower_source_open_file(struct tower_clock *clock, const struct tower_file_config *config,
                           struct tower_source **ret_source, char *error, size_t error_bytes) {
    const struct reason reason = {error, error_bytes};
    if (config->chunk_samples > TOWER_SOURCE_CHUNK_SAMPLES_MAX)
        return -EINVAL;
    struct file_source *file = calloc(1, sizeof *file);
    if (!file)
        return -ENOMEM;
    file->base.ops = &file_ops;
    file->base.info.chunk_samples =
        config->chunk_samples ? config->chunk_samples : TOWER_SOURCE_CHUNK_SAMPLES_DEFAULT;
    file->clock = clock;
    file->is_paced = config->is_paced;
    file->reads_tags = config->reads_tags;
    file->fd = -1;
    file->decoder = (struct tower_decoder_child)TOWER_DECODER_CHILD_NONE;
    file->path = strdup(config->path);
    file->ffmpeg = strdup(config->ffmpeg ? config->ffmpeg : DEFAULT_FFMPEG);
    int result = -ENOMEM;
    if (file->path && file->ffmpeg)
        result = open_decoder(file, &reason);
    if (result < 0) {
        if (result == -ENOMEM)
            say(&reason, "out of memory");
        file_close(&file->base);
        return result;
    }
    if (file->reads_tags && !file->sndfile && !file->tags.title)
        tower_tags_ask_ffmpeg(&file->tags, clock, file->ffmpeg, file->path);
    file->base.info.artist = file->tags.artist;
    file->base.info.title = file->tags.title;
    file->sample_bytes = file->base.info.channels * sizeof(int16_t);
    tower_pacer_init(&file->pacer, clock, file->base.info.rate_hz);
    *ret_source = &file->base;
    return 0;
}
