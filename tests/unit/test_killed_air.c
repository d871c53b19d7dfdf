/* test_killed_air.c - a process with an air and its listeners is killed: the next one goes on at
 * the very byte, wherever that was.
 *
 * Once at each instruction of what is done for a frame, one after the other; and then at any moment
 * of going on at full speed, some hundred times.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/air.h"
#include "tower/heritage.h"

#include "fanout_worker.h"
#include "icy_reader.h"
#include "numbered_frames.h"
#include "title_history.h"
#include "wire_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#define S_NS INT64_C(1000000000)

static uint64_t start_of(uint64_t number) {
    uint64_t start = 0;
    for (uint32_t i = 0; i < number; i++)
        start += numbered_bytes(i);
    return start;
}

static void publish(struct tower_air *air, struct tower_titles *titles) {
    uint8_t frame[NUMBERED_BYTES_MAX];
    uint32_t number = (uint32_t)tower_air_frames(air);
    size_t bytes = numbered_fill(number, frame);
    tower_titles_mark(titles, number, tower_air_head(air));
    (void)tower_air_publish(air, frame, bytes);
}

/* What is in the ring from the oldest boundary to the head are whole frames, the right ones. */
static void assert_air_is_whole(struct tower_air *air) {
    uint64_t head = tower_air_head(air);
    uint64_t cursor = tower_air_back(air, UINT64_MAX);
    uint8_t data[65536];
    struct iovec pieces[2];
    struct numbered_reader reader = {.has_begun = false};
    int n = 0;
    int64_t bytes = tower_air_peek(air, cursor, sizeof data, pieces, &n);
    assert_int_equal(bytes, head - cursor);
    assert_int_equal(head, start_of(tower_air_frames(air)));
    for (int i = 0; i < n; i++)
        numbered_reader_take(&reader, pieces[i].iov_base, pieces[i].iov_len);
    assert_false(reader.is_broken);
    assert_true(numbered_reader_has(&reader, (uint32_t)tower_air_frames(air) - 1));
}

/* ---- each instruction ---- */

/* What a killed process would have left of the region `fd`: a copy. */
static int copy_of(const void *memory, size_t bytes) {
    int fd = memfd_create("copy", MFD_CLOEXEC);
    assert_int_equal(write(fd, memory, bytes), bytes);
    return fd;
}

static const uint8_t *map(int fd, size_t *ret_bytes) {
    *ret_bytes = (size_t)lseek(fd, 0, SEEK_END);
    const uint8_t *memory = mmap(NULL, *ret_bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* Have a child do `work`, and look at the region `fd` after each of its instructions that changed
 * it, and after each system call. Returns how often it looked. */
static unsigned step_through(void (*work)(void *), void (*look)(void *, const void *, size_t),
                             void *user, int fd) {
    size_t bytes;
    const uint8_t *memory = map(fd, &bytes);
    uint8_t *before = malloc(bytes);
    unsigned n_looks = 0;
    int status;
    assert_non_null(before);
    memcpy(before, memory, bytes);
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(2);
        (void)raise(SIGSTOP);
        work(user);
        (void)kill(getpid(), SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    for (bool has_begun = false;;) {
        assert_true(WIFSTOPPED(status));
        if (has_begun && WSTOPSIG(status) == SIGSTOP)
            break;
        has_begun = true;
        errno = 0;
        /* The system call that this instruction is, if it is one, has been done when it stops. */
        long instruction =
            ptrace(PTRACE_PEEKTEXT, child,
                   (void *)ptrace(PTRACE_PEEKUSER, child, 16 * sizeof(long), NULL), NULL);
        bool is_call = errno == 0 && (instruction & 0xffff) == 0x050f;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!is_call && memcmp(before, memory, bytes) == 0)
            continue;
        memcpy(before, memory, bytes);
        look(user, before, bytes);
        n_looks++;
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    free(before);
    (void)munmap((void *)(uintptr_t)memory, bytes);
    return n_looks;
}

struct world {
    struct tower_clock *clock;
    struct tower_air *air;
    struct tower_titles *titles;
    uint64_t frames; /* before the work */
    /* Of the listener. */
    struct tower_fanout *fanout;
    uint32_t place;
    int client;
    struct tower_listener before;
    uint64_t gone; /* bytes of the stream that it has lost by being moved on */
};

static struct tower_fanout *make_fanout(const struct world *world) {
    const struct tower_fanout_config config = {
        .clock = world->clock,
        .air = world->air,
        .titles = world->titles,
        .max_listeners = 16,
        .client_timeout_ns = 10 * S_NS,
        .burst_frames = 20,
        .phase_groups = 1,
    };
    struct tower_fanout *fanout = NULL;
    assert_int_equal(tower_fanout_new(&config, &fanout), 0);
    return fanout;
}

static struct world make_world(size_t ring_bytes) {
    struct world world = {.client = -1};
    assert_int_equal(tower_clock_virtual_new(S_NS, &world.clock), 0);
    assert_int_equal(tower_air_new(ring_bytes, ring_bytes / 400, &world.air), 0);
    assert_int_equal(tower_titles_new(&world.titles), 0);
    return world;
}

static void end_world(struct world *world) {
    tower_fanout_free(world->fanout);
    tower_titles_free(world->titles);
    tower_air_free(world->air);
    tower_clock_free(world->clock);
}

static void publish_one(void *user) {
    const struct world *world = user;
    publish(world->air, world->titles);
}

static void look_at_air(void *user, const void *memory, size_t bytes) {
    const struct world *world = user;
    struct tower_air *air = NULL;
    int fd = copy_of(memory, bytes);
    assert_int_equal(tower_air_open(fd, 16384, 40, &air), 1);
    assert_int_equal(tower_air_fd(air), fd);
    assert_in_range(tower_air_frames(air), world->frames, world->frames + 1);
    assert_air_is_whole(air);
    /* It goes on, also where it has been repaired once already. */
    tower_air_free(air);
    fd = copy_of(memory, bytes);
    assert_int_equal(tower_air_open(fd, 16384, 40, &air), 1);
    for (int i = 0; i < 100; i++) {
        publish(air, world->titles);
        assert_air_is_whole(air);
    }
    tower_air_free(air);
}

static void a_kill_at_any_instruction_leaves_whole_frames(void **state) {
    (void)state;
    struct world world = make_world(16384);
    /* The ring and the index have come round, and do so again in between. */
    for (int i = 0; i < 150; i++)
        publish(world.air, world.titles);
    for (int i = 0; i < 3; i++) {
        world.frames = tower_air_frames(world.air);
        assert_in_range(step_through(publish_one, look_at_air, &world, tower_air_fd(world.air)), 10,
                        10000);
        assert_int_equal(tower_air_frames(world.air), world.frames + 1);
    }
    end_world(&world);
}

static void mark_one(void *user) {
    const struct world *world = user;
    tower_titles_mark(world->titles, world->frames, tower_air_head(world->air));
}

static void look_at_titles(void *user, const void *memory, size_t bytes) {
    const struct world *world = user;
    struct tower_titles *titles = NULL;
    struct tower_title title;
    uint64_t head = tower_air_head(world->air);
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX], wanted[TOWER_ICY_BLOCK_BYTES_MAX];
    char text[32];
    assert_int_equal(tower_titles_open(copy_of(memory, bytes), head, &titles), 1);
    tower_titles_get(titles, &title);
    assert_in_range(title.number, world->frames, world->frames + 1);
    for (uint64_t number = title.number; number > title.number - 20; number--) {
        (void)snprintf(text, sizeof text, "title %u", (unsigned)number);
        size_t n = tower_icy_make_block(text, strlen(text), wanted);
        assert_int_equal(tower_titles_copy_block(titles, number, block), n);
        assert_memory_equal(block, wanted, n);
    }
    (void)snprintf(text, sizeof text, "title %u", (unsigned)title.number);
    assert_string_equal(title.text, text);
    tower_titles_free(titles);
}

static void a_kill_at_any_instruction_leaves_whole_titles(void **state) {
    (void)state;
    struct world world = make_world(16384);
    for (world.frames = 0; world.frames < 43; world.frames++) {
        char text[32];
        (void)snprintf(text, sizeof text, "title %u", (unsigned)world.frames + 1);
        assert_int_equal(tower_titles_set(world.titles, text, strlen(text), TOWER_TITLE_FROM_NEXT),
                         0);
        if (world.frames > 38)
            assert_in_range(
                step_through(mark_one, look_at_titles, &world, tower_titles_fd(world.titles)), 5,
                10000);
        /* The child's titles that wait are its own. */
        tower_titles_free(world.titles);
        assert_int_equal(tower_titles_new(&world.titles), 0);
        for (uint64_t i = 0; i <= world.frames; i++) {
            (void)snprintf(text, sizeof text, "title %u", (unsigned)i + 1);
            assert_int_equal(tower_titles_put(world.titles, TOWER_TITLE_ANY, text, strlen(text), i,
                                              tower_air_head(world.air)),
                             i + 1);
        }
        publish(world.air, world.titles);
    }
    end_world(&world);
}

static void serve_one(void *user) {
    const struct world *world = user;
    tower_fanout_serve(world->fanout, world->place);
}

/* How a listener stands who was `before` and whose socket has taken `bytes` more. */
static struct tower_listener later(const struct world *world, uint64_t bytes) {
    struct tower_listener listener = world->before;
    listener.wire_bytes += bytes;
    uint64_t stream = bytes;
    if (listener.wants_titles)
        stream = tower_icy_pass(&listener.icy, world->titles, listener.cursor, bytes);
    listener.cursor += stream;
    return listener;
}

static void look_at_listener(void *user, const void *memory, size_t bytes) {
    const struct world *world = user;
    struct tower_listener_heritage *heritage = NULL;
    struct tower_adoption adoption;
    /* An air has room for so many fan-outs. */
    struct world later_world = *world;
    int air_fd = fcntl(tower_air_fd(world->air), F_DUPFD_CLOEXEC, 0);
    assert_int_equal(tower_air_open(air_fd, 1, 0, &later_world.air), 1);
    close(air_fd);
    struct tower_fanout *next = make_fanout(&later_world);
    const struct tower_listener *found = tower_fanout_at(next, 0);
    uint64_t wire_bytes = 0;
    assert_int_equal(tower_listener_heritage_new(&heritage), 0);
    assert_int_equal(tower_listener_heritage_add(heritage, copy_of(memory, bytes)), 0);
    tower_fanout_adopt(&next, 1, heritage, &adoption);
    assert_int_equal(adoption.taken, 1);
    assert_int_equal(adoption.unsound, 0);
    assert_int_equal(tower_wire_bytes(found->fd, &wire_bytes), 0);
    struct tower_listener wanted = later(world, wire_bytes - world->before.wire_bytes);
    assert_int_equal(found->wire_bytes, wire_bytes);
    if (found->cursor != wanted.cursor)
        assert_int_equal(found->cursor, wanted.cursor + world->gone);
    assert_int_equal(found->icy.told, wanted.icy.told);
    assert_int_equal(found->icy.until_block, wanted.icy.until_block);
    assert_int_equal(found->icy.block_sent, wanted.icy.block_sent);
    if (found->icy.block_sent > 0)
        assert_int_equal(found->icy.block_bytes, wanted.icy.block_bytes);
    tower_fanout_free(next);
    tower_air_free(later_world.air);
    /* As if it were the process's end: it would take over from the same table once more. */
    tower_listener_heritage_commit(heritage);
    tower_listener_heritage_free(heritage);
}

/* A listener at byte `cursor`, with a response's header before it, in a fan-out that has no thread:
 * so that it can be served by hand. */
static void join(struct world *world, bool is_small, bool wants_titles, uint64_t cursor) {
    int server = -1;
    assert_true(tcp_pair(is_small, &server, &world->client));
    assert_int_equal(send(server, "HTTP/1.0 200 OK\r\n\r\n", 19, MSG_NOSIGNAL), 19);
    world->fanout = make_fanout(world);
    world->fanout->is_running = true;
    struct tower_fanout_listener listener = {.fd = server,
                                             .cursor = cursor,
                                             .wants_titles = wants_titles,
                                             .address = TOWER_ADDRESS_NONE};
    assert_int_equal(tower_fanout_add(world->fanout, &listener), 0);
    world->fanout->is_running = false;
    world->place = world->fanout->pending;
    world->fanout->pending = TOWER_LISTENER_NONE;
    tower_fanout_link(world->fanout, world->place);
    assert_true(tower_fanout_watch(world->fanout, world->place, EPOLL_CTL_ADD));
    world->before = *tower_fanout_at(world->fanout, world->place);
    assert_int_equal(world->before.wire_bytes, 19);
}

static void leave(struct world *world) {
    close(world->client);
    close(tower_fanout_at(world->fanout, world->place)->fd);
    tower_fanout_free(world->fanout);
    world->fanout = NULL;
}

static void step_through_serving(struct world *world) {
    unsigned n =
        step_through(serve_one, look_at_listener, world, tower_fanout_table_fd(world->fanout));
    assert_in_range(n, 5, 10000);
    world->before = *tower_fanout_at(world->fanout, world->place);
}

static void a_kill_at_any_instruction_loses_no_byte_of_a_listener(void **state) {
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct world world = make_world((size_t)1 << 20);
        publish(world.air, world.titles);
        join(&world, kind & 1, kind & 2, 0);
        for (int turn = 0; turn < 4; turn++) {
            for (int i = 0; i < 70; i++) {
                char text[300] = {0};
                memset(text, 'a' + turn, sizeof text - 1);
                if (i == 40)
                    (void)tower_titles_set(world.titles, text, strlen(text), TOWER_TITLE_FROM_NEXT);
                publish(world.air, world.titles);
            }
            step_through_serving(&world);
            uint8_t data[5000];
            (void)recv(world.client, data, sizeof data, MSG_DONTWAIT);
        }
        leave(&world);
        end_world(&world);
    }
}

/* It is in the middle of a frame and overrun: gets the rest of that, and is moved nearer the
 * present. */
static void a_kill_at_any_instruction_of_moving_on_leaves_whole_frames(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct world world = make_world(65536);
        for (int i = 0; i < 200; i++)
            publish(world.air, world.titles);
        uint64_t head = tower_air_head(world.air);
        uint64_t cursor = tower_air_align(world.air, head - 50000) + 123;
        join(&world, false, kind == 1, cursor);
        uint64_t rest = tower_air_align(world.air, cursor) - cursor;
        /* The move itself: from the end of that frame to the burst. */
        world.gone = tower_air_back(world.air, 20) - cursor - rest;
        step_through_serving(&world);
        assert_int_equal(world.before.cursor, head);
        leave(&world);
        end_world(&world);
    }
}

/* ---- any moment ---- */

#define KILLS 300
#define CLIENTS 10
#define TITLE_FRAMES 37
#define HEADER_BYTES 100
#define RING_BYTES ((size_t)4 << 20)
#define AHEAD_BYTES (RING_BYTES / 4)

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
    struct world world = {.clock = audience->clock};
    struct tower_listener_heritage *heritage;
    struct tower_adoption adoption;
    if (tower_air_open(audience->air_fd, RING_BYTES, RING_BYTES / 400, &world.air) != 1 ||
        tower_titles_open(audience->titles_fd, tower_air_head(world.air), &world.titles) != 1)
        _exit(4);
    const struct tower_fanout_config config = {.clock = world.clock,
                                               .air = world.air,
                                               .titles = world.titles,
                                               .max_listeners = 2 * CLIENTS,
                                               .client_timeout_ns = 60 * S_NS,
                                               .burst_frames = 20,
                                               .phase_groups = 1};
    if (tower_fanout_new(&config, &world.fanout) < 0 ||
        tower_listener_heritage_new(&heritage) < 0 ||
        (audience->table_fd >= 0 && tower_listener_heritage_add(heritage, audience->table_fd) < 0))
        _exit(5);
    tower_fanout_adopt(&world.fanout, 1, heritage, &adoption);
    atomic_fetch_add(&audience->shared->n_unsound, adoption.unsound);
    atomic_fetch_add(&audience->shared->n_taken, adoption.taken);
    send_descriptor(to_test, tower_fanout_table_fd(world.fanout));
    tower_listener_heritage_commit(heritage);
    if (tower_fanout_start(world.fanout) < 0)
        _exit(6);
    atomic_fetch_add(&audience->shared->n_serving, 1);
    for (unsigned round = 0;; round++) {
        if (round < CLIENTS && audience->clients[round].fd >= 0 &&
            !audience->clients[round].is_known) {
            struct tower_fanout_listener listener = {
                .fd = audience->clients[round].server,
                .cursor = tower_air_back(world.air, 20),
                .wants_titles = audience->clients[round].wants_titles,
                .address = TOWER_ADDRESS_NONE,
            };
            if (tower_fanout_add(world.fanout, &listener) < 0)
                _exit(7);
        }
        if (round >= CLIENTS && atomic_load(&audience->shared->is_enough))
            break;
        if (tower_air_head(world.air) >= atomic_load(&audience->shared->limit)) {
            short_pause();
            continue;
        }
        char text[200];
        uint64_t number = tower_air_frames(world.air);
        (void)snprintf(text, sizeof text, "%llu %0*d", (unsigned long long)number,
                       (int)(number % 150), 0);
        if (number % TITLE_FRAMES == 0)
            (void)tower_titles_set(world.titles, text, strlen(text), TOWER_TITLE_FROM_NEXT);
        publish(world.air, world.titles);
    }
    _exit(tower_fanout_stop(world.fanout, 60 * S_NS) == 0 ? 0 : 8);
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
        cmocka_unit_test(a_kill_at_any_instruction_leaves_whole_frames),
        cmocka_unit_test(a_kill_at_any_instruction_leaves_whole_titles),
        cmocka_unit_test(a_kill_at_any_instruction_loses_no_byte_of_a_listener),
        cmocka_unit_test(a_kill_at_any_instruction_of_moving_on_leaves_whole_frames),
        cmocka_unit_test(killed_at_any_moment_no_byte_comes_twice_or_never),
    };
    return cmocka_run_group_tests_name("killed air", tests, NULL, NULL);
}
