/* outage.h - the time from a failure of the chosen encoder until it is on air again: what stood in
 * for it, and from which frame on.
 *
 * It is told of each failure and of each frame that goes out, and makes the manager's events of
 * that. No clock, no lock; all of it belongs to the encoder thread.
 */
#ifndef TOWER_ENCODER_OUTAGE_H
#define TOWER_ENCODER_OUTAGE_H

#include "delay_line.h"

#define TOWER_OUTAGE_DETAIL_BYTES 128

struct tower_encoder_outage {
    /* Constant. */
    void (*on_event)(void *user, const struct tower_encoder_event *event); /* NULL: nobody asks */
    void *user;

    bool was_primary;    /* the chosen encoder has been on air */
    uint64_t run_frames; /* by others, since it last was */
    bool is_open;
    bool is_told; /* that it failed: once something stands in */
    int64_t failed_ns;
    int64_t to_substitute_ns;
    uint64_t failures;
    uint64_t frames_spare;
    uint64_t frames_repair;
    const char *cause;
    char detail[TOWER_OUTAGE_DETAIL_BYTES];
};

/* The encoder failed, before the frame with number `frame`: `cause` in a word (a literal), `detail`
 * for people. While it is out this only counts. */
void tower_encoder_outage_fail(struct tower_encoder_outage *outage, const char *cause,
                               const char *detail, uint64_t frame, int64_t now_ns);

/* Frame number `frame` goes out, made by `maker`. `is_back`: by the chosen encoder, which runs. */
void tower_encoder_outage_emit(struct tower_encoder_outage *outage, uint64_t frame,
                               enum tower_delay_maker maker, bool is_back, int64_t now_ns);

#endif
