/* monitor.c - what the input monitor costs a frame, on the ingest thread.
 *
 * bench/monitor [FRAMES] shows a monitor so many frames (100000) of each kind and prints the mean
 * time of a frame in µs. Exit code 1: it is over the limit.
 */
#include "tower/clock.h"
#include "tower/input_monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_US 10.0
#define KINDS 3

static const char *const kinds[KINDS] = {"noise", "full-scale square", "silence"};

static int16_t sample_of(int kind, int i) {
    if (kind == 0)
        return (int16_t)(rand() % 65536 - 32768); // NOLINT: any noise will do
    if (kind == 1)
        return i / 96 % 2 ? INT16_MAX : INT16_MIN;
    return 0;
}

static double measure_us(struct tower_input_monitor *monitor, int kind, long frames) {
    static int16_t audio[32][TOWER_FRAME_SAMPLES * TOWER_CHANNELS];
    for (int frame = 0; frame < 32; frame++) {
        for (int i = 0; i < TOWER_FRAME_SAMPLES * TOWER_CHANNELS; i++)
            audio[frame][i] = sample_of(kind, i);
    }
    int64_t begun_ns = tower_clock_now_ns(tower_clock_real());
    for (long i = 0; i < frames; i++)
        tower_input_monitor_show(monitor, audio[i % 32], i * INT64_C(24000000));
    return (double)(tower_clock_now_ns(tower_clock_real()) - begun_ns) / 1e3 / (double)frames;
}

int main(int argc, char **argv) {
    struct tower_input_monitor_config config = {
        .frame_samples = TOWER_FRAME_SAMPLES,
        .dead_air_after_ns = TOWER_INPUT_DEAD_AIR_AFTER_NS,
        .dead_air_dbfs = TOWER_INPUT_DEAD_AIR_DBFS,
    };
    struct tower_input_monitor *monitor;
    long frames = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
    int error = frames > 0 ? tower_input_monitor_new(&config, &monitor) : -EINVAL;
    if (error < 0) {
        (void)fprintf(stderr, "monitor: %s\n", strerror(-error));
        return 2;
    }
    int code = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        double us = measure_us(monitor, kind, frames);
        printf("%-18s %6.2f us a frame\n", kinds[kind], us);
        if (us > LIMIT_US)
            code = 1;
    }
    tower_input_monitor_free(monitor);
    return code;
}
