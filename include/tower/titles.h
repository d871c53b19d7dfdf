/* titles.h - what is playing, and from which frame on.
 *
 * A title that is set waits until the air's writer reaches its frame. From there on it has a place
 * in the stream, the byte its first frame begins at, so that it holds for each listener at that
 * listener's own position, also one who is seconds behind.
 */
#ifndef TOWER_TITLES_H
#define TOWER_TITLES_H

#include <stddef.h>
#include <stdint.h>

/* "StreamTitle='", the text and "';" fill the 255 * 16 bytes of a metadata block. */
#define TOWER_TITLE_BYTES_MAX 4065
/* From the next frame that goes on air. */
#define TOWER_TITLE_FROM_NEXT UINT64_MAX
/* Whichever title is on air. */
#define TOWER_TITLE_ANY UINT64_MAX

struct tower_title {
    uint64_t number;                      /* counted from 1; 0: there has been none yet */
    uint64_t from_frame;                  /* MP3 frame of the air, counted from 0 */
    char text[TOWER_TITLE_BYTES_MAX + 1]; /* UTF-8; "" says that nothing is said */
};

struct tower_titles;

/* Errors: -ENOMEM, -EMFILE, -ENFILE. */
int tower_titles_new(struct tower_titles **ret_titles);

/* The same with the titles that had gone on air, from the region behind `fd` as a process that was
 * killed left it; -1 is tower_titles_new(). `head` is that of the air they are titles of. Returns 1
 * then. Where they do not hold, a warning is logged and there are none: returns 0. `fd` belongs to
 * the titles if tower_titles_fd() is the same then, else it is still the caller's, and open. Nobody
 * else uses the region. Errors: as above. */
int tower_titles_open(int fd, uint64_t head, struct tower_titles **ret_titles);

/* Of the region they lie in: for tower_titles_open() in the next process. Stays the titles'. */
int tower_titles_fd(const struct tower_titles *titles);

/* Nobody uses it any more. Takes NULL. */
void tower_titles_free(struct tower_titles *titles);

/* Have a title hold from MP3 frame `from_frame` of the air on; from the next one, if that has gone
 * by or is TOWER_TITLE_FROM_NEXT. Titles that wait for this frame or a later one are forgotten; and
 * if 32 wait, the last of them gives way. Control characters become spaces, the ends are trimmed,
 * and what is longer than TOWER_TITLE_BYTES_MAX is cut at a character. Any thread that may wait for
 * a short lock. Errors: -EINVAL (not UTF-8). */
int tower_titles_set(struct tower_titles *titles, const char *text, size_t bytes,
                     uint64_t from_frame);

/* The writer of the air says that it is about to publish frame number `frame`, which begins at byte
 * `cursor`: both rise from call to call. Never waits, nor allocates; an atomic load when no title
 * is due. Where a title is being set at this very moment, one that is due waits for the next frame.
 */
void tower_titles_mark(struct tower_titles *titles, uint64_t frame, uint64_t cursor);

/* The writer of the air puts a title on air from the frame on that it is about to publish, as if by
 * tower_titles_set() and tower_titles_mark() with nobody in between. `in_place_of`: the title that
 * has to be the one on air (0: none), with no other that is due; or TOWER_TITLE_ANY, and then none
 * waits any more. Returns its number; 0 if it was not put on air, or is not UTF-8. Waits at most
 * for the copying of a title. */
uint64_t tower_titles_put(struct tower_titles *titles, uint64_t in_place_of, const char *text,
                          size_t bytes, uint64_t frame, uint64_t cursor);

/* The title of the last frame put on air; number 0 and "" where there is none. Any thread, no lock.
 */
void tower_titles_get(const struct tower_titles *titles, struct tower_title *ret_title);

#endif
