/* test_carried_ingest.c - the PCM socket's process dies, and producers do not notice. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kill_fixture.h"
#include "pcm_socket_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

/* What another process would leave: a socket that is not freed before the next is, for that would
 * close what it had. `second` is made of it. */
struct succession {
    struct tower_pcm_socket *first;
    int region_fd;
};

/* The socket that listens is the keeper's. */
static int listen_fd = -1;

static struct tower_pcm_socket_config config_of(struct fixture *fixture) {
    return (struct tower_pcm_socket_config){
        .clock = fixture->clock,
        .listen_fd = &listen_fd,
        .frame_samples = 1152,
        .router = fixture->router,
        .monitor = fixture->monitor,
        .withholds_dead_air = true,
        .idle_ns = fixture->idle_ns,
        .on_title = fixture->on_title,
        .user = fixture,
    };
}

static void make_first(struct fixture *fixture) {
    struct tower_pcm_socket_config config;
    assert_int_equal(tower_router_new(fixture->clock, 50, FRAME_BYTES, &fixture->router), 0);
    config = config_of(fixture);
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
}

static int setup_listening(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int error = setup(state);
    struct fixture *fixture = *state;
    if (error != 0)
        return error;
    memcpy(address.sun_path, fixture->path, strlen(fixture->path));
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return bind(listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
           listen(listen_fd, 16) < 0;
}

static int teardown_listening(void **state) {
    int result = teardown(state);
    close(listen_fd);
    return result;
}

static struct succession leave(struct fixture *fixture) {
    tower_pcm_socket_stop(fixture->socket);
    struct succession left = {
        .first = fixture->socket,
        .region_fd = fcntl(tower_pcm_socket_fd(fixture->socket), F_DUPFD_CLOEXEC, 3),
    };
    fixture->socket = NULL;
    return left;
}

static void follow(struct fixture *fixture, const struct succession *left) {
    struct tower_pcm_socket_config config = config_of(fixture);
    config.carried_fd = left->region_fd;
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
    assert_int_equal(tower_pcm_socket_fd(fixture->socket), left->region_fd);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
}

/* What the first had is closed by now. */
static void finish(struct fixture *fixture, const struct succession *left) {
    tower_pcm_socket_free(fixture->socket);
    fixture->socket = NULL;
    assert_int_equal(access(fixture->path, F_OK), 0);
    tower_pcm_socket_free(left->first);
}

static void test_who_is_on_air_stays_and_who_waits_waits(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    unsigned char bytes[FRAME_BYTES];
    make_first(fixture);
    int on_air = connect_producer(fixture);
    send_frames(on_air, 1, 1);
    memset(bytes, 2, sizeof bytes);
    assert_int_equal(send(on_air, bytes, 1001, MSG_NOSIGNAL), 1001);
    await(fixture, has_read_bytes, FRAME_BYTES + 1001);
    int waiting = connect_producer(fixture);
    send_frames(waiting, 3, 1);
    await(fixture, has_producers, 2);

    struct succession left = leave(fixture);
    int fds[TOWER_PRODUCERS_MAX];
    assert_int_equal(tower_pcm_socket_carried_fds(left.region_fd, fds), 2);
    follow(fixture, &left);
    assert_int_equal(send(on_air, bytes + 1001, FRAME_BYTES - 1001, MSG_NOSIGNAL),
                     FRAME_BYTES - 1001);
    await(fixture, has_frames, 2);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, 0);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.carried_producers, 2);
    assert_int_equal(stats.lost_producers, 0);
    assert_int_equal(stats.accepted, 2);
    assert_int_equal(stats.producers[0].bytes, 2 * FRAME_BYTES);
    assert_true(stats.producers[0].is_on_air);
    assert_int_equal(stats.producers[1].bytes, 0);

    close(on_air);
    await(fixture, has_frames, 3);
    pop_number(fixture, 3, TOWER_FRAME_DISCONTINUITY);
    int newcomer = connect_producer(fixture);
    await(fixture, has_producers, 2);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.producers[1].id, 3);
    close(waiting);
    close(newcomer);
    finish(fixture, &left);
}

static void test_who_left_meanwhile_has_left(void **state) {
    struct fixture *fixture = *state;
    make_first(fixture);
    int on_air = connect_producer(fixture);
    send_frames(on_air, 1, 1);
    await(fixture, has_frames, 1);
    struct succession left = leave(fixture);
    send_frames(on_air, 2, 1);
    close(on_air);
    int newcomer = connect_producer(fixture);
    send_frames(newcomer, 3, 1);
    follow(fixture, &left);
    await(fixture, has_frames, 3);
    await(fixture, has_producers, 1);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, 0);
    pop_number(fixture, 3, TOWER_FRAME_DISCONTINUITY);
    close(newcomer);
    finish(fixture, &left);
}

/* One that waits and has sent nothing does not take the place of one that is mute. */
static void test_who_has_sent_nothing_takes_no_place(void **state) {
    struct fixture *fixture = *state;
    make_first(fixture);
    int on_air = connect_producer(fixture);
    send_frames(on_air, 1, 1);
    await(fixture, has_frames, 1);
    int silent = connect_producer(fixture);
    await(fixture, has_producers, 2);
    struct succession left = leave(fixture);
    tower_clock_virtual_advance(fixture->clock, 10 * TOWER_NS_PER_S);
    fixture->idle_ns = TOWER_NS_PER_S;
    follow(fixture, &left);
    int newcomer = connect_producer(fixture);
    await(fixture, has_producers, 3);
    assert_true(has_one_on_air(fixture, 1));
    send_frames(on_air, 2, 1);
    await(fixture, has_frames, 2);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, 0);
    close(on_air);
    close(silent);
    close(newcomer);
    finish(fixture, &left);
}

/* The number of a producer's descriptor is somebody else's by now, or nobody's. */
static void test_what_is_no_producer_is_left_alone(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    int fds[TOWER_PRODUCERS_MAX];
    make_first(fixture);
    int gone = connect_producer(fixture), other = connect_producer(fixture);
    int stays = connect_producer(fixture);
    send_frames(gone, 1, 1);
    await(fixture, has_frames, 1);
    await(fixture, has_producers, 3);
    struct succession left = leave(fixture);
    assert_int_equal(tower_pcm_socket_carried_fds(left.region_fd, fds), 3);
    close(fds[0]);
    int file = memfd_create("other", MFD_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(dup3(file, fds[1], O_CLOEXEC), fds[1]);
    follow(fixture, &left);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.carried_producers, 1);
    assert_int_equal(stats.lost_producers, 2);
    assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
    send_frames(stays, 2, 1);
    await(fixture, has_frames, 2);
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 2, TOWER_FRAME_DISCONTINUITY);
    close(fds[1]);
    close(file);
    close(gone);
    close(other);
    close(stays);
    finish(fixture, &left);
}

static void test_a_region_that_does_not_hold_is_not_taken(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_config config;
    int fd = memfd_create("junk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(tower_router_new(fixture->clock, 50, FRAME_BYTES, &fixture->router), 0);
    config = config_of(fixture);
    config.carried_fd = fd;
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
    assert_int_not_equal(tower_pcm_socket_fd(fixture->socket), fd);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    int fds[TOWER_PRODUCERS_MAX];
    assert_int_equal(tower_pcm_socket_carried_fds(fd, fds), 0);
    close(fd);
}

/* ---- titles ---- */

static struct {
    unsigned n;
    char text[64];
    uint64_t frame;
} told;

static void note_title(void *user, const char *text, size_t bytes, uint64_t pushed_count) {
    (void)user;
    told.n++;
    (void)snprintf(told.text, sizeof told.text, "%.*s", (int)bytes, text ? text : "");
    told.frame = pushed_count;
}

static void send_titled_frame(int fd, const char *title) {
    unsigned char frame[FRAME_BYTES] = {0};
    int memory = memfd_create("title", MFD_CLOEXEC);
    assert_int_equal(write(memory, title, strlen(title)), (ssize_t)strlen(title));
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(sizeof(int))}};
    memcpy(CMSG_DATA(&control.header), &memory, sizeof memory);
    struct iovec piece = {.iov_base = frame, .iov_len = sizeof frame};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), FRAME_BYTES);
    close(memory);
}

static void test_a_title_whose_frame_waits_is_told_again(void **state) {
    struct fixture *fixture = *state;
    memset(&told, 0, sizeof told);
    fixture->on_title = note_title;
    make_first(fixture);
    int on_air = connect_producer(fixture);
    send_frames(on_air, 1, 1);
    send_titled_frame(on_air, "A - B");
    send_frames(on_air, 3, 1);
    await(fixture, has_frames, 3);
    struct succession left = leave(fixture);
    memset(&told, 0, sizeof told);
    follow(fixture, &left);
    send_frames(on_air, 4, 1);
    await(fixture, has_frames, 4);
    assert_int_equal(told.n, 1);
    assert_string_equal(told.text, "A - B");
    assert_int_equal(told.frame, 1);

    /* Once it has been taken it is on its way, and who takes it knows. */
    pop_number(fixture, 1, TOWER_FRAME_DISCONTINUITY);
    pop_number(fixture, 0, 0);
    struct succession again = leave(fixture);
    memset(&told, 0, sizeof told);
    follow(fixture, &again);
    send_frames(on_air, 5, 1);
    await(fixture, has_frames, 5);
    assert_int_equal(told.n, 0);
    close(on_air);
    finish(fixture, &again);
    tower_pcm_socket_free(left.first);
}

/* ---- dead air ---- */

static void test_dead_air_that_is_withheld_stays_so(void **state) {
    struct fixture *fixture = *state;
    struct tower_pcm_socket_stats stats;
    unsigned flags = 0, withheld = 0, n = 0;
    unsigned char frame[FRAME_BYTES];
    struct tower_input_monitor_config monitor = {.frame_samples = 1152,
                                                 .dead_air_after_ns = 10 * TOWER_NS_PER_S / 100,
                                                 .dead_air_dbfs = -60};
    assert_int_equal(tower_input_monitor_new(&monitor, &fixture->monitor), 0);
    make_first(fixture);
    int on_air = connect_producer(fixture);
    send_frames(on_air, 0, 20);
    await(fixture, has_frames, 16);
    struct succession left = leave(fixture);
    tower_input_monitor_free(fixture->monitor);
    assert_int_equal(tower_input_monitor_new(&monitor, &fixture->monitor), 0);
    follow(fixture, &left);
    send_frames(on_air, 0, 10);
    await(fixture, has_frames, 16 + 6);
    assert_true(tower_input_monitor_has(fixture->monitor, TOWER_INPUT_DEAD_AIR));
    while (tower_router_pop_frame(fixture->router, 0, frame, &flags) == 1) {
        n++;
        withheld += (flags & TOWER_FRAME_WITHHELD) != 0;
    }
    /* The first five are what it takes to know; the last four of each are held in a gate. */
    assert_int_equal(n, 22);
    assert_true(withheld >= n - 5);
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    assert_int_equal(stats.lost_frames, TOWER_INPUT_RETURN_FRAMES + 1);
    close(on_air);
    finish(fixture, &left);
}

/* ---- killed ---- */

#define SMALL_SAMPLES 48
#define SMALL_BYTES (SMALL_SAMPLES * TOWER_SAMPLE_BYTES)
#define ROUTER_FRAMES 50000
#define KILLS 300
/* By its first number a frame tells whose it is. */
#define SECOND_FROM UINT32_C(0x80000000)

struct lives {
    struct tower_pcm_socket_config config;
    int router_fd;
    _Atomic bool *is_ready;
};

/* In a process of its own: numbers without end, in pieces that fit nothing. */
static pid_t feed(const struct fixture *fixture, uint32_t number) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int fd = connect_producer(fixture);
    static uint32_t numbers[4096];
    uint64_t random = 88172645463325252U;
    for (;;) {
        size_t n = 1 + kill_random(&random) % 4096;
        for (size_t i = 0; i < n; i++)
            numbers[i] = number++;
        for (size_t done = 0; done < n * sizeof *numbers;) {
            size_t rest = n * sizeof *numbers - done, piece = 1 + kill_random(&random) % 9000;
            ssize_t sent =
                send(fd, (char *)numbers + done, piece < rest ? piece : rest, MSG_NOSIGNAL);
            if (sent < 0)
                _exit(1);
            done += (size_t)sent;
        }
    }
}

static void live_until_killed(void *arg) {
    struct lives *lives = arg;
    struct tower_pcm_socket *socket;
    if (tower_router_open(lives->config.clock, lives->router_fd, ROUTER_FRAMES, SMALL_BYTES,
                          &lives->config.router, NULL) < 0 ||
        tower_pcm_socket_new(&lives->config, &socket) < 0 ||
        tower_pcm_socket_fd(socket) != lives->config.carried_fd ||
        tower_pcm_socket_start(socket) < 0)
        return;
    atomic_store(lives->is_ready, true);
    for (;;)
        pause();
}

struct reader {
    uint32_t next;
    uint64_t frames;
    uint64_t discontinuities;
    bool is_second;
};

/* Take all that is in the router. */
static void read_frames(const struct lives *lives, struct reader *reader) {
    struct tower_router *router;
    uint32_t frame[SMALL_SAMPLES];
    unsigned flags;
    assert_int_equal(tower_router_open(lives->config.clock, dup(lives->router_fd), ROUTER_FRAMES,
                                       SMALL_BYTES, &router, NULL),
                     0);
    while (tower_router_pop_frame(router, 0, frame, &flags) == 1) {
        if (flags & TOWER_FRAME_DISCONTINUITY)
            reader->discontinuities++;
        if (!reader->is_second && frame[0] == SECOND_FROM) {
            reader->is_second = true;
            reader->next = SECOND_FROM;
            assert_int_equal(flags, TOWER_FRAME_DISCONTINUITY);
        }
        for (size_t i = 0; i < SMALL_SAMPLES; i++) {
            if (frame[i] != reader->next)
                fail_msg("sample %zu of frame %llu is %08x and not %08x", i,
                         (unsigned long long)reader->frames, frame[i], reader->next);
            reader->next++;
        }
        reader->frames++;
    }
    tower_router_free(router);
}

static void test_killed_at_any_moment_no_byte_is_lost_or_doubled(void **state) {
    struct fixture *fixture = *state;
    struct lives lives = {.config = config_of(fixture)};
    struct reader reader = {0};
    uint64_t random = 362436069362436069U;
    lives.is_ready = kill_shared(sizeof *lives.is_ready);
    assert_non_null(lives.is_ready);
    lives.config.clock = tower_clock_real();
    lives.config.frame_samples = SMALL_SAMPLES;
    lives.config.monitor = NULL;
    assert_int_equal(
        tower_router_new(lives.config.clock, ROUTER_FRAMES, SMALL_BYTES, &fixture->router), 0);
    lives.config.router = fixture->router;
    /* The first life is ours, and has all connect: what a later one accepts would die with it. */
    assert_int_equal(tower_pcm_socket_new(&lives.config, &fixture->socket), 0);
    pid_t first = feed(fixture, 0);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
    await(fixture, has_read_bytes, 1);
    tower_pcm_socket_stop(fixture->socket);
    pid_t second = feed(fixture, SECOND_FROM);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
    await(fixture, has_producers, 2);
    struct succession left = leave(fixture);
    lives.config.carried_fd = left.region_fd;
    lives.router_fd = fcntl(tower_router_fd(fixture->router), F_DUPFD_CLOEXEC, 3);
    for (unsigned i = 0; i < KILLS; i++) {
        if (i == KILLS / 2) {
            (void)kill(first, SIGKILL);
            assert_int_equal(waitpid(first, NULL, 0), first);
        }
        assert_true(kill_midway(live_until_killed, &lives, lives.is_ready, &random, 4000));
        read_frames(&lives, &reader);
    }
    (void)kill(second, SIGKILL);
    assert_int_equal(waitpid(second, NULL, 0), second);
    print_message("%d kills, %llu frames\n", KILLS, (unsigned long long)reader.frames);
    assert_true(reader.is_second);
    assert_true(reader.frames > 10000);
    assert_int_equal(reader.discontinuities, 2);
    follow(fixture, &left);
    finish(fixture, &left);
    close(lives.router_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_is_on_air_stays_and_who_waits_waits,
                                        setup_listening, teardown_listening),
        cmocka_unit_test_setup_teardown(test_who_left_meanwhile_has_left, setup_listening,
                                        teardown_listening),
        cmocka_unit_test_setup_teardown(test_who_has_sent_nothing_takes_no_place, setup_listening,
                                        teardown_listening),
        cmocka_unit_test_setup_teardown(test_what_is_no_producer_is_left_alone, setup_listening,
                                        teardown_listening),
        cmocka_unit_test_setup_teardown(test_a_region_that_does_not_hold_is_not_taken,
                                        setup_listening, teardown_listening),
        cmocka_unit_test_setup_teardown(test_a_title_whose_frame_waits_is_told_again,
                                        setup_listening, teardown_listening),
        cmocka_unit_test_setup_teardown(test_dead_air_that_is_withheld_stays_so, setup_listening,
                                        teardown_listening),
        cmocka_unit_test_setup_teardown(test_killed_at_any_moment_no_byte_is_lost_or_doubled,
                                        setup_listening, teardown_listening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
