/* carried_air.c - what a process that was killed left of its air: a ring, titles and a table of
 * listeners, with anything in them.
 *
 * Each is sound at first, and the input then changes it: a byte that says which (its lowest two
 * bits), whether another size of ring is asked for (0x40), and whether it is cut short (0x80, with
 * two bytes of where), then changes of ten bytes: two that say which word of eight bytes, near the
 * begin of the header, of the places or of the index, or anywhere, and what comes there. A word
 * that is 0xfd in its top byte becomes the descriptor of the listener that the lowest says.
 */
#include "tower/heritage.h"

#include "fanout_worker.h"
#include "fd.h"
#include "fuzz.h"
#include "title_history.h"

#include "tower/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_BYTES 16384
#define FRAMES 40
#define FRAME_BYTES 300
#define LISTENERS 4
#define REGION_BYTES_MAX ((size_t)1 << 20)
#define CHANGES_MAX 64

enum { AIR, TITLES, TABLE };

static struct tower_clock *clock_of_all;
static uint8_t sound[3][REGION_BYTES_MAX];
static size_t sound_bytes[3];
static int ends[LISTENERS]; /* of the connections, ours; each input has copies of them */

static void keep(int which, int fd) {
    ssize_t n = pread(fd, sound[which], REGION_BYTES_MAX, 0);
    FUZZ_REQUIRE(n > 0 && (size_t)n < REGION_BYTES_MAX);
    sound_bytes[which] = (size_t)n;
}

static void publish(struct tower_air *air, struct tower_titles *titles) {
    uint8_t frame[FRAME_BYTES] = {0xff};
    tower_titles_mark(titles, tower_air_frames(air), tower_air_head(air));
    FUZZ_REQUIRE(tower_air_publish(air, frame, sizeof frame) == 0);
}

static struct tower_fanout *make_fanout(struct tower_air *air, struct tower_titles *titles) {
    const struct tower_fanout_config config = {
        .clock = clock_of_all,
        .air = air,
        .titles = titles,
        .max_listeners = LISTENERS - 1,
        .client_timeout_ns = 1,
        .burst_frames = 5,
        .phase_groups = 1,
    };
    struct tower_fanout *fanout;
    FUZZ_REQUIRE(tower_fanout_new(&config, &fanout) == 0);
    return fanout;
}

/* Two over TCP, which the kernel counts, and two others. */
static void make_connections(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_REQUIRE(bind(listening, (struct sockaddr *)&address, size) == 0);
    FUZZ_REQUIRE(listen(listening, LISTENERS) == 0);
    FUZZ_REQUIRE(getsockname(listening, (struct sockaddr *)&address, &size) == 0);
    for (int i = 0; i < LISTENERS / 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        FUZZ_REQUIRE(connect(client, (struct sockaddr *)&address, size) == 0);
        ends[i] = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        FUZZ_REQUIRE(ends[i] >= 0);
        FUZZ_REQUIRE(send(ends[i], "header and some more", 20, 0) == 20);
    }
    FUZZ_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends + LISTENERS / 2) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_listener_table table;
    tower_log_set_level(TOWER_LOG_ERROR);
    FUZZ_REQUIRE(tower_clock_virtual_new(1000, &clock_of_all) == 0);
    FUZZ_REQUIRE(tower_air_new(RING_BYTES, FRAMES, &air) == 0);
    FUZZ_REQUIRE(tower_titles_new(&titles) == 0);
    for (int i = 0; i < 200; i++) {
        if (i % 5 == 0)
            (void)tower_titles_set(titles, "A title", 7, TOWER_TITLE_FROM_NEXT);
        publish(air, titles);
    }
    keep(AIR, tower_air_fd(air));
    keep(TITLES, tower_titles_fd(titles));

    make_connections();
    FUZZ_REQUIRE(tower_listener_table_init(&table, 8) == 0);
    for (int i = 0; i < LISTENERS; i++) {
        struct tower_listener *listener = &table.places[tower_listener_table_take(&table)];
        listener->cursor = tower_air_head(air) - FRAME_BYTES;
        listener->wire_bytes = 15;
        listener->wants_titles = i % 2 == 1;
        tower_icy_init(&listener->icy);
        tower_listener_table_settle(&table, (uint32_t)i);
    }
    table.header->undo = (struct tower_listener_undo){
        .place = 1,
        .generation = table.places[1].generation,
        .cursor = table.places[1].cursor,
        .wire_bytes = 15,
        .attempted_bytes = 300,
        .icy = table.places[1].icy,
    };
    keep(TABLE, table.region.fd);
    tower_listener_table_done(&table);
    tower_titles_free(titles);
    tower_air_free(air);
    return 0;
}

static int make_region(int which) {
    int fd = memfd_create("region", MFD_CLOEXEC);
    FUZZ_REQUIRE(write(fd, sound[which], sound_bytes[which]) == (ssize_t)sound_bytes[which]);
    return fd;
}

static void change(int fd, int which, const int *fds, const uint8_t *data, size_t bytes) {
    for (int i = 0; i < CHANGES_MAX && bytes >= 10; i++, data += 10, bytes -= 10) {
        const off_t zones[] = {0, 4096, 4096 + RING_BYTES};
        int zone = data[1] >> 6;
        off_t place = zone < 3 ? zones[zone] + data[0] * 8 : (data[0] | (data[1] & 63) << 8) * 16;
        uint8_t word[8];
        memcpy(word, data + 2, sizeof word);
        if (which == TABLE && word[7] == 0xfd)
            memcpy(word, &fds[word[0] % LISTENERS], sizeof fds[0]);
        if ((size_t)place + sizeof word <= sound_bytes[which])
            FUZZ_REQUIRE(pwrite(fd, word, sizeof word, place) == (ssize_t)sizeof word);
    }
}

/* Whatever is there, a reader and a writer can go on with it. */
static void use_air(struct tower_air *air, struct tower_titles *titles) {
    uint8_t rest[4096];
    struct iovec pieces[2];
    int n;
    for (int i = 0; i < 60; i++) {
        uint64_t head = tower_air_head(air), frames = tower_air_frames(air);
        uint64_t back = tower_air_back(air, (uint64_t)i * 7);
        FUZZ_REQUIRE(frames <= head && back <= head);
        int64_t bytes = tower_air_peek(air, back, SIZE_MAX, pieces, &n);
        FUZZ_REQUIRE(bytes == (int64_t)(head - back));
        volatile uint8_t last = 0;
        for (int k = 0; k < n; k++)
            last = ((const uint8_t *)pieces[k].iov_base)[pieces[k].iov_len - 1];
        (void)last;
        (void)tower_air_copy_rest(air, head - (uint64_t)i * 331, rest, sizeof rest);
        (void)tower_air_peek(air, head - (uint64_t)i * 1000, SIZE_MAX, pieces, &n);
        FUZZ_REQUIRE(tower_air_align(air, head) == head);
        publish(air, titles);
    }
}

static void use_titles(const struct tower_titles *titles, uint64_t head) {
    struct tower_title title;
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX];
    tower_titles_get(titles, &title);
    FUZZ_REQUIRE(strlen(title.text) <= TOWER_TITLE_BYTES_MAX);
    for (uint64_t i = 0; i < 64; i++) {
        (void)tower_titles_copy_block(titles, i, block);
        uint64_t number = tower_titles_at(titles, head - i * FRAME_BYTES);
        FUZZ_REQUIRE(number <= title.number);
        if (number > 0)
            FUZZ_REQUIRE(tower_titles_copy_block(titles, number, block) == 1 + block[0] * 16);
    }
}

static void use_listeners(struct tower_fanout *fanout) {
    static struct tower_icy_woven woven;
    const struct tower_air *air = fanout->config.air;
    uint32_t n = 0;
    for (uint32_t place = fanout->pending; place != TOWER_LISTENER_NONE; n++) {
        const struct tower_listener *listener = tower_fanout_at(fanout, place);
        struct tower_icy icy = listener->icy;
        struct iovec pieces[2];
        int n_pieces = 0;
        FUZZ_REQUIRE(listener->is_used == 1 && fcntl(listener->fd, F_GETFD) >= 0);
        FUZZ_REQUIRE(listener->cursor <= tower_air_head(air));
        FUZZ_REQUIRE(listener->moves <= TOWER_FANOUT_SKIPS_MAX);
        FUZZ_REQUIRE(listener->connected_ns >= 0 && listener->connected_ns <= 1000);
        for (uint32_t other = listener->next; other != TOWER_LISTENER_NONE;
             other = tower_fanout_at(fanout, other)->next)
            FUZZ_REQUIRE(tower_fanout_at(fanout, other)->fd != listener->fd);
        if (tower_air_peek(air, listener->cursor, SIZE_MAX, pieces, &n_pieces) > 0) {
            tower_icy_weave(&icy, fanout->config.titles, listener->cursor, pieces, n_pieces,
                            &woven);
            (void)tower_icy_advance(&icy, &woven, woven.bytes);
            FUZZ_REQUIRE(tower_icy_is_sound(&icy));
        }
        place = listener->next;
    }
    FUZZ_REQUIRE(n == tower_fanout_counted(&fanout->listeners));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 3)
        return 0;
    int which = (data[0] & 3) % 3, regions[3], fds[LISTENERS];
    size_t ring_bytes = data[0] & 0x40 ? 4 * RING_BYTES : RING_BYTES;
    int before = dup(ends[0]);
    FUZZ_REQUIRE(before >= 0 && close(before) == 0);
    for (int i = 0; i < LISTENERS; i++) {
        fds[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, 0);
        struct tower_listener *listener =
            (struct tower_listener *)(void *)(sound[TABLE] + 4096) + i;
        listener->fd = fds[i];
    }
    for (int i = 0; i < 3; i++)
        regions[i] = make_region(i);
    change(regions[which], which, fds, data + 3, bytes - 3);
    if (data[0] & 0x80)
        FUZZ_REQUIRE(ftruncate(regions[which], (data[1] | data[2] << 8) * 16) == 0);

    struct tower_air *air;
    struct tower_titles *titles;
    struct tower_listener_heritage *heritage;
    struct tower_adoption adoption;
    int is_air = tower_air_open(regions[AIR], ring_bytes, FRAMES, &air);
    FUZZ_REQUIRE(is_air == 1 || (is_air == 0 && which == AIR));
    int is_titles = tower_titles_open(regions[TITLES], tower_air_head(air), &titles);
    FUZZ_REQUIRE(is_titles >= 0);
    use_titles(titles, tower_air_head(air));
    struct tower_fanout *fanout = make_fanout(air, titles);
    FUZZ_REQUIRE(tower_listener_heritage_new(&heritage) == 0);
    int error = tower_listener_heritage_add(heritage, regions[TABLE]);
    FUZZ_REQUIRE(error == 0 || (error == -EINVAL && which == TABLE));
    tower_fanout_adopt(&fanout, 1, heritage, &adoption);
    FUZZ_REQUIRE(adoption.taken == tower_fanout_counted(&fanout->listeners));
    FUZZ_REQUIRE(which == TABLE || adoption.taken == LISTENERS - 1);
    use_listeners(fanout);
    tower_listener_heritage_commit(heritage);
    use_listeners(fanout);
    tower_listener_heritage_free(heritage);
    if (error < 0)
        tower_fd_close(&regions[TABLE]);
    if (tower_air_fd(air) != regions[AIR])
        tower_fd_close(&regions[AIR]);
    if (is_titles == 0)
        tower_fd_close(&regions[TITLES]);
    tower_fanout_free(fanout);
    use_air(air, titles);
    tower_titles_free(titles);
    tower_air_free(air);
    for (int i = 0; i < LISTENERS; i++)
        (void)close(fds[i]);
    int after = dup(ends[0]);
    FUZZ_REQUIRE(after == before && close(after) == 0);
    return 0;
}
