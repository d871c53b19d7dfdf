/* test_ffmpeg_watch.c - what is decided about the ffmpeg child: by itself, on any course of events.
 * With real children: test_ffmpeg_supervisor.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/encoder/ffmpeg_watch.h"
#include "tower/format.h"

#include <errno.h>

#define MS INT64_C(1000000)
#define TICK_NS (24 * MS)
#define MAX_RESTARTS 2
#define DEPTH 5

static const int64_t backoff_ns[] = {1000 * MS, 3000 * MS, 2000 * MS};
#define BACKOFFS (sizeof backoff_ns / sizeof backoff_ns[0])

/* A machine, and the world around it. Copied at each fork of the road. */
struct course {
    struct tower_ffmpeg_watch watch;
    int64_t now_ns;
    uint64_t next_block;
    bool has_backlog;
};

static void course_begin(struct course *course) {
    *course = (struct course){.now_ns = 5000 * MS};
    assert_int_equal(tower_ffmpeg_watch_init(&course->watch, backoff_ns, BACKOFFS, MAX_RESTARTS),
                     0);
    tower_ffmpeg_watch_begin(&course->watch, course->now_ns);
}

static enum tower_ffmpeg_state state_of(const struct course *course) {
    return course->watch.stats.state;
}

/* A failure, and what must follow from it. */
static void give_up(struct course *course, enum tower_ffmpeg_failure failure) {
    uint32_t row = course->watch.stats.failures_in_row + 1;
    int64_t wait_ns = tower_ffmpeg_watch_failed(&course->watch, failure, course->now_ns);
    const struct tower_ffmpeg_stats *stats = &course->watch.stats;
    bool is_degraded = row > MAX_RESTARTS;
    assert_int_equal(stats->state, TOWER_FFMPEG_WAITING);
    assert_int_equal(stats->failures_in_row, row);
    assert_int_equal(stats->is_degraded, is_degraded);
    assert_int_equal(wait_ns, backoff_ns[is_degraded || row > BACKOFFS ? BACKOFFS - 1 : row - 1]);
    assert_int_equal(tower_ffmpeg_watch_deadline_ns(&course->watch, true),
                     course->now_ns + wait_ns);
    course->now_ns += wait_ns - 1;
    assert_false(tower_ffmpeg_watch_is_start_due(&course->watch, course->now_ns));
    course->now_ns++;
    assert_true(tower_ffmpeg_watch_is_start_due(&course->watch, course->now_ns));
}

static void judge(struct course *course) {
    enum tower_ffmpeg_failure failure;
    if (tower_ffmpeg_watch_has_child(&course->watch) &&
        tower_ffmpeg_watch_judge(&course->watch, course->now_ns, course->has_backlog, &failure))
        give_up(course, failure);
}

static void feed(struct course *course) {
    if (tower_ffmpeg_watch_has_child(&course->watch) && state_of(course) != TOWER_FFMPEG_CLOSING)
        tower_ffmpeg_watch_fed(&course->watch, course->next_block, course->now_ns);
    course->next_block++;
}

static void answer(struct course *course) {
    uint64_t block, n;
    if (!tower_ffmpeg_watch_take_frame(&course->watch, course->now_ns, &block, &n))
        tower_ffmpeg_watch_closing(&course->watch, course->now_ns);
}

static void start(struct course *course, pid_t pid) {
    tower_ffmpeg_watch_try(&course->watch);
    if (pid > 0)
        tower_ffmpeg_watch_started(&course->watch, pid);
    else
        give_up(course, TOWER_FFMPEG_EXIT);
}

enum event {
    FEED_A_LITTLE,
    FEED_A_SECOND, /* without an answer */
    ANSWER,
    CLOSE_PIPE,
    END,
    GARBAGE,
    LOOK_AT_THE_DEADLINE,
    PASS_A_MINUTE,
    EVENTS
};

/* Where there is no child one is started, or cannot be. */
static void happen(struct course *course, enum event event) {
    if (state_of(course) == TOWER_FFMPEG_WAITING) {
        if (course->now_ns < course->watch.start_at_ns)
            course->now_ns = course->watch.start_at_ns;
        start(course, event == END ? 0 : 4711);
        return;
    }
    switch (event) {
    case FEED_A_LITTLE:
        feed(course);
        feed(course);
        break;
    case FEED_A_SECOND:
        course->has_backlog = !course->has_backlog;
        for (int i = 0; i < 42; i++) {
            feed(course);
            course->now_ns += TICK_NS;
        }
        break;
    case ANSWER:
        answer(course);
        break;
    case CLOSE_PIPE:
        tower_ffmpeg_watch_closing(&course->watch, course->now_ns);
        break;
    case END:
        give_up(course, TOWER_FFMPEG_EXIT);
        return;
    case GARBAGE:
        give_up(course, TOWER_FFMPEG_GARBAGE);
        return;
    case LOOK_AT_THE_DEADLINE: {
        int64_t deadline_ns = tower_ffmpeg_watch_deadline_ns(&course->watch, true);
        if (deadline_ns == INT64_MAX)
            break;
        /* What is due at the deadline happens at the deadline: who waits for it does not spin. */
        if (deadline_ns > course->now_ns)
            course->now_ns = deadline_ns;
        judge(course);
        assert_true(tower_ffmpeg_watch_deadline_ns(&course->watch, true) > course->now_ns ||
                    state_of(course) == TOWER_FFMPEG_WAITING);
        return;
    }
    case PASS_A_MINUTE:
    case EVENTS:
        course->now_ns += TOWER_FFMPEG_SETTLED_NS;
        break;
    }
    judge(course);
}

/* A tick of a world in order. Who was started in another is not asked. */
static void tick(struct course *course, bool *is_old) {
    if (tower_ffmpeg_watch_is_start_due(&course->watch, course->now_ns)) {
        start(course, 4712);
        *is_old = false;
    }
    feed(course);
    if (!*is_old && state_of(course) >= TOWER_FFMPEG_STARTING &&
        course->watch.child_frames + 1 < course->watch.fed_blocks)
        answer(course);
    judge(course);
    course->now_ns += TICK_NS;
}

/* A world in order from here on: the machine must find back, and forget what was. */
static void find_back(struct course course) {
    course.has_backlog = false;
    bool is_old = tower_ffmpeg_watch_has_child(&course.watch);
    int64_t limit_ns =
        course.now_ns + TOWER_FFMPEG_START_TIMEOUT_NS + backoff_ns[1] + TOWER_NS_PER_S;
    while (course.now_ns < limit_ns)
        tick(&course, &is_old);
    assert_int_equal(state_of(&course), TOWER_FFMPEG_RUNNING);
    course.now_ns += TOWER_FFMPEG_SETTLED_NS;
    tick(&course, &is_old);
    assert_int_equal(state_of(&course), TOWER_FFMPEG_RUNNING);
    assert_int_equal(course.watch.stats.failures_in_row, 0);
    assert_false(course.watch.stats.is_degraded);
}

static uint64_t courses;

static void explore(const struct course *from, int depth) {
    courses++;
    find_back(*from);
    if (depth == 0)
        return;
    for (int event = 0; event < EVENTS; event++) {
        struct course next = *from;
        happen(&next, (enum event)event);
        explore(&next, depth - 1);
    }
}

/* No state is entered that cannot be left: after every course of up to DEPTH events. */
static void test_finds_back_to_the_air_from_everywhere(void **state) {
    (void)state;
    struct course course;
    course_begin(&course);
    explore(&course, DEPTH);
    print_message("%llu courses of events\n", (unsigned long long)courses);
}

static void test_refuses_bad_backoffs(void **state) {
    (void)state;
    struct tower_ffmpeg_watch watch;
    const int64_t negative[] = {0, -1};
    const int64_t many[TOWER_ENCODER_BACKOFF_MAX + 1] = {0};
    assert_int_equal(tower_ffmpeg_watch_init(&watch, backoff_ns, 0, 1), -EINVAL);
    assert_int_equal(tower_ffmpeg_watch_init(&watch, negative, 2, 1), -EINVAL);
    assert_int_equal(tower_ffmpeg_watch_init(&watch, many, TOWER_ENCODER_BACKOFF_MAX + 1, 1),
                     -EINVAL);
    assert_int_equal(tower_ffmpeg_watch_init(&watch, many, TOWER_ENCODER_BACKOFF_MAX, 1), 0);
}

static void test_nothing_is_due_once_it_has_ended(void **state) {
    (void)state;
    struct course course;
    course_begin(&course);
    start(&course, 4711);
    tower_ffmpeg_watch_end(&course.watch);
    assert_false(tower_ffmpeg_watch_has_child(&course.watch));
    assert_false(tower_ffmpeg_watch_is_start_due(&course.watch, INT64_MAX));
    assert_int_equal(tower_ffmpeg_watch_deadline_ns(&course.watch, true), INT64_MAX);
    assert_int_equal(course.watch.stats.pid, 0);
}

/* Who wakes up too late has neither read nor written for as long: the child may have waited for
 * that, and gets the time of a stall. One that uses it for nothing is given up. */
static void test_is_not_blamed_for_our_waking_up_late(void **state) {
    (void)state;
    static const struct {
        bool is_running;
        int64_t limit_ns;
    } cases[] = {{false, TOWER_FFMPEG_START_TIMEOUT_NS}, {true, TOWER_FFMPEG_STALL_TIMEOUT_NS}};
    for (size_t i = 0; i < 2; i++) {
        struct course course;
        enum tower_ffmpeg_failure failure;
        course_begin(&course);
        start(&course, 4711);
        for (int n = 0; n < 30; n++)
            feed(&course);
        if (cases[i].is_running) {
            answer(&course);
            for (int n = 0; n < 30; n++)
                feed(&course);
        }
        course.now_ns += cases[i].limit_ns + 1;
        assert_false(tower_ffmpeg_watch_judge(&course.watch, course.now_ns, true, &failure));
        int64_t deadline_ns = tower_ffmpeg_watch_deadline_ns(&course.watch, true);
        assert_true(deadline_ns > course.now_ns);
        assert_true(deadline_ns <= course.now_ns + TOWER_FFMPEG_STALL_TIMEOUT_NS);
        struct course idle = course;
        idle.now_ns = deadline_ns;
        assert_true(tower_ffmpeg_watch_judge(&idle.watch, idle.now_ns, true, &failure));
        assert_int_equal(failure, TOWER_FFMPEG_REFUSAL);
        answer(&course);
        course.now_ns = deadline_ns;
        assert_false(tower_ffmpeg_watch_judge(&course.watch, course.now_ns, true, &failure));
        assert_int_equal(state_of(&course), TOWER_FFMPEG_RUNNING);
    }
}

/* A pump that stood still makes PCM scarce: the child is given up when it owes enough of it, and no
 * later. */
static void test_is_blamed_as_soon_as_it_owes_enough(void **state) {
    (void)state;
    struct course course;
    enum tower_ffmpeg_failure failure;
    course_begin(&course);
    start(&course, 4711);
    feed(&course);
    feed(&course);
    answer(&course);
    feed(&course);
    course.now_ns += TOWER_FFMPEG_STALL_TIMEOUT_NS + 10 * TICK_NS;
    assert_false(tower_ffmpeg_watch_judge(&course.watch, course.now_ns, true, &failure));
    for (int owed = 2; owed < 21; owed++) {
        course.now_ns += TICK_NS;
        feed(&course);
        assert_false(tower_ffmpeg_watch_judge(&course.watch, course.now_ns, true, &failure));
    }
    course.now_ns += TICK_NS;
    feed(&course);
    assert_true(tower_ffmpeg_watch_judge(&course.watch, course.now_ns, true, &failure));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_bad_backoffs),
        cmocka_unit_test(test_nothing_is_due_once_it_has_ended),
        cmocka_unit_test(test_is_not_blamed_for_our_waking_up_late),
        cmocka_unit_test(test_is_blamed_as_soon_as_it_owes_enough),
        cmocka_unit_test(test_finds_back_to_the_air_from_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
