/* producer.c - puts a tone on air, or with "-" what comes on stdin (s16le, 48 kHz, stereo).
 *
 *   cc producer.c -o producer $(pkg-config --cflags --libs libtower) -lm
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <tower/producer.h>

#define FRAME 1152 /* samples: what goes on air at a time, 24 ms */

int main(int argc, char **argv) {
    const int from_stdin = argc > 1 && strcmp(argv[1], "-") == 0;
    struct tower_producer *producer;
    int error = tower_producer_connect(NULL, &producer); /* TOWER_SOCKET_PATH, or the default */
    if (error < 0) {
        (void)fprintf(stderr, "producer: cannot connect to the transmitter: %s\n",
                      strerror(-error));
        return 1;
    }
    (void)tower_producer_set_title(producer, from_stdin ? "stdin" : "A tone"); /* what is playing */
    for (int at = 0; error == 0;) {
        int16_t samples[FRAME * 2];
        size_t n = FRAME;
        if (from_stdin)
            n = fread(samples, 2 * sizeof *samples, FRAME, stdin);
        for (size_t i = 0; i < n && !from_stdin; i++, at = (at + 1) % 48000)
            samples[i * 2] = samples[i * 2 + 1] =
                (int16_t)(8000 * sin(6.2831853 * 440 * at / 48000));
        if (n == 0)
            break;
        error = tower_producer_write(producer, samples, n); /* waits while we are ahead */
    }
    if (error < 0)
        (void)fprintf(stderr, "producer: the transmitter went away: %s\n", strerror(-error));
    tower_producer_close(producer, FRAME);
    return error < 0;
}
