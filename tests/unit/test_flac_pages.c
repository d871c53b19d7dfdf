/* FLAC made Ogg, as a client's stream comes: libsndfile writes the one, ffmpeg reads the other, and
 * what it gives must be what was written, to the last sample. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "stream_head.h"

#include <errno.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STREAM_BYTES_MAX (8 * 1024 * 1024)
#define CHANNELS_MAX 8
#define SECTIONS 6
#define SECTION_SAMPLES 5000
#define SAMPLES ((sf_count_t)SECTIONS * SECTION_SAMPLES)
#define PCM_BYTES_MAX ((size_t)SAMPLES * CHANNELS_MAX * sizeof(int))

static char flac_path[64], ogg_path[64];
static uint8_t *stream, *ogg;
static size_t stream_bytes, ogg_bytes;
static int *written, *read_back; /* samples, with their most significant bits in front */

static int make_room(void **state) {
    (void)state;
    (void)snprintf(flac_path, sizeof flac_path, "/tmp/tower-flac-%d.flac", (int)getpid());
    (void)snprintf(ogg_path, sizeof ogg_path, "/tmp/tower-flac-%d.ogg", (int)getpid());
    stream = malloc(STREAM_BYTES_MAX);
    ogg = malloc(STREAM_BYTES_MAX);
    written = malloc(PCM_BYTES_MAX);
    read_back = malloc(2 * PCM_BYTES_MAX);
    return stream && ogg && written && read_back ? 0 : -1;
}

static int leave_room(void **state) {
    (void)state;
    (void)unlink(flac_path);
    (void)unlink(ogg_path);
    free(stream);
    free(ogg);
    free(written);
    free(read_back);
    return 0;
}

/* ---- FLAC, by libsndfile ---- */

struct kind {
    int rate_hz, channels, subtype;
    double level; /* of compression, 0 to 1 */
};

static unsigned bits_of(const struct kind *kind) {
    return kind->subtype == SF_FORMAT_PCM_24 ? 24 : kind->subtype == SF_FORMAT_PCM_16 ? 16 : 8;
}

static uint32_t random_number(void) {
    static uint32_t last = 1;
    last = last * 1664525 + 1013904223;
    return last;
}

/* Each section is one that an encoder writes in another way. */
static int sample_of(int section, int i, int channel, unsigned bits) {
    int loudest = 1 << (bits - 1);
    int slope = (i % 100 - 50) * (loudest / 64);
    switch (section) {
    case 0: /* silence */
        return 0;
    case 1: /* smooth, nearly the same in all channels */
        return slope + (int)(random_number() % 3) + channel;
    case 2: /* noise as loud as can be, which no predictor helps */
        return (int)(random_number() % (2 * (uint32_t)loudest)) - loudest;
    case 3: /* one loud click in near silence */
        return i == 2500 ? loudest - 1 : (int)(random_number() % 2);
    case 4: /* the lowest bits are never used */
        return (slope + (int)(random_number() % 512)) / 16 * 16;
    default: /* channels against each other */
        return channel % 2 ? -slope : slope;
    }
}

static void make_flac(const struct kind *kind, const char *title) {
    unsigned bits = bits_of(kind);
    SF_INFO info = {.samplerate = kind->rate_hz,
                    .channels = kind->channels,
                    .format = SF_FORMAT_FLAC | kind->subtype};
    SNDFILE *file = sf_open(flac_path, SFM_WRITE, &info);
    if (!file)
        fail_msg("%d Hz, %d channels: %s", kind->rate_hz, kind->channels, sf_strerror(NULL));
    double level = kind->level;
    (void)sf_command(file, SFC_SET_COMPRESSION_LEVEL, &level, sizeof level);
    if (title)
        assert_int_equal(sf_set_string(file, SF_STR_TITLE, title), 0);
    for (int i = 0; i < SAMPLES; i++) {
        for (int c = 0; c < kind->channels; c++) {
            int sample = sample_of(i / SECTION_SAMPLES, i % SECTION_SAMPLES, c, bits);
            written[i * kind->channels + c] = (int)((uint32_t)sample << (32 - bits));
        }
    }
    assert_int_equal(sf_writef_int(file, written, SAMPLES), SAMPLES);
    assert_int_equal(sf_close(file), 0);
    FILE *made = fopen(flac_path, "rb");
    assert_non_null(made);
    stream_bytes = fread(stream, 1, STREAM_BYTES_MAX, made);
    assert_int_equal(fclose(made), 0);
    assert_true(stream_bytes > 1000 && stream_bytes < STREAM_BYTES_MAX / 2);
}

/* ---- Ogg of it ---- */

struct made {
    int error;
    unsigned n_links, n_changes;
    char titles[64]; /* at the end of each head, each with a semicolon behind it */
    size_t link_at;  /* in `ogg`, where the last link begins */
};

static struct made make_ogg(size_t piece_bytes) {
    struct made made = {.error = 0};
    struct tower_stream_head *head;
    assert_int_equal(tower_stream_head_new(TOWER_STREAM_FLAC, &head), 0);
    ogg_bytes = 0;
    for (size_t done = 0; done < stream_bytes && made.error >= 0;) {
        size_t left = stream_bytes - done < piece_bytes ? stream_bytes - done : piece_bytes;
        const uint8_t *at = stream + done;
        struct tower_stream_piece piece;
        done += left;
        /* Whoever has nothing left does not ask again. */
        while (left > 0 && (made.error = tower_stream_head_take(head, &at, &left, &piece)) == 1) {
            assert_true(ogg_bytes + piece.bytes <= STREAM_BYTES_MAX);
            made.n_changes += piece.changes_codec;
            if (piece.begins_link) {
                made.n_links++;
                made.link_at = ogg_bytes;
            }
            memcpy(ogg + ogg_bytes, piece.data, piece.bytes);
            ogg_bytes += piece.bytes;
            if (piece.ends_head) {
                char *title = tower_stream_head_title(head);
                size_t end = strlen(made.titles);
                (void)snprintf(made.titles + end, sizeof made.titles - end, "%s;",
                               title ? title : "");
                free(title);
            }
        }
    }
    tower_stream_head_free(head);
    made.error = made.error < 0 ? made.error : 0;
    return made;
}

/* Of the link at `from`, into read_back. Returns how many samples a channel there are. */
static sf_count_t read_ogg(const struct kind *kind, size_t from) {
    char command[256];
    FILE *file = fopen(ogg_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(ogg + from, 1, ogg_bytes - from, file), ogg_bytes - from);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(command, sizeof command,
                   "exec ffmpeg -nostdin -v error -f ogg -i %s -f s32le pipe:1", ogg_path);
    /* NOLINTNEXTLINE(cert-env33-c): all of the command is ours. */
    FILE *heard = popen(command, "re");
    assert_non_null(heard);
    size_t bytes = fread(read_back, 1, 2 * PCM_BYTES_MAX, heard);
    assert_int_equal(pclose(heard), 0);
    size_t sample_bytes = (size_t)kind->channels * sizeof *read_back;
    assert_int_equal(bytes % sample_bytes, 0);
    return (sf_count_t)(bytes / sample_bytes);
}

static void expect_all(const struct kind *kind, size_t from) {
    assert_int_equal(read_ogg(kind, from), SAMPLES);
    assert_memory_equal(read_back, written,
                        (size_t)SAMPLES * (size_t)kind->channels * sizeof *written);
}

static const struct kind plain = {44100, 2, SF_FORMAT_PCM_16, 0.5};

/* ---- tests ---- */

/* All of it is there when the last byte is, though nothing comes behind it. */
static void test_what_was_written_is_read_to_the_last_sample(void **state) {
    (void)state;
    static const struct kind kinds[] = {
        {48000, 2, SF_FORMAT_PCM_16, 0},   {48000, 2, SF_FORMAT_PCM_16, 1},
        {44100, 1, SF_FORMAT_PCM_16, 0.5}, {8000, 1, SF_FORMAT_PCM_16, 0.6},
        {11000, 2, SF_FORMAT_PCM_16, 0.6}, {12345, 2, SF_FORMAT_PCM_16, 1},
        {96000, 2, SF_FORMAT_PCM_24, 1},   {44100, 6, SF_FORMAT_PCM_16, 0.6},
        {32000, 2, SF_FORMAT_PCM_S8, 0.6}, {192000, 8, SF_FORMAT_PCM_24, 0.8},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        make_flac(&kinds[i], NULL);
        struct made made = make_ogg(4096);
        assert_int_equal(made.error, 0);
        assert_int_equal(made.n_links, 0);
        expect_all(&kinds[i], 0);
    }
}

static void test_in_whatever_pieces_it_comes(void **state) {
    (void)state;
    static const size_t piece_sizes[] = {1, 7, 1000, 65536, STREAM_BYTES_MAX};
    make_flac(&plain, "Flat");
    for (size_t i = 0; i < sizeof piece_sizes / sizeof *piece_sizes; i++) {
        struct made made = make_ogg(piece_sizes[i]);
        assert_int_equal(made.error, 0);
        assert_string_equal(made.titles, "Flat;");
        expect_all(&plain, 0);
    }
}

/* A byte short, the last frame is not whole; what comes before it is. */
static void test_a_frame_is_given_with_its_last_byte(void **state) {
    (void)state;
    make_flac(&plain, NULL);
    stream_bytes--;
    assert_int_equal(make_ogg(4096).error, 0);
    sf_count_t n = read_ogg(&plain, 0);
    assert_true(n < SAMPLES && n > SAMPLES - 5000);
    assert_memory_equal(read_back, written, (size_t)n * 2 * sizeof *written);
}

static void insert(size_t at, const void *data, size_t bytes) {
    memmove(stream + at + bytes, stream + at, stream_bytes - at);
    memcpy(stream + at, data, bytes);
    stream_bytes += bytes;
}

/* A decoder goes on with a second one that has the same frames; for others it takes another one. */
static void test_a_second_stream_is_a_link_of_its_own(void **state) {
    (void)state;
    static const struct kind others[] = {
        {44100, 2, SF_FORMAT_PCM_16, 0.5}, /* as the first */
        {32000, 1, SF_FORMAT_PCM_16, 0.5},
        {44100, 2, SF_FORMAT_PCM_24, 0.5},
        {44100, 2, SF_FORMAT_PCM_16, 0}, /* shorter frames */
    };
    make_flac(&plain, "One");
    size_t bytes = stream_bytes;
    uint8_t *first = malloc(bytes);
    assert_non_null(first);
    memcpy(first, stream, bytes);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        make_flac(&others[i], "Two");
        insert(0, first, bytes);
        struct made made = make_ogg(1000);
        assert_int_equal(made.error, 0);
        assert_int_equal(made.n_links, 1);
        assert_int_equal(made.n_changes, i >= 2);
        assert_string_equal(made.titles, "One;Two;");
        expect_all(&others[i], made.link_at);
        if (i == 0)
            assert_int_equal(read_ogg(&plain, 0), 2 * SAMPLES);
    }
    free(first);
}

static void test_ogg_stays_as_it_is(void **state) {
    (void)state;
    make_flac(&plain, "Flat");
    assert_int_equal(make_ogg(1000).error, 0);
    size_t bytes = ogg_bytes;
    memcpy(stream, ogg, bytes);
    stream_bytes = bytes;
    struct made made = make_ogg(1);
    assert_int_equal(made.error, 0);
    assert_string_equal(made.titles, "Flat;");
    assert_int_equal(ogg_bytes, bytes);
    assert_memory_equal(ogg, stream, bytes);
}

static void test_a_tag_with_a_picture_in_front_is_passed_over(void **state) {
    (void)state;
    static uint8_t tag[300010] = {'I', 'D', '3', 4, 0, 0, 0, 18, 39, 96}; /* 300000 = 18, 39, 96 */
    make_flac(&plain, NULL);
    insert(0, tag, sizeof tag);
    struct made made = make_ogg(1000);
    assert_int_equal(made.error, 0);
    assert_int_equal(made.n_links, 0);
    expect_all(&plain, 0);
}

static void test_what_is_no_frame_is_passed_over(void **state) {
    (void)state;
    static const uint8_t alike[] = {0xff, 0xf8, 0xc9, 0x18, 0, 'f', 'L', 'a', 'C', 0x80};
    uint8_t garbage[3000];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = i % 5 ? (uint8_t)random_number() : (uint8_t)(0xf8 | (i & 7));
    memcpy(garbage + 1000, alike, sizeof alike);
    make_flac(&plain, NULL);
    insert(stream_bytes * 3 / 4, garbage, sizeof garbage);
    insert(0, garbage, sizeof garbage);
    struct made made = make_ogg(100);
    assert_int_equal(made.error, 0);
    assert_int_equal(made.n_links, 0);
    /* The frame that it stands in is gone, all others are heard. */
    sf_count_t n = read_ogg(&plain, 0);
    assert_true(n < SAMPLES && n >= SAMPLES - 5000);
    const int *end = written + SAMPLES * 2, *heard_end = read_back + n * 2;
    assert_memory_equal(read_back, written, 20000 * sizeof *written);
    assert_memory_equal(heard_end - 2000, end - 2000, 2000 * sizeof *written);
}

static void test_damage_takes_no_more_than_the_frame_it_is_in(void **state) {
    (void)state;
    make_flac(&plain, NULL);
    uint8_t *whole = malloc(stream_bytes);
    assert_non_null(whole);
    memcpy(whole, stream, stream_bytes);
    for (int i = 0; i < 20; i++) {
        size_t at = 10000 + random_number() % (stream_bytes - 12000);
        memcpy(stream, whole, stream_bytes);
        stream[at] ^= (uint8_t)(1U << random_number() % 8);
        assert_int_equal(make_ogg(1000).error, 0);
        sf_count_t n = read_ogg(&plain, 0);
        assert_true(n < SAMPLES && n >= SAMPLES - 5000);
    }
    free(whole);
}

static void test_what_is_no_flac_is_refused(void **state) {
    (void)state;
    memset(stream, 'x', 100000);
    stream[0] = 'f';
    stream_bytes = 60000;
    assert_int_equal(make_ogg(1000).error, 0);
    assert_int_equal(ogg_bytes, 0);
    stream_bytes = 100000;
    assert_int_equal(make_ogg(1000).error, -EPROTO);
}

/* Nor one that is FLAC by its head alone, for ever. */
static void test_sound_that_never_comes_is_not_waited_for(void **state) {
    (void)state;
    make_flac(&plain, NULL);
    struct tower_stream_head *head;
    struct tower_stream_piece piece;
    assert_int_equal(tower_stream_head_new(TOWER_STREAM_FLAC, &head), 0);
    const uint8_t *at = stream;
    size_t left = stream_bytes;
    while (tower_stream_head_take(head, &at, &left, &piece) == 1)
        ;
    int result = 0;
    memset(stream, 0xff, 65536);
    for (int i = 0; i < 1000 && result == 0; i++) {
        at = stream;
        left = 65536;
        result = tower_stream_head_take(head, &at, &left, &piece);
    }
    assert_int_equal(result, -EPROTO);
    tower_stream_head_free(head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_written_is_read_to_the_last_sample),
        cmocka_unit_test(test_in_whatever_pieces_it_comes),
        cmocka_unit_test(test_a_frame_is_given_with_its_last_byte),
        cmocka_unit_test(test_a_second_stream_is_a_link_of_its_own),
        cmocka_unit_test(test_ogg_stays_as_it_is),
        cmocka_unit_test(test_a_tag_with_a_picture_in_front_is_passed_over),
        cmocka_unit_test(test_what_is_no_frame_is_passed_over),
        cmocka_unit_test(test_damage_takes_no_more_than_the_frame_it_is_in),
        cmocka_unit_test(test_what_is_no_flac_is_refused),
        cmocka_unit_test(test_sound_that_never_comes_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, make_room, leave_room);
}
