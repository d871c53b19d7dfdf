/* The PCM socket and the input monitor: what is seen of the producers, and dead air withheld. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "pcm_socket_fixture.h"

/* Dead air begins with the tenth frame. */
#define DEAD_FRAMES 10

#define TITLES_MAX 8

/* Read when the ingest thread has gone on. */
static struct {
    size_t n;
    struct {
        uint64_t frame;
        size_t bytes; /* 0: none */
    } told[TITLES_MAX];
} titles;

static void take_title(void *user, const char *text, size_t bytes, uint64_t pushed_count) {
    (void)user;
    if (titles.n < TITLES_MAX) {
        titles.told[titles.n].frame = pushed_count;
        titles.told[titles.n].bytes = text ? bytes : 0;
    }
    titles.n++;
}

static int setup_monitor(void **state) {
    const struct tower_input_monitor_config config = {
        .frame_samples = 1152, .dead_air_after_ns = DEAD_FRAMES * FRAME_NS, .dead_air_dbfs = -60};
    int result = setup(state);
    if (result < 0)
        return result;
    struct fixture *fixture = *state;
    memset(&titles, 0, sizeof titles);
    fixture->on_title = take_title;
    return tower_input_monitor_new(&config, &fixture->monitor);
}

/* As send_frames(), but to be heard. */
static void send_loud_frames(int fd, unsigned char number, int frames) {
    unsigned char frame[FRAME_BYTES];
    for (int i = 0; i < FRAME_BYTES; i++)
        frame[i] = (unsigned char)(i % 7 * 30);
    frame[0] = frame[FRAME_BYTES - 1] = number;
    for (int i = 0; i < frames; i++)
        assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), FRAME_BYTES);
}

static bool is_there(struct fixture *fixture, uint64_t fault) {
    return tower_input_monitor_has(fixture->monitor, (enum tower_input_fault)fault);
}

static bool is_over(struct fixture *fixture, uint64_t fault) {
    return !is_there(fixture, fault);
}

static bool has_withheld(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.withheld_frames == wanted;
}

static bool has_taken_frames(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.frames == wanted;
}

static bool has_title(struct fixture *fixture, uint64_t wanted) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats.titles == wanted;
}

/* Wait for what takes time as well. */
static void await_moving(struct fixture *fixture, condition *is_met, uint64_t wanted) {
    struct tower_clock *real = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(real) + PATIENCE_S * TOWER_NS_PER_S;
    while (!is_met(fixture, wanted)) {
        assert_true(tower_clock_now_ns(real) < limit_ns);
        tower_clock_virtual_advance(fixture->clock, FRAME_NS);
        (void)tower_clock_sleep_until(real, tower_clock_now_ns(real) + 1000000);
    }
}

static void test_disconnected_and_mute_are_told_apart(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, 0, 0);
    await_moving(fixture, is_there, TOWER_INPUT_DISCONNECTED);
    assert_true(tower_clock_now_ns(fixture->clock) >= TOWER_INPUT_DISCONNECTED_AFTER_NS);
    int fd = connect_producer(fixture);
    await_moving(fixture, is_there, TOWER_INPUT_MUTE);
    assert_true(is_over(fixture, TOWER_INPUT_DISCONNECTED));
    /* Bytes that make no frame are nothing. */
    assert_int_equal(send(fd, "xxxx", 4, MSG_NOSIGNAL), 4);
    await(fixture, has_read_bytes, 4);
    assert_true(is_there(fixture, TOWER_INPUT_MUTE));
    send_loud_frames(fd, 1, 50);
    await(fixture, is_over, TOWER_INPUT_MUTE);
    close(fd);
    await(fixture, has_producers, 0);
    await_moving(fixture, is_there, TOWER_INPUT_DISCONNECTED);
    assert_true(is_over(fixture, TOWER_INPUT_MUTE));
}

/* It waits to be read: that is our doing. */
static void test_a_full_queue_does_not_make_a_producer_mute(void **state) {
    struct fixture *fixture = *state;
    struct tower_input_stats stats;
    make(fixture, 2, 0, 0);
    int fd = connect_producer(fixture);
    send_loud_frames(fd, 1, 10);
    await(fixture, has_frames, 2);
    for (int i = 0; i < 500; i++) {
        tower_clock_virtual_advance(fixture->clock, FRAME_NS);
        (void)tower_clock_sleep_until(tower_clock_real(),
                                      tower_clock_now_ns(tower_clock_real()) + 200000);
    }
    tower_input_monitor_get_stats(fixture->monitor, &stats);
    assert_int_equal(stats.faults[TOWER_INPUT_MUTE].count, 0);
    close(fd);
}

static void test_dead_air_is_read_on_and_marked(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, 0, 0);
    int fd = connect_producer(fixture);
    send_loud_frames(fd, 1, 2);
    send_frames(fd, 2, 30);
    send_loud_frames(fd, 3, 5);
    await(fixture, has_frames, 37);
    for (int i = 0; i < 2; i++)
        pop_number(fixture, 1, i == 0 ? TOWER_FRAME_DISCONTINUITY : 0);
    for (int i = 1; i <= 30; i++)
        pop_number(fixture, 2, i < DEAD_FRAMES || i == 30 ? 0 : TOWER_FRAME_WITHHELD);
    for (int i = 0; i < 5; i++)
        pop_number(fixture, 3, 0);
    await(fixture, has_withheld, 20);
    close(fd);
}

/* A cushion is for what is heard. Dead air that waited for one would be later each time the queue
 * runs dry, and what returns behind it. */
static void test_dead_air_waits_for_no_cushion(void **state) {
    struct fixture *fixture = *state;
    unsigned char frame[FRAME_BYTES];
    make(fixture, 100, 2, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 2, DEAD_FRAMES);
    await_moving(fixture, is_there, TOWER_INPUT_DEAD_AIR);
    for (uint64_t i = 1; i <= 20; i++) {
        /* The clock stands still, and the reader always finds nothing. */
        while (tower_router_pop_frame(fixture->router, 0, frame, NULL) == 1)
            ;
        send_frames(fd, 2, 1);
        await(fixture, has_taken_frames, DEAD_FRAMES + i);
    }
    close(fd);
}

static void test_what_returns_is_played_when_its_producer_has_gone(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 2, 0, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 2, DEAD_FRAMES);
    send_loud_frames(fd, 3, 3);
    close(fd);
    for (uint64_t popped = 0; popped < DEAD_FRAMES + 3; popped++) {
        await_moving(fixture, has_frames, popped + 1);
        pop_number(fixture, popped < DEAD_FRAMES ? 2 : 3,
                   popped == 0 ? TOWER_FRAME_DISCONTINUITY : 0);
    }
    await_moving(fixture, has_producers, 0);
    assert_true(has_taken_frames(fixture, DEAD_FRAMES + 3));
}

static void test_the_next_programme_is_not_dead_air(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, 0, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 2, DEAD_FRAMES + 10);
    await(fixture, is_there, TOWER_INPUT_DEAD_AIR);
    close(fd);
    await(fixture, has_producers, 0);
    assert_true(is_over(fixture, TOWER_INPUT_DEAD_AIR));
    /* What was held is not left to delay the next. */
    assert_true(has_frames(fixture, DEAD_FRAMES + 10));
    fd = connect_producer(fixture);
    send_frames(fd, 3, 2);
    await(fixture, has_frames, DEAD_FRAMES + 12);
    pop_number(fixture, 2, TOWER_FRAME_DISCONTINUITY);
    for (int i = 2; i <= DEAD_FRAMES + 10; i++)
        pop_number(fixture, 2, i < DEAD_FRAMES ? 0 : TOWER_FRAME_WITHHELD);
    pop_number(fixture, 3, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 3, 0);
    close(fd);
}

/* And is told again once the programme is back, since the fallback has ended it. */
static void test_a_title_keeps_its_frame_though_others_are_held(void **state) {
    struct fixture *fixture = *state;
    struct tower_producer *producer;
    static int16_t loud[1152 * 2];
    make(fixture, 100, 0, 0);
    for (int i = 0; i < 1152 * 2; i++)
        loud[i] = (int16_t)(i % 7 * 1000);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    static int16_t quiet[1152 * 2 * (DEAD_FRAMES + 20)];
    assert_int_equal(tower_producer_write(producer, quiet, (size_t)1152 * (DEAD_FRAMES + 20)), 0);
    await(fixture, has_taken_frames, DEAD_FRAMES + 20);
    assert_int_equal(tower_producer_set_title(producer, "The return"), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(tower_producer_write(producer, loud, 1152), 0);
    await(fixture, has_title, 1);
    await(fixture, has_frames, DEAD_FRAMES + 25);
    assert_int_equal(titles.n, 3);
    assert_int_equal(titles.told[0].bytes, 0);
    assert_int_equal(titles.told[1].frame, DEAD_FRAMES + 20);
    assert_int_equal(titles.told[1].bytes, strlen("The return"));
    assert_int_equal(titles.told[2].frame, DEAD_FRAMES + 20 + TOWER_INPUT_RETURN_FRAMES);
    assert_int_equal(titles.told[2].bytes, strlen("The return"));
    tower_producer_close(producer, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_monitor, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_disconnected_and_mute_are_told_apart),
        TEST(test_a_full_queue_does_not_make_a_producer_mute),
        TEST(test_dead_air_is_read_on_and_marked),
        TEST(test_dead_air_waits_for_no_cushion),
        TEST(test_what_returns_is_played_when_its_producer_has_gone),
        TEST(test_the_next_programme_is_not_dead_air),
        TEST(test_a_title_keeps_its_frame_though_others_are_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
