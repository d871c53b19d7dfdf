/* marked_frame.h - frames that say who wrote them and when, and show every torn byte.
 *
 * Each word of a frame follows from its writer, its sequence number and its place, so that a frame
 * put together from two others is found out, wherever the cut lies.
 */
#ifndef TOWER_TESTS_MARKED_FRAME_H
#define TOWER_TESTS_MARKED_FRAME_H

#include "tower/format.h"

#include <stdbool.h>
#include <string.h>

#define MARKED_FRAME_WORDS TOWER_FRAME_SAMPLES
#define MARKED_FRAME_BYTES (sizeof(uint32_t) * MARKED_FRAME_WORDS)
#define MARKED_WRITERS_MAX 8

struct marked_frame {
    uint32_t words[MARKED_FRAME_WORDS]; /* writer, sequence, then what follows from them */
};

static inline uint32_t marked_word(uint32_t writer, uint32_t sequence, uint32_t place) {
    uint32_t word = writer * 0x9e3779b1u ^ sequence * 0x85ebca77u ^ place * 0xc2b2ae3du;
    return word ^ (word >> 15);
}

static inline void marked_frame_fill(struct marked_frame *frame, uint32_t writer,
                                     uint32_t sequence) {
    frame->words[0] = writer;
    frame->words[1] = sequence;
    for (uint32_t i = 2; i < MARKED_FRAME_WORDS; i++) {
        frame->words[i] = marked_word(writer, sequence, i);
    }
}

static inline bool marked_frame_is_whole(const struct marked_frame *frame) {
    for (uint32_t i = 2; i < MARKED_FRAME_WORDS; i++) {
        if (frame->words[i] != marked_word(frame->words[0], frame->words[1], i)) {
            return false;
        }
    }
    return true;
}

static inline bool marked_frame_is(const struct marked_frame *frame, uint32_t writer,
                                   uint32_t sequence) {
    return frame->words[0] == writer && frame->words[1] == sequence && marked_frame_is_whole(frame);
}

/* What a reader makes of the frames it gets. */
struct marked_ledger {
    uint32_t next[MARKED_WRITERS_MAX]; /* the sequence number due from each writer */
    uint64_t n_frames;
    uint64_t n_torn;       /* not one frame as it was written */
    uint64_t n_missing;    /* jumped over */
    uint64_t n_disordered; /* came twice, or behind a later one */
};

static inline void marked_ledger_enter(struct marked_ledger *ledger,
                                       const struct marked_frame *frame) {
    uint32_t writer = frame->words[0];
    uint32_t sequence = frame->words[1];

    ledger->n_frames++;
    if (writer >= MARKED_WRITERS_MAX || !marked_frame_is_whole(frame)) {
        ledger->n_torn++;
    } else if (sequence < ledger->next[writer]) {
        ledger->n_disordered++;
    } else {
        ledger->n_missing += sequence - ledger->next[writer];
        ledger->next[writer] = sequence + 1;
    }
}

#endif
