/* encoder_fixture.h - what the encoder's tests share: a programme, a decoder that is not ours, and
 * a count of what a process holds. */
#ifndef TEST_ENCODER_FIXTURE_H
#define TEST_ENCODER_FIXTURE_H

#include "tower/format.h"
#include "tower/mp3.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <mpg123.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIXTURE_PATIENCE_NS (20 * TOWER_NS_PER_S)
/* What a Layer III decoder adds to the encoder's delay. */
#define FIXTURE_DECODER_DELAY_SAMPLES 529

/* Chords with a slow beat and a little noise: loud, and nowhere periodic within a second. */
static inline void fixture_programme(int16_t *pcm, size_t n_samples) {
    uint32_t noise = 1;
    for (size_t t = 0; t < n_samples; t++) {
        double s = (double)t / TOWER_RATE_HZ;
        double glide = 220.0 * s + 40.0 * sin(1.7 * s);
        double wave = 5000 * sin(2 * M_PI * glide) + 3000 * sin(2 * M_PI * 523.25 * s) +
                      2000 * sin(2 * M_PI * 1318.5 * s) * (1 + sin(5 * s)) / 2;
        noise = noise * 1664525U + 1013904223U;
        double hiss = (double)(noise >> 16) / 65536.0 * 400 - 200;
        pcm[2 * t] = (int16_t)lrint(wave + hiss);
        pcm[2 * t + 1] = (int16_t)lrint(0.7 * wave - hiss);
    }
}

/* Decode a whole stream by libmpg123 to 48 kHz stereo. Returns the samples a channel, or -1 at the
 * first thing the decoder complained of; `*ret_pcm` is to be freed. */
static inline long fixture_decode(const uint8_t *mp3, size_t bytes, int16_t **ret_pcm) {
    int fd = memfd_create("mp3", MFD_CLOEXEC);
    if (fd < 0 || write(fd, mp3, bytes) != (ssize_t)bytes || lseek(fd, 0, SEEK_SET) != 0)
        return -1;
    (void)mpg123_init();
    mpg123_handle *decoder = mpg123_new(NULL, NULL);
    (void)mpg123_param(decoder, MPG123_ADD_FLAGS, MPG123_QUIET | MPG123_NO_RESYNC, 0);
    (void)mpg123_param(decoder, MPG123_REMOVE_FLAGS, MPG123_GAPLESS, 0);
    (void)mpg123_format_none(decoder);
    (void)mpg123_format(decoder, TOWER_RATE_HZ, MPG123_STEREO, MPG123_ENC_SIGNED_16);
    size_t room = bytes * 64 + 65536, have = 0;
    uint8_t *pcm = malloc(room);
    int result = mpg123_open_fd(decoder, fd);
    while (result == MPG123_OK || (result == MPG123_NEW_FORMAT && have == 0)) {
        size_t done = 0;
        result = mpg123_read(decoder, pcm + have, room - have, &done);
        have += done;
    }
    mpg123_close(decoder);
    mpg123_delete(decoder);
    (void)close(fd);
    if (result != MPG123_DONE) {
        free(pcm);
        return -1;
    }
    *ret_pcm = (int16_t *)(void *)pcm;
    return (long)(have / TOWER_SAMPLE_BYTES);
}

/* Likeness, -1 to 1, of n samples of the left channel. */
static inline double fixture_correlate(const int16_t *a, const int16_t *b, size_t n_samples) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t t = 0; t < n_samples; t++) {
        double x = a[2 * t], y = b[2 * t];
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* The least likeness of any tenth of a second. `a` and `b` begin at the same moment. */
static inline double fixture_least_likeness(const int16_t *a, const int16_t *b, size_t n_samples) {
    const size_t window = TOWER_RATE_HZ / 10;
    double least = 1;
    for (size_t t = 0; t + window <= n_samples; t += window / 2)
        least = fmin(least, fixture_correlate(a + 2 * t, b + 2 * t, window));
    return least;
}

/* The largest step between neighbouring samples of a channel. */
static inline int fixture_largest_step(const int16_t *pcm, size_t n_samples) {
    int largest = 0;
    for (size_t i = 2; i < 2 * n_samples; i++) {
        int step = abs(pcm[i] - pcm[i - 2]);
        largest = step > largest ? step : largest;
    }
    return largest;
}

static inline int fixture_count_fds(const char *directory) {
    DIR *dir = opendir(directory);
    int n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n - 2;
}

static inline bool fixture_has_no_children(void) {
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static inline int64_t fixture_real_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * TOWER_NS_PER_S + now.tv_nsec;
}

/* Write an executable shell script; `path` of at least 64 bytes gets its name. To be unlinked. */
static inline bool fixture_script(char path[64], const char *text) {
    (void)snprintf(path, 64, "/tmp/tower-encoder-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return false;
    bool is_written = dprintf(fd, "#!/bin/sh\n%s\n", text) > 0 && fchmod(fd, 0700) == 0;
    (void)close(fd);
    return is_written;
}

#endif
