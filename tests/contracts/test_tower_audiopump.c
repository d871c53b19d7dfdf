/* AUDIOPUMP, A0 to A13: each id has its test by name.
 *
 * Over 800 lines, since the contract names one file for all of its ids.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bounded_wait.h"
#include "captured_log.h"
#include "descriptors.h"
#include "fake_parts.h"
#include "tower/encoder_manager.h"
#include "tower/producer.h"
#include "tower/pump.h"
#include "tower/router.h"
#include "tower/service.h"
#include "tower/transition.h"

#include <sys/stat.h>

#define MS INT64_C(1000000)
#define TICK_NS (24 * MS)
#define DAY_NS (INT64_C(86400) * 1000 * MS)

/* A pump with fakes for its three parts, on a clock that starts at 7 s and stands still until the
 * test or, in automatic mode, a sleep moves it. */
#define EPOCH_NS (7000 * MS)
struct rig {
    struct tower_clock *clock;
    struct fake_parts parts;
    struct tower_pump *pump;
};

static void rig_make_as(struct rig *rig, uint32_t frame_samples, int64_t resync_after_ns,
                        bool is_auto) {
    assert_int_equal(tower_clock_virtual_new(EPOCH_NS, &rig->clock), 0);
    tower_clock_virtual_set_auto(rig->clock, is_auto);
    fake_parts_init(&rig->parts, rig->clock, frame_samples);
    struct tower_pump_config config = fake_parts_config(&rig->parts);
    config.resync_after_ns = resync_after_ns;
    assert_int_equal(tower_pump_new(&config, &rig->pump), 0);
}

/* For tower_pump_step(): the clock moves by itself. */
static void rig_make(struct rig *rig) {
    rig_make_as(rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, true);
}

/* With the pump's own thread, which waits until the test moves the clock. */
static void rig_make_threaded(struct rig *rig) {
    rig_make_as(rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    assert_int_equal(tower_pump_start(rig->pump), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig->clock, 1), 0);
}

static void rig_free(struct rig *rig) {
    tower_pump_stop(rig->pump);
    tower_pump_free(rig->pump);
    fake_parts_done(&rig->parts);
    tower_clock_free(rig->clock);
}

/* Move the clock and let the pump's thread do all that has become due. */
static void rig_advance(struct rig *rig, int64_t delta_ns) {
    tower_clock_virtual_advance(rig->clock, delta_ns);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig->clock, 1), 0);
}

static void rig_step(struct rig *rig, int ticks) {
    for (int i = 0; i < ticks; i++) {
        tower_pump_step(rig->pump);
    }
}

static struct tower_pump_stats rig_stats(const struct rig *rig) {
    struct tower_pump_stats stats;
    memset(&stats, 0xff, sizeof(stats));
    tower_pump_get_stats(rig->pump, &stats);
    return stats;
}

/* When write `n` came, counted from the first tick. */
static int64_t write_time_ns(const struct rig *rig, uint64_t n) {
    assert_true(n < rig->parts.n_writes && n < FAKE_RECORDS);
    return rig->parts.write_ns[n] - EPOCH_NS;
}

/* Write 5 takes this long on the clock: how a test makes the pump late. */
#define LATE_WRITE 5
#define LATE_NS (LATE_WRITE * TICK_NS)
static int64_t late_write_takes_ns;

static int be_late_once(struct fake_parts *parts, uint64_t n) {
    if (n == LATE_WRITE) {
        tower_clock_virtual_advance(parts->clock, late_write_takes_ns);
    }
    return 0;
}

static struct tower_status service_status(struct tower_service *service) {
    struct tower_status status;
    tower_service_get_status(service, &status);
    return status;
}

/* A0: the service makes and starts the pump, which runs from the service's start to its stop: with
 * nobody feeding, while a producer comes, and after it has gone. On the real clock. */
static void test_a0_service_runs_pump_for_its_lifetime(void **state) {
    static struct tower_config config;
    int16_t samples[5 * TOWER_FRAME_SAMPLES * TOWER_CHANNELS] = {0};
    struct test_folder folder;
    struct tower_service *service;
    struct tower_producer *producer;
    struct tower_status status;
    char error[512] = "";
    uint64_t emitted;
    int64_t start_ns;
    (void)state;

    assert_true(test_folder_make(&folder));
    tower_config_init(&config);
    (void)snprintf(config.host, sizeof(config.host), "127.0.0.1");
    config.port = 0;
    config.cushion_frames = 0;
    test_folder_file(&folder, "pcm.sock", config.socket_path, sizeof(config.socket_path));
    if (tower_service_new(&config, NULL, tower_clock_real(), &service, error, sizeof(error)) != 0) {
        fail_msg("tower_service_new: %s", error);
    }
    assert_int_equal(service_status(service).pump.ticks_due, 0);
    assert_int_equal(service_status(service).state, TOWER_SERVICE_STARTING);

    start_ns = real_now_ns();
    if (tower_service_start(service, error, sizeof(error)) != 0) {
        fail_msg("tower_service_start: %s", error);
    }
    ASSERT_SOON(service_status(service).pump.ticks_emitted >= 30);
    status = service_status(service);
    assert_true((int64_t)(status.pump.ticks_emitted - 1) * TICK_NS <= real_now_ns() - start_ns);
    assert_int_equal(status.pump.frames_by_origin[TOWER_ORIGIN_LIVE], 0);
    assert_int_equal(status.state, TOWER_SERVICE_ON_AIR);
    ASSERT_SOON(service_status(service).air_frames >= 20);

    assert_int_equal(tower_producer_connect(config.socket_path, &producer), 0);
    assert_int_equal(tower_producer_write(producer, samples, sizeof(samples) / TOWER_SAMPLE_BYTES),
                     0);
    ASSERT_SOON(service_status(service).pump.frames_by_origin[TOWER_ORIGIN_LIVE] == 5);
    tower_producer_close(producer, 0);
    emitted = service_status(service).pump.ticks_emitted;
    ASSERT_SOON(service_status(service).pump.ticks_emitted >= emitted + 15);
    assert_int_equal(service_status(service).pump.frames_by_origin[TOWER_ORIGIN_LIVE], 5);
    assert_int_equal(service_status(service).pump.write_errors, 0);

    assert_int_equal(tower_service_stop(service), 0);
    emitted = service_status(service).pump.ticks_emitted;
    for (int i = 0; i < 100; i++) {
        short_pause();
    }
    assert_int_equal(service_status(service).pump.ticks_emitted, emitted);
    tower_service_free(service);
    test_folder_remove(&folder);
}

/* A1: the pump alone keeps time: one write for each tick of the clock and none in between, however
 * many frames wait, and whether there are any. */
static void test_a1_one_write_a_tick_whatever_waits(void **state) {
    struct rig rig;
    (void)state;

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    rig.parts.live_to = 20;
    assert_int_equal(tower_pump_start(rig.pump), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig.clock, 1), 0);
    for (uint64_t tick = 0; tick < 40; tick++) {
        assert_int_equal(fake_parts_writes(&rig.parts), tick + 1);
        rig_advance(&rig, TICK_NS - 1);
        assert_int_equal(fake_parts_writes(&rig.parts), tick + 1);
        rig_advance(&rig, 1);
    }
    tower_pump_stop(rig.pump);
    assert_int_equal(rig.parts.n_pops, 41);
    assert_int_equal(rig.parts.n_fallbacks, 21);
    assert_int_equal(rig_stats(&rig).ticks_emitted, 41);
    rig_free(&rig);
}

static int fail_every_third(struct fake_parts *parts, uint64_t n) {
    (void)parts;
    return n % 3 == 0 ? -EPIPE : 0;
}

/* A1: a write that fails is a tick gone by: it is not tried again, and none is put in for it. */
static void test_a1_a_failed_write_is_not_repeated(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.on_write = fail_every_third;
    for (uint64_t tick = 0; tick < 60; tick++) {
        tower_pump_step(rig.pump);
        assert_int_equal(rig.parts.n_writes, tick + 1);
        assert_int_equal(rig.parts.n_pops, tick + 1);
    }
    assert_int_equal(rig_stats(&rig).ticks_emitted, 40);
    assert_int_equal(rig_stats(&rig).write_errors, 20);
    rig_free(&rig);
}

static void ignore_output(void *user, const uint8_t *mp3_frame, size_t bytes) {
    (void)user;
    (void)mp3_frame;
    (void)bytes;
}

static int real_write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    return tower_encoder_manager_write_pcm(self, frame, frame_bytes);
}

/* A2: the pump has no dealings with ffmpeg: given a manager of ffmpeg that has not been started, so
 * that every write fails, it starts nothing and restarts nothing; it only writes on. */
static void test_a2_pump_never_touches_the_ffmpeg_supervisor(void **state) {
    struct tower_encoder_config settings = {.kind = TOWER_ENCODER_FFMPEG,
                                            .frame_samples = TOWER_FRAME_SAMPLES,
                                            .bitrate_bps = 128000,
                                            .max_restarts = 5,
                                            .output = ignore_output};
    char program[128], marker[128], script[300];
    struct tower_encoder_manager *manager;
    struct tower_encoder_stats stats;
    struct test_folder folder;
    struct tower_pump *pump;
    struct rig rig;
    FILE *file;
    (void)state;

    assert_true(test_folder_make(&folder));
    test_folder_file(&folder, "ffmpeg", program, sizeof(program));
    test_folder_file(&folder, "was-run", marker, sizeof(marker));
    (void)snprintf(script, sizeof(script), "#!/bin/sh\n: > '%s'\nexec cat > /dev/null\n", marker);
    file = fopen(program, "we");
    assert_non_null(file);
    assert_true(fputs(script, file) >= 0);
    fclose(file);
    assert_int_equal(chmod(program, 0700), 0);

    rig_make(&rig);
    settings.clock = rig.clock;
    settings.ffmpeg = program;
    assert_int_equal(tower_encoder_manager_new(&settings, &manager), 0);
    struct tower_pump_config config = fake_parts_config(&rig.parts);
    config.encoder = (struct tower_pump_encoder){manager, real_write_pcm};
    assert_int_equal(tower_pump_new(&config, &pump), 0);
    for (int i = 0; i < 50; i++) {
        tower_pump_step(pump);
        assert_true(has_no_child());
    }
    tower_encoder_manager_get_stats(manager, &stats);
    assert_int_equal(stats.child_pid, 0);
    assert_int_equal(stats.restarts, 0);
    assert_int_equal(stats.frames_in, 0);
    assert_int_equal(rig.parts.n_pops, 50);
    assert_int_equal(access(marker, F_OK), -1);
    tower_pump_free(pump);
    tower_encoder_manager_free(manager);
    rig_free(&rig);
    test_folder_remove(&folder);
}

/* A3: all that the pump asks of the encoder manager is write_pcm(frame), with one whole frame, for
 * every size of frame there can be. */
static void test_a3_only_write_pcm_with_exactly_one_frame(void **state) {
    static const uint32_t sizes[] = {1, 480, 1024, TOWER_FRAME_SAMPLES_MAX};
    (void)state;

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct rig rig;
        rig_make_as(&rig, sizes[s], TOWER_PUMP_RESYNC_AFTER_NS, true);
        rig.parts.live_to = 10;
        rig_step(&rig, 20);
        assert_int_equal(rig.parts.n_writes, 20);
        assert_int_equal(rig.parts.n_bad_sizes, 0);
        assert_string_equal(rig.parts.calls, "PWPWPWPWPWPWPWPWPWPW"
                                             "PFWPFWPFWPFWPFWPFWPFWPFWPFWPFW");
        rig_free(&rig);
    }
}

static int nothing_live(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    (void)self;
    (void)timeout_ns;
    (void)ret_frame;
    (void)ret_flags;
    return 0;
}

static enum tower_origin quick_silence(void *self, uint64_t tick, int16_t *ret_frame) {
    (void)self;
    (void)tick;
    memset(ret_frame, 0, TOWER_FRAME_BYTES_MAX);
    return TOWER_ORIGIN_SILENCE;
}

/* Writes that are compared with the schedule and not recorded: a day has too many. */
struct schedule {
    struct tower_clock *clock;
    uint32_t frame_samples;
    uint64_t n_writes;
    uint64_t n_off; /* not on the exact nanosecond */
};

static int compare_with_schedule(void *self, const int16_t *frame, size_t frame_bytes) {
    struct schedule *schedule = self;
    int64_t due_ns =
        tower_samples_to_ns((int64_t)schedule->n_writes * schedule->frame_samples, TOWER_RATE_HZ);
    (void)frame;
    (void)frame_bytes;

    schedule->n_off += tower_clock_now_ns(schedule->clock) != EPOCH_NS + due_ns;
    schedule->n_writes++;
    return 0;
}

/* Run `ticks` + 1 ticks, so that `ticks` intervals lie between the first and the last. */
static void run_schedule(uint32_t frame_samples, uint64_t ticks, int64_t expected_ns) {
    struct schedule schedule = {.frame_samples = frame_samples};
    struct tower_pump_config config = {.frame_samples = frame_samples,
                                       .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
                                       .pcm_buffer = {&schedule, nothing_live},
                                       .fallback = {&schedule, quick_silence},
                                       .encoder = {&schedule, compare_with_schedule}};
    struct tower_pump *pump;
    struct tower_pump_stats stats;

    assert_int_equal(tower_clock_virtual_new(EPOCH_NS, &schedule.clock), 0);
    tower_clock_virtual_set_auto(schedule.clock, true);
    config.clock = schedule.clock;
    assert_int_equal(tower_pump_new(&config, &pump), 0);
    for (uint64_t i = 0; i <= ticks; i++) {
        tower_pump_step(pump);
    }
    assert_int_equal(schedule.n_writes, ticks + 1);
    assert_int_equal(schedule.n_off, 0);
    assert_int_equal(tower_clock_now_ns(schedule.clock), EPOCH_NS + expected_ns);
    tower_pump_get_stats(pump, &stats);
    assert_int_equal(stats.ticks_emitted, ticks + 1);
    assert_int_equal(stats.ticks_due, ticks + 1);
    assert_int_equal(stats.ticks_late + stats.ticks_skipped + stats.resyncs, 0);
    tower_pump_free(pump);
    tower_clock_free(schedule.clock);
}

/* ThreadSanitizer makes a tick ten times as dear, and finds nothing in a test of one thread. */
#ifdef __SANITIZE_THREAD__
#define DAYS_SHORTENED_BY 24
#else
#define DAYS_SHORTENED_BY 1
#endif

/* A4: a tick is 24 ms, to the nanosecond, from the first to the last of a whole day. */
static void test_a4_a_day_of_24_ms_ticks_ends_on_the_nanosecond(void **state) {
    (void)state;
    run_schedule(TOWER_FRAME_SAMPLES, 3600000 / DAYS_SHORTENED_BY, DAY_NS / DAYS_SHORTENED_BY);
}

/* A4 on the real clock, with the thread: no tick comes before its time. */
static void test_a4_no_tick_comes_early_on_the_real_clock(void **state) {
    enum { TICKS = 25 };
    struct fake_parts parts;
    struct tower_pump *pump;
    struct tower_pump_stats stats;
    int64_t before_ns = real_now_ns();
    (void)state;

    fake_parts_init(&parts, tower_clock_real(), TOWER_FRAME_SAMPLES);
    struct tower_pump_config config = fake_parts_config(&parts);
    config.resync_after_ns = BOUNDED_WAIT_NS;
    assert_int_equal(tower_pump_new(&config, &pump), 0);
    assert_int_equal(tower_pump_start(pump), 0);
    ASSERT_SOON(fake_parts_writes(&parts) >= TICKS);
    tower_pump_stop(pump);
    tower_pump_get_stats(pump, &stats);
    assert_true(stats.started_ns >= before_ns);
    for (int64_t k = 0; k < TICKS; k++) {
        assert_true(parts.write_ns[k] >= stats.started_ns + k * TICK_NS);
    }
    tower_pump_free(pump);
    fake_parts_done(&parts);
}

/* A5: the pump is made of three parts: a PCM buffer, a fallback, an encoder manager. Each must be
 * there, and each is asked for what is its own, with what is its own. */
static void test_a5_constructor_takes_its_three_parts(void **state) {
    struct rig rig;
    struct tower_pump *untouched = (struct tower_pump *)&rig;
    struct tower_pump *pump = untouched;
    struct tower_pump_config good, bad;
    (void)state;

    rig_make(&rig);
    good = fake_parts_config(&rig.parts);
    bad = good;
    bad.pcm_buffer.pop_frame = NULL;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad = good;
    bad.fallback.get_frame = NULL;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad = good;
    bad.encoder.write_pcm = NULL;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad = good;
    bad.clock = NULL;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad = good;
    bad.frame_samples = 0;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad.frame_samples = TOWER_FRAME_SAMPLES_MAX + 1;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    bad = good;
    bad.resync_after_ns = -1;
    assert_int_equal(tower_pump_new(&bad, &pump), -EINVAL);
    assert_ptr_equal(pump, untouched);

    struct fake_parts others[3];
    for (int i = 0; i < 3; i++) {
        fake_parts_init(&others[i], rig.clock, TOWER_FRAME_SAMPLES);
    }
    good.pcm_buffer.self = &others[0];
    good.fallback.self = &others[1];
    good.encoder.self = &others[2];
    assert_int_equal(tower_pump_new(&good, &pump), 0);
    tower_pump_step(pump);
    assert_string_equal(others[0].calls, "P");
    assert_string_equal(others[1].calls, "F");
    assert_string_equal(others[2].calls, "W");
    tower_pump_free(pump);
    for (int i = 0; i < 3; i++) {
        fake_parts_done(&others[i]);
    }
    rig_free(&rig);
}

/* A6: start() begins to pump in a thread of its own, the first tick at once; stop() ends it, and
 * nothing is written after that. A second start is refused, a second stop does nothing. */
static void test_a6_start_pumps_and_stop_ends_it(void **state) {
    struct rig rig;
    (void)state;

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    tower_pump_stop(rig.pump);
    assert_int_equal(rig_stats(&rig).started_ns, INT64_MIN);
    assert_int_equal(rig_stats(&rig).last_emit_ns, INT64_MIN);
    tower_clock_virtual_advance(rig.clock, 10 * TICK_NS);
    assert_int_equal(fake_parts_writes(&rig.parts), 0);

    assert_int_equal(tower_pump_start(rig.pump), 0);
    assert_int_equal(tower_pump_start(rig.pump), -EALREADY);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig.clock, 1), 0);
    assert_int_equal(fake_parts_writes(&rig.parts), 1);
    assert_int_equal(rig_stats(&rig).started_ns, EPOCH_NS + 10 * TICK_NS);
    for (uint64_t i = 0; i < 5; i++) {
        rig_advance(&rig, TICK_NS);
        assert_int_equal(fake_parts_writes(&rig.parts), i + 2);
    }
    assert_int_equal(rig_stats(&rig).last_emit_ns, EPOCH_NS + 15 * TICK_NS);
    assert_int_equal(tower_pump_start(rig.pump), -EALREADY);

    tower_pump_stop(rig.pump);
    tower_pump_stop(rig.pump);
    tower_clock_virtual_advance(rig.clock, 100 * TICK_NS);
    assert_int_equal(fake_parts_writes(&rig.parts), 6);
    rig_free(&rig);
}

/* A written frame is the one that was to be selected; the first 10 ms behind a change of origin are
 * the join's and not looked at. */
static void assert_frame(const struct rig *rig, uint64_t n, bool is_live, uint64_t source_n,
                         bool is_joined) {
    size_t n_values = rig->parts.frame_bytes / sizeof(int16_t);
    size_t i = is_joined ? TOWER_TRANSITION_SAMPLES * TOWER_CHANNELS : 0;

    for (; i < n_values; i++) {
        if (rig->parts.frames[n][i] != fake_sample(is_live, source_n, i)) {
            fail_msg("write %d, value %d: %d is not frame %d of the %s", (int)n, (int)i,
                     rig->parts.frames[n][i], (int)source_n, is_live ? "buffer" : "fallback");
        }
    }
}

/* A7: at each tick: pop; only if there is none, the fallback; then write what was got. Live wins
 * the moment it is there. */
static void test_a7_pop_then_fallback_then_write(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.live_from = 4;
    rig.parts.live_to = 8;
    rig_step(&rig, 12);
    assert_string_equal(rig.parts.calls, "PFWPFWPFWPFW"
                                         "PWPWPWPW"
                                         "PFWPFWPFWPFW");
    for (uint64_t n = 0; n < 12; n++) {
        bool is_live = n >= 4 && n < 8;
        assert_frame(&rig, n, is_live, n < 8 ? n : n - 4, n % 4 == 0);
    }
    assert_int_equal(rig_stats(&rig).frames_by_origin[TOWER_ORIGIN_LIVE], 4);
    assert_int_equal(rig_stats(&rig).frames_by_origin[TOWER_ORIGIN_TONE], 8);
    assert_int_equal(rig_stats(&rig).origin, TOWER_ORIGIN_TONE);
    assert_int_equal(rig_stats(&rig).origin_since_ns, EPOCH_NS + 8 * TICK_NS);
    rig_free(&rig);
}

static int router_pop(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    return tower_router_pop_frame(self, timeout_ns, ret_frame, ret_flags);
}

/* A8: selection waits for nothing: on time, every pop has timeout 0, and with a real router that is
 * empty each tick is still on its deadline, in the step and in the thread. */
static void test_a8_frame_selection_never_waits(void **state) {
    struct tower_router *router;
    struct tower_pump *pump;
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.live_from = 3;
    rig.parts.live_to = 6;
    rig_step(&rig, 10);
    assert_int_equal(rig.parts.n_pops, 10);
    assert_int_equal(rig.parts.n_waits, 0);
    rig_free(&rig);

    rig_make(&rig);
    assert_int_equal(tower_router_new(rig.clock, 4, TOWER_FRAME_BYTES_MAX, &router), 0);
    struct tower_pump_config config = fake_parts_config(&rig.parts);
    config.pcm_buffer = (struct tower_pump_pcm_buffer){router, router_pop};
    assert_int_equal(tower_pump_new(&config, &pump), 0);
    for (int k = 0; k < 100; k++) {
        tower_pump_step(pump);
        assert_int_equal(write_time_ns(&rig, (uint64_t)k), k * TICK_NS);
        assert_int_equal(tower_clock_now_ns(rig.clock), EPOCH_NS + k * TICK_NS);
    }
    tower_pump_free(pump);
    tower_router_free(router);
    rig_free(&rig);
}

/* A8: what makes up for missed ticks, right behind live audio, gives those who bring it a moment,
 * and only until there is none: 5 of these ticks are late, and the last has nobody to wait for. */
static void test_a8_making_up_waits_a_moment_for_live_audio(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.live_to = 5;
    rig_step(&rig, 2);
    assert_int_equal(rig.parts.n_waits, 0);
    tower_clock_virtual_advance(rig.clock, 5 * TICK_NS + TICK_NS / 2);
    rig_step(&rig, 5);
    assert_int_equal(rig.parts.n_waits, 4);
    assert_string_equal(rig.parts.calls, "PWPWPWPWPWPFWPFW");
    rig_step(&rig, 5);
    assert_int_equal(rig.parts.n_waits, 4);
    rig_free(&rig);
}

/* A9: the deadline of tick k is computed from k: with frames of 1024 samples, whose 21.333... ms no
 * number of nanoseconds is, no error adds up in an hour of ticks or a day of deadlines. */
static void test_a9_deadlines_are_absolute_and_never_drift(void **state) {
    (void)state;

    run_schedule(1024, 168750, 3600 * 1000 * MS);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 0, 1024), EPOCH_NS);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 1, 1024), EPOCH_NS + 21333333);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 2, 1024), EPOCH_NS + 42666666);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 3, 1024), EPOCH_NS + 64000000);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 4050000, 1024), EPOCH_NS + DAY_NS);
    assert_int_equal(tower_pump_deadline_ns(-5, UINT64_C(4050000) * 36525, 1024),
                     36525 * DAY_NS - 5);
    assert_int_equal(tower_pump_deadline_ns(EPOCH_NS, 3600000, 1152), EPOCH_NS + DAY_NS);
}

static int take_20_ms(struct fake_parts *parts, uint64_t n) {
    tower_clock_virtual_advance(parts->clock, (int64_t)(n % 21) * MS);
    return 0;
}

/* A9: what a tick's own work takes is not added to the next: a sleep of 24 ms behind each would
 * drift; absolute deadlines do not. */
static void test_a9_work_of_a_tick_does_not_shift_the_next(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.on_write = take_20_ms;
    rig_step(&rig, 500);
    for (int k = 0; k < 500; k++) {
        assert_int_equal(write_time_ns(&rig, (uint64_t)k), k * TICK_NS);
    }
    assert_int_equal(rig_stats(&rig).ticks_late + rig_stats(&rig).resyncs, 0);
    rig_free(&rig);
}

/* A10 (as settled): up to resync_after behind, the missed ticks come at once, each in its place,
 * and the stream is back on the old schedule with nothing lost. */
static void test_a10_a_little_behind_catches_up_in_place(void **state) {
    static const int64_t delays_ns[] = {30 * MS, 200 * MS, TOWER_PUMP_RESYNC_AFTER_NS + TICK_NS};
    (void)state;

    for (size_t d = 0; d < sizeof(delays_ns) / sizeof(delays_ns[0]); d++) {
        int64_t missed = delays_ns[d] / TICK_NS;
        struct rig rig;

        rig_make(&rig);
        rig.parts.on_write = be_late_once;
        late_write_takes_ns = delays_ns[d];
        rig_step(&rig, 60);
        for (int64_t k = 0; k < 60; k++) {
            bool is_missed = k > LATE_WRITE && k <= LATE_WRITE + missed;
            assert_int_equal(write_time_ns(&rig, (uint64_t)k),
                             is_missed ? LATE_NS + delays_ns[d] : k * TICK_NS);
        }
        assert_int_equal(rig_stats(&rig).ticks_emitted, 60);
        assert_int_equal(rig_stats(&rig).ticks_due, 60);
        assert_int_equal(rig_stats(&rig).ticks_skipped, 0);
        assert_int_equal(rig_stats(&rig).resyncs, 0);
        rig_free(&rig);
    }
}

/* Be late by `delay_ns` and see the clock set anew: the next tick at once, the one after it 24 ms
 * later, and the gap counted, so that ticks due still tell the time. */
static void check_resync(int64_t resync_after_ns, int64_t delay_ns) {
    int64_t due = (LATE_NS + delay_ns) / TICK_NS + 1; /* by the first write behind the gap */
    char logged[4096];
    struct captured_log captured;
    struct rig rig;

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, resync_after_ns, true);
    rig.parts.on_write = be_late_once;
    late_write_takes_ns = delay_ns;
    rig_step(&rig, LATE_WRITE + 1);
    assert_true(captured_log_begin(&captured));
    rig_step(&rig, 1);
    captured_log_end(&captured, logged, sizeof(logged));
    assert_int_equal(rig_stats(&rig).resyncs, 1);
    assert_int_equal(rig_stats(&rig).ticks_due, due);
    assert_int_equal(rig_stats(&rig).ticks_skipped, due - (LATE_WRITE + 2));
    assert_true(logged[0] != '\0');

    rig_step(&rig, 30);
    for (int64_t k = 0; k < 31; k++) {
        assert_int_equal(write_time_ns(&rig, LATE_WRITE + 1 + (uint64_t)k),
                         LATE_NS + delay_ns + k * TICK_NS);
    }
    assert_int_equal(rig_stats(&rig).resyncs, 1);
    assert_int_equal(rig_stats(&rig).ticks_emitted, LATE_WRITE + 32);
    assert_int_equal(rig_stats(&rig).ticks_due,
                     rig_stats(&rig).ticks_emitted + rig_stats(&rig).ticks_skipped);
    for (uint64_t k = 1; k < rig.parts.n_fallbacks; k++) {
        /* one outage throughout: a gap in the numbers would begin its grace again */
        assert_int_equal(rig.parts.fallback_tick[k], rig.parts.fallback_tick[k - 1] + 1);
    }
    rig_free(&rig);
}

/* A10 (as settled): further behind, the clock is set anew instead of a pile of delay worked off;
 * the gap is counted and logged. */
static void test_a10_far_behind_resyncs_and_counts_the_gap(void **state) {
    (void)state;
    check_resync(TOWER_PUMP_RESYNC_AFTER_NS, 300 * MS);
    check_resync(TOWER_PUMP_RESYNC_AFTER_NS, TOWER_PUMP_RESYNC_AFTER_NS + TICK_NS + 1);
    check_resync(TOWER_PUMP_RESYNC_AFTER_NS, 3600 * 1000 * MS + 5 * MS);
}

/* A10 to the letter: with resync_after 0 any tick missed sets the clock anew at once. */
static void test_a10_resync_after_zero_resyncs_at_once(void **state) {
    (void)state;
    check_resync(0, TICK_NS + 1);
    check_resync(0, 30 * MS);
    check_resync(0, 100 * MS);
}

/* A11: ahead, the pump sleeps, and says nothing; behind, it does not sleep (the clock stands still
 * over every missed tick), counts the ticks as late, and logs a warning. */
static void test_a11_sleeps_only_if_ahead_and_warns_if_behind(void **state) {
    char logged[4096];
    struct captured_log captured;
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.on_write = be_late_once;
    late_write_takes_ns = 200 * MS;
    assert_true(captured_log_begin(&captured));
    rig_step(&rig, LATE_WRITE + 1);
    captured_log_end(&captured, logged, sizeof(logged));
    assert_string_equal(logged, "");
    assert_int_equal(rig_stats(&rig).ticks_late, 0);
    assert_int_equal(rig_stats(&rig).lateness.max_ns, 0);

    assert_true(captured_log_begin(&captured));
    for (int i = 1; i <= 8; i++) {
        tower_pump_step(rig.pump);
        assert_int_equal(tower_clock_now_ns(rig.clock), EPOCH_NS + LATE_NS + 200 * MS);
        assert_int_equal(rig_stats(&rig).ticks_late, i < 8 ? i : 7);
    }
    captured_log_end(&captured, logged, sizeof(logged));
    assert_true(logged[0] != '\0');
    assert_int_equal(rig_stats(&rig).lateness.max_ns, 200 * MS - TICK_NS);

    tower_pump_step(rig.pump);
    assert_int_equal(tower_clock_now_ns(rig.clock), EPOCH_NS + LATE_NS + 9 * TICK_NS);
    assert_int_equal(rig_stats(&rig).ticks_late, 7);
    rig_free(&rig);
}

static int fail_from_3_to_5(struct fake_parts *parts, uint64_t n) {
    (void)parts;
    return n >= 3 && n <= 5 ? -EPIPE : 0;
}

static int fail_always(struct fake_parts *parts, uint64_t n) {
    (void)parts;
    (void)n;
    return -EIO;
}

/* A12: a failed write is logged and counted, and the thread goes on; even if all fail it can still
 * be stopped. */
static void test_a12_write_errors_do_not_end_the_thread(void **state) {
    char logged[4096];
    struct captured_log captured;
    struct rig rig;
    (void)state;

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    rig.parts.on_write = fail_from_3_to_5;
    assert_true(captured_log_begin(&captured));
    assert_int_equal(tower_pump_start(rig.pump), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig.clock, 1), 0);
    for (int i = 0; i < 100; i++) {
        tower_clock_virtual_advance(rig.clock, TICK_NS / 2);
        if (tower_clock_virtual_await_sleepers(rig.clock, 1) != 0) {
            break;
        }
    }
    captured_log_end(&captured, logged, sizeof(logged));
    assert_true(logged[0] != '\0');
    assert_int_equal(rig_stats(&rig).write_errors, 3);
    assert_true(fake_parts_writes(&rig.parts) > 30);
    assert_int_equal(rig_stats(&rig).ticks_emitted, fake_parts_writes(&rig.parts) - 3);
    rig_free(&rig);

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    rig.parts.on_write = fail_always;
    assert_int_equal(tower_pump_start(rig.pump), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig.clock, 1), 0);
    for (int i = 0; i < 10; i++) {
        rig_advance(&rig, 100 * MS);
    }
    tower_pump_stop(rig.pump);
    assert_int_equal(rig_stats(&rig).write_errors, fake_parts_writes(&rig.parts));
    assert_int_equal(rig_stats(&rig).ticks_emitted, 0);
    assert_int_equal(rig_stats(&rig).last_emit_ns, INT64_MIN);
    rig_free(&rig);
}

static int fail_once(struct fake_parts *parts, uint64_t n) {
    (void)parts;
    return n == LATE_WRITE ? -EPIPE : 0;
}

/* A13: a failed write costs 0.1 s of the clock, no less and no more; what that made late comes as
 * A10 has it: at once and in place, or, with resync_after 0, on a clock set anew. */
static void test_a13_a_failed_write_costs_a_tenth_of_a_second(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.on_write = fail_once;
    rig_step(&rig, 30);
    for (int64_t k = 0; k < 30; k++) {
        bool is_missed = k > LATE_WRITE && k <= LATE_WRITE + 4;
        assert_int_equal(write_time_ns(&rig, (uint64_t)k),
                         is_missed ? LATE_NS + 100 * MS : k * TICK_NS);
    }
    assert_int_equal(rig_stats(&rig).write_errors, 1);
    assert_int_equal(rig_stats(&rig).ticks_emitted, 29);
    assert_int_equal(rig_stats(&rig).ticks_due, 30);
    assert_int_equal(rig_stats(&rig).resyncs, 0);
    rig_free(&rig);

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, 0, true);
    rig.parts.on_write = fail_once;
    rig_step(&rig, 30);
    for (int64_t k = 0; k < 30; k++) {
        assert_int_equal(write_time_ns(&rig, (uint64_t)k),
                         k <= LATE_WRITE ? k * TICK_NS
                                         : LATE_NS + 100 * MS + (k - LATE_WRITE - 1) * TICK_NS);
    }
    assert_int_equal(rig_stats(&rig).resyncs, 1);
    assert_int_equal(rig_stats(&rig).ticks_skipped, 3);
    assert_int_equal(rig_stats(&rig).ticks_due, 29 + 1 + 3);
    rig_free(&rig);
}

/* A13: if every write fails the pump does not spin: one try in each tenth of a second. */
static void test_a13_failing_writes_do_not_spin(void **state) {
    struct rig rig;
    (void)state;

    rig_make(&rig);
    rig.parts.on_write = fail_always;
    rig_step(&rig, 100);
    for (uint64_t k = 0; k < 100; k++) {
        assert_int_equal(write_time_ns(&rig, k), (int64_t)k * TOWER_PUMP_WRITE_ERROR_NS);
    }
    rig_free(&rig);
}

/* A12 and A13 in the thread: an error in mid-sleep does not hold up the stop. */
static void test_a13_stop_ends_the_wait_after_an_error(void **state) {
    struct rig rig;
    (void)state;

    rig_make_threaded(&rig);
    tower_pump_stop(rig.pump);
    rig_free(&rig);

    rig_make_as(&rig, TOWER_FRAME_SAMPLES, TOWER_PUMP_RESYNC_AFTER_NS, false);
    rig.parts.on_write = fail_always;
    assert_int_equal(tower_pump_start(rig.pump), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(rig.clock, 1), 0);
    tower_pump_stop(rig.pump);
    assert_int_equal(fake_parts_writes(&rig.parts), 1);
    assert_int_equal(tower_clock_now_ns(rig.clock), EPOCH_NS);
    rig_free(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a0_service_runs_pump_for_its_lifetime),
        cmocka_unit_test(test_a1_one_write_a_tick_whatever_waits),
        cmocka_unit_test(test_a1_a_failed_write_is_not_repeated),
        cmocka_unit_test(test_a2_pump_never_touches_the_ffmpeg_supervisor),
        cmocka_unit_test(test_a3_only_write_pcm_with_exactly_one_frame),
        cmocka_unit_test(test_a4_a_day_of_24_ms_ticks_ends_on_the_nanosecond),
        cmocka_unit_test(test_a4_no_tick_comes_early_on_the_real_clock),
        cmocka_unit_test(test_a5_constructor_takes_its_three_parts),
        cmocka_unit_test(test_a6_start_pumps_and_stop_ends_it),
        cmocka_unit_test(test_a7_pop_then_fallback_then_write),
        cmocka_unit_test(test_a8_frame_selection_never_waits),
        cmocka_unit_test(test_a8_making_up_waits_a_moment_for_live_audio),
        cmocka_unit_test(test_a9_deadlines_are_absolute_and_never_drift),
        cmocka_unit_test(test_a9_work_of_a_tick_does_not_shift_the_next),
        cmocka_unit_test(test_a10_a_little_behind_catches_up_in_place),
        cmocka_unit_test(test_a10_far_behind_resyncs_and_counts_the_gap),
        cmocka_unit_test(test_a10_resync_after_zero_resyncs_at_once),
        cmocka_unit_test(test_a11_sleeps_only_if_ahead_and_warns_if_behind),
        cmocka_unit_test(test_a12_write_errors_do_not_end_the_thread),
        cmocka_unit_test(test_a13_a_failed_write_costs_a_tenth_of_a_second),
        cmocka_unit_test(test_a13_failing_writes_do_not_spin),
        cmocka_unit_test(test_a13_stop_ends_the_wait_after_an_error),
    };
    watchdog_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
