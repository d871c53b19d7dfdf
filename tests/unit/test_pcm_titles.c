/* Titles on the PCM socket: the frame they hold from, and what hostile producers send instead. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../contracts/captured_log.h"
#include "../contracts/descriptors.h"
#include "numbered_frames.h"
#include "pcm_socket_fixture.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define TITLE_BYTES_MAX 4065
#define HEARD_MAX 1000

static struct {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    size_t n_untitled;       /* turns on air that began without a title, */
    uint64_t untitled_frame; /* the last of them with this frame */
    size_t n;
    struct {
        uint64_t frame;
        size_t bytes;
        char text[TITLE_BYTES_MAX];
        bool was_told_in_time; /* before the frame was queued */
    } titles[HEARD_MAX];
} heard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void hear(void *user, const char *text, size_t bytes, uint64_t pushed_count) {
    struct fixture *fixture = user;
    struct tower_router_stats router;
    tower_router_get_stats(fixture->router, &router);
    pthread_mutex_lock(&heard.lock);
    if (!text) {
        heard.n_untitled++;
        heard.untitled_frame = pushed_count;
        pthread_mutex_unlock(&heard.lock);
        return;
    }
    if (heard.n < HEARD_MAX && bytes <= TITLE_BYTES_MAX) {
        heard.titles[heard.n].frame = pushed_count;
        heard.titles[heard.n].bytes = bytes;
        memcpy(heard.titles[heard.n].text, text, bytes);
        heard.titles[heard.n].was_told_in_time = router.pushed_count == pushed_count;
    }
    heard.n++;
    pthread_mutex_unlock(&heard.lock);
}

static int setup_titles(void **state) {
    int result = setup(state);
    heard.n = 0;
    heard.n_untitled = 0;
    if (result == 0)
        ((struct fixture *)*state)->on_title = hear;
    return result;
}

static void assert_heard(size_t i, uint64_t frame, const char *text) {
    pthread_mutex_lock(&heard.lock);
    assert_true(i < heard.n);
    assert_int_equal(heard.titles[i].frame, frame);
    assert_int_equal(heard.titles[i].bytes, strlen(text));
    assert_memory_equal(heard.titles[i].text, text, strlen(text));
    assert_true(heard.titles[i].was_told_in_time);
    pthread_mutex_unlock(&heard.lock);
}

static size_t count_heard(void) {
    pthread_mutex_lock(&heard.lock);
    size_t n = heard.n;
    pthread_mutex_unlock(&heard.lock);
    return n;
}

static int memory_file(const void *text, size_t bytes) {
    int fd = memfd_create("title", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    return fd;
}

/* Send bytes and descriptors in one message; returns what sendmsg() did. Any thread. */
static ssize_t send_with(int fd, const void *data, size_t bytes, const int *fds, size_t n_fds) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(253 * sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (n_fds > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static void send_title(int fd, const char *text, const void *data, size_t bytes) {
    int title_fd = memory_file(text, strlen(text));
    assert_int_equal(send_with(fd, data, bytes, &title_fd, 1), bytes);
    close(title_fd);
}

static struct tower_pcm_socket_stats stats_of(struct fixture *fixture) {
    struct tower_pcm_socket_stats stats;
    tower_pcm_socket_get_stats(fixture->socket, &stats);
    return stats;
}

/* ---- where a title holds from ---- */

#define STREAM_FRAMES 150
#define STREAM_BYTES (STREAM_FRAMES * FRAME_BYTES)

struct stream {
    int fd;
    unsigned seed;
    size_t titles[HEARD_MAX]; /* the bytes they begin at, in order */
    size_t n_titles;
    bool is_sent;
};

static unsigned char stream_bytes[STREAM_BYTES];

/* Send the stream in pieces of odd sizes, each title with a piece that begins at its byte. */
static void *send_stream(void *arg) {
    struct stream *stream = arg;
    size_t next = 0, at = 0;
    bool is_good = true;
    while (at < STREAM_BYTES && is_good) {
        size_t end = next < stream->n_titles ? stream->titles[next] : STREAM_BYTES;
        int title_fd = -1;
        if (at == end) {
            char text[32];
            (void)snprintf(text, sizeof text, "byte %zu", at);
            title_fd = memory_file(text, strlen(text));
            next++;
            end = next < stream->n_titles ? stream->titles[next] : STREAM_BYTES;
        }
        size_t n = 1 + (size_t)rand_r(&stream->seed) % 9973;
        n = n < end - at ? n : end - at;
        is_good =
            send_with(stream->fd, stream_bytes + at, n, &title_fd, title_fd >= 0) == (ssize_t)n;
        if (title_fd >= 0)
            close(title_fd);
        at += n;
    }
    stream->is_sent = is_good;
    return NULL;
}

/* Take every frame while the clock goes on, and see that it is whole and in its place. */
static void take_stream(struct fixture *fixture, unsigned seed) {
    struct tower_clock *real = tower_clock_real();
    int64_t limit_ns = tower_clock_now_ns(real) + PATIENCE_S * TOWER_NS_PER_S;
    unsigned char frame[FRAME_BYTES];
    for (size_t taken = 0; taken < STREAM_FRAMES;) {
        assert_true(tower_clock_now_ns(real) < limit_ns);
        tower_clock_virtual_advance(fixture->clock, FRAME_NS / 2);
        if (rand_r(&seed) % 2 == 0)
            (void)poll(NULL, 0, 1);
        if (tower_router_pop_frame(fixture->router, 0, frame, NULL) == 1) {
            assert_memory_equal(frame, stream_bytes + taken * FRAME_BYTES, FRAME_BYTES);
            taken++;
        }
    }
}

static int compare_sizes(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

static void judge_stream(struct fixture *fixture, size_t capacity_frames, uint32_t cushion_frames,
                         unsigned seed) {
    static const size_t edges[] = {0,
                                   FRAME_BYTES - 1,
                                   FRAME_BYTES,
                                   5 * FRAME_BYTES + 1,
                                   7 * FRAME_BYTES - 2,
                                   9 * FRAME_BYTES + 2000,
                                   9 * FRAME_BYTES + 2001, /* the same frame: this one holds */
                                   STREAM_BYTES - 1};
    struct stream stream = {.seed = seed, .n_titles = sizeof edges / sizeof *edges};
    pthread_t thread;
    for (size_t i = 0; i < STREAM_BYTES; i++)
        stream_bytes[i] = (unsigned char)(i / FRAME_BYTES * 7 + i % 251);
    memcpy(stream.titles, edges, sizeof edges);
    for (int i = 0; i < 40; i++)
        stream.titles[stream.n_titles++] =
            10 * FRAME_BYTES + (size_t)rand_r(&seed) % (STREAM_BYTES - 11 * FRAME_BYTES);
    qsort(stream.titles, stream.n_titles, sizeof *stream.titles, compare_sizes);
    for (size_t i = 1; i < stream.n_titles; i++) /* no two at one byte */
        assert_int_not_equal(stream.titles[i], stream.titles[i - 1]);
    make(fixture, capacity_frames, cushion_frames, 0);
    stream.fd = connect_producer(fixture);
    assert_int_equal(pthread_create(&thread, NULL, send_stream, &stream), 0);
    take_stream(fixture, seed);
    pthread_join(thread, NULL);
    assert_true(stream.is_sent);
    close(stream.fd);
    size_t n = 0;
    for (size_t i = 0; i < stream.n_titles; i++) {
        uint64_t frame = stream.titles[i] / FRAME_BYTES;
        char text[32];
        if (i + 1 < stream.n_titles && stream.titles[i + 1] / FRAME_BYTES == frame)
            continue;
        (void)snprintf(text, sizeof text, "byte %zu", stream.titles[i]);
        assert_heard(n++, frame, text);
    }
    assert_int_equal(count_heard(), n);
    struct tower_pcm_socket_stats stats = stats_of(fixture);
    assert_int_equal(stats.titles, n);
    assert_int_equal(stats.bad_titles, 0);
}

static void test_title_holds_from_the_frame_its_byte_lies_in(void **state) {
    judge_stream(*state, 200, 0, 1);
}

static void test_and_no_less_where_the_queue_is_always_full(void **state) {
    judge_stream(*state, 2, 0, 2);
}

static void test_and_no_less_where_a_cushion_holds_it_back(void **state) {
    struct fixture *fixture = *state;
    unsigned char frame[FRAME_BYTES];
    judge_stream(fixture, 8, 4, 3);
    assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 0);
}

static void test_title_of_one_that_waits_holds_from_its_own_first_frame(void **state) {
    struct fixture *fixture = *state;
    unsigned char frame[FRAME_BYTES] = {2};
    make(fixture, 50, 0, 0);
    int first = connect_producer(fixture);
    send_title(first, "first", frame, sizeof frame);
    await(fixture, has_frames, 1);
    int second = connect_producer(fixture);
    send_title(second, "second", frame, sizeof frame);
    await(fixture, has_producers, 2);
    send_frames(first, 1, 4);
    await(fixture, has_frames, 5);
    assert_int_equal(count_heard(), 1);
    close(first);
    await(fixture, has_frames, 6);
    assert_heard(0, 0, "first");
    assert_heard(1, 5, "second");
    close(second);
}

static void test_title_goes_with_a_frame_that_is_dropped(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    send_frames(fd, 1, 1);
    send_title(fd, "never heard", "abc", 3);
    await(fixture, has_read_bytes, FRAME_BYTES + 3);
    close(fd);
    await(fixture, has_partials, 1);
    fd = connect_producer(fixture);
    send_frames(fd, 2, 1);
    await(fixture, has_frames, 2);
    assert_int_equal(count_heard(), 0);
    assert_int_equal(stats_of(fixture).titles, 0);
    close(fd);
}

static void test_title_of_the_library_arrives(void **state) {
    struct fixture *fixture = *state;
    static const int16_t samples[1152 * 2];
    static char longest[TITLE_BYTES_MAX + 1];
    struct tower_producer *producer;
    make(fixture, 50, 0, 0);
    memset(longest, 'x', TITLE_BYTES_MAX);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    assert_int_equal(tower_producer_set_title(producer, "Bj\u00f6rk - J\u00f3ga"), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    assert_int_equal(tower_producer_set_title(producer, longest), 0);
    assert_int_equal(tower_producer_write(producer, samples, 100), 0);
    assert_int_equal(tower_producer_set_title(producer, ""), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1), 0);
    tower_producer_close(producer, 1152);
    await(fixture, has_frames, 3);
    assert_heard(0, 1, "Bj\u00f6rk - J\u00f3ga");
    assert_heard(1, 2, "");
    assert_int_equal(count_heard(), 2);
}

/* ---- clocks ---- */

/* A report of the library's arrives as it was, is no title, and is gone with its producer. */
static void test_clock_of_the_library_arrives(void **state) {
    struct fixture *fixture = *state;
    static const int16_t samples[1152 * 2];
    const struct tower_clock_report said = {.is_known = true,
                                            .ppm = -123.456,
                                            .spread_ppm = 0.25,
                                            .correction_ppm = 124,
                                            .is_out_of_range = true,
                                            .n_overruns = 7};
    struct tower_producer *producer;
    make(fixture, 50, 0, 0);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    await(fixture, has_frames, 1);
    assert_false(stats_of(fixture).producers[0].clock.is_known);
    assert_int_equal(tower_producer_set_title(producer, "a title first"), 0);
    assert_int_equal(tower_producer_set_clock(producer, &said), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    await(fixture, has_frames, 3);
    const struct tower_pcm_socket_stats stats = stats_of(fixture);
    const struct tower_clock_report *clock = &stats.producers[0].clock;
    assert_true(clock->is_known && clock->is_out_of_range);
    assert_true(fabs(clock->ppm - said.ppm) < 1e-3);
    assert_true(fabs(clock->spread_ppm - said.spread_ppm) < 1e-3);
    assert_true(fabs(clock->correction_ppm - said.correction_ppm) < 1e-3);
    assert_int_equal(clock->n_overruns, 7);
    assert_int_equal(stats.bad_titles, 0);
    assert_heard(0, 1, "a title first");
    assert_int_equal(count_heard(), 1);
    tower_producer_close(producer, 0);
    await(fixture, has_producers, 0);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    await(fixture, has_producers, 1);
    assert_false(stats_of(fixture).producers[0].clock.is_known);
    tower_producer_close(producer, 0);
}

/* Numbers that are none, or too large, come as numbers that there are. */
static void test_clock_that_is_no_number_is_brought_to_one(void **state) {
    struct fixture *fixture = *state;
    static const int16_t samples[1152 * 2];
    const struct tower_clock_report said = {.is_known = true,
                                            .ppm = 1e300,
                                            .spread_ppm = (double)NAN,
                                            .correction_ppm = -(double)INFINITY,
                                            .n_overruns = UINT64_MAX};
    struct tower_producer *producer;
    make(fixture, 50, 0, 0);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    assert_int_equal(tower_producer_set_clock(producer, &said), 0);
    assert_int_equal(tower_producer_write(producer, samples, 1152), 0);
    await(fixture, has_frames, 1);
    const struct tower_pcm_socket_stats stats = stats_of(fixture);
    assert_true(isfinite(stats.producers[0].clock.ppm));
    assert_true(isfinite(stats.producers[0].clock.spread_ppm));
    assert_true(isfinite(stats.producers[0].clock.correction_ppm));
    assert_true(stats.producers[0].clock.n_overruns <= INT64_MAX);
    tower_producer_close(producer, 0);
}

/* ---- what is no title ---- */

/* A TCP connection whose close would wait for a peer that reads nothing. */
static int lingering_socket(int *ret_peer) {
    static char data[65536];
    const struct linger linger = {.l_onoff = 1, .l_linger = 1000};
    int fd = -1;
    assert_true(tcp_pair(true, &fd, ret_peer));
    while (send(fd, data, sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

static int reopened(int fd, int flags) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static size_t count_lines(const char *text, const char *word) {
    size_t n = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        n++;
    return n;
}

static void test_what_is_no_title_is_closed_counted_and_said_once(void **state) {
    struct fixture *fixture = *state;
    static const unsigned char frame[FRAME_BYTES];
    static char logged[65536];
    struct captured_log captured;
    int fds[16], ends[2], peer;
    size_t n = 0;
    assert_true(captured_log_begin(&captured));
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    await(fixture, has_producers, 1);
    int before = count_descriptors();
    assert_int_equal(pipe(ends), 0);
    fds[n++] = ends[0];
    fds[n++] = ends[1];
    fds[n++] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    fds[n++] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    fds[n++] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    fds[n++] = open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    fds[n++] = open("/", O_PATH | O_CLOEXEC);
    fds[n++] = epoll_create1(EPOLL_CLOEXEC);
    fds[n++] = eventfd(0, EFD_CLOEXEC);
    fds[n++] = dup(fd); /* the connection it comes by */
    fds[n++] = lingering_socket(&peer);
    fds[n++] = memory_file("Bj\xf6rk", 5);
    fds[n] = reopened(fds[n - 1], O_WRONLY);
    n++;
    for (size_t i = 0; i < n; i++) {
        assert_true(fds[i] >= 0);
        assert_int_equal(send_with(fd, frame, sizeof frame, &fds[i], 1), FRAME_BYTES);
        close(fds[i]);
    }
    await(fixture, has_frames, n);
    /* None of it came with bytes: it is not even sent. */
    int title_fd = memory_file("nothing", 7);
    (void)send_with(fd, "", 0, &title_fd, 1);
    close(title_fd);
    send_title(fd, "a good one", frame, sizeof frame);
    await(fixture, has_frames, n + 1);
    struct tower_pcm_socket_stats stats = stats_of(fixture);
    assert_int_equal(stats.bad_titles, n);
    assert_int_equal(stats.titles, 1);
    assert_heard(0, n, "a good one");
    close(peer);
    assert_int_equal(count_descriptors(), before);
    captured_log_end(&captured, logged, sizeof logged);
    assert_int_equal(count_lines(logged, "no title"), 1);
    close(fd);
}

/* As many as a message can carry: the first is the title. */
static void test_one_descriptor_is_taken_and_the_others_closed(void **state) {
    struct fixture *fixture = *state;
    static const unsigned char frame[FRAME_BYTES];
    int fds[253], peer;
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    await(fixture, has_producers, 1);
    int before = count_descriptors();
    fds[0] = memory_file("the first", 9);
    fds[1] = lingering_socket(&peer);
    fds[2] = lingering_socket(&fds[3]);
    for (size_t i = 4; i < 253; i++)
        fds[i] = i % 2 ? memory_file("another", 7) : eventfd(0, EFD_CLOEXEC);
    assert_int_equal(send_with(fd, frame, sizeof frame, fds, 253), FRAME_BYTES);
    for (size_t i = 0; i < 253; i++)
        close(fds[i]);
    await(fixture, has_frames, 1);
    assert_heard(0, 0, "the first");
    assert_int_equal(stats_of(fixture).bad_titles, 1);
    close(peer);
    assert_int_equal(count_descriptors(), before);
    close(fd);
    await(fixture, has_producers, 0);
    assert_int_equal(count_heard(), 1);
}

static void test_large_file_is_read_as_far_as_a_title_goes(void **state) {
    struct fixture *fixture = *state;
    static const unsigned char frame[FRAME_BYTES];
    static char text[TITLE_BYTES_MAX + 2];
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    /* Its last whole character ends two bytes before the limit. */
    memset(text, 'x', sizeof text);
    memcpy(text + TITLE_BYTES_MAX - 2, "\U0001f3b5", 4);
    int title_fd = memory_file(text, sizeof text);
    assert_int_equal(ftruncate(title_fd, (off_t)1 << 40), 0);
    assert_int_equal(send_with(fd, frame, sizeof frame, &title_fd, 1), FRAME_BYTES);
    close(title_fd);
    await(fixture, has_frames, 1);
    text[TITLE_BYTES_MAX - 2] = '\0';
    assert_heard(0, 0, text);
    close(fd);
}

static _Atomic bool is_enough;

static void *grow_and_shrink(void *arg) {
    const int *fd = arg;
    for (off_t size = 0; !is_enough; size = (size * 5 + 3) % 100000)
        (void)!ftruncate(*fd, size);
    return NULL;
}

static void test_file_that_changes_while_it_is_read(void **state) {
    struct fixture *fixture = *state;
    static const unsigned char frame[FRAME_BYTES];
    pthread_t thread;
    make(fixture, 200, 0, 0);
    int fd = connect_producer(fixture);
    int title_fd = memory_file("x", 1);
    is_enough = false;
    assert_int_equal(pthread_create(&thread, NULL, grow_and_shrink, &title_fd), 0);
    for (int i = 0; i < 150; i++)
        assert_int_equal(send_with(fd, frame, sizeof frame, &title_fd, 1), FRAME_BYTES);
    await(fixture, has_frames, 150);
    is_enough = true;
    pthread_join(thread, NULL);
    close(title_fd);
    assert_int_equal(count_heard(), 150);
    close(fd);
}

static void test_where_nobody_asks_for_titles_none_is_kept_open(void **state) {
    struct fixture *fixture = *state;
    static const unsigned char frame[FRAME_BYTES];
    fixture->on_title = NULL;
    make(fixture, 50, 0, 0);
    int fd = connect_producer(fixture);
    await(fixture, has_producers, 1);
    int before = count_descriptors();
    send_title(fd, "to nobody", frame, sizeof frame);
    await(fixture, has_frames, 1);
    assert_int_equal(count_descriptors(), before);
    close(fd);
}

/* So that the title of the one before does not stay on air with it. */
static void test_title_of_a_frame_that_is_not_whole_when_it_makes_way(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, 0, TOWER_NS_PER_S);
    int first = connect_producer(fixture);
    send_title(first, "old", stream_bytes, FRAME_BYTES);
    await(fixture, has_frames, 1);
    send_title(first, "new", stream_bytes, 400);
    await(fixture, has_read_bytes, FRAME_BYTES + 400);
    int second = connect_producer(fixture);
    send_frames(second, 2, 1);
    for (int i = 0; !has_frames(fixture, 2); i++) {
        tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S / 2);
        (void)poll(NULL, 0, 1);
        assert_true(i < PATIENCE_S * 1000);
    }
    close(second);
    send_frames(first, 1, 1);
    await(fixture, has_frames, 3);
    assert_heard(1, 2, "new");
    assert_int_equal(count_heard(), 2);
    close(first);
}

static void test_a_turn_without_a_title_is_told_too(void **state) {
    struct fixture *fixture = *state;
    make(fixture, 100, 0, TOWER_NS_PER_S);
    int first = connect_producer(fixture);
    send_frames(first, 1, 3);
    await(fixture, has_frames, 3);
    assert_int_equal(heard.n_untitled, 1);
    assert_int_equal(heard.untitled_frame, 0);
    send_title(first, "mine", stream_bytes, FRAME_BYTES);
    await(fixture, has_frames, 4);
    assert_heard(0, 3, "mine");

    /* It falls silent and makes way for one without a title, which does the same. */
    int second = connect_producer(fixture);
    send_frames(second, 2, 2);
    for (int i = 0; !has_frames(fixture, 6); i++) {
        tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S / 2);
        (void)poll(NULL, 0, 1);
        assert_true(i < PATIENCE_S * 1000);
    }
    assert_int_equal(heard.n_untitled, 2);
    assert_int_equal(heard.untitled_frame, 4);
    send_frames(first, 1, 2);
    for (int i = 0; !has_frames(fixture, 8); i++) {
        tower_clock_virtual_advance(fixture->clock, TOWER_NS_PER_S / 2);
        (void)poll(NULL, 0, 1);
        assert_true(i < PATIENCE_S * 1000);
    }
    /* Back on air: what it said it was playing still holds. */
    assert_heard(1, 6, "mine");
    assert_int_equal(count_heard(), 2);
    assert_int_equal(heard.n_untitled, 2);
    /* Whoever is still connected when all ends leaves nothing behind. */
    tower_pcm_socket_free(fixture->socket);
    fixture->socket = NULL;
    close(first);
    close(second);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_titles, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_title_holds_from_the_frame_its_byte_lies_in),
        TEST(test_and_no_less_where_the_queue_is_always_full),
        TEST(test_and_no_less_where_a_cushion_holds_it_back),
        TEST(test_title_of_one_that_waits_holds_from_its_own_first_frame),
        TEST(test_title_goes_with_a_frame_that_is_dropped),
        TEST(test_title_of_the_library_arrives),
        TEST(test_clock_of_the_library_arrives),
        TEST(test_clock_that_is_no_number_is_brought_to_one),
        TEST(test_what_is_no_title_is_closed_counted_and_said_once),
        TEST(test_one_descriptor_is_taken_and_the_others_closed),
        TEST(test_large_file_is_read_as_far_as_a_title_goes),
        TEST(test_file_that_changes_while_it_is_read),
        TEST(test_where_nobody_asks_for_titles_none_is_kept_open),
        TEST(test_title_of_a_frame_that_is_not_whole_when_it_makes_way),
        TEST(test_a_turn_without_a_title_is_told_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
