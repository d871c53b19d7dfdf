/* cmd_tap.c - `tower tap`: the programme as PCM, to a file or a pipe. */
#include "cmd_tap.h"

#include "ask.h"
#include "fd.h"
#include "number_text.h"
#include "program.h"
#include "tower/clock.h"
#include "tower/levels.h"
#include "tower/tap.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PCM_PATH "/pcm"
#define CONNECT_TIMEOUT_NS (INT64_C(5) * TOWER_NS_PER_S)
/* Beyond the length of a chunk; then the connection counts as lost. */
#define SILENT_NS (INT64_C(5) * TOWER_NS_PER_S)
#define RETRY_NS (TOWER_NS_PER_S / 4)
#define SLICE_NS (TOWER_NS_PER_S / 5)
#define SECONDS_MAX 1e9
#define CHUNK_BYTES_MAX (TOWER_TAP_SAMPLES_MAX * 2 * sizeof(int16_t))

struct options {
    const char *url;
    const char *output; /* NULL: stdout */
    struct tower_tap_format format;
    double seconds; /* 0: until interrupted */
    bool is_help;
};

struct tapping {
    const struct options *options;
    struct tower_http_url url;
    struct tower_http_client *client; /* NULL: not connected */
    int fd;
    bool is_terminal;   /* stderr is one */
    uint64_t n_samples; /* written */
    uint64_t max_samples;
    uint64_t n_lost; /* chunks that this end was too slow for */
    uint64_t next_sequence;
    int64_t due_ns;    /* what the time of the next sample is if nothing is missing; 0: begun */
    int64_t missed_ns; /* in between connections */
    int64_t drawn_ns;
    struct tower_levels levels; /* since then */
    uint8_t chunk[TOWER_TAP_HEADER_BYTES + CHUNK_BYTES_MAX];
};

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number) {
    (void)number;
    is_interrupted = 1;
}

static void print_help(void) {
    printf(
        "Usage: tower tap [URL] [--rate HZ] [--channels N] [--samples N] [--timestamps] [--wav]\n"
        "                 [--output FILE] [--seconds N]\n"
        "\n"
        "Writes what is on air at the transmitter URL as PCM: signed 16-bit little-endian, the\n"
        "channels interleaved. URL is " TOWER_ASK_URL " where none is given. When the\n"
        "connection is lost it connects again, and says how much is missing.\n"
        "\n"
        "  --rate HZ      %d to %d (16000)\n"
        "  --channels N   1: the mean of both (1), or 2\n"
        "  --samples N    of each channel in a chunk, %d to %d (a tenth of a second)\n"
        "  --timestamps   put a header of %d bytes before each chunk: its time, its place in\n"
        "                 the stream and more; doc/pcm.md has its fields\n"
        "  --wav          put the header of a WAV file before the first; as a file whose name\n"
        "                 ends in .wav has\n"
        "  --output FILE  where to; - is stdout (-)\n"
        "  --seconds N    end after so much sound; 0: when interrupted (0)\n"
        "  --help         this\n"
        "\n"
        "Exit code: 0 all was written, or it was interrupted (Ctrl-C); 1 no transmitter answered\n"
        "at first, it gives no PCM, or the output cannot be written to; 2 bad usage.\n",
        TOWER_TAP_RATE_MIN_HZ, TOWER_TAP_RATE_MAX_HZ, TOWER_TAP_SAMPLES_MIN, TOWER_TAP_SAMPLES_MAX,
        TOWER_TAP_HEADER_BYTES);
}

/* ---- options ---- */

static int refuse_number(const char *option, const char *text, double low, double high) {
    (void)fprintf(stderr,
                  "tower tap: %s %s: expected a number from %.0f to %.0f; see `tower tap --help`\n",
                  option, text, low, high);
    return -EINVAL;
}

static int parse_number(const char *option, const char *text, uint32_t low, uint32_t high,
                        uint32_t *ret_number) {
    return tower_number_whole(text, low, high, ret_number) ? 0
                                                           : refuse_number(option, text, low, high);
}

static int parse_option(struct options *options, int letter, const char *name) {
    struct tower_tap_format *format = &options->format;
    switch (letter) {
    case 'r':
        return parse_number("--rate", optarg, TOWER_TAP_RATE_MIN_HZ, TOWER_TAP_RATE_MAX_HZ,
                            &format->rate_hz);
    case 'c':
        return parse_number("--channels", optarg, 1, 2, &format->channels);
    case 'n':
        return parse_number("--samples", optarg, TOWER_TAP_SAMPLES_MIN, TOWER_TAP_SAMPLES_MAX,
                            &format->samples);
    case 't':
        format->has_timestamps = true;
        return 0;
    case 'w':
        format->is_wav = true;
        return 0;
    case 'o':
        options->output = strcmp(optarg, "-") == 0 ? NULL : optarg;
        return 0;
    case 's':
        return tower_number_decimal(optarg, 0, SECONDS_MAX, &options->seconds)
                   ? 0
                   : refuse_number("--seconds", optarg, 0, SECONDS_MAX);
    case 'h':
        options->is_help = true;
        return 0;
    default:
        (void)fprintf(stderr, "tower tap: %s: %s; see `tower tap --help`\n", name,
                      letter == ':' ? "a value is missing" : "there is no such option");
        return -EINVAL;
    }
}

static int refuse(const char *what, const char *why) {
    (void)fprintf(stderr, "tower tap: %s: %s; see `tower tap --help`\n", what, why);
    return -EINVAL;
}

static bool is_wav_name(const char *name) {
    size_t length = name ? strlen(name) : 0;
    return length > 4 && strcasecmp(name + length - 4, ".wav") == 0;
}

static int parse_options(int argc, char **argv, struct options *ret_options) {
    static const struct option known[] = {
        {"rate", required_argument, NULL, 'r'},
        {"channels", required_argument, NULL, 'c'},
        {"samples", required_argument, NULL, 'n'},
        {"timestamps", no_argument, NULL, 't'},
        {"wav", no_argument, NULL, 'w'},
        {"output", required_argument, NULL, 'o'},
        {"seconds", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.url = TOWER_ASK_URL, .format = {.rate_hz = 16000, .channels = 1}};
    int letter;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        if (parse_option(&options, letter, argv[optind - 1]) < 0)
            return -EINVAL;
    }
    if (argc - optind > 1)
        return refuse(argv[optind + 1], "one address is enough");
    if (optind < argc)
        options.url = argv[optind];
    if (options.format.samples == 0)
        options.format.samples = options.format.rate_hz / 10;
    if (options.format.has_timestamps && (options.format.is_wav || is_wav_name(options.output)))
        return refuse("--timestamps", "a WAV file has no place for them");
    options.format.is_wav = options.format.is_wav || is_wav_name(options.output);
    if (!options.is_help && !options.output && isatty(STDOUT_FILENO))
        return refuse("stdout", "PCM is nothing for a terminal: say --output FILE, or pipe it");
    *ret_options = options;
    return 0;
}

/* Whole chunks and their times are asked for whatever is written: so what is missing is known. */
static int make_url(const struct options *options, struct tower_http_url *ret_url) {
    const struct tower_tap_format *format = &options->format;
    if (strchr(options->url, '?'))
        return refuse(options->url, "leave out the ? and what follows it");
    int error = tower_ask_url("tap", options->url, PCM_PATH, ret_url);
    if (error < 0)
        return error;
    char query[96];
    (void)snprintf(query, sizeof query, "?rate=%u&channels=%u&samples=%u&timestamps=1",
                   (unsigned)format->rate_hz, (unsigned)format->channels,
                   (unsigned)format->samples);
    size_t length = strlen(ret_url->path);
    if (length + strlen(query) >= sizeof ret_url->path)
        return refuse("the address", "it is too long");
    memcpy(ret_url->path + length, query, strlen(query) + 1);
    return 0;
}

/* ---- the output ---- */

static int open_output(struct tapping *tapping) {
    const char *path = tapping->options->output;
    tapping->fd = STDOUT_FILENO;
    if (path)
        tapping->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (tapping->fd < 0) {
        (void)fprintf(stderr, "tower tap: --output %s: cannot write there: %s\n", path,
                      strerror(errno));
        return -errno;
    }
    return 0;
}

/* Errors: -EINTR (interrupted, while nobody took it), what write() says (said). */
static int write_out(struct tapping *tapping, const uint8_t *bytes, size_t n) {
    while (n > 0) {
        ssize_t written = write(tapping->fd, bytes, n);
        if (written >= 0) {
            bytes += written;
            n -= (size_t)written;
        } else if (errno != EINTR) {
            int error = -errno;
            const char *path = tapping->options->output;
            (void)fprintf(stderr, "%stower tap: writing to %s: %s\n",
                          tapping->is_terminal ? "\r\033[K" : "", path ? path : "stdout",
                          strerror(-error));
            return error;
        } else if (is_interrupted) {
            return -EINTR;
        }
    }
    return 0;
}

/* Put the lengths into the WAV file's header, if it can be gone back to. */
static void finish_wav(const struct tapping *tapping) {
    struct stat file;
    const struct tower_tap_format *format = &tapping->options->format;
    uint64_t bytes = tapping->n_samples * format->channels * sizeof(int16_t);
    if (!format->is_wav || bytes > UINT32_MAX - TOWER_TAP_WAV_BYTES ||
        fstat(tapping->fd, &file) < 0 || !S_ISREG(file.st_mode))
        return;
    uint32_t data = htole32((uint32_t)bytes);
    uint32_t riff = htole32((uint32_t)bytes + TOWER_TAP_WAV_BYTES - 8);
    (void)!pwrite(tapping->fd, &riff, sizeof riff, 4);
    (void)!pwrite(tapping->fd, &data, sizeof data, TOWER_TAP_WAV_BYTES - 4);
}

/* ---- what is said meanwhile ---- */

static void say(const struct tapping *tapping, const char *what, double seconds) {
    (void)fprintf(stderr, "%stower tap: ", tapping->is_terminal ? "\r\033[K" : "");
    (void)fprintf(stderr, what, seconds);
    (void)fputc('\n', stderr);
}

static void draw(struct tapping *tapping, const struct tower_tap_header *header, int64_t now_ns) {
    if (!tapping->is_terminal || now_ns - tapping->drawn_ns < SLICE_NS)
        return;
    tapping->drawn_ns = now_ns;
    uint64_t s = tapping->n_samples / tapping->options->format.rate_hz;
    uint16_t peak = tapping->levels.peak[0];
    if (tapping->levels.peak[1] > peak)
        peak = tapping->levels.peak[1];
    (void)fprintf(stderr, "\r%llu:%02u:%02u  peak %6.1f dBFS  %s", (unsigned long long)(s / 3600),
                  (unsigned)(s / 60 % 60), (unsigned)(s % 60), tower_levels_dbfs(peak),
                  tower_origin_name((enum tower_origin)header->origin));
    if (tapping->n_lost > 0)
        (void)fprintf(stderr, "  %llu chunks lost", (unsigned long long)tapping->n_lost);
    (void)fprintf(stderr, "\033[K");
    tower_levels_reset(&tapping->levels);
}

static void add_level(struct tapping *tapping, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; tapping->is_terminal && i + sizeof(int16_t) <= n; i += sizeof(int16_t)) {
        int16_t pair[TOWER_CHANNELS];
        memcpy(&pair[0], bytes + i, sizeof pair[0]);
        pair[1] = pair[0];
        tower_levels_add(&tapping->levels, pair, 1);
    }
}

/* ---- the connection ---- */

/* One line of what a server says that gives no PCM. */
static void print_refusal(const struct tapping *tapping, struct tower_http_client *client) {
    char text[200] = "";
    int64_t n = tower_http_client_read(client, text, sizeof text - 1, TOWER_NS_PER_S);
    for (int64_t i = 0; i < n; i++) {
        bool is_plain = text[i] >= ' ' && text[i] <= '~';
        if (text[i] == '\n')
            text[i] = '\0';
        else if (!is_plain)
            text[i] = '?';
    }
    (void)fprintf(stderr, "tower tap: %s gives no PCM: %u %s%s%s\n", tapping->options->url,
                  tower_http_client_status(client), tower_http_client_status_words(client),
                  *text ? ": " : "", text);
}

/* Errors: -EINTR, -ENOTCONN (said, if `is_first`). */
static int connect_to_it(struct tapping *tapping, bool is_first) {
    struct tower_http_client *client = NULL;
    char reason[512];
    int error = tower_http_get(&tapping->url, CONNECT_TIMEOUT_NS, &is_interrupted, &client, reason,
                               sizeof reason);
    if (error < 0) {
        if (is_first && !is_interrupted)
            (void)fprintf(stderr, "tower tap: %s\n", reason);
        return is_interrupted ? -EINTR : -ENOTCONN;
    }
    if (tower_http_client_status(client) != 200) {
        if (is_first)
            print_refusal(tapping, client);
        tower_http_client_free(client);
        return -ENOTCONN;
    }
    tapping->client = client;
    tapping->next_sequence = 0;
    return 0;
}

/* Errors: -EINTR, -ENOTCONN (the connection is over, or as good as). */
static int read_whole(struct tapping *tapping, uint8_t *ret_bytes, size_t n) {
    const struct tower_tap_format *format = &tapping->options->format;
    struct tower_clock *clock = tower_clock_real();
    int64_t deadline_ns = tower_clock_now_ns(clock) + SILENT_NS +
                          tower_samples_to_ns(format->samples, (int64_t)format->rate_hz);
    while (n > 0) {
        int64_t got = tower_http_client_read(tapping->client, ret_bytes, n, SLICE_NS);
        if (is_interrupted)
            return -EINTR;
        if (got > 0) {
            ret_bytes += got;
            n -= (size_t)got;
        } else if ((got != -ETIMEDOUT && got != -EINTR) ||
                   tower_clock_now_ns(clock) > deadline_ns) {
            return -ENOTCONN;
        }
    }
    return 0;
}

/* How much is missing between this chunk and the last. */
static void note_gap(struct tapping *tapping, const struct tower_tap_header *header) {
    if (header->sequence > tapping->next_sequence)
        tapping->n_lost += header->sequence - tapping->next_sequence;
    if (tapping->due_ns != 0 && header->sequence == 0)
        say(tapping, "connected again; %.2f s are missing",
            (double)(header->time_ns - tapping->due_ns) / (double)TOWER_NS_PER_S);
    tapping->next_sequence = header->sequence + 1;
    tapping->due_ns =
        header->time_ns + tower_samples_to_ns(header->samples, tapping->options->format.rate_hz);
}

/* Errors: as for reading and writing, -EPROTO (what came is no chunk as asked for; said). */
static int pass_chunk(struct tapping *tapping) {
    const struct tower_tap_format *format = &tapping->options->format;
    size_t bytes = (size_t)format->samples * format->channels * sizeof(int16_t);
    struct tower_tap_header header;
    int error = read_whole(tapping, tapping->chunk, TOWER_TAP_HEADER_BYTES);
    if (error < 0)
        return error;
    if (tower_tap_header_read(tapping->chunk, &header) < 0 || header.bytes != bytes) {
        say(tapping, "what came is no chunk of PCM; is it a transmitter of this version?", 0);
        return -EPROTO;
    }
    error = read_whole(tapping, tapping->chunk + TOWER_TAP_HEADER_BYTES, bytes);
    if (error < 0)
        return error;
    note_gap(tapping, &header);
    uint64_t samples = format->samples;
    if (!format->has_timestamps && samples > tapping->max_samples - tapping->n_samples)
        samples = tapping->max_samples - tapping->n_samples;
    bytes = (size_t)samples * format->channels * sizeof(int16_t);
    error =
        write_out(tapping, tapping->chunk + (format->has_timestamps ? 0 : TOWER_TAP_HEADER_BYTES),
                  bytes + (format->has_timestamps ? TOWER_TAP_HEADER_BYTES : 0));
    if (error < 0)
        return error;
    tapping->n_samples += samples;
    add_level(tapping, tapping->chunk + TOWER_TAP_HEADER_BYTES, bytes);
    draw(tapping, &header, tower_clock_now_ns(tower_clock_real()));
    return 0;
}

/* The connection is lost: have another. Errors: -EINTR. */
static int connect_again(struct tapping *tapping) {
    struct tower_clock *clock = tower_clock_real();
    tower_http_client_free(tapping->client);
    tapping->client = NULL;
    say(tapping, "the connection is lost; connecting again", 0);
    int error = connect_to_it(tapping, false);
    while (error == -ENOTCONN) {
        (void)tower_clock_sleep_until(clock, tower_clock_now_ns(clock) + RETRY_NS);
        error = is_interrupted ? -EINTR : connect_to_it(tapping, false);
    }
    return error;
}

static int run(struct tapping *tapping) {
    uint8_t wav[TOWER_TAP_WAV_BYTES];
    int error = connect_to_it(tapping, true);
    /* Not before somebody answers: a file that is there stays as it is. */
    if (error == 0)
        error = open_output(tapping);
    if (error == 0 && tapping->options->format.is_wav) {
        tower_tap_wav_write(&tapping->options->format, wav);
        error = write_out(tapping, wav, sizeof wav);
    }
    while (error == 0 && tapping->n_samples < tapping->max_samples) {
        error = pass_chunk(tapping);
        if (error == -ENOTCONN)
            error = connect_again(tapping);
    }
    if (tapping->is_terminal && tapping->drawn_ns > 0)
        (void)fputc('\n', stderr);
    if (tapping->n_lost > 0)
        (void)fprintf(stderr, "tower tap: %llu chunks were lost: this end was too slow for them\n",
                      (unsigned long long)tapping->n_lost);
    if (tapping->fd >= 0)
        finish_wav(tapping);
    return error;
}

int tower_cmd_tap(int argc, char **argv) {
    struct options options;
    /* Too large for a stack. */
    static struct tapping tapping;
    if (parse_options(argc, argv, &options) < 0)
        return TOWER_EXIT_USAGE;
    if (options.is_help) {
        print_help();
        return TOWER_EXIT_OK;
    }
    tapping = (struct tapping){.options = &options,
                               .fd = -1,
                               .is_terminal = isatty(STDERR_FILENO) == 1,
                               .max_samples = UINT64_MAX};
    if (make_url(&options, &tapping.url) < 0)
        return TOWER_EXIT_USAGE;
    if (options.seconds > 0)
        tapping.max_samples = (uint64_t)(options.seconds * options.format.rate_hz + 0.5);
    tower_levels_reset(&tapping.levels);
    /* Without SA_RESTART, so that a wait under way ends at once. */
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int error = run(&tapping);
    tower_http_client_free(tapping.client);
    if (tapping.fd > STDERR_FILENO && close(tapping.fd) < 0 && error == 0) {
        (void)fprintf(stderr, "tower tap: writing to %s: %s\n", options.output, strerror(errno));
        error = -EIO;
    }
    return error == 0 || error == -EINTR ? TOWER_EXIT_OK : TOWER_EXIT_FAILED;
}
