/* mp3_finder.c - frames in a stream of anything: each byte is accounted for, and the same is found
 * whatever pieces it comes in.
 */
#include "fuzz.h"

#include "mp3_finder.h"
#include "mp3_side.h"

struct found {
    const uint8_t *data;
    size_t bytes;
    size_t frame_bytes;
    size_t n_junk;
    uint64_t events; /* a hash of all of them in order */
    struct tower_mp3_reservoir reservoir;
    struct tower_mp3_finder finder;
};

static void note(struct found *found, uint64_t what) {
    found->events = (found->events ^ what) * UINT64_C(0x100000001b3);
}

static void on_frame(void *user, const uint8_t *data, const struct tower_mp3_header *header) {
    struct found *found = user;
    struct tower_mp3_header again;
    FUZZ_REQUIRE(tower_mp3_parse(data, header->frame_bytes, &again) == 0);
    FUZZ_REQUIRE(again.frame_bytes == header->frame_bytes);
    found->frame_bytes += header->frame_bytes;
    /* It is in the input, behind what came before. */
    const struct tower_mp3_finder *finder = &found->finder;
    size_t at = finder->tag_bytes + finder->leading_bytes + finder->junk_bytes +
                found->frame_bytes - header->frame_bytes;
    FUZZ_REQUIRE(at + header->frame_bytes <= found->bytes);
    FUZZ_REQUIRE(memcmp(found->data + at, data, header->frame_bytes) == 0);
    note(found, at);
    uint8_t *frame = malloc(header->frame_bytes);
    memcpy(frame, data, header->frame_bytes);
    enum tower_mp3_side_result side = tower_mp3_side_check(frame, header, &found->reservoir);
    FUZZ_REQUIRE(found->reservoir.left_bytes <= 511);
    note(found, side);
    free(frame);
}

static void on_junk(void *user) {
    struct found *found = user;
    FUZZ_REQUIRE(found->finder.lost_syncs > found->n_junk);
    found->n_junk++;
    note(found, UINT64_MAX);
}

static void run(const uint8_t *data, size_t bytes, struct fuzz_pieces pieces,
                struct found *ret_found) {
    memset(ret_found, 0, sizeof *ret_found);
    ret_found->data = data;
    ret_found->bytes = bytes;
    struct tower_mp3_finder *finder = &ret_found->finder;
    tower_mp3_finder_init(finder, &(struct tower_mp3_finder_events){
                                      .user = ret_found, .frame = on_frame, .junk = on_junk});
    for (size_t at = 0; at < bytes;) {
        size_t n = fuzz_next_piece(&pieces, bytes - at);
        /* On the heap, so that a byte too far is seen. */
        uint8_t *piece = malloc(n);
        memcpy(piece, data + at, n);
        tower_mp3_finder_feed(finder, piece, n);
        free(piece);
        at += n;
    }
    tower_mp3_finder_finish(finder);
    FUZZ_REQUIRE(finder->tag_bytes + finder->leading_bytes + finder->junk_bytes +
                     ret_found->frame_bytes + finder->fill_bytes ==
                 bytes);
    FUZZ_REQUIRE(finder->fill_bytes < 2048);
    FUZZ_REQUIRE(finder->format_changes <= finder->lost_syncs);
    FUZZ_REQUIRE(finder->frames > 0 || finder->lost_syncs == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct found whole, pieced;
    run(data, bytes, (struct fuzz_pieces){.state = 1, .largest = 65536}, &whole);
    run(data, bytes, fuzz_pieces_of(data, bytes, 3000), &pieced);
    FUZZ_REQUIRE(whole.events == pieced.events);
    FUZZ_REQUIRE(whole.finder.frames == pieced.finder.frames);
    FUZZ_REQUIRE(whole.finder.lost_syncs == pieced.finder.lost_syncs);
    FUZZ_REQUIRE(whole.finder.junk_bytes == pieced.finder.junk_bytes);
    FUZZ_REQUIRE(whole.finder.leading_bytes == pieced.finder.leading_bytes);
    FUZZ_REQUIRE(whole.finder.tag_bytes == pieced.finder.tag_bytes);
    FUZZ_REQUIRE(whole.finder.format_changes == pieced.finder.format_changes);
    return 0;
}
