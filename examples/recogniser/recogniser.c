/* recogniser.c - reads the programme as a speech recogniser would, and prints when somebody spoke.
 *
 *   tower tap --timestamps | ./recogniser          # 16 kHz mono in chunks of 100 ms
 *   cc recogniser.c -o recogniser $(pkg-config --cflags --libs libtower) -lm
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include <tower/tap.h>

#define SPEECH_DBFS (-40.0)
#define HOLD_CHUNKS 5 /* quiet for so long ends a segment: pauses between words do not */

static void print_time(int64_t ns) {
    const time_t s = (time_t)(ns / 1000000000);
    char text[32];
    struct tm day;
    (void)strftime(text, sizeof text, "%H:%M:%S", localtime_r(&s, &day));
    (void)printf("%s.%03d", text, (int)(ns / 1000000 % 1000));
}

static double level_dbfs(const int16_t *samples, uint32_t n) {
    double sum = 1e-9;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)samples[i] * samples[i];
    return 10 * log10(sum / n / 32768 / 32768);
}

static void print_segment(int64_t begin_ns, int64_t end_ns, uint64_t frame, double loudest_dbfs) {
    print_time(begin_ns);
    (void)printf(" to ");
    print_time(end_ns);
    (void)printf("  frame %" PRIu64 "  %.1f s  %.1f dBFS\n", frame,
                 (double)(end_ns - begin_ns) / 1e9, loudest_dbfs);
    (void)fflush(stdout);
}

int main(void) {
    static int16_t samples[TOWER_TAP_SAMPLES_MAX];
    uint8_t bytes[TOWER_TAP_HEADER_BYTES];
    struct tower_tap_header chunk;
    int64_t begin_ns = 0, end_ns = 0; /* of the segment; begin 0: nobody speaks */
    uint64_t frame = 0;
    double loudest_dbfs = 0;
    int n_quiet = 0;
    while (fread(bytes, sizeof bytes, 1, stdin) == 1) {
        if (tower_tap_header_read(bytes, &chunk) < 0 || chunk.samples > TOWER_TAP_SAMPLES_MAX ||
            chunk.bytes != chunk.samples * sizeof *samples) {
            (void)fprintf(stderr, "recogniser: not what `tower tap --timestamps` writes\n");
            return 1;
        }
        if (fread(samples, sizeof *samples, chunk.samples, stdin) != chunk.samples)
            break;
        /* Where a chunk does not follow on, a recogniser begins anew. */
        if (begin_ns != 0 && ((chunk.flags & TOWER_TAP_JUMP) || n_quiet >= HOLD_CHUNKS)) {
            print_segment(begin_ns, end_ns, frame, loudest_dbfs);
            begin_ns = 0;
        }
        const double dbfs = level_dbfs(samples, chunk.samples);
        n_quiet = dbfs < SPEECH_DBFS ? n_quiet + 1 : 0;
        if (n_quiet > 0)
            continue;
        if (begin_ns == 0) {
            begin_ns = chunk.time_ns;
            frame = chunk.air_frame;
            loudest_dbfs = dbfs;
        }
        loudest_dbfs = fmax(loudest_dbfs, dbfs);
        end_ns = chunk.time_ns + (int64_t)chunk.samples * 1000000000 / 16000;
    }
    if (begin_ns != 0)
        print_segment(begin_ns, end_ns, frame, loudest_dbfs);
    return 0;
}
