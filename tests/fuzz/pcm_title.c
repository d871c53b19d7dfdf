/* pcm_title.c - titles that come along with a producer's bytes, in memory that the producer wrote
 * and whatever else it may send.
 *
 * The first byte says what comes along; the rest is what the memory holds.
 */
#include "titled_recv.h"

#include "clock_wire.h"
#include "fuzz.h"
#include "identity_wire.h"

#include <math.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NO_MEMORY = 1, TWO = 2, A_PIPE_FIRST = 4, READ_ONLY = 8, NOTHING = 16 };

static int ends[2]; /* ours, and the producer's */
static int memory, memory_read_only, pipe_ends[2];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    char path[32];
    FUZZ_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    FUZZ_REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
    memory = memfd_create("title", MFD_CLOEXEC);
    FUZZ_REQUIRE(memory >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    memory_read_only = open(path, O_RDONLY | O_CLOEXEC);
    FUZZ_REQUIRE(memory_read_only >= 0);
    return 0;
}

static void send_with(const int *fds, size_t n) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(3 * sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(n * sizeof(int))}};
    struct iovec piece = {.iov_base = "pcm", .iov_len = 3};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
    if (n > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
    }
    FUZZ_REQUIRE(sendmsg(ends[1], &message, MSG_NOSIGNAL) == 3);
}

static int first_free_descriptor(void) {
    int fd = dup(ends[0]);
    FUZZ_REQUIRE(fd >= 0 && close(fd) == 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct tower_incoming_title title;
    int fds[3];
    size_t n = 0;
    if (bytes < 1)
        return 0;
    uint8_t what = *data;
    data++;
    bytes--;
    FUZZ_REQUIRE(ftruncate(memory, 0) == 0);
    FUZZ_REQUIRE(pwrite(memory, data, bytes, 0) == (ssize_t)bytes);
    if (!(what & NOTHING)) {
        if (what & A_PIPE_FIRST)
            fds[n++] = pipe_ends[0];
        if (!(what & NO_MEMORY))
            fds[n++] = what & READ_ONLY ? memory_read_only : memory;
        if (what & TWO)
            fds[n++] = memory;
    }
    int free_before = first_free_descriptor();
    send_with(fds, n);

    struct tower_incoming_identity identity = {.is_there = false};
    FUZZ_REQUIRE(tower_titled_peek(ends[0], &identity) == 1);
    FUZZ_REQUIRE(first_free_descriptor() == free_before);
    if (identity.is_there)
        FUZZ_REQUIRE(bytes == TOWER_IDENTITY_WIRE_BYTES &&
                     tower_identity_name_is_valid(identity.identity.name));
    char pcm[8];
    bool is_bad = true;
    title = (struct tower_incoming_title){.text = "before"};
    struct tower_incoming_clock clock = {.is_there = false};
    struct tower_recv_call call;
    FUZZ_REQUIRE(tower_titled_recv(ends[0], &call, pcm, sizeof pcm, &title, &clock, &is_bad) == 3);
    FUZZ_REQUIRE(memcmp(pcm, "pcm", 3) == 0);
    FUZZ_REQUIRE(first_free_descriptor() == free_before);
    if (title.is_there) {
        FUZZ_REQUIRE(title.bytes <= TOWER_TITLE_BYTES_MAX && title.bytes <= bytes);
        FUZZ_REQUIRE(tower_utf8_is_valid(title.text, title.bytes));
        FUZZ_REQUIRE(memcmp(title.text, data, title.bytes) == 0);
        /* As much of it as there is room for. */
        FUZZ_REQUIRE(title.bytes == bytes || title.bytes > TOWER_TITLE_BYTES_MAX - 4);
    } else {
        FUZZ_REQUIRE(strcmp(title.text, "before") == 0);
    }
    if (clock.is_there)
        FUZZ_REQUIRE(!title.is_there && bytes == TOWER_CLOCK_WIRE_BYTES &&
                     isfinite(clock.report.ppm) && isfinite(clock.report.spread_ppm) &&
                     isfinite(clock.report.correction_ppm) && clock.report.n_overruns <= INT64_MAX);
    bool is_memory_first = n > 0 && fds[0] != pipe_ends[0];
    bool is_something = title.is_there || clock.is_there || identity.is_there;
    FUZZ_REQUIRE(!is_something || is_memory_first);
    FUZZ_REQUIRE(is_bad == (n > (is_something ? 1 : 0)));
    if (is_memory_first && tower_utf8_is_valid((const char *)data, bytes))
        FUZZ_REQUIRE(title.is_there);
    return 0;
}
