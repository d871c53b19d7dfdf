/* test_takeover.c - who is on air when there are several, by rank and by hand; and how it changes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "takeover_fixture.h"

#include <errno.h>
#include <math.h>

/* 100 ms are five frames, rounded up. */
#define FADE_NS (TOWER_NS_PER_S / 10)
#define FADE_FRAMES 5

/* Frame `done` of a fade from `goes` to `comes`, each constant. */
static void pop_mixed(struct fixture *fixture, int done, int goes, int comes,
                      unsigned expected_flags) {
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    unsigned flags = pop(fixture, frame);
    for (int i = 0; i < SAMPLES; i++) {
        double angle = M_PI / 2 * (done * SAMPLES + i) / (FADE_FRAMES * SAMPLES);
        double value = cos(angle) * goes + sin(angle) * comes;
        if (fabs(frame[2 * i] - value) > 0.51 || frame[2 * i] != frame[2 * i + 1])
            fail_msg("sample %d of frame %d is %d and not %.1f", i, done, frame[2 * i], value);
    }
    assert_int_equal(flags, expected_flags);
}

/* ---- by rank ---- */

static void test_higher_takes_the_air_and_the_lower_goes_on_where_it_was(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    struct tower_producer *playlist = begin_playlist(fixture, 1, READ_AHEAD + 12);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 100, 3);
    await(fixture, is_shown, 2);
    /* What has a name waits in its socket: no more was read ahead. */
    assert_false(has_frames(fixture, READ_AHEAD + 1));
    pop_values(fixture, 1, READ_AHEAD);
    pop_values(fixture, 100, 3);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.takeovers, 1);
    struct tower_producer_info info = info_of(fixture, 2);
    assert_string_equal(info.identity.name, "live");
    assert_int_equal(info.rank, 0);
    assert_false(info.is_chosen);
    assert_true(info.has_taken_over);
    assert_int_equal(info_of(fixture, 1).rank, 1);
    assert_true(info_of(fixture, 1).has_audio);
    assert_true(info.since_ns >= info.connected_ns);
    tower_producer_close(live, 0);
    await(fixture, is_shown, 1);
    /* It is back, which takes nothing from anybody. */
    assert_false(info_of(fixture, 1).has_taken_over);
    pop_values(fixture, 1 + READ_AHEAD, 12);
    tower_producer_close(playlist, 0);
    await(fixture, is_gone, 1);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.partial_frames, 0);
    assert_int_equal(stats.bad_titles, 0);
}

static void test_equals_and_those_who_say_nothing_wait(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live";
    make(fixture, 50, 0, 0);
    struct tower_producer *anonymous = join(fixture, "", false, false);
    write_frames(anonymous, 1, 10);
    /* One without a name is read as far as there is room. */
    await(fixture, has_frames, 10);
    struct tower_producer *named = join(fixture, "zebra", false, false);
    write_frames(named, 100, 2);
    await(fixture, is_audible, 2);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 200, 2);
    await(fixture, is_shown, 3);
    struct tower_producer *other = join(fixture, "live", false, false);
    write_frames(other, 300, 2);
    await(fixture, is_audible, 4);
    assert_int_equal(info_of(fixture, 1).rank, 1);
    assert_int_equal(info_of(fixture, 2).rank, 1);
    assert_true(is_shown(fixture, 3));
    write_frames(anonymous, 11, 1);
    pop_values(fixture, 1, 10);
    pop_values(fixture, 200, 2);
    tower_producer_close(live, 0);
    pop_values(fixture, 300, 2);
    tower_producer_close(other, 0);
    pop_value(fixture, 11, TOWER_FRAME_DISCONTINUITY);
    tower_producer_close(anonymous, 0);
    pop_values(fixture, 100, 2);
    tower_producer_close(named, 0);
}

static void test_nobody_makes_way_for_less_than_a_frame(void **state) {
    struct fixture *fixture = *state;
    static const int16_t silence[SAMPLES * TOWER_CHANNELS];
    fixture->priorities = "live playlist";
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, 1, READ_AHEAD + 4);
    await(fixture, is_shown, 1);
    struct tower_producer *live = join(fixture, "live", true, false);
    assert_int_equal(tower_producer_write(live, silence, SAMPLES - 1), 0);
    await(fixture, is_audible, 2);
    pop_values(fixture, 1, READ_AHEAD + 1);
    assert_true(is_shown(fixture, 1));
    assert_int_equal(tower_producer_write(live, silence, 1), 0);
    await(fixture, is_shown, 2);
    tower_producer_close(live, 0);
    tower_producer_close(playlist, 0);
}

static void test_who_was_gone_a_moment_ago_does_not_take_the_air(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live playlist";
    fixture->settle_ns = 3 * TOWER_NS_PER_S;
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, 1, READ_AHEAD + 12);
    await(fixture, is_shown, 1);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 100, 1);
    /* The first one is at once. */
    await(fixture, is_shown, 2);
    tower_producer_close(live, 0);
    pop_values(fixture, 1, READ_AHEAD);
    pop_value(fixture, 100, TOWER_FRAME_DISCONTINUITY);
    await(fixture, is_gone, 2);
    await(fixture, is_shown, 1);
    int64_t lost_ns = info_of(fixture, 1).since_ns;
    live = join(fixture, "live", false, false);
    write_frames(live, 200, 2);
    await(fixture, is_audible, 3);
    int64_t left_ns = lost_ns + 3 * TOWER_NS_PER_S - tower_clock_now_ns(fixture->clock);
    assert_true(left_ns > TOWER_NS_PER_S);
    tower_clock_virtual_advance(fixture->clock, left_ns - 1);
    /* It has looked around since. */
    write_frames(live, 202, 1);
    (void)poll(NULL, 0, 20);
    assert_true(is_shown(fixture, 1));
    tower_clock_virtual_advance(fixture->clock, 1);
    await(fixture, is_shown, 3);
    assert_int_equal(info_of(fixture, 3).since_ns, lost_ns + 3 * TOWER_NS_PER_S);
    tower_producer_close(live, 0);
    tower_producer_close(playlist, 0);
}

static void test_coming_on_air_where_nobody_is_never_waits(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live playlist";
    fixture->settle_ns = 3 * TOWER_NS_PER_S;
    make(fixture, 50, 0, 0);
    for (uint64_t id = 1; id <= 3; id++) {
        struct tower_producer *live = join(fixture, "live", false, false);
        write_frames(live, 100, 1);
        await(fixture, has_frames, id);
        tower_producer_close(live, 0);
        await(fixture, is_gone, id);
    }
}

static void test_a_mute_one_makes_way_and_has_to_settle(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live playlist";
    fixture->settle_ns = 3 * TOWER_NS_PER_S;
    make(fixture, 50, 0, TOWER_NS_PER_S);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, 1, READ_AHEAD + 12);
    await(fixture, is_shown, 1);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 100, 1);
    await(fixture, is_shown, 2);
    pop_values(fixture, 1, READ_AHEAD);
    pop_value(fixture, 100, TOWER_FRAME_DISCONTINUITY);
    tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S);
    await(fixture, is_shown, 1);
    write_frames(live, 101, 1);
    await(fixture, is_audible, 2);
    assert_true(is_shown(fixture, 1));
    pop_value(fixture, 1 + READ_AHEAD, TOWER_FRAME_DISCONTINUITY);
    tower_clock_virtual_advance(fixture->clock, 3 * TOWER_NS_PER_S);
    await(fixture, is_shown, 2);
    tower_producer_close(live, 0);
    tower_producer_close(playlist, 0);
}

/* ---- live ones that wait ---- */

static void test_what_a_live_one_sends_while_it_waits_is_thrown_away(void **state) {
    struct fixture *fixture = *state;
    uint32_t numbers[2 * SAMPLES];
    make(fixture, 50, 0, 0);
    struct tower_producer *first = join(fixture, "", false, false);
    write_frames(first, 1, 1);
    await(fixture, has_frames, 1);
    struct tower_producer *live = join(fixture, "live", true, false);
    write_frames(live, 50, 10);
    await(fixture, has_thrown, 10 * (uint64_t)FRAME_BYTES);
    /* It stopped in the middle of a sample, whose other half it sends when it is on air. */
    assert_int_equal(send(tower_producer_fd(live), "xx", 2, MSG_NOSIGNAL), 2);
    await(fixture, has_thrown, 10 * (uint64_t)FRAME_BYTES + 2);
    assert_int_equal(info_of(fixture, 2).thrown_bytes, 10 * FRAME_BYTES + 2);
    assert_true(info_of(fixture, 2).identity.is_live);
    /* It sends, though nothing of it waits. */
    assert_true(info_of(fixture, 2).has_audio);
    tower_producer_close(first, 0);
    await(fixture, is_shown, 2);
    assert_int_equal(send(tower_producer_fd(live), "xx", 2, MSG_NOSIGNAL), 2);
    for (uint32_t i = 0; i < SAMPLES; i++)
        numbers[i] = 0x10000 * i + 7;
    assert_int_equal(tower_producer_write(live, (const int16_t *)numbers, SAMPLES), 0);
    pop_value(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    uint32_t frame[SAMPLES];
    assert_int_equal(pop(fixture, (int16_t *)frame), TOWER_FRAME_DISCONTINUITY);
    assert_memory_equal(frame, numbers, sizeof frame);
    tower_producer_close(live, 0);
}

/* What was read of one without a name before goes on air before it, and takes its time. */
static void test_what_a_live_one_sends_before_there_is_room_for_it_is_thrown_away(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live";
    make(fixture, 50, 0, 0);
    struct tower_producer *first = join(fixture, "", false, false);
    write_frames(first, 1, 40);
    await(fixture, has_frames, 40);
    struct tower_producer *live = join(fixture, "live", true, false);
    write_frames(live, 100, 10);
    await(fixture, is_shown, 2);
    await(fixture, has_thrown, 10 * (uint64_t)FRAME_BYTES);
    pop_values(fixture, 1, 40);
    write_frames(live, 110, 3);
    pop_values(fixture, 110, 3);
    assert_int_equal(info_of(fixture, 2).thrown_bytes, 10 * FRAME_BYTES);
    tower_producer_close(live, 0);
    tower_producer_close(first, 0);
}

static void test_one_that_is_not_live_waits_unread(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, 0);
    struct tower_producer *first = join(fixture, "", false, false);
    write_frames(first, 1, 1);
    await(fixture, has_frames, 1);
    struct tower_producer *file = join(fixture, "file", false, false);
    write_frames(file, 50, 10);
    await(fixture, is_audible, 2);
    assert_int_equal(info_of(fixture, 2).bytes, 0);
    tower_producer_close(first, 0);
    pop_value(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_values(fixture, 50, 10);
    tower_producer_close(file, 0);
}

/* ---- by hand ---- */

static void test_by_hand_whatever_the_ranks(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    fixture->priorities = "live playlist";
    make(fixture, 50, 0, 0);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "live"), -ENOENT);
    struct tower_producer *live = join(fixture, "live", false, false);
    /* It is read ahead of twice, and has something to come back with. */
    write_frames(live, 100, 2 * READ_AHEAD + 6);
    await(fixture, is_shown, 1);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    await(fixture, has_producers, 2);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#2"), -EAGAIN);
    write_frames(playlist, 1, READ_AHEAD + 12);
    await(fixture, is_audible, 2);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#3"), -ENOENT);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#"), -ENOENT);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#2x"), -ENOENT);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "playlist"), 0);
    await(fixture, is_shown, 2);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_string_equal(stats.chosen, "playlist");
    assert_true(info_of(fixture, 2).is_chosen);
    assert_int_equal(stats.takeovers, 1);
    /* It stays, though another of a higher rank has audio. */
    pop_values(fixture, 100, READ_AHEAD);
    pop_values(fixture, 1, 3);
    assert_true(is_shown(fixture, 2));
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, ""), 0);
    await(fixture, is_shown, 1);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_string_equal(stats.chosen, "");
    /* Until it goes. */
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#2"), 0);
    await(fixture, is_shown, 2);
    tower_producer_close(playlist, 0);
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    for (int i = 0; i < 25 && !is_gone(fixture, 2); i++)
        (void)pop(fixture, frame);
    await(fixture, is_shown, 1);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_string_equal(stats.chosen, "");
    tower_producer_close(live, 0);
}

static void test_one_without_a_name_is_chosen_by_its_number(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    fixture->priorities = "live";
    make(fixture, 50, 0, 0);
    struct tower_producer *live = join(fixture, "live", true, false);
    write_frames(live, 100, 1);
    await(fixture, is_shown, 1);
    struct tower_producer *anonymous = join(fixture, "", false, false);
    write_frames(anonymous, 1, 2);
    await(fixture, is_audible, 2);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "#2"), 0);
    await(fixture, is_shown, 2);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_string_equal(stats.chosen, "#2");
    tower_producer_close(anonymous, 0);
    tower_producer_close(live, 0);
}

/* ---- the fade ---- */

static void test_one_is_faded_into_the_other_and_none_loses_a_frame(void **state) {
    struct fixture *fixture = *state;
    fixture->fade_ns = FADE_NS;
    struct tower_producer *playlist = begin_playlist(fixture, 1001, 30);
    struct tower_producer *live = join(fixture, "live", false, false);
    for (int i = 0; i < 12; i++)
        write_frame(live, -20000);
    await(fixture, is_shown, 2);
    pop_values(fixture, 1001, READ_AHEAD);
    for (int i = 0; i < FADE_FRAMES; i++)
        pop_mixed(fixture, i, 1001 + READ_AHEAD + i, -20000, 0);
    for (int i = FADE_FRAMES; i < 12; i++)
        pop_value(fixture, -20000, 0);
    tower_producer_close(live, 0);
    /* The next frame of the other, and it is faded in. */
    int16_t next = 1001 + READ_AHEAD + FADE_FRAMES;
    for (int i = 0; i < FADE_FRAMES; i++)
        pop_mixed(fixture, i, 0, next + i, i == 0 ? TOWER_FRAME_DISCONTINUITY : 0);
    for (int i = next + FADE_FRAMES; i < 1001 + 30; i++)
        pop_value(fixture, (int16_t)i, 0);
    tower_producer_close(playlist, 0);
}

static void test_one_that_goes_within_its_fade_gives_back_what_it_took(void **state) {
    struct fixture *fixture = *state;
    fixture->fade_ns = FADE_NS;
    struct tower_producer *playlist = begin_playlist(fixture, 1001, READ_AHEAD + 12);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frame(live, 3000);
    write_frame(live, 3000);
    await(fixture, is_shown, 2);
    tower_producer_close(live, 0);
    pop_values(fixture, 1001, READ_AHEAD);
    int16_t next = 1001 + READ_AHEAD;
    pop_mixed(fixture, 0, next, 3000, 0);
    pop_mixed(fixture, 1, next + 1, 3000, 0);
    /* From the gain that it had come down to. */
    pop_mixed(fixture, FADE_FRAMES - 2, 0, next + 2, TOWER_FRAME_DISCONTINUITY);
    pop_mixed(fixture, FADE_FRAMES - 1, 0, next + 3, 0);
    for (int i = next + 4; i < 1001 + 20; i++)
        pop_value(fixture, (int16_t)i, 0);
    tower_producer_close(playlist, 0);
}

static void test_one_that_ends_while_it_is_faded_out_leaves_the_other(void **state) {
    struct fixture *fixture = *state;
    fixture->fade_ns = FADE_NS;
    struct tower_producer *playlist = begin_playlist(fixture, 1001, READ_AHEAD + 2);
    struct tower_producer *live = join(fixture, "live", false, false);
    for (int i = 0; i < 10; i++)
        write_frame(live, 3000);
    await(fixture, is_shown, 2);
    tower_producer_close(playlist, 0);
    pop_values(fixture, 1001, READ_AHEAD);
    pop_mixed(fixture, 0, 1001 + READ_AHEAD, 3000, 0);
    pop_mixed(fixture, 1, 1001 + READ_AHEAD + 1, 3000, 0);
    pop_mixed(fixture, 2, 0, 3000, TOWER_FRAME_DISCONTINUITY);
    pop_mixed(fixture, 3, 0, 3000, 0);
    pop_mixed(fixture, 4, 0, 3000, 0);
    for (int i = 5; i < 10; i++)
        pop_value(fixture, 3000, 0);
    tower_producer_close(live, 0);
}

/* The one that comes is late in the middle of the fade: the air goes on without it, and nothing of
 * the other is lost. */
static void test_a_fade_goes_on_without_one_that_is_late(void **state) {
    struct fixture *fixture = *state;
    fixture->fade_ns = FADE_NS;
    struct tower_producer *playlist = begin_playlist(fixture, 1001, READ_AHEAD + 12);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frame(live, 3000);
    await(fixture, is_shown, 2);
    pop_values(fixture, 1001, READ_AHEAD);
    int16_t next = 1001 + READ_AHEAD;
    pop_mixed(fixture, 0, next, 3000, 0);
    pop_mixed(fixture, 1, next + 1, 0, TOWER_FRAME_DISCONTINUITY);
    for (int i = 2; i < FADE_FRAMES; i++)
        pop_mixed(fixture, i, next + i, 0, 0);
    write_frame(live, 3001);
    pop_value(fixture, 3001, TOWER_FRAME_DISCONTINUITY);
    tower_producer_close(live, 0);
    for (int i = 0; i < FADE_FRAMES; i++)
        pop_mixed(fixture, i, 0, next + FADE_FRAMES + i, i == 0 ? TOWER_FRAME_DISCONTINUITY : 0);
    tower_producer_close(playlist, 0);
}

static uint64_t queued_frames(struct fixture *fixture) {
    struct tower_router_stats stats;
    tower_router_get_stats(fixture->router, &stats);
    return stats.pushed_count;
}

/* Each has sent what it was to by now, and no more than one frame is queued. */
static void test_two_that_are_paced_wait_for_each_other_within_a_tick(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live playlist";
    fixture->fade_ns = FADE_NS;
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", true, false);
    write_frames(playlist, 1000, 2);
    await(fixture, has_frames, 2);
    pop_value(fixture, 1000, TOWER_FRAME_DISCONTINUITY);
    struct tower_producer *live = join(fixture, "live", true, false);
    write_frame(live, 3000);
    await(fixture, is_shown, 2);
    for (int i = 0; i < FADE_FRAMES; i++) {
        (void)poll(NULL, 0, 10);
        assert_int_equal(queued_frames(fixture), 2 + i);
        write_frame(i % 2 ? live : playlist, i % 2 ? 3000 : 2000);
        await(fixture, has_frames, 3 + (uint64_t)i);
        if (i == 0)
            pop_value(fixture, 1001, 0);
        else
            pop_mixed(fixture, i - 1, 2000, 3000, 0);
        /* The other one is first the next time. */
        write_frame(i % 2 ? live : playlist, i % 2 ? 3000 : 2000);
    }
    pop_mixed(fixture, FADE_FRAMES - 1, 2000, 3000, 0);
    tower_producer_close(live, 0);
    tower_producer_close(playlist, 0);
}

static void test_what_follows_one_that_ended_begins_at_once(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live playlist";
    fixture->fade_ns = FADE_NS;
    make(fixture, 50, 0, 0);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 1, 3);
    await(fixture, has_frames, 3);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, 101, 3);
    await(fixture, is_audible, 2);
    tower_producer_close(live, 0);
    pop_values(fixture, 1, 3);
    pop_values(fixture, 101, 3);
    tower_producer_close(playlist, 0);
}

/* ---- titles ---- */

static struct {
    unsigned n;
    struct {
        char text[64];
        uint64_t frame;
    } titles[16];
} told;

static void note_title(void *user, const char *text, size_t bytes, uint64_t pushed_count) {
    (void)user;
    if (told.n >= 16)
        return;
    (void)snprintf(told.titles[told.n].text, sizeof told.titles[0].text, "%.*s", (int)bytes,
                   text ? text : "-");
    told.titles[told.n++].frame = pushed_count;
}

static void test_a_title_holds_from_the_first_frame_of_the_fade(void **state) {
    struct fixture *fixture = *state;
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    memset(&told, 0, sizeof told);
    fixture->on_title = note_title;
    fixture->priorities = "live playlist";
    fixture->fade_ns = FADE_NS;
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    assert_int_equal(tower_producer_set_title(playlist, "A"), 0);
    write_frames(playlist, 1, READ_AHEAD + 2);
    /* In a frame that is faded out. */
    assert_int_equal(tower_producer_set_title(playlist, "B"), 0);
    write_frames(playlist, 1, READ_AHEAD + 12);
    await(fixture, has_frames, READ_AHEAD);
    struct tower_producer *live = join(fixture, "live", false, false);
    assert_int_equal(tower_producer_set_title(live, "News"), 0);
    write_frames(live, 100, 7);
    await(fixture, is_shown, 2);
    for (int i = 0; i < READ_AHEAD + 7; i++)
        (void)pop(fixture, frame);
    tower_producer_close(live, 0);
    for (int i = 0; i < 10; i++)
        (void)pop(fixture, frame);
    tower_pcm_socket_stop(fixture->socket);
    assert_int_equal(told.n, 3);
    assert_string_equal(told.titles[0].text, "A");
    assert_int_equal(told.titles[0].frame, 0);
    assert_string_equal(told.titles[1].text, "News");
    assert_int_equal(told.titles[1].frame, READ_AHEAD);
    assert_string_equal(told.titles[2].text, "B");
    assert_int_equal(told.titles[2].frame, READ_AHEAD + 7);
    tower_producer_close(playlist, 0);
}

static void test_a_title_goes_back_to_a_source_client(void **state) {
    struct fixture *fixture = *state;
    uint8_t bytes[64];
    make(fixture, 50, 0, 0);
    struct tower_producer *source = join(fixture, "live", true, true);
    struct tower_producer *other = join(fixture, "other", true, false);
    write_frames(source, 1, 1);
    write_frames(other, 1, 1);
    await(fixture, is_audible, 1);
    await(fixture, is_audible, 2);
    assert_true(info_of(fixture, 1).identity.is_source);
    assert_int_equal(tower_pcm_socket_send_title(fixture->socket, "other", "x"), -ENOENT);
    assert_int_equal(tower_pcm_socket_send_title(fixture->socket, "nobody", "x"), -ENOENT);
    assert_int_equal(tower_pcm_socket_send_title(fixture->socket, "live", "\xff"), -EINVAL);
    assert_int_equal(tower_pcm_socket_send_title(fixture->socket, "live", "Bj\xc3\xb6rk"), 0);
    struct pollfd readable = {.fd = tower_producer_fd(source), .events = POLLIN};
    assert_int_equal(poll(&readable, 1, PATIENCE_S * 1000), 1);
    assert_int_equal(recv(tower_producer_fd(source), bytes, sizeof bytes, 0), 8);
    assert_memory_equal(bytes,
                        "\x06\x00"
                        "Bj\xc3\xb6rk",
                        8);
    /* It does not read: then it is told no more, and nobody waits for it. */
    char text[4000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    int error = 0;
    for (int i = 0; i < 10000 && error == 0; i++)
        error = tower_pcm_socket_send_title(fixture->socket, "live", text);
    assert_int_equal(error, -EAGAIN);
    tower_producer_close(source, 0);
    await(fixture, is_gone, 1);
    assert_int_equal(tower_pcm_socket_send_title(fixture->socket, "live", "x"), -ENOENT);
    tower_producer_close(other, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_higher_takes_the_air_and_the_lower_goes_on_where_it_was),
        TEST(test_equals_and_those_who_say_nothing_wait),
        TEST(test_nobody_makes_way_for_less_than_a_frame),
        TEST(test_who_was_gone_a_moment_ago_does_not_take_the_air),
        TEST(test_coming_on_air_where_nobody_is_never_waits),
        TEST(test_a_mute_one_makes_way_and_has_to_settle),
        TEST(test_what_a_live_one_sends_while_it_waits_is_thrown_away),
        TEST(test_what_a_live_one_sends_before_there_is_room_for_it_is_thrown_away),
        TEST(test_one_that_is_not_live_waits_unread),
        TEST(test_by_hand_whatever_the_ranks),
        TEST(test_one_without_a_name_is_chosen_by_its_number),
        TEST(test_one_is_faded_into_the_other_and_none_loses_a_frame),
        TEST(test_one_that_goes_within_its_fade_gives_back_what_it_took),
        TEST(test_one_that_ends_while_it_is_faded_out_leaves_the_other),
        TEST(test_a_fade_goes_on_without_one_that_is_late),
        TEST(test_two_that_are_paced_wait_for_each_other_within_a_tick),
        TEST(test_what_follows_one_that_ended_begins_at_once),
        TEST(test_a_title_holds_from_the_first_frame_of_the_fade),
        TEST(test_a_title_goes_back_to_a_source_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
