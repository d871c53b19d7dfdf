/* test_handover.c - the fade between two producers, the names and ranks, and a fade in which the
 * process is killed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kill_fixture.h"
#include "pcm_socket_fixture.h"

#include "handover.h"
#include "identity_wire.h"
#include "pcm_socket_state.h"
#include "priorities.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/ioctl.h>

static void test_a_fade_is_whole_frames(void **state) {
    (void)state;
    assert_int_equal(tower_handover_frames(0, 1152), 0);
    assert_int_equal(tower_handover_frames(1, 1152), 1);
    assert_int_equal(tower_handover_frames(24000000, 1152), 1);
    assert_int_equal(tower_handover_frames(24000001, 1152), 2);
    assert_int_equal(tower_handover_frames(200000000, 1152), 9);
    assert_int_equal(tower_handover_frames(INT64_MAX, 1), UINT16_MAX);
}

static void test_equal_power_from_all_of_one_to_all_of_the_other(void **state) {
    (void)state;
    int16_t goes[96], comes[96], mixed[96];
    for (size_t i = 0; i < 48; i++) {
        goes[2 * i] = 30000;
        goes[2 * i + 1] = 0;
        comes[2 * i] = 0;
        comes[2 * i + 1] = 30000;
    }
    for (uint16_t done = 0; done < 10; done++) {
        tower_handover_mix(goes, comes, mixed, 48, done, 10);
        for (size_t i = 0; i < 48; i++) {
            double power = pow(mixed[2 * i], 2) + pow(mixed[2 * i + 1], 2);
            assert_true(fabs(sqrt(power) - 30000) < 1.5);
        }
        if (done == 0)
            assert_int_equal(mixed[0], 30000);
        if (done == 0)
            assert_int_equal(mixed[1], 0);
        /* Half of it is the middle, where both are 3 dB down. */
        if (done == 5)
            assert_int_equal(mixed[0], mixed[1]);
    }
    /* What is too loud is cut off, not turned over. */
    for (size_t i = 0; i < 96; i++)
        goes[i] = comes[i] = i < 48 ? INT16_MAX : INT16_MIN;
    tower_handover_mix(goes, comes, mixed, 48, 5, 10);
    assert_int_equal(mixed[0], INT16_MAX);
    assert_int_equal(mixed[95], INT16_MIN);
    tower_handover_mix(NULL, NULL, mixed, 48, 5, 10);
    assert_int_equal(mixed[0], 0);
}

static void test_an_identity_travels(void **state) {
    (void)state;
    uint8_t bytes[TOWER_IDENTITY_WIRE_BYTES];
    struct tower_producer_identity read, untouched;
    memset(&untouched, 7, sizeof untouched);
    const struct tower_producer_identity identity = {.name = "a.b_c-0123456789012345678901234.",
                                                     .label = "Caf\xc3\xa9 at Six",
                                                     .is_live = true,
                                                     .is_source = true};
    tower_identity_wire_write(&identity, bytes);
    assert_true(tower_identity_wire_read(bytes, sizeof bytes, &read));
    assert_memory_equal(read.name, identity.name, sizeof read.name);
    assert_string_equal(read.label, identity.label);
    assert_true(read.is_live && read.is_source);
    /* No text begins like it. */
    assert_true(bytes[0] >= 0xf8);
    read = untouched;
    assert_false(tower_identity_wire_read(bytes, sizeof bytes - 1, &read));
    for (size_t i = 0; i < 8; i++) {
        bytes[i] ^= 1;
        assert_false(tower_identity_wire_read(bytes, sizeof bytes, &read));
        bytes[i] ^= 1;
    }
    static const char *const wrong[] = {"",    "Live",     "a b",
                                        "a/b", "\xc3\xb6", "a12345678901234567890123456789012"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(tower_identity_name_is_valid(wrong[i]));
        memset(bytes + 12, 0, sizeof bytes - 12);
        memcpy(bytes + 12, wrong[i], strlen(wrong[i]));
        assert_false(tower_identity_wire_read(bytes, sizeof bytes, &read));
    }
    memset(bytes + 12, 'a', sizeof bytes - 12);
    assert_false(tower_identity_wire_read(bytes, sizeof bytes, &read));
    assert_memory_equal(&read, &untouched, sizeof read);
}

static void test_a_label_is_made_of_any_text(void **state) {
    (void)state;
    static const char *const made[][2] = {{"", ""},
                                          {"Morning Show", "Morning Show"},
                                          {"Caf\xe9", "Caf\xc3\xa9"},
                                          {"a\x1b[2J\nb\x7f", "a[2Jb"}};
    char label[TOWER_PRODUCER_LABEL_BYTES], longer[600];
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        tower_identity_label_from(made[i][0], label);
        assert_string_equal(label, made[i][1]);
        assert_true(tower_identity_label_is_valid(label));
    }
    /* One that is too long is cut at a character, in either alphabet. */
    for (int is_latin1 = 0; is_latin1 < 2; is_latin1++) {
        for (size_t i = 0; i + 1 < sizeof longer; i += 2)
            memcpy(longer + i, is_latin1 ? "\xe9\xe9" : "\xc3\xa9", 2);
        longer[598] = '\0';
        tower_identity_label_from(longer, label);
        assert_int_equal(strlen(label), 126);
        assert_true(tower_identity_label_is_valid(label));
    }
    assert_false(tower_identity_label_is_valid("a\tb"));
    assert_false(tower_identity_label_is_valid("\xff"));
    assert_false(tower_identity_label_is_valid(longer));
}

static void test_ranks(void **state) {
    (void)state;
    struct tower_priorities priorities;
    assert_int_equal(tower_priorities_read(&priorities, " live ,\tplaylist,,b "), 0);
    assert_int_equal(priorities.n, 3);
    assert_int_equal(tower_priorities_rank(&priorities, "live"), 0);
    assert_int_equal(tower_priorities_rank(&priorities, "playlist"), 1);
    assert_int_equal(tower_priorities_rank(&priorities, "b"), 2);
    assert_int_equal(tower_priorities_rank(&priorities, "liv"), 3);
    assert_int_equal(tower_priorities_rank(&priorities, ""), 3);
    assert_int_equal(tower_priorities_read(&priorities, NULL), 0);
    assert_int_equal(tower_priorities_rank(&priorities, "live"), 0);
    assert_int_equal(tower_priorities_read(NULL, "live LIVE"), -EINVAL);
    assert_int_equal(tower_priorities_read(NULL, "live live"), -EINVAL);
}

/* ---- killed in the middle of a fade ---- */

#define SMALL_SAMPLES 48
#define SMALL_BYTES (SMALL_SAMPLES * TOWER_SAMPLE_BYTES)
#define ROUTER_FRAMES 50000
/* A second, so that most kills are in it. */
#define FADE_FRAMES 1000
#define KILLS 600

/* What the playlist says on the left, and the live one on the right: one sample more or less is
 * seen in each. */
static int16_t wave(uint64_t number) {
    return (int16_t)((int)(number * 7919 % 101) * 300 - 15000);
}

struct shared {
    _Atomic bool is_ready;  /* a life */
    _Atomic bool may_begin; /* the live one */
};

struct lives {
    struct tower_pcm_socket_config config;
    int router_fd;
    struct shared *shared;
};

static int listen_fd = -1;

static pid_t feed(const struct fixture *fixture, struct shared *shared, bool is_playlist) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    static int16_t samples[4096 * TOWER_CHANNELS];
    struct tower_producer *producer;
    struct tower_producer_identity identity = {.name = "live"};
    uint64_t random = 88172645463325252U, number = 0;
    if (is_playlist)
        (void)snprintf(identity.name, sizeof identity.name, "playlist");
    if (tower_producer_connect(fixture->path, &producer) < 0 ||
        tower_producer_set_identity(producer, &identity) < 0)
        _exit(1);
    while (!is_playlist && !atomic_load(&shared->may_begin))
        (void)usleep(1000);
    for (;;) {
        size_t n = 1 + kill_random(&random) % 4096;
        for (size_t i = 0; i < n; i++, number++) {
            samples[2 * i] = is_playlist ? wave(number) : 0;
            samples[2 * i + 1] = is_playlist ? 0 : wave(number);
        }
        if (tower_producer_write(producer, samples, n) < 0)
            _exit(1);
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
    atomic_store(&lives->shared->is_ready, true);
    for (;;)
        pause();
}

enum phase { PLAYLIST, TO_LIVE, LIVE, TO_PLAYLIST, PLAYLIST_AGAIN };

struct reader {
    enum phase phase;
    uint64_t playlist, live; /* samples of each so far */
    unsigned done;           /* frames of the fade */
    unsigned frames[PLAYLIST_AGAIN + 1];
};

static bool is_near(const int16_t *frame, size_t channel, uint64_t number, unsigned done,
                    double (*gain)(double)) {
    for (unsigned i = 0; i < SMALL_SAMPLES; i++) {
        double angle =
            M_PI / 2 * ((double)done * SMALL_SAMPLES + i) / (FADE_FRAMES * SMALL_SAMPLES);
        if (fabs(frame[2 * i + channel] - gain(angle) * wave(number + i)) > 0.51)
            return false;
    }
    return true;
}

static double whole(double angle) {
    (void)angle;
    return 1;
}

static double none(double angle) {
    (void)angle;
    return 0;
}

static void judge(struct reader *reader, const int16_t *frame, unsigned flags) {
    bool is_seam = (flags & TOWER_FRAME_DISCONTINUITY) != 0;
    bool is_first = reader->phase == PLAYLIST && reader->playlist == 0;
    if (is_seam && reader->phase == LIVE) {
        reader->phase = TO_PLAYLIST;
        reader->done = 0;
    } else {
        assert_int_equal(is_seam, is_first);
    }
    /* The live one is not silent for a whole frame from its second on. */
    if (reader->phase == PLAYLIST && !is_near(frame, 1, 0, 0, none))
        reader->phase = TO_LIVE;
    double (*playlist_gain)(double) = reader->phase == PLAYLIST      ? whole
                                      : reader->phase == TO_LIVE     ? cos
                                      : reader->phase == LIVE        ? none
                                      : reader->phase == TO_PLAYLIST ? sin
                                                                     : whole;
    double (*live_gain)(double) = reader->phase == TO_LIVE ? sin
                                  : reader->phase == LIVE  ? whole
                                                           : none;
    if (!is_near(frame, 0, reader->playlist, reader->done, playlist_gain))
        fail_msg("phase %d, frame %u of it, playlist at %llu: not that", reader->phase,
                 reader->frames[reader->phase], (unsigned long long)reader->playlist);
    if (!is_near(frame, 1, reader->live, reader->done, live_gain))
        fail_msg("phase %d, frame %u of it, live at %llu: not that", reader->phase,
                 reader->frames[reader->phase], (unsigned long long)reader->live);
    if (reader->phase != LIVE)
        reader->playlist += SMALL_SAMPLES;
    if (reader->phase == TO_LIVE || reader->phase == LIVE)
        reader->live += SMALL_SAMPLES;
    reader->frames[reader->phase]++;
    if ((reader->phase == TO_LIVE || reader->phase == TO_PLAYLIST) && ++reader->done == FADE_FRAMES)
        reader->phase++;
}

static void read_frames(const struct lives *lives, struct reader *reader) {
    struct tower_router *router;
    int16_t frame[SMALL_SAMPLES * TOWER_CHANNELS];
    unsigned flags;
    assert_int_equal(tower_router_open(lives->config.clock, dup(lives->router_fd), ROUTER_FRAMES,
                                       SMALL_BYTES, &router, NULL),
                     0);
    while (tower_router_pop_frame(router, 0, frame, &flags) == 1)
        judge(reader, frame, flags);
    tower_router_free(router);
}

static void listen_at(struct fixture *fixture) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, fixture->path, strlen(fixture->path));
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listen_fd, 16), 0);
}

static void test_killed_in_a_fade_no_sample_is_lost_or_doubled(void **state) {
    struct fixture *fixture = *state;
    struct reader reader = {.phase = PLAYLIST};
    uint64_t random = 362436069362436069U;
    struct lives lives = {.config = {.clock = tower_clock_real(),
                                     .listen_fd = &listen_fd,
                                     .frame_samples = SMALL_SAMPLES,
                                     .priorities = "live playlist",
                                     .fade_ns = TOWER_NS_PER_S}};
    lives.shared = kill_shared(sizeof *lives.shared);
    assert_non_null(lives.shared);
    listen_at(fixture);
    assert_int_equal(
        tower_router_new(lives.config.clock, ROUTER_FRAMES, SMALL_BYTES, &fixture->router), 0);
    lives.config.router = fixture->router;
    /* The first life is ours, and has all connect: what a later one accepts would die with it. */
    assert_int_equal(tower_pcm_socket_new(&lives.config, &fixture->socket), 0);
    pid_t playlist = feed(fixture, lives.shared, true);
    pid_t live = feed(fixture, lives.shared, false);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
    await(fixture, has_producers, 2);
    await(fixture, has_frames, 1);
    tower_pcm_socket_stop(fixture->socket);
    struct tower_pcm_socket *first = fixture->socket;
    fixture->socket = NULL;
    lives.config.carried_fd = fcntl(tower_pcm_socket_fd(first), F_DUPFD_CLOEXEC, 3);
    lives.router_fd = fcntl(tower_router_fd(fixture->router), F_DUPFD_CLOEXEC, 3);
    unsigned n_kills = 0;
    for (; n_kills < 10 * KILLS && reader.frames[PLAYLIST_AGAIN] < 100; n_kills++) {
        if (n_kills == 20)
            atomic_store(&lives.shared->may_begin, true);
        if (live > 0 && reader.frames[LIVE] > 50) {
            (void)kill(live, SIGKILL);
            assert_int_equal(waitpid(live, NULL, 0), live);
            live = -1;
        }
        assert_true(kill_midway(live_until_killed, &lives, &lives.shared->is_ready, &random, 1000));
        read_frames(&lives, &reader);
    }
    (void)kill(playlist, SIGKILL);
    assert_int_equal(waitpid(playlist, NULL, 0), playlist);
    print_message("%u kills; frames %u, %u, %u, %u, %u\n", n_kills, reader.frames[0],
                  reader.frames[1], reader.frames[2], reader.frames[3], reader.frames[4]);
    assert_int_equal(reader.phase, PLAYLIST_AGAIN);
    assert_int_equal(reader.frames[TO_LIVE], FADE_FRAMES);
    tower_pcm_socket_free(first);
    close(lives.config.carried_fd);
    close(lives.router_fd);
    close(listen_fd);
}

/* ---- and at every instruction of one ---- */

#define STEP_FADE_FRAMES 3
#define STEP_ROUTER_FRAMES 5

struct steps {
    struct fixture *fixture;
    int fds[2]; /* the socket's ends of the playlist's and the live one's connection */
    uint64_t sent_bytes[2];
    uint64_t frames_before[2]; /* whole ones that were taken */
    uint64_t pushed_before;
};

static void serve_once(void *arg) {
    struct steps *steps = arg;
    tower_pcm_socket_serve(steps->fixture->socket);
}

/* What the next process would find. */
static void look(void *arg, const int *fds) {
    struct steps *steps = arg;
    struct tower_region region;
    struct tower_router *router;
    struct tower_router_stats stats;
    size_t lost = 0;
    assert_int_equal(tower_router_open(steps->fixture->clock, fds[1], STEP_ROUTER_FRAMES,
                                       SMALL_BYTES, &router, NULL),
                     0);
    tower_router_get_stats(router, &stats);
    assert_int_equal(tower_ingest_memory_open(&region, fds[0], SMALL_BYTES, stats.pushed_count,
                                              tower_clock_now_ns(steps->fixture->clock), &lost),
                     1);
    assert_int_equal(lost, 0);
    const struct tower_ingest_memory *memory = region.memory;
    struct tower_ingest_air air = tower_ingest_memory_air(memory);
    uint64_t pushed = stats.pushed_count - steps->pushed_before;
    unsigned done = (unsigned)pushed;
    bool is_over = done >= STEP_FADE_FRAMES;
    assert_int_equal(air.on_air, 1);
    assert_int_equal(air.outgoing, is_over ? -1 : 0);
    assert_int_equal(air.fade_done, is_over ? 0 : done);
    assert_int_equal(air.state, 0);
    assert_int_equal(air.is_new, done == 0);
    for (size_t i = 0; i < 2; i++) {
        const struct tower_ingest_entry *entry = &memory->entries[i];
        int unread = 0;
        assert_int_equal(ioctl(steps->fds[i], FIONREAD, &unread), 0);
        assert_int_equal(entry->bytes, steps->sent_bytes[i] - (uint64_t)unread);
        uint64_t taken = i == 0 && is_over ? STEP_FADE_FRAMES : pushed;
        assert_int_equal(entry->bytes - entry->framer.filled_bytes,
                         (steps->frames_before[i] + taken) * SMALL_BYTES);
    }
    tower_region_done(&region);
    tower_router_free(router);
}

static struct tower_producer *join_at(const struct fixture *fixture, const char *name,
                                      size_t n_frames) {
    static int16_t samples[64 * SMALL_SAMPLES * TOWER_CHANNELS];
    struct tower_producer *producer;
    struct tower_producer_identity identity = {.is_live = false};
    (void)snprintf(identity.name, sizeof identity.name, "%s", name);
    assert_int_equal(tower_producer_connect(fixture->path, &producer), 0);
    assert_int_equal(tower_producer_set_identity(producer, &identity), 0);
    assert_int_equal(tower_producer_set_title(producer, name), 0);
    assert_int_equal(tower_producer_write(producer, samples, n_frames * SMALL_SAMPLES), 0);
    return producer;
}

static void test_at_every_instruction_of_a_fade_all_is_there_once(void **state) {
    struct fixture *fixture = *state;
    struct steps steps = {.fixture = fixture};
    struct tower_pcm_socket_stats stats;
    uint8_t frame[SMALL_BYTES];
    struct tower_pcm_socket_config config = {.clock = fixture->clock,
                                             .path = fixture->path,
                                             .frame_samples = SMALL_SAMPLES,
                                             .priorities = "live playlist",
                                             .fade_ns = STEP_FADE_FRAMES * TOWER_NS_PER_S / 1000};
    assert_int_equal(
        tower_router_new(fixture->clock, STEP_ROUTER_FRAMES, SMALL_BYTES, &fixture->router), 0);
    config.router = fixture->router;
    assert_int_equal(tower_pcm_socket_new(&config, &fixture->socket), 0);
    assert_int_equal(tower_pcm_socket_start(fixture->socket), 0);
    struct tower_producer *playlist = join_at(fixture, "playlist", 30);
    await(fixture, has_frames, STEP_ROUTER_FRAMES);
    struct tower_producer *live = join_at(fixture, "live", 30);
    do
        tower_pcm_socket_get_stats(fixture->socket, &stats);
    while (stats.takeovers == 0);
    tower_pcm_socket_stop(fixture->socket);
    for (size_t i = 0; i < STEP_ROUTER_FRAMES; i++)
        assert_int_equal(tower_router_pop_frame(fixture->router, 0, frame, NULL), 1);
    assert_int_equal(tower_pcm_socket_carried_fds(tower_pcm_socket_fd(fixture->socket),
                                                  (int[TOWER_PRODUCERS_MAX]){0}),
                     2);
    const struct tower_ingest_memory *memory = fixture->socket->memory;
    for (size_t i = 0; i < 2; i++) {
        steps.fds[i] = atomic_load(&memory->entries[i].fd);
        steps.sent_bytes[i] = (uint64_t)30 * SMALL_BYTES;
        steps.frames_before[i] = i == 0 ? STEP_ROUTER_FRAMES : 0;
    }
    steps.pushed_before = STEP_ROUTER_FRAMES;
    const int fds[] = {tower_pcm_socket_fd(fixture->socket), tower_router_fd(fixture->router)};
    unsigned n_looks = kill_at_each_store(serve_once, look, &steps, fds, 2);
    print_message("%u moments\n", n_looks);
    assert_true(n_looks > 100);
    assert_true(has_frames(fixture, 2 * STEP_ROUTER_FRAMES));
    tower_producer_close(live, 0);
    tower_producer_close(playlist, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fade_is_whole_frames),
        cmocka_unit_test(test_equal_power_from_all_of_one_to_all_of_the_other),
        cmocka_unit_test(test_an_identity_travels),
        cmocka_unit_test(test_a_label_is_made_of_any_text),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test_setup_teardown(test_killed_in_a_fade_no_sample_is_lost_or_doubled, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_at_every_instruction_of_a_fade_all_is_there_once,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
