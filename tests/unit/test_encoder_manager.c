/* test_encoder_manager.c - one MP3 frame out for every PCM frame in, whatever dies, and no seam
 * that a decoder could hear. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/encoder/lame_encoder.h"
#include "encoder_fixture.h"
#include "tower/encoder_manager.h"
#include "tower/log.h"

#include <dlfcn.h>
#include <lame/lame.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define FRAMES_MAX 4000
#define MP3_BYTES 384
#define MS INT64_C(1000000)

static int16_t programme[FRAMES_MAX * TOWER_FRAME_SAMPLES * TOWER_CHANNELS];

/* Stands before LAME's own, to make it fail when told. */
static _Atomic int lame_failures_due;
int lame_encode_buffer_interleaved(lame_global_flags *lame, short int pcm[], int samples,
                                   unsigned char *mp3, int room) {
    static int (*real)(lame_global_flags *, short int[], int, unsigned char *, int);
    if (!real)
        *(void **)(&real) = dlsym(RTLD_NEXT, "lame_encode_buffer_interleaved");
    if (atomic_load(&lame_failures_due) > 0) {
        atomic_fetch_sub(&lame_failures_due, 1);
        return -1;
    }
    return real(lame, pcm, samples, mp3, room);
}

struct rig {
    struct tower_encoder_manager *manager;
    uint64_t fed; /* frames */
    int fds_before;
    size_t feed_at; /* once so many frames came out: feed `feed_frames` more; 0: do not */
    unsigned feed_frames;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    bool is_held;
    bool is_entered;
    size_t frames;
    uint8_t mp3[FRAMES_MAX * MP3_BYTES];
};
static struct rig rig;

static void feed(unsigned frames, uint32_t frame_samples);

static void on_output(void *user, const uint8_t *frame, size_t bytes) {
    (void)user;
    pthread_mutex_lock(&rig.lock);
    rig.is_entered = true;
    pthread_cond_broadcast(&rig.changed);
    while (rig.is_held)
        pthread_cond_wait(&rig.changed, &rig.lock);
    if (bytes == MP3_BYTES && rig.frames < FRAMES_MAX)
        memcpy(rig.mp3 + rig.frames++ * MP3_BYTES, frame, bytes);
    size_t frames = rig.frames;
    pthread_mutex_unlock(&rig.lock);
    if (rig.feed_at > 0 && frames == rig.feed_at)
        feed(rig.feed_frames, TOWER_FRAME_SAMPLES);
}

static struct tower_encoder_config settings(enum tower_encoder_kind kind) {
    return (struct tower_encoder_config){
        .clock = tower_clock_real(),
        .kind = kind,
        .frame_samples = TOWER_FRAME_SAMPLES,
        .bitrate_bps = 128000,
        .backoff_ns = {20 * MS},
        .backoff_count = 1,
        .max_restarts = 5,
        .output = on_output,
    };
}

static void rig_start(const struct tower_encoder_config *config) {
    rig.fds_before = fixture_count_fds("/proc/self/fd");
    rig.fed = 0;
    rig.frames = 0;
    rig.is_held = false;
    rig.is_entered = false;
    assert_int_equal(tower_encoder_manager_new(config, &rig.manager), 0);
    assert_int_equal(tower_encoder_manager_start(rig.manager), 0);
}

static struct tower_encoder_stats stats(void) {
    struct tower_encoder_stats now;
    tower_encoder_manager_get_stats(rig.manager, &now);
    return now;
}

/* Stop, and see that all is gone and every frame accounted for. */
static void rig_stop(void) {
    int64_t begin_ns = fixture_real_ns();
    tower_encoder_manager_stop(rig.manager);
    int64_t took_ns = fixture_real_ns() - begin_ns;
    print_message("stop took %lld us\n", (long long)(took_ns / 1000));
    assert_true(took_ns < TOWER_NS_PER_S);
    struct tower_encoder_stats now = stats();
    assert_int_equal(now.frames_in, rig.fed);
    assert_int_equal(now.frames_out, rig.frames);
    assert_int_equal(now.frames_primary + now.frames_spare + now.frames_repair, now.frames_out);
    assert_int_equal(now.queue_frames, 0);
    assert_int_equal(now.child_pid, 0);
    assert_true(fixture_has_no_children());
    tower_encoder_manager_free(rig.manager);
    assert_int_equal(fixture_count_fds("/proc/self/fd"), rig.fds_before);
}

static void feed(unsigned frames, uint32_t frame_samples) {
    for (unsigned i = 0; i < frames; i++) {
        const int16_t *frame = programme + rig.fed * frame_samples * TOWER_CHANNELS;
        assert_int_equal(
            tower_encoder_manager_write_pcm(rig.manager, frame, tower_frame_bytes(frame_samples)),
            0);
        rig.fed++;
    }
}

static void pause_1ms(void) {
    (void)tower_clock_sleep_until(tower_clock_real(), fixture_real_ns() + MS);
}

#define await(condition)                                                                           \
    do {                                                                                           \
        int64_t give_up_ns = fixture_real_ns() + FIXTURE_PATIENCE_NS;                              \
        while (!(condition)) {                                                                     \
            pause_1ms();                                                                           \
            assert_true(fixture_real_ns() < give_up_ns);                                           \
        }                                                                                          \
    } while (0)

/* Feed faster than real time, but slowly enough for ffmpeg to answer in time. */
static void feed_paced(unsigned frames) {
    for (unsigned i = 0; i < frames; i++) {
        /* While an ffmpeg starts, no faster than on air: on a busy machine that takes its time, and
         * what it has not read by then is counted in frames. */
        int64_t pace_ns = stats().state == TOWER_ENCODER_ON_AIR ? 4 * MS : 24 * MS;
        int64_t due_ns = fixture_real_ns() + pace_ns;
        feed(1, TOWER_FRAME_SAMPLES);
        (void)tower_clock_sleep_until(tower_clock_real(), due_ns);
    }
}

#define feed_until(condition)                                                                      \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            assert_true(rig.fed < FRAMES_MAX - 200);                                               \
            feed_paced(1);                                                                         \
        }                                                                                          \
    } while (0)

/* The stream decodes without a complaint, is the programme all along, and steps no further than the
 * programme did. `from_frame`: where to begin to look. */
static void expect_the_programme(size_t delay_samples, size_t from_frame) {
    int16_t *decoded = NULL;
    long n = fixture_decode(rig.mp3, rig.frames * MP3_BYTES, &decoded);
    assert_int_equal(n, rig.frames * TOWER_FRAME_SAMPLES);
    size_t delay = delay_samples + FIXTURE_DECODER_DELAY_SAMPLES;
    size_t from = from_frame * TOWER_FRAME_SAMPLES;
    size_t span = (size_t)n - delay - from;
    const int16_t *heard = decoded + 2 * (from + delay);
    const int16_t *meant = programme + 2 * from;
    double least = fixture_least_likeness(heard, meant, span);
    int step = fixture_largest_step(heard, span);
    int own_step = fixture_largest_step(meant, span);
    print_message("least likeness %.4f, largest step %d, the programme's own %d\n", least, step,
                  own_step);
    assert_true(least > 0.99);
    assert_true(step <= own_step + 300);
    free(decoded);
}

static size_t delay_samples(const struct tower_encoder_stats *now) {
    return (size_t)(now->delay_ns * TOWER_RATE_HZ / TOWER_NS_PER_S);
}

static void test_refuses_bad_settings(void **state) {
    (void)state;
    struct tower_encoder_config good = settings(TOWER_ENCODER_LAME);
    struct tower_encoder_config bad[] = {good, good, good, good, good, good, good};
    bad[0].clock = NULL;
    bad[1].output = NULL;
    bad[2].frame_samples = 0;
    bad[3].frame_samples = TOWER_FRAME_SAMPLES_MAX + 1;
    bad[4].bitrate_bps = 127000;
    bad[5].backoff_count = TOWER_ENCODER_BACKOFF_MAX + 1;
    bad[6].kind = (enum tower_encoder_kind)7;
    struct tower_encoder_manager *manager = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tower_encoder_manager_new(&bad[i], &manager), -EINVAL);
    assert_null(manager);
    tower_encoder_manager_free(NULL);
}

static void test_says_no_when_it_does_not_run(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
    struct tower_encoder_manager *manager = NULL;
    assert_int_equal(tower_encoder_manager_new(&config, &manager), 0);
    assert_int_equal(tower_encoder_manager_write_pcm(manager, programme, 4608), -ESHUTDOWN);
    assert_int_equal(tower_encoder_manager_start(manager), 0);
    assert_int_equal(tower_encoder_manager_start(manager), -EALREADY);
    assert_int_equal(tower_encoder_manager_write_pcm(manager, programme, 4607), -EINVAL);
    assert_int_equal(tower_encoder_manager_write_pcm(manager, programme, 0), -EINVAL);
    assert_int_equal(tower_encoder_manager_write_pcm(manager, NULL, 4608), -EINVAL);
    tower_encoder_manager_stop(manager);
    tower_encoder_manager_stop(manager);
    assert_int_equal(tower_encoder_manager_write_pcm(manager, programme, 4608), -ESHUTDOWN);
    struct tower_encoder_stats now;
    tower_encoder_manager_get_stats(manager, &now);
    assert_int_equal(now.frames_in, 0);
    tower_encoder_manager_free(manager);
}

static void test_lame_gives_one_for_one(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
    rig_start(&config);
    assert_int_equal(stats().state, TOWER_ENCODER_STARTING);
    for (unsigned i = 0; i < 150; i++) {
        feed(1, TOWER_FRAME_SAMPLES);
        await(stats().frames_out == i + 1); /* at once, and not when more comes */
    }
    struct tower_encoder_stats now = stats();
    assert_int_equal(now.state, TOWER_ENCODER_ON_AIR);
    assert_int_equal(now.frames_primary, 150);
    assert_int_equal(now.delay_ns, 36 * MS);
    rig_stop();
    expect_the_programme(delay_samples(&now), 0);
}

static void test_other_frame_sizes(void **state) {
    (void)state;
    const uint32_t sizes[] = {1, 100, 1024, 1151};
    for (size_t i = 0; i < 4; i++) {
        struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
        config.frame_samples = sizes[i];
        unsigned frames = 60 * TOWER_FRAME_SAMPLES / sizes[i];
        rig_start(&config);
        feed(frames, sizes[i]);
        tower_encoder_manager_stop(rig.manager);
        assert_int_equal(rig.frames, (uint64_t)frames * sizes[i] / TOWER_FRAME_SAMPLES);
        struct tower_encoder_stats now = stats();
        assert_int_equal(now.frames_repair, 0);
        rig_stop();
        expect_the_programme(delay_samples(&now), 0);
    }
}

static void test_makes_up_for_what_it_dropped(void **state) {
    (void)state;
    const uint32_t sizes[] = {TOWER_FRAME_SAMPLES, 1024};
    for (size_t i = 0; i < 2; i++) {
        struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
        config.frame_samples = sizes[i];
        rig_start(&config);
        pthread_mutex_lock(&rig.lock);
        rig.is_held = true;
        pthread_mutex_unlock(&rig.lock);
        feed(2, sizes[i]);
        pthread_mutex_lock(&rig.lock);
        while (!rig.is_entered)
            pthread_cond_wait(&rig.changed, &rig.lock);
        pthread_mutex_unlock(&rig.lock);
        feed(301, sizes[i]); /* the encoder thread hangs; its queue runs over */
        pthread_mutex_lock(&rig.lock);
        rig.is_held = false;
        pthread_cond_broadcast(&rig.changed);
        pthread_mutex_unlock(&rig.lock);
        await(stats().queue_frames == 0);
        feed(50, sizes[i]);
        tower_encoder_manager_stop(rig.manager);
        assert_int_equal(rig.frames, rig.fed * sizes[i] / TOWER_FRAME_SAMPLES);
        assert_true(stats().frames_repair > 150);
        rig_stop();
        int16_t *decoded = NULL;
        assert_int_equal(fixture_decode(rig.mp3, rig.frames * MP3_BYTES, &decoded),
                         rig.frames * TOWER_FRAME_SAMPLES);
        free(decoded);
    }
}

/* What was dropped is missing where it was dropped, also when the encoder thread falls behind again
 * before it has looked at what came after the first loss. */
static void test_makes_up_for_it_where_it_was_dropped(void **state) {
    (void)state;
    const unsigned room = 64, lost[] = {10, 20, 5};
    struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
    config.is_stepped = true;
    struct tower_lame_encoder *lame = NULL;
    assert_int_equal(tower_lame_encoder_new(config.bitrate_bps, &lame), 0);
    const uint8_t *silence = tower_lame_encoder_silence(lame);
    rig_start(&config);
    size_t at = 0;
    for (size_t i = 0; i < 3; i++) {
        feed(room + lost[i], TOWER_FRAME_SAMPLES);
        (void)tower_encoder_manager_step(rig.manager);
        assert_int_equal(rig.frames, rig.fed);
        for (; at < rig.fed - lost[i]; at++)
            assert_memory_not_equal(rig.mp3 + at * MP3_BYTES, silence, MP3_BYTES);
        for (; at < rig.fed; at++)
            assert_memory_equal(rig.mp3 + at * MP3_BYTES, silence, MP3_BYTES);
    }
    rig_stop();
    tower_lame_encoder_free(lame);
}

/* ... and when more comes in while it works off what it has. */
static void test_what_comes_behind_a_loss_is_heard_behind_it(void **state) {
    (void)state;
    const unsigned room = 64, lost = 7, more = 12;
    struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
    config.is_stepped = true;
    struct tower_lame_encoder *lame = NULL;
    assert_int_equal(tower_lame_encoder_new(config.bitrate_bps, &lame), 0);
    const uint8_t *silence = tower_lame_encoder_silence(lame);
    rig_start(&config);
    rig.feed_at = room / 2;
    rig.feed_frames = more;
    feed(room + lost, TOWER_FRAME_SAMPLES);
    (void)tower_encoder_manager_step(rig.manager);
    rig.feed_at = 0;
    assert_int_equal(rig.frames, room + lost + more);
    for (size_t at = 0; at < rig.frames; at++) {
        bool is_lost = at >= room && at < room + lost;
        bool is_silence = memcmp(rig.mp3 + at * MP3_BYTES, silence, MP3_BYTES) == 0;
        assert_int_equal(is_silence, is_lost);
    }
    rig_stop();
    tower_lame_encoder_free(lame);
}

static void test_lame_failing_costs_no_frame(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_LAME);
    rig_start(&config);
    feed(40, TOWER_FRAME_SAMPLES);
    await(stats().frames_out == 40);
    atomic_store(&lame_failures_due, 3); /* in the frame, then in making it anew, twice */
    feed(3, TOWER_FRAME_SAMPLES);
    await(stats().frames_out == 43);
    assert_int_equal(stats().state, TOWER_ENCODER_RECOVERING);
    assert_int_equal(stats().frames_repair, 3);
    feed(60, TOWER_FRAME_SAMPLES);
    await(stats().frames_out == 103);
    struct tower_encoder_stats now = stats();
    assert_int_equal(now.state, TOWER_ENCODER_ON_AIR);
    assert_int_equal(now.frames_repair, 3);
    rig_stop();
    expect_the_programme(delay_samples(&now), 46);
}

static void expect_on_air(uint64_t more_than_primary) {
    feed_until(stats().state == TOWER_ENCODER_ON_AIR &&
               stats().frames_primary > more_than_primary + 40);
}

static void test_ffmpeg_killed_and_stopped_leaves_no_seam(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_FFMPEG);
    rig_start(&config);
    assert_int_equal(stats().state, TOWER_ENCODER_STARTING);
    expect_on_air(0);
    assert_int_equal(kill(stats().child_pid, SIGKILL), 0);
    feed_until(stats().exits == 1);
    assert_int_equal(stats().state, TOWER_ENCODER_RECOVERING);
    expect_on_air(stats().frames_primary);
    assert_int_equal(stats().restarts, 1);
    assert_int_equal(kill(stats().child_pid, SIGSTOP), 0);
    feed_until(stats().refusals == 1);
    assert_int_equal(stats().state, TOWER_ENCODER_RECOVERING);
    expect_on_air(stats().frames_primary);
    await(stats().frames_out == rig.fed);
    struct tower_encoder_stats now = stats();
    assert_int_equal(now.restarts, 2);
    assert_int_equal(now.frames_repair, 0);
    print_message("%llu by ffmpeg, %llu by the spare\n", (unsigned long long)now.frames_primary,
                  (unsigned long long)now.frames_spare);
    rig_stop();
    expect_the_programme(delay_samples(&now), 0);
}

/* Every frame is LAME's, bit for bit, whoever made it. */
static void expect_lames_bits(void) {
    const size_t held_back = 8;
    struct tower_lame_encoder *lame = NULL;
    uint8_t frame[MP3_BYTES];
    assert_int_equal(tower_lame_encoder_new(128000, &lame), 0);
    for (size_t i = 0; i + held_back < rig.frames; i++) {
        const int16_t *pcm = programme + i * TOWER_FRAME_SAMPLES * TOWER_CHANNELS;
        assert_int_equal(tower_lame_encoder_encode(lame, pcm, frame), 0);
        if (memcmp(rig.mp3 + (i + held_back) * MP3_BYTES, frame, MP3_BYTES) != 0)
            fail_msg("frame %zu of %zu is another", i, rig.frames);
    }
    tower_lame_encoder_free(lame);
}

/* An ffmpeg that is ended in order, and has PCM it has not read, gives what its encoder still holds
 * in place of the next frame: the last samples, and silence. */
static void test_what_an_ending_ffmpeg_has_left_is_not_on_air(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_FFMPEG);
    rig_start(&config);
    for (unsigned i = 0; i < 4; i++) {
        expect_on_air(stats().frames_primary);
        pid_t pid = stats().child_pid;
        assert_int_equal(kill(pid, SIGSTOP), 0);
        feed_paced(4);
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(kill(pid, SIGCONT), 0);
        await(stats().exits == i + 1);
        feed_paced(10);
    }
    await(stats().frames_out == rig.fed);
    rig_stop();
    expect_lames_bits();
}

/* Another build of libmp3lame gives other bits: here, another quality. */
static void test_an_ffmpeg_that_never_agrees_leaves_no_seam(void **state) {
    (void)state;
    char path[64];
    assert_true(fixture_script(path, "for a in \"$@\"; do shift\n"
                                     "[ \"$p\" = -compression_level ] && a=2\n"
                                     "p=$a; set -- \"$@\" \"$a\"; done\n"
                                     "exec ffmpeg \"$@\""));
    struct tower_encoder_config config = settings(TOWER_ENCODER_FFMPEG);
    config.ffmpeg = path;
    rig_start(&config);
    for (unsigned i = 0; i < 3; i++) {
        expect_on_air(stats().frames_primary);
        assert_int_equal(kill(stats().child_pid, SIGKILL), 0);
        feed_until(stats().exits == i + 1);
    }
    feed_paced(20);
    await(stats().frames_out == rig.fed);
    struct tower_encoder_stats now = stats();
    rig_stop();
    (void)unlink(path);
    expect_the_programme(delay_samples(&now), 0);
}

static void test_spare_carries_the_air_and_time_brings_retries(void **state) {
    (void)state;
    struct tower_clock *clock = NULL;
    assert_int_equal(tower_clock_virtual_new(0, &clock), 0);
    struct tower_encoder_config config = settings(TOWER_ENCODER_FFMPEG);
    config.clock = clock;
    config.ffmpeg = "/bin/false";
    config.backoff_ns[0] = 1000 * MS;
    config.backoff_ns[1] = 2000 * MS;
    config.backoff_count = 2;
    config.max_restarts = 2;
    rig_start(&config);
    for (unsigned i = 0; i < 5; i++) {
        await(stats().exits == i + 1);
        enum tower_encoder_state expected =
            i + 1 > config.max_restarts ? TOWER_ENCODER_DEGRADED : TOWER_ENCODER_RECOVERING;
        await(stats().state == expected);
        assert_int_equal(stats().restarts, i);
        int64_t wait_ns = i == 0 ? 1000 * MS : 2000 * MS;
        tower_clock_virtual_advance(clock, wait_ns - 1);
        feed(20, TOWER_FRAME_SAMPLES);
        await(stats().frames_out == rig.fed);
        assert_int_equal(stats().exits, i + 1);
        tower_clock_virtual_advance(clock, 1);
        feed(1, TOWER_FRAME_SAMPLES); /* a frame makes it look at the clock */
    }
    await(stats().frames_out == rig.fed && stats().exits == 6);
    struct tower_encoder_stats now = stats();
    assert_int_equal(now.frames_spare, rig.fed);
    rig_stop();
    tower_clock_free(clock);
    expect_the_programme(delay_samples(&now), 0);
}

static void test_stops_at_once_with_a_child_that_does_not_listen(void **state) {
    (void)state;
    struct tower_encoder_config config = settings(TOWER_ENCODER_FFMPEG);
    rig_start(&config);
    feed_until(stats().child_pid > 0);
    assert_int_equal(kill(stats().child_pid, SIGSTOP), 0);
    feed(30, TOWER_FRAME_SAMPLES);
    rig_stop();
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(tower_encoder_kind_name(TOWER_ENCODER_LAME), "lame");
    assert_string_equal(tower_encoder_kind_name(TOWER_ENCODER_FFMPEG), "ffmpeg");
    assert_string_equal(tower_encoder_state_name(TOWER_ENCODER_STARTING), "starting");
    assert_string_equal(tower_encoder_state_name(TOWER_ENCODER_ON_AIR), "on air");
    assert_string_equal(tower_encoder_state_name(TOWER_ENCODER_RECOVERING), "recovering");
    assert_string_equal(tower_encoder_state_name(TOWER_ENCODER_DEGRADED), "degraded");
}

int main(void) {
    pthread_mutex_init(&rig.lock, NULL);
    pthread_cond_init(&rig.changed, NULL);
    fixture_programme(programme, FRAMES_MAX * TOWER_FRAME_SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_bad_settings),
        cmocka_unit_test(test_says_no_when_it_does_not_run),
        cmocka_unit_test(test_lame_gives_one_for_one),
        cmocka_unit_test(test_other_frame_sizes),
        cmocka_unit_test(test_makes_up_for_what_it_dropped),
        cmocka_unit_test(test_makes_up_for_it_where_it_was_dropped),
        cmocka_unit_test(test_what_comes_behind_a_loss_is_heard_behind_it),
        cmocka_unit_test(test_lame_failing_costs_no_frame),
        cmocka_unit_test(test_ffmpeg_killed_and_stopped_leaves_no_seam),
        cmocka_unit_test(test_what_an_ending_ffmpeg_has_left_is_not_on_air),
        cmocka_unit_test(test_an_ffmpeg_that_never_agrees_leaves_no_seam),
        cmocka_unit_test(test_spare_carries_the_air_and_time_brings_retries),
        cmocka_unit_test(test_stops_at_once_with_a_child_that_does_not_listen),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
