/* input_monitor.h - what is wrong with what comes in, told apart.
 *
 * It is shown every whole frame of the producer on air and looks for nine faults. Each begins when
 * what speaks for it has lasted for a time with nothing against it in between, and ends when what
 * speaks against it has added up to a time without as much for it in a row, at a level a little
 * apart: so none flickers. Time within a programme is counted in its samples, so it is the same
 * for a producer that writes steadily and for one that writes in large pieces.
 *
 * The level of a channel is half the span between its largest and its smallest sample in a frame:
 * its peak, whatever constant it is shifted by. A channel is quiet below dead_air_dbfs.
 */
#ifndef TOWER_INPUT_MONITOR_H
#define TOWER_INPUT_MONITOR_H

#include "tower/format.h"

#include <stdbool.h>

enum tower_input_fault {
    TOWER_INPUT_DISCONNECTED,    /* no producer is connected */
    TOWER_INPUT_MUTE,            /* one is, and not a whole frame comes */
    TOWER_INPUT_DEAD_AIR,        /* both channels are quiet */
    TOWER_INPUT_DIGITAL_SILENCE, /* nothing but zeros: dead air with the reason */
    TOWER_INPUT_STUCK_DC,        /* a constant that is not zero: likewise */
    TOWER_INPUT_REPEATING,       /* the same frame, or the same few, over and over */
    TOWER_INPUT_CLIPPING,        /* cut off at full scale */
    TOWER_INPUT_LEFT_DEAD,       /* the left is quiet while the right is not */
    TOWER_INPUT_RIGHT_DEAD,      /* the other way round */
};
#define TOWER_INPUT_FAULT_COUNT 9

/* What is done about dead air. */
enum tower_dead_air_action {
    TOWER_DEAD_AIR_ALARM,    /* say so */
    TOWER_DEAD_AIR_FALLBACK, /* and put the fallback on air for as long as it lasts */
};

#define TOWER_INPUT_DEAD_AIR_AFTER_NS (10 * TOWER_NS_PER_S)
#define TOWER_INPUT_DEAD_AIR_DBFS (-60.0)

/* A level is no longer quiet when it is this much above: a noise floor that wavers at the
 * threshold does not end dead air. */
#define TOWER_INPUT_RETURN_DB 3.0
/* So many frames (72 ms) that are not quiet end dead air. One or two are a crackle, or a plug that
 * was touched; the shortest thing worth hearing, a pip or a syllable, is some 100 ms. */
#define TOWER_INPUT_RETURN_FRAMES 3
/* What ends every other fault: long enough that a crackle does not, and no listener depends on it.
 */
#define TOWER_INPUT_RETURN_NS TOWER_NS_PER_S

/* A feeder that goes from one file to the next, or connects anew, is back within a second. */
#define TOWER_INPUT_DISCONNECTED_AFTER_NS (2 * TOWER_NS_PER_S)
/* The longest that a live producer holds back on purpose: buffers of a second are common. */
#define TOWER_INPUT_MUTE_AFTER_NS (2 * TOWER_NS_PER_S)
/* Between two pieces of music there are up to 4 s of it. */
#define TOWER_INPUT_DIGITAL_SILENCE_AFTER_NS (5 * TOWER_NS_PER_S)
/* As silence between two pieces, from a converter or a disc that is off zero. */
#define TOWER_INPUT_STUCK_DC_AFTER_NS (5 * TOWER_NS_PER_S)
/* Of full scale, 1 %: sound converters are off zero by less. With a level of exactly nothing any
 * constant will do: every live converter has some noise. Half of it ends the fault. */
#define TOWER_INPUT_STUCK_DC_OFFSET 328
/* Longer than a bleep or a held note of a synthesizer, which can be the same to the bit. A test
 * tone that fits the frames is found too, and is no programme either. */
#define TOWER_INPUT_REPEATING_AFTER_NS (5 * TOWER_NS_PER_S)
/* A frame repeats if it is one of the last so many (384 ms at 1152 samples). A loop is found if
 * its length has a common multiple with a frame's within these: with 1152 samples, a loop of 480,
 * 512, 960, 1024 or 2048. More would find dance music, whose bars repeat to the bit every 480 ms.
 */
#define TOWER_INPUT_REPEATING_FRAMES 16
/* Samples at full scale, three in a row or more, of a channel's in a second. Music that is 6 dB
 * too loud for its input has about 4 %; one made loud on purpose stays below 1 % over seconds. Half
 * of it ends the fault. */
#define TOWER_INPUT_CLIPPING_RATIO 0.02
#define TOWER_INPUT_CLIPPING_RUN 3
#define TOWER_INPUT_CLIPPING_WINDOW_FRAMES 42
#define TOWER_INPUT_CLIPPING_AFTER_NS (5 * TOWER_NS_PER_S)
/* The other channel is this much above quiet. Old stereo records have whole verses on one side. */
#define TOWER_INPUT_CHANNEL_MARGIN_DB 20.0
#define TOWER_INPUT_CHANNEL_AFTER_NS (30 * TOWER_NS_PER_S)

/* A fault began or ended. */
struct tower_input_event {
    enum tower_input_fault fault;
    bool has_begun;   /* false: it is over */
    uint64_t frame;   /* frames shown so far, the one that settled it included */
    int64_t at_ns;    /* when it was settled */
    int64_t since_ns; /* when what speaks for it began */
};

struct tower_input_monitor_config {
    uint32_t frame_samples;    /* 1 to TOWER_FRAME_SAMPLES_MAX */
    int64_t dead_air_after_ns; /* 0: dead air is not looked for; the other faults are */
    double dead_air_dbfs;      /* -90 to -30 */
    /* Called from the functions that are given the time, on their thread. May be NULL. */
    void (*on_event)(void *user, const struct tower_input_event *event);
    void *user;
};

/* Each field is read on its own. */
struct tower_input_fault_stats {
    int64_t since_ns; /* when the present one began; INT64_MIN: there is none */
    uint64_t count;   /* since the start, the present one included */
    int64_t past_ns;  /* how long those that are over lasted in all */
};
struct tower_input_stats {
    uint64_t frames; /* shown so far */
    struct tower_input_fault_stats faults[TOWER_INPUT_FAULT_COUNT];
};

struct tower_input_monitor;

/* All memory it ever needs is taken here. Errors: -EINVAL (a value out of range), -ENOMEM. */
int tower_input_monitor_new(const struct tower_input_monitor_config *config,
                            struct tower_input_monitor **ret_monitor);
/* Takes NULL. */
void tower_input_monitor_free(struct tower_input_monitor *monitor);

/* The next five are for one thread at a time, and take no lock and no memory; `now_ns` is the time
 * on one clock and does not go back. */

/* Another monitor had found dead air, since `since_ns`, and it goes on. Before the first frame.
 * Returns whether it is looked for. */
bool tower_input_monitor_resume_dead_air(struct tower_input_monitor *monitor, int64_t since_ns,
                                         int64_t now_ns);

/* A whole frame of the producer on air has come: frame_samples of interleaved stereo. Some µs. */
void tower_input_monitor_show(struct tower_input_monitor *monitor, const void *frame,
                              int64_t now_ns);

/* The producer on air went, or made way for another: the faults of its signal are over, and what
 * spoke for one is forgotten. */
void tower_input_monitor_end_programme(struct tower_input_monitor *monitor, int64_t now_ns);

/* How things stand: is a producer connected, and is there something of the one on air that waits to
 * be read (then nobody can say yet that it sends nothing)? Returns when to call again at the
 * latest; INT64_MAX: only when either changes, or a frame was shown. */
int64_t tower_input_monitor_watch(struct tower_input_monitor *monitor, bool is_connected,
                                  bool has_unread, int64_t now_ns);

/* Is it there now? */
bool tower_input_monitor_has(const struct tower_input_monitor *monitor,
                             enum tower_input_fault fault);

/* Any thread; no lock. */
void tower_input_monitor_get_stats(const struct tower_input_monitor *monitor,
                                   struct tower_input_stats *ret_stats);

/* "disconnected", "mute", "dead_air", ...; "unknown" for anything else. */
const char *tower_input_fault_name(enum tower_input_fault fault);
/* For people: "no producer is connected", "dead air", "the left channel is dead". */
const char *tower_input_fault_text(enum tower_input_fault fault);

#endif
