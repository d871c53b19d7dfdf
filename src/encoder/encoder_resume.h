/* encoder_resume.h - how far the encoder's PCM has gone on air, in the note of its queue's region.
 *
 * What is encoded can be encoded again, as long as the PCM is there, and the queue keeps what was
 * taken from it until that is written over. So all that has to outlive the process is the place in
 * the PCM at which the next MP3 frame to go on air begins.
 */
#ifndef TOWER_ENCODER_ENCODER_RESUME_H
#define TOWER_ENCODER_ENCODER_RESUME_H

#include "tower/frame_ring.h"

#include <stdbool.h>
#include <stdint.h>

/* Dropped frames are counted modulo one more than this. */
#define TOWER_ENCODER_DROPPED_MASK (UINT32_MAX >> 1)

/* A place from which encoding can begin again. */
struct tower_encoder_place {
    uint64_t frame;          /* number of a frame of the queue */
    uint32_t sample;         /* of it, < frame_samples */
    uint32_t settled_frames; /* of those dropped before, made up for or in owed_samples */
    uint64_t owed_samples;   /* dropped before, and not made up for yet */
    uint64_t silent_frames;  /* that go on air first: a new line has nothing else to give */
};

struct tower_encoder_resume; /* in the note */

/* Note that `air_frames` MP3 frames have gone on air in all, and from where the next one is made. A
 * death on the way leaves what was noted last. Encoder thread. */
void tower_encoder_resume_note(struct tower_encoder_resume *resume, uint64_t air_frames,
                               const struct tower_encoder_place *place);

/* The oldest frame that the queue can go back to. */
uint64_t tower_encoder_resume_oldest(const struct tower_frame_ring *queue);

/* Look at what another process noted in the queue, for frames of `frame_samples`, while
 * `air_frames` are on air. Returns true with a place that the queue reaches back to in `ret_place`,
 * in `ret_is_one_more` whether the first frame from there, or of the silent ones, is on air
 * already; what the queue does not have any more is among the samples owed. False if nothing is
 * there that holds. Either way the note is ready for use. */
bool tower_encoder_resume_open(struct tower_frame_ring *queue, uint32_t frame_samples,
                               uint64_t air_frames, struct tower_encoder_resume **ret_resume,
                               struct tower_encoder_place *ret_place, bool *ret_is_one_more);

#endif
