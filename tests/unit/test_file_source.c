/* The file source: formats, samples, levels, damage, and the ffmpeg child behind it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "poker.h"
#include "tower/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sndfile.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 120
#define RATE_HZ 44100
#define SAMPLES 60000
#define TONE_HZ 997.0

static char folder[64];
static int16_t programme[SAMPLES * 2]; /* two tones, one a side, and a little noise */

static char *in_folder(const char *name) {
    static char paths[4][400];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    uint32_t noise = 1;
    (void)snprintf(folder, sizeof folder, "/tmp/tower-file-XXXXXX");
    for (size_t i = 0; i < SAMPLES; i++) {
        double turn = TONE_HZ / RATE_HZ * (double)i;
        noise = noise * 1664525 + 1013904223;
        programme[i * 2] = (int16_t)(lrint(12000 * sin(2 * M_PI * turn)) + (noise >> 26));
        programme[i * 2 + 1] = (int16_t)(lrint(9000 * sin(M_PI * turn)) + (noise >> 27));
    }
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    DIR *listing = opendir(folder);
    const struct dirent *entry;
    while (listing && (entry = readdir(listing))) {
        if (entry->d_name[0] != '.')
            unlink(in_folder(entry->d_name));
    }
    if (listing)
        closedir(listing);
    return rmdir(folder);
}

/* Write the programme, as integers, in one of libsndfile's formats. */
static void write_programme(const char *path, int format) {
    SF_INFO info = {.samplerate = RATE_HZ, .channels = 2, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    assert_non_null(file);
    assert_int_equal(sf_writef_short(file, programme, SAMPLES), SAMPLES);
    assert_int_equal(sf_close(file), 0);
}

static void write_floats(const char *path, int format, const float *floats, size_t n_samples) {
    SF_INFO info = {.samplerate = 48000, .channels = 1, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    assert_non_null(file);
    assert_int_equal(sf_writef_float(file, floats, (sf_count_t)n_samples), n_samples);
    assert_int_equal(sf_close(file), 0);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
}

/* Run ffmpeg with the words given, up to NULL. */
static void run_ffmpeg(const char *first, ...) {
    const char *words[32] = {"ffmpeg", "-nostdin", "-v", "error", "-y", first};
    int n = 6;
    va_list arguments;
    va_start(arguments, first);
    while (n < 31 && (words[n] = va_arg(arguments, const char *)))
        n++;
    va_end(arguments);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execvp("ffmpeg", (char *const *)words);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static struct tower_source *open_with(const struct tower_file_config *config) {
    struct tower_source *source;
    char error[512] = "";
    int result = tower_source_open_file(tower_clock_real(), config, &source, error, sizeof error);
    if (result < 0)
        fail_msg("%s: %s (%d)", config->path, error, result);
    return source;
}

static struct tower_source *open_plain(const char *path) {
    return open_with(&(struct tower_file_config){.path = path});
}

/* Read to the end; up to `max` values are kept. Returns how many there were in all. */
static size_t read_all(struct tower_source *source, int16_t *values, size_t max, int *ret_end) {
    static int16_t chunk[1152 * 8];
    size_t n = 0, bytes;
    assert_true(tower_source_chunk_bytes(source) <= sizeof chunk);
    while ((*ret_end = tower_source_read(source, chunk, &bytes)) == 1) {
        for (size_t i = 0; i < bytes / 2; i++, n++) {
            if (n < max)
                values[n] = chunk[i];
        }
    }
    return n;
}

static int16_t heard[SAMPLES * 4];

static void test_integer_formats_come_bit_for_bit_and_again(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int format;
    } kinds[] = {
        {"a.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
        {"a24.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_24},
        {"a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
        {"a.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
        {"af.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT},
        {"ad.wav", SF_FORMAT_WAV | SF_FORMAT_DOUBLE},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int end;
        char *path = in_folder(kinds[i].name);
        if (strchr(kinds[i].name, 'f') == kinds[i].name + 1 || kinds[i].name[1] == 'd') {
            /* Integers are written to a float file as they are: bring them to the unit first. */
            SF_INFO info = {.samplerate = RATE_HZ, .channels = 2, .format = kinds[i].format};
            SNDFILE *file = sf_open(path, SFM_WRITE, &info);
            assert_non_null(file);
            for (size_t k = 0; k < SAMPLES; k++) {
                float pair[2] = {(float)programme[k * 2] / 32768.0F,
                                 (float)programme[k * 2 + 1] / 32768.0F};
                assert_int_equal(sf_writef_float(file, pair, 1), 1);
            }
            assert_int_equal(sf_close(file), 0);
        } else {
            write_programme(path, kinds[i].format);
        }
        struct tower_source *source = open_plain(path);
        assert_int_equal(source->info.rate_hz, RATE_HZ);
        assert_int_equal(source->info.channels, 2);
        assert_int_equal(source->info.chunk_samples, 1152);
        assert_int_equal(source->info.length_samples, SAMPLES);
        assert_false(source->info.is_live);
        for (int round = 0; round < 2; round++) {
            memset(heard, 0, sizeof heard);
            assert_int_equal(read_all(source, heard, SAMPLES * 4, &end), SAMPLES * 2);
            assert_int_equal(end, 0);
            assert_memory_equal(heard, programme, sizeof programme);
            assert_int_equal(tower_source_rewind(source), 0);
        }
        /* And from the middle. */
        size_t bytes;
        assert_int_equal(tower_source_read(source, heard, &bytes), 1);
        assert_int_equal(tower_source_rewind(source), 0);
        assert_int_equal(tower_source_read(source, heard, &bytes), 1);
        assert_memory_equal(heard, programme, bytes);
        tower_source_close(source);
    }
}

/* A quiet float file stays quiet; what is over full scale is clipped and does not wrap. */
static void test_float_keeps_its_level_and_is_clipped(void **state) {
    (void)state;
    static const float floats[] = {0.0F,  0.5F,  -0.5F,  0.01F,    1.0F,     -1.0F,
                                   1.25F, -3.0F, 100.0F, -1000.0F, 1e30F,    -1e30F,
                                   NAN,   0.1F,  -0.1F,  INFINITY, -INFINITY};
    static const int16_t expected[] = {0,     16384,  -16384, 328,    32767, -32768,
                                       32767, -32768, 32767,  -32768, 32767, -32768,
                                       0,     3277,   -3277,  32767,  -32768};
    enum { N = sizeof floats / sizeof *floats };
    int16_t values[N];
    int end;
    write_floats(in_folder("f.wav"), SF_FORMAT_WAV | SF_FORMAT_FLOAT, floats, N);
    struct tower_source *source = open_plain(in_folder("f.wav"));
    assert_int_equal(read_all(source, values, N, &end), N);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(values[i], expected[i]);
    tower_source_close(source);

    static float quiet[4800];
    for (size_t i = 0; i < 4800; i++)
        quiet[i] = 0.001F * (float)sin(2 * M_PI * TONE_HZ / 48000 * (double)i);
    write_floats(in_folder("q.wav"), SF_FORMAT_WAV | SF_FORMAT_FLOAT, quiet, 4800);
    source = open_plain(in_folder("q.wav"));
    static int16_t soft[4800];
    assert_int_equal(read_all(source, soft, 4800, &end), 4800);
    for (size_t i = 0; i < 4800; i++)
        assert_in_range(soft[i] + 100, 100 - 33, 100 + 33);
    tower_source_close(source);
}

/* A full-scale square wave in Vorbis decodes to more than full scale. */
static void test_lossy_overshoot_does_not_wrap(void **state) {
    (void)state;
    static float square[48000];
    for (size_t i = 0; i < 48000; i++)
        square[i] = i % 200 < 100 ? 0.999F : -0.999F;
    write_floats(in_folder("s.ogg"), SF_FORMAT_OGG | SF_FORMAT_VORBIS, square, 48000);
    struct tower_source *source = open_plain(in_folder("s.ogg"));
    static int16_t values[48000];
    int end, clipped = 0, wrapped = 0;
    assert_int_equal(read_all(source, values, 48000, &end), 48000);
    for (size_t i = 2000; i < 46000; i++) {
        bool is_middle = i % 100 > 20 && i % 100 < 80;
        clipped += values[i] == 32767 || values[i] == -32768;
        wrapped += is_middle && (values[i] > 0) != (square[i] > 0);
    }
    assert_true(clipped > 0); /* or this test would show nothing */
    assert_int_equal(wrapped, 0);
    tower_source_close(source);
}

/* Amplitude of TONE_HZ in the left channel. */
static double tone_amplitude(const int16_t *stereo, size_t n_samples, double rate_hz) {
    double sine = 0, cosine = 0;
    for (size_t i = 0; i < n_samples; i++) {
        double angle = 2 * M_PI * TONE_HZ / rate_hz * (double)i;
        sine += stereo[i * 2] * sin(angle) * 2 / (double)n_samples;
        cosine += stereo[i * 2] * cos(angle) * 2 / (double)n_samples;
    }
    return sqrt(sine * sine + cosine * cosine);
}

/* An MP3 file with its length in it is read to the sample, without what the encoder added. */
static void test_mp3_with_a_length_is_gapless(void **state) {
    (void)state;
    int end;
    write_programme(in_folder("a.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    run_ffmpeg("-i", in_folder("a.wav"), "-b:a", "192k", in_folder("a.mp3"), NULL);
    struct tower_source *source = open_plain(in_folder("a.mp3"));
    assert_int_equal(source->info.rate_hz, RATE_HZ);
    assert_int_equal(source->info.length_samples, SAMPLES);
    assert_int_equal(read_all(source, heard, SAMPLES * 4, &end), SAMPLES * 2);
    assert_int_equal(end, 0);
    double error = 0;
    for (size_t i = 0; i < SAMPLES * 2; i++)
        error += pow(heard[i] - programme[i], 2) / (SAMPLES * 2);
    assert_true(sqrt(error) < 300); /* in its place: a sample off would be 1200 */
    tower_source_close(source);
}

/* One of varying bitrate that does not say how long it is comes whole all the same. */
static void test_mp3_without_a_length_is_not_cut(void **state) {
    (void)state;
    enum { LENGTH_S = 6 };
    int end;
    /* Noise behind a second of silence: the first frames say nothing of those that follow. */
    run_ffmpeg("-f", "lavfi", "-i", "aevalsrc=0.001*sin(2*PI*440*t):d=5:s=44100", "-f", "lavfi",
               "-i", "anoisesrc=d=1:r=44100:a=0.5", "-filter_complex", "[1][0]concat=v=0:a=1",
               "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0", in_folder("v.mp3"), NULL);
    struct tower_source *source = open_plain(in_folder("v.mp3"));
    size_t n = read_all(source, heard, 0, &end);
    assert_int_equal(end, 0);
    double length_s = (double)n / source->info.channels / source->info.rate_hz;
    assert_true(length_s > LENGTH_S - 0.1 && length_s < LENGTH_S + 0.2);
    tower_source_close(source);

    /* Where there is no ffmpeg, rather a guessed length than nothing. */
    source = open_with(
        &(struct tower_file_config){.path = in_folder("v.mp3"), .ffmpeg = "/nonexistent/ffmpeg"});
    assert_true(read_all(source, heard, 0, &end) > 0);
    tower_source_close(source);
}

static void test_what_only_ffmpeg_reads(void **state) {
    (void)state;
    int end;
    write_programme(in_folder("a.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    /* A name that is no option, no protocol and no pattern, whatever it looks like. */
    char *path = in_folder("-f%d: odd.m4a");
    char as_url[160];
    (void)snprintf(as_url, sizeof as_url, "file:%s", path);
    run_ffmpeg("-i", in_folder("a.wav"), "-c:a", "aac", "-b:a", "192k", as_url, NULL);
    path = in_folder("-f%d: odd.m4a");
    struct tower_source *source = open_plain(path);
    assert_int_equal(source->info.rate_hz, 48000);
    assert_int_equal(source->info.channels, 2);
    assert_int_equal(source->info.length_samples, -1);
    for (int round = 0; round < 2; round++) {
        size_t n = read_all(source, heard, SAMPLES * 4, &end) / 2;
        assert_int_equal(end, 0);
        double length_s = (double)n / 48000;
        assert_true(fabs(length_s - (double)SAMPLES / RATE_HZ) < 0.1);
        assert_true(fabs(tone_amplitude(heard + 2 * 4800, 48000, 48000) - 12000) < 240);
        assert_int_equal(tower_source_rewind(source), 0);
    }
    tower_source_close(source);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

/* More channels than we take are mixed down by ffmpeg. */
static void test_ten_channels_come_as_two(void **state) {
    (void)state;
    static float ten[10 * 4800];
    int end;
    for (size_t i = 0; i < 10 * 4800; i++)
        ten[i] = 0.1F;
    SF_INFO info = {
        .samplerate = 48000, .channels = 10, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    SNDFILE *file = sf_open(in_folder("ten.wav"), SFM_WRITE, &info);
    assert_non_null(file);
    assert_int_equal(sf_writef_float(file, ten, 4800), 4800);
    assert_int_equal(sf_close(file), 0);
    struct tower_source *source;
    char error[512] = "";
    int result = tower_source_open_file(tower_clock_real(),
                                        &(struct tower_file_config){.path = in_folder("ten.wav")},
                                        &source, error, sizeof error);
    if (result == 0) {
        assert_int_equal(source->info.channels, 2);
        assert_int_equal(read_all(source, heard, 0, &end), 4800 * 2);
        tower_source_close(source);
    } else {
        /* An ffmpeg that knows no layout for them says so; it does not come as garbage. */
        assert_int_equal(result, -EILSEQ);
        assert_non_null(strstr(error, "10 channels"));
    }
}

static void expect_refusal(const char *path, const char *ffmpeg, int expected, const char *word) {
    struct tower_source *untouched = (struct tower_source *)&untouched;
    struct tower_source *source = untouched;
    char error[512] = "";
    const struct tower_file_config config = {.path = path, .ffmpeg = ffmpeg};
    assert_int_equal(
        tower_source_open_file(tower_clock_real(), &config, &source, error, sizeof error),
        expected);
    assert_ptr_equal(source, untouched);
    assert_null(strchr(error, '\n'));
    if (!strstr(error, word))
        fail_msg("'%s' is not in: %s", word, error);
    assert_int_equal(tower_source_open_file(tower_clock_real(), &config, &source, NULL, 0),
                     expected);
}

static void test_refusals_say_why(void **state) {
    (void)state;
    write_text(in_folder("text.xyz"), "This is not music.\n");
    expect_refusal(in_folder("nowhere.wav"), NULL, -ENOENT, "no such file");
    expect_refusal(folder, NULL, -EISDIR, "folder");
    expect_refusal(in_folder("text.xyz"), NULL, -EILSEQ, "Invalid data found");
    expect_refusal(in_folder("text.xyz"), "/nonexistent/ffmpeg", -EILSEQ, "/nonexistent/ffmpeg");
    if (geteuid() != 0) {
        assert_int_equal(chmod(in_folder("text.xyz"), 0), 0);
        expect_refusal(in_folder("text.xyz"), NULL, -EACCES, "permissions");
    }
    struct tower_source *source;
    const struct tower_file_config config = {.path = in_folder("text.xyz"),
                                             .chunk_samples = 1048577};
    assert_int_equal(tower_source_open_file(tower_clock_real(), &config, &source, NULL, 0),
                     -EINVAL);
    /* What a decoder says goes to a terminal: no escape sequences. */
    write_text(in_folder("decoder"), "#!/bin/sh\nprintf 'a\\033[2Jb\\n' >&2\nexit 1\n");
    expect_refusal(in_folder("text.xyz"), in_folder("decoder"), -EILSEQ, "a?[2Jb");
    /* One that says very much, without an end to the line. */
    write_text(in_folder("decoder"), "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' y >&2\n");
    expect_refusal(in_folder("text.xyz"), in_folder("decoder"), -EILSEQ, "yyyyyyyy");
    /* One that ends well, with nothing. */
    write_text(in_folder("decoder"), "#!/bin/sh\nexit 0\n");
    expect_refusal(in_folder("text.xyz"), in_folder("decoder"), -EILSEQ, "no audio");
}

/* Damage in the middle: what came before is heard, then -EIO, with words; never a crash. */
static void test_damage_is_an_error_and_not_a_crash(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int format;
    } kinds[] = {
        {"d.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
        {"d.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
        {"d.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
        {"d.mp3", 0},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = in_folder(kinds[i].name);
        if (kinds[i].format) {
            write_programme(path, kinds[i].format);
        } else {
            write_programme(in_folder("a.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16);
            run_ffmpeg("-i", in_folder("a.wav"), path, NULL);
        }
        struct stat status;
        assert_int_equal(stat(path, &status), 0);
        for (int is_cut = 0; is_cut <= 1; is_cut++) {
            static uint8_t garbage[3000];
            int end;
            memset(garbage, 0x55, sizeof garbage);
            if (is_cut) {
                assert_int_equal(truncate(path, status.st_size * 2 / 3), 0);
            } else {
                int fd = open(path, O_WRONLY | O_CLOEXEC);
                assert_int_equal(pwrite(fd, garbage, sizeof garbage, status.st_size / 2),
                                 sizeof garbage);
                close(fd);
            }
            struct tower_source *source = open_plain(path);
            size_t n = read_all(source, heard, 0, &end);
            assert_in_range(n, 1, SAMPLES * 2 + 4000);
            assert_true(end == 0 || end == -EIO);
            assert_int_equal(*source->error != '\0', end == -EIO);
            if (strcmp(kinds[i].name, "d.flac") == 0)
                assert_int_equal(end, -EIO); /* it has checksums and can tell */
            size_t bytes;
            assert_int_equal(tower_source_read(source, heard, &bytes), end); /* and stays so */
            tower_source_close(source);
        }
    }
}

/* A decoder that dies in the middle, by itself or by a signal. */
static void test_decoder_that_dies_is_an_error(void **state) {
    (void)state;
    static const char *const ends[] = {"exit 3", "kill -9 $$"};
    write_text(in_folder("odd"), "not audio\n");
    for (size_t i = 0; i < 2; i++) {
        char script[160];
        int end;
        (void)snprintf(script, sizeof script,
                       "#!/bin/sh\nhead -c 20001 /dev/zero\necho 'the tape is torn' >&2\n%s\n",
                       ends[i]);
        write_text(in_folder("decoder"), script);
        struct tower_source *source = open_with(
            &(struct tower_file_config){.path = in_folder("odd"), .ffmpeg = in_folder("decoder")});
        /* All whole samples it gave, and then the error. */
        assert_int_equal(read_all(source, heard, 0, &end), 20000 / 2);
        assert_int_equal(end, -EIO);
        assert_non_null(strstr(source->error, "the tape is torn"));
        tower_source_close(source);
    }
}

/* Signals in any number cost no sample, decoded here or by the child. */
static void test_signals_lose_nothing(void **state) {
    (void)state;
    assert_int_equal(catch_pokes(), 0);
    write_programme(in_folder("a.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    write_text(in_folder("odd"), "not audio\n");
    write_text(in_folder("decoder"),
               "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10\ndo\nhead -c 10007 \"${6#file:}.pcm\"\n"
               "sleep 0.02\ndone\n");
    int pcm = open(in_folder("odd.pcm"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(pcm, programme, 10007), 10007);
    close(pcm);
    for (int kind = 0; kind < 2; kind++) {
        struct tower_source *source = open_with(&(struct tower_file_config){
            .path = in_folder(kind ? "odd" : "a.wav"), .ffmpeg = in_folder("decoder")});
        struct poker poker = {.target = pthread_self()};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_poker, &poker), 0);
        size_t filled = 0, bytes;
        int interrupted = 0, got;
        while ((got = tower_source_read(source, (uint8_t *)heard + filled, &bytes)) != 0) {
            assert_true(got == 1 || got == -EINTR);
            interrupted += got == -EINTR;
            filled += got == 1 ? bytes : 0;
        }
        poker.is_enough = true;
        pthread_join(thread, NULL);
        tower_source_close(source);
        if (kind == 0) {
            assert_int_equal(filled, sizeof programme);
            assert_memory_equal(heard, programme, sizeof programme);
        } else {
            assert_true(interrupted > 0);
            assert_int_equal(filled, 10007 * 10 / 4 * 4);
            for (size_t i = 0; i < filled; i++)
                assert_int_equal(((uint8_t *)heard)[i], ((uint8_t *)programme)[i % 10007]);
        }
    }
}

/* A paced file on a virtual clock: to the nanosecond, and on over its end when it begins again. */
static void test_paced_loop_keeps_one_schedule(void **state) {
    (void)state;
    struct tower_clock *clock;
    struct tower_source *source;
    assert_int_equal(tower_clock_virtual_new(7, &clock), 0);
    tower_clock_virtual_set_auto(clock, true);
    write_programme(in_folder("a.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    const struct tower_file_config config = {
        .path = in_folder("a.wav"), .is_paced = true, .chunk_samples = 1000};
    assert_int_equal(tower_source_open_file(clock, &config, &source, NULL, 0), 0);
    tower_clock_virtual_advance(clock, 12345); /* the schedule begins with the first read */
    int64_t done = 0;
    for (int round = 0; round < 3; round++) {
        size_t bytes;
        int16_t chunk[1000 * 2];
        while (tower_source_read(source, chunk, &bytes) == 1) {
            done += (int64_t)bytes / 4;
            assert_int_equal(tower_clock_now_ns(clock),
                             7 + 12345 + tower_samples_to_ns(done, RATE_HZ));
        }
        assert_int_equal(tower_source_rewind(source), 0);
    }
    assert_int_equal(done, 3 * SAMPLES);
    tower_source_close(source);
    tower_clock_free(clock);
}

/* Open and close descriptors, and see that nobody else closes them. */
static void *hold_descriptors(void *arg) {
    _Atomic bool *is_over = arg;
    bool is_good = true;
    while (!atomic_load(is_over)) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        for (int i = 0; i < 20 && fd >= 0; i++)
            is_good = fcntl(fd, F_GETFD) >= 0 && is_good;
        is_good = (fd < 0 || close(fd) == 0) && is_good;
    }
    return is_good ? arg : NULL;
}

static void test_nobody_elses_descriptor_is_closed(void **state) {
    (void)state;
    char *path = in_folder("no.audio"), text[200];
    _Atomic bool is_over = false;
    pthread_t thread;
    void *good = NULL;
    write_text(path, "this is no audio");
    assert_int_equal(pthread_create(&thread, NULL, hold_descriptors, (void *)&is_over), 0);
    for (int i = 0; i < 100; i++) {
        struct tower_source *source;
        const struct tower_file_config config = {.path = path, .ffmpeg = "/nonexistent/ffmpeg"};
        assert_true(
            tower_source_open_file(tower_clock_real(), &config, &source, text, sizeof text) < 0);
    }
    atomic_store(&is_over, true);
    assert_int_equal(pthread_join(thread, &good), 0);
    assert_non_null(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integer_formats_come_bit_for_bit_and_again),
        cmocka_unit_test(test_float_keeps_its_level_and_is_clipped),
        cmocka_unit_test(test_lossy_overshoot_does_not_wrap),
        cmocka_unit_test(test_mp3_with_a_length_is_gapless),
        cmocka_unit_test(test_mp3_without_a_length_is_not_cut),
        cmocka_unit_test(test_what_only_ffmpeg_reads),
        cmocka_unit_test(test_ten_channels_come_as_two),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_nobody_elses_descriptor_is_closed),
        cmocka_unit_test(test_damage_is_an_error_and_not_a_crash),
        cmocka_unit_test(test_decoder_that_dies_is_an_error),
        cmocka_unit_test(test_signals_lose_nothing),
        cmocka_unit_test(test_paced_loop_keeps_one_schedule),
    };
    alarm(PATIENCE_S);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
