/* kernel.c - a child process and its pipes, simulated. */
#include "kernel.h"

#include "child.h"
#include "codec.h"
#include "lame_encoder.h"
#include "tower/encoder_manager.h"
#include "tower/format.h"
#include "world.h"

#include <errno.h>
#include <string.h>

#define FD_BASE (1 << 20)
#define FDS_A_CHILD 4
#define PIPE_BYTES 8192
#define BLOCK_BYTES TOWER_FRAME_BYTES_MAX
#define OUTPUTS 256

enum stream { PIDFD, IN, OUT, ERR };

struct output {
    int64_t ready_ns;
    size_t bytes;
    uint8_t data[TOWER_MP3_FRAME_BYTES_MAX];
};

static struct {
    int64_t now_ns; /* the clock stands while the encoder thread runs */
    struct tower_child *owner;
    struct sim_child_plan plan;
    int serial;
    bool exists; /* not waited for yet */
    bool is_alive;
    bool is_faulty;
    bool is_open[FDS_A_CHILD]; /* our ends */
    bool is_in_closed;         /* its ends */
    bool is_out_closed;
    bool is_reading;
    bool is_writing;
    bool is_waited_on; /* in this step a write found the pipe full */
    int64_t started_ns;
    int64_t reap_at_ns;
    int status;
    uint32_t bitrate_bps;
    size_t frame_bytes;

    uint8_t pipe[PIPE_BYTES];
    size_t pipe_bytes;
    uint8_t block[BLOCK_BYTES];
    size_t block_bytes;
    uint64_t blocks;
    struct sim_block before, before_that;

    struct output outputs[OUTPUTS];
    unsigned silent_reads;
    uint64_t first_output, next_output;
    size_t output_offset; /* in the first */
    size_t output_bytes;  /* in all */
} child;

static int fd_of(enum stream stream) {
    return FD_BASE + child.serial * FDS_A_CHILD + (int)stream;
}

void sim_kernel_reset(void) {
    memset(&child, 0, sizeof child);
}

unsigned sim_kernel_open_fds(void) {
    unsigned n = 0;
    for (int stream = IN; stream <= ERR; stream++)
        n += child.is_open[stream];
    return n;
}

/* ---- its output ---- */

static void put(const void *data, size_t bytes) {
    if (child.next_output - child.first_output == OUTPUTS)
        return;
    struct output *output = &child.outputs[child.next_output++ % OUTPUTS];
    output->ready_ns = child.now_ns + child.plan.latency_ns;
    output->bytes = bytes;
    memcpy(output->data, data, bytes);
    child.output_bytes += bytes;
}

static void put_frame(const struct sim_mp3 *mp3, size_t bytes) {
    uint8_t frame[TOWER_MP3_FRAME_BYTES_MAX];
    sim_mp3_write(mp3, child.bitrate_bps, frame, child.frame_bytes);
    put(frame, bytes);
}

static void take_block(struct sim_block block) {
    if (child.blocks++ > 0 && child.is_writing) {
        struct sim_mp3 mp3 = {child.plan.build, false, block, child.before, child.before_that};
        put_frame(&mp3, child.frame_bytes);
    }
    child.before_that = child.before;
    child.before = block;
}

static bool has_room_out(void) {
    /* What is not ready is not in the pipe yet. */
    if (child.plan.latency_ns > 0)
        return child.next_output - child.first_output < OUTPUTS / 2;
    return !child.is_writing || child.output_bytes + child.frame_bytes <= PIPE_BYTES;
}

/* Its encoder is given bytes; returns how many it took. */
static size_t take(const uint8_t *data, size_t bytes) {
    size_t taken = 0;
    while (taken < bytes && has_room_out()) {
        size_t left = bytes - taken;
        if (child.block_bytes == 0 && left >= BLOCK_BYTES) {
            take_block(sim_block_of(data + taken));
            taken += BLOCK_BYTES;
            continue;
        }
        size_t n = BLOCK_BYTES - child.block_bytes;
        n = n < left ? n : left;
        memcpy(child.block + child.block_bytes, data + taken, n);
        child.block_bytes += n;
        taken += n;
        if (child.block_bytes == BLOCK_BYTES) {
            take_block(sim_block_of(child.block));
            child.block_bytes = 0;
        }
    }
    return taken;
}

/* ---- its life ---- */

static void die(int status) {
    int64_t now_ns = child.now_ns;
    child.is_alive = false;
    child.is_in_closed = true;
    child.is_out_closed = true;
    child.status = status;
    child.reap_at_ns = now_ns + child.plan.reap_ns;
    /* What it had not written by now it never will. */
    while (child.next_output > child.first_output &&
           child.outputs[(child.next_output - 1) % OUTPUTS].ready_ns > now_ns)
        child.output_bytes -= child.outputs[--child.next_output % OUTPUTS].bytes;
}

/* All that it is about to write, it writes. */
static void hurry(void) {
    child.plan.latency_ns = 0;
    for (uint64_t i = child.first_output; i < child.next_output; i++)
        child.outputs[i % OUTPUTS].ready_ns = child.now_ns;
}

static void put_garbage(void) {
    uint8_t junk[200];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = (uint8_t)(i * 73 & 0x7f);
    put(junk, sizeof junk);
}

static void put_other_mp3(void) {
    uint8_t frame[TOWER_MP3_FRAME_BYTES_MAX];
    struct sim_mp3 mp3 = {.build = child.plan.build};
    sim_mp3_write(&mp3, child.bitrate_bps == 64000 ? 96000 : 64000, frame, child.frame_bytes);
    put(frame, child.frame_bytes);
}

static void flush(void) {
    struct sim_mp3 mp3 = {.build = child.plan.build,
                          .is_flush = true,
                          .before = child.before,
                          .before_that = child.before_that};
    put_frame(&mp3, child.frame_bytes);
}

static void fault(void) {
    struct sim_mp3 mp3 = {.build = child.plan.build};
    child.is_faulty = true;
    switch (child.plan.fault) {
    case SIM_FAULT_CANNOT_START:
        break;
    case SIM_FAULT_EXIT:
        die(1 << 8);
        break;
    case SIM_FAULT_SIGNAL:
        die(9);
        break;
    case SIM_FAULT_PARTIAL:
        hurry();
        put_frame(&mp3, child.frame_bytes / 2);
        die(11);
        break;
    case SIM_FAULT_ORDERLY:
        hurry();
        if (child.blocks > 0)
            flush();
        die(255 << 8);
        break;
    case SIM_FAULT_CLOSE_OUT:
        child.is_out_closed = true;
        child.is_writing = false;
        break;
    case SIM_FAULT_CLOSE_IN:
        child.is_in_closed = true;
        break;
    case SIM_FAULT_DEAF:
        child.is_reading = false;
        break;
    case SIM_FAULT_MUTE:
        child.is_writing = false;
        break;
    case SIM_FAULT_GARBAGE:
        put_garbage();
        break;
    case SIM_FAULT_OTHER_MP3:
        put_other_mp3();
        break;
    case SIM_FAULT_EXCESS:
        for (int i = 0; i < 40; i++)
            flush();
        break;
    }
    sim_child_faulted(child.plan.fault, child.now_ns);
}

static int64_t age_ns(void) {
    return child.now_ns - child.started_ns;
}

static bool is_pausing(int64_t age) {
    return age < child.plan.startup_ns || (!child.is_faulty && age >= child.plan.pause_ns &&
                                           age < child.plan.pause_ns + child.plan.pause_for_ns);
}

static bool is_taking(void) {
    return child.is_alive && child.is_reading && !child.is_in_closed && !is_pausing(age_ns());
}

static void run(void) {
    if (!child.is_alive)
        return;
    if (child.pipe_bytes > 0 && is_taking()) {
        size_t taken = take(child.pipe, child.pipe_bytes);
        memmove(child.pipe, child.pipe + taken, child.pipe_bytes - taken);
        child.pipe_bytes -= taken;
    }
    if (!child.is_faulty && age_ns() >= child.plan.fault_ns)
        fault();
}

void sim_kernel_run(int64_t now_ns) {
    child.now_ns = now_ns;
    /* Whoever still has something to write tries it at each step, and else does not wait. */
    child.is_waited_on = false;
    run();
}

static void earlier(int64_t *ret_next_ns, int64_t at_ns) {
    if (at_ns > child.now_ns && at_ns < *ret_next_ns)
        *ret_next_ns = at_ns;
}

int64_t sim_kernel_next_ns(void) {
    int64_t next_ns = INT64_MAX;
    if (!child.exists)
        return next_ns;
    if (!child.is_alive) {
        earlier(&next_ns, child.reap_at_ns);
        return next_ns;
    }
    if (!child.is_faulty)
        earlier(&next_ns, child.started_ns + child.plan.fault_ns);
    earlier(&next_ns, child.started_ns + child.plan.startup_ns);
    if (child.plan.pause_for_ns > 0)
        earlier(&next_ns, child.started_ns + child.plan.pause_ns + child.plan.pause_for_ns);
    if (child.next_output > child.first_output)
        earlier(&next_ns, child.outputs[child.first_output % OUTPUTS].ready_ns);
    return next_ns;
}

static bool is_output_ready(void) {
    return child.next_output > child.first_output &&
           child.outputs[child.first_output % OUTPUTS].ready_ns <= child.now_ns;
}

static bool is_at_end(void) {
    return child.is_out_closed && child.next_output == child.first_output;
}

bool sim_kernel_is_ready(void) {
    if (!child.exists)
        return false;
    if (child.is_open[OUT] && (is_output_ready() || is_at_end()))
        return true;
    if (!child.is_alive && child.owner->pid > 0 && child.now_ns >= child.reap_at_ns)
        return true;
    /* From one that seems to be ending, by its stdout's end or by what it gave too much, PCM is
     * held back: nobody waits for its stdin any more. */
    bool is_ending =
        !child.is_open[OUT] || (child.is_faulty && child.plan.fault == SIM_FAULT_EXCESS);
    return child.is_waited_on && child.is_open[IN] && !is_ending &&
           (child.is_in_closed || child.pipe_bytes < PIPE_BYTES);
}

bool sim_kernel_can_start(void) {
    return !child.exists || (!child.is_alive && child.now_ns >= child.reap_at_ns);
}

/* ---- child.h ---- */

static uint32_t parse_bitrate(char *const *argv) {
    for (size_t i = 0; argv[i] && argv[i + 1]; i++) {
        if (strcmp(argv[i], "-b:a") == 0) {
            uint32_t bitrate_bps = 0;
            for (const char *digit = argv[i + 1]; *digit; digit++)
                bitrate_bps = bitrate_bps * 10 + (uint32_t)(*digit - '0');
            return bitrate_bps;
        }
    }
    return 0;
}

int tower_child_start(struct tower_child *ret_child, char *const *argv, unsigned pipes,
                      int pipe_bytes) {
    static const int errors[] = {-ENOENT, -EACCES, -EMFILE, -ENOMEM, -EAGAIN};
    (void)pipe_bytes;
    struct sim_child_plan plan;
    sim_plan_child(&plan);
    sim_child_starts(&plan, child.exists, sim_kernel_open_fds(), child.now_ns);
    if (pipes != (TOWER_CHILD_STDIN | TOWER_CHILD_STDOUT | TOWER_CHILD_STDERR))
        return -EINVAL;
    if (plan.fault == SIM_FAULT_CANNOT_START)
        return errors[(uint64_t)plan.fault_ns % (sizeof errors / sizeof errors[0])];
    int serial = child.serial + 1;
    int64_t now_ns = child.now_ns;
    memset(&child, 0, sizeof child);
    child.now_ns = now_ns;
    child.serial = serial;
    child.owner = ret_child;
    child.plan = plan;
    child.exists = true;
    child.is_alive = true;
    child.is_reading = true;
    child.is_writing = true;
    child.started_ns = child.now_ns;
    child.bitrate_bps = parse_bitrate(argv);
    child.frame_bytes = tower_lame_frame_bytes(child.bitrate_bps);
    for (int stream = IN; stream <= ERR; stream++)
        child.is_open[stream] = true;
    *ret_child =
        (struct tower_child){1000 + serial, fd_of(PIDFD), fd_of(IN), fd_of(OUT), fd_of(ERR)};
    return 0;
}

int tower_child_poll(struct tower_child *ret_child, int *ret_status) {
    if (ret_child->pid == 0)
        return -ECHILD;
    run();
    if (child.is_alive || child.now_ns < child.reap_at_ns)
        return 0;
    child.exists = false;
    ret_child->pid = 0;
    ret_child->pidfd = -1;
    if (ret_status)
        *ret_status = child.status;
    return 1;
}

void tower_child_end(const struct tower_child *ret_child) {
    if (ret_child->pid <= 0 || !child.is_alive)
        return;
    die(9);
    child.reap_at_ns = child.now_ns + child.plan.kill_ns;
}

void tower_child_kill(struct tower_child *ret_child) {
    tower_child_end(ret_child);
    child.exists = false;
    for (int stream = IN; stream <= ERR; stream++)
        child.is_open[stream] = false;
    *ret_child = (struct tower_child)TOWER_CHILD_NONE;
}

/* ---- its descriptors ---- */

ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __real_write(int fd, const void *data, size_t bytes);
int __real_close(int fd);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
int __wrap_close(int fd);

/* Is it open, and this one? Who uses another is wrong. */
static bool is_stream(int fd, enum stream stream) {
    return fd == fd_of(stream) && child.is_open[stream];
}

static ssize_t fail_read(int error) {
    errno = error;
    return -1;
}

static ssize_t read_output(uint8_t *data, size_t bytes) {
    run();
    if (is_at_end())
        return 0;
    if (child.plan.read_bytes > 0 && bytes > child.plan.read_bytes)
        bytes = child.plan.read_bytes;
    size_t copied = 0;
    while (copied < bytes && is_output_ready()) {
        const struct output *output = &child.outputs[child.first_output % OUTPUTS];
        size_t n = output->bytes - child.output_offset;
        n = n < bytes - copied ? n : bytes - copied;
        memcpy(data + copied, output->data + child.output_offset, n);
        copied += n;
        child.output_offset += n;
        child.output_bytes -= n;
        if (child.output_offset == output->bytes) {
            if (child.first_output++ == 0)
                sim_child_answered(child.now_ns);
            child.output_offset = 0;
        }
    }
    return copied > 0 ? (ssize_t)copied : fail_read(EAGAIN);
}

static ssize_t read_messages(char *data, size_t bytes) {
    static const char message[] = "[libmp3lame @ 0x1] Queue input is backward in time\n";
    if (!child.is_alive)
        return 0;
    if (!child.plan.is_chatty || child.silent_reads++ % 64 != 0 || bytes < sizeof message)
        return fail_read(EAGAIN);
    memcpy(data, message, sizeof message - 1);
    return sizeof message - 1;
}

ssize_t __wrap_read(int fd, void *data, size_t bytes) {
    if (fd < FD_BASE)
        return __real_read(fd, data, bytes);
    if (is_stream(fd, OUT))
        return read_output(data, bytes);
    if (is_stream(fd, ERR))
        return read_messages(data, bytes);
    sim_fd_misused(fd);
    return fail_read(EBADF);
}

static ssize_t write_input(const uint8_t *data, size_t bytes) {
    run();
    if (child.is_in_closed) {
        child.is_waited_on = false;
        return fail_read(EPIPE);
    }
    size_t room = PIPE_BYTES - child.pipe_bytes;
    bytes = bytes < room ? bytes : room;
    child.is_waited_on = bytes == 0;
    if (bytes == 0)
        return fail_read(EAGAIN);
    size_t taken = child.pipe_bytes == 0 && is_taking() ? take(data, bytes) : 0;
    memcpy(child.pipe + child.pipe_bytes, data + taken, bytes - taken);
    child.pipe_bytes += bytes - taken;
    return (ssize_t)bytes;
}

ssize_t __wrap_write(int fd, const void *data, size_t bytes) {
    if (fd < FD_BASE)
        return __real_write(fd, data, bytes);
    if (is_stream(fd, IN))
        return write_input(data, bytes);
    sim_fd_misused(fd);
    return fail_read(EBADF);
}

int __wrap_close(int fd) {
    if (fd < FD_BASE)
        return __real_close(fd);
    for (int stream = IN; stream <= ERR; stream++) {
        if (is_stream(fd, (enum stream)stream)) {
            child.is_open[stream] = false;
            return 0;
        }
    }
    sim_fd_misused(fd);
    return -1;
}
