/* pcm_framer.c - frames out of bytes: all of them, whole, in order, whatever comes at once.
 *
 * The first two bytes are the size of a frame.
 */
#include "fuzz.h"

#include "tower/framer.h"

#include <errno.h>

static void check_limits(struct tower_framer *framer) {
    size_t room;
    (void)tower_framer_space(framer, &room);
    size_t filled = framer->filled_bytes;
    FUZZ_REQUIRE(room > 0 && room + filled == framer->frame_bytes);
    FUZZ_REQUIRE(tower_framer_filled(framer, room + 1) == -EINVAL);
    FUZZ_REQUIRE(tower_framer_filled(framer, SIZE_MAX) == -EINVAL);
    FUZZ_REQUIRE(tower_framer_filled(framer, 0) == 0);
    FUZZ_REQUIRE(framer->filled_bytes == filled);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 2)
        return 0;
    size_t frame_bytes = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    bytes -= 2;
    /* On the heap, so that a byte too much is seen. */
    struct tower_framer *framer = malloc(sizeof *framer);
    FUZZ_REQUIRE(framer);
    int error = tower_framer_init(framer, frame_bytes);
    FUZZ_REQUIRE(error == (frame_bytes == 0 || frame_bytes > TOWER_FRAME_BYTES_MAX ? -EINVAL : 0));
    struct fuzz_pieces pieces = fuzz_pieces_of(data, bytes, 2 * TOWER_FRAME_BYTES_MAX);
    const uint8_t *frame = data;
    while (error == 0 && bytes > 0) {
        size_t room;
        check_limits(framer);
        void *space = tower_framer_space(framer, &room);
        size_t n = fuzz_next_piece(&pieces, bytes);
        if (n > room)
            n = room;
        memcpy(space, data, n);
        data += n;
        bytes -= n;
        int is_whole = tower_framer_filled(framer, n);
        FUZZ_REQUIRE(is_whole == (n == room));
        if (is_whole) {
            FUZZ_REQUIRE(memcmp(framer->frame, frame, frame_bytes) == 0);
            frame += frame_bytes;
        }
        if (fuzz_random(&pieces) % 64 == 0) {
            FUZZ_REQUIRE(tower_framer_discard(framer) == (size_t)(data - frame));
            frame = data;
        }
    }
    if (error == 0) {
        FUZZ_REQUIRE(tower_framer_discard(framer) == (size_t)(data - frame));
        FUZZ_REQUIRE(tower_framer_discard(framer) == 0);
    }
    free(framer);
    return 0;
}
