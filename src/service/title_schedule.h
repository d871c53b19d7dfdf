/* title_schedule.h - from which MP3 frame on a title holds that came with a PCM frame.
 *
 * A title is known by the number of its frame in the router's queue. The pump notes which frames it
 * takes and which it gives to the encoder: there the frame gets another number, since the fallback
 * fills in what is missing. From there on it is arithmetic: one MP3 frame comes of 1152 samples,
 * and the sound is late by what encoder and decoder delay it.
 */
#ifndef TOWER_SERVICE_TITLE_SCHEDULE_H
#define TOWER_SERVICE_TITLE_SCHEDULE_H

#include "tower/titles.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many titles can be under way. */
#define TOWER_TITLE_SCHEDULE_TITLES 8

struct tower_title_schedule;

/* For PCM frames of `frame_samples` and an encoder that delays by `encoder_delay_ns`.
 * Errors: -EINVAL (no samples, or a negative delay), -ENOMEM. */
int tower_title_schedule_new(uint32_t frame_samples, int64_t encoder_delay_ns,
                             struct tower_title_schedule **ret_schedule);
/* Takes NULL. */
void tower_title_schedule_free(struct tower_title_schedule *schedule);

/* Count on from where another schedule was: `popped` frames have been taken from the router, and
 * the next one that the encoder gets begins at sample `samples` of what goes on air, its delay not
 * counted; `has_ended`: the programme was over, and no other had begun. Before everything else. */
void tower_title_schedule_begin(struct tower_title_schedule *schedule, uint64_t popped,
                                uint64_t samples, bool has_ended);

/* What becomes of the title on air. */
enum tower_title_change {
    TOWER_TITLE_STAYS,
    TOWER_TITLE_IS_NEW,
    TOWER_TITLE_ENDS,    /* the programme that it was of is over */
    TOWER_TITLE_RESUMES, /* or was taken to be: its producer goes on */
};

/* A title, of at most TOWER_TITLE_BYTES_MAX (what is more is cut off), holds from the frame on
 * which is the router's number `frame`, counted from 0, and which is yet to be queued; `text` NULL:
 * a programme begins there that has none, and that of the one before ends. Numbers rise from call
 * to call. Where too many are under way the oldest is forgotten. Ingest thread; a short
 * lock. */
void tower_title_schedule_add(struct tower_title_schedule *schedule, const char *text, size_t bytes,
                              uint64_t frame);

/* The pump took a frame from the router; `is_heard`: and it goes on air, and with it a programme
 * that had ended, unless tower_title_schedule_add() says that it is another one. Pump thread, as
 * the next; no lock, never waits. */
void tower_title_schedule_note_pop(struct tower_title_schedule *schedule, bool is_heard);
/* The encoder took a frame, be it live or not. */
void tower_title_schedule_note_write(struct tower_title_schedule *schedule);

/* Where the frame that the encoder is given next is heard: a sample of the stream, decoded, whose
 * MP3 frame n begins with sample 1152 n. Pump thread. */
uint64_t tower_title_schedule_position(const struct tower_title_schedule *schedule);

/* The frame that the encoder is given next comes from the fallback, past the grace: the programme
 * that was on air is over, and its title with it. Once for each time suffices. Pump thread; as the
 * two above. */
void tower_title_schedule_note_end(struct tower_title_schedule *schedule);

/* MP3 frame `mp3_frame`, counted from 0 since the encoder's first, is about to go on air: does a
 * title hold from it on, or end, or hold again? A new one is copied to `ret_text`, of
 * TOWER_TITLE_BYTES_MAX bytes, and `*ret_bytes`; of several the last, and also one whose frame went
 * by unnoticed. Encoder thread; a short lock where any title is under way, and none where there is
 * not. */
enum tower_title_change tower_title_schedule_take(struct tower_title_schedule *schedule,
                                                  uint64_t mp3_frame, char *ret_text,
                                                  size_t *ret_bytes);

#endif
