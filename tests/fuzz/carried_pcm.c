/* carried_pcm.c - what another process left of router, pump, encoder or producers, with some of its
 * bytes changed: whoever goes on from it lives, and does its work.
 *
 * The first byte says which region, the next two how much of it is there; then come changes, each
 * of an offset in three bytes and a value.
 */
#include "fuzz.h"

#include "tower/clock.h"
#include "tower/encoder_manager.h"
#include "tower/log.h"
#include "tower/pcm_socket.h"
#include "tower/pump.h"
#include "tower/router.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLES 1152
#define ROUTER_FRAMES 8
#define PRODUCERS 3

enum region { ROUTER, PUMP, ENCODER, INGEST, REGIONS };

static struct tower_clock *virtual_clock;
static struct {
    uint8_t *bytes;
    size_t n_bytes;
} left[REGIONS];
static int listen_fd, clients[PRODUCERS], producer_fds[TOWER_PRODUCERS_MAX];
static uint64_t n_written, n_aired;

static void keep(enum region which, int fd) {
    left[which].n_bytes = (size_t)lseek(fd, 0, SEEK_END);
    left[which].bytes = malloc(left[which].n_bytes);
    FUZZ_REQUIRE(left[which].bytes);
    FUZZ_REQUIRE(pread(fd, left[which].bytes, left[which].n_bytes, 0) ==
                 (ssize_t)left[which].n_bytes);
}

/* ---- what the pump calls ---- */

static int pop_frame(void *self, int64_t timeout_ns, void *ret_frame, unsigned *ret_flags) {
    return tower_router_pop_frame(self, timeout_ns, ret_frame, ret_flags);
}

static uint64_t count_popped(void *self) {
    struct tower_router_stats stats;
    tower_router_get_stats(self, &stats);
    return stats.popped_count;
}

static enum tower_origin get_frame(void *self, uint64_t tick, int16_t *ret_frame) {
    (void)self;
    memset(ret_frame, (int)(tick & 0x7f), tower_frame_bytes(SAMPLES));
    return TOWER_ORIGIN_TONE;
}

static int write_pcm(void *self, const int16_t *frame, size_t frame_bytes) {
    (void)self;
    FUZZ_REQUIRE(frame && frame_bytes == tower_frame_bytes(SAMPLES));
    n_written++;
    return 0;
}

static uint64_t count_written(void *self) {
    (void)self;
    return n_written;
}

static void put_on_air(void *user, const uint8_t *frame, size_t bytes) {
    (void)user;
    FUZZ_REQUIRE(frame && bytes == 384);
    n_aired++;
}

/* ---- each part, made from `fd` (-1: anew), at work ---- */

static struct tower_router *open_router(int fd) {
    struct tower_router *router;
    uint64_t lost_frames = 0;
    FUZZ_REQUIRE(tower_router_open(virtual_clock, fd, ROUTER_FRAMES, tower_frame_bytes(SAMPLES),
                                   &router, &lost_frames) == 0);
    FUZZ_REQUIRE(lost_frames <= ROUTER_FRAMES || fd > 0);
    return router;
}

static void use_router(struct tower_router *router) {
    static uint8_t frame[TOWER_FRAME_BYTES_MAX];
    struct tower_router_stats stats;
    unsigned flags;
    tower_router_get_stats(router, &stats);
    FUZZ_REQUIRE(stats.count <= ROUTER_FRAMES && stats.capacity == ROUTER_FRAMES);
    int queued = 0, taken = 0;
    while (tower_router_push_frame(router, frame, tower_frame_bytes(SAMPLES)) == 1)
        FUZZ_REQUIRE(queued++ < ROUTER_FRAMES);
    while (tower_router_pop_frame(router, 0, frame, &flags) == 1)
        FUZZ_REQUIRE(taken++ < ROUTER_FRAMES);
    FUZZ_REQUIRE(taken == ROUTER_FRAMES);
}

static struct tower_pump *open_pump(int fd, struct tower_router *router) {
    struct tower_pump *pump;
    struct tower_pump_config config = {.clock = virtual_clock,
                                       .frame_samples = SAMPLES,
                                       .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
                                       .pcm_buffer = {router, pop_frame},
                                       .fallback = {NULL, get_frame},
                                       .encoder = {NULL, write_pcm},
                                       .carried_fd = fd,
                                       .count_popped = count_popped,
                                       .count_written = count_written};
    FUZZ_REQUIRE(tower_pump_new(&config, &pump) == 0);
    return pump;
}

static void use_pump(struct tower_pump *pump) {
    uint64_t next_tick;
    (void)tower_pump_outage(pump, &next_tick);
    struct tower_pump_stats stats;
    for (int i = 0; i < 4; i++) {
        tower_pump_step(pump);
        tower_pump_get_stats(pump, &stats);
        FUZZ_REQUIRE(stats.ticks_due ==
                     stats.ticks_emitted + stats.write_errors + stats.ticks_skipped);
        FUZZ_REQUIRE((unsigned)stats.origin < TOWER_ORIGIN_COUNT);
    }
}

static struct tower_encoder_manager *open_encoder(int fd) {
    struct tower_encoder_manager *encoder;
    struct tower_encoder_config config = {.clock = virtual_clock,
                                          .kind = TOWER_ENCODER_LAME,
                                          .frame_samples = SAMPLES,
                                          .bitrate_bps = 128000,
                                          .is_stepped = true,
                                          .output = put_on_air,
                                          .carried_fd = fd,
                                          .air_frames = 20};
    FUZZ_REQUIRE(tower_encoder_manager_new(&config, &encoder) == 0);
    FUZZ_REQUIRE(tower_encoder_manager_start(encoder) == 0);
    return encoder;
}

static void use_encoder(struct tower_encoder_manager *encoder) {
    static int16_t frame[SAMPLES * TOWER_CHANNELS];
    /* What was left goes out in the first turn, and is not without bounds. */
    n_aired = 0;
    (void)tower_encoder_manager_step(encoder);
    FUZZ_REQUIRE(n_aired < 8000);
    for (int i = 0; i < 3; i++) {
        n_aired = 0;
        FUZZ_REQUIRE(tower_encoder_manager_write_pcm(encoder, frame, sizeof frame) == 0);
        (void)tower_encoder_manager_step(encoder);
        FUZZ_REQUIRE(n_aired <= 2);
    }
}

static struct tower_pcm_socket *open_ingest(int fd, struct tower_router *router) {
    struct tower_pcm_socket *ingest;
    struct tower_pcm_socket_config config = {.clock = tower_clock_real(),
                                             .listen_fd = &listen_fd,
                                             .frame_samples = SAMPLES,
                                             .router = router,
                                             .idle_ns = TOWER_NS_PER_S,
                                             .carried_fd = fd};
    FUZZ_REQUIRE(tower_pcm_socket_new(&config, &ingest) == 0);
    FUZZ_REQUIRE(tower_pcm_socket_start(ingest) == 0);
    return ingest;
}

/* A producer that comes now is served, whatever there is. */
static void use_ingest(struct tower_pcm_socket *ingest, int fd, int client) {
    int fds[TOWER_PRODUCERS_MAX];
    struct tower_pcm_socket_stats stats;
    FUZZ_REQUIRE(tower_pcm_socket_carried_fds(fd, fds) <= TOWER_PRODUCERS_MAX);
    FUZZ_REQUIRE(send(client, "abcdefgh", 8, MSG_NOSIGNAL) == 8);
    tower_pcm_socket_get_stats(ingest, &stats);
    for (int i = 0; i < 20000 && stats.n_producers == 0; i++) {
        (void)usleep(100);
        tower_pcm_socket_get_stats(ingest, &stats);
    }
    FUZZ_REQUIRE(stats.n_producers > 0 && stats.n_producers <= TOWER_PRODUCERS_MAX);
}

/* ---- */

static int connect_client(void) {
    struct sockaddr_un address;
    socklen_t bytes = sizeof address;
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_REQUIRE(getsockname(listen_fd, (struct sockaddr *)&address, &bytes) == 0);
    FUZZ_REQUIRE(connect(client, (struct sockaddr *)&address, bytes) == 0);
    return client;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    static int16_t frame[SAMPLES * TOWER_CHANNELS];
    tower_log_set_level(TOWER_LOG_ERROR);
    FUZZ_REQUIRE(tower_clock_virtual_new(TOWER_NS_PER_S, &virtual_clock) == 0);
    tower_clock_virtual_set_auto(virtual_clock, true);
    /* An address that is in no file system. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    FUZZ_REQUIRE(bind(listen_fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    /* In another process, so that a client's end is not taken for a producer's: its peer is
     * another one. */
    pid_t child = fork();
    if (child == 0)
        _exit(listen(listen_fd, PRODUCERS + 16) < 0);
    int status = -1;
    FUZZ_REQUIRE(waitpid(child, &status, 0) == child && status == 0);

    struct tower_router *router = open_router(-1);
    struct tower_pump *pump = open_pump(-1, router);
    use_pump(pump);
    keep(PUMP, tower_pump_fd(pump));
    for (int i = 0; i < 5; i++)
        FUZZ_REQUIRE(tower_router_push_frame(router, frame, sizeof frame) == 1);
    keep(ROUTER, tower_router_fd(router));
    tower_pump_free(pump);
    struct tower_encoder_manager *encoder = open_encoder(-1);
    for (int i = 0; i < 80; i++) {
        FUZZ_REQUIRE(tower_encoder_manager_write_pcm(encoder, frame, sizeof frame) == 0);
        if (i < 77)
            (void)tower_encoder_manager_step(encoder);
    }
    keep(ENCODER, tower_encoder_manager_fd(encoder));
    tower_encoder_manager_free(encoder);
    /* Its region says which descriptors the producers have: they stay open. */
    struct tower_pcm_socket *ingest = open_ingest(-1, router);
    struct tower_pcm_socket_stats stats = {0};
    for (int i = 0; i < PRODUCERS; i++) {
        clients[i] = connect_client();
        FUZZ_REQUIRE(send(clients[i], frame, 1001, MSG_NOSIGNAL) == 1001);
    }
    while (stats.n_producers < PRODUCERS || stats.bytes < 1001)
        tower_pcm_socket_get_stats(ingest, &stats);
    tower_pcm_socket_stop(ingest);
    keep(INGEST, tower_pcm_socket_fd(ingest));
    FUZZ_REQUIRE(tower_pcm_socket_carried_fds(tower_pcm_socket_fd(ingest), producer_fds) ==
                 PRODUCERS);
    tower_router_free(router);
    /* Freed it would close them. */
    static struct tower_pcm_socket *never_freed;
    never_freed = ingest;
    (void)never_freed;
    return 0;
}

/* Connections under the numbers that the region says, whatever became of those before. */
static void renew_producers(void) {
    for (int i = 0; i < PRODUCERS; i++) {
        (void)close(clients[i]);
        clients[i] = connect_client();
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        FUZZ_REQUIRE(fd >= 0);
        if (fd != producer_fds[i]) {
            FUZZ_REQUIRE(dup3(fd, producer_fds[i], O_CLOEXEC) == producer_fds[i]);
            FUZZ_REQUIRE(close(fd) == 0);
        }
    }
}

static int copy_of(enum region which, const uint8_t *data, size_t bytes) {
    int fd = memfd_create("left", MFD_CLOEXEC);
    uint8_t *memory = malloc(left[which].n_bytes);
    FUZZ_REQUIRE(fd > 0 && memory);
    memcpy(memory, left[which].bytes, left[which].n_bytes);
    size_t there = left[which].n_bytes;
    if (data[0] & 0x80)
        there = there * ((size_t)data[0] << 8 & 0x7f00) / 0x8000 + data[1];
    for (data += 2, bytes -= 2; bytes >= 4; data += 4, bytes -= 4) {
        size_t offset = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
        memory[offset % left[which].n_bytes] = data[3];
    }
    if (there > left[which].n_bytes)
        there = left[which].n_bytes;
    FUZZ_REQUIRE(write(fd, memory, there) == (ssize_t)there);
    free(memory);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 3)
        return 0;
    enum region which = (enum region)(data[0] % REGIONS);
    int fd = copy_of(which, data + 1, bytes - 1), now_fd = -1;
    struct tower_router *router = open_router(which == ROUTER ? fd : -1);
    if (which == ROUTER) {
        now_fd = tower_router_fd(router);
        use_router(router);
    } else if (which == PUMP) {
        struct tower_pump *pump = open_pump(fd, router);
        now_fd = tower_pump_fd(pump);
        use_pump(pump);
        tower_pump_free(pump);
    } else if (which == ENCODER) {
        struct tower_encoder_manager *encoder = open_encoder(fd);
        now_fd = tower_encoder_manager_fd(encoder);
        use_encoder(encoder);
        tower_encoder_manager_free(encoder);
    } else {
        renew_producers();
        int client = connect_client();
        struct tower_pcm_socket *ingest = open_ingest(fd, router);
        now_fd = tower_pcm_socket_fd(ingest);
        use_ingest(ingest, now_fd, client);
        FUZZ_REQUIRE(close(client) == 0);
        tower_pcm_socket_free(ingest);
    }
    /* What was not taken over is ours still. */
    if (now_fd != fd)
        FUZZ_REQUIRE(close(fd) == 0);
    tower_router_free(router);
    return 0;
}
