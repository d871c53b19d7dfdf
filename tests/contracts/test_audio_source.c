/* AUDIO_SOURCE, S1 to S9 (numbered in the contracts' README): each id has its test by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bounded_wait.h"
#include "descriptors.h"
#include "tower/source.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define MS INT64_C(1000000)
#define CHUNK_BYTES_MAX (1u << 16)

static struct tower_clock *auto_clock(void) {
    struct tower_clock *clock;
    assert_int_equal(tower_clock_virtual_new(0, &clock), 0);
    tower_clock_virtual_set_auto(clock, true);
    return clock;
}

static struct tower_source *open_mock(struct tower_clock *clock,
                                      const struct tower_mock_config *config) {
    struct tower_source *source;
    assert_int_equal(tower_source_open_mock(clock, config, &source), 0);
    return source;
}

/* Sample `i` of the audio that the files and pipes here carry. */
static int16_t programme(size_t i) {
    return (int16_t)((int)((i * 37 + i / 500) % 20001) - 10000);
}

static void put_u32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* Write a WAV file of `n_values` interleaved s16le values of programme(). */
static void write_wav(const char *path, uint32_t rate_hz, uint32_t channels, size_t n_values) {
    uint8_t header[44] = "RIFF....WAVEfmt ";
    uint32_t data_bytes = (uint32_t)(n_values * 2);
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    put_u32(header + 4, 36 + data_bytes);
    put_u32(header + 16, 16);
    put_u32(header + 20, 1 | channels << 16);
    put_u32(header + 24, rate_hz);
    put_u32(header + 28, rate_hz * channels * 2);
    put_u32(header + 32, channels * 2 | 16u << 16);
    memcpy(header + 36, "data", 4);
    put_u32(header + 40, data_bytes);
    assert_int_equal(fwrite(header, sizeof(header), 1, file), 1);
    for (size_t i = 0; i < n_values; i++) {
        int16_t value = programme(i);
        assert_int_equal(fwrite(&value, 2, 1, file), 1);
    }
    assert_int_equal(fclose(file), 0);
}

/* A pipe that holds `n_values` values of programme() and is closed behind them. */
static int filled_pipe(size_t n_values) {
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (size_t i = 0; i < n_values; i++) {
        int16_t value = programme(i);
        assert_int_equal(write(ends[1], &value, 2), 2);
    }
    close(ends[1]);
    return ends[0];
}

static void write_program(const char *path, const char *script) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(script, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static struct tower_source *open_file(struct tower_clock *clock, const char *path, bool is_paced,
                                      size_t chunk_samples) {
    struct tower_file_config config = {
        .path = path, .is_paced = is_paced, .chunk_samples = chunk_samples};
    struct tower_source *source;
    char error[256] = "";
    int result = tower_source_open_file(clock, &config, &source, error, sizeof(error));

    if (result != 0) {
        fail_msg("%s: %d (%s)", path, result, error);
    }
    return source;
}

/* A kind of source that the library has never heard of. */
struct counting_source {
    struct tower_source base;
    int16_t next;
    int reads_left;
    int *ret_closed;
};

static int counting_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct counting_source *counting = (struct counting_source *)source;
    int16_t *values = ret_chunk;

    if (counting->reads_left == 0) {
        return 0;
    }
    counting->reads_left--;
    *ret_bytes = tower_source_chunk_bytes(source);
    for (size_t i = 0; i < *ret_bytes / 2; i++) {
        values[i] = counting->next++;
    }
    return 1;
}

static void counting_close(struct tower_source *source) {
    struct counting_source *counting = (struct counting_source *)source;
    (*counting->ret_closed)++;
    free(counting);
}

static struct tower_source *open_counting(int n_chunks, size_t chunk_samples, int *ret_closed) {
    static const struct tower_source_ops ops = {.read = counting_read, .close = counting_close};
    struct counting_source *counting = calloc(1, sizeof(*counting));

    assert_non_null(counting);
    counting->base.ops = &ops;
    counting->base.info = (struct tower_source_info){
        .rate_hz = 48000, .channels = 2, .chunk_samples = chunk_samples, .length_samples = -1};
    counting->reads_left = n_chunks;
    counting->ret_closed = ret_closed;
    return &counting->base;
}

/* A reader of sources, the same for every kind: it knows the interface and nothing else. Reads up
 * to `max_chunks`, returns the bytes it got, and what ended it in `ret_end`. */
static size_t consume(struct tower_source *source, int max_chunks, int *ret_end) {
    static uint8_t chunk[CHUNK_BYTES_MAX];
    size_t whole_bytes = tower_source_chunk_bytes(source);
    size_t sum_bytes = 0;
    bool is_last = false;
    int result = 1;

    assert_true(source->info.rate_hz > 0 && source->info.channels > 0);
    assert_int_equal(whole_bytes, source->info.chunk_samples * source->info.channels * 2);
    assert_in_range(whole_bytes, 2, CHUNK_BYTES_MAX);
    for (int i = 0; i < max_chunks && result == 1; i++) {
        size_t bytes = 0;
        result = tower_source_read(source, chunk, &bytes);
        if (result == 1) {
            assert_false(is_last); /* only the last chunk may be a short one */
            assert_in_range(bytes, 1, whole_bytes);
            assert_int_equal(bytes % (source->info.channels * 2), 0);
            is_last = bytes < whole_bytes;
            sum_bytes += bytes;
        }
    }
    *ret_end = result;
    return sum_bytes;
}

/* S1: one interface: one and the same reader takes a mock, a file, a pipe, and a kind that it was
 * not written for, and gets all that there is of each. */
static void test_s1_one_interface_for_every_source(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_raw_config raw = {.rate_hz = 8000, .channels = 1, .chunk_samples = 160};
    struct test_folder folder;
    struct tower_source *source;
    char path[128];
    int closed = 0;
    int end;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "a.wav", path, sizeof(path));
    write_wav(path, 44100, 2, 2 * 5000);

    source = open_mock(clock, &(struct tower_mock_config){.channels = 2, .chunk_samples = 500});
    assert_int_equal(consume(source, 7, &end), 7 * 500 * 2 * 2);
    assert_int_equal(end, 1);
    tower_source_close(source);

    source = open_file(clock, path, false, 1152);
    assert_int_equal(source->info.rate_hz, 44100);
    assert_int_equal(source->info.channels, 2);
    assert_int_equal(source->info.length_samples, 5000);
    assert_int_equal(consume(source, 1000, &end), 5000 * 2 * 2);
    assert_int_equal(end, 0);
    assert_int_equal(tower_source_rewind(source), 0);
    assert_int_equal(consume(source, 1000, &end), 5000 * 2 * 2);
    tower_source_close(source);

    raw.fd = filled_pipe(1000);
    assert_int_equal(tower_source_open_raw(&raw, &source), 0);
    assert_int_equal(consume(source, 1000, &end), 1000 * 2);
    assert_int_equal(end, 0);
    assert_int_equal(tower_source_rewind(source), -ENOTSUP);
    tower_source_close(source);
    close(raw.fd);

    source = open_counting(9, 100, &closed);
    assert_int_equal(consume(source, 1000, &end), 9 * 100 * 2 * 2);
    assert_int_equal(end, 0);
    assert_int_equal(tower_source_rewind(source), -ENOTSUP);
    tower_source_close(source);
    assert_int_equal(closed, 1);

    test_folder_remove(&folder);
    tower_clock_free(clock);
}

/* S2: closing releases everything, half-way through a stream, before its first chunk, and at its
 * end: no descriptor and no child is left. The caller's own descriptor stays open. */
static void test_s2_close_in_mid_stream_releases_everything(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_raw_config raw = {.rate_hz = 48000, .channels = 2};
    struct test_folder folder;
    struct tower_source *source;
    char path[128], odd_path[128], program[128];
    int before, end;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "a.wav", path, sizeof(path));
    write_wav(path, 48000, 2, 2 * 20000);
    test_folder_file(&folder, "odd", odd_path, sizeof(odd_path));
    write_program(odd_path, "this is no audio file\n");
    test_folder_file(&folder, "decoder", program, sizeof(program));
    write_program(program, "#!/bin/sh\nexec cat /dev/zero\n");
    raw.fd = filled_pipe(4000);
    before = count_descriptors();
    assert_true(before > 0);

    for (int chunks = 0; chunks < 4; chunks++) {
        source = open_mock(clock, &(struct tower_mock_config){.content = TOWER_MOCK_NOISE});
        consume(source, chunks, &end);
        tower_source_close(source);
        source = open_file(clock, path, chunks % 2 == 0, 1000);
        assert_int_equal(consume(source, chunks, &end), chunks * 4000);
        assert_true(count_descriptors() > before);
        tower_source_close(source);
        assert_int_equal(tower_source_open_raw(&raw, &source), 0);
        consume(source, chunks / 2, &end);
        tower_source_close(source);
        assert_int_equal(count_descriptors(), before);
        assert_true(fcntl(raw.fd, F_GETFD) >= 0);

        /* a decoder that would go on for ever */
        struct tower_file_config config = {.path = odd_path, .ffmpeg = program};
        assert_int_equal(tower_source_open_file(clock, &config, &source, NULL, 0), 0);
        assert_int_equal(consume(source, chunks, &end), (size_t)chunks * 1152 * 4);
        assert_false(has_no_child());
        tower_source_close(source);
        assert_int_equal(count_descriptors(), before);
        assert_true(has_no_child());
    }
    source = open_file(clock, path, false, 0);
    assert_int_equal(consume(source, 1000, &end), 20000 * 4);
    tower_source_close(source);
    tower_source_close(NULL);
    assert_int_equal(count_descriptors(), before);
    close(raw.fd);
    test_folder_remove(&folder);
    tower_clock_free(clock);
}

/* S2: after an error too: a decoder that dies in mid-stream, a descriptor that fails, and a file
 * that cannot be opened, leave nothing behind. */
static void test_s2_close_after_an_error_releases_everything(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_raw_config raw = {.rate_hz = 48000, .channels = 2};
    struct tower_source *untouched = (struct tower_source *)&raw;
    struct tower_source *source = untouched;
    struct tower_file_config config = {0};
    struct test_folder folder;
    char odd_path[128], program[128], missing[128];
    char error[256] = "";
    int before, end;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "odd", odd_path, sizeof(odd_path));
    write_program(odd_path, "this is no audio file\n");
    test_folder_file(&folder, "decoder", program, sizeof(program));
    test_folder_file(&folder, "missing", missing, sizeof(missing));
    before = count_descriptors();

    config.path = missing;
    assert_int_equal(tower_source_open_file(clock, &config, &source, error, sizeof(error)),
                     -ENOENT);
    assert_true(error[0] != '\0');
    config.path = folder.path;
    assert_int_equal(tower_source_open_file(clock, &config, &source, NULL, 0), -EISDIR);
    config.path = odd_path;
    config.ffmpeg = program;
    write_program(program, "#!/bin/sh\necho 'no idea what this is' >&2\nexit 1\n");
    error[0] = '\0';
    assert_int_equal(tower_source_open_file(clock, &config, &source, error, sizeof(error)),
                     -EILSEQ);
    assert_true(error[0] != '\0');
    assert_ptr_equal(source, untouched);
    assert_int_equal(count_descriptors(), before);
    assert_true(has_no_child());

    write_program(program, "#!/bin/sh\nhead -c 20000 /dev/zero\necho broken >&2\nexit 1\n");
    assert_int_equal(tower_source_open_file(clock, &config, &source, NULL, 0), 0);
    consume(source, 1000, &end);
    assert_int_equal(end, -EIO);
    tower_source_close(source);
    assert_int_equal(count_descriptors(), before);
    assert_true(has_no_child());

    raw.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(raw.fd >= 0);
    assert_int_equal(tower_source_open_raw(&raw, &source), 0);
    consume(source, 10, &end);
    assert_int_equal(end, -EIO);
    tower_source_close(source);
    assert_int_equal(close(raw.fd), 0);
    assert_int_equal(count_descriptors(), before);
    test_folder_remove(&folder);
    tower_clock_free(clock);
}

/* One read of one chunk in a thread of its own. */
struct chunk_reader {
    struct tower_source *source;
    struct tower_clock *clock;
    pthread_t thread;
    /* owned by the thread until it is joined */
    uint8_t chunk[CHUNK_BYTES_MAX];
    size_t bytes;
    int result;
    int64_t returned_ns;
    /* atomic, written by the thread */
    atomic_bool is_back;
};

static void *chunk_reader_run(void *arg) {
    struct chunk_reader *reader = arg;

    reader->result = tower_source_read(reader->source, reader->chunk, &reader->bytes);
    reader->returned_ns = tower_clock_now_ns(reader->clock);
    atomic_store(&reader->is_back, true);
    return NULL;
}

static void chunk_reader_start(struct chunk_reader *reader, struct tower_source *source,
                               struct tower_clock *clock) {
    memset(reader, 0, sizeof(*reader));
    reader->source = source;
    reader->clock = clock;
    assert_int_equal(pthread_create(&reader->thread, NULL, chunk_reader_run, reader), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock, 1), 0);
}

static void chunk_reader_join(struct chunk_reader *reader) {
    ASSERT_SOON(atomic_load(&reader->is_back));
    pthread_join(reader->thread, NULL);
}

/* S3: a chunk of a live source comes when it is due, not a nanosecond sooner; a wait that is
 * interrupted loses nothing. */
static void test_s3_live_chunk_comes_when_it_is_due(void **state) {
    static struct chunk_reader reader;
    struct tower_clock *clock;
    struct tower_source *source;
    (void)state;

    assert_int_equal(tower_clock_virtual_new(33, &clock), 0);
    source = open_mock(clock, &(struct tower_mock_config){.chunk_samples = 1600});
    assert_true(source->info.is_live);
    assert_int_equal(source->info.length_samples, -1);
    for (int k = 1; k <= 3; k++) {
        chunk_reader_start(&reader, source, clock);
        tower_clock_virtual_advance(clock, 100 * MS - 1);
        assert_int_equal(tower_clock_virtual_await_sleepers(clock, 1), 0);
        assert_false(atomic_load(&reader.is_back));
        tower_clock_virtual_advance(clock, 1);
        chunk_reader_join(&reader);
        assert_int_equal(reader.result, 1);
        assert_int_equal(reader.bytes, 3200);
        assert_int_equal(reader.returned_ns, 33 + k * 100 * MS);
    }

    chunk_reader_start(&reader, source, clock);
    tower_clock_virtual_advance(clock, 40 * MS);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock, 1), 0);
    tower_clock_wake(clock);
    chunk_reader_join(&reader);
    assert_int_equal(reader.result, -EINTR);
    chunk_reader_start(&reader, source, clock);
    tower_clock_virtual_advance(clock, 60 * MS);
    chunk_reader_join(&reader);
    assert_int_equal(reader.result, 1);
    assert_int_equal(reader.returned_ns, 33 + 400 * MS);
    tower_source_close(source);
    tower_clock_free(clock);
}

static void assert_programme(struct tower_source *source, size_t n_values) {
    static int16_t chunk[CHUNK_BYTES_MAX / 2];
    size_t n = 0;
    size_t bytes = 0;

    while (tower_source_read(source, chunk, &bytes) == 1) {
        for (size_t i = 0; i < bytes / 2; i++) {
            assert_int_equal(chunk[i], programme(n));
            n++;
        }
    }
    assert_int_equal(n, n_values);
}

/* S3: a file comes as its opener asks: unpaced without any wait, paced chunk by chunk in real time;
 * the same samples either way, all of them and in order. A pipe comes as it arrives. */
static void test_s3_file_paced_or_as_fast_as_it_is_read(void **state) {
    enum { SAMPLES = 10000, CHUNK = 441, RATE = 44100 };
    struct tower_clock *clock = auto_clock();
    struct tower_raw_config raw = {.rate_hz = RATE, .channels = 2, .chunk_samples = CHUNK};
    struct test_folder folder;
    struct tower_source *source;
    char path[128];
    int end;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "a.wav", path, sizeof(path));
    write_wav(path, RATE, 2, 2 * SAMPLES);

    source = open_file(clock, path, false, CHUNK);
    assert_false(source->info.is_live);
    assert_programme(source, 2 * SAMPLES);
    assert_int_equal(tower_source_rewind(source), 0);
    assert_programme(source, 2 * SAMPLES);
    tower_source_close(source);
    assert_int_equal(tower_clock_now_ns(clock), 0);

    raw.fd = filled_pipe(2 * SAMPLES);
    assert_int_equal(tower_source_open_raw(&raw, &source), 0);
    assert_programme(source, 2 * SAMPLES);
    tower_source_close(source);
    close(raw.fd);
    assert_int_equal(tower_clock_now_ns(clock), 0);

    source = open_file(clock, path, true, CHUNK);
    for (int k = 1; k <= SAMPLES / CHUNK; k++) {
        assert_int_equal(consume(source, 1, &end), CHUNK * 4);
        assert_int_equal(tower_clock_now_ns(clock), k * 10 * MS);
    }
    assert_int_equal(consume(source, 2, &end), SAMPLES % CHUNK * 4);
    assert_int_equal(end, 0);
    tower_source_close(source);
    source = open_file(clock, path, true, 0);
    assert_programme(source, 2 * SAMPLES);
    tower_source_close(source);
    test_folder_remove(&folder);
    tower_clock_free(clock);
}

/* S4: rate and chunk size are the caller's: 16000 Hz and 1024 samples if not said, any positive
 * chunk size otherwise; what cannot be is refused. */
static void test_s4_mock_takes_rate_and_chunk_size(void **state) {
    static const size_t sizes[] = {1, 7, 1023, 1024, 4096};
    static const uint32_t rates[] = {1000, 16000, 44100, 384000};
    static const struct tower_mock_config wrong[] = {
        {.rate_hz = 999},
        {.rate_hz = 384001},
        {.chunk_samples = 1048577},
        {.channels = 9},
        {.content = TOWER_MOCK_TONE, .tone_hz = 8000},
        {.content = TOWER_MOCK_TONE, .tone_hz = -1},
        {.content = TOWER_MOCK_TONE, .tone_hz = (double)NAN},
    };
    struct tower_clock *clock = auto_clock();
    struct tower_source *untouched = (struct tower_source *)&sizes;
    struct tower_source *source;
    int64_t start_ns;
    int end;
    (void)state;

    source = open_mock(clock, &(struct tower_mock_config){0});
    assert_int_equal(source->info.rate_hz, 16000);
    assert_int_equal(source->info.chunk_samples, 1024);
    assert_int_equal(source->info.channels, 1);
    assert_int_equal(consume(source, 1, &end), 2048);
    assert_int_equal(tower_clock_now_ns(clock), 64 * MS);
    tower_source_close(source);

    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            source = open_mock(
                clock, &(struct tower_mock_config){.rate_hz = rates[r], .chunk_samples = sizes[s]});
            assert_int_equal(source->info.rate_hz, rates[r]);
            assert_int_equal(source->info.chunk_samples, sizes[s]);
            start_ns = tower_clock_now_ns(clock);
            assert_int_equal(consume(source, 5, &end), 5 * sizes[s] * 2);
            assert_int_equal(tower_clock_now_ns(clock) - start_ns,
                             tower_samples_to_ns(5 * (int64_t)sizes[s], rates[r]));
            tower_source_close(source);
        }
    }
    source = untouched;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(tower_source_open_mock(clock, &wrong[i], &source), -EINVAL);
    }
    assert_ptr_equal(source, untouched);
    tower_clock_free(clock);
}

#define LISTEN_SAMPLES 16000

/* A second of the mock's sound, mono, in chunks of 500 samples. */
static void listen_to(struct tower_clock *clock, enum tower_mock_content content, uint32_t seed,
                      int16_t *ret_values) {
    struct tower_source *source = open_mock(
        clock, &(struct tower_mock_config){.content = content, .chunk_samples = 500, .seed = seed});
    size_t bytes;

    for (size_t i = 0; i < LISTEN_SAMPLES; i += 500) {
        assert_int_equal(tower_source_read(source, ret_values + i, &bytes), 1);
        assert_int_equal(bytes, 1000);
    }
    tower_source_close(source);
}

/* Correlation of `values` with itself `lag` samples on, -1 to 1. */
static double self_likeness(const int16_t *values, size_t lag) {
    double power = 0, product = 0;
    for (size_t i = 0; i + lag < LISTEN_SAMPLES; i++) {
        power += (double)values[i] * values[i];
        product += (double)values[i] * values[i + lag];
    }
    return product / power;
}

/* S5: silence is zeros and nothing else; noise is random: no two stretches of it alike, no mean, no
 * colour, repeatable by its seed. */
static void test_s5_mock_yields_silence_or_noise(void **state) {
    static const size_t lags[] = {1, 2, 3, 10, 250, 500, 1000, 4000};
    static int16_t noise[LISTEN_SAMPLES], again[LISTEN_SAMPLES], other[LISTEN_SAMPLES];
    struct tower_clock *clock = auto_clock();
    double mean = 0, power = 0;
    (void)state;

    memset(noise, 0x55, sizeof(noise));
    listen_to(clock, TOWER_MOCK_SILENCE, 0, noise);
    for (size_t i = 0; i < LISTEN_SAMPLES; i++) {
        assert_int_equal(noise[i], 0);
    }
    listen_to(clock, TOWER_MOCK_NOISE, 1, noise);
    listen_to(clock, TOWER_MOCK_NOISE, 1, again);
    listen_to(clock, TOWER_MOCK_NOISE, 2, other);
    assert_memory_equal(noise, again, sizeof(noise));
    assert_memory_not_equal(noise, other, sizeof(noise));
    for (size_t i = 0; i < LISTEN_SAMPLES; i++) {
        mean += noise[i] / (double)LISTEN_SAMPLES;
        power += (double)noise[i] * noise[i] / LISTEN_SAMPLES;
    }
    assert_true(sqrt(power) > 100);
    assert_true(fabs(mean) < sqrt(power) * 0.04); /* five standard errors of 16000 values */
    for (size_t i = 0; i < sizeof(lags) / sizeof(lags[0]); i++) {
        assert_true(fabs(self_likeness(noise, lags[i])) < 0.04);
    }
    tower_clock_free(clock);
}

/* S5, our addition: a tone of 440 Hz, whole over the edges of chunks. */
static void test_s5_mock_tone_is_one_wave_over_all_chunks(void **state) {
    static int16_t tone[LISTEN_SAMPLES];
    struct tower_clock *clock = auto_clock();
    const double step = 2 * acos(-1.0) * 440 / 16000;
    double sine = 0, cosine = 0, power = 0;
    (void)state;

    listen_to(clock, TOWER_MOCK_TONE, 0, tone);
    for (size_t i = 0; i < LISTEN_SAMPLES; i++) {
        sine += tone[i] * sin(step * (double)i) * 2 / LISTEN_SAMPLES;
        cosine += tone[i] * cos(step * (double)i) * 2 / LISTEN_SAMPLES;
        power += (double)tone[i] * tone[i] / LISTEN_SAMPLES;
    }
    assert_true(power > 100 * 100);
    /* all of the power is in that one wave: a step at a chunk's edge would put some beside it */
    assert_true(fabs((sine * sine + cosine * cosine) / 2 / power - 1) < 0.001);
    tower_clock_free(clock);
}

/* S6: a chunk of 100 ms comes 100 ms after the last, on an absolute schedule: a thousand take a
 * thousand times as long, also where a chunk is no whole number of nanoseconds. */
static void test_s6_a_thousand_chunks_take_a_thousand_times_as_long(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_source *source;
    int64_t start_ns;
    int end;
    (void)state;

    source = open_mock(clock, &(struct tower_mock_config){.chunk_samples = 1600});
    for (int64_t k = 1; k <= 1000; k++) {
        consume(source, 1, &end);
        assert_int_equal(tower_clock_now_ns(clock), k * 100 * MS);
    }
    tower_source_close(source);

    start_ns = tower_clock_now_ns(clock);
    source = open_mock(clock, &(struct tower_mock_config){.rate_hz = 44100, .chunk_samples = 1000});
    for (int64_t k = 1; k <= 4410; k++) {
        consume(source, 1, &end);
        assert_int_equal(tower_clock_now_ns(clock) - start_ns,
                         tower_samples_to_ns(k * 1000, 44100));
    }
    assert_int_equal(tower_clock_now_ns(clock) - start_ns, 100000 * MS);
    tower_source_close(source);
    tower_clock_free(clock);
}

/* S6: a reader that is slow does not shift the schedule: what it missed is there at once, and then
 * each chunk is again at its own time. */
static void test_s6_a_slow_reader_does_not_shift_the_schedule(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_source *source =
        open_mock(clock, &(struct tower_mock_config){.chunk_samples = 1600});
    int64_t late_ns = 0;
    int end;
    (void)state;

    tower_clock_virtual_advance(clock, 5000 * MS); /* the schedule begins with the first read */
    for (int64_t k = 1; k <= 200; k++) {
        int64_t due_ns = (5000 + k * 100) * MS;
        consume(source, 1, &end);
        assert_int_equal(tower_clock_now_ns(clock), due_ns > late_ns ? due_ns : late_ns);
        if (k % 20 == 7) {
            tower_clock_virtual_advance(clock, 350 * MS);
        } else {
            tower_clock_virtual_advance(clock, 99 * MS * (k % 2));
        }
        late_ns = tower_clock_now_ns(clock);
    }
    assert_int_equal(tower_clock_now_ns(clock), (5000 + 20000) * MS);
    tower_source_close(source);
    tower_clock_free(clock);
}

/* Reads `n_values` values of audio from any source, in pieces of whatever size it yields. */
static size_t collect(struct tower_source *source, int16_t *ret_values, size_t n_values) {
    static int16_t chunk[CHUNK_BYTES_MAX / 2];
    size_t n = 0;
    size_t bytes;

    while (n < n_values && tower_source_read(source, chunk, &bytes) == 1) {
        for (size_t i = 0; i < bytes / 2 && n < n_values; i++) {
            ret_values[n++] = chunk[i];
        }
    }
    return n;
}

/* S7 (test case 1): the mock can be used wherever a source can: what is written for a file or a
 * pipe works with a mock in its place, and asking it for what it cannot do is answered in order. */
static void test_s7_mock_is_a_source_like_any_other(void **state) {
    enum { VALUES = 9600 };
    static int16_t values[VALUES];
    struct tower_clock *clock = auto_clock();
    struct tower_source *sources[4];
    struct tower_raw_config raw = {.rate_hz = 16000, .channels = 1, .chunk_samples = 700};
    struct test_folder folder;
    char path[128];
    int closed = 0;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "a.wav", path, sizeof(path));
    write_wav(path, 16000, 1, VALUES);
    raw.fd = filled_pipe(VALUES);
    sources[0] = open_mock(
        clock, &(struct tower_mock_config){.content = TOWER_MOCK_TONE, .chunk_samples = 1600});
    sources[1] = open_file(clock, path, false, 333);
    assert_int_equal(tower_source_open_raw(&raw, &sources[2]), 0);
    sources[3] = open_counting(48, 100, &closed);
    for (int i = 0; i < 4; i++) {
        assert_non_null(sources[i]->ops);
        assert_non_null(sources[i]->ops->read);
        assert_non_null(sources[i]->ops->close);
        memset(values, 0, sizeof(values));
        assert_int_equal(collect(sources[i], values, VALUES), VALUES);
        assert_true(values[VALUES / 2] != values[VALUES / 2 + 1]);
    }
    assert_int_equal(tower_clock_now_ns(clock), 600 * MS); /* the mock's, and nobody else's */
    assert_int_equal(tower_source_rewind(sources[0]), -ENOTSUP);
    for (int i = 0; i < 4; i++) {
        tower_source_close(sources[i]);
    }
    assert_int_equal(closed, 1);
    close(raw.fd);
    test_folder_remove(&folder);
    tower_clock_free(clock);
}

/* S8 (test case 2) on the injected clock: ten chunks of 1600 samples at 16 kHz take 1.0 s. */
static void test_s8_ten_chunks_take_one_second_exactly(void **state) {
    struct tower_clock *clock = auto_clock();
    struct tower_source *source =
        open_mock(clock, &(struct tower_mock_config){.rate_hz = 16000, .chunk_samples = 1600});
    int end;
    (void)state;

    assert_int_equal(consume(source, 10, &end), 32000);
    assert_int_equal(tower_clock_now_ns(clock), 1000000000);
    tower_source_close(source);
    tower_clock_free(clock);
}

/* S8 (test case 2) on the real clock, within the contract's 0.9 s to 1.1 s. */
static void test_s8_ten_chunks_take_a_second_on_the_real_clock(void **state) {
    struct tower_source *source = open_mock(
        tower_clock_real(), &(struct tower_mock_config){.rate_hz = 16000, .chunk_samples = 1600});
    int64_t took_ns = -real_now_ns();
    int end;
    (void)state;

    assert_int_equal(consume(source, 10, &end), 32000);
    took_ns += real_now_ns();
    print_message("ten chunks took %lld us\n", (long long)(took_ns / 1000));
    assert_in_range(took_ns, 900 * MS, 1100 * MS);
    tower_source_close(source);
}

/* S9 (test case 3): a chunk is chunk samples x channels x 2 bytes, all of them written and none
 * beyond: 1600 mono samples are 3200 bytes. */
static void test_s9_chunk_is_exactly_its_size(void **state) {
    static const size_t sizes[] = {1, 3, 160, 1023, 1600, 4096};
    static uint8_t chunk[CHUNK_BYTES_MAX * 2];
    struct tower_clock *clock = auto_clock();
    struct tower_source *source;
    (void)state;

    source = open_mock(clock, &(struct tower_mock_config){.chunk_samples = 1600});
    assert_int_equal(tower_source_chunk_bytes(source), 3200);
    tower_source_close(source);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (unsigned channels = 1; channels <= 8; channels++) {
            size_t expected = sizes[s] * channels * 2;
            size_t bytes = 0;
            source = open_mock(clock, &(struct tower_mock_config){.chunk_samples = sizes[s],
                                                                  .channels = channels});
            assert_int_equal(tower_source_chunk_bytes(source), expected);
            memset(chunk, 0xa5, sizeof(chunk));
            assert_int_equal(tower_source_read(source, chunk, &bytes), 1);
            assert_int_equal(bytes, expected);
            for (size_t i = 0; i < expected; i++) {
                assert_int_equal(chunk[i], 0); /* silence, to the last byte */
            }
            for (size_t i = expected; i < expected + 64; i++) {
                assert_int_equal(chunk[i], 0xa5);
            }
            tower_source_close(source);
        }
    }
    tower_clock_free(clock);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s1_one_interface_for_every_source),
        cmocka_unit_test(test_s2_close_in_mid_stream_releases_everything),
        cmocka_unit_test(test_s2_close_after_an_error_releases_everything),
        cmocka_unit_test(test_s3_live_chunk_comes_when_it_is_due),
        cmocka_unit_test(test_s3_file_paced_or_as_fast_as_it_is_read),
        cmocka_unit_test(test_s4_mock_takes_rate_and_chunk_size),
        cmocka_unit_test(test_s5_mock_yields_silence_or_noise),
        cmocka_unit_test(test_s5_mock_tone_is_one_wave_over_all_chunks),
        cmocka_unit_test(test_s6_a_thousand_chunks_take_a_thousand_times_as_long),
        cmocka_unit_test(test_s6_a_slow_reader_does_not_shift_the_schedule),
        cmocka_unit_test(test_s7_mock_is_a_source_like_any_other),
        cmocka_unit_test(test_s8_ten_chunks_take_one_second_exactly),
        cmocka_unit_test(test_s8_ten_chunks_take_a_second_on_the_real_clock),
        cmocka_unit_test(test_s9_chunk_is_exactly_its_size),
    };
    watchdog_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
