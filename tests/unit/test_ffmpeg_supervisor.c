/* test_ffmpeg_supervisor.c - the ffmpeg child: each way it can fail, on a virtual clock, without a
 * thread. What the child does is waited for; what time does is moved by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/encoder/ffmpeg_supervisor.h"
#include "../../src/encoder/lame_encoder.h"
#include "encoder_fixture.h"
#include "tower/log.h"

#include <fcntl.h>
#include <signal.h>

#define BLOCKS 400
#define BLOCK_NS INT64_C(24000000)
#define MS INT64_C(1000000)
static int16_t programme[BLOCKS * TOWER_FRAME_SAMPLES * TOWER_CHANNELS];

struct rig {
    struct tower_clock *clock;
    struct tower_ffmpeg_supervisor *supervisor;
    char script[64];
    uint64_t next_block;
    uint64_t frames;
    uint64_t block_of[BLOCKS]; /* of the i-th frame */
    uint8_t frame[BLOCKS][384];
    int fds_before;
};
static struct rig rig;

static void on_frame(void *user, uint64_t block, uint64_t n, const uint8_t *frame) {
    (void)user;
    (void)n;
    assert_true(rig.frames < BLOCKS);
    rig.block_of[rig.frames] = block;
    memcpy(rig.frame[rig.frames], frame, 384);
    rig.frames++;
}

static const int64_t backoff_ns[] = {1000 * MS, 2000 * MS, 4000 * MS};

static void rig_start(const char *program) {
    memset(&rig, 0, sizeof rig);
    rig.fds_before = fixture_count_fds("/proc/self/fd");
    assert_int_equal(tower_clock_virtual_new(1000 * MS, &rig.clock), 0);
    struct tower_ffmpeg_config config = {
        .clock = rig.clock,
        .program = program,
        .bitrate_bps = 128000,
        .backoff_ns = backoff_ns,
        .backoff_count = 3,
        .max_restarts = 4,
        .on_frame = on_frame,
    };
    assert_int_equal(tower_ffmpeg_supervisor_new(&config, &rig.supervisor), 0);
    tower_ffmpeg_supervisor_start(rig.supervisor);
    tower_ffmpeg_supervisor_step(rig.supervisor);
}

static void rig_start_script(const char *text) {
    char path[64];
    assert_true(fixture_script(path, text));
    rig_start(path);
    memcpy(rig.script, path, sizeof path);
}

/* No child, no zombie, no descriptor is left behind. */
static void rig_stop(void) {
    tower_ffmpeg_supervisor_stop(rig.supervisor);
    assert_true(fixture_has_no_children());
    tower_ffmpeg_supervisor_free(rig.supervisor);
    tower_clock_free(rig.clock);
    if (rig.script[0])
        (void)unlink(rig.script);
    assert_int_equal(fixture_count_fds("/proc/self/fd"), rig.fds_before);
}

static struct tower_ffmpeg_stats stats(void) {
    struct tower_ffmpeg_stats now;
    tower_ffmpeg_supervisor_get_stats(rig.supervisor, &now);
    return now;
}

static void rig_feed(unsigned blocks, int64_t each_ns) {
    for (unsigned i = 0; i < blocks; i++) {
        assert_true(rig.next_block < BLOCKS);
        const int16_t *block = programme + rig.next_block * TOWER_FRAME_SAMPLES * TOWER_CHANNELS;
        tower_ffmpeg_supervisor_feed(rig.supervisor, rig.next_block++, block);
        tower_ffmpeg_supervisor_step(rig.supervisor);
        tower_clock_virtual_advance(rig.clock, each_ns);
    }
}

/* Wait, in real time, for the child to do something; see to it. */
static void rig_turn(int64_t give_up_ns) {
    struct pollfd ready[TOWER_FFMPEG_POLLFDS];
    size_t n = tower_ffmpeg_supervisor_pollfds(rig.supervisor, ready);
    (void)poll(ready, n, 100);
    tower_ffmpeg_supervisor_step(rig.supervisor);
    assert_true(fixture_real_ns() < give_up_ns);
}

/* Let the child work, with the clock standing still. */
#define rig_await(condition)                                                                       \
    do {                                                                                           \
        int64_t give_up_ns = fixture_real_ns() + FIXTURE_PATIENCE_NS;                              \
        tower_ffmpeg_supervisor_step(rig.supervisor);                                              \
        while (!(condition))                                                                       \
            rig_turn(give_up_ns);                                                                  \
    } while (0)

static void rig_step_after(int64_t delta_ns) {
    tower_clock_virtual_advance(rig.clock, delta_ns);
    tower_ffmpeg_supervisor_step(rig.supervisor);
}

static uint64_t failures(void) {
    struct tower_ffmpeg_stats now = stats();
    return now.exits + now.closes + now.mutes + now.refusals + now.garbage;
}

/* A child that was killed is reaped when it has died: only then is the next start timed. */
static void rig_await_reaped(void) {
    rig_await(tower_ffmpeg_supervisor_deadline_ns(rig.supervisor) != INT64_MAX);
}

/* Feed real ffmpeg until it is on air. */
static void rig_get_on_air(void) {
    rig_feed(10, 0);
    rig_await(stats().state == TOWER_FFMPEG_RUNNING);
}

static void test_refuses_bad_settings(void **state) {
    (void)state;
    struct tower_ffmpeg_supervisor *supervisor = NULL;
    struct tower_ffmpeg_config good = {.clock = tower_clock_real(),
                                       .bitrate_bps = 128000,
                                       .backoff_ns = backoff_ns,
                                       .backoff_count = 3,
                                       .on_frame = on_frame};
    struct tower_ffmpeg_config bad[] = {good, good, good, good, good};
    bad[0].clock = NULL;
    bad[1].bitrate_bps = 100000;
    bad[2].backoff_count = 0;
    bad[3].backoff_count = TOWER_ENCODER_BACKOFF_MAX + 1;
    bad[4].on_frame = NULL;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(tower_ffmpeg_supervisor_new(&bad[i], &supervisor), -EINVAL);
    assert_null(supervisor);
    tower_ffmpeg_supervisor_free(NULL);
}

static void test_its_frames_are_lames_frames(void **state) {
    (void)state;
    rig_start("ffmpeg");
    /* Started in the middle of the programme, as after a failure. */
    rig.next_block = 100;
    rig_feed(100, 0);
    rig_await(rig.frames >= 95);
    struct tower_lame_encoder *lame = NULL;
    assert_int_equal(tower_lame_encoder_new(128000, &lame), 0);
    size_t compared = 0;
    for (uint64_t block = 0; block < 195; block++) {
        uint8_t frame[960];
        const int16_t *pcm = programme + block * TOWER_FRAME_SAMPLES * TOWER_CHANNELS;
        assert_int_equal(tower_lame_encoder_encode(lame, pcm, frame), 0);
        for (uint64_t i = 30; i < rig.frames; i++) {
            if (rig.block_of[i] != block)
                continue;
            assert_memory_equal(rig.frame[i], frame, 384);
            compared++;
        }
    }
    tower_lame_encoder_free(lame);
    assert_true(compared >= 60);
    assert_int_equal(rig.block_of[0], 101);
    rig_stop();
}

static void test_child_has_its_three_descriptors(void **state) {
    (void)state;
    int leaky = open("/dev/null", O_RDONLY); /* not CLOEXEC, as a careless library does it */
    rig_start("ffmpeg");
    rig_get_on_air();
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)stats().pid);
    assert_int_equal(fixture_count_fds(path), 3);
    for (int fd = 0; fd < 3; fd++) {
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)stats().pid, fd);
        assert_int_equal(access(path, F_OK), 0);
    }
    rig_stop();
    (void)close(leaky);
}

static void test_killed_is_an_exit_and_waits_out_the_backoff(void **state) {
    (void)state;
    rig_start("ffmpeg");
    rig_get_on_air();
    assert_int_equal(stats().starts, 1);
    assert_int_equal(kill(stats().pid, SIGKILL), 0);
    rig_await(failures() > 0);
    assert_int_equal(stats().exits, 1);
    assert_int_equal(stats().failures_in_row, 1);
    assert_int_equal(stats().pid, 0);
    assert_true(fixture_has_no_children());
    assert_int_equal(tower_ffmpeg_supervisor_deadline_ns(rig.supervisor),
                     tower_clock_now_ns(rig.clock) + backoff_ns[0]);
    rig_feed(3, 0); /* nobody there: dropped */
    rig_step_after(backoff_ns[0] - 1);
    assert_int_equal(stats().starts, 1);
    rig_step_after(1);
    assert_int_equal(stats().starts, 2);
    uint64_t before = rig.frames;
    uint64_t first = rig.next_block;
    rig_feed(10, 0);
    rig_await(rig.frames > before);
    assert_int_equal(rig.block_of[before], first + 1);
    rig_stop();
}

static void test_one_that_ends_in_order_is_an_exit(void **state) {
    (void)state;
    /* It ends after 16 blocks; it empties its encoder first, which is more than 16 frames. */
    rig_start_script("head -c 73728 | ffmpeg \"$@\"");
    rig_feed(16, 0);
    rig_await(failures() == 1);
    assert_int_equal(stats().exits, 1);
    assert_int_equal(rig.frames, 15);
    for (unsigned k = 1; k < rig.frames; k++)
        assert_int_equal(rig.block_of[k], rig.block_of[k - 1] + 1);
    rig_stop();
}

static void test_stopped_child_is_noticed_and_killed(void **state) {
    (void)state;
    rig_start("ffmpeg");
    rig_get_on_air();
    rig_await(rig.frames >= 7);
    pid_t pid = stats().pid;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    uint64_t before = rig.frames;
    rig_feed(20, BLOCK_NS);
    if (rig.frames == before) /* else something was still in the pipe */
        assert_int_equal(failures(), 0);
    rig_feed(30, BLOCK_NS);
    assert_int_equal(failures(), 1);
    assert_int_equal(stats().refusals, 1);
    rig_await_reaped();
    assert_true(kill(pid, 0) < 0 && errno == ESRCH);
    rig_stop();
}

static void test_a_pump_that_stands_still_is_not_its_fault(void **state) {
    (void)state;
    rig_start("ffmpeg");
    rig_get_on_air();
    rig_step_after(3600 * TOWER_NS_PER_S);
    assert_int_equal(failures(), 0);
    uint64_t before = rig.frames;
    rig_feed(10, 0);
    rig_await(rig.frames >= before + 8);
    assert_int_equal(failures(), 0);
    rig_stop();
}

/* Fail `times` in a row; each wait is as the list has it, the last on and on. */
static void expect_backoffs(unsigned times) {
    for (unsigned i = 0; i < times; i++) {
        rig_await(failures() == i + 1);
        bool is_degraded = i + 1 > 4;
        assert_int_equal(stats().is_degraded, is_degraded);
        int64_t wait_ns = backoff_ns[i < 3 ? i : 2];
        assert_int_equal(tower_ffmpeg_supervisor_deadline_ns(rig.supervisor),
                         tower_clock_now_ns(rig.clock) + wait_ns);
        rig_step_after(wait_ns - 1);
        assert_int_equal(stats().starts, i + 1);
        rig_step_after(1);
        assert_int_equal(stats().starts, i + 2);
    }
}

static void test_exits_at_once_then_degraded(void **state) {
    (void)state;
    rig_start_script("exit 3");
    expect_backoffs(7);
    rig_await(failures() == 8);
    assert_int_equal(stats().exits, 8);
    rig_stop();
}

static void test_missing_program_is_an_exit(void **state) {
    (void)state;
    rig_start("/nonexistent/ffmpeg");
    expect_backoffs(6);
    assert_int_equal(stats().exits, 7);
    rig_stop();
}

static void test_mute_from_the_start(void **state) {
    (void)state;
    rig_start_script("exec wc -c");
    /* It must have read all there is, to be mute and not deaf. */
    rig_feed(210, 0);
    struct pollfd fds[TOWER_FFMPEG_POLLFDS];
    rig_await(tower_ffmpeg_supervisor_pollfds(rig.supervisor, fds) == 3);
    rig_step_after(TOWER_FFMPEG_START_TIMEOUT_NS - 1);
    assert_int_equal(failures(), 0);
    rig_step_after(1);
    assert_int_equal(failures(), 1);
    assert_int_equal(stats().mutes, 1);
    rig_await_reaped();
    assert_true(fixture_has_no_children());
    rig_stop();
}

static void test_mute_after_it_was_on_air(void **state) {
    (void)state;
    /* ffmpeg until a hundred blocks are in, then it only reads. */
    rig_start_script("head -c 460800 | ffmpeg -loglevel error -f s16le -ar 48000 -ac 2 -i pipe:0 "
                     "-b:a 128k -reservoir 0 -write_xing 0 -id3v2_version 0 -f mp3 pipe:1\n"
                     "exec wc -c");
    rig_feed(160, 0);
    rig_await(stats().state == TOWER_FFMPEG_RUNNING);
    rig_await(rig.frames == 101); /* all of it: at its end it gives the one it held back */
    rig_feed(21, 0);
    struct pollfd fds[TOWER_FFMPEG_POLLFDS];
    rig_await(tower_ffmpeg_supervisor_pollfds(rig.supervisor, fds) == 3);
    rig_step_after(TOWER_FFMPEG_STALL_TIMEOUT_NS - 1);
    assert_int_equal(failures(), 0);
    rig_step_after(1);
    assert_int_equal(stats().mutes, 1);
    rig_stop();
}

static void test_reads_nothing(void **state) {
    (void)state;
    rig_start_script("exec sleep 1000");
    rig_feed(30, 0);
    rig_step_after(TOWER_FFMPEG_START_TIMEOUT_NS);
    assert_int_equal(failures(), 1);
    assert_int_equal(stats().refusals, 1);
    rig_stop();
}

static void test_reads_nothing_until_the_backlog_is_full(void **state) {
    (void)state;
    rig_start_script("exec sleep 1000");
    rig_feed(300, 0); /* no time passes: only the bound of the backlog can tell */
    assert_int_equal(failures(), 1);
    assert_int_equal(stats().refusals, 1);
    rig_stop();
}

static void test_lives_on_with_a_pipe_closed(void **state) {
    (void)state;
    static const char *const scripts[] = {"exec sleep 1000 >&-", "exec sleep 1000 <&-",
                                          /* One that would end if its stdin were closed. */
                                          "exec cat >/dev/null"};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        rig_start_script(scripts[i]);
        int64_t give_up_ns = fixture_real_ns() + FIXTURE_PATIENCE_NS;
        while (stats().state != TOWER_FFMPEG_CLOSING) {
            rig_feed(1, 0);
            (void)poll(NULL, 0, 10);
            assert_true(fixture_real_ns() < give_up_ns);
        }
        /* Nothing that we do makes it end. */
        (void)poll(NULL, 0, 100);
        rig_step_after(1);
        assert_int_equal(failures(), 0);
        rig_step_after(TOWER_NS_PER_S / 10);
        assert_int_equal(failures(), 1);
        assert_int_equal(stats().closes, 1);
        rig_stop();
    }
}

static void test_garbage(void **state) {
    (void)state;
    static const char *const scripts[] = {
        "echo 'this is not MP3'; exec wc -c",
        /* MP3, but not as asked: */
        "exec ffmpeg -loglevel error -f s16le -ar 48000 -ac 2 -i pipe:0 -b:a 64k -f mp3 "
        "-write_xing 0 -id3v2_version 0 pipe:1",
        "exec ffmpeg -loglevel error -f s16le -ar 48000 -ac 2 -i pipe:0 -b:a 128k -ac 1 "
        "-write_xing 0 -id3v2_version 0 -f mp3 pipe:1",
        "exec ffmpeg -loglevel error -f s16le -ar 48000 -ac 2 -i pipe:0 -b:a 128k -f mp3 pipe:1",
        /* More than there was PCM for: */
        "exec ffmpeg -loglevel error -f lavfi -i sine -ar 48000 -ac 2 -b:a 128k -reservoir 0 "
        "-write_xing 0 -id3v2_version 0 -f mp3 pipe:1",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        rig_start_script(scripts[i]);
        rig_feed(60, 0);
        rig_await(failures() > 0 || stats().state == TOWER_FFMPEG_CLOSING);
        rig_step_after(100 * MS);
        assert_int_equal(stats().garbage, 1);
        rig_await_reaped();
        assert_true(fixture_has_no_children());
        rig_stop();
    }
}

static void test_a_minute_on_air_forgives(void **state) {
    (void)state;
    rig_start("ffmpeg");
    rig_get_on_air();
    assert_int_equal(kill(stats().pid, SIGKILL), 0);
    rig_await(failures() == 1);
    rig_step_after(backoff_ns[0]);
    rig_get_on_air();
    assert_int_equal(stats().failures_in_row, 1);
    rig_step_after(TOWER_FFMPEG_SETTLED_NS - 1);
    assert_int_equal(stats().failures_in_row, 1);
    rig_step_after(1);
    assert_int_equal(stats().failures_in_row, 0);
    rig_stop();
}

static void test_a_flood_of_messages_is_cut(void **state) {
    (void)state;
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    int stderr_fd = dup(2);
    assert_true(dup2(log_fd, 2) == 2);
    rig_start_script("i=0; while [ $i -lt 3000 ]; do echo \"line $i\" >&2; i=$((i+1)); done\n"
                     "printf 'bell\\007 and a very long line: %01000d\\n' 7 >&2");
    rig_await(failures() == 1);
    assert_true(dup2(stderr_fd, 2) == 2);
    static char text[65536];
    ssize_t n = pread(log_fd, text, sizeof text - 1, 0);
    assert_true(n > 0 && n < 4096);
    assert_non_null(strstr(text, "line 0"));
    assert_non_null(strstr(text, "line 19"));
    assert_null(strstr(text, "line 20"));
    assert_null(strchr(text, 7));
    rig_stop();
    (void)close(log_fd);
    (void)close(stderr_fd);
}

static void test_a_flood_of_messages_keeps_nobody_awake(void **state) {
    (void)state;
    rig_start_script("exec cat /dev/zero >&2");
    struct pollfd ready[TOWER_FFMPEG_POLLFDS];
    rig_await(poll(ready, (nfds_t)tower_ffmpeg_supervisor_pollfds(rig.supervisor, ready), 0) == 0);
    unsigned n_woken = 0;
    for (unsigned i = 0; i < 20; i++) {
        size_t n = tower_ffmpeg_supervisor_pollfds(rig.supervisor, ready);
        n_woken += poll(ready, n, 20) > 0;
        tower_ffmpeg_supervisor_step(rig.supervisor);
    }
    assert_in_range(n_woken, 0, 10);
    rig_stop();
}

static void test_measures_latency(void **state) {
    (void)state;
    unsigned lag[8] = {0};
    rig_start("ffmpeg");
    rig_get_on_air();
    int64_t due_ns = fixture_real_ns();
    for (unsigned i = 0; i < 120; i++, due_ns += 10 * MS) {
        while (fixture_real_ns() < due_ns) {
            struct pollfd fds[TOWER_FFMPEG_POLLFDS];
            size_t n = tower_ffmpeg_supervisor_pollfds(rig.supervisor, fds);
            (void)poll(fds, n, 1);
            tower_ffmpeg_supervisor_step(rig.supervisor);
        }
        uint64_t behind = rig.next_block - 1 - rig.block_of[rig.frames - 1];
        lag[behind < 7 ? behind : 7]++;
        rig_feed(1, 0);
    }
    for (unsigned i = 0; i < 8; i++)
        print_message("%u blocks late: %u\n", i, lag[i]);
    assert_int_equal(failures(), 0);
    rig_stop();
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    tower_log_set_level(TOWER_LOG_WARNING);
    fixture_programme(programme, BLOCKS * TOWER_FRAME_SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_bad_settings),
        cmocka_unit_test(test_its_frames_are_lames_frames),
        cmocka_unit_test(test_child_has_its_three_descriptors),
        cmocka_unit_test(test_killed_is_an_exit_and_waits_out_the_backoff),
        cmocka_unit_test(test_one_that_ends_in_order_is_an_exit),
        cmocka_unit_test(test_stopped_child_is_noticed_and_killed),
        cmocka_unit_test(test_a_pump_that_stands_still_is_not_its_fault),
        cmocka_unit_test(test_exits_at_once_then_degraded),
        cmocka_unit_test(test_missing_program_is_an_exit),
        cmocka_unit_test(test_mute_from_the_start),
        cmocka_unit_test(test_mute_after_it_was_on_air),
        cmocka_unit_test(test_reads_nothing),
        cmocka_unit_test(test_reads_nothing_until_the_backlog_is_full),
        cmocka_unit_test(test_lives_on_with_a_pipe_closed),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_a_minute_on_air_forgives),
        cmocka_unit_test(test_a_flood_of_messages_is_cut),
        cmocka_unit_test(test_a_flood_of_messages_keeps_nobody_awake),
        cmocka_unit_test(test_measures_latency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
