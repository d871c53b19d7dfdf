/* feed_link.c - the connection to the transmitter. */
#include "feed_link.h"

#include "tower/format.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#define BACKOFF_FIRST_NS (TOWER_NS_PER_S / 4)
#define BACKOFF_LAST_NS (5 * TOWER_NS_PER_S)
/* A transmitter that has something to read and does not for so long has another one on air: one
 * that listens reads a frame every 24 ms. */
#define WAITING_AFTER_NS (3 * TOWER_NS_PER_S / 2)

const char *tower_feed_link_state_name(const struct tower_feed_link *link) {
    static const char *const names[] = {"connecting", "on air", "waiting", "reconnecting"};
    /* What is live is taken also while another is on air, and thrown away. */
    if (link->state == TOWER_FEED_ON_AIR && link->identity->is_live)
        return "connected";
    return names[link->state];
}

void tower_feed_link_init(struct tower_feed_link *link, struct tower_clock *clock, const char *path,
                          const struct tower_producer_identity *identity,
                          struct tower_feed_display *display) {
    *link = (struct tower_feed_link){
        .clock = clock,
        .path = path,
        .identity = identity,
        .display = display,
        .state = TOWER_FEED_CONNECTING,
        .next_try_ns = INT64_MIN,
        .backoff_ns = BACKOFF_FIRST_NS,
    };
}

void tower_feed_link_done(struct tower_feed_link *link) {
    tower_producer_close(link->producer, 0);
    link->producer = NULL;
}

bool tower_feed_link_is_up(const struct tower_feed_link *link) {
    return link->producer != NULL;
}

static void put_off(struct tower_feed_link *link) {
    link->next_try_ns = tower_clock_now_ns(link->clock) + link->backoff_ns;
    link->backoff_ns *= 2;
    if (link->backoff_ns > BACKOFF_LAST_NS)
        link->backoff_ns = BACKOFF_LAST_NS;
}

static void say_why_not(struct tower_feed_link *link, int error) {
    bool is_absent = error == -ENOENT || error == -ECONNREFUSED;
    /* That it is not there is what "went away" has said already. */
    if (error == link->said_error || (is_absent && link->state == TOWER_FEED_RECONNECTING))
        return;
    link->said_error = error;
    if (is_absent)
        tower_feed_display_say(link->display,
                               "%s: no transmitter listens there; start one with tower serve, or "
                               "name its socket with --socket; trying on",
                               link->path);
    else if (error == -EACCES)
        tower_feed_display_say(link->display,
                               "%s: this user may not write to it; join the group it belongs to; "
                               "trying on",
                               link->path);
    else
        tower_feed_display_say(link->display, "%s: cannot connect: %s; trying on", link->path,
                               strerror(-error));
}

static void set_anchor(struct tower_feed_link *link, uint64_t samples, int64_t now_ns) {
    link->anchor_samples = samples;
    link->anchor_ns = now_ns;
}

static void send_title(struct tower_feed_link *link) {
    int error = link->title ? tower_producer_set_title(link->producer, link->title) : 0;
    if (error < 0)
        tower_feed_display_say(link->display, "%s: cannot send the title: %s", link->path,
                               strerror(-error));
}

void tower_feed_link_set_title(struct tower_feed_link *link, const char *title) {
    link->title = title;
    if (link->producer)
        send_title(link);
}

/* One that cannot say who it is waits behind all who can, and is better than none. */
static void send_identity(struct tower_feed_link *link) {
    int error = tower_producer_set_identity(link->producer, link->identity);
    if (error < 0)
        tower_feed_display_say(link->display, "%s: cannot say that this is %s: %s", link->path,
                               link->identity->name, strerror(-error));
}

static void try_to_connect(struct tower_feed_link *link) {
    int error = tower_producer_connect(link->path, &link->producer);
    if (error < 0) {
        put_off(link);
        say_why_not(link, error);
        return;
    }
    if (link->said_error != 0 || link->state == TOWER_FEED_RECONNECTING)
        tower_feed_display_say(link->display, "%s: connected", link->path);
    link->said_error = 0;
    link->state = TOWER_FEED_ON_AIR;
    link->queued_bytes = 0;
    link->is_heard = false;
    link->progress_ns = tower_clock_now_ns(link->clock);
    set_anchor(link, 0, link->progress_ns);
    send_identity(link);
    send_title(link);
}

static void lose(struct tower_feed_link *link, int error) {
    tower_producer_close(link->producer, 0);
    link->producer = NULL;
    link->state = TOWER_FEED_RECONNECTING;
    /* One that hangs up without having read anything would do so again at once. */
    if (link->is_heard)
        link->backoff_ns = BACKOFF_FIRST_NS;
    put_off(link);
    tower_feed_display_say(link->display, "%s: the transmitter went away (%s); reconnecting",
                           link->path, strerror(-error));
}

/* Is the transmitter reading? */
static void watch(struct tower_feed_link *link) {
    int64_t now_ns = tower_clock_now_ns(link->clock);
    int queued_bytes = 0;
    if (ioctl(tower_producer_fd(link->producer), SIOCOUTQ, &queued_bytes) < 0)
        return;
    uint64_t written = tower_producer_written(link->producer);
    bool is_read = queued_bytes < link->queued_bytes || (queued_bytes == 0 && written > 0);
    if (is_read)
        link->is_heard = true;
    if (is_read || queued_bytes == 0)
        link->progress_ns = now_ns;
    link->queued_bytes = queued_bytes;
    if (link->state == TOWER_FEED_ON_AIR && now_ns - link->progress_ns >= WAITING_AFTER_NS) {
        link->state = TOWER_FEED_WAITING;
        tower_feed_display_say(link->display,
                               "%s: connected, but the transmitter takes nothing: another producer "
                               "is on air, or it hangs; waiting",
                               link->path);
    } else if (link->state == TOWER_FEED_WAITING && is_read) {
        link->state = TOWER_FEED_ON_AIR;
        uint64_t queued = (uint64_t)queued_bytes / TOWER_SAMPLE_BYTES;
        set_anchor(link, written > queued ? written - queued : 0, now_ns);
        tower_feed_display_say(link->display, "%s: on air", link->path);
    }
}

void tower_feed_link_step(struct tower_feed_link *link) {
    if (!link->producer) {
        if (tower_clock_now_ns(link->clock) >= link->next_try_ns)
            try_to_connect(link);
        return;
    }
    struct pollfd hangup = {.fd = tower_producer_fd(link->producer), .events = 0};
    if (poll(&hangup, 1, 0) == 1 && (hangup.revents & (POLLHUP | POLLERR)))
        lose(link, -EPIPE);
    else
        watch(link);
}

bool tower_feed_link_has_room(const struct tower_feed_link *link) {
    struct pollfd writable = {.fd = tower_producer_fd(link->producer), .events = POLLOUT};
    return poll(&writable, 1, 0) == 1;
}

void tower_feed_link_wait(struct tower_feed_link *link) {
    (void)tower_clock_sleep_until(link->clock, link->next_try_ns);
}

size_t tower_feed_link_write(struct tower_feed_link *link, const int16_t *samples,
                             size_t n_samples) {
    uint64_t before = tower_producer_written(link->producer);
    int error = tower_producer_write(link->producer, samples, n_samples);
    uint64_t written = tower_producer_written(link->producer) - before;
    if (error < 0 && error != -EINTR)
        lose(link, error);
    return (size_t)written;
}

void tower_feed_link_set_clock(struct tower_feed_link *link,
                               const struct tower_clock_report *report) {
    /* It is told again soon, and the sound is what matters. */
    if (link->producer)
        (void)tower_producer_set_clock(link->producer, report);
}

int64_t tower_feed_link_ahead_ns(struct tower_feed_link *link) {
    if (!link->producer || link->state != TOWER_FEED_ON_AIR)
        return 0;
    int64_t now_ns = tower_clock_now_ns(link->clock);
    uint64_t written = tower_producer_written(link->producer);
    int64_t sent_ns = tower_samples_to_ns((int64_t)(written - link->anchor_samples), TOWER_RATE_HZ);
    int64_t ahead_ns = sent_ns - (now_ns - link->anchor_ns);
    if (ahead_ns >= 0)
        return ahead_ns;
    /* It has run dry in between: what comes now is heard now. */
    set_anchor(link, written, now_ns);
    return 0;
}
