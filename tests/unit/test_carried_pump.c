/* test_carried_pump.c - the pump's process dies in the middle of a tick, and the next pump does
 * that tick once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kill_fixture.h"
#include "tower/fallback.h"
#include "tower/pump.h"
#include "tower/router.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAMPLES 480
#define BYTES (SAMPLES * TOWER_SAMPLE_BYTES)
#define TICK_NS (INT64_C(10000000))
/* What takes the pump's frames in place of an encoder. */
#define OUT_FRAMES 4000
#define FEW_OUT_FRAMES 48

/* Where a tick is left in the middle, as if the process were gone. */
enum death {
    ALIVE,
    BEFORE_POP,
    AFTER_POP,
    BEFORE_FALLBACK,
    AFTER_FALLBACK,
    BEFORE_WRITE,
    AFTER_WRITE,
};

struct world {
    _Atomic int64_t now_ns;
    _Atomic bool is_ready;
};

struct life {
    struct world *world;
    struct tower_clock *clock;
    struct tower_router *router;
    struct tower_frame_ring *out;
    struct tower_pump *pump;
    struct tower_fallback *fallback; /* NULL: frames that tell their tick */
    size_t out_frames;               /* 0: OUT_FRAMES */
    bool has_outages;
    enum death death;
    jmp_buf *gone;
};

static void die(struct life *life, enum death death) {
    if (life->death != death)
        return;
    life->death = ALIVE;
    longjmp(*life->gone, 1);
}

/* Both waves repeat themselves after so many frames. */
#define WAVE_FRAMES 10
enum wave { WAVE_330_HZ, WAVE_440_HZ };
static int16_t waves[2][WAVE_FRAMES * SAMPLES];

static int make_waves(void **state) {
    (void)state;
    const double hz[] = {330, 440};
    for (unsigned wave = 0; wave < 2; wave++) {
        for (unsigned i = 0; i < WAVE_FRAMES * SAMPLES; i++)
            waves[wave][i] = (int16_t)lrint(9000 * sin(2 * M_PI * hz[wave] * i / TOWER_RATE_HZ));
    }
    return 0;
}

/* What follows on joins without a step. */
static void fill(int16_t *frame, enum wave wave, uint64_t number) {
    const int16_t *from = waves[wave] + number % WAVE_FRAMES * SAMPLES;
    for (unsigned i = 0; i < SAMPLES; i++) {
        frame[2 * i] = from[i];
        frame[2 * i + 1] = (int16_t)(number & 0x7fff);
    }
}

static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    struct life *life = self;
    die(life, BEFORE_POP);
    int is_taken = tower_router_pop_frame(life->router, timeout_ns, ret_frame, ret_flags);
    die(life, AFTER_POP);
    return is_taken == 1 && !(*ret_flags & TOWER_FRAME_WITHHELD);
}

static uint64_t count_popped(void *self) {
    struct life *life = self;
    struct tower_router_stats stats;
    tower_router_get_stats(life->router, &stats);
    return stats.popped_count;
}

static enum tower_origin get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    struct life *life = self;
    die(life, BEFORE_FALLBACK);
    enum tower_origin origin = TOWER_ORIGIN_SILENCE;
    if (life->fallback)
        origin = tower_fallback_get_frame(life->fallback, tick, ret_frame);
    else
        fill(ret_frame, WAVE_440_HZ, tick);
    die(life, AFTER_FALLBACK);
    return origin;
}

static int write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    struct life *life = self;
    die(life, BEFORE_WRITE);
    assert_int_equal(tower_frame_ring_push(life->out, frame, frame_bytes, 0), 1);
    die(life, AFTER_WRITE);
    return 0;
}

static uint64_t count_written(void *self) {
    struct life *life = self;
    return tower_frame_ring_pushed(life->out);
}

struct carried {
    int router_fd, out_fd, pump_fd;
};

static void begin(struct life *life, const struct carried *carried) {
    assert_int_equal(tower_clock_virtual_new(atomic_load(&life->world->now_ns), &life->clock), 0);
    tower_clock_virtual_set_auto(life->clock, true);
    assert_int_equal(
        tower_router_open(life->clock, carried->router_fd, 50, BYTES, &life->router, NULL), 0);
    assert_int_equal(tower_frame_ring_open(carried->out_fd,
                                           life->out_frames ? life->out_frames : OUT_FRAMES, BYTES,
                                           TOWER_FRAME_RING_DROP_NEWEST, &life->out, NULL),
                     0);
    struct tower_pump_config config = {.clock = life->clock,
                                       .frame_samples = SAMPLES,
                                       .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
                                       .pcm_buffer = {life, pop_frame},
                                       .fallback = {life, get_frame},
                                       .encoder = {life, write_pcm},
                                       .carried_fd = carried->pump_fd,
                                       .count_popped = count_popped,
                                       .count_written = count_written};
    assert_int_equal(tower_pump_new(&config, &life->pump), 0);
}

static struct carried leave(const struct life *life) {
    return (struct carried){
        .router_fd = fcntl(tower_router_fd(life->router), F_DUPFD_CLOEXEC, 3),
        .out_fd = fcntl(tower_frame_ring_fd(life->out), F_DUPFD_CLOEXEC, 3),
        .pump_fd = fcntl(tower_pump_fd(life->pump), F_DUPFD_CLOEXEC, 3),
    };
}

static void end(struct life *life) {
    tower_pump_free(life->pump);
    tower_frame_ring_free(life->out);
    tower_router_free(life->router);
    tower_fallback_free(life->fallback);
    tower_clock_free(life->clock);
    life->fallback = NULL;
}

static uint64_t live_ticks(const struct life *life, uint64_t tick) {
    const uint64_t round = 16, live = 11;
    if (!life->has_outages)
        return tick + 1;
    uint64_t rest = (tick + 1) % round;
    return (tick + 1) / round * live + (rest < live ? rest : live);
}

static void push(struct life *life, uint64_t number) {
    int16_t frame[SAMPLES * TOWER_CHANNELS];
    fill(frame, WAVE_330_HZ, number);
    assert_int_equal(tower_router_push_frame(life->router, frame, BYTES), 1);
}

static void do_tick(struct life *life) {
    struct tower_pump_stats pump;
    struct tower_router_stats router;
    tower_pump_get_stats(life->pump, &pump);
    tower_router_get_stats(life->router, &router);
    for (uint64_t n = router.pushed_count; n < live_ticks(life, pump.ticks_due); n++)
        push(life, n);
    tower_pump_step(life->pump);
    atomic_store(&life->world->now_ns, tower_clock_now_ns(life->clock));
}

/* ---- a death at a chosen place ---- */

static void do_tick_and_die(struct life *life, enum death death) {
    jmp_buf gone;
    life->death = death;
    life->gone = &gone;
    if (setjmp(gone) == 0)
        do_tick(life);
    assert_int_equal(life->death, ALIVE);
}

/* Ten ticks, a death in the eleventh, ten more: what comes out is what one pump alone gives. */
static void check_death(enum death death, bool has_outages) {
    struct world world = {0}, other_world = {0};
    const struct carried none = {-1, -1, -1};
    struct life first = {.world = &world, .has_outages = has_outages}, second = first;
    struct life alone = {.world = &other_world, .has_outages = has_outages};
    int16_t frame[SAMPLES * TOWER_CHANNELS], wanted[SAMPLES * TOWER_CHANNELS];
    struct tower_pump_stats stats, wanted_stats;
    begin(&first, &none);
    begin(&alone, &none);
    unsigned before = has_outages ? 12 : 10;
    for (unsigned i = 0; i < before; i++)
        do_tick(&first);
    do_tick_and_die(&first, death);
    struct carried carried = leave(&first);
    begin(&second, &carried);
    assert_int_equal(tower_pump_fd(second.pump), carried.pump_fd);
    tower_pump_get_stats(second.pump, &stats);
    assert_int_equal(stats.ticks_due, before + (death == AFTER_WRITE));
    while (stats.ticks_due < 40) {
        do_tick(&second);
        tower_pump_get_stats(second.pump, &stats);
    }
    for (unsigned i = 0; i < 40; i++)
        do_tick(&alone);
    tower_pump_get_stats(alone.pump, &wanted_stats);
    assert_int_equal(stats.ticks_due, wanted_stats.ticks_due);
    assert_int_equal(stats.ticks_emitted, wanted_stats.ticks_emitted);
    assert_int_equal(stats.seams, wanted_stats.seams);
    assert_int_equal(stats.lateness.total, wanted_stats.lateness.total);
    assert_memory_equal(stats.frames_by_origin, wanted_stats.frames_by_origin,
                        sizeof stats.frames_by_origin);
    assert_int_equal(tower_frame_ring_count(second.out), 40);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(tower_frame_ring_pop(second.out, frame, NULL, NULL), 1);
        assert_int_equal(tower_frame_ring_pop(alone.out, wanted, NULL, NULL), 1);
        assert_memory_equal(frame, wanted, sizeof frame);
    }
    end(&second);
    end(&first);
    end(&alone);
}

static void test_dead_before_or_behind_the_pop(void **state) {
    (void)state;
    check_death(BEFORE_POP, false);
    check_death(AFTER_POP, false);
    check_death(BEFORE_POP, true);
    check_death(AFTER_POP, true);
}

static void test_dead_before_or_behind_the_fallback(void **state) {
    (void)state;
    check_death(BEFORE_FALLBACK, true);
    check_death(AFTER_FALLBACK, true);
}

static void test_dead_before_or_behind_the_write(void **state) {
    (void)state;
    check_death(BEFORE_WRITE, false);
    check_death(AFTER_WRITE, false);
    check_death(BEFORE_WRITE, true);
    check_death(AFTER_WRITE, true);
}

static void test_dead_air_that_was_taken_takes_its_tick(void **state) {
    (void)state;
    struct world world = {0};
    const struct carried none = {-1, -1, -1};
    struct life first = {.world = &world}, second = first;
    int16_t frame[SAMPLES * TOWER_CHANNELS] = {0};
    jmp_buf gone;
    struct tower_pump_stats stats;
    begin(&first, &none);
    assert_int_equal(
        tower_router_push_marked_frame(first.router, frame, BYTES, TOWER_FRAME_WITHHELD), 1);
    push(&first, 1);
    first.death = AFTER_POP;
    first.gone = &gone;
    if (setjmp(gone) == 0)
        tower_pump_step(first.pump);
    struct carried carried = leave(&first);
    begin(&second, &carried);
    tower_pump_step(second.pump);
    tower_pump_step(second.pump);
    tower_pump_get_stats(second.pump, &stats);
    assert_int_equal(stats.frames_by_origin[TOWER_ORIGIN_SILENCE], 1);
    assert_int_equal(stats.frames_by_origin[TOWER_ORIGIN_LIVE], 1);
    end(&second);
    end(&first);
}

/* ---- time ---- */

static void check_gap(int64_t gap_ns, uint64_t made_up, uint64_t skipped) {
    struct world world = {.now_ns = 5000000000};
    const struct carried none = {-1, -1, -1};
    struct life first = {.world = &world}, second = first;
    struct tower_pump_stats stats;
    begin(&first, &none);
    for (unsigned i = 0; i < 10; i++)
        do_tick(&first);
    struct carried carried = leave(&first);
    atomic_fetch_add(&world.now_ns, gap_ns);
    begin(&second, &carried);
    int64_t now_ns = tower_clock_now_ns(second.clock);
    for (uint64_t i = 0; i < made_up; i++)
        do_tick(&second);
    assert_int_equal(tower_clock_now_ns(second.clock), now_ns);
    do_tick(&second);
    tower_pump_get_stats(second.pump, &stats);
    assert_int_equal(stats.ticks_skipped, skipped);
    assert_int_equal(stats.ticks_emitted, 10 + made_up + 1);
    assert_int_equal(stats.ticks_due, stats.ticks_emitted + stats.ticks_skipped);
    assert_true(tower_clock_now_ns(second.clock) > now_ns || skipped > 0);
    end(&second);
    end(&first);
}

static void test_what_was_missed_is_made_up_for_or_counted(void **state) {
    (void)state;
    check_gap(0, 0, 0);
    check_gap(5 * TICK_NS, 5, 0);
    check_gap(TOWER_PUMP_RESYNC_AFTER_NS + 10 * TICK_NS, 0, 34);
}

/* ---- outages ---- */

static struct tower_fallback *new_fallback(struct life *life) {
    struct tower_fallback_config config = {.clock = life->clock,
                                           .frame_samples = SAMPLES,
                                           .grace_ns = 20 * TICK_NS,
                                           .tone_hz = 440,
                                           .tone_dbfs = -10};
    struct tower_fallback *fallback;
    assert_int_equal(tower_fallback_new(&config, &fallback), 0);
    return fallback;
}

/* So many ticks of an outage, a death, and the rest of it. Returns the frames of grace; the largest
 * step between samples is below what a bare seam makes. */
static uint64_t grace_of(unsigned before, enum death death) {
    struct world world = {0};
    const struct carried none = {-1, -1, -1};
    struct life first = {.world = &world}, second = first;
    int16_t frame[SAMPLES * TOWER_CHANNELS], last = 0;
    struct tower_pump_stats stats;
    uint64_t next_tick;
    begin(&first, &none);
    first.fallback = new_fallback(&first);
    do_tick(&first);
    for (unsigned i = 0; i < before; i++)
        tower_pump_step(first.pump);
    atomic_store(&world.now_ns, tower_clock_now_ns(first.clock));
    jmp_buf gone;
    first.death = death;
    first.gone = &gone;
    if (death != ALIVE && setjmp(gone) == 0)
        tower_pump_step(first.pump);
    struct carried carried = leave(&first);
    begin(&second, &carried);
    second.fallback = new_fallback(&second);
    uint64_t outage_frames = tower_pump_outage(second.pump, &next_tick);
    tower_fallback_resume(second.fallback, next_tick, outage_frames);
    for (unsigned i = 0; i < 40; i++)
        tower_pump_step(second.pump);
    tower_pump_get_stats(second.pump, &stats);
    int largest = 0;
    while (tower_frame_ring_pop(second.out, frame, NULL, NULL) == 1) {
        for (unsigned i = 0; i < SAMPLES; i++) {
            int step = abs(frame[2 * i] - last);
            largest = step > largest ? step : largest;
            last = frame[2 * i];
        }
    }
    /* 440 Hz at -10 dBFS and 330 Hz at 9000 step by some 600 at most. */
    assert_true(largest < 900);
    end(&second);
    end(&first);
    return stats.frames_by_origin[TOWER_ORIGIN_GRACE];
}

static void test_an_outage_has_one_grace(void **state) {
    (void)state;
    for (enum death death = ALIVE; death <= AFTER_WRITE; death++) {
        assert_int_equal(grace_of(5, death), 20);
        assert_int_equal(grace_of(20, death), 20);
        assert_int_equal(grace_of(33, death), 20);
    }
    assert_int_equal(grace_of(0, ALIVE), 20);
}

/* ---- what does not hold ---- */

static void test_what_does_not_hold_is_dropped(void **state) {
    (void)state;
    struct world world = {.now_ns = 1000000000};
    const struct carried none = {-1, -1, -1};
    struct life first = {.world = &world}, second = first;
    begin(&first, &none);
    do_tick(&first);
    struct carried carried = leave(&first);
    /* A clock that has gone back: then it begins anew, and the counters go on. */
    atomic_store(&world.now_ns, 0);
    begin(&second, &carried);
    do_tick(&second);
    struct tower_pump_stats stats;
    tower_pump_get_stats(second.pump, &stats);
    assert_int_equal(stats.ticks_emitted, 2);
    assert_int_equal(tower_clock_now_ns(second.clock), 0);
    end(&second);

    struct life third = {.world = &world};
    int junk = memfd_create("junk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(junk, 1 << 16), 0);
    struct carried bad = {-1, -1, junk};
    begin(&third, &bad);
    assert_int_not_equal(tower_pump_fd(third.pump), junk);
    assert_int_equal(fcntl(junk, F_GETFD), FD_CLOEXEC);
    do_tick(&third);
    end(&third);
    close(junk);
    end(&first);
}

/* ---- killed ---- */

#define KILLS 300

struct killed {
    struct world *world;
    struct carried carried;
};

static void live_until_killed(void *arg) {
    const struct killed *killed = arg;
    struct life life = {.world = killed->world, .has_outages = true};
    begin(&life, &killed->carried);
    atomic_store(&killed->world->is_ready, true);
    for (;;)
        do_tick(&life);
}

static void test_killed_at_any_moment_each_tick_is_done_once(void **state) {
    (void)state;
    struct killed killed = {.world = kill_shared(sizeof *killed.world)};
    struct world other_world = {0};
    const struct carried none = {-1, -1, -1};
    struct life made = {.world = killed.world},
                alone = {.world = &other_world, .has_outages = true};
    int16_t frame[SAMPLES * TOWER_CHANNELS], wanted[SAMPLES * TOWER_CHANNELS];
    uint64_t random = 88172645463325252U, frames = 0;
    assert_non_null(killed.world);
    begin(&made, &none);
    killed.carried = leave(&made);
    begin(&alone, &none);
    for (unsigned i = 0; i < KILLS; i++) {
        assert_true(
            kill_midway(live_until_killed, &killed, &killed.world->is_ready, &random, 2000));
        /* Nobody else has the ring now. */
        for (; tower_frame_ring_pop(made.out, frame, NULL, NULL) == 1; frames++) {
            do_tick(&alone);
            assert_int_equal(tower_frame_ring_pop(alone.out, wanted, NULL, NULL), 1);
            if (memcmp(frame, wanted, sizeof frame) != 0)
                fail_msg("frame %llu is another one, after %u kills", (unsigned long long)frames,
                         i + 1);
        }
    }
    print_message("%d kills, %llu ticks\n", KILLS, (unsigned long long)frames);
    assert_true(frames > KILLS);
    end(&made);
    end(&alone);
    struct life last = {.world = killed.world};
    struct tower_pump_stats stats;
    begin(&last, &killed.carried);
    tower_pump_get_stats(last.pump, &stats);
    assert_int_equal(stats.ticks_due, frames);
    assert_int_equal(stats.ticks_emitted, frames);
    end(&last);
}

/* ---- at each instruction ---- */

/* With a sanitizer's own there are too many instructions in any tick to go through one by one. */
#ifndef __SANITIZE_THREAD__

struct stepped {
    struct life life;
    struct life alone;
    uint64_t ticks; /* before the one that is looked at */
};

static void do_one_tick(void *user) {
    struct stepped *stepped = user;
    tower_pump_step(stepped->life.pump);
}

/* Whoever goes on from there gives what one pump alone gives. */
static void check_what_is_left(void *user, const int *fds) {
    struct stepped *stepped = user;
    const struct carried carried = {.router_fd = fds[0], .out_fd = fds[1], .pump_fd = fds[2]};
    struct world world = {.now_ns = atomic_load(&stepped->life.world->now_ns)};
    struct life next = {.world = &world, .has_outages = true, .out_frames = FEW_OUT_FRAMES};
    int16_t frame[SAMPLES * TOWER_CHANNELS], wanted[SAMPLES * TOWER_CHANNELS];
    struct tower_pump_stats stats;
    struct tower_frame_ring *alone;
    begin(&next, &carried);
    for (tower_pump_get_stats(next.pump, &stats); stats.ticks_due < stepped->ticks + 3;
         tower_pump_get_stats(next.pump, &stats))
        do_tick(&next);
    assert_int_equal(stats.ticks_emitted, stats.ticks_due);
    assert_int_equal(tower_frame_ring_pushed(next.out), stepped->ticks + 3);
    assert_int_equal(tower_frame_ring_open(kill_copy(tower_frame_ring_fd(stepped->alone.out)),
                                           FEW_OUT_FRAMES, BYTES, TOWER_FRAME_RING_DROP_NEWEST,
                                           &alone, NULL),
                     0);
    for (uint64_t i = 0; i < stepped->ticks + 3; i++) {
        assert_int_equal(tower_frame_ring_pop(next.out, frame, NULL, NULL), 1);
        assert_int_equal(tower_frame_ring_pop(alone, wanted, NULL, NULL), 1);
        assert_memory_equal(frame, wanted, sizeof frame);
    }
    tower_frame_ring_free(alone);
    end(&next);
}

static void check_each_store(uint64_t ticks) {
    struct world world = {0}, other_world = {0};
    const struct carried none = {-1, -1, -1};
    struct stepped stepped = {
        .life = {.world = &world, .has_outages = true, .out_frames = FEW_OUT_FRAMES},
        .alone = {.world = &other_world, .has_outages = true, .out_frames = FEW_OUT_FRAMES},
        .ticks = ticks};
    begin(&stepped.life, &none);
    begin(&stepped.alone, &none);
    for (uint64_t i = 0; i < ticks; i++)
        do_tick(&stepped.life);
    for (uint64_t i = 0; i < ticks + 3; i++)
        do_tick(&stepped.alone);
    struct tower_router_stats router;
    tower_router_get_stats(stepped.life.router, &router);
    for (uint64_t n = router.pushed_count; n < live_ticks(&stepped.life, ticks); n++)
        push(&stepped.life, n);
    const int fds[] = {tower_router_fd(stepped.life.router), tower_frame_ring_fd(stepped.life.out),
                       tower_pump_fd(stepped.life.pump)};
    unsigned looks = kill_at_each_store(do_one_tick, check_what_is_left, &stepped, fds,
                                        sizeof fds / sizeof *fds);
    print_message("a tick changes what is left %u times\n", looks);
    assert_true(looks > 50);
    end(&stepped.life);
    end(&stepped.alone);
}

static void test_each_store_of_a_tick_may_be_the_last(void **state) {
    (void)state;
    /* Not where a join begins: a million instructions, one by one, take their time. */
    check_each_store(0);  /* the first */
    check_each_store(5);  /* live behind live */
    check_each_store(14); /* the fallback behind the fallback */
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_before_or_behind_the_pop),
        cmocka_unit_test(test_dead_before_or_behind_the_fallback),
        cmocka_unit_test(test_dead_before_or_behind_the_write),
        cmocka_unit_test(test_dead_air_that_was_taken_takes_its_tick),
        cmocka_unit_test(test_what_was_missed_is_made_up_for_or_counted),
        cmocka_unit_test(test_an_outage_has_one_grace),
        cmocka_unit_test(test_what_does_not_hold_is_dropped),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(test_each_store_of_a_tick_may_be_the_last),
#endif
        cmocka_unit_test(test_killed_at_any_moment_each_tick_is_done_once),
    };
    return cmocka_run_group_tests(tests, make_waves, NULL);
}
