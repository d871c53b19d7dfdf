/* feed_link.h - the connection of `tower feed` to the transmitter: made, watched, made anew. */
#ifndef TOWER_CLI_FEED_LINK_H
#define TOWER_CLI_FEED_LINK_H

#include "feed_display.h"
#include "tower/clock.h"
#include "tower/producer.h"

#include <stddef.h>

enum tower_feed_link_state {
    TOWER_FEED_CONNECTING,   /* has never been connected */
    TOWER_FEED_ON_AIR,       /* connected, and the transmitter takes what is sent */
    TOWER_FEED_WAITING,      /* connected, and it takes nothing: another is on air, or it hangs */
    TOWER_FEED_RECONNECTING, /* the transmitter went away */
};

struct tower_feed_link {
    /* Constant. */
    struct tower_clock *clock;
    const char *path;
    const struct tower_producer_identity *identity; /* borrowed; said on every connection */
    struct tower_feed_display *display;             /* each change of state is said there, once */

    const char *title; /* the one at hand; NULL: none */

    struct tower_producer *producer; /* NULL: not connected */
    enum tower_feed_link_state state;
    int64_t next_try_ns;
    int64_t backoff_ns; /* before the next try but one */
    int said_error;     /* the last failure to connect that was said; 0: none */
    /* Of the connection at hand. */
    int queued_bytes;    /* in the socket, when last looked at */
    bool is_heard;       /* the transmitter has read something */
    int64_t progress_ns; /* when it last did, or had nothing to read */
    int64_t anchor_ns;   /* when sample `anchor_samples` went on air, as far as is known */
    uint64_t anchor_samples;
};

void tower_feed_link_init(struct tower_feed_link *link, struct tower_clock *clock, const char *path,
                          const struct tower_producer_identity *identity,
                          struct tower_feed_display *display);

/* Close the connection. Without padding: who wants that writes it. */
void tower_feed_link_done(struct tower_feed_link *link);

/* See whether the transmitter is there still, and whether it listens; connect if it is time to. */
void tower_feed_link_step(struct tower_feed_link *link);

bool tower_feed_link_is_up(const struct tower_feed_link *link);

/* Can a chunk be written without waiting for long? Only where it is up. */
bool tower_feed_link_has_room(const struct tower_feed_link *link);

/* Wait until it is time to connect, or a signal. Only where it is not up. */
void tower_feed_link_wait(struct tower_feed_link *link);

/* Write, waiting for room; only where it is up. Returns how many samples a channel were written:
 * fewer than given after a signal, or where the transmitter went away (then it is not up). */
size_t tower_feed_link_write(struct tower_feed_link *link, const int16_t *samples,
                             size_t n_samples);

/* The samples written from here on are of `title`, which is borrowed; so are the first ones of each
 * connection that is made anew. */
void tower_feed_link_set_title(struct tower_feed_link *link, const char *title);

/* Tell the transmitter how the source's clock stands, if it is there. */
void tower_feed_link_set_clock(struct tower_feed_link *link,
                               const struct tower_clock_report *report);

/* How far what was written is ahead of what is heard; 0 where that is nothing. */
int64_t tower_feed_link_ahead_ns(struct tower_feed_link *link);

/* For people. */
const char *tower_feed_link_state_name(const struct tower_feed_link *link);

#endif
