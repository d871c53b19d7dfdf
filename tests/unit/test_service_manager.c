/* What the service manager is told: a real socket in its place, and time moved by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "service_manager.h"
#include "tower/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS_NS INT64_C(1000000)

struct fixture {
    char folder[64];
    int fd; /* the service manager's */
    struct tower_clock *clock;
    struct tower_service_manager manager;
    uint64_t ticks;
};

/* Listen at `address`, a path or '@' and a name. */
static int listen_at(const char *address) {
    struct sockaddr_un bound = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    size_t length = strlen(address);
    memcpy(bound.sun_path, address, length);
    if (*address == '@')
        bound.sun_path[0] = '\0';
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    assert_int_equal(bind(fd, (struct sockaddr *)&bound, bytes), 0);
    return fd;
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    *state = fixture;
    fixture->fd = -1;
    fixture->manager = (struct tower_service_manager)TOWER_SERVICE_MANAGER_NONE;
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    strcpy(fixture->folder, "/tmp/tower-test-XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    return tower_clock_virtual_new(1000 * TOWER_NS_PER_S, &fixture->clock);
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    char path[80];
    (void)snprintf(path, sizeof path, "%s/notify", fixture->folder);
    (void)unlink(path);
    (void)rmdir(fixture->folder);
    tower_service_manager_done(&fixture->manager);
    if (fixture->fd >= 0)
        (void)close(fixture->fd);
    tower_clock_free(fixture->clock);
    free(fixture);
    return 0;
}

/* Listen, and have the manager's variables read. `watchdog_us` NULL: there is none. */
static void begin(struct fixture *fixture, const char *watchdog_us) {
    char path[80];
    (void)snprintf(path, sizeof path, "%s/notify", fixture->folder);
    fixture->fd = listen_at(path);
    (void)setenv("NOTIFY_SOCKET", path, 1);
    if (watchdog_us)
        (void)setenv("WATCHDOG_USEC", watchdog_us, 1);
    assert_int_equal(tower_service_manager_init(&fixture->manager), 0);
}

/* The next that was said; "" if nothing was. */
static const char *heard(const struct fixture *fixture) {
    static char message[1024];
    ssize_t n = recv(fixture->fd, message, sizeof message - 1, 0);
    message[n < 0 ? 0 : n] = '\0';
    return message;
}

/* Go on for `duration_ns`, beating as often as asked for, with a tick each 24 ms if `has_ticks`.
 * Returns how many WATCHDOG=1 were heard; `ret_gap_ns`, if there, gets the longest time without. */
static unsigned run(struct fixture *fixture, int64_t duration_ns, bool has_ticks,
                    int64_t *ret_gap_ns) {
    int64_t now_ns = tower_clock_now_ns(fixture->clock);
    int64_t end_ns = now_ns + duration_ns, last_ns = now_ns;
    unsigned beats = 0;
    if (ret_gap_ns)
        *ret_gap_ns = 0;
    for (; now_ns < end_ns; now_ns = tower_clock_now_ns(fixture->clock)) {
        tower_service_manager_beat(&fixture->manager, now_ns, fixture->ticks);
        for (const char *said = heard(fixture); *said != '\0'; said = heard(fixture)) {
            if (strcmp(said, "WATCHDOG=1") != 0)
                continue;
            beats++;
            if (ret_gap_ns && now_ns - last_ns > *ret_gap_ns)
                *ret_gap_ns = now_ns - last_ns;
            last_ns = now_ns;
        }
        int64_t step_ns = tower_service_manager_interval_ns(&fixture->manager);
        tower_clock_virtual_advance(fixture->clock, step_ns);
        if (has_ticks)
            fixture->ticks += 1 + (uint64_t)(step_ns / (24 * MS_NS));
    }
    return beats;
}

static void nothing_is_said_where_nobody_listens(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    (void)setenv("WATCHDOG_USEC", "1000000", 1);
    assert_int_equal(tower_service_manager_init(manager), 0);
    assert_true(tower_service_manager_interval_ns(manager) == INT64_MAX);
    assert_int_equal(tower_service_manager_ready(manager), 0);
    assert_int_equal(tower_service_manager_reloading(manager, 1), 0);
    assert_int_equal(tower_service_manager_main_pid(manager, 1), 0);
    assert_int_equal(tower_service_manager_stopping(manager), 0);
    tower_service_manager_status(manager, "x");
    tower_service_manager_beat(manager, 1, 1);
}

static void children_do_not_inherit_the_variables(void **state) {
    struct fixture *fixture = *state;
    (void)setenv("WATCHDOG_PID", "1", 1);
    begin(fixture, "1000000");
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    assert_true(fcntl(fixture->manager.fd, F_GETFD) & FD_CLOEXEC);
}

static void ready_is_said_once(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    begin(fixture, NULL);
    assert_int_equal(tower_service_manager_ready(manager), 0);
    assert_int_equal(tower_service_manager_ready(manager), 0);
    assert_string_equal(heard(fixture), "READY=1");
    assert_string_equal(heard(fixture), "");
}

static void a_reload_says_when_it_began_and_ready_again(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    begin(fixture, NULL);
    assert_int_equal(tower_service_manager_ready(manager), 0);
    assert_string_equal(heard(fixture), "READY=1");
    assert_int_equal(tower_service_manager_reloading(manager, INT64_C(12345678901234)), 0);
    assert_string_equal(heard(fixture), "RELOADING=1\nMONOTONIC_USEC=12345678901");
    assert_int_equal(tower_service_manager_ready(manager), 0);
    assert_string_equal(heard(fixture), "READY=1");
    assert_int_equal(tower_service_manager_main_pid(manager, 4711), 0);
    assert_string_equal(heard(fixture), "MAINPID=4711");
    assert_int_equal(tower_service_manager_stopping(manager), 0);
    assert_string_equal(heard(fixture), "STOPPING=1\nSTATUS=Stopping");
}

static void the_watchdog_hears_of_ticks_in_time(void **state) {
    struct fixture *fixture = *state;
    int64_t gap_ns;
    begin(fixture, "2000000");
    unsigned beats = run(fixture, 100 * TOWER_NS_PER_S, true, &gap_ns);
    assert_true(gap_ns <= TOWER_NS_PER_S); /* half of it */
    assert_in_range(beats, 100, 201);      /* and not more than a few */
}

static void a_short_watchdog_is_served_too(void **state) {
    struct fixture *fixture = *state;
    int64_t gap_ns;
    begin(fixture, "100000");
    (void)run(fixture, 10 * TOWER_NS_PER_S, true, &gap_ns);
    assert_true(gap_ns <= 50 * MS_NS);
}

static void the_watchdog_hears_nothing_while_ticks_stand_still(void **state) {
    struct fixture *fixture = *state;
    begin(fixture, "2000000");
    assert_int_equal(run(fixture, 10 * TOWER_NS_PER_S, false, NULL), 0); /* none from the start */
    assert_true(run(fixture, 10 * TOWER_NS_PER_S, true, NULL) > 0);
    (void)run(fixture, TOWER_NS_PER_S, false, NULL); /* of the last ticks it may hear yet */
    assert_int_equal(run(fixture, 60 * TOWER_NS_PER_S, false, NULL), 0);
    assert_true(run(fixture, 10 * TOWER_NS_PER_S, true, NULL) >= 10);
    fixture->ticks = 1; /* another worker, which counts anew */
    assert_true(run(fixture, 10 * TOWER_NS_PER_S, true, NULL) >= 10);
}

static void without_a_watchdog_there_are_no_beats(void **state) {
    struct fixture *fixture = *state;
    begin(fixture, NULL);
    assert_int_equal(run(fixture, 10 * TOWER_NS_PER_S, true, NULL), 0);
}

static void anothers_watchdog_is_not_ours(void **state) {
    struct fixture *fixture = *state;
    (void)setenv("WATCHDOG_PID", "1", 1);
    begin(fixture, "2000000");
    assert_int_equal(run(fixture, 10 * TOWER_NS_PER_S, true, NULL), 0);
}

static void our_watchdog_is(void **state) {
    struct fixture *fixture = *state;
    char pid[32];
    (void)snprintf(pid, sizeof pid, "%ld", (long)getpid());
    (void)setenv("WATCHDOG_PID", pid, 1);
    begin(fixture, "2000000");
    assert_true(run(fixture, 10 * TOWER_NS_PER_S, true, NULL) > 0);
}

static void the_status_is_said_when_new_and_once_a_second(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    int64_t now_ns = 5 * TOWER_NS_PER_S;
    begin(fixture, NULL);
    tower_service_manager_status(manager, "one");
    tower_service_manager_beat(manager, now_ns, 1);
    assert_string_equal(heard(fixture), "STATUS=one");
    tower_service_manager_status(manager, "one");
    tower_service_manager_beat(manager, now_ns + 10 * TOWER_NS_PER_S, 2);
    assert_string_equal(heard(fixture), "");
    now_ns += 20 * TOWER_NS_PER_S;
    tower_service_manager_status(manager, "two");
    tower_service_manager_beat(manager, now_ns, 3);
    assert_string_equal(heard(fixture), "STATUS=two");
    tower_service_manager_status(manager, "three");
    tower_service_manager_beat(manager, now_ns + 999 * MS_NS, 4);
    assert_string_equal(heard(fixture), "");
    tower_service_manager_status(manager, "four\nREADY=1");
    tower_service_manager_beat(manager, now_ns + 1000 * MS_NS, 5);
    assert_string_equal(heard(fixture), "STATUS=four");
    char is_long[4096];
    memset(is_long, 'x', sizeof is_long - 1);
    is_long[sizeof is_long - 1] = '\0';
    tower_service_manager_status(manager, is_long);
    tower_service_manager_beat(manager, now_ns + 2000 * MS_NS, 6);
    assert_int_equal(strncmp(heard(fixture), "STATUS=xxxx", 11), 0);
}

static void a_full_queue_is_tried_again(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    begin(fixture, "2000000");
    unsigned queued = 0;
    while (tower_service_manager_main_pid(manager, 1) == 0)
        queued++;
    assert_int_equal(tower_service_manager_ready(manager), -EAGAIN);
    tower_service_manager_status(manager, "on air");
    tower_service_manager_beat(manager, TOWER_NS_PER_S, 1);
    for (; queued > 0; queued--)
        assert_string_equal(heard(fixture), "MAINPID=1");
    assert_string_equal(heard(fixture), "");
    assert_int_equal(tower_service_manager_ready(manager), 0);
    tower_service_manager_beat(manager, TOWER_NS_PER_S, 1);
    assert_string_equal(heard(fixture), "READY=1");
    assert_string_equal(heard(fixture), "WATCHDOG=1");
    assert_string_equal(heard(fixture), "STATUS=on air");
}

static void an_abstract_socket_is_reached(void **state) {
    struct fixture *fixture = *state;
    char name[80];
    (void)snprintf(name, sizeof name, "@tower-test-%ld", (long)getpid());
    fixture->fd = listen_at(name);
    (void)setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(tower_service_manager_init(&fixture->manager), 0);
    assert_int_equal(tower_service_manager_ready(&fixture->manager), 0);
    assert_string_equal(heard(fixture), "READY=1");
}

static void what_makes_no_sense_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct tower_service_manager *manager = &fixture->manager;
    char is_long[200] = "/";
    memset(is_long + 1, 'x', sizeof is_long - 2);
    const char *addresses[] = {"relative", "/", "@", "vsock:2:1", is_long};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        (void)setenv("NOTIFY_SOCKET", addresses[i], 1);
        assert_int_equal(tower_service_manager_init(manager), -EINVAL);
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_int_equal(manager->fd, -1);
    }
    const char *times[] = {"", "0", "-1", "+5", " 5", "soon", "5s", "99999999999999999999"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        (void)setenv("NOTIFY_SOCKET", "/run/nowhere", 1);
        (void)setenv("WATCHDOG_USEC", times[i], 1);
        assert_int_equal(tower_service_manager_init(manager), -EINVAL);
        assert_null(getenv("WATCHDOG_USEC"));
        assert_int_equal(manager->fd, -1);
    }
    (void)setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(tower_service_manager_init(manager), 0);
    assert_int_equal(manager->fd, -1);
}

static void the_state_is_described(void **state) {
    (void)state;
    char text[TOWER_SERVICE_MANAGER_STATUS_BYTES];
    struct tower_status status = {
        .state = TOWER_SERVICE_ON_AIR, .pump.origin = TOWER_ORIGIN_LIVE, .listeners.listeners = 12};
    tower_service_manager_describe(&status, text, sizeof text);
    assert_string_equal(text, "On air: live, 12 listeners");
    status.pump.origin = TOWER_ORIGIN_TONE;
    status.listeners.listeners = 1;
    tower_service_manager_describe(&status, text, sizeof text);
    assert_string_equal(text, "On air: tone, 1 listener");
    status.state = TOWER_SERVICE_STALLED;
    tower_service_manager_describe(&status, text, sizeof text);
    assert_non_null(strstr(text, "Stalled"));
    status.state = TOWER_SERVICE_STARTING;
    tower_service_manager_describe(&status, text, sizeof text);
    assert_string_equal(text, "Starting");
    status.state = TOWER_SERVICE_STOPPING;
    tower_service_manager_describe(&status, text, sizeof text);
    assert_string_equal(text, "Stopping");
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(nothing_is_said_where_nobody_listens),
        WITH_FIXTURE(children_do_not_inherit_the_variables),
        WITH_FIXTURE(ready_is_said_once),
        WITH_FIXTURE(a_reload_says_when_it_began_and_ready_again),
        WITH_FIXTURE(the_watchdog_hears_of_ticks_in_time),
        WITH_FIXTURE(a_short_watchdog_is_served_too),
        WITH_FIXTURE(the_watchdog_hears_nothing_while_ticks_stand_still),
        WITH_FIXTURE(without_a_watchdog_there_are_no_beats),
        WITH_FIXTURE(anothers_watchdog_is_not_ours),
        WITH_FIXTURE(our_watchdog_is),
        WITH_FIXTURE(the_status_is_said_when_new_and_once_a_second),
        WITH_FIXTURE(a_full_queue_is_tried_again),
        WITH_FIXTURE(an_abstract_socket_is_reached),
        WITH_FIXTURE(what_makes_no_sense_is_refused),
        cmocka_unit_test(the_state_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
