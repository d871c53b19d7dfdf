/* invariants_encoder.c - the rules of the encoder manager and the supervisor. */
#include "codec.h"
#include "invariants.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the encoder thread may fall behind before PCM is dropped. */
#define QUEUE_SAMPLES (64 * TOWER_FRAME_SAMPLES)
#define SETTLED_NS (60 * TOWER_NS_PER_S)
#define START_TIMEOUT_NS (5 * TOWER_NS_PER_S)
/* A child given up for being mute or deaf has half a second; for ending, a tenth. */
#define STALL_NS (600 * SIM_MS)
#define CLOSING_NS (100 * SIM_MS)
#define TICKS_NS (50 * SIM_MS)
/* ffmpeg in order is on air again. */
#define RETURN_NS (2 * TOWER_NS_PER_S)
/* Later than that and its frames are no use: the spare's have gone out. */
#define LATENCY_MAX_NS (150 * SIM_MS)

void sim_ledger_encoder_init(struct sim_ledger *ledger) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    encoder->queue_frames = QUEUE_SAMPLES / ledger->settings->frame_samples;
    encoder->answered_ns = INT64_MAX;
    encoder->start_due_ns = sim_now_ns();
}

void sim_ledger_disturbed(struct sim_ledger *ledger, int64_t now_ns) {
    if (now_ns > ledger->encoder.calm_ns)
        ledger->encoder.calm_ns = now_ns;
}

/* ---- frames ---- */

void sim_ledger_written(struct sim_ledger *ledger) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    bool is_dropped = encoder->queued == encoder->queue_frames;
    encoder->is_dropped[encoder->written++ % SIM_FATES] = is_dropped;
    encoder->dropped += is_dropped;
    encoder->queued += !is_dropped;
}

void sim_ledger_lame_failed(struct sim_ledger *ledger) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    /* Every block before this one is out or held back. */
    uint32_t block = (uint32_t)(encoder->out + 1);
    encoder->lame_failures[encoder->lame_failed++ % SIM_LAME_FAILURES] = block;
}

static bool has_lame_failed(const struct sim_encoder_rules *encoder, uint32_t nth_out) {
    for (uint64_t i = 0; i < SIM_LAME_FAILURES && i < encoder->lame_failed; i++) {
        if (encoder->lame_failures[i] == nth_out)
            return true;
    }
    return false;
}

void sim_ledger_output(struct sim_ledger *ledger, const uint8_t *frame, size_t bytes) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    struct sim_mp3 mp3;
    uint64_t nth_out = ++encoder->out;
    bool is_ours = sim_mp3_read(frame, bytes, &mp3);
    SIM_HOLDS(ledger, IN_ORDER, is_ours, "a frame that nobody encoded");
    if (!is_ours)
        return;
    bool is_silent = mp3.block.kind == SIM_BLOCK_SILENT;
    sim_ledger_hash(ledger, (uint64_t)mp3.block.first << 32 | mp3.build << 8 | mp3.block.kind);
    if (nth_out <= encoder->slots) {
        SIM_HOLDS(ledger, IN_ORDER, is_silent, "sound before there was any");
        return;
    }
    uint64_t nth_block = nth_out - encoder->slots - 1;
    uint32_t first = (uint32_t)(nth_block * TOWER_FRAME_SAMPLES);
    encoder->silent += is_silent;
    /* What an encoder of another build had left cannot be told from its frames. */
    if (mp3.is_flush && mp3.build != 0)
        return;
    SIM_HOLDS(ledger, JOIN,
              mp3.before.kind != SIM_BLOCK_UNKNOWN && mp3.before_that.kind != SIM_BLOCK_UNKNOWN &&
                  !mp3.is_flush,
              "a first or a last frame of an encoder");
    bool lame_failed = is_silent && has_lame_failed(encoder, (uint32_t)(nth_out - encoder->slots));
    if (ledger->settings->frame_samples == TOWER_FRAME_SAMPLES) {
        bool is_dropped = encoder->is_dropped[nth_block % SIM_FATES];
        if (is_dropped || is_silent)
            SIM_HOLDS(ledger, REPAIR, is_silent && (is_dropped || lame_failed),
                      "block %" PRIu64 " is %s", nth_block, is_silent ? "silence" : "no silence");
        else
            SIM_HOLDS(ledger, IN_ORDER,
                      mp3.block.kind == SIM_BLOCK_WHOLE && mp3.block.first == first,
                      "samples from %" PRIu32 " on in place of %" PRIu32, mp3.block.first, first);
    } else if (is_silent || mp3.block.kind == SIM_BLOCK_MIXED) {
        /* What was dropped is made up for to the sample, but within a block of it. */
        SIM_HOLDS(ledger, REPAIR, encoder->dropped > 0 || lame_failed, "block %" PRIu64 " is %s",
                  nth_block, is_silent ? "silence" : "mixed");
    } else {
        int32_t off = (int32_t)(mp3.block.first - first);
        int32_t limit = encoder->dropped > 0 ? 2 * TOWER_FRAME_SAMPLES : 0;
        SIM_HOLDS(ledger, IN_ORDER, off >= -limit && off <= limit,
                  "samples from %" PRIu32 " on in place of %" PRIu32, mp3.block.first, first);
    }
}

/* ---- the child ---- */

void sim_ledger_encoder_runs(struct sim_ledger *ledger, int64_t now_ns, bool can_start) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    encoder->is_start_due = ledger->settings->kind == TOWER_ENCODER_FFMPEG && !encoder->has_child &&
                            can_start && now_ns >= encoder->start_due_ns;
    encoder->has_started = false;
}

void sim_ledger_child_starts(struct sim_ledger *ledger, const struct sim_child_plan *plan,
                             bool has_another, unsigned open_fds, int64_t now_ns) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    SIM_HOLDS(ledger, START, encoder->is_start_due && !encoder->has_started,
              "%" PRId64 " ns before its time", encoder->start_due_ns - now_ns);
    SIM_HOLDS(ledger, ONE_CHILD, !has_another && !encoder->has_child && open_fds == 0,
              "another is there, %u descriptors of it open", open_fds);
    encoder->has_started = true;
    encoder->has_child = true;
    encoder->is_faulty = plan->fault == SIM_FAULT_CANNOT_START;
    encoder->fault = plan->fault;
    encoder->plan = *plan;
    encoder->started_ns = now_ns;
    encoder->answered_ns = INT64_MAX;
    sim_ledger_hash(ledger, (uint64_t)now_ns);
}

/* How long it may go on. */
static int64_t patience_ns(const struct sim_encoder_rules *encoder, enum sim_fault fault) {
    /* What it made before is still read. */
    int64_t latency_ns = encoder->plan.latency_ns;
    switch (fault) {
    case SIM_FAULT_CANNOT_START:
        break;
    case SIM_FAULT_EXIT:
    case SIM_FAULT_SIGNAL:
    case SIM_FAULT_PARTIAL:
    case SIM_FAULT_ORDERLY:
        return encoder->plan.reap_ns + TICKS_NS;
    case SIM_FAULT_CLOSE_OUT:
    case SIM_FAULT_CLOSE_IN:
    case SIM_FAULT_EXCESS:
        return latency_ns + CLOSING_NS + TICKS_NS;
    case SIM_FAULT_DEAF:
    case SIM_FAULT_MUTE:
        return latency_ns + STALL_NS + (encoder->answered_ns == INT64_MAX ? START_TIMEOUT_NS : 0);
    case SIM_FAULT_GARBAGE:
    case SIM_FAULT_OTHER_MP3:
        return latency_ns + TICKS_NS;
    }
    return 0;
}

void sim_ledger_child_faulted(struct sim_ledger *ledger, enum sim_fault fault, int64_t now_ns) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    encoder->is_faulty = true;
    encoder->prompt_ns = now_ns + patience_ns(encoder, fault);
}

void sim_ledger_child_answered(struct sim_ledger *ledger, int64_t now_ns) {
    ledger->encoder.answered_ns = now_ns;
}

/* What must be said of a child that failed so. */
static const char *words_for(enum sim_fault fault) {
    static const char *const words[SIM_FAULTS] = {
        [SIM_FAULT_CANNOT_START] = "could not be started: ",
        [SIM_FAULT_EXIT] = "ended with exit code 1;",
        [SIM_FAULT_SIGNAL] = "was killed by signal 9;",
        [SIM_FAULT_PARTIAL] = "was killed by signal 11;",
        [SIM_FAULT_ORDERLY] = "ended with exit code 255;",
        [SIM_FAULT_CLOSE_OUT] = "closed its pipe",
        [SIM_FAULT_CLOSE_IN] = "closed its pipe",
        [SIM_FAULT_DEAF] = "reads no PCM",
        [SIM_FAULT_MUTE] = "gives no MP3",
        [SIM_FAULT_GARBAGE] = "not MP3 as asked for",
        [SIM_FAULT_OTHER_MP3] = "not MP3 as asked for",
        [SIM_FAULT_EXCESS] = "more MP3 than",
    };
    return words[fault];
}

/* The wait that is due, in a row of failures. */
static int64_t backoff_ns(const struct sim_ledger *ledger) {
    const struct sim_settings *settings = ledger->settings;
    const struct sim_encoder_rules *encoder = &ledger->encoder;
    size_t last = settings->backoff_count - 1;
    return settings
        ->backoff_ns[encoder->is_degraded || encoder->row - 1 > last ? last : encoder->row - 1];
}

void sim_ledger_child_blamed(struct sim_ledger *ledger, const char *text) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    const char *next_try = strstr(text, "next try in ");
    if (!next_try)
        return;
    SIM_HOLDS(ledger, INNOCENT, encoder->has_child && encoder->is_faulty, "%s", text);
    SIM_HOLDS(ledger, TOLD_APART, strstr(text, words_for(encoder->fault)),
              "\"%s\" should be \"%s\"", text, words_for(encoder->fault));
    encoder->row++;
    encoder->is_degraded = encoder->row > ledger->settings->max_restarts;
    encoder->has_left = true;
    encoder->has_child = false;
    encoder->failures[encoder->fault]++;
    int64_t wait_ns = backoff_ns(ledger);
    char words[96];
    (void)snprintf(words, sizeof words, "next try in %" PRId64 " ms (failure %u in a row%s)",
                   wait_ns / SIM_MS, encoder->row, encoder->is_degraded ? ", degraded" : "");
    SIM_HOLDS(ledger, BACKOFF, strcmp(next_try, words) == 0, "\"%s\" should be \"%s\"", next_try,
              words);
    encoder->start_due_ns = sim_now_ns() + wait_ns;
    sim_ledger_hash(ledger, (uint64_t)encoder->start_due_ns);
}

/* ---- after each run of the encoder thread ---- */

static void compare_frames(struct sim_ledger *ledger, const struct tower_encoder_stats *stats) {
    const struct sim_encoder_rules *encoder = &ledger->encoder;
    uint64_t due = encoder->written * ledger->settings->frame_samples / TOWER_FRAME_SAMPLES;
    SIM_HOLDS(ledger, ONE_FOR_ONE,
              encoder->out == due && stats->frames_out == due &&
                  stats->frames_in == encoder->written && stats->queue_frames == 0,
              "%" PRIu64 " out (%" PRIu64 " counted), %" PRIu64 " due for %" PRIu64 " in",
              encoder->out, stats->frames_out, due, encoder->written);
    SIM_HOLDS(ledger, MAKERS,
              stats->frames_primary + stats->frames_spare + stats->frames_repair == due &&
                  stats->frames_repair == encoder->silent,
              "%" PRIu64 " primary, %" PRIu64 " spare, %" PRIu64 " repair (%" PRIu64
              " silent) of %" PRIu64,
              stats->frames_primary, stats->frames_spare, stats->frames_repair, encoder->silent,
              due);
}

static void compare_failures(struct sim_ledger *ledger, const struct tower_encoder_stats *stats) {
    const uint64_t *failures = ledger->encoder.failures;
    uint64_t exits = failures[SIM_FAULT_CANNOT_START] + failures[SIM_FAULT_EXIT] +
                     failures[SIM_FAULT_SIGNAL] + failures[SIM_FAULT_PARTIAL] +
                     failures[SIM_FAULT_ORDERLY];
    uint64_t closes = failures[SIM_FAULT_CLOSE_OUT] + failures[SIM_FAULT_CLOSE_IN];
    uint64_t refusals = failures[SIM_FAULT_DEAF];
    uint64_t mutes = failures[SIM_FAULT_MUTE];
    uint64_t garbage =
        failures[SIM_FAULT_GARBAGE] + failures[SIM_FAULT_OTHER_MP3] + failures[SIM_FAULT_EXCESS];
    SIM_HOLDS(ledger, TOLD_APART,
              stats->exits == exits && stats->closes == closes && stats->refusals == refusals &&
                  stats->mutes == mutes && stats->garbage == garbage,
              "%" PRIu64 " exits (%" PRIu64 "), %" PRIu64 " closes (%" PRIu64 "), %" PRIu64
              " refusals (%" PRIu64 "), %" PRIu64 " mutes (%" PRIu64 "), %" PRIu64
              " garbage (%" PRIu64 ")",
              stats->exits, exits, stats->closes, closes, stats->refusals, refusals, stats->mutes,
              mutes, stats->garbage, garbage);
}

/* A minute on air, and what was is forgotten. */
static void settle(struct sim_encoder_rules *encoder, int64_t now_ns) {
    bool may_be_ending =
        encoder->is_faulty && encoder->fault != SIM_FAULT_DEAF && encoder->fault != SIM_FAULT_MUTE;
    if (!encoder->has_child || may_be_ending || encoder->answered_ns == INT64_MAX ||
        now_ns - encoder->answered_ns < SETTLED_NS)
        return;
    encoder->row = 0;
    encoder->is_degraded = false;
}

static int64_t later(int64_t a_ns, int64_t b_ns) {
    return a_ns > b_ns ? a_ns : b_ns;
}

/* Since when ffmpeg has had no reason not to be on air; INT64_MAX: it has one. */
static int64_t in_order_since_ns(const struct sim_encoder_rules *encoder) {
    const struct sim_child_plan *plan = &encoder->plan;
    if (!encoder->has_child || encoder->is_faulty || plan->latency_ns > LATENCY_MAX_NS)
        return INT64_MAX;
    int64_t pause_until_ns = encoder->started_ns + plan->pause_ns + plan->pause_for_ns;
    int64_t since_ns = later(encoder->calm_ns, encoder->started_ns + plan->startup_ns);
    return pause_until_ns - plan->pause_for_ns <= sim_now_ns() ? later(since_ns, pause_until_ns)
                                                               : since_ns;
}

static void judge_ffmpeg(struct sim_ledger *ledger, int64_t now_ns, enum tower_encoder_state state,
                         uint64_t primary) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    settle(encoder, now_ns);
    /* It was on air within this run, and is not any more. */
    if (state == TOWER_ENCODER_RECOVERING && primary > encoder->stats.frames_primary)
        encoder->has_left = true;
    enum tower_encoder_state otherwise = encoder->is_degraded ? TOWER_ENCODER_DEGRADED
                                         : encoder->has_left  ? TOWER_ENCODER_RECOVERING
                                                              : TOWER_ENCODER_STARTING;
    if (state == TOWER_ENCODER_ON_AIR) {
        encoder->has_left = true;
        SIM_HOLDS(ledger, STATE, encoder->has_child && encoder->answered_ns != INT64_MAX,
                  "on air without ffmpeg");
    } else {
        SIM_HOLDS(ledger, STATE, state == otherwise, "%s, not %s (failure %u in a row)",
                  tower_encoder_state_name(state), tower_encoder_state_name(otherwise),
                  encoder->row);
    }
    int64_t since_ns = in_order_since_ns(encoder);
    if (since_ns != INT64_MAX && now_ns - since_ns >= RETURN_NS)
        SIM_HOLDS(ledger, RETURN, state == TOWER_ENCODER_ON_AIR, "%s, %" PRId64 " ms after",
                  tower_encoder_state_name(state), (now_ns - since_ns) / SIM_MS);
    if (encoder->has_child && encoder->is_faulty)
        SIM_HOLDS(ledger, PROMPT,
                  now_ns <= later(encoder->prompt_ns,
                                  encoder->calm_ns + patience_ns(encoder, encoder->fault)),
                  "%" PRId64 " ms late (%s)", (now_ns - encoder->prompt_ns) / SIM_MS,
                  words_for(encoder->fault));
}

static void judge_lame(struct sim_ledger *ledger, const struct tower_encoder_stats *stats) {
    const struct sim_encoder_rules *encoder = &ledger->encoder;
    if (encoder->out == 0)
        return;
    bool is_failed = encoder->lame_failed > 0 &&
                     has_lame_failed(encoder, (uint32_t)(encoder->out)) &&
                     stats->frames_repair > encoder->stats.frames_repair;
    if (is_failed)
        SIM_HOLDS(ledger, STATE, stats->state == TOWER_ENCODER_RECOVERING, "%s where LAME failed",
                  tower_encoder_state_name(stats->state));
    else if (stats->frames_primary > encoder->stats.frames_primary &&
             stats->frames_repair == encoder->stats.frames_repair)
        SIM_HOLDS(ledger, STATE, stats->state == TOWER_ENCODER_ON_AIR, "%s where LAME works",
                  tower_encoder_state_name(stats->state));
}

void sim_ledger_encoder_ran(struct sim_ledger *ledger, int64_t now_ns,
                            const struct tower_encoder_stats *stats) {
    struct sim_encoder_rules *encoder = &ledger->encoder;
    encoder->queued = 0;
    compare_frames(ledger, stats);
    if (ledger->settings->kind == TOWER_ENCODER_FFMPEG) {
        SIM_HOLDS(ledger, START, encoder->has_started == encoder->is_start_due,
                  "%" PRId64 " ns after its time, and not tried", now_ns - encoder->start_due_ns);
        compare_failures(ledger, stats);
        judge_ffmpeg(ledger, now_ns, stats->state, stats->frames_primary);
    } else {
        judge_lame(ledger, stats);
    }
    if (stats->state != encoder->stats.state)
        sim_ledger_hash(ledger, (uint64_t)stats->state);
    encoder->stats = *stats;
}
