/* test_addresses.c - counts of listeners by address are exact, whoever leaves when. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/addresses.h"

#include "../contracts/bounded_wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/un.h>

static struct tower_addresses *make(uint32_t places, uint32_t limit) {
    struct tower_addresses *addresses = NULL;
    assert_int_equal(tower_addresses_new(places, limit, &addresses), 0);
    return addresses;
}

static int enter(struct tower_addresses *addresses, const char *text, uint32_t *ret_place) {
    struct sockaddr_storage address = {0};
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&address;
    if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1) {
        ipv4->sin_family = AF_INET;
        ipv4->sin_port = htons(1234);
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &ipv6->sin6_addr), 1);
        ipv6->sin6_family = AF_INET6;
    }
    return tower_addresses_enter(addresses, (struct sockaddr *)&address, ret_place);
}

static int enter_number(struct tower_addresses *addresses, uint32_t number, uint32_t *ret_place) {
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_addr = {htonl(number)}};
    return tower_addresses_enter(addresses, (struct sockaddr *)&ipv4, ret_place);
}

static uint32_t entered(struct tower_addresses *addresses, const char *text) {
    uint32_t place = TOWER_ADDRESS_NONE;
    assert_int_equal(enter(addresses, text, &place), 0);
    assert_int_not_equal(place, TOWER_ADDRESS_NONE);
    return place;
}

static void settings_out_of_range_are_refused(void **state) {
    (void)state;
    struct tower_addresses *addresses = NULL;
    assert_int_equal(tower_addresses_new(0, 1, &addresses), -EINVAL);
    assert_int_equal(tower_addresses_new(1048577, 1, &addresses), -EINVAL);
    assert_int_equal(tower_addresses_new(1, 0, &addresses), -EINVAL);
    assert_null(addresses);
    tower_addresses_free(NULL);
}

static void an_address_has_as_many_as_it_may_and_no_more(void **state) {
    (void)state;
    struct tower_addresses *addresses = make(10, 3);
    uint32_t place = 4711, mine[3];
    for (int i = 0; i < 3; i++)
        mine[i] = entered(addresses, "192.0.2.1");
    assert_int_equal(enter(addresses, "192.0.2.1", &place), -EDQUOT);
    assert_int_equal(place, 4711);
    /* Another one is none of its business. */
    (void)entered(addresses, "192.0.2.2");
    tower_addresses_leave(addresses, mine[1]);
    mine[1] = entered(addresses, "192.0.2.1");
    assert_int_equal(enter(addresses, "192.0.2.1", &place), -EDQUOT);
    for (int i = 0; i < 3; i++)
        tower_addresses_leave(addresses, mine[i]);
    for (int i = 0; i < 3; i++)
        (void)entered(addresses, "192.0.2.1");
    tower_addresses_free(addresses);
}

static void what_counts_as_one_address(void **state) {
    (void)state;
    struct tower_addresses *addresses = make(10, 1);
    uint32_t place;
    (void)entered(addresses, "192.0.2.1");
    assert_int_equal(enter(addresses, "::ffff:192.0.2.1", &place), -EDQUOT);
    (void)entered(addresses, "::ffff:192.0.2.2");
    assert_int_equal(enter(addresses, "192.0.2.2", &place), -EDQUOT);
    (void)entered(addresses, "2001:db8:0:1::1");
    assert_int_equal(enter(addresses, "2001:db8:0:1:ffff::2", &place), -EDQUOT);
    (void)entered(addresses, "2001:db8:0:2::1");
    /* The same bits in the two families are two addresses. */
    (void)entered(addresses, "0:0:c000:205::1");
    (void)entered(addresses, "192.0.2.5");
    (void)entered(addresses, "::1");
    (void)entered(addresses, "0.0.0.0");
    tower_addresses_free(addresses);
}

static void who_has_no_address_is_not_counted(void **state) {
    (void)state;
    struct tower_addresses *addresses = make(1, 1);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    for (int i = 0; i < 5; i++) {
        uint32_t place = 0;
        assert_int_equal(tower_addresses_enter(addresses, (struct sockaddr *)&local, &place), 0);
        assert_int_equal(place, TOWER_ADDRESS_NONE);
        place = 0;
        assert_int_equal(tower_addresses_enter(addresses, &nothing, &place), 0);
        assert_int_equal(place, TOWER_ADDRESS_NONE);
        tower_addresses_leave(addresses, place);
    }
    (void)entered(addresses, "192.0.2.1");
    tower_addresses_free(addresses);
}

static void places_are_bounded_and_come_back(void **state) {
    (void)state;
    enum { PLACES = 50 };
    struct tower_addresses *addresses = make(PLACES, 2);
    uint32_t places[PLACES], place;
    for (uint32_t i = 0; i < PLACES; i++)
        assert_int_equal(enter_number(addresses, i, &places[i]), 0);
    assert_int_equal(enter_number(addresses, PLACES, &place), -ENOSPC);
    /* Who is there already may have another one. */
    assert_int_equal(enter_number(addresses, 7, &place), 0);
    assert_int_equal(place, places[7]);
    tower_addresses_leave(addresses, place);
    assert_int_equal(enter_number(addresses, PLACES, &place), -ENOSPC);
    /* Of many that come and go the place is used again; those that stay stay where they are. */
    for (uint32_t i = PLACES; i < 20 * PLACES; i++) {
        tower_addresses_leave(addresses, places[i % 10]);
        assert_int_equal(enter_number(addresses, i, &places[i % 10]), 0);
        for (uint32_t k = 10; k < PLACES; k++)
            assert_int_not_equal(places[i % 10], places[k]);
    }
    for (uint32_t i = 10; i < PLACES; i++) {
        assert_int_equal(enter_number(addresses, i, &place), 0);
        assert_int_equal(place, places[i]);
        assert_int_equal(enter_number(addresses, i, &place), -EDQUOT);
    }
    tower_addresses_free(addresses);
}

/* The same as a plain array has it, over many thousand steps. */
static void counts_are_those_of_a_plain_array(void **state) {
    (void)state;
    enum { ADDRESSES = 200, PLACES = 120, LIMIT = 4, STEPS = 200000 };
    struct tower_addresses *addresses = make(PLACES, LIMIT);
    static uint32_t expected[ADDRESSES], places[ADDRESSES];
    uint32_t n_counted = 0, random = 1;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525U + 1013904223U;
        uint32_t number = (random >> 8) % ADDRESSES;
        /* Now more come than go, now more go. */
        bool comes = ((random >> 24) & 7) < (step / 5000 % 2 ? 6U : 2U);
        uint32_t place;
        if (comes) {
            int wanted = expected[number] == LIMIT                      ? -EDQUOT
                         : expected[number] == 0 && n_counted == PLACES ? -ENOSPC
                                                                        : 0;
            assert_int_equal(enter_number(addresses, number << 16, &place), wanted);
            if (wanted == 0) {
                if (expected[number] > 0)
                    assert_int_equal(place, places[number]);
                n_counted += expected[number]++ == 0;
                places[number] = place;
            }
        } else if (expected[number] > 0) {
            tower_addresses_leave(addresses, places[number]);
            n_counted -= --expected[number] == 0;
        }
    }
    tower_addresses_free(addresses);
}

enum { THREADS = 3, QUEUE = 64, ENTERS = 20000, NUMBERS = 40 };

/* Places on their way to a thread that leaves them. */
struct leaver {
    struct tower_addresses *addresses;
    _Atomic uint32_t queue[QUEUE]; /* TOWER_ADDRESS_NONE: empty */
    _Atomic bool is_enough;
    uint32_t n_left;
};

static void *leave_all(void *arg) {
    struct leaver *leaver = arg;
    bool is_last_round;
    do {
        is_last_round = atomic_load(&leaver->is_enough);
        for (int i = 0; i < QUEUE; i++) {
            uint32_t place = atomic_exchange(&leaver->queue[i], TOWER_ADDRESS_NONE);
            leaver->n_left += place != TOWER_ADDRESS_NONE;
            tower_addresses_leave(leaver->addresses, place);
        }
    } while (!is_last_round);
    return NULL;
}

static void many_threads_leave_while_one_enters(void **state) {
    (void)state;
    static struct leaver leavers[THREADS];
    /* So few places that nodes are taken back all the time. */
    struct tower_addresses *addresses = make(NUMBERS / 2, 5);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        leavers[i].addresses = addresses;
        for (int k = 0; k < QUEUE; k++)
            leavers[i].queue[k] = TOWER_ADDRESS_NONE;
        assert_int_equal(pthread_create(&threads[i], NULL, leave_all, &leavers[i]), 0);
    }
    uint32_t n_entered = 0, n_left = 0;
    for (uint32_t i = 0; n_entered < ENTERS; i++) {
        uint32_t place;
        int result = enter_number(addresses, i * 7 % NUMBERS, &place);
        assert_true(result == 0 || result == -EDQUOT || result == -ENOSPC);
        if (result < 0) {
            sched_yield();
            continue;
        }
        n_entered++;
        uint32_t empty = TOWER_ADDRESS_NONE;
        if (!atomic_compare_exchange_strong(&leavers[i % THREADS].queue[i / THREADS % QUEUE],
                                            &empty, place)) {
            tower_addresses_leave(addresses, place);
            n_left++;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        atomic_store(&leavers[i].is_enough, true);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        n_left += leavers[i].n_left;
    }
    assert_int_equal(n_left, n_entered);
    /* Nobody is there any more: every place can be had, to the limit. */
    for (uint32_t number = 0; number < NUMBERS / 2; number++) {
        uint32_t place;
        for (int i = 0; i < 5; i++)
            assert_int_equal(enter_number(addresses, 1000 + number, &place), 0);
        assert_int_equal(enter_number(addresses, 1000 + number, &place), -EDQUOT);
    }
    tower_addresses_free(addresses);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(an_address_has_as_many_as_it_may_and_no_more),
        cmocka_unit_test(what_counts_as_one_address),
        cmocka_unit_test(who_has_no_address_is_not_counted),
        cmocka_unit_test(places_are_bounded_and_come_back),
        cmocka_unit_test(counts_are_those_of_a_plain_array),
        cmocka_unit_test(many_threads_leave_while_one_enters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
