/* test_takeover_limits.c - what those who wait may not do to the one on air, nor to each other. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "takeover_fixture.h"

#include <errno.h>
#include <poll.h>

/* Others that go meanwhile are nobody to be waited for. */
static void test_only_who_went_has_to_settle(void **state) {
    struct fixture *fixture = *state;
    fixture->priorities = "live";
    fixture->settle_ns = 3 * TOWER_NS_PER_S;
    make(fixture, 50, 0, 0);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 1, 1);
    await(fixture, is_shown, 1);
    struct tower_producer *first = join(fixture, "jingle", false, false);
    write_frames(first, 1, 1);
    await(fixture, is_audible, 2);
    tower_producer_close(live, 0);
    await(fixture, is_shown, 2);
    tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
    struct tower_producer *second = join(fixture, "jingle", false, false);
    write_frames(second, 1, 1);
    await(fixture, is_audible, 3);
    tower_producer_close(first, 0);
    await(fixture, is_shown, 3);
    tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
    live = join(fixture, "live", false, false);
    write_frames(live, 100, 2);
    await(fixture, is_shown, 4);
    tower_producer_close(live, 0);
    tower_producer_close(second, 0);
}

/* It is of now, and now it is gone: its place is somebody else's. */
static void test_a_live_one_that_goes_with_less_than_a_frame_is_gone(void **state) {
    struct fixture *fixture = *state;
    static const int16_t silence[SAMPLES * TOWER_CHANNELS];
    fixture->priorities = "live playlist";
    make(fixture, 50, 0, 0);
    struct tower_producer *playlist = join(fixture, "playlist", false, false);
    write_frames(playlist, 1, 3);
    await(fixture, is_shown, 1);
    struct tower_producer *live = join(fixture, "live", true, false);
    assert_int_equal(tower_producer_write(live, silence, SAMPLES - 1), 0);
    await(fixture, is_audible, 2);
    tower_producer_close(live, 0);
    await(fixture, is_gone, 2);
    assert_true(is_shown(fixture, 1));
    tower_producer_close(playlist, 0);
}

/* It comes back, falls mute while it is faded in, and sends nothing that would be an event. */
static void test_a_choice_waits_for_no_fade_that_has_come_to_a_stop(void **state) {
    struct fixture *fixture = *state;
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    fixture->fade_ns = TOWER_NS_PER_S / 10;
    struct tower_producer *playlist = begin_playlist(fixture, 1, READ_AHEAD + 6);
    struct tower_producer *live = join(fixture, "live", false, false);
    write_frames(live, 100, 6);
    await(fixture, is_shown, 2);
    for (int i = 0; i < READ_AHEAD + 5; i++)
        (void)pop(fixture, frame);
    tower_producer_close(live, 0);
    await(fixture, is_shown, 1);
    struct tower_producer *other = join(fixture, "other", false, false);
    write_frames(other, 200, 3);
    await(fixture, is_audible, 3);
    assert_int_equal(tower_pcm_socket_choose(fixture->socket, "other"), 0);
    (void)poll(NULL, 0, 20);
    tower_clock_virtual_advance(fixture->clock, 2 * TOWER_NS_PER_S);
    await(fixture, is_shown, 3);
    tower_producer_close(other, 0);
    tower_producer_close(playlist, 0);
}

/* Send until nothing has gone for `patience_ms`, or it is `limit_bytes`. */
static size_t flood(int fd, size_t limit_bytes, int patience_ms) {
    static const uint8_t bytes[65536];
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    size_t sent_bytes = 0;
    while (sent_bytes < limit_bytes && poll(&writable, 1, patience_ms) == 1) {
        ssize_t n = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            assert_true(errno == EAGAIN);
        else
            sent_bytes += (size_t)n;
    }
    return sent_bytes;
}

/* The thread that reads it is a real-time one. */
static void test_a_live_one_that_waits_and_floods_is_read_so_much_a_frame(void **state) {
    struct fixture *fixture = *state;
    const size_t limit_bytes = 64U << 20;
    make(fixture, 50, 0, 0);
    struct tower_producer *first = join(fixture, "", false, false);
    write_frames(first, 1, 1);
    await(fixture, has_frames, 1);
    struct tower_producer *live = join(fixture, "live", true, false);
    write_frames(live, 1, 1);
    await(fixture, has_thrown, FRAME_BYTES);
    assert_true(flood(tower_producer_fd(live), limit_bytes, 200) < limit_bytes);
    tower_clock_virtual_advance(fixture->clock, FRAME_NS);
    assert_true(flood(tower_producer_fd(live), 1, PATIENCE_S * 1000) > 0);
    tower_producer_close(live, 0);
    tower_producer_close(first, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_only_who_went_has_to_settle),
        TEST(test_a_live_one_that_goes_with_less_than_a_frame_is_gone),
        TEST(test_a_choice_waits_for_no_fade_that_has_come_to_a_stop),
        TEST(test_a_live_one_that_waits_and_floods_is_read_so_much_a_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
