/* A stream through a decoder that is looked after. The ffmpeg is a script that this test plays:
 * what it writes is the PCM. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../contracts/descriptors.h"
#include "stream_decoder.h"
#include "tower/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TURNS_MAX 20000

static struct test_folder folder;
static char program[128];
static char starts[128]; /* a byte for each start of the program */

static struct tower_clock *test_clock;
static struct tower_stream_decoder *decoder;
static uint8_t heard[1024 * 1024];
static size_t n_heard;
static char titles[256];
static int64_t turn_ns; /* of virtual time */

static int make_folder(void **state) {
    (void)state;
    if (!test_folder_make(&folder))
        return -1;
    test_folder_file(&folder, "ffmpeg", program, sizeof program);
    test_folder_file(&folder, "starts", starts, sizeof starts);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    test_folder_remove(&folder);
    return 0;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static long n_starts(void) {
    struct stat file;
    assert_int_equal(stat(starts, &file), 0);
    return (long)file.st_size;
}

static void on_pcm(void *user, const int16_t *samples, size_t n_samples) {
    assert_ptr_equal(user, heard);
    assert_true(n_heard + n_samples * TOWER_SAMPLE_BYTES <= sizeof heard);
    memcpy(heard + n_heard, samples, n_samples * TOWER_SAMPLE_BYTES);
    n_heard += n_samples * TOWER_SAMPLE_BYTES;
}

static void on_title(void *user, const char *title) {
    assert_ptr_equal(user, heard);
    size_t at = strlen(titles);
    (void)snprintf(titles + at, sizeof titles - at, "%s;", title);
}

/* With an ffmpeg that does what `script` says. */
static void open_decoder(const char *content_type, const char *script) {
    char text[1024];
    (void)snprintf(text, sizeof text, "#!/bin/sh\nprintf x >>'%s'\n%s\n", starts, script);
    write_file(program, text);
    write_file(starts, "");
    n_heard = 0;
    titles[0] = '\0';
    turn_ns = 0;
    assert_int_equal(tower_clock_virtual_new(1000, &test_clock), 0);
    const struct tower_stream_decoder_config config = {
        .clock = test_clock,
        .ffmpeg = program,
        .content_type = content_type,
        .name = "test",
        .user = heard,
        .on_pcm = on_pcm,
        .on_title = on_title,
    };
    assert_int_equal(tower_stream_decoder_new(&config, &decoder), 0);
}

static void close_decoder(void) {
    tower_stream_decoder_free(decoder);
    tower_clock_free(test_clock);
}

static int turn(bool wants_pcm) {
    struct pollfd fds[TOWER_STREAM_DECODER_FDS];
    tower_stream_decoder_poll(decoder, wants_pcm, fds);
    assert_true(poll(fds, TOWER_STREAM_DECODER_FDS, 2) >= 0);
    tower_clock_virtual_advance(test_clock, turn_ns);
    return tower_stream_decoder_step(decoder, wants_pcm, fds);
}

static int give(const void *data, size_t bytes) {
    const uint8_t *at = data;
    int error = 0;
    for (int i = 0; i < TURNS_MAX && bytes > 0 && error == 0; i++) {
        if (tower_stream_decoder_has_room(decoder))
            error = tower_stream_decoder_give(decoder, &at, &bytes);
        if (error == 0)
            error = turn(true);
    }
    assert_true(bytes == 0 || error < 0);
    return error;
}

static void await_bytes(size_t bytes) {
    for (int i = 0; i < TURNS_MAX && n_heard < bytes; i++)
        assert_int_equal(turn(true), 0);
    assert_true(n_heard >= bytes);
}

static void await_starts(long n) {
    for (int i = 0; i < TURNS_MAX && n_starts() < n; i++)
        assert_int_equal(turn(true), 0);
    assert_int_equal(n_starts(), n);
}

static void await_end(void) {
    assert_int_equal(tower_stream_decoder_end(decoder), 0);
    for (int i = 0; i < TURNS_MAX && !tower_stream_decoder_is_done(decoder); i++)
        assert_int_equal(turn(true), 0);
    assert_true(tower_stream_decoder_is_done(decoder));
}

static void pass_seconds(int n) {
    tower_clock_virtual_advance(test_clock, n * TOWER_NS_PER_S);
    for (int i = 0; i < 10; i++)
        assert_int_equal(turn(true), 0);
}

/* ---- Ogg, as far as it matters here ---- */

static uint8_t ogg[65536];
static size_t ogg_bytes;

static void add_page(uint8_t serial, uint8_t flags, const char *body, size_t bytes) {
    uint8_t header[28] = "OggS";
    header[5] = flags;
    header[14] = serial;
    header[26] = 1;
    header[27] = (uint8_t)bytes;
    memcpy(ogg + ogg_bytes, header, sizeof header);
    memcpy(ogg + ogg_bytes + sizeof header, body, bytes);
    ogg_bytes += sizeof header + bytes;
}

/* Returns how long the head is. */
static size_t add_opus(uint8_t serial, const char *title, unsigned n_pages) {
    char packet[100] = "OpusTags\0\0\0\0\1\0\0\0";
    size_t begin = ogg_bytes;
    size_t title_bytes = strlen(title);
    packet[16] = (char)(title_bytes + 6);
    (void)snprintf(packet + 20, sizeof packet - 20, "title=%s", title);
    add_page(serial, 2, "OpusHead\1\2\0\0 so on..", 20);
    add_page(serial, 0, packet, 26 + title_bytes);
    size_t bytes = ogg_bytes - begin;
    for (unsigned i = 0; i < n_pages; i++)
        add_page(serial, 0, "sound, sound, sound, sound, sound, sound", 40);
    return bytes;
}

static void add_speex(uint8_t serial, unsigned n_pages) {
    add_page(serial, 2, "Speex   , which is old.", 23);
    add_page(serial, 0, "comments", 8);
    for (unsigned i = 0; i < n_pages; i++)
        add_page(serial, 0, "sound", 5);
}

/* ---- tests ---- */

static void test_content_types(void **state) {
    (void)state;
    static const char *const known[] = {
        "audio/mpeg",      "AUDIO/MPEG", "audio/aacp", "audio/ogg; codecs=opus",
        "application/ogg", "audio/flac", "audio/webm", "audio/wav",
        "audio/x-wav",     "audio/L16"};
    static const char *const others[] = {
        "",          "audio",     "audio/",        "audio/mpeg4-generic",
        "text/html", "video/mp4", "audio/mpegurl", " audio/mpeg"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_true(tower_stream_decoder_knows(known[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(tower_stream_decoder_knows(others[i]));
}

static void test_l16_has_its_parameters_in_the_type(void **state) {
    (void)state;
    open_decoder("audio/L16; channels=2;rate=\"48000\"", "");
    assert_int_equal(give("\1\2\3\4\5\6\7", 7), 0);
    await_end();
    assert_int_equal(n_heard, 4);
    assert_memory_equal(heard, "\2\1\4\3", 4);
    assert_int_equal(n_starts(), 0);
    close_decoder();
    open_decoder("audio/L16;rate=24000", "");
    assert_int_equal(give("\0\0\0\0", 4), 0);
    await_end();
    assert_int_equal(n_heard, 4 * TOWER_SAMPLE_BYTES);
    close_decoder();
    struct tower_stream_decoder *none = NULL;
    struct tower_stream_decoder_config config = {.clock = tower_clock_real(), .name = "test"};
    static const char *const bad[] = {"audio/L16;rate=0", "audio/L16;rate=x",
                                      "audio/L16;rate=48000;channels=9", "audio/L16;rate=99999999",
                                      "text/plain"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config.content_type = bad[i];
        assert_int_equal(tower_stream_decoder_new(&config, &none), -ENOTSUP);
    }
}

static void test_all_goes_through_to_its_end(void **state) {
    (void)state;
    static uint8_t stream[300000];
    for (size_t i = 0; i < sizeof stream; i++)
        stream[i] = (uint8_t)(i * 31 / 7);
    open_decoder("audio/mpeg", "exec cat");
    assert_int_equal(give(stream, sizeof stream), 0);
    await_end();
    assert_int_equal(n_heard, sizeof stream);
    assert_memory_equal(heard, stream, sizeof stream);
    assert_int_equal(n_starts(), 1);
    close_decoder();
}

static void test_a_decoder_started_anew_is_given_the_head(void **state) {
    (void)state;
    ogg_bytes = 0;
    size_t head_bytes = add_opus(1, "of it", 10);
    /* It ends after that, and what is behind it is not read. */
    char script[100];
    (void)snprintf(script, sizeof script, "exec dd bs=1 count=%zu status=none", ogg_bytes);
    open_decoder("audio/ogg", script);
    assert_int_equal(give(ogg, ogg_bytes), 0);
    await_bytes(ogg_bytes / 4 * 4);
    size_t before = n_heard;
    await_starts(2);
    assert_int_equal(tower_stream_decoder_restarts(decoder), 1);
    assert_int_equal(give(ogg + head_bytes, ogg_bytes - head_bytes), 0);
    await_bytes(before + ogg_bytes / 4 * 4);
    assert_memory_equal(heard + before, ogg, ogg_bytes / 4 * 4);
    assert_string_equal(titles, "of it;");
    close_decoder();
}

static void test_another_codec_takes_another_decoder(void **state) {
    (void)state;
    ogg_bytes = 0;
    add_opus(1, "one", 5);
    add_opus(2, "two!", 5);
    add_speex(3, 7);
    add_opus(4, "three", 4);
    open_decoder("application/ogg", "exec cat");
    turn_ns = TOWER_NS_PER_S / 100;
    assert_int_equal(give(ogg, ogg_bytes), 0);
    await_end();
    /* What is not a whole sample of one is not the next one's. */
    assert_in_range(n_heard, ogg_bytes - 9, ogg_bytes);
    assert_int_equal(n_starts(), 3);
    assert_int_equal(tower_stream_decoder_restarts(decoder), 0);
    assert_string_equal(titles, "one;two!;;three;");
    close_decoder();
}

static void test_a_link_waits_until_all_before_it_is_heard(void **state) {
    (void)state;
    ogg_bytes = 0;
    add_opus(1, "eleven", 3);
    size_t link_bytes = ogg_bytes;
    add_opus(2, "twelve", 3);
    add_opus(3, "twenty", 3);
    assert_int_equal(link_bytes % TOWER_SAMPLE_BYTES, 0);
    open_decoder("application/ogg", "exec cat");
    await_starts(1);
    const uint8_t *at = ogg;
    size_t left = ogg_bytes;
    static const char *const expected[] = {"eleven;", "eleven;twelve;", "eleven;twelve;twenty;"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tower_stream_decoder_give(decoder, &at, &left), 0);
        assert_string_equal(titles, expected[i]);
        await_bytes((i + 1) * link_bytes);
        for (int n = 0; n < 20; n++)
            assert_int_equal(turn(true), 0);
        assert_int_equal(n_heard, (i + 1) * link_bytes);
        assert_string_equal(titles, expected[i]);
        tower_clock_virtual_advance(test_clock, TOWER_NS_PER_S / 20);
        assert_int_equal(turn(true), 0);
    }
    await_end();
    assert_int_equal(n_starts(), 1);
    assert_memory_equal(heard, ogg, ogg_bytes);
    close_decoder();
}

static void test_five_failures_without_sound_are_the_end(void **state) {
    (void)state;
    open_decoder("audio/aac", "exit 3");
    int error = 0;
    for (int i = 0; i < TURNS_MAX && error == 0; i++) {
        error = turn(true);
        tower_clock_virtual_advance(test_clock, TOWER_NS_PER_S / 100);
    }
    assert_int_equal(error, -EIO);
    assert_int_equal(n_starts(), 5);
    assert_non_null(strstr(tower_stream_decoder_error(decoder), "no sound could be made of it"));
    close_decoder();
}

static void test_failures_with_sound_are_not(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "exec dd bs=4 count=1 status=none");
    for (long i = 1; i < 12; i++) {
        await_starts(i);
        assert_int_equal(give("sound", 5), 0);
        await_bytes((size_t)i * 4);
        tower_clock_virtual_advance(test_clock, TOWER_NS_PER_S);
    }
    close_decoder();
}

static void test_one_that_takes_and_gives_nothing_is_started_anew(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "cat >/dev/null; :");
    await_starts(1);
    for (int second = 0; second < 3; second++) {
        assert_int_equal(give("x", 1), 0);
        pass_seconds(1);
    }
    assert_int_equal(tower_stream_decoder_restarts(decoder), 0);
    assert_int_equal(give("x", 1), 0);
    await_starts(2);
    assert_int_equal(tower_stream_decoder_restarts(decoder), 1);
    close_decoder();
}

static void test_one_that_reads_nothing_too(void **state) {
    (void)state;
    static const uint8_t stream[40000];
    open_decoder("audio/mpeg", "exec sleep 1000");
    await_starts(1);
    const uint8_t *at = stream;
    size_t left = sizeof stream;
    for (int i = 0; i < 100; i++) {
        if (tower_stream_decoder_has_room(decoder))
            assert_int_equal(tower_stream_decoder_give(decoder, &at, &left), 0);
        assert_int_equal(turn(true), 0);
    }
    pass_seconds(3);
    await_starts(2);
    close_decoder();
}

static void test_nothing_is_owed_where_nothing_comes_or_is_wanted(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "cat >/dev/null; :");
    await_starts(1);
    assert_int_equal(give("x", 1), 0);
    for (int i = 0; i < 10; i++)
        pass_seconds(10);
    assert_int_equal(tower_stream_decoder_restarts(decoder), 0);
    close_decoder();

    static const uint8_t stream[200000];
    open_decoder("audio/mpeg", "exec cat");
    await_starts(1);
    const uint8_t *at = stream;
    size_t left = sizeof stream;
    for (int i = 0; i < 100; i++) {
        if (tower_stream_decoder_has_room(decoder))
            assert_int_equal(tower_stream_decoder_give(decoder, &at, &left), 0);
        assert_int_equal(turn(false), 0);
        tower_clock_virtual_advance(test_clock, TOWER_NS_PER_S);
    }
    assert_int_equal(n_heard, 0);
    assert_true(left > 0);
    assert_int_equal(tower_stream_decoder_restarts(decoder), 0);
    await_bytes(sizeof stream - left);
    close_decoder();
}

static void test_one_that_will_not_end_is_ended(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "cat; exec sleep 1000");
    await_starts(1);
    assert_int_equal(give("four", 4), 0);
    await_bytes(4);
    assert_int_equal(tower_stream_decoder_end(decoder), 0);
    pass_seconds(1);
    assert_false(tower_stream_decoder_is_done(decoder));
    pass_seconds(3);
    assert_true(tower_stream_decoder_is_done(decoder));
    close_decoder();
}

/* By its first byte at the latest. */
static void test_a_decoder_has_so_much_memory_and_no_more(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "read -r line; printf '%8s' \"$(ulimit -d)\"; cat >/dev/null");
    assert_int_equal(give("\n", 1), 0);
    await_bytes(8);
    assert_memory_equal(heard, "  262144", 8);
    await_end();
    close_decoder();
}

static void test_without_ffmpeg_there_is_no_sound(void **state) {
    (void)state;
    open_decoder("audio/mpeg", "");
    assert_int_equal(remove(program), 0);
    assert_int_equal(turn(true), -EIO);
    assert_non_null(strstr(tower_stream_decoder_error(decoder), "cannot be started"));
    close_decoder();
}

static void test_what_is_not_as_announced_is_said(void **state) {
    (void)state;
    static const uint8_t silence[70000];
    open_decoder("audio/ogg", "exec cat");
    assert_int_equal(give(silence, sizeof silence), -EPROTO);
    assert_string_equal(tower_stream_decoder_error(decoder),
                        "audio/ogg: that is not what it sends");
    close_decoder();
    open_decoder("audio/x-wav", "");
    assert_int_equal(give(silence, 100), -EPROTO);
    close_decoder();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_l16_has_its_parameters_in_the_type),
        cmocka_unit_test(test_all_goes_through_to_its_end),
        cmocka_unit_test(test_a_decoder_started_anew_is_given_the_head),
        cmocka_unit_test(test_another_codec_takes_another_decoder),
        cmocka_unit_test(test_a_link_waits_until_all_before_it_is_heard),
        cmocka_unit_test(test_five_failures_without_sound_are_the_end),
        cmocka_unit_test(test_failures_with_sound_are_not),
        cmocka_unit_test(test_one_that_takes_and_gives_nothing_is_started_anew),
        cmocka_unit_test(test_one_that_reads_nothing_too),
        cmocka_unit_test(test_nothing_is_owed_where_nothing_comes_or_is_wanted),
        cmocka_unit_test(test_one_that_will_not_end_is_ended),
        cmocka_unit_test(test_a_decoder_has_so_much_memory_and_no_more),
        cmocka_unit_test(test_without_ffmpeg_there_is_no_sound),
        cmocka_unit_test(test_what_is_not_as_announced_is_said),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
