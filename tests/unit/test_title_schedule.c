/* When a title holds: by arithmetic, and by what an independent decoder hears. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "encoder_fixture.h"
#include "title_schedule.h"
#include "tower/encoder_manager.h"
#include "tower/router.h"

#include <pthread.h>

#define MS INT64_C(1000000)
#define LAME_DELAY_NS (36 * MS)

static struct tower_title_schedule *schedule;
static char text[TOWER_TITLE_BYTES_MAX];
static size_t bytes;

static int setup(void **state) {
    (void)state;
    return tower_title_schedule_new(1152, LAME_DELAY_NS, &schedule);
}

static int teardown(void **state) {
    (void)state;
    tower_title_schedule_free(schedule);
    return 0;
}

static void add(const char *title, uint64_t frame) {
    tower_title_schedule_add(schedule, title, strlen(title), frame);
}

/* Ticks of the pump. */
static void tick_live(void) {
    tower_title_schedule_note_pop(schedule, true);
    tower_title_schedule_note_write(schedule);
}

static void tick_fallback(void) {
    tower_title_schedule_note_write(schedule);
}

static void assert_none(uint64_t mp3_frame) {
    assert_int_equal(tower_title_schedule_take(schedule, mp3_frame, text, &bytes),
                     TOWER_TITLE_STAYS);
}

static void assert_title(uint64_t mp3_frame, const char *title) {
    assert_int_equal(tower_title_schedule_take(schedule, mp3_frame, text, &bytes),
                     TOWER_TITLE_IS_NEW);
    assert_int_equal(bytes, strlen(title));
    assert_memory_equal(text, title, bytes);
    assert_none(mp3_frame);
}

static void test_fallback_frames_move_it_and_live_ones_do_not(void **state) {
    (void)state;
    add("a", 2);
    tick_live();
    for (int i = 0; i < 50; i++)
        tick_fallback();
    tick_live();
    assert_none(1000); /* its frame waits in the queue */
    tick_fallback();
    tick_live(); /* this is it: the encoder's 53rd, counted from 0 */
    assert_none(53);
    assert_title(54, "a");
}

static void test_of_several_for_one_frame_the_last_holds(void **state) {
    (void)state;
    add("a", 0);
    add("b", 0);
    add("c", 1);
    tick_live();
    tick_live();
    assert_title(1, "b");
    assert_title(2, "c");
    /* The frames went by and nobody looked. */
    add("d", 2);
    add("e", 3);
    tick_live();
    tick_live();
    assert_title(100, "e");
}

static void test_of_too_many_the_oldest_is_forgotten(void **state) {
    (void)state;
    for (uint64_t i = 0; i < TOWER_TITLE_SCHEDULE_TITLES + 3; i++)
        add((const char[]){(char)('a' + i), '\0'}, i);
    for (int i = 0; i < TOWER_TITLE_SCHEDULE_TITLES + 3; i++)
        tick_live();
    for (uint64_t i = 0; i < 3; i++)
        assert_none(i + 1);
    for (uint64_t i = 3; i < TOWER_TITLE_SCHEDULE_TITLES + 3; i++)
        assert_title(i + 1, (const char[]){(char)('a' + i), '\0'});
}

static void test_a_frame_that_the_encoder_refused_leaves_its_place(void **state) {
    (void)state;
    add("a", 1);
    tick_live();
    tower_title_schedule_note_pop(schedule, true); /* refused */
    tick_live();                                   /* the encoder's number 1 */
    assert_none(1);
    assert_title(2, "a");
}

static void test_one_that_is_out_of_sight_is_due(void **state) {
    (void)state;
    add("a", 5);
    for (int i = 0; i < 5 + 255; i++)
        tick_live();
    assert_none(5); /* just within sight */
    tick_live();
    assert_title(5, "a");
}

static void test_a_long_one_is_cut(void **state) {
    (void)state;
    static char longer[TOWER_TITLE_BYTES_MAX + 1];
    memset(longer, 'x', sizeof longer);
    tower_title_schedule_add(schedule, longer, sizeof longer, 0);
    tick_live();
    assert_int_equal(tower_title_schedule_take(schedule, 1, text, &bytes), TOWER_TITLE_IS_NEW);
    assert_int_equal(bytes, TOWER_TITLE_BYTES_MAX);
    assert_memory_equal(text, longer, bytes);
}

static void test_a_title_ends_with_its_programme(void **state) {
    (void)state;
    tick_live();
    tick_fallback();
    assert_none(2);
    /* Past the grace: each of these is the first to be given to the encoder, or not. */
    for (int i = 0; i < 3; i++) {
        tower_title_schedule_note_end(schedule);
        tick_fallback();
    }
    assert_none(2);
    assert_int_equal(tower_title_schedule_take(schedule, 3, text, &bytes), TOWER_TITLE_ENDS);
    assert_none(4);
    /* Live again, and another one that has no title takes over from one that has. */
    add("a", 1);
    tower_title_schedule_add(schedule, NULL, 0, 2);
    tick_live();
    tick_live();
    assert_title(6, "a");
    assert_int_equal(tower_title_schedule_take(schedule, 7, text, &bytes), TOWER_TITLE_ENDS);
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    assert_int_equal(tower_title_schedule_take(schedule, 8, text, &bytes), TOWER_TITLE_ENDS);
    assert_none(9);
}

/* Frames of dead air are taken and not heard: they do not bring the programme back. */
static void test_a_title_ends_where_its_frames_are_withheld(void **state) {
    (void)state;
    tick_live();
    int n_ends = 0;
    for (uint64_t i = 1; i < 20; i++) {
        tower_title_schedule_note_pop(schedule, false);
        if (i >= 5)
            tower_title_schedule_note_end(schedule);
        tower_title_schedule_note_write(schedule);
        n_ends += tower_title_schedule_take(schedule, i, text, &bytes) == TOWER_TITLE_ENDS;
        assert_int_equal(n_ends, i >= 6);
    }
    /* Its frames count all the same. */
    add("a", 20);
    tick_live();
    assert_none(20);
    assert_title(21, "a");
}

static void assert_change(uint64_t mp3_frame, enum tower_title_change change) {
    assert_int_equal(tower_title_schedule_take(schedule, mp3_frame, text, &bytes), change);
}

static void test_a_programme_that_goes_on_gets_its_title_back(void **state) {
    (void)state;
    add("a", 0);
    tick_live();
    assert_title(1, "a");
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    assert_change(2, TOWER_TITLE_ENDS);
    tick_fallback();
    tick_live(); /* the encoder's number 3 */
    assert_none(3);
    assert_change(4, TOWER_TITLE_RESUMES);
    tick_live();
    assert_none(5);
    /* The encoder looks late: it has ended and gone on, */
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    tick_live();
    assert_change(20, TOWER_TITLE_RESUMES);
    /* or the other way round; */
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    tick_live();
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    assert_change(20, TOWER_TITLE_ENDS);
    /* or it is another programme, without a title, or with one. */
    tower_title_schedule_add(schedule, NULL, 0, 4);
    tick_live();
    assert_change(20, TOWER_TITLE_ENDS);
    tower_title_schedule_note_end(schedule);
    tick_fallback();
    add("b", 5);
    tick_live();
    assert_title(20, "b");
    assert_none(21);
}

static void test_bad_settings(void **state) {
    (void)state;
    struct tower_title_schedule *other = NULL;
    assert_int_equal(tower_title_schedule_new(0, 0, &other), -EINVAL);
    assert_int_equal(tower_title_schedule_new(1152, -1, &other), -EINVAL);
    assert_null(other);
    tower_title_schedule_free(NULL);
}

/* ---- with a router, an encoder, and a decoder to judge ---- */

#define TICKS 400
#define MP3_BYTES 384
#define BURSTS 12
#define BURST_FRAMES 2

static struct {
    struct tower_title_schedule *schedule;
    struct tower_encoder_manager *encoder;
    /* Owned by the encoder thread until it has ended. */
    size_t frames;
    uint8_t mp3[(TICKS + 16) * MP3_BYTES];
    size_t n_titles;
    struct {
        size_t mp3_frame;
        size_t bytes;
        char text[TOWER_TITLE_BYTES_MAX];
    } titles[BURSTS + 1];
} air;

static void put_on_air(void *user, const uint8_t *mp3_frame, size_t n_bytes) {
    (void)user;
    if (air.n_titles <= BURSTS &&
        tower_title_schedule_take(air.schedule, air.frames, air.titles[air.n_titles].text,
                                  &air.titles[air.n_titles].bytes))
        air.titles[air.n_titles++].mp3_frame = air.frames;
    memcpy(air.mp3 + air.frames++ * MP3_BYTES, mp3_frame, n_bytes);
}

/* What the pump does at a tick. */
static void tick(struct tower_router *router, uint32_t frame_samples) {
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS] = {0};
    if (tower_router_pop_frame(router, 0, frame, NULL) == 1)
        tower_title_schedule_note_pop(air.schedule, true);
    if (tower_encoder_manager_write_pcm(air.encoder, frame, tower_frame_bytes(frame_samples)) == 0)
        tower_title_schedule_note_write(air.schedule);
    /* Not faster than ffmpeg can answer. */
    (void)tower_clock_sleep_until(tower_clock_real(), fixture_real_ns() + 4 * MS);
}

/* Noise that is loud from its first sample on. */
static void make_burst(int16_t *frame, uint32_t frame_samples) {
    static uint32_t noise = 1;
    for (uint32_t i = 0; i < frame_samples; i++) {
        noise = noise * 1664525U + 1013904223U;
        frame[2 * i] = frame[2 * i + 1] = noise >> 31 ? 20000 : -20000;
    }
}

/* Where in the decoded stream each burst begins, from sample `from` on: the first loud sample. */
static size_t find_burst(const int16_t *pcm, size_t n_samples, size_t from) {
    while (from < n_samples && abs(pcm[2 * from]) < 8000)
        from++;
    return from;
}

/* Silence with bursts in it, live audio with gaps, each burst with a title: the title's MP3 frame
 * is the one that the burst is heard to begin in. */
static void judge(enum tower_encoder_kind kind, uint32_t frame_samples) {
    struct tower_router *router;
    int16_t frame[TOWER_FRAME_SAMPLES_MAX * TOWER_CHANNELS];
    struct tower_encoder_config config = {
        .clock = tower_clock_real(),
        .kind = kind,
        .frame_samples = frame_samples,
        .bitrate_bps = 128000,
        .max_restarts = 5,
        .output = put_on_air,
    };
    struct tower_encoder_stats stats;
    memset(&air, 0, sizeof air);
    assert_int_equal(tower_encoder_manager_new(&config, &air.encoder), 0);
    tower_encoder_manager_get_stats(air.encoder, &stats);
    assert_int_equal(tower_title_schedule_new(frame_samples, stats.delay_ns, &air.schedule), 0);
    assert_int_equal(
        tower_router_new(tower_clock_real(), 8, tower_frame_bytes(frame_samples), &router), 0);
    assert_int_equal(tower_encoder_manager_start(air.encoder), 0);
    uint64_t pushed = 0;
    unsigned bursts = 0, left = 0;
    for (int i = 0; i < TICKS; i++) {
        /* Live audio is there at two ticks of three, in varying amounts. */
        for (int n = i % 3; n > 0; n--) {
            memset(frame, 0, sizeof frame);
            if (pushed % 20 == 7 && bursts < BURSTS) {
                char title[32];
                (void)snprintf(title, sizeof title, "burst %u", bursts++);
                tower_title_schedule_add(air.schedule, title, strlen(title), pushed);
                left = BURST_FRAMES;
            }
            if (left > 0) {
                make_burst(frame, frame_samples);
                left--;
            }
            pushed += (uint64_t)(tower_router_push_frame(router, frame,
                                                         tower_frame_bytes(frame_samples)) == 1);
        }
        tick(router, frame_samples);
    }
    tower_encoder_manager_stop(air.encoder);
    tower_encoder_manager_get_stats(air.encoder, &stats);
    print_message("%llu by the chosen encoder, %llu by the spare\n",
                  (unsigned long long)stats.frames_primary, (unsigned long long)stats.frames_spare);
    if (kind == TOWER_ENCODER_FFMPEG)
        assert_true(stats.frames_primary > 0);
    int16_t *decoded = NULL;
    size_t n_samples = (size_t)fixture_decode(air.mp3, air.frames * MP3_BYTES, &decoded);
    assert_int_equal(n_samples, air.frames * TOWER_FRAME_SAMPLES);
    assert_int_equal(air.n_titles, BURSTS);
    size_t at = 0;
    for (size_t i = 0; i < BURSTS; i++) {
        char title[32];
        (void)snprintf(title, sizeof title, "burst %zu", i);
        assert_int_equal(air.titles[i].bytes, strlen(title));
        assert_memory_equal(air.titles[i].text, title, strlen(title));
        at = find_burst(decoded, n_samples, at);
        assert_true(at < n_samples);
        if (at / TOWER_FRAME_SAMPLES != air.titles[i].mp3_frame)
            fail_msg("burst %zu is heard at sample %zu of frame %zu, its title at frame %zu", i,
                     at % TOWER_FRAME_SAMPLES, at / TOWER_FRAME_SAMPLES, air.titles[i].mp3_frame);
        at += (BURST_FRAMES + 6) * frame_samples;
    }
    free(decoded);
    tower_encoder_manager_free(air.encoder);
    tower_title_schedule_free(air.schedule);
    tower_router_free(router);
}

static void test_title_comes_with_its_sound_from_lame(void **state) {
    (void)state;
    judge(TOWER_ENCODER_LAME, 1152);
}

static void test_title_comes_with_its_sound_in_frames_of_1024(void **state) {
    (void)state;
    judge(TOWER_ENCODER_LAME, 1024);
}

static void test_title_comes_with_its_sound_from_ffmpeg(void **state) {
    (void)state;
    judge(TOWER_ENCODER_FFMPEG, 1152);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_fallback_frames_move_it_and_live_ones_do_not),
        TEST(test_of_several_for_one_frame_the_last_holds),
        TEST(test_of_too_many_the_oldest_is_forgotten),
        TEST(test_a_frame_that_the_encoder_refused_leaves_its_place),
        TEST(test_one_that_is_out_of_sight_is_due),
        TEST(test_a_long_one_is_cut),
        TEST(test_a_title_ends_with_its_programme),
        TEST(test_a_title_ends_where_its_frames_are_withheld),
        TEST(test_a_programme_that_goes_on_gets_its_title_back),
        TEST(test_bad_settings),
        cmocka_unit_test(test_title_comes_with_its_sound_from_lame),
        cmocka_unit_test(test_title_comes_with_its_sound_in_frames_of_1024),
        cmocka_unit_test(test_title_comes_with_its_sound_from_ffmpeg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
