/* test_carried_encoder.c - router, pump and encoder are killed again and again, and what is heard
 * is what it would have been. */
#include "encoder_fixture.h"
#include "kill_fixture.h"
#include "tower/encoder_manager.h"
#include "tower/fallback.h"
#include "tower/pump.h"
#include "tower/router.h"

#include <stdatomic.h>

// cmocka.h needs these first
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BITRATE_BPS 128000
#define MP3_BYTES 384
#define AIR_FRAMES_MAX 60000
/* Long enough not to repeat itself where it matters: 8 s. */
#define PROGRAMME_SAMPLES (8 * TOWER_RATE_HZ)

static int16_t *programme; /* PROGRAMME_SAMPLES and a frame */

/* What outlives a process, as the keeper's descriptors and the air ring do. */
struct world {
    _Atomic uint64_t n_air;
    _Atomic int64_t now_ns;
    _Atomic bool is_ready;
    uint8_t air[AIR_FRAMES_MAX][MP3_BYTES];
};

struct plan {
    uint32_t frame_samples;
    enum tower_encoder_kind kind;
    bool has_outages;
    uint64_t life_us; /* at most */
    int router_fd, encoder_fd, pump_fd;
    struct world *world;
};

/* Where a process is gone: right behind putting a frame on air. */
static struct {
    jmp_buf *gone;
    uint64_t n_air;
} death;

/* One life of a transmitter. */
struct life {
    const struct plan *plan;
    struct tower_clock *clock;
    struct tower_router *router;
    struct tower_fallback *fallback;
    struct tower_encoder_manager *encoder;
    struct tower_pump *pump;
};

static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    struct life *life = self;
    return tower_router_pop_frame(life->router, timeout_ns, ret_frame, ret_flags) == 1 &&
           !(*ret_flags & TOWER_FRAME_WITHHELD);
}

static uint64_t count_popped(void *self) {
    struct life *life = self;
    struct tower_router_stats stats;
    tower_router_get_stats(life->router, &stats);
    return stats.popped_count;
}

static enum tower_origin get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    struct life *life = self;
    return tower_fallback_get_frame(life->fallback, tick, ret_frame);
}

static int write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    struct life *life = self;
    return tower_encoder_manager_write_pcm(life->encoder, frame, frame_bytes);
}

static uint64_t count_written(void *self) {
    struct life *life = self;
    return tower_encoder_manager_written(life->encoder);
}

static void put_on_air(void *user, const uint8_t *frame, size_t bytes) {
    struct world *world = user;
    uint64_t n = atomic_load(&world->n_air);
    assert_true(n < AIR_FRAMES_MAX && bytes == MP3_BYTES);
    memcpy(world->air[n], frame, bytes);
    atomic_store(&world->n_air, n + 1);
    if (death.gone && n + 1 == death.n_air)
        longjmp(*death.gone, 1);
}

static void begin(struct life *life, const struct plan *plan) {
    *life = (struct life){.plan = plan};
    uint64_t lost_frames = 0;
    assert_int_equal(tower_clock_virtual_new(atomic_load(&plan->world->now_ns), &life->clock), 0);
    tower_clock_virtual_set_auto(life->clock, true);
    assert_int_equal(tower_router_open(life->clock, plan->router_fd, 50,
                                       tower_frame_bytes(plan->frame_samples), &life->router,
                                       &lost_frames),
                     0);
    assert_int_equal(lost_frames, 0);
    struct tower_fallback_config fallback = {.clock = life->clock,
                                             .frame_samples = plan->frame_samples,
                                             .grace_ns = TOWER_NS_PER_S,
                                             .tone_hz = 440,
                                             .tone_dbfs = -20};
    assert_int_equal(tower_fallback_new(&fallback, &life->fallback), 0);
    struct tower_encoder_config encoder = {.clock = life->clock,
                                           .kind = plan->kind,
                                           .frame_samples = plan->frame_samples,
                                           .bitrate_bps = BITRATE_BPS,
                                           .ffmpeg = "/bin/false",
                                           .is_stepped = true,
                                           .output = put_on_air,
                                           .output_user = plan->world,
                                           .carried_fd = plan->encoder_fd,
                                           .air_frames = atomic_load(&plan->world->n_air)};
    assert_int_equal(tower_encoder_manager_new(&encoder, &life->encoder), 0);
    assert_int_equal(tower_encoder_manager_start(life->encoder), 0);
    struct tower_pump_config pump = {.clock = life->clock,
                                     .frame_samples = plan->frame_samples,
                                     .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
                                     .pcm_buffer = {life, pop_frame},
                                     .fallback = {life, get_frame},
                                     .encoder = {life, write_pcm},
                                     .carried_fd = plan->pump_fd,
                                     .count_popped = count_popped,
                                     .count_written = count_written};
    assert_int_equal(tower_pump_new(&pump, &life->pump), 0);
    uint64_t next_tick;
    uint64_t outage_frames = tower_pump_outage(life->pump, &next_tick);
    tower_fallback_resume(life->fallback, next_tick, outage_frames);
}

static void end(struct life *life) {
    tower_pump_free(life->pump);
    tower_encoder_manager_free(life->encoder);
    tower_fallback_free(life->fallback);
    tower_router_free(life->router);
    tower_clock_free(life->clock);
}

/* Live audio but for some ticks; those numbers of frames that are live up to `tick`. */
static uint64_t live_ticks(const struct plan *plan, uint64_t tick) {
    const uint64_t round = 300, live = 200;
    if (!plan->has_outages)
        return tick + 1;
    uint64_t rest = (tick + 1) % round;
    return (tick + 1) / round * live + (rest < live ? rest : live);
}

static void push_frame(struct life *life, uint64_t number) {
    uint64_t first = number * life->plan->frame_samples % PROGRAMME_SAMPLES;
    assert_int_equal(tower_router_push_frame(life->router, programme + first * TOWER_CHANNELS,
                                             tower_frame_bytes(life->plan->frame_samples)),
                     1);
}

static void do_tick(struct life *life) {
    struct tower_pump_stats pump;
    struct tower_router_stats router;
    tower_pump_get_stats(life->pump, &pump);
    tower_router_get_stats(life->router, &router);
    for (uint64_t n = router.pushed_count; n < live_ticks(life->plan, pump.ticks_due); n++)
        push_frame(life, n);
    tower_pump_step(life->pump);
    (void)tower_encoder_manager_step(life->encoder);
    atomic_store(&life->plan->world->now_ns, tower_clock_now_ns(life->clock));
}

static void live_until_killed(void *arg) {
    struct life life;
    begin(&life, arg);
    /* As the encoder thread does before the pump's first tick: starting ffmpeg takes its time, and
     * lives that all end in that would leave more than the queue holds. */
    (void)tower_encoder_manager_step(life.encoder);
    atomic_store(&life.plan->world->is_ready, true);
    for (;;)
        do_tick(&life);
}

/* Make what is carried, as the first process would. */
static void make_regions(struct plan *plan) {
    struct life life;
    plan->world = kill_shared(sizeof *plan->world);
    assert_non_null(plan->world);
    begin(&life, plan);
    plan->router_fd = dup(tower_router_fd(life.router));
    plan->encoder_fd = dup(tower_encoder_manager_fd(life.encoder));
    plan->pump_fd = dup(tower_pump_fd(life.pump));
    end(&life);
}

static void drop_regions(struct plan *plan) {
    close(plan->router_fd);
    close(plan->encoder_fd);
    close(plan->pump_fd);
    munmap(plan->world, sizeof *plan->world);
}

/* Returns the ticks that were done in all lives. */
static uint64_t live_and_die(struct plan *plan, unsigned kills, struct tower_pump_stats *ret_pump) {
    uint64_t random = 88172645463325252U + plan->frame_samples + (uint64_t)plan->kind;
    for (unsigned i = 0; i < kills; i++)
        assert_true(
            kill_midway(live_until_killed, plan, &plan->world->is_ready, &random, plan->life_us));
    struct life life;
    struct tower_router_stats router;
    struct plan last = *plan;
    last.router_fd = dup(plan->router_fd);
    last.encoder_fd = dup(plan->encoder_fd);
    last.pump_fd = dup(plan->pump_fd);
    begin(&life, &last);
    assert_int_equal(tower_router_fd(life.router), last.router_fd);
    assert_int_equal(tower_encoder_manager_fd(life.encoder), last.encoder_fd);
    assert_int_equal(tower_pump_fd(life.pump), last.pump_fd);
    do_tick(&life);
    tower_pump_get_stats(life.pump, ret_pump);
    tower_router_get_stats(life.router, &router);
    assert_int_equal(tower_encoder_manager_written(life.encoder), ret_pump->ticks_emitted);
    assert_int_equal(router.popped_count, ret_pump->frames_by_origin[TOWER_ORIGIN_LIVE]);
    end(&life);
    return ret_pump->ticks_due;
}

static void live_undisturbed(struct plan *plan, uint64_t ticks, struct tower_pump_stats *ret_pump) {
    struct life life;
    begin(&life, plan);
    for (uint64_t i = 0; i < ticks; i++)
        do_tick(&life);
    tower_pump_get_stats(life.pump, ret_pump);
    end(&life);
}

static void check_plan(struct plan plan, unsigned kills) {
    struct plan undisturbed = plan;
    struct tower_pump_stats pump, wanted;
    undisturbed.world = kill_shared(sizeof *undisturbed.world);
    assert_non_null(undisturbed.world);
    make_regions(&plan);
    uint64_t ticks = live_and_die(&plan, kills, &pump);
    uint64_t n_air = atomic_load(&plan.world->n_air);
    print_message("%u kills, %llu ticks, %llu MP3 frames\n", kills, (unsigned long long)ticks,
                  (unsigned long long)n_air);
    live_undisturbed(&undisturbed, ticks, &wanted);
    assert_int_equal(pump.ticks_emitted, ticks);
    assert_int_equal(pump.ticks_skipped, 0);
    assert_int_equal(pump.lateness.total, ticks);
    for (unsigned i = 0; i < TOWER_ORIGIN_COUNT; i++)
        assert_int_equal(pump.frames_by_origin[i], wanted.frames_by_origin[i]);
    assert_int_equal(n_air, atomic_load(&undisturbed.world->n_air));
    int16_t *pcm = NULL;
    long samples = fixture_decode(plan.world->air[0], (size_t)n_air * MP3_BYTES, &pcm);
    assert_true(samples > 0);
    free(pcm);
    for (uint64_t i = 0; i < n_air && !plan.has_outages; i++) {
        if (memcmp(plan.world->air[i], undisturbed.world->air[i], MP3_BYTES) != 0)
            fail_msg("MP3 frame %llu of %llu is another one", (unsigned long long)i,
                     (unsigned long long)n_air);
    }
    munmap(undisturbed.world, sizeof *undisturbed.world);
    drop_regions(&plan);
}

static void test_every_frame_is_heard_once_and_bit_for_bit(void **state) {
    (void)state;
    check_plan((struct plan){.frame_samples = 1152, .kind = TOWER_ENCODER_LAME, .life_us = 3000},
               150);
}

static void test_frames_that_are_not_the_encoders(void **state) {
    (void)state;
    check_plan((struct plan){.frame_samples = 1024, .kind = TOWER_ENCODER_LAME, .life_us = 3000},
               100);
}

static void test_frames_that_are_held_back_for_ffmpeg(void **state) {
    (void)state;
    check_plan((struct plan){.frame_samples = 1152, .kind = TOWER_ENCODER_FFMPEG, .life_us = 6000},
               100);
}

static void test_outages_are_what_they_would_have_been(void **state) {
    (void)state;
    check_plan(
        (struct plan){
            .frame_samples = 480, .kind = TOWER_ENCODER_LAME, .has_outages = true, .life_us = 3000},
        100);
}

/* Nobody had the time to note it. */
static void check_death_behind_the_air(enum tower_encoder_kind kind, uint64_t n_air) {
    struct plan plan = {.frame_samples = 1152, .kind = kind}, other = plan;
    struct life first, second;
    jmp_buf gone;
    plan.world = kill_shared(sizeof *plan.world);
    other.world = kill_shared(sizeof *other.world);
    assert_true(plan.world && other.world);
    begin(&first, &plan);
    death.gone = &gone;
    death.n_air = n_air;
    if (setjmp(gone) == 0) {
        for (;;)
            do_tick(&first);
    }
    death.gone = NULL;
    plan.router_fd = dup(tower_router_fd(first.router));
    plan.encoder_fd = dup(tower_encoder_manager_fd(first.encoder));
    plan.pump_fd = dup(tower_pump_fd(first.pump));
    begin(&second, &plan);
    for (unsigned i = 0; i < 30; i++)
        do_tick(&second);
    struct tower_pump_stats pump, wanted;
    tower_pump_get_stats(second.pump, &pump);
    live_undisturbed(&other, pump.ticks_due, &wanted);
    assert_int_equal(atomic_load(&plan.world->n_air), pump.ticks_due);
    assert_memory_equal(plan.world->air, other.world->air, pump.ticks_due * MP3_BYTES);
    end(&second);
    end(&first);
    munmap(plan.world, sizeof *plan.world);
    munmap(other.world, sizeof *other.world);
}

static void test_a_frame_that_just_went_on_air_is_not_heard_twice(void **state) {
    (void)state;
    check_death_behind_the_air(TOWER_ENCODER_LAME, 1);
    check_death_behind_the_air(TOWER_ENCODER_LAME, 50);
    check_death_behind_the_air(TOWER_ENCODER_FFMPEG, 3);
    check_death_behind_the_air(TOWER_ENCODER_FFMPEG, 8);
    check_death_behind_the_air(TOWER_ENCODER_FFMPEG, 50);
}

static int make_programme(void **state) {
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* as in the encoder's thread */
    size_t samples = PROGRAMME_SAMPLES + TOWER_FRAME_SAMPLES_MAX;
    programme = calloc(samples, TOWER_SAMPLE_BYTES);
    if (!programme)
        return -1;
    fixture_programme(programme, samples);
    return 0;
}

static int free_programme(void **state) {
    (void)state;
    free(programme);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_frame_that_just_went_on_air_is_not_heard_twice),
        cmocka_unit_test(test_every_frame_is_heard_once_and_bit_for_bit),
        cmocka_unit_test(test_frames_that_are_not_the_encoders),
        cmocka_unit_test(test_frames_that_are_held_back_for_ffmpeg),
        cmocka_unit_test(test_outages_are_what_they_would_have_been),
    };
    return cmocka_run_group_tests(tests, make_programme, free_programme);
}
