/* playlist_source.c - many files, one behind the other. */
#include "playlist_source.h"

#include "bounds.h"
#include "joiner.h"
#include "loudness.h"
#include "pacer.h"
#include "playlist.h"
#include "playlist_order.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How far into a file the next one is opened. */
#define PREPARE_AFTER_S 2
/* How long a measurement is waited for. What is on air has 2.4 s in the transmitter's queue. */
#define LOUDNESS_WAIT_NS TOWER_NS_PER_S

/* A file that is open. */
struct deck {
    struct tower_source *source; /* NULL: none */
    size_t index;                /* in the list */
    size_t number;               /* in the round */
    int16_t *chunk;
    size_t n_first; /* samples in `chunk` that were decoded ahead */
    int64_t n_read; /* samples */
    float gain;
};

/* Where a file begins in what comes out. */
struct mark {
    int64_t at;
    size_t index;
    size_t number;
    int64_t length_samples;
    char *artist;
    char *title;
};

struct playlist_source {
    struct tower_source base;

    /* Constant after open. */
    struct tower_clock *clock;
    struct tower_playlist_config config;
    char *ffmpeg;
    struct tower_playlist playlist;
    struct tower_loudness_meter *meter; /* NULL: nothing is levelled */

    /* Owned by the reader. */
    struct tower_playlist_order order;
    struct tower_pacer pacer;
    struct tower_joiner joiner;
    struct deck now;
    struct deck next;
    const char *last_path; /* of the deck that was made ready last */
    size_t n_rejected;     /* in a row */
    bool is_out_of_files;
    bool is_at_end;
    uint64_t n_begun;   /* files put into the joiner */
    uint64_t turn;      /* files begun in what was read */
    struct mark *marks; /* not yet reached: several, where files are short */
    size_t n_marks;
    size_t marks_capacity;
    struct mark current; /* of what was read last */
};

static const char *path_of(const struct playlist_source *list, size_t index) {
    return list->playlist.entries[index].path;
}

static void say(const struct playlist_source *list, size_t index, const char *why) {
    if (list->config.say)
        list->config.say(list->config.context, path_of(list, index), why);
}

static void deck_close(struct deck *deck) {
    tower_source_close(deck->source);
    free(deck->chunk);
    *deck = (struct deck){0};
}

static void mark_done(struct mark *mark) {
    free(mark->artist);
    free(mark->title);
    *mark = (struct mark){0};
}

/* ---- making the next file ready ---- */

/* Returns -EINTR: it was passed over, and the caller may want to look around. */
static int reject(struct playlist_source *list, const char *why) {
    char line[320];
    (void)snprintf(line, sizeof line, "skipped: %s", why);
    say(list, list->next.index, line);
    deck_close(&list->next);
    list->n_rejected++;
    return -EINTR;
}

static int open_next(struct playlist_source *list) {
    struct deck *next = &list->next;
    char why[256] = "";
    size_t index;
    if (list->n_rejected >= list->playlist.n_entries ||
        !tower_playlist_order_next(&list->order, list->last_path, &index, &next->number)) {
        list->is_out_of_files = true;
        return 0;
    }
    next->index = index;
    const struct tower_playlist_entry *entry = &list->playlist.entries[index];
    if (tower_playlist_is_one(entry->path))
        return reject(list, "it is a list or a folder itself; feed that on its own");
    const struct tower_file_config config = {
        .path = entry->path,
        .ffmpeg = list->ffmpeg,
        .reads_tags = list->config.reads_tags && !entry->title,
    };
    int error = tower_source_open_file(list->clock, &config, &next->source, why, sizeof why);
    if (error < 0) {
        next->source = NULL;
        return reject(list, *why ? why : strerror(-error));
    }
    next->chunk = malloc(tower_source_chunk_bytes(next->source));
    if (!next->chunk)
        return reject(list, strerror(ENOMEM));
    if (list->meter)
        tower_loudness_meter_ask(list->meter, entry->path);
    return 0;
}

/* Have the next file open and its first chunk decoded. Returns 0: it is, or there is none; or
 * -EINTR: not yet. */
static int make_ready(struct playlist_source *list) {
    struct deck *next = &list->next;
    if (!next->source && !list->is_out_of_files) {
        int error = open_next(list);
        if (error < 0)
            return error;
    }
    if (!next->source || next->n_first > 0)
        return 0;
    size_t bytes;
    int got = tower_source_read(next->source, next->chunk, &bytes);
    if (got == -EINTR)
        return got;
    if (got == 0)
        return reject(list, "there is no audio in it");
    if (got < 0)
        return reject(list, *next->source->error ? next->source->error : strerror(-got));
    next->n_first = bytes / sizeof(int16_t) / next->source->info.channels;
    list->last_path = path_of(list, next->index);
    list->n_rejected = 0;
    return 0;
}

/* ---- from file to file ---- */

static float gain_of(struct playlist_source *list, const char *path) {
    struct tower_loudness loudness;
    bool is_whole;
    bool may_wait = !list->config.is_paced || list->n_begun == 0;
    if (!list->meter || tower_loudness_meter_get(list->meter, path, may_wait ? LOUDNESS_WAIT_NS : 0,
                                                 &loudness, &is_whole) < 0)
        return 1;
    return (float)tower_loudness_gain(&loudness, list->config.target_lufs, is_whole);
}

static char *copy_of(const char *text) {
    return text ? strdup(text) : NULL;
}

static int reserve_mark(struct playlist_source *list) {
    if (list->n_marks < list->marks_capacity)
        return 0;
    size_t capacity = 2 * list->marks_capacity + 4;
    struct mark *marks = realloc(list->marks, capacity * sizeof *marks);
    if (!marks)
        return -ENOMEM;
    list->marks = marks;
    list->marks_capacity = capacity;
    return 0;
}

static void add_mark(struct playlist_source *list, int64_t at) {
    const struct tower_source_info *info = &list->now.source->info;
    const char *title = list->playlist.entries[list->now.index].title;
    int64_t length = info->length_samples;
    list->marks[list->n_marks++] = (struct mark){
        .at = at,
        .index = list->now.index,
        .number = list->now.number,
        .length_samples = length >= 0 && length < INT64_MAX / TOWER_RATE_HZ
                              ? length * TOWER_RATE_HZ / info->rate_hz
                              : -1,
        .artist = title ? NULL : copy_of(info->artist),
        .title = copy_of(title ? title : info->title),
    };
}

static int begin_file(struct playlist_source *list) {
    int64_t at;
    float gain = gain_of(list, path_of(list, list->next.index));
    const struct tower_source_info *info = &list->next.source->info;
    int error = reserve_mark(list);
    if (error == 0)
        error = tower_joiner_begin(&list->joiner, info->rate_hz, info->channels, &at);
    if (error < 0)
        return error;
    list->now = list->next;
    list->next = (struct deck){0};
    list->now.gain = gain;
    list->n_begun++;
    add_mark(list, at);
    return 0;
}

static void apply_gain(const struct deck *deck, size_t n_values) {
    if (deck->gain == 1.0F)
        return;
    for (size_t i = 0; i < n_values; i++) {
        float value = (float)deck->chunk[i] * deck->gain;
        if (value >= INT16_MAX)
            deck->chunk[i] = INT16_MAX;
        else
            deck->chunk[i] = value <= INT16_MIN ? INT16_MIN : (int16_t)lrintf(value);
    }
}

static int add_samples(struct playlist_source *list, size_t n_samples) {
    struct deck *now = &list->now;
    apply_gain(now, n_samples * now->source->info.channels);
    now->n_read += (int64_t)n_samples;
    return tower_joiner_add(&list->joiner, now->chunk, n_samples);
}

static void say_broken(struct playlist_source *list, int error) {
    const struct deck *now = &list->now;
    char why[320];
    (void)snprintf(why, sizeof why, "reading failed after %.1f s, the next file follows: %s",
                   (double)now->n_read / now->source->info.rate_hz,
                   *now->source->error ? now->source->error : strerror(-error));
    say(list, now->index, why);
}

static int read_file(struct playlist_source *list) {
    struct deck *now = &list->now;
    size_t bytes;
    if (now->n_first > 0) {
        size_t n = now->n_first;
        now->n_first = 0;
        return add_samples(list, n);
    }
    int got = tower_source_read(now->source, now->chunk, &bytes);
    if (got > 0)
        return add_samples(list, bytes / sizeof(int16_t) / now->source->info.channels);
    if (got == -EINTR)
        return got;
    if (got < 0)
        say_broken(list, got);
    deck_close(now);
    return 0;
}

/* Put some more into the joiner, or know the end. */
static int go_on(struct playlist_source *list) {
    if (list->now.source) {
        int error = read_file(list);
        /* How that goes is of interest only once the present one is at its end. */
        if (error == 0 && list->now.source &&
            list->now.n_read >= (int64_t)PREPARE_AFTER_S * list->now.source->info.rate_hz)
            (void)make_ready(list);
        return error;
    }
    int error = make_ready(list);
    if (error < 0)
        return error;
    if (list->next.source)
        return begin_file(list);
    list->is_at_end = true;
    return tower_joiner_end(&list->joiner);
}

/* ---- reading ---- */

/* How many samples up to the next file, or that are there. */
static int64_t ready_samples(const struct playlist_source *list, bool *ret_is_cut) {
    int64_t n = tower_joiner_ready(&list->joiner);
    *ret_is_cut = list->n_marks > 0 && list->marks[0].at - list->joiner.taken <= n;
    return *ret_is_cut ? list->marks[0].at - list->joiner.taken : n;
}

static void pass_marks(struct playlist_source *list) {
    while (list->n_marks > 0 && list->marks[0].at <= list->joiner.taken) {
        mark_done(&list->current);
        list->current = list->marks[0];
        list->n_marks--;
        memmove(list->marks, list->marks + 1, list->n_marks * sizeof *list->marks);
        list->turn++;
    }
}

static int end_of(struct playlist_source *list) {
    if (list->n_begun > 0 && list->n_rejected < list->playlist.n_entries)
        return 0;
    (void)snprintf(list->base.error, sizeof list->base.error,
                   list->playlist.n_entries == 1 ? "it cannot be read"
                                                 : "none of its %zu files can be read",
                   list->playlist.n_entries);
    return -EIO;
}

static int playlist_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct playlist_source *list = (struct playlist_source *)source;
    int64_t chunk_samples = (int64_t)source->info.chunk_samples;
    bool is_cut;
    int64_t n;
    if (list->config.is_paced)
        tower_pacer_start(&list->pacer);
    for (;;) {
        int error = 0;
        n = ready_samples(list, &is_cut);
        /* A mark at what is read next is passed only here, so that it is true of what was read. */
        if (is_cut && n <= 0) {
            pass_marks(list);
            continue;
        }
        if (n >= chunk_samples || is_cut || list->is_at_end)
            break;
        error = go_on(list);
        if (error < 0)
            return error;
    }
    if (n <= 0)
        return end_of(list);
    if (n > chunk_samples)
        n = chunk_samples;
    int error = list->config.is_paced ? tower_pacer_wait(&list->pacer, (size_t)n) : 0;
    if (error < 0)
        return error;
    tower_joiner_take(&list->joiner, ret_chunk, (size_t)n);
    *ret_bytes = (size_t)n * TOWER_SAMPLE_BYTES;
    return 1;
}

static void playlist_close(struct tower_source *source) {
    struct playlist_source *list = (struct playlist_source *)source;
    tower_loudness_meter_free(list->meter);
    deck_close(&list->now);
    deck_close(&list->next);
    tower_joiner_done(&list->joiner);
    tower_playlist_order_done(&list->order);
    for (size_t i = 0; i < list->n_marks; i++)
        mark_done(&list->marks[i]);
    free(list->marks);
    mark_done(&list->current);
    tower_playlist_done(&list->playlist);
    free(list->ffmpeg);
    free(list);
}

static const struct tower_source_ops playlist_ops = {
    .read = playlist_read,
    .close = playlist_close,
};

void tower_playlist_source_get_now(const struct tower_source *source,
                                   struct tower_playlist_now *ret_now) {
    const struct playlist_source *list = (const struct playlist_source *)source;
    const struct mark *current = &list->current;
    *ret_now = (struct tower_playlist_now){
        .turn = list->turn,
        .number = current->number,
        .n_files = list->playlist.n_entries,
        .path = list->turn > 0 ? path_of(list, current->index) : NULL,
        .artist = current->artist,
        .title = current->title,
        .position_samples = list->joiner.taken - current->at,
        .length_samples = current->length_samples,
    };
}

/* ---- opening ---- */

static const char *words_for(int error) {
    switch (error) {
    case -ENOENT:
        return "there is no such file or folder; check the name";
    case -EACCES:
        return "this user may not read it; change its permissions, or those of its folder";
    case -EFBIG:
        return "more than 16 MiB, which no playlist has; name another file";
    case -EILSEQ:
        return "this is no well-formed XSPF, or it declares entities, which are not read";
    case -ENODATA:
        return "no audio file is named in it";
    case -EINVAL:
        return "a crossfade has from 0 to 30 seconds";
    default:
        return strerror(-error);
    }
}

static void say_unusable(const struct playlist_source *list) {
    char line[192];
    if (list->playlist.n_unusable == 0 || !list->config.say)
        return;
    (void)snprintf(line, sizeof line,
                   list->playlist.n_unusable == 1 ? "one entry cannot be used: %s"
                                                  : "%2$zu entries cannot be used; the first: %1$s",
                   list->playlist.why_unusable, list->playlist.n_unusable);
    list->config.say(list->config.context, list->config.path, line);
}

static int open_parts(struct playlist_source *list) {
    const struct tower_playlist_config *config = &list->config;
    int64_t longest_ns = TOWER_PLAYLIST_CROSSFADE_MAX_S * TOWER_NS_PER_S;
    if (config->crossfade_ns < 0 || config->crossfade_ns > longest_ns)
        return -EINVAL;
    if (config->ffmpeg && !(list->ffmpeg = strdup(config->ffmpeg)))
        return -ENOMEM;
    int error = tower_playlist_is_one(config->path)
                    ? tower_playlist_read(config->path, &list->playlist)
                    : tower_playlist_add(&list->playlist, config->path, NULL);
    if (error == 0)
        error = tower_playlist_order_init(&list->order, &list->playlist, config->is_looped,
                                          config->is_shuffled, config->seed);
    if (error == 0 && config->is_levelled)
        error = tower_loudness_meter_new(list->clock, list->ffmpeg, config->cache, &list->meter);
    return error;
}

int tower_source_open_playlist(struct tower_clock *clock,
                               const struct tower_playlist_config *config,
                               struct tower_source **ret_source, char *error, size_t error_bytes) {
    struct playlist_source *list = calloc(1, sizeof *list);
    if (!list)
        return -ENOMEM;
    list->base.ops = &playlist_ops;
    list->base.info = (struct tower_source_info){
        .rate_hz = TOWER_RATE_HZ,
        .channels = TOWER_CHANNELS,
        .chunk_samples = TOWER_SOURCE_CHUNK_SAMPLES_DEFAULT,
        .length_samples = -1,
    };
    list->clock = clock;
    list->config = *config;
    int64_t fade_samples = config->crossfade_ns / 1000 * TOWER_RATE_HZ / 1000000;
    tower_joiner_init(&list->joiner, fade_samples);
    tower_pacer_init(&list->pacer, clock, TOWER_RATE_HZ);
    int result = open_parts(list);
    if (result < 0) {
        if (error && error_bytes > 0)
            (void)snprintf(error, error_bytes, "%s", words_for(result));
        playlist_close(&list->base);
        return result;
    }
    say_unusable(list);
    /* What they point to need not be there any longer. */
    list->config.path = list->config.ffmpeg = list->config.cache = NULL;
    *ret_source = &list->base;
    return 0;
}
