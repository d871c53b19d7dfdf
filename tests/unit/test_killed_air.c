/* test_killed_air.c - a process with an air and its listeners is killed at any moment of going on
 * at full speed, some hundred times: each of them goes on at the very byte, wherever that was.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/heritage.h"

#include "icy_reader.h"
#include "killed_air.h"
#include "title_history.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define KILLS 300
#define CLIENTS 10
#define TITLE_FRAMES 37
#define HEADER_BYTES 100
#define RING_BYTES ((size_t)4 << 20)
/* Of what all have read; as much again a worker can have sent and not noted. */
#define AHEAD_BYTES (RING_BYTES / 32)
/* A title that is forgotten while it goes out is cut short, and this is about what comes whole. */
_Static_assert(2 * AHEAD_BYTES / (TITLE_FRAMES * NUMBERED_BYTES_MIN) + 2 < TOWER_TITLES_KEPT,
               "none is forgotten");

/* Between the test and its children. */
struct shared {
    _Atomic uint64_t limit;     /* publish up to here */
    _Atomic unsigned n_serving; /* children that have begun to */
    _Atomic bool is_enough;     /* stop, having sent all */
    _Atomic uint32_t n_unsound; /* of what was left */
    _Atomic uint32_t n_taken;
};

struct audience {
    struct shared *shared;
    struct tower_clock *clock;
    struct tower_air *air; /* mapped here too */
    int air_fd, titles_fd, table_fd;
    uint64_t random;
    unsigned n_ended;
    struct client {
        int fd;        /* -1: none */
        int server;    /* our copy */
        bool is_known; /* a table has it */
        bool wants_titles;
        size_t header_left;
        struct numbered_reader numbers;
        struct icy_reader titles;
    } clients[CLIENTS];
    int closing[CLIENTS]; /* servers' ends whose client has gone */
};

static uint64_t next_random(struct audience *audience) {
    audience->random ^= audience->random << 13;
    audience->random ^= audience->random >> 7;
    audience->random ^= audience->random << 17;
    return audience->random >> 11;
}

static void send_descriptor(int to, int fd) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec piece = {.iov_base = "t", .iov_len = 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.room};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    if (sendmsg(to, &message, MSG_NOSIGNAL) != 1)
        _exit(3);
}

/* The descriptor that came, or -1 if none did before the other end was closed. */
static int receive_descriptor(int from) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    int fd = -1;
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.room};
    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

/* What a worker does: takes over, says so, goes on; until it is killed, mostly. */
static void work(struct audience *audience, int to_test) {
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_fanout *fanout;
    struct tower_listener_heritage *heritage;
    struct tower_adoption adoption;
    if (tower_air_open(audience->air_fd, RING_BYTES, RING_BYTES / 400, &air) != 1 ||
        tower_titles_open(audience->titles_fd, tower_air_head(air), &titles) != 1)
        _exit(4);
    const struct tower_fanout_config config = {.clock = audience->clock,
                                               .air = air,
                                               .titles = titles,
                                               .max_listeners = 2 * CLIENTS,
                                               .client_timeout_ns = 60 * S_NS,
                                               .burst_frames = 20,
                                               .phase_groups = 1};
    if (tower_fanout_new(&config, &fanout) < 0 || tower_listener_heritage_new(&heritage) < 0 ||
        (audience->table_fd >= 0 && tower_listener_heritage_add(heritage, audience->table_fd) < 0))
        _exit(5);
    tower_fanout_adopt(&fanout, 1, heritage, &adoption);
    atomic_fetch_add(&audience->shared->n_unsound, adoption.unsound);
    atomic_fetch_add(&audience->shared->n_taken, adoption.taken);
    send_descriptor(to_test, tower_fanout_table_fd(fanout));
    tower_listener_heritage_commit(heritage);
    if (tower_fanout_start(fanout) < 0)
        _exit(6);
    atomic_fetch_add(&audience->shared->n_serving, 1);
    for (unsigned round = 0;; round++) {
        if (round < CLIENTS && audience->clients[round].fd >= 0 &&
            !audience->clients[round].is_known) {
            struct tower_fanout_listener listener = {
                .fd = audience->clients[round].server,
                .cursor = tower_air_back(air, 20),
                .wants_titles = audience->clients[round].wants_titles,
                .address = TOWER_ADDRESS_NONE,
            };
            if (tower_fanout_add(fanout, &listener) < 0)
                _exit(7);
        }
        if (round >= CLIENTS && atomic_load(&audience->shared->is_enough))
            break;
        if (tower_air_head(air) >= atomic_load(&audience->shared->limit)) {
            short_pause();
            continue;
        }
        char text[200];
        uint64_t number = tower_air_frames(air);
        (void)snprintf(text, sizeof text, "%llu %0*d", (unsigned long long)number,
                       (int)(number % 150), 0);
        if (number % TITLE_FRAMES == 0)
            (void)tower_titles_set(titles, text, strlen(text), TOWER_TITLE_FROM_NEXT);
        publish(air, titles);
    }
    _exit(tower_fanout_stop(fanout, 60 * S_NS) == 0 ? 0 : 8);
}

/* A title block says the title of the frame that the byte behind it is in. */
static void check_title(struct client *client) {
    const struct numbered_reader *at = &client->numbers;
    if (client->titles.n_titles == 0)
        return;
    assert_int_equal(client->titles.n_titles, 1);
    assert_false(client->titles.is_broken);
    uint64_t frame = at->place == numbered_bytes(at->next) ? at->next + 1 : at->next;
    assert_int_equal(strtoull(client->titles.titles[0].text, NULL, 10),
                     frame - frame % TITLE_FRAMES);
    client->titles.n_titles = 0;
}

static void take(struct client *client, const uint8_t *data, size_t bytes) {
    size_t header = client->header_left < bytes ? client->header_left : bytes;
    client->header_left -= header;
    data += header;
    bytes -= header;
    while (client->wants_titles && bytes > 0) {
        uint8_t stream[4096];
        size_t n = client->titles.until_block;
        if (client->titles.is_in_block || n == 0)
            n = 1;
        n = n < bytes ? n : bytes;
        n = n < sizeof stream ? n : sizeof stream;
        size_t got = icy_reader_take(&client->titles, data, n, stream);
        if (got == 0 && !client->titles.is_in_block)
            check_title(client);
        numbered_reader_take(&client->numbers, stream, got);
        data += n;
        bytes -= n;
    }
    numbered_reader_take(&client->numbers, data, bytes);
}

/* Read what there is; then let the worker publish as far as nobody is overrun. */
static void listen_once(struct audience *audience) {
    static uint8_t data[65536];
    uint64_t behind = UINT64_MAX;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &audience->clients[i];
        if (client->fd < 0)
            continue;
        size_t most =
            next_random(audience) % 8 == 0 ? 1 + next_random(audience) % 3000 : sizeof data;
        ssize_t n = recv(client->fd, data, most, MSG_DONTWAIT);
        if (n == 0 && atomic_load(&audience->shared->is_enough))
            continue;
        assert_true(n > 0 || (n < 0 && errno == EAGAIN));
        if (n > 0)
            take(client, data, (size_t)n);
        if (client->numbers.is_broken)
            fail_msg("client %d%s: byte %zu is wrong, in frame %u", i,
                     client->wants_titles ? " with titles" : "", client->numbers.n_bytes,
                     client->numbers.next);
        if (client->numbers.has_begun) {
            /* Near enough: all frames have 400 bytes at least. */
            uint64_t at = start_of(client->numbers.first) + client->numbers.n_bytes;
            behind = at < behind ? at : behind;
        }
    }
    if (behind != UINT64_MAX)
        atomic_store(&audience->shared->limit, behind + AHEAD_BYTES);
}

/* Bytes that come say that the worker is inside the call that sends them, as likely as not. */
static void await_send(struct audience *audience) {
    uint8_t data[65536];
    struct client *client = &audience->clients[next_random(audience) % CLIENTS];
    int64_t until_ns = real_now_ns() + S_NS / 50;
    bool was_empty = false;
    while (client->fd >= 0 && real_now_ns() < until_ns) {
        ssize_t n = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
        if (n > 0)
            take(client, data, (size_t)n);
        if (n > 0 && was_empty)
            return;
        was_empty = n < 0;
    }
}

static void connect_one(struct audience *audience, struct client *client) {
    uint8_t header[HEADER_BYTES] = {0};
    *client = (struct client){.wants_titles = next_random(audience) % 2,
                              .header_left = HEADER_BYTES,
                              .titles = {.until_block = ICY_READER_METAINT}};
    assert_true(tcp_pair(next_random(audience) % 3 == 0, &client->server, &client->fd));
    assert_int_equal(send(client->server, header, sizeof header, 0), sizeof header);
}

/* The child is gone: which of the clients has its table? Whose place is given back can have its
 * socket closed here too, so that its number comes to be used again. */
static void look_who_is_known(struct audience *audience) {
    struct tower_listener_heritage *heritage;
    uint64_t at = 0;
    int fd;
    bool is_closing[CLIENTS] = {false};
    assert_int_equal(tower_listener_heritage_new(&heritage), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, audience->table_fd), 0);
    while ((fd = tower_listener_heritage_next(heritage, &at)) >= 0) {
        for (int i = 0; i < CLIENTS; i++) {
            audience->clients[i].is_known |= audience->clients[i].server == fd;
            is_closing[i] |= audience->closing[i] == fd;
        }
    }
    tower_listener_heritage_free(heritage);
    for (int i = 0; i < CLIENTS; i++) {
        if (audience->closing[i] >= 0 && !is_closing[i]) {
            close(audience->closing[i]);
            audience->closing[i] = -1;
        }
    }
}

/* One of them hangs up now and then, and one comes. */
static void come_and_go(struct audience *audience) {
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &audience->clients[i];
        if (client->fd < 0)
            connect_one(audience, client);
        else if (client->is_known && audience->closing[i] < 0 && next_random(audience) % 40 == 0) {
            close(client->fd);
            audience->closing[i] = client->server;
            *client = (struct client){.fd = -1, .server = -1};
            audience->n_ended++;
        }
    }
}

static pid_t start_worker(struct audience *audience) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        work(audience, ends[1]);
    }
    close(ends[1]);
    int table_fd = receive_descriptor(ends[0]);
    close(ends[0]);
    assert_true(child > 0 && table_fd >= 0);
    if (audience->table_fd >= 0)
        close(audience->table_fd);
    audience->table_fd = table_fd;
    return child;
}

static void killed_at_any_moment_no_byte_comes_twice_or_never(void **state) {
    (void)state;
    const char *seed = getenv("TOWER_TEST_SEED");
    const char *kills = getenv("TOWER_TEST_KILLS");
    unsigned n_kills = kills ? (unsigned)strtoul(kills, NULL, 10) : KILLS;
    static struct audience audience;
    struct tower_titles *titles = NULL;
    audience =
        (struct audience){.table_fd = -1,
                          .clock = tower_clock_real(),
                          .random = seed ? strtoull(seed, NULL, 10) * 2 + 1 : 88172645463325252};
    audience.shared = mmap(NULL, sizeof *audience.shared, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(audience.shared != MAP_FAILED);
    audience.shared->limit = AHEAD_BYTES;
    assert_int_equal(tower_air_new(RING_BYTES, RING_BYTES / 400, &audience.air), 0);
    assert_int_equal(tower_titles_new(&titles), 0);
    audience.air_fd = tower_air_fd(audience.air);
    audience.titles_fd = tower_titles_fd(titles);
    for (int i = 0; i < CLIENTS; i++) {
        audience.closing[i] = -1;
        connect_one(&audience, &audience.clients[i]);
    }
    pid_t child = -1;
    int status;
    for (unsigned kill_number = 0;; kill_number++) {
        child = start_worker(&audience);
        if (kill_number == n_kills)
            break;
        while (atomic_load(&audience.shared->n_serving) == kill_number) {
            assert_int_equal(waitpid(child, &status, WNOHANG), 0);
            listen_once(&audience);
        }
        int64_t until_ns = real_now_ns() + (int64_t)(next_random(&audience) % 6000000);
        while (real_now_ns() < until_ns)
            listen_once(&audience);
        if (next_random(&audience) % 4 != 0)
            await_send(&audience);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        look_who_is_known(&audience);
        come_and_go(&audience);
    }
    /* The last one ends in order: then everybody has had everything. */
    atomic_store(&audience.shared->is_enough, true);
    while (waitpid(child, &status, WNOHANG) == 0)
        listen_once(&audience);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    uint64_t bytes = 0;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &audience.clients[i];
        uint64_t frames = tower_air_frames(audience.air);
        if (client->fd < 0)
            continue;
        uint8_t data[4096];
        ssize_t n;
        while ((n = receive(client->fd, data, sizeof data)) > 0)
            take(client, data, (size_t)n);
        assert_int_equal(n, 0);
        assert_false(client->numbers.is_broken);
        assert_true(numbered_reader_has(&client->numbers, (uint32_t)frames - 1));
        bytes += client->numbers.n_bytes;
        close(client->fd);
        close(client->server);
    }
    for (int i = 0; i < CLIENTS; i++) {
        if (audience.closing[i] >= 0)
            close(audience.closing[i]);
    }
    print_message("%u kills, %llu frames, %llu bytes, %u listeners taken over, %u gone\n", n_kills,
                  (unsigned long long)tower_air_frames(audience.air), (unsigned long long)bytes,
                  (unsigned)audience.shared->n_taken, audience.n_ended);
    assert_int_equal(audience.shared->n_unsound, 0);
    close(audience.table_fd);
    tower_titles_free(titles);
    tower_air_free(audience.air);
    (void)munmap(audience.shared, sizeof *audience.shared);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment_no_byte_comes_twice_or_never),
    };
    return cmocka_run_group_tests_name("killed air", tests, NULL, NULL);
}
