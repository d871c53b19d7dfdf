/* test_stepped_air.c - a process with an air and a listener is killed at each instruction of what
 * it does for a frame, one after the other: the next one goes on at the very byte, wherever that
 * was.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tower/heritage.h"

#include "fanout_worker.h"
#include "killed_air.h"
#include "title_history.h"
#include "wire_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

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
 * it or what `outside` says. Returns how often it looked. */
static unsigned step_through(void (*work)(void *), void (*look)(void *, const void *, size_t),
                             uint64_t (*outside)(void *), void *user, int fd) {
    size_t bytes;
    const uint8_t *memory = map(fd, &bytes);
    uint8_t *before = malloc(bytes);
    uint64_t outside_before = outside(user);
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
    for (bool has_begun = false;; has_begun = true) {
        assert_true(WIFSTOPPED(status));
        if (has_begun && WSTOPSIG(status) == SIGSTOP)
            break;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        uint64_t outside_now = outside(user);
        if (outside_now == outside_before && memcmp(before, memory, bytes) == 0)
            continue;
        outside_before = outside_now;
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

static uint64_t nothing(void *user) {
    (void)user;
    return 0;
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
        assert_in_range(
            step_through(publish_one, look_at_air, nothing, &world, tower_air_fd(world.air)), 10,
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
            assert_in_range(step_through(mark_one, look_at_titles, nothing, &world,
                                         tower_titles_fd(world.titles)),
                            5, 10000);
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

static uint64_t bytes_taken(void *user) {
    const struct world *world = user;
    uint64_t bytes = 0;
    (void)tower_wire_bytes(world->before.fd, &bytes);
    return bytes;
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
    unsigned n = step_through(serve_one, look_at_listener, bytes_taken, world,
                              tower_fanout_table_fd(world->fanout));
    /* Its record at least is taken back and made, also where the socket has no room. */
    assert_in_range(n, 2, 10000);
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

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_instruction_leaves_whole_frames),
        cmocka_unit_test(a_kill_at_any_instruction_leaves_whole_titles),
        cmocka_unit_test(a_kill_at_any_instruction_loses_no_byte_of_a_listener),
        cmocka_unit_test(a_kill_at_any_instruction_of_moving_on_leaves_whole_frames),
    };
    return cmocka_run_group_tests_name("stepped air", tests, NULL, NULL);
}
