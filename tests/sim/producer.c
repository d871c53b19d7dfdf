/* producer.c - a course of programmes and gaps. */
#include "producer.h"

#include <errno.h>
#include <string.h>

#define SOCKET_BYTES 200000
/* It is read only while there is room, as the PCM socket does. */
#define MOST_A_WRITE 40000

static int64_t duration_ns(uint64_t bytes) {
    return tower_samples_to_ns((int64_t)(bytes / TOWER_SAMPLE_BYTES), TOWER_RATE_HZ);
}

int sim_producer_init(struct sim_producer *producer, struct sim_ledger *ledger,
                      struct tower_router *router, const struct sim_waves *waves, uint64_t seed) {
    memset(producer, 0, sizeof *producer);
    producer->ledger = ledger;
    producer->router = router;
    producer->waves = waves;
    producer->frame_bytes = ledger->frame_bytes;
    producer->random = sim_random_stream(seed, 'P');
    producer->write_ns = INT64_MAX;
    return tower_framer_init(&producer->framer, producer->frame_bytes);
}

/* ---- the ingest thread ---- */

static void begin_frame(struct sim_producer *producer) {
    uint64_t n = producer->taken_bytes / producer->frame_bytes;
    producer->content = sim_waves_at(producer->waves, producer->wave, producer->first_frame + n,
                                     producer->programmes << 32 | (n + 1));
}

static void push(struct sim_producer *producer, const void *frame,
                 const struct sim_content *content, bool is_withheld) {
    int result = tower_router_push_marked_frame(producer->router, frame, producer->frame_bytes,
                                                is_withheld ? TOWER_FRAME_WITHHELD : 0);
    sim_ledger_pushed(producer->ledger, content, is_withheld, result);
}

static bool may_push(const struct sim_producer *producer) {
    return producer->is_pushy ||
           sim_ledger_queued(producer->ledger) < producer->ledger->router.capacity;
}

bool sim_producer_has_more(const struct sim_producer *producer) {
    return producer->is_on_air && producer->taken_bytes < producer->written_bytes;
}

/* As far as the frame under way goes, or what there is. */
static void take(struct sim_producer *producer) {
    size_t offset = (size_t)(producer->taken_bytes % producer->frame_bytes);
    uint64_t left = producer->written_bytes - producer->taken_bytes;
    size_t bytes;
    void *space = tower_framer_space(&producer->framer, &bytes);
    bytes = bytes < left ? bytes : (size_t)left;
    if (offset == 0)
        begin_frame(producer);
    if (bytes == producer->frame_bytes) {
        sim_content_fill(&producer->content, space, bytes);
    } else {
        if (offset == 0)
            sim_content_fill(&producer->content, producer->frame, producer->frame_bytes);
        memcpy(space, producer->frame + offset, bytes);
    }
    producer->taken_bytes += bytes;
    if (tower_framer_filled(&producer->framer, bytes) == 1) {
        push(producer, producer->framer.frame, &producer->content, producer->withheld > 0);
        producer->withheld -= producer->withheld > 0;
    }
}

static void ingest(struct sim_producer *producer, int64_t now_ns) {
    if (now_ns < producer->blocked_until_ns)
        return;
    while (sim_producer_has_more(producer) && may_push(producer))
        take(producer);
}

/* ---- the producer ---- */

static int64_t next_change_ns(struct sim_producer *producer, int64_t now_ns) {
    int64_t mean_ns = producer->is_stormy ? TOWER_NS_PER_S : SIM_HOUR_NS / 4;
    int64_t at_ns = now_ns + sim_random_wait(&producer->random, mean_ns);
    return at_ns < producer->end_ns ? at_ns : producer->end_ns;
}

static void begin_programme(struct sim_producer *producer, int64_t now_ns) {
    struct sim_random *random = &producer->random;
    int64_t longest_ns = producer->is_stormy ? 20 * TOWER_NS_PER_S : 20 * SIM_HOUR_NS;
    producer->is_on_air = true;
    producer->programmes++;
    producer->is_pushy = sim_random_chance(random, 20);
    /* Mostly what a studio writes; else any wave. */
    producer->wave =
        sim_random_chance(random, 50) ? 0 : (unsigned)sim_random_below(random, SIM_WAVE_KINDS);
    producer->first_frame = sim_random_below(random, SIM_WAVE_FRAMES);
    producer->chunk_bytes = producer->frame_bytes;
    if (sim_random_chance(random, 30))
        producer->chunk_bytes = sim_random_chance(random, 50)
                                    ? 0
                                    : (size_t)sim_random_between(random, 500, MOST_A_WRITE);
    producer->jitter_ns =
        sim_random_chance(random, 30) ? sim_random_scale(random, SIM_MS, 60 * SIM_MS) : 0;
    producer->end_ns = now_ns + sim_random_scale(random, 10 * SIM_MS, longest_ns);
    producer->taken_bytes = 0;
    producer->withheld = 0;
    /* What it has ready when it connects keeps it ahead of the pump by that much. */
    producer->written_bytes = sim_random_below(random, 10 * producer->frame_bytes);
    producer->base_ns = now_ns - duration_ns(producer->written_bytes) +
                        duration_ns(sim_random_below(random, 4 * producer->frame_bytes));
    producer->write_ns = now_ns;
    producer->change_ns = next_change_ns(producer, now_ns);
    tower_router_mark_discontinuity(producer->router);
    sim_ledger_marked(producer->ledger);
}

static void end_programme(struct sim_producer *producer, int64_t now_ns) {
    struct sim_random *random = &producer->random;
    int64_t longest_ns = producer->is_stormy ? 10 * TOWER_NS_PER_S : SIM_HOUR_NS;
    /* What it has written is heard, also behind its end. */
    if (sim_producer_has_more(producer)) {
        producer->write_ns = INT64_MAX;
        producer->change_ns = now_ns + duration_ns(producer->frame_bytes);
        return;
    }
    size_t part = (size_t)(producer->taken_bytes % producer->frame_bytes);
    sim_ledger_discarded(producer->ledger, tower_framer_discard(&producer->framer), part);
    producer->is_on_air = false;
    producer->write_ns = INT64_MAX;
    /* The next one waits already, or comes in a while. */
    producer->change_ns = sim_random_chance(random, 40)
                              ? now_ns
                              : now_ns + sim_random_scale(random, SIM_MS, longest_ns);
}

/* Somebody pushes what is no frame; each time it must be refused. */
static void push_parts(struct sim_producer *producer) {
    const size_t sizes[] = {0, 1, producer->frame_bytes - 1, producer->frame_bytes + 4};
    uint8_t junk[TOWER_FRAME_BYTES_MAX + 4] = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        sim_ledger_pushed_part(producer->ledger,
                               tower_router_push_frame(producer->router, junk, sizes[i]));
}

/* Another writer pushes whole frames in between: another programme, and then this one again. */
static void interrupt(struct sim_producer *producer) {
    struct sim_random *random = &producer->random;
    unsigned wave = (unsigned)sim_random_below(random, SIM_WAVE_KINDS);
    uint64_t n = sim_random_below(random, 200);
    uint8_t frame[TOWER_FRAME_BYTES_MAX];
    tower_router_mark_discontinuity(producer->router);
    sim_ledger_marked(producer->ledger);
    for (uint64_t i = 0; i < n; i++) {
        struct sim_content content = sim_waves_at(
            producer->waves, wave, i, UINT64_C(1) << 63 | producer->programmes << 32 | (i + 1));
        sim_content_fill(&content, frame, producer->frame_bytes);
        push(producer, frame, &content, false);
    }
    tower_router_mark_discontinuity(producer->router);
    sim_ledger_marked(producer->ledger);
}

static void stall(struct sim_producer *producer, int64_t now_ns) {
    struct sim_random *random = &producer->random;
    int64_t longest_ns = producer->is_stormy ? 10 * TOWER_NS_PER_S : 120 * TOWER_NS_PER_S;
    int64_t for_ns = sim_random_scale(random, 5 * SIM_MS, longest_ns);
    /* Behind it all that was missed comes at once, or it goes on from there. */
    if (sim_random_chance(random, 60))
        producer->base_ns += for_ns;
    producer->write_ns = now_ns + for_ns;
}

static void change(struct sim_producer *producer, int64_t now_ns) {
    struct sim_random *random = &producer->random;
    if (!producer->is_on_air) {
        begin_programme(producer, now_ns);
        return;
    }
    if (now_ns >= producer->end_ns) {
        ingest(producer, now_ns);
        end_programme(producer, now_ns);
        return;
    }
    switch (sim_random_below(random, 6)) {
    case 0:
        push_parts(producer);
        break;
    case 1:
        interrupt(producer);
        break;
    case 2:
        /* Ahead of its time, by as much. */
        producer->base_ns -= sim_random_scale(random, SIM_MS, 3 * TOWER_NS_PER_S);
        producer->write_ns = now_ns;
        break;
    case 3:
        producer->withheld = (uint64_t)sim_random_scale(random, 1, 1000);
        break;
    default:
        stall(producer, now_ns);
        break;
    }
    producer->change_ns = next_change_ns(producer, now_ns);
}

static void write_some(struct sim_producer *producer, int64_t now_ns) {
    struct sim_random *random = &producer->random;
    size_t bytes = producer->chunk_bytes > 0 ? producer->chunk_bytes
                                             : (size_t)sim_random_between(random, 1, MOST_A_WRITE);
    /* Whose socket is full waits, and is late from then on. */
    if (producer->written_bytes - producer->taken_bytes + bytes > SOCKET_BYTES) {
        producer->base_ns += duration_ns(producer->frame_bytes);
        producer->write_ns = now_ns + duration_ns(producer->frame_bytes);
        return;
    }
    producer->written_bytes += bytes;
    producer->write_ns = producer->base_ns + duration_ns(producer->written_bytes);
    if (producer->jitter_ns > 0)
        producer->write_ns += sim_random_between(random, 0, producer->jitter_ns);
}

void sim_producer_run(struct sim_producer *producer, int64_t now_ns) {
    for (;;) {
        int64_t next_ns =
            producer->change_ns < producer->write_ns ? producer->change_ns : producer->write_ns;
        if (next_ns > now_ns)
            break;
        if (producer->change_ns <= producer->write_ns)
            change(producer, producer->change_ns);
        else
            write_some(producer, producer->write_ns);
        ingest(producer, now_ns);
    }
    ingest(producer, now_ns);
}
