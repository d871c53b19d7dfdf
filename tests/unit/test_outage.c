/* An encoder's outage: one event when something stands in, one when the encoder is back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "outage.h"

#include <string.h>

#define TICK_NS INT64_C(24000000)

static struct {
    struct tower_encoder_outage outage;
    uint64_t frame;
    int64_t now_ns;
    unsigned n_events;
    struct tower_encoder_event event; /* the last */
} fixture;

static void note(void *user, const struct tower_encoder_event *event) {
    (void)user;
    fixture.n_events++;
    fixture.event = *event;
}

static int setup(void **state) {
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    fixture.outage.on_event = note;
    return 0;
}

static void emit(enum tower_delay_maker maker, bool is_back, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        fixture.now_ns += TICK_NS;
        tower_encoder_outage_emit(&fixture.outage, fixture.frame++, maker, is_back, fixture.now_ns);
    }
}

static void break_down(const char *cause) {
    tower_encoder_outage_fail(&fixture.outage, cause, "words", fixture.frame, fixture.now_ns);
}

/* What it had given is still on its way, then the spare's, then another child's. */
static void test_killed(void **state) {
    (void)state;
    emit(TOWER_DELAY_SPARE, false, 10);
    emit(TOWER_DELAY_PRIMARY, true, 100);
    assert_int_equal(fixture.n_events, 0);
    break_down("exit");
    emit(TOWER_DELAY_PRIMARY, false, 7);
    assert_int_equal(fixture.n_events, 0);
    emit(TOWER_DELAY_SPARE, false, 1);
    assert_int_equal(fixture.n_events, 1);
    assert_false(fixture.event.is_back);
    assert_string_equal(fixture.event.cause, "exit");
    assert_int_equal(fixture.event.frame, 117);
    assert_int_equal(fixture.event.at_ns, 110 * TICK_NS);
    assert_int_equal(fixture.event.to_substitute_ns, 8 * TICK_NS);
    assert_int_equal(fixture.event.frames_spare, 1);
    break_down("garbage");
    emit(TOWER_DELAY_SPARE, false, 40);
    assert_int_equal(fixture.n_events, 1);
    emit(TOWER_DELAY_PRIMARY, true, 1);
    assert_int_equal(fixture.n_events, 2);
    assert_true(fixture.event.is_back);
    assert_string_equal(fixture.event.cause, "exit");
    assert_int_equal(fixture.event.frame, 158);
    assert_int_equal(fixture.event.frames_spare, 41);
    assert_int_equal(fixture.event.frames_repair, 0);
    assert_int_equal(fixture.event.failures, 2);
    assert_int_equal(fixture.event.duration_ns, 49 * TICK_NS);
    emit(TOWER_DELAY_PRIMARY, true, 10);
    assert_int_equal(fixture.n_events, 2);
}

/* Found to be mute when the spare has long been on air. */
static void test_mute(void **state) {
    (void)state;
    emit(TOWER_DELAY_PRIMARY, true, 100);
    emit(TOWER_DELAY_SPARE, false, 13);
    assert_int_equal(fixture.n_events, 0);
    break_down("mute");
    assert_int_equal(fixture.n_events, 1);
    assert_int_equal(fixture.event.frame, 100);
    assert_int_equal(fixture.event.to_substitute_ns, 0);
    assert_int_equal(fixture.event.frames_spare, 13);
    emit(TOWER_DELAY_SPARE, false, 20);
    emit(TOWER_DELAY_PRIMARY, true, 1);
    assert_int_equal(fixture.n_events, 2);
    assert_int_equal(fixture.event.frames_spare, 33);
}

/* What LAME gave before the encoder could have been on air stood in for nothing. */
static void test_never_on_air(void **state) {
    (void)state;
    emit(TOWER_DELAY_SPARE, false, 50);
    break_down("exit");
    break_down("exit");
    assert_int_equal(fixture.n_events, 1);
    assert_int_equal(fixture.event.frames_spare, 0);
    assert_int_equal(fixture.event.frame, 50);
    emit(TOWER_DELAY_SPARE, false, 50);
    emit(TOWER_DELAY_PRIMARY, true, 1);
    assert_int_equal(fixture.event.frames_spare, 50);
    assert_int_equal(fixture.event.failures, 2);
}

static void test_encoder_thread_too_slow(void **state) {
    (void)state;
    emit(TOWER_DELAY_PRIMARY, true, 5);
    emit(TOWER_DELAY_REPAIR, false, 3);
    assert_int_equal(fixture.n_events, 1);
    assert_string_equal(fixture.event.cause, "too-slow");
    assert_int_equal(fixture.event.frame, 5);
    emit(TOWER_DELAY_PRIMARY, true, 1);
    assert_int_equal(fixture.n_events, 2);
    assert_int_equal(fixture.event.frames_repair, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_killed, setup),
        cmocka_unit_test_setup(test_mute, setup),
        cmocka_unit_test_setup(test_never_on_air, setup),
        cmocka_unit_test_setup(test_encoder_thread_too_slow, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
