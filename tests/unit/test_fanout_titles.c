/* test_fanout_titles.c - listeners who want titles get stream and titles, each at its place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fanout_fixture.h"
#include "icy_reader.h"

#include <stdio.h>
#include <stdlib.h>

#define DATA_BYTES (1 << 20)
#define TITLE_EVERY 37
#define TITLE_FIRST 5
#define NO_TITLE UINT32_MAX

/* A client that takes stream and titles apart, and the stream into frames. */
struct player {
    int fd;
    bool is_mid_frame; /* it does not begin at a frame: only its titles are looked at */
    struct icy_reader icy;
    uint8_t data[DATA_BYTES]; /* stream */
    size_t bytes;
    size_t parsed; /* whole frames */
    size_t n_frames;
    struct {
        uint32_t number;
        size_t at;
    } frames[DATA_BYTES / 400];
};

/* The frame from which the title of frame `number` holds. */
static uint32_t titled_from(uint32_t number) {
    return number < TITLE_FIRST ? NO_TITLE : number - (number - TITLE_FIRST) % TITLE_EVERY;
}

/* Every other one is so long that hardly a socket takes it at once. */
static void fill_title(uint32_t from, char text[TOWER_TITLE_BYTES_MAX + 1]) {
    bool is_long = from / TITLE_EVERY % 2;
    (void)snprintf(text, TOWER_TITLE_BYTES_MAX + 1, "from frame %u%0*d", from, is_long ? 4000 : 1,
                   0);
}

static uint32_t publish_titled(struct station *station) {
    char text[TOWER_TITLE_BYTES_MAX + 1];
    if (titled_from(station->n_frames) == station->n_frames) {
        fill_title(station->n_frames, text);
        assert_int_equal(tower_titles_set(station->titles, text, strlen(text), station->n_frames),
                         0);
    }
    return publish(station);
}

static void add_with_titles(struct station *station, int server, uint64_t cursor) {
    struct tower_fanout_listener listener = {
        .fd = server, .cursor = cursor, .wants_titles = true, .address = TOWER_ADDRESS_NONE};
    assert_int_equal(tower_fanout_add(station->fanout, &listener), 0);
}

static struct player *join_with_titles(struct station *station, bool small, uint64_t cursor) {
    struct player *player = calloc(1, sizeof *player);
    int server = -1;
    assert_non_null(player);
    player->icy.until_block = ICY_READER_METAINT;
    assert_true(tcp_pair(small, &server, &player->fd));
    add_with_titles(station, server, cursor);
    return player;
}

static struct player *join_in_mid_frame(struct station *station, uint64_t cursor) {
    struct player *player = join_with_titles(station, false, cursor);
    player->is_mid_frame = true;
    return player;
}

static void leave(struct player *player) {
    close(player->fd);
    free(player);
}

static void parse(struct player *player) {
    while (player->bytes - player->parsed >= NUMBERED_HEAD_BYTES) {
        const uint8_t *s = player->data + player->parsed;
        uint32_t number =
            (uint32_t)s[4] | (uint32_t)s[5] << 8 | (uint32_t)s[6] << 16 | (uint32_t)s[7] << 24;
        size_t length = numbered_bytes(number);
        if (player->bytes - player->parsed < length)
            return;
        for (size_t i = 0; i < length; i++)
            assert_int_equal(s[i], numbered_byte(number, i));
        if (player->n_frames > 0)
            assert_true(number > player->frames[player->n_frames - 1].number);
        player->frames[player->n_frames].at = player->parsed;
        player->frames[player->n_frames++].number = number;
        player->parsed += length;
    }
}

/* Wait for bytes, and read up to `max_bytes` of them. */
static void play(struct player *player, size_t max_bytes) {
    uint8_t sent[8192];
    ssize_t n = receive(player->fd, sent, max_bytes < sizeof sent ? max_bytes : sizeof sent);
    assert_true(n > 0);
    assert_true(player->bytes + (size_t)n <= DATA_BYTES);
    player->bytes += icy_reader_take(&player->icy, sent, (size_t)n, player->data + player->bytes);
    assert_false(player->icy.is_broken);
    if (!player->is_mid_frame)
        parse(player);
}

static void play_to(struct player *player, uint32_t last) {
    while (player->n_frames == 0 || player->frames[player->n_frames - 1].number < last)
        play(player, SIZE_MAX);
    assert_int_equal(player->parsed, player->bytes);
}

/* Each metadata point told the title of the frame that the byte behind it is in, if it was new. */
static void assert_titles(const struct player *player) {
    uint32_t told = NO_TITLE;
    size_t n_points = 0, n_titles = 0, frame = 0;
    char text[TOWER_TITLE_BYTES_MAX + 1];
    for (size_t at = ICY_READER_METAINT; at < player->bytes; at += ICY_READER_METAINT) {
        n_points++;
        while (frame + 1 < player->n_frames && player->frames[frame + 1].at <= at)
            frame++;
        uint32_t from = titled_from(player->frames[frame].number);
        if (from == told)
            continue;
        told = from;
        assert_true(n_titles < player->icy.n_titles);
        assert_int_equal(player->icy.titles[n_titles].at, at);
        fill_title(from, text);
        text[sizeof player->icy.titles[0].text - 1] = '\0';
        assert_string_equal(player->icy.titles[n_titles].text, text);
        n_titles++;
    }
    assert_int_equal(player->icy.n_blocks, n_points);
    assert_int_equal(player->icy.n_titles, n_titles);
}

static void every_byte_and_every_title_comes_through_small_buffers(void **state) {
    (void)state;
    enum { FRAMES = 1500, LAG_MAX = 100000 };
    struct station station = start_station(4);
    struct client good = join(&station, false);
    struct player *players[2] = {join_with_titles(&station, true, 0),
                                 join_with_titles(&station, true, 0)};
    /* One of them is no TCP connection. */
    int pair[2], bytes = 4096;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    struct player *local = calloc(1, sizeof *local);
    assert_non_null(local);
    local->fd = pair[1];
    local->icy.until_block = ICY_READER_METAINT;
    add_with_titles(&station, pair[0], 0);
    assert_int_equal(stats_of(&station).with_titles, 3);

    struct player *all[3] = {players[0], players[1], local};
    srand(1);
    for (int i = 0; i < FRAMES; i++) {
        uint32_t number = publish_titled(&station);
        assert_true(receive_frame(good.fd, &good.reader, number));
        for (int k = 0; k < 3; k++) {
            while (good.reader.n_bytes - all[k]->bytes > LAG_MAX)
                play(all[k], (size_t)(rand() % 3000) + 1);
        }
    }
    uint64_t stream_bytes = good.reader.n_bytes;
    for (int k = 0; k < 3; k++) {
        play_to(all[k], FRAMES - 1);
        assert_int_equal(all[k]->frames[0].number, 0);
        assert_int_equal(all[k]->n_frames, FRAMES);
        assert_titles(all[k]);
        assert_true(all[k]->icy.n_titles > 20);
        stream_bytes += all[k]->bytes;
    }
    assert_int_equal(stats_of(&station).skips, 0);
    ASSERT_SOON(stats_of(&station).sent_bytes == stream_bytes);
    for (int k = 0; k < 3; k++)
        leave(all[k]);
    for (int i = 0; i < 20; i++)
        publish(&station);
    ASSERT_SOON(stats_of(&station).with_titles == 0);
    close(good.fd);
    end_station(&station);
}

/* Where each listener hears of a title that holds from byte `begin` on. */
static void a_title_changes_at_its_frame_for_each_listener(void **state) {
    (void)state;
    struct station station = start_station(8);
    for (int i = 0; i < 100; i++)
        publish(&station);
    assert_int_equal(tower_titles_set(station.titles, "old", 3, TOWER_TITLE_FROM_NEXT), 0);
    publish(&station);
    uint64_t old_begin = tower_air_back(station.air, 1);
    /* The metadata points of these are right at that byte, and right before it. */
    struct player *before[2] = {join_in_mid_frame(&station, old_begin - 16000),
                                join_in_mid_frame(&station, old_begin - 16001)};
    assert_int_equal(tower_titles_set(station.titles, "new", 3, 150), 0);
    while (station.n_frames < 150)
        publish(&station);
    uint64_t begin = tower_air_head(station.air);
    /* These come before it has begun, and when it has long been on air. */
    struct player *at[2] = {join_in_mid_frame(&station, begin - 16000), NULL};
    struct player *late[2] = {join_in_mid_frame(&station, begin - 16001), NULL};
    while (station.n_frames < 250)
        publish(&station);
    at[1] = join_in_mid_frame(&station, begin - 16000);
    late[1] = join_in_mid_frame(&station, begin - 16001);
    for (int i = 0; i < 2; i++) {
        while (before[i]->icy.n_titles < 1)
            play(before[i], SIZE_MAX);
        assert_int_equal(before[i]->icy.titles[0].at, i == 0 ? 16000 : 32000);
        assert_string_equal(before[i]->icy.titles[0].text, "old");
        while (at[i]->icy.n_titles < 1)
            play(at[i], SIZE_MAX);
        assert_int_equal(at[i]->icy.titles[0].at, 16000);
        assert_string_equal(at[i]->icy.titles[0].text, "new");
        while (late[i]->icy.n_titles < 2)
            play(late[i], SIZE_MAX);
        assert_int_equal(late[i]->icy.titles[0].at, 16000);
        assert_string_equal(late[i]->icy.titles[0].text, "old");
        assert_int_equal(late[i]->icy.titles[1].at, 32000);
        assert_string_equal(late[i]->icy.titles[1].text, "new");
        leave(before[i]);
        leave(at[i]);
        leave(late[i]);
    }
    end_station(&station);
}

static void who_is_moved_on_gets_whole_frames_and_whole_blocks(void **state) {
    (void)state;
    enum { WAYS = 12 };
    /* Overrun after more and more bytes, in the middle of frames and of blocks. */
    for (size_t way = 0; way < WAYS; way++) {
        struct station station = start_station(4);
        struct client good = join(&station, false);
        struct player *slow = join_with_titles(&station, true, 0);
        while (station.n_frames < 100) {
            uint32_t number = publish_titled(&station);
            assert_true(receive_frame(good.fd, &good.reader, number));
        }
        while (slow->bytes < 4000 + way * 1500)
            play(slow, 500);
        while (tower_air_head(station.air) < slow->bytes + RING_BYTES / 16 * 14) {
            uint32_t number = publish_titled(&station);
            assert_true(receive_frame(good.fd, &good.reader, number));
        }
        play_to(slow, station.n_frames - 1);
        assert_true(stats_of(&station).skips >= 1);
        assert_int_equal(slow->frames[0].number, 0);
        assert_true(slow->n_frames < station.n_frames - 100);
        /* From now on it has every frame like the others. */
        for (int i = 0; i < 100; i++) {
            uint32_t number = publish_titled(&station);
            assert_true(receive_frame(good.fd, &good.reader, number));
            play_to(slow, number);
        }
        assert_titles(slow);
        leave(slow);
        close(good.fd);
        end_station(&station);
    }
}

static void more_titles_than_fit_into_a_turn_come_without_another_frame(void **state) {
    (void)state;
    struct station station = start_station(1);
    while (station.n_frames < 400)
        publish_titled(&station);
    struct player *player = join_with_titles(&station, false, 0);
    play_to(player, 399);
    assert_titles(player);
    assert_true(player->icy.n_titles > 8);
    leave(player);
    end_station(&station);
}

static void who_wants_titles_where_there_are_none_gets_zeros(void **state) {
    (void)state;
    struct station station = make_station(1, 1);
    struct tower_fanout *unused = start_instead(
        &station, (struct tower_fanout_config){.clock = station.clock, .max_listeners = 1});
    struct player *player = join_with_titles(&station, false, 0);
    while (station.n_frames < 200)
        publish_titled(&station);
    play_to(player, 199);
    assert_int_equal(player->icy.n_blocks, player->bytes / ICY_READER_METAINT);
    assert_int_equal(player->icy.n_titles, 0);
    leave(player);
    tower_fanout_free(unused);
    end_station(&station);
}

int main(void) {
    watchdog_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_and_every_title_comes_through_small_buffers),
        cmocka_unit_test(a_title_changes_at_its_frame_for_each_listener),
        cmocka_unit_test(who_is_moved_on_gets_whole_frames_and_whole_blocks),
        cmocka_unit_test(more_titles_than_fit_into_a_turn_come_without_another_frame),
        cmocka_unit_test(who_wants_titles_where_there_are_none_gets_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
