/* settings.c - how the simulated station is set up. */
#include "tower/pump.h"
#include "tower/router.h"
#include "world.h"

void sim_settings_draw(struct sim_settings *settings, uint64_t seed, bool is_default) {
    static const int64_t default_backoff_ms[] = {1000, 2000, 4000, 8000, 10000};
    *settings = (struct sim_settings){
        .seed = seed,
        .frame_samples = TOWER_FRAME_SAMPLES,
        .capacity_frames = TOWER_ROUTER_CAPACITY_DEFAULT,
        .resync_after_ns = TOWER_PUMP_RESYNC_AFTER_NS,
        .grace_ns = 5 * TOWER_NS_PER_S,
        .has_file = true,
        .tone_hz = 440,
        .kind = TOWER_ENCODER_FFMPEG,
        .bitrate_bps = 128000,
        .backoff_count = 5,
        .max_restarts = 5,
        .has_wall_steps = true,
    };
    for (size_t i = 0; i < 5; i++)
        settings->backoff_ns[i] = default_backoff_ms[i] * SIM_MS;
    if (is_default)
        return;
    static const uint32_t samples[] = {1152, 1152, 1152, 1024, 1024, 960, 992};
    static const size_t capacities[] = {1, 2, 5, 20, 100, 100, SIM_CAPACITY_MAX};
    static const int64_t resyncs_ms[] = {0, 24, 250, 250, 1000};
    static const int64_t graces_us[] = {0, 1, 24000, 100000, 5000000, 30000000};
    static const double tones_hz[] = {0, 20, 440, 5000};
    static const uint32_t bitrates_bps[] = {32000, 64000, 128000, 320000};
    struct sim_random random = sim_random_stream(seed, 'S');
    /* What most stations have is tried most. */
    if (sim_random_chance(&random, 30)) {
        settings->kind = sim_random_chance(&random, 50) ? TOWER_ENCODER_FFMPEG : TOWER_ENCODER_LAME;
        return;
    }
#define ONE_OF(list) (list)[sim_random_below(&random, sizeof(list) / sizeof((list)[0]))]
    settings->frame_samples = ONE_OF(samples);
    settings->capacity_frames = ONE_OF(capacities);
    settings->resync_after_ns = ONE_OF(resyncs_ms) * SIM_MS;
    settings->grace_ns = ONE_OF(graces_us) * 1000;
    settings->has_file = sim_random_chance(&random, 60);
    settings->tone_hz = ONE_OF(tones_hz);
    settings->kind = sim_random_chance(&random, 75) ? TOWER_ENCODER_FFMPEG : TOWER_ENCODER_LAME;
    settings->bitrate_bps = ONE_OF(bitrates_bps);
#undef ONE_OF
    settings->backoff_count = (size_t)sim_random_between(&random, 1, TOWER_ENCODER_BACKOFF_MAX);
    for (size_t i = 0; i < settings->backoff_count; i++)
        settings->backoff_ns[i] = sim_random_between(&random, 100, 8000) * SIM_MS;
    settings->max_restarts = (uint32_t)sim_random_below(&random, 8);
}
