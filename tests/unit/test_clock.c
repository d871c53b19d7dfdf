/* The clock: real and virtual, sleeping, waiting on a condition, moved by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/clock.h"
#include "tower/format.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

static struct tower_clock *clock_now;
static _Atomic int result;
static _Atomic int64_t woken_ns;
static _Atomic bool is_cancelled;

static int setup(void **state) {
    (void)state;
    result = 1;
    woken_ns = -1;
    is_cancelled = false;
    return tower_clock_virtual_new(1000, &clock_now);
}

static int teardown(void **state) {
    (void)state;
    tower_clock_free(clock_now);
    return 0;
}

static void *sleep_until_5000(void *arg) {
    (void)arg;
    result = tower_clock_sleep_until(clock_now, 5000);
    woken_ns = tower_clock_now_ns(clock_now);
    return NULL;
}

static void *sleep_until_cancelled(void *arg) {
    (void)arg;
    result = tower_clock_sleep_until_or(clock_now, 5000, &is_cancelled);
    return NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;

static void *wait_until_5000(void *arg) {
    (void)arg;
    pthread_mutex_lock(&mutex);
    result = tower_clock_cond_wait_until(clock_now, &cond, &mutex, 5000);
    woken_ns = tower_clock_now_ns(clock_now);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void test_virtual_sleeper_wakes_when_its_time_comes(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sleep_until_5000, NULL), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
    tower_clock_virtual_advance(clock_now, 3999);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
    assert_int_equal(woken_ns, -1);
    tower_clock_virtual_advance(clock_now, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, 0);
    assert_int_equal(woken_ns, 5000);
}

static void test_wake_ends_a_virtual_sleep(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sleep_until_5000, NULL), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
    tower_clock_wake(clock_now);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, -EINTR);
    assert_int_equal(woken_ns, 1000);
}

static void test_cancelled_sleep_cannot_miss_its_wake(void **state) {
    (void)state;
    /* Cancelled at any moment, before or while it sleeps: it ends. */
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        is_cancelled = false;
        assert_int_equal(pthread_create(&thread, NULL, sleep_until_cancelled, NULL), 0);
        if (i % 2)
            assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
        is_cancelled = true;
        tower_clock_wake(clock_now);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(result, -ECANCELED);
    }
}

static void test_virtual_condition_times_out_on_the_clock(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(tower_clock_cond_init(&cond), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_until_5000, NULL), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
    tower_clock_virtual_advance(clock_now, 4000);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, -ETIMEDOUT);
    assert_int_equal(woken_ns, 5000);
    pthread_cond_destroy(&cond);
}

static void test_virtual_condition_can_be_signalled(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(tower_clock_cond_init(&cond), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_until_5000, NULL), 0);
    assert_int_equal(tower_clock_virtual_await_sleepers(clock_now, 1), 0);
    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, 0);
    assert_int_equal(woken_ns, 1000);
    pthread_cond_destroy(&cond);
}

static void test_automatic_clock_jumps_to_the_deadline(void **state) {
    (void)state;
    tower_clock_virtual_set_auto(clock_now, true);
    assert_int_equal(tower_clock_sleep_until(clock_now, 86400 * TOWER_NS_PER_S), 0);
    assert_int_equal(tower_clock_now_ns(clock_now), 86400 * TOWER_NS_PER_S);
    /* A deadline that has passed costs nothing. */
    assert_int_equal(tower_clock_sleep_until(clock_now, 5), 0);
    assert_int_equal(tower_clock_now_ns(clock_now), 86400 * TOWER_NS_PER_S);
}

static void test_oversleeper_wakes_late_once(void **state) {
    (void)state;
    tower_clock_virtual_set_auto(clock_now, true);
    tower_clock_virtual_oversleep(clock_now, 300);
    /* Who does not wait at all does not oversleep. */
    assert_int_equal(tower_clock_sleep_until(clock_now, 1000), 0);
    assert_int_equal(tower_clock_now_ns(clock_now), 1000);
    assert_int_equal(tower_clock_sleep_until(clock_now, 2000), 0);
    assert_int_equal(tower_clock_now_ns(clock_now), 2300);
    assert_int_equal(tower_clock_sleep_until(clock_now, 3000), 0);
    assert_int_equal(tower_clock_now_ns(clock_now), 3000);
}

static void test_poll_timeout_rounds_up(void **state) {
    (void)state;
    assert_int_equal(tower_clock_poll_timeout_ms(clock_now, 1000), 0);
    assert_int_equal(tower_clock_poll_timeout_ms(clock_now, 1001), 1);
    assert_int_equal(tower_clock_poll_timeout_ms(clock_now, INT64_MAX), -1);
    struct tower_clock *real = tower_clock_real();
    int64_t now_ns = tower_clock_now_ns(real);
    assert_in_range(tower_clock_poll_timeout_ms(real, now_ns + 30 * TOWER_NS_PER_S), 1, 30000);
    assert_int_equal(tower_clock_poll_timeout_ms(real, now_ns + 3600 * TOWER_NS_PER_S), 60000);
    assert_int_equal(tower_clock_poll_timeout_ms(real, now_ns), 0);
}

/* Whoever waits for so long finds that the deadline has come. */
static void test_poll_timeout_on_the_real_clock_is_never_short(void **state) {
    (void)state;
    struct tower_clock *real = tower_clock_real();
    for (int64_t us = 100; us < 20000; us += 100) {
        int64_t deadline_ns = tower_clock_now_ns(real) + us * 1000;
        int timeout_ms = tower_clock_poll_timeout_ms(real, deadline_ns);
        int64_t after_ns = tower_clock_now_ns(real);
        assert_true(after_ns + timeout_ms * INT64_C(1000000) >= deadline_ns);
    }
}

static _Atomic unsigned signals;

static void count_signal(int number) {
    (void)number;
    signals++;
}

/* Signals that keep coming do not end it; its flag does. */
static void test_signals_do_not_cut_a_sleep_short(void **state) {
    (void)state;
    struct tower_clock *real = tower_clock_real();
    struct sigaction action = {.sa_handler = count_signal}, before;
    const struct itimerval each_5_ms = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}};
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &each_5_ms, NULL), 0);
    int64_t deadline_ns = tower_clock_now_ns(real) + 100000000;
    int slept = tower_clock_sleep_until_or(real, deadline_ns, &is_cancelled);
    int64_t woke_ns = tower_clock_now_ns(real);
    is_cancelled = true;
    int cancelled = tower_clock_sleep_until_or(real, INT64_MAX, &is_cancelled);
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_int_equal(slept, 0);
    assert_true(woke_ns >= deadline_ns);
    assert_true(signals > 0);
    assert_int_equal(cancelled, -ECANCELED);
}

static void test_real_sleep_ends_not_before_its_deadline(void **state) {
    (void)state;
    struct tower_clock *real = tower_clock_real();
    int64_t deadline_ns = tower_clock_now_ns(real) + 5000000;
    assert_int_equal(tower_clock_sleep_until(real, deadline_ns), 0);
    assert_true(tower_clock_now_ns(real) >= deadline_ns);
    assert_int_equal(tower_clock_sleep_until(real, deadline_ns), 0);
    tower_clock_free(real);
    assert_true(tower_clock_now_ns(real) >= deadline_ns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_virtual_sleeper_wakes_when_its_time_comes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_wake_ends_a_virtual_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled_sleep_cannot_miss_its_wake, setup, teardown),
        cmocka_unit_test_setup_teardown(test_virtual_condition_times_out_on_the_clock, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_virtual_condition_can_be_signalled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_automatic_clock_jumps_to_the_deadline, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_oversleeper_wakes_late_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_poll_timeout_rounds_up, setup, teardown),
        cmocka_unit_test(test_poll_timeout_on_the_real_clock_is_never_short),
        cmocka_unit_test_setup_teardown(test_signals_do_not_cut_a_sleep_short, setup, teardown),
        cmocka_unit_test(test_real_sleep_ends_not_before_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
