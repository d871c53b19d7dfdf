/* pcm_socket.h - the PCM socket: producers' bytes in, whole frames to the router.
 *
 * A Unix stream socket, mode 0660. One producer is on air and the others wait, connected and
 * unread; when it goes, the next is on air at once. It is read only while the router has room, so a
 * producer that writes as fast as it can is slowed by its own socket and loses nothing.
 *
 * A producer may say who it is (tower/producer_identity.h). One that ranks above the one on air
 * takes its place, and is faded into it; that one goes on exactly where it was when it is back. One
 * that is live and waits is read, and what it sends is thrown away. One that says nothing is
 * anonymous, and ranks below all names that are listed.
 *
 * A title travels along with the bytes: a memory file (memfd_create()) with UTF-8 text, sent by
 * SCM_RIGHTS with the first byte it holds for. It holds from the frame which that byte lies in. So
 * does what a live source's clock is like: see tower/clock_report.h.
 */
#ifndef TOWER_PCM_SOCKET_H
#define TOWER_PCM_SOCKET_H

#include "tower/clock.h"
#include "tower/clock_report.h"
#include "tower/format.h"
#include "tower/input_monitor.h"
#include "tower/producer_identity.h"
#include "tower/router.h"

#include <stdbool.h>
#include <sys/types.h>

#define TOWER_PRODUCERS_MAX 32
/* The longest fade from one to another. */
#define TOWER_FADE_MAX_NS (5 * TOWER_NS_PER_S)

/* A producer's connection, as it stands. */
struct tower_producer_info {
    uint64_t id; /* counted from 1 */
    pid_t pid;   /* of the process that connected, 0 where not known */
    bool is_on_air;
    int64_t connected_ns;
    int64_t last_data_ns; /* INT64_MIN: has sent nothing yet */
    uint64_t bytes;       /* read so far */
    /* As it said last; not known until then, nor after the process that it said it to. */
    struct tower_clock_report clock;
    struct tower_producer_identity identity;
    uint32_t rank;         /* 0: the highest */
    bool is_chosen;        /* by hand */
    bool has_taken_over;   /* is on air as another made way for it, in this process */
    bool has_audio;        /* something of it waits to be read, or is being read */
    int64_t since_ns;      /* on air, or waiting, since */
    uint64_t thrown_bytes; /* read and thrown away, of a live one that waited */
};

struct tower_pcm_socket_config {
    struct tower_clock *clock;
    const char *path;
    /* A Unix stream socket that listens already, used in place of one at `path`; or NULL. Borrowed
     * until free: neither closed nor its file removed; made non-blocking and CLOEXEC. */
    const int *listen_fd;
    uint32_t frame_samples;
    struct tower_router *router;
    /* A programme that begins, or has run dry, waits in its socket for as long as this many frames
     * last before it is read, so that a live producer may be late by that (less what does not fill
     * a frame) without being heard to be. 0 to 16, and less than the router's capacity. */
    uint32_t cushion_frames;
    /* A producer on air that sends nothing for this long makes way for one that waits with audio.
     * 0: never. */
    int64_t idle_ns;
    /* Names of producers with white space between, the highest first; NULL: none, all are equal. */
    const char *priorities;
    /* For this long after somebody has lost the air, by going or being mute, nobody of a lower rank
     * makes way to another. 0: at once. */
    int64_t settle_ns;
    /* How long the fade lasts when one takes the air from another, up to whole frames; 0 to
     * TOWER_FADE_MAX_NS. 0: none. */
    int64_t fade_ns;
    bool is_realtime; /* ask for SCHED_FIFO below the encoder's; go on where refused */
    /* Judges what comes in, on the ingest thread. May be NULL. */
    struct tower_input_monitor *monitor;
    /* Mark dead air TOWER_FRAME_WITHHELD; nothing of the programme that returns is marked. */
    bool withholds_dead_air;
    /* What is playing, as the producer on air says it: `bytes` of UTF-8, at most
     * TOWER_TITLE_BYTES_MAX, not terminated, from that frame on which is the router's number
     * `pushed_count`, counted from 0 (so many were queued before it). Called on the ingest thread,
     * right before that frame is queued, so that whoever takes the frame knows its title; one call
     * for each frame at most. A producer that comes on air again has its last title still, and so
     * has one whose dead air was withheld, from the frame behind those that ended that; one that
     * has said none yet gives `text` NULL with that frame. May be NULL. */
    void (*on_title)(void *user, const char *text, size_t bytes, uint64_t pushed_count);
    /* That producer is on air from now on, or no longer is. On the ingest thread. May be NULL. */
    void (*on_producer)(void *user, const struct tower_producer_info *producer, bool is_on_air);
    void *user;
    /* The region that another socket left (0 or below: none), with the producers' descriptors open.
     * Who was on air stays there, with no byte of his lost or taken twice; a title is told again
     * while its first frame waits in the router. Dead air that was withheld still is, but the
     * frames that were held back for its end are lost. */
    int carried_fd;
};

struct tower_pcm_socket_stats {
    uint64_t accepted;                      /* connections since the start */
    uint64_t refused;                       /* closed at once: TOWER_PRODUCERS_MAX were connected */
    uint64_t bytes;                         /* read from producers */
    uint64_t frames;                        /* whole frames taken from producers */
    uint64_t partial_frames;                /* incomplete ones dropped at a disconnect (R12) */
    uint64_t partial_bytes;                 /* in them */
    uint64_t withheld_frames;               /* of those given, marked as dead air */
    uint64_t titles;                        /* that came with frames given to the router */
    uint64_t bad_titles;                    /* reads that brought a descriptor that is no title */
    size_t carried_producers;               /* whose connections another socket left */
    size_t lost_producers;                  /* of which it did, and they do not hold */
    uint64_t lost_frames;                   /* held back in the other one */
    uint64_t takeovers;                     /* of the air, by rank or by hand */
    char chosen[TOWER_PRODUCER_NAME_BYTES]; /* the name chosen by hand; "": it goes by rank */
    size_t n_producers;
    struct tower_producer_info producers[TOWER_PRODUCERS_MAX]; /* in the order they connected */
};

struct tower_pcm_socket;

/* Make the socket and listen; nobody is read yet. If the carried region holds it is this socket's,
 * and tower_pcm_socket_fd() is carried_fd; what does not hold, of it or of the producers, stays
 * open and the caller's, and a warning is logged. A missing folder is made (one level, mode 0755).
 * A socket file that nobody listens on any more is replaced. Errors: -EADDRINUSE (a live one is
 * there), -ENOTSOCK (something else is there), -ENAMETOOLONG (over 107 bytes), -EACCES, -ENOENT,
 * -EROFS (it cannot be made there), -EINVAL (also: `listen_fd` does not listen for Unix streams),
 * -EBADF, -ENOTSOCK (`listen_fd` is closed, is no socket), -ENOMEM, -EMFILE. */
int tower_pcm_socket_new(const struct tower_pcm_socket_config *config,
                         struct tower_pcm_socket **ret_socket);
/* Closes every producer and removes the socket file, if it is ours and still this one. Takes NULL.
 */
void tower_pcm_socket_free(struct tower_pcm_socket *socket);

/* The descriptor of the region; the socket's to close. */
int tower_pcm_socket_fd(const struct tower_pcm_socket *socket);

/* Which descriptors are producers' in the region behind `region_fd`, whoever fills it: each once,
 * and not known to be open. Returns how many are in `ret_fds`. For who keeps them open when the
 * process dies. */
size_t tower_pcm_socket_carried_fds(int region_fd, int ret_fds[TOWER_PRODUCERS_MAX]);

/* Start, stop the ingest thread. Errors: -EALREADY, -EAGAIN (no thread). */
int tower_pcm_socket_start(struct tower_pcm_socket *socket);
void tower_pcm_socket_stop(struct tower_pcm_socket *socket);

/* Have the producer of that name on air at once (or that of "#ID"), whatever the ranks, until it
 * goes or falls mute or another is chosen; `name` NULL or "": it goes by rank again. Of several the
 * one on air, or else with audio, or that came first. In a fade, once that is done. Any thread but
 * the pump's; a short lock. Errors: -ENOENT (no such producer is connected), -EAGAIN (it has
 * nothing to play). */
int tower_pcm_socket_choose(struct tower_pcm_socket *socket, const char *name);

/* Send `text` to the source client's producer of that name (is_source), on its own connection: its
 * length in bytes as 2 bytes little-endian, and UTF-8, cut at TOWER_TITLE_BYTES_MAX. The producer
 * sends it with its sound. Any thread but the pump's; a short lock. Errors: -ENOENT (no such source
 * client), -EAGAIN (it does not read), -EINVAL (not UTF-8). */
int tower_pcm_socket_send_title(struct tower_pcm_socket *socket, const char *name,
                                const char *text);

/* Any thread but the pump's; a short lock. */
void tower_pcm_socket_get_stats(struct tower_pcm_socket *socket,
                                struct tower_pcm_socket_stats *ret_stats);

#endif
