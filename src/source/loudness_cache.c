/* loudness_cache.c - a text file: size, time of change, LUFS, peak and path in each line. */
#include "loudness_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES (PATH_MAX + 128)
/* Beyond any music; and what stands for silence, which no line says in numbers. */
#define LEVEL_MAX 200.0

struct key {
    char path[PATH_MAX];
    int64_t bytes;
    int64_t changed_ns;
};

struct line {
    int64_t bytes;
    int64_t changed_ns;
    struct tower_loudness loudness;
    const char *path;
};

char *tower_loudness_cache_path(void) {
    const char *base = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char *path = NULL;
    int n = -1;
    /* A relative one is to be ignored, says the specification of XDG_CACHE_HOME. */
    if (base && *base == '/')
        n = asprintf(&path, "%s/tower/loudness", base);
    else if (home && *home == '/')
        n = asprintf(&path, "%s/.cache/tower/loudness", home);
    return n < 0 ? NULL : path;
}

/* The file, whatever it is called from where. */
static int key_of(const char *path, struct key *ret_key) {
    struct stat status;
    if (!realpath(path, ret_key->path) || stat(ret_key->path, &status) < 0)
        return -errno;
    if (strpbrk(ret_key->path, "\r\n"))
        return -EINVAL;
    ret_key->bytes = (int64_t)status.st_size;
    ret_key->changed_ns =
        (int64_t)status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec;
    return 0;
}

static double level_of(double written) {
    return written <= -LEVEL_MAX ? -HUGE_VAL : written;
}

/* `text` is changed, and the path lies in it. */
static bool parse(char *text, struct line *ret_line) {
    char *end = text + strcspn(text, "\n");
    int path_at = 0;
    double lufs, peak;
    if (*end != '\n')
        return false; /* its end is missing */
    *end = '\0';
    /* NOLINTNEXTLINE(cert-err34-c): a number out of range is some number, and does not match */
    if (sscanf(text, "%" SCNd64 " %" SCNd64 " %lf %lf %n", &ret_line->bytes, &ret_line->changed_ns,
               &lufs, &peak, &path_at) != 4 ||
        text[path_at] != '/' || !(fabs(lufs) <= LEVEL_MAX) || !(fabs(peak) <= LEVEL_MAX))
        return false;
    ret_line->loudness.lufs = level_of(lufs);
    ret_line->loudness.peak_dbfs = level_of(peak);
    ret_line->path = text + path_at;
    return true;
}

int tower_loudness_cache_find(const char *cache, const char *path,
                              struct tower_loudness *ret_loudness) {
    struct key key;
    char text[LINE_BYTES];
    int error = key_of(path, &key);
    if (error < 0)
        return error;
    FILE *file = fopen(cache, "re");
    if (!file)
        return -errno;
    error = -ENOENT;
    while (fgets(text, sizeof text, file)) {
        struct line line;
        if (parse(text, &line) && line.bytes == key.bytes && line.changed_ns == key.changed_ns &&
            strcmp(line.path, key.path) == 0) {
            *ret_loudness = line.loudness;
            error = 0;
        }
    }
    (void)fclose(file);
    return error;
}

/* ---- storing ---- */

static double written(double level) {
    return level < -LEVEL_MAX ? -LEVEL_MAX : level;
}

static size_t count_lines(FILE *file) {
    char text[LINE_BYTES];
    size_t n = 0;
    while (fgets(text, sizeof text, file))
        n++;
    rewind(file);
    return n;
}

/* All that is good but what was known of this path, and of that the oldest not. */
static void copy_others(FILE *from, FILE *to, const struct key *key) {
    char text[LINE_BYTES];
    char whole[LINE_BYTES];
    size_t n = count_lines(from);
    for (; fgets(text, sizeof text, from); n--) {
        struct line line;
        memcpy(whole, text, sizeof whole);
        if (n < TOWER_LOUDNESS_CACHE_ENTRIES_MAX && parse(text, &line) &&
            strcmp(line.path, key->path) != 0)
            (void)fputs(whole, to);
    }
}

static void make_folders(char *path) {
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(path, 0700);
        *at = '/';
    }
}

static int replace(const char *cache, const char *temporary, int fd, const struct key *key,
                   const struct tower_loudness *loudness) {
    FILE *from = fopen(cache, "re");
    FILE *to = fdopen(fd, "w");
    int error = to ? 0 : -errno;
    if (to && from)
        copy_others(from, to, key);
    if (from)
        (void)fclose(from);
    if (!to) {
        (void)close(fd);
        return error;
    }
    (void)fprintf(to, "%" PRId64 " %" PRId64 " %.3f %.3f %s\n", key->bytes, key->changed_ns,
                  written(loudness->lufs), written(loudness->peak_dbfs), key->path);
    if (ferror(to))
        error = -EIO;
    if (fclose(to) != 0 && error == 0)
        error = -errno;
    if (error == 0 && rename(temporary, cache) < 0)
        error = -errno;
    return error;
}

int tower_loudness_cache_store(const char *cache, const char *path,
                               const struct tower_loudness *loudness) {
    struct key key;
    char *temporary;
    int error = key_of(path, &key);
    if (error < 0)
        return error;
    if (asprintf(&temporary, "%s.XXXXXX", cache) < 0)
        return -ENOMEM;
    make_folders(temporary);
    int fd = mkostemp(temporary, O_CLOEXEC);
    error = fd < 0 ? -errno : replace(cache, temporary, fd, &key, loudness);
    if (fd >= 0 && error < 0)
        (void)unlink(temporary);
    free(temporary);
    return error;
}
