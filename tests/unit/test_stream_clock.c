/* The clock of a client that sends a stream: what is made of it keeps to the host's clock, where it
 * goes by one at all. Samples are counted here, not resampled. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "stream_clock.h"
#include "tower/clock.h"
#include "tower/format.h"

#include <math.h>

#define RATE 48000
#define MS INT64_C(1000000)
#define HOUR_S 3600
#define HOLD_S 0.2
/* What a decoder gives at a time. */
#define PIECE 4096

/* A client, its network, and a transmitter that plays what is made behind a cushion. */
struct simulated {
    struct tower_clock *time;
    struct tower_stream_clock clock;
    uint64_t random;

    double ppm;        /* of the client's card */
    double page_min_s; /* a page is as long as from this */
    double page_max_s; /* to this */
    double late_s;     /* it comes up to this after its end */
    double captured_s; /* the page's end, on the host's clock */
    uint64_t captured; /* samples till then */
    double taken_out;  /* samples made */
    bool is_playing;   /* from `play_from_s` on, samples made since it last ran dry */
    double play_from_s;
    double play_from_made;
    unsigned n_dry;
    double delay_lowest_s; /* from the card to the air, of a page's last sample */
    double delay_highest_s;
};

static double random_of(struct simulated *simulated) {
    simulated->random = simulated->random * UINT64_C(6364136223846793005) + 1;
    return (double)(simulated->random >> 40) / (double)(1 << 24);
}

static double now_s(const struct simulated *simulated) {
    return (double)tower_clock_now_ns(simulated->time) / (double)TOWER_NS_PER_S;
}

static void begin(struct simulated *simulated, double ppm) {
    *simulated = (struct simulated){
        .random = 5, .ppm = ppm, .page_min_s = 0.5, .page_max_s = 0.5, .late_s = 0.005};
    assert_int_equal(tower_clock_virtual_new(1000 * TOWER_NS_PER_S, &simulated->time), 0);
    simulated->captured_s = now_s(simulated);
    tower_stream_clock_init(&simulated->clock, tower_clock_now_ns(simulated->time));
}

static void end(struct simulated *simulated) {
    tower_clock_free(simulated->time);
}

static void forget_delay(struct simulated *simulated) {
    simulated->n_dry = 0;
    simulated->delay_lowest_s = INFINITY;
    simulated->delay_highest_s = -INFINITY;
}

/* As the client is treated where nothing of it is there any more: held for a moment. */
static void see_dry(struct simulated *simulated) {
    double played = (now_s(simulated) - simulated->play_from_s) * RATE;
    double left = simulated->taken_out - simulated->play_from_made - played;
    if (simulated->is_playing && left >= 0)
        return;
    simulated->n_dry += simulated->is_playing;
    if (simulated->is_playing)
        tower_stream_clock_lose_place(&simulated->clock);
    simulated->is_playing = true;
    simulated->play_from_s = now_s(simulated) + HOLD_S;
    simulated->play_from_made = simulated->taken_out;
}

static void receive(struct simulated *simulated, uint64_t n_samples) {
    while (n_samples > 0) {
        size_t n = n_samples < PIECE ? (size_t)n_samples : PIECE;
        double ratio =
            tower_stream_clock_take(&simulated->clock, tower_clock_now_ns(simulated->time), n);
        simulated->taken_out += (ratio > 0 ? ratio : 1) * (double)n;
        n_samples -= n;
    }
}

static void page(struct simulated *simulated) {
    double range_s = simulated->page_max_s - simulated->page_min_s;
    double length_s = simulated->page_min_s + range_s * random_of(simulated);
    simulated->captured_s += length_s;
    uint64_t samples =
        (uint64_t)(length_s * RATE * (1 + simulated->ppm / 1e6) + random_of(simulated));
    simulated->captured += samples;
    double arrival_s = simulated->captured_s + simulated->late_s * random_of(simulated);
    /* In order. */
    if (arrival_s > now_s(simulated))
        tower_clock_virtual_advance(simulated->time,
                                    (int64_t)((arrival_s - now_s(simulated)) * 1e9));
    see_dry(simulated);
    receive(simulated, samples);
    double heard_s =
        simulated->play_from_s + (simulated->taken_out - simulated->play_from_made) / RATE;
    double delay_s = heard_s - simulated->captured_s;
    simulated->delay_lowest_s = fmin(simulated->delay_lowest_s, delay_s);
    simulated->delay_highest_s = fmax(simulated->delay_highest_s, delay_s);
}

static struct tower_clock_match_view run_for(struct simulated *simulated, double seconds) {
    struct tower_clock_match_view view;
    double until_s = now_s(simulated) + seconds;
    while (now_s(simulated) < until_s)
        page(simulated);
    tower_stream_clock_view(&simulated->clock, &view);
    return view;
}

/* ---- an hour ---- */

/* Without matching, 100 ppm are 360 ms in it. */
static void run_an_hour(struct simulated *simulated, double off_max_ppm) {
    (void)run_for(simulated, 60);
    forget_delay(simulated);
    page(simulated);
    double before_s = simulated->delay_lowest_s;
    struct tower_clock_match_view view = run_for(simulated, HOUR_S);
    print_message("%+.0f ppm, late %.0f ms: delay %.0f ms, from %.0f to %.0f; %.1f ppm +-%.1f\n",
                  simulated->ppm, simulated->late_s * 1000, before_s * 1000,
                  simulated->delay_lowest_s * 1000, simulated->delay_highest_s * 1000, view.ppm,
                  view.spread_ppm);
    assert_true(view.is_known);
    assert_true(fabs(view.ppm - simulated->ppm) < off_max_ppm);
    assert_int_equal(simulated->n_dry, 0);
    assert_true(simulated->delay_lowest_s > before_s - 0.1);
    assert_true(simulated->delay_highest_s < before_s + 0.1);
    end(simulated);
}

static void test_an_hour_of_pages_of_half_a_second(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct simulated simulated;
        begin(&simulated, sign * 100);
        run_an_hour(&simulated, 2);
    }
}

static void test_an_hour_of_pages_of_any_length(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct simulated simulated;
        begin(&simulated, sign * 100);
        simulated.page_min_s = 0.1;
        simulated.page_max_s = 1.0;
        simulated.late_s = 0.05;
        run_an_hour(&simulated, 20);
    }
}

/* A network that holds every page back for up to half a second. */
static void test_an_hour_of_pages_that_come_late(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct simulated simulated;
        begin(&simulated, sign * 100);
        simulated.late_s = 0.5;
        run_an_hour(&simulated, 300);
    }
}

/* What it sent ahead at its beginning is a delay like any other. */
static void test_a_burst_at_the_beginning_stays_a_delay(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 100);
    see_dry(&simulated);
    simulated.captured += 2 * RATE;
    receive(&simulated, 2 * RATE);
    run_an_hour(&simulated, 2);
}

/* ---- what is no clock ---- */

static void assert_left_alone(struct simulated *simulated) {
    struct tower_clock_match_view view;
    struct tower_clock_report report;
    tower_stream_clock_view(&simulated->clock, &view);
    assert_false(view.is_known);
    assert_true(simulated->taken_out == (double)simulated->captured);
    assert_false(
        tower_stream_clock_report(&simulated->clock, tower_clock_now_ns(simulated->time), &report));
}

static void test_nothing_is_changed_at_first(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 400);
    (void)run_for(&simulated, 20);
    assert_left_alone(&simulated);
    assert_true(run_for(&simulated, 70).is_known);
    end(&simulated);
}

/* As fast as the transmitter takes it, which is in real time: it waits all the time. */
static void test_a_file_that_waits_for_us_is_left_alone(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 0);
    simulated.captured += 3 * RATE;
    receive(&simulated, 3 * RATE);
    for (int i = 0; i < HOUR_S; i++) {
        tower_stream_clock_begin(&simulated.clock, tower_clock_now_ns(simulated.time));
        (void)run_for(&simulated, 1);
    }
    assert_left_alone(&simulated);
    end(&simulated);
}

static void test_what_is_faster_or_slower_than_any_card_is_left_alone(void **state) {
    (void)state;
    static const double rates_ppm[] = {1000000, 50000, 2000, -2000, -50000, -500000};
    for (size_t i = 0; i < sizeof rates_ppm / sizeof rates_ppm[0]; i++) {
        struct simulated simulated;
        begin(&simulated, rates_ppm[i]);
        (void)run_for(&simulated, 600);
        assert_left_alone(&simulated);
        end(&simulated);
    }
}

/* ---- what begins and ends ---- */

static void test_who_has_to_wait_is_matched_no_more_until_it_is_sure_again(void **state) {
    (void)state;
    struct simulated simulated;
    struct tower_clock_report report;
    begin(&simulated, -80);
    (void)run_for(&simulated, 120);
    int64_t now_ns = tower_clock_now_ns(simulated.time);
    assert_true(tower_stream_clock_report(&simulated.clock, now_ns, &report));
    assert_true(report.is_known);
    assert_true(fabs(report.ppm + 80) < 10);
    assert_true(fabs(report.correction_ppm - 80) < 20);
    assert_true(report.n_overruns == 0);
    assert_false(tower_stream_clock_report(&simulated.clock, now_ns + 4999 * MS, &report));
    assert_true(tower_stream_clock_report(&simulated.clock, now_ns + 5000 * MS, &report));

    tower_stream_clock_begin(&simulated.clock, now_ns);
    assert_true(tower_stream_clock_report(&simulated.clock, now_ns, &report));
    assert_false(report.is_known);
    assert_false(tower_stream_clock_report(&simulated.clock, now_ns, &report));
    double made = simulated.taken_out;
    uint64_t captured = simulated.captured;
    struct tower_clock_match_view view = run_for(&simulated, 20);
    assert_true(simulated.taken_out - made == (double)(simulated.captured - captured));
    /* As it was last, for the log. */
    assert_true(view.is_known);
    (void)run_for(&simulated, 90);
    now_ns = tower_clock_now_ns(simulated.time);
    assert_true(tower_stream_clock_report(&simulated.clock, now_ns, &report));
    assert_true(report.is_known);
    end(&simulated);
}

static void test_one_that_stops_and_goes_on_keeps_its_rate(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 100);
    (void)run_for(&simulated, 300);
    forget_delay(&simulated);
    /* What was captured meanwhile is lost. */
    simulated.captured_s += 7;
    page(&simulated);
    assert_int_equal(simulated.n_dry, 1);
    for (int i = 0; i < 60; i++) {
        struct tower_clock_match_view view = run_for(&simulated, 1);
        assert_true(fabs(view.ppm - 100) < 10);
        assert_true(fabs(view.correction_ppm + 100) < 60);
    }
    run_an_hour(&simulated, 2);
}

/* Some of the stream is lost with a decoder that is started anew: it is not made up. */
static void test_a_decoder_that_is_started_anew_is_another_place(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, 100);
    (void)run_for(&simulated, 300);
    simulated.captured_s += 0.06;
    tower_stream_clock_lose_place(&simulated.clock);
    for (int i = 0; i < 60; i++) {
        struct tower_clock_match_view view = run_for(&simulated, 1);
        assert_true(fabs(view.ppm - 100) < 10);
        assert_true(fabs(view.correction_ppm + 100) < 60);
    }
    end(&simulated);
}

/* All that the network kept back comes at once. */
static void test_a_network_that_stalls_changes_nothing(void **state) {
    (void)state;
    struct simulated simulated;
    begin(&simulated, -100);
    (void)run_for(&simulated, 300);
    for (int i = 0; i < 20; i++) {
        tower_clock_virtual_advance(simulated.time, 3 * TOWER_NS_PER_S);
        (void)run_for(&simulated, 30);
    }
    struct tower_clock_match_view view = run_for(&simulated, 60);
    assert_true(fabs(view.ppm + 100) < 2);
    assert_int_equal(view.n_jumps, 0);
    run_an_hour(&simulated, 2);
}

static void test_a_broken_card_is_reported(void **state) {
    (void)state;
    struct simulated simulated;
    struct tower_clock_report report;
    begin(&simulated, 700);
    (void)run_for(&simulated, 120);
    assert_true(
        tower_stream_clock_report(&simulated.clock, tower_clock_now_ns(simulated.time), &report));
    assert_true(report.is_known);
    assert_true(report.is_out_of_range);
    assert_true(fabs(report.correction_ppm + 700) < 50);
    end(&simulated);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_hour_of_pages_of_half_a_second),
        cmocka_unit_test(test_an_hour_of_pages_of_any_length),
        cmocka_unit_test(test_an_hour_of_pages_that_come_late),
        cmocka_unit_test(test_a_burst_at_the_beginning_stays_a_delay),
        cmocka_unit_test(test_nothing_is_changed_at_first),
        cmocka_unit_test(test_a_file_that_waits_for_us_is_left_alone),
        cmocka_unit_test(test_what_is_faster_or_slower_than_any_card_is_left_alone),
        cmocka_unit_test(test_who_has_to_wait_is_matched_no_more_until_it_is_sure_again),
        cmocka_unit_test(test_one_that_stops_and_goes_on_keeps_its_rate),
        cmocka_unit_test(test_a_decoder_that_is_started_anew_is_another_place),
        cmocka_unit_test(test_a_network_that_stalls_changes_nothing),
        cmocka_unit_test(test_a_broken_card_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
