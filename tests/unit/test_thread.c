/* test_thread.c - locks as this program makes them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../src/base/thread.h"
#include "../contracts/bounded_wait.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define PRIORITY 3

static pthread_mutex_t mutex;

static void *try_lock(void *arg) {
    *(int *)arg = pthread_mutex_trylock(&mutex);
    return NULL;
}

static int try_from_another_thread(void) {
    pthread_t thread;
    int result = -1;
    assert_int_equal(pthread_create(&thread, NULL, try_lock, &result), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return result;
}

static void test_recursive_lock_is_its_owners_until_the_last_unlock(void **state) {
    (void)state;
    assert_int_equal(tower_mutex_init(&mutex, 1), 0);
    assert_int_equal(pthread_mutex_lock(&mutex), 0);
    assert_int_equal(pthread_mutex_trylock(&mutex), 0);
    assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    assert_int_equal(try_from_another_thread(), EBUSY);
    assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    assert_int_equal(pthread_mutex_destroy(&mutex), 0);
    assert_int_equal(tower_mutex_init(&mutex, 0), 0);
    assert_int_equal(pthread_mutex_lock(&mutex), 0);
    assert_int_equal(pthread_mutex_trylock(&mutex), EBUSY);
    assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    assert_int_equal(pthread_mutex_destroy(&mutex), 0);
}

static void *lock_at_priority(void *arg) {
    struct sched_param parameters = {.sched_priority = PRIORITY};
    *(_Atomic int *)arg = pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters);
    (void)pthread_mutex_lock(&mutex);
    (void)pthread_mutex_unlock(&mutex);
    return NULL;
}

/* What the kernel runs this thread at: -1 - p in the real-time class, 0 and more otherwise. */
static long own_priority(void) {
    char text[1024] = "";
    FILE *file = fopen("/proc/thread-self/stat", "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    (void)fclose(file);
    /* The 18th field; the 2nd is a name in parentheses. */
    char *field = strrchr(text, ')');
    assert_non_null(field);
    for (int i = 2; i < 18; i++)
        field = strchr(field + 1, ' ');
    long priority = 0;
    assert_int_equal(sscanf(field, "%ld", &priority), 1);
    return priority;
}

/* Whoever holds the lock that a real-time thread waits for runs as that thread would. */
static void expect_inheritance(int is_recursive) {
    pthread_t thread;
    _Atomic int refusal = -1;
    assert_int_equal(tower_mutex_init(&mutex, is_recursive), 0);
    assert_int_equal(pthread_mutex_lock(&mutex), 0);
    assert_true(own_priority() >= 0);
    assert_int_equal(pthread_create(&thread, NULL, lock_at_priority, (void *)&refusal), 0);
    ASSERT_SOON(refusal >= 0);
    bool is_allowed = refusal == 0;
    if (is_allowed)
        ASSERT_SOON(own_priority() == -1 - PRIORITY);
    assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    assert_true(own_priority() >= 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_mutex_destroy(&mutex), 0);
    if (!is_allowed)
        skip(); /* nobody may have a real-time priority here */
}

static void test_lock_hands_on_the_priority_of_who_waits(void **state) {
    (void)state;
    expect_inheritance(0);
    expect_inheritance(1);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recursive_lock_is_its_owners_until_the_last_unlock),
        cmocka_unit_test(test_lock_hands_on_the_priority_of_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
