/* The producer's side of the PCM socket, against a socket of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../contracts/descriptors.h"
#include "poker.h"
#include "tower/format.h"
#include "tower/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60

static char folder[64];
static char path[96];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/tower-producer-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/pcm.sock", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static int listen_at(const char *where, int backlog) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", where);
    unlink(where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

/* A producer at `path` and the other end of its connection. */
static struct tower_producer *connect_pair(int *ret_fd) {
    struct tower_producer *producer;
    int listener = listen_at(path, 4);
    assert_int_equal(tower_producer_connect(path, &producer), 0);
    *ret_fd = accept(listener, NULL, NULL);
    assert_true(*ret_fd >= 0);
    close(listener);
    return producer;
}

static size_t read_to_end(int fd, uint8_t *bytes, size_t n_bytes) {
    size_t filled = 0;
    ssize_t n;
    while (filled < n_bytes && (n = read(fd, bytes + filled, n_bytes - filled)) > 0)
        filled += (size_t)n;
    return filled;
}

static void test_nobody_there(void **state) {
    (void)state;
    struct tower_producer *untouched = (struct tower_producer *)&untouched;
    struct tower_producer *producer = untouched;
    char long_path[200];
    unlink(path);
    assert_int_equal(tower_producer_connect(path, &producer), -ENOENT);
    close(listen_at(path, 1));
    assert_int_equal(tower_producer_connect(path, &producer), -ECONNREFUSED);
    memset(long_path, 'x', sizeof long_path);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(tower_producer_connect(long_path, &producer), -ENAMETOOLONG);
    long_path[108] = '\0';
    assert_int_equal(tower_producer_connect(long_path, &producer), -ENAMETOOLONG);
    assert_ptr_equal(producer, untouched);
    tower_producer_close(NULL, 1152);
}

/* One that listens but does not accept is no reason to wait. */
static void test_connect_does_not_wait_for_a_busy_listener(void **state) {
    (void)state;
    struct tower_producer *producers[64];
    int listener = listen_at(path, 1);
    int n = 0, error = 0;
    while (n < 64 && (error = tower_producer_connect(path, &producers[n])) == 0)
        n++;
    assert_int_equal(error, -EAGAIN);
    assert_true(n > 0);
    while (n > 0)
        tower_producer_close(producers[--n], 0);
    close(listener);
}

static void test_socket_is_not_inherited(void **state) {
    (void)state;
    int fd;
    struct tower_producer *producer = connect_pair(&fd);
    assert_true(fcntl(tower_producer_fd(producer), F_GETFD) & FD_CLOEXEC);
    int socket_fd = tower_producer_fd(producer);
    tower_producer_close(producer, 0);
    assert_int_equal(fcntl(socket_fd, F_GETFD), -1);
    close(fd);
}

static void test_path_comes_from_argument_variable_or_default(void **state) {
    (void)state;
    struct tower_producer *producer;
    char default_path[200], at_default[128], tower_folder[96];
    setenv("XDG_RUNTIME_DIR", folder, 1);
    unsetenv("TOWER_SOCKET_PATH");
    (void)snprintf(tower_folder, sizeof tower_folder, "%s/tower", folder);
    (void)snprintf(at_default, sizeof at_default, "%s/pcm.sock", tower_folder);
    assert_int_equal(tower_socket_path_default(default_path, sizeof default_path), 0);
    assert_string_equal(default_path, at_default);
    assert_int_equal(tower_socket_path_default(default_path, strlen(at_default)), -ENAMETOOLONG);
    assert_int_equal(tower_socket_path_default(default_path, strlen(at_default) + 1), 0);

    assert_int_equal(mkdir(tower_folder, 0700), 0);
    int listener = listen_at(at_default, 4);
    assert_int_equal(tower_producer_connect(NULL, &producer), 0);
    tower_producer_close(producer, 0);
    unlink(path);
    setenv("TOWER_SOCKET_PATH", path, 1);
    assert_int_equal(tower_producer_connect(NULL, &producer), -ENOENT);
    assert_int_equal(tower_producer_connect(at_default, &producer), 0);
    tower_producer_close(producer, 0);
    setenv("TOWER_SOCKET_PATH", "", 1); /* as good as not set */
    assert_int_equal(tower_producer_connect(NULL, &producer), 0);
    tower_producer_close(producer, 0);
    close(listener);
    unlink(at_default);
    rmdir(tower_folder);

    unsetenv("XDG_RUNTIME_DIR");
    assert_int_equal(tower_socket_path_default(default_path, sizeof default_path), 0);
    assert_string_equal(default_path, "/run/tower/pcm.sock");
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    assert_int_equal(tower_socket_path_default(default_path, sizeof default_path), 0);
    assert_string_equal(default_path, "/run/tower/pcm.sock");
    unsetenv("XDG_RUNTIME_DIR");
    unsetenv("TOWER_SOCKET_PATH");
}

#define MANY 400000 /* samples: several times what a socket holds */

struct writer {
    struct tower_producer *producer;
    const int16_t *samples;
    int result;
};

static void *run_writer(void *arg) {
    struct writer *writer = arg;
    writer->result = tower_producer_write(writer->producer, writer->samples, MANY);
    return NULL;
}

static int16_t many[MANY * 2];
static uint8_t received[sizeof many + 8192];

static void fill_many(void) {
    for (size_t i = 0; i < MANY * 2; i++)
        many[i] = (int16_t)(i * 7919 + i / 65536);
}

/* One write of far more than the socket holds waits for a slow reader, and all of it arrives. */
static void test_write_waits_until_all_is_taken(void **state) {
    (void)state;
    int fd;
    struct writer writer = {.producer = connect_pair(&fd), .samples = many, .result = 1};
    pthread_t thread;
    fill_many();
    assert_int_equal(pthread_create(&thread, NULL, run_writer, &writer), 0);
    size_t filled = 0;
    while (filled < sizeof many) {
        size_t piece = 1 + filled % 9973; /* a reader that takes odd pieces */
        ssize_t n = read(fd, received + filled, piece);
        assert_true(n > 0);
        filled += (size_t)n;
    }
    pthread_join(thread, NULL);
    assert_int_equal(writer.result, 0);
    assert_int_equal(tower_producer_written(writer.producer), MANY);
    assert_memory_equal(received, many, sizeof many);
    tower_producer_close(writer.producer, 0);
    close(fd);
}

static void test_transmitter_that_went_away_is_an_error_without_sigpipe(void **state) {
    (void)state;
    int fd;
    struct tower_producer *producer = connect_pair(&fd);
    struct sigaction action;
    assert_int_equal(sigaction(SIGPIPE, NULL, &action), 0);
    assert_ptr_equal(action.sa_handler, SIG_DFL); /* it would end this program */
    assert_int_equal(tower_producer_write(producer, many, 10), 0);
    close(fd);
    int error = tower_producer_write(producer, many, 10);
    assert_true(error == -EPIPE || error == -ECONNRESET);
    assert_int_equal(tower_producer_write(producer, many, 10), -EPIPE);
    assert_int_equal(tower_producer_written(producer), 10);
    tower_producer_close(producer, 1152);
}

struct reader {
    int fd;
    size_t filled;
};

static void *run_reader(void *arg) {
    struct reader *reader = arg;
    reader->filled = read_to_end(reader->fd, received, sizeof received);
    return NULL;
}

/* A signal ends the wait; going on from written(), every byte arrives once and in order. */
static void test_signal_interrupts_and_loses_nothing(void **state) {
    (void)state;
    assert_int_equal(catch_pokes(), 0);
    int fd;
    fill_many();
    struct tower_producer *producer = connect_pair(&fd);
    struct poker poker = {.target = pthread_self()};
    pthread_t poking, reading;
    assert_int_equal(pthread_create(&poking, NULL, run_poker, &poker), 0);
    /* Nobody reads: only a signal can end this. */
    assert_int_equal(tower_producer_write(producer, many, MANY), -EINTR);
    size_t done = (size_t)tower_producer_written(producer);
    assert_in_range(done, 1, MANY - 1);
    struct reader reader = {.fd = fd};
    sigset_t none_of_it, before;
    sigemptyset(&none_of_it);
    sigaddset(&none_of_it, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &none_of_it, &before);
    assert_int_equal(pthread_create(&reading, NULL, run_reader, &reader), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (done < MANY) {
        int error = tower_producer_write(producer, many + done * 2, MANY - done);
        assert_true(error == 0 || error == -EINTR);
        done = (size_t)tower_producer_written(producer);
    }
    poker.is_enough = true;
    pthread_join(poking, NULL);
    tower_producer_close(producer, 0);
    pthread_join(reading, NULL);
    assert_int_equal(reader.filled, sizeof many);
    assert_memory_equal(received, many, sizeof many);
    close(fd);
}

/* The end is padded with silence to a whole frame, and only where it is not one. */
static void test_close_pads_to_a_whole_frame(void **state) {
    (void)state;
    static const struct {
        size_t n_samples;
        uint32_t frame_samples;
        size_t expected_samples;
    } cases[] =
        {
            {1, 1152, 1152},    {1151, 1152, 1152}, {1152, 1152, 1152}, {1153, 1152, 2304},
            {100, 0, 100},      {0, 1152, 0},       {1025, 1024, 2048}, {7, 1, 7},
            {5000, 4000, 8000}, /* a frame larger than any of ours */
        };
    fill_many();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd;
        struct tower_producer *producer = connect_pair(&fd);
        assert_int_equal(tower_producer_write(producer, many, cases[i].n_samples), 0);
        assert_int_equal(tower_producer_written(producer), cases[i].n_samples);
        tower_producer_close(producer, cases[i].frame_samples);
        size_t filled = read_to_end(fd, received, sizeof received);
        size_t written = cases[i].n_samples * TOWER_SAMPLE_BYTES;
        assert_int_equal(filled, cases[i].expected_samples * TOWER_SAMPLE_BYTES);
        assert_memory_equal(received, many, written);
        for (size_t at = written; at < filled; at++)
            assert_int_equal(received[at], 0);
        close(fd);
    }
}

/* ---- titles ---- */

#define TITLE_BYTES_MAX 4065

/* Read up to n bytes; `*ret_title`, of TITLE_BYTES_MAX + 2, is what came along, or "none". */
static ssize_t read_with_title(int fd, void *bytes, size_t n_bytes, char *ret_title) {
    char control[CMSG_SPACE(4 * sizeof(int))];
    struct iovec piece = {.iov_base = bytes, .iov_len = n_bytes};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    (void)strcpy(ret_title, "none");
    if (n <= 0 || !header)
        return n;
    int title_fd;
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof(int)));
    memcpy(&title_fd, CMSG_DATA(header), sizeof title_fd);
    assert_true(fcntl(title_fd, F_GET_SEALS) & F_SEAL_WRITE);
    ssize_t filled = pread(title_fd, ret_title, TITLE_BYTES_MAX + 1, 0);
    assert_in_range(filled, 0, TITLE_BYTES_MAX);
    ret_title[filled] = '\0';
    close(title_fd);
    return n;
}

static char title[TITLE_BYTES_MAX + 2];

static void test_title_goes_with_the_first_byte_of_the_next_write(void **state) {
    (void)state;
    int before = count_descriptors(), fd;
    struct tower_producer *producer = connect_pair(&fd);
    fill_many();
    assert_int_equal(tower_producer_write(producer, many, 100), 0);
    assert_int_equal(tower_producer_set_title(producer, "replaced before it went"), 0);
    assert_int_equal(tower_producer_set_title(producer, "Bj\u00f6rk - J\u00f3ga"), 0);
    assert_int_equal(tower_producer_write(producer, many, 0), 0); /* nothing: not even a title */
    assert_int_equal(tower_producer_write(producer, many + 200, 50), 0);
    assert_int_equal(tower_producer_write(producer, many + 300, 50), 0);
    assert_int_equal(tower_producer_set_title(producer, ""), 0);
    assert_int_equal(tower_producer_write(producer, many + 400, 50), 0);
    assert_int_equal(read_with_title(fd, received, 400, title), 400);
    assert_string_equal(title, "none");
    assert_int_equal(read_with_title(fd, received + 400, 1, title), 1);
    assert_string_equal(title, "Bj\u00f6rk - J\u00f3ga");
    assert_int_equal(read_with_title(fd, received + 401, 399, title), 399);
    assert_string_equal(title, "none");
    assert_int_equal(read_with_title(fd, received + 800, 1, title), 1);
    assert_string_equal(title, "");
    assert_int_equal(read_with_title(fd, received + 801, 1000, title), 199);
    assert_string_equal(title, "none");
    assert_memory_equal(received, many, 1000);
    /* One that no write follows goes nowhere, not even with what fills the last frame. */
    assert_int_equal(tower_producer_set_title(producer, "too late"), 0);
    tower_producer_close(producer, 1152);
    ssize_t n;
    while ((n = read_with_title(fd, received, sizeof received, title)) > 0)
        assert_string_equal(title, "none");
    close(fd);
    assert_int_equal(count_descriptors(), before);
}

static void test_who_it_is_goes_with_the_first_byte_and_a_title_behind_it(void **state) {
    (void)state;
    int before = count_descriptors(), fd, send_bytes = 0, bytes_before = 0;
    socklen_t n_bytes = sizeof send_bytes;
    struct tower_producer *producer = connect_pair(&fd);
    struct tower_producer_identity identity = {.name = "Live"};
    fill_many();
    assert_int_equal(tower_producer_set_identity(producer, &identity), -EINVAL);
    memset(identity.name, 'a', sizeof identity.name);
    assert_int_equal(tower_producer_set_identity(producer, &identity), -EINVAL);
    (void)snprintf(identity.name, sizeof identity.name, "live");
    memset(identity.label, 'a', sizeof identity.label);
    assert_int_equal(tower_producer_set_identity(producer, &identity), -EINVAL);
    (void)snprintf(identity.label, sizeof identity.label, "a\tb");
    assert_int_equal(tower_producer_set_identity(producer, &identity), -EINVAL);
    (void)snprintf(identity.label, sizeof identity.label, "Morning");
    (void)getsockopt(tower_producer_fd(producer), SOL_SOCKET, SO_SNDBUF, &bytes_before, &n_bytes);
    assert_int_equal(tower_producer_set_identity(producer, &identity), 0);
    (void)getsockopt(tower_producer_fd(producer), SOL_SOCKET, SO_SNDBUF, &send_bytes, &n_bytes);
    assert_true(send_bytes >= bytes_before);
    assert_int_equal(tower_producer_set_title(producer, "A - B"), 0);
    assert_int_equal(tower_producer_write(producer, many, 100), 0);
    assert_int_equal(read_with_title(fd, received, 400, title), 1);
    assert_memory_equal(title, "\xfeTWRID2", 8);
    assert_int_equal(read_with_title(fd, received + 1, 1, title), 1);
    assert_string_equal(title, "A - B");
    assert_int_equal(read_with_title(fd, received + 2, 1000, title), 398);
    assert_string_equal(title, "none");
    assert_memory_equal(received, many, 400);
    assert_int_equal(tower_producer_set_identity(producer, &identity), -EALREADY);
    tower_producer_close(producer, 0);
    close(fd);
    assert_int_equal(count_descriptors(), before);
}

static void test_title_that_is_not_utf8_is_refused_and_a_long_one_cut(void **state) {
    (void)state;
    static char longest[TITLE_BYTES_MAX + 100];
    int before = count_descriptors(), fd;
    struct tower_producer *producer = connect_pair(&fd);
    assert_int_equal(tower_producer_set_title(producer, "kept"), 0);
    assert_int_equal(tower_producer_set_title(producer, "Bj\xf6rk"), -EINVAL);
    assert_int_equal(tower_producer_write(producer, many, 1), 0);
    assert_int_equal(read_with_title(fd, received, 4, title), 4);
    assert_string_equal(title, "kept");
    /* As long as can be, and then with a character that would go over the end. */
    for (int over = 0; over <= 1; over++) {
        memset(longest, 'x', sizeof longest - 1);
        memcpy(longest + TITLE_BYTES_MAX - 3 + over, "\u20ac", 3);
        assert_int_equal(tower_producer_set_title(producer, longest), 0);
        assert_int_equal(tower_producer_write(producer, many, 1), 0);
        assert_int_equal(read_with_title(fd, received, 4, title), 4);
        longest[over ? TITLE_BYTES_MAX - 2 : TITLE_BYTES_MAX] = '\0';
        assert_string_equal(title, longest);
    }
    tower_producer_close(producer, 0);
    close(fd);
    assert_int_equal(count_descriptors(), before);
}

/* A write that a signal cut short has sent its title: going on does not send it again. */
static void test_title_of_a_write_that_was_interrupted_goes_once(void **state) {
    (void)state;
    assert_int_equal(catch_pokes(), 0);
    int fd;
    fill_many();
    struct tower_producer *producer = connect_pair(&fd);
    /* The socket is full before the title's write: its first byte waits. */
    assert_int_equal(fcntl(tower_producer_fd(producer), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    size_t full = 0;
    ssize_t n;
    while ((n = send(tower_producer_fd(producer), received, 4096, MSG_NOSIGNAL)) > 0)
        full += (size_t)n;
    struct poker poker = {.target = pthread_self()};
    pthread_t poking;
    assert_int_equal(tower_producer_set_title(producer, "once"), 0);
    assert_int_equal(pthread_create(&poking, NULL, run_poker, &poker), 0);
    assert_int_equal(tower_producer_write(producer, many, MANY), -EINTR);
    assert_int_equal(tower_producer_written(producer), 0);
    poker.is_enough = true;
    pthread_join(poking, NULL);
    for (size_t got = 0; got < full; got += (size_t)n) {
        n = read_with_title(fd, received, full - got, title);
        assert_string_equal(title, "none");
    }
    poker.is_enough = false;
    assert_int_equal(pthread_create(&poking, NULL, run_poker, &poker), 0);
    assert_int_equal(tower_producer_write(producer, many, MANY), -EINTR);
    poker.is_enough = true;
    pthread_join(poking, NULL);
    size_t done = (size_t)tower_producer_written(producer);
    assert_in_range(done, 1, MANY - 1);
    assert_int_equal(read_with_title(fd, received, 1, title), 1);
    assert_string_equal(title, "once");
    for (size_t got = 1; got < done * TOWER_SAMPLE_BYTES; got += (size_t)n) {
        n = read_with_title(fd, received + got, done * TOWER_SAMPLE_BYTES - got, title);
        assert_string_equal(title, "none");
    }
    assert_int_equal(tower_producer_write(producer, many + done * 2, 1), 0);
    size_t filled = done * TOWER_SAMPLE_BYTES;
    assert_int_equal(read_with_title(fd, received + filled, 100, title), TOWER_SAMPLE_BYTES);
    assert_string_equal(title, "none");
    assert_memory_equal(received, many, (done + 1) * TOWER_SAMPLE_BYTES);
    tower_producer_close(producer, 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_connect_does_not_wait_for_a_busy_listener),
        cmocka_unit_test(test_socket_is_not_inherited),
        cmocka_unit_test(test_path_comes_from_argument_variable_or_default),
        cmocka_unit_test(test_write_waits_until_all_is_taken),
        cmocka_unit_test(test_transmitter_that_went_away_is_an_error_without_sigpipe),
        cmocka_unit_test(test_signal_interrupts_and_loses_nothing),
        cmocka_unit_test(test_close_pads_to_a_whole_frame),
        cmocka_unit_test(test_title_goes_with_the_first_byte_of_the_next_write),
        cmocka_unit_test(test_who_it_is_goes_with_the_first_byte_and_a_title_behind_it),
        cmocka_unit_test(test_title_that_is_not_utf8_is_refused_and_a_long_one_cut),
        cmocka_unit_test(test_title_of_a_write_that_was_interrupted_goes_once),
    };
    alarm(PATIENCE_S);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
