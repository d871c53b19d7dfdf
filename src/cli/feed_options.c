/* feed_options.c - the command line of `tower feed`. */
#include "feed_options.h"

#include "bounds.h"
#include "identity_wire.h"
#include "number_text.h"
#include "playlist.h"
#include "playlist_source.h"
#include "program.h"
#include "tower/producer.h"
#include "utf8.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

/* What playlists are evened out to, and the range that a station may choose from. */
#define LUFS_DEFAULT (-16.0)
#define LUFS_MIN (-40.0)
#define LUFS_MAX (-5.0)
#define SEED_MAX 4294967295UL

static const char usage[] =
    "Usage: tower feed SOURCE [OPTION]...\n\n"
    "Puts a source on air: converts it to 48 kHz stereo and writes it to the transmitter's "
    "socket.\n"
    "Where the transmitter is not there, or goes away, it is tried again until it is back.\n\n"
    "SOURCE is one of:\n"
    "  FILE, file:FILE   an audio file: what libsndfile reads, and ffmpeg for the rest; sent as\n"
    "                    fast as the transmitter takes it, waits where there is none\n"
    "  PLAYLIST          a file .m3u, .m3u8, .pls or .xspf, or a folder: its audio files without "
    "a\n"
    "                    gap, as loud as each other; what cannot be read is passed over\n"
    "  -                 raw s16le PCM on stdin; waits where there is no transmitter\n"
    "  mock, mock:silence, mock:noise, mock:tone\n"
    "                    a test signal in real time; what can't be delivered is dropped\n"
    "  mic, mic:DEVICE   a microphone, or what else ALSA, PipeWire, PulseAudio or JACK captures\n"
    "                    from; what can't be delivered is dropped\n\n"
    "Options:\n"
    "  --socket PATH      the transmitter's socket (TOWER_SOCKET_PATH, else\n"
    "                     $XDG_RUNTIME_DIR/tower/pcm.sock or /run/tower/pcm.sock)\n"
    "  --name NAME        who this is, for the transmitter's priorities: live (of a microphone),\n"
    "                     playlist (of a list), file, stdin, mock\n"
    "  --loop             begin again at the end of the file or list, without a gap, until "
    "stopped\n"
    "  --shuffle          of a list: in another order each round\n"
    "  --seed N           of --shuffle: the same order each time for the same number\n"
    "  --crossfade SECS   of a list: the end of each file faded into the next, 0 to 30 (0)\n"
    "  --loudness LUFS    bring each file to this, -40 to -5, or off (-16 of a list, else off)\n"
    "  --paced            send a file or list in real time\n"
    "  --list             print the microphones that there are, and end\n"
    "  --rate HZ          of stdin, the mock and the microphone: 1000 to 384000 (48000)\n"
    "  --channels N       of stdin, the mock and the microphone: 1 to 8 (2)\n"
    "  --frame-samples N  the transmitter's frame, which the end is padded to: 1 to 1152 (1152)\n"
    "  --title TEXT       what is playing, for listeners' players; without it a file's artist and\n"
    "                     title, or its name, and nothing for the other sources\n"
    "  --no-title         say nothing of what is playing\n"
    "  --help             print this\n\n"
    "Exit code: 0 when the source has ended and all of it was written; 1 if it failed; 2 for bad\n"
    "usage. SIGINT, SIGTERM and SIGHUP end it in order: with 0 where that is the way to end it\n"
    "(stdin, mock, mic, --loop), with 1 where a file was cut short.\n";

enum {
    OPTION_SOCKET = 256,
    OPTION_NAME,
    OPTION_LIST,
    OPTION_LOOP,
    OPTION_SHUFFLE,
    OPTION_SEED,
    OPTION_CROSSFADE,
    OPTION_LOUDNESS,
    OPTION_PACED,
    OPTION_RATE,
    OPTION_CHANNELS,
    OPTION_FRAME_SAMPLES,
    OPTION_TITLE,
    OPTION_NO_TITLE,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"name", required_argument, NULL, OPTION_NAME},
    {"list", no_argument, NULL, OPTION_LIST},
    {"loop", no_argument, NULL, OPTION_LOOP},
    {"shuffle", no_argument, NULL, OPTION_SHUFFLE},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"crossfade", required_argument, NULL, OPTION_CROSSFADE},
    {"loudness", required_argument, NULL, OPTION_LOUDNESS},
    {"paced", no_argument, NULL, OPTION_PACED},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"channels", required_argument, NULL, OPTION_CHANNELS},
    {"frame-samples", required_argument, NULL, OPTION_FRAME_SAMPLES},
    {"title", required_argument, NULL, OPTION_TITLE},
    {"no-title", no_argument, NULL, OPTION_NO_TITLE},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static int __attribute__((format(printf, 1, 2))) refuse(const char *format, ...) {
    va_list arguments;
    (void)fputs("tower feed: ", stderr);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputs("; see tower feed --help\n", stderr);
    return TOWER_EXIT_USAGE;
}

static int read_number(const char *flag, const char *text, uint32_t min, uint32_t max,
                       uint32_t *ret_value) {
    if (!tower_number_whole(text, min, max, ret_value))
        return refuse("--%s %s: expected a whole number from %u to %u", flag, text, (unsigned)min,
                      (unsigned)max);
    return -1;
}

static int read_crossfade(struct tower_feed_options *options, const char *text) {
    double seconds;
    if (!tower_number_decimal(text, 0, TOWER_PLAYLIST_CROSSFADE_MAX_S, &seconds))
        return refuse("--crossfade %s: expected a number of seconds from 0 to %d", text,
                      TOWER_PLAYLIST_CROSSFADE_MAX_S);
    options->crossfade_ns = llrint(seconds * (double)TOWER_NS_PER_S);
    return -1;
}

static int read_loudness(struct tower_feed_options *options, const char *text) {
    options->is_levelled = strcasecmp(text, "off") != 0;
    if (options->is_levelled &&
        !tower_number_decimal(text, LUFS_MIN, LUFS_MAX, &options->target_lufs))
        return refuse("--loudness %s: expected a number from -40 to -5, or off", text);
    return -1;
}

/* Who it is; `flag` NULL: as its kind says. */
static int set_identity(struct tower_feed_options *options, const char *flag) {
    static const char *const names[] = {
        [TOWER_FEED_MOCK] = "mock",         [TOWER_FEED_FILE] = "file",
        [TOWER_FEED_PLAYLIST] = "playlist", [TOWER_FEED_STDIN] = "stdin",
        [TOWER_FEED_MIC] = "live",
    };
    const char *name = flag ? flag : names[options->kind];
    if (!tower_identity_name_is_valid(name))
        return refuse("--name %s: expected 1 to %d of a-z, 0-9, '.', '_' and '-'", name,
                      TOWER_PRODUCER_NAME_BYTES - 1);
    memcpy(options->identity.name, name, strlen(name) + 1);
    options->identity.is_live = options->kind == TOWER_FEED_MIC;
    return -1;
}

static int set_socket_path(struct tower_feed_options *options, const char *flag) {
    const char *variable = getenv("TOWER_SOCKET_PATH");
    const char *from = flag ? "--socket " : "TOWER_SOCKET_PATH=";
    const char *path = flag ? flag : variable;
    if (flag && *flag == '\0')
        return refuse("--socket: expected a path");
    if (!path || *path == '\0') {
        if (tower_socket_path_default(options->socket_path, sizeof options->socket_path) == 0)
            return -1;
        return refuse("XDG_RUNTIME_DIR is too long for a socket's path; name one with --socket");
    }
    if (strlen(path) >= sizeof options->socket_path)
        return refuse("%s%s: a socket's path has at most %zu bytes", from, path,
                      sizeof options->socket_path - 1);
    memcpy(options->socket_path, path, strlen(path) + 1);
    return -1;
}

static int set_source(struct tower_feed_options *options, const char *word) {
    static const struct {
        const char *word;
        enum tower_mock_content content;
    } mocks[] = {
        {"mock", TOWER_MOCK_SILENCE},
        {"mock:silence", TOWER_MOCK_SILENCE},
        {"mock:noise", TOWER_MOCK_NOISE},
        {"mock:tone", TOWER_MOCK_TONE},
    };
    options->name = word;
    if (strcmp(word, "-") == 0) {
        options->kind = TOWER_FEED_STDIN;
        options->name = "stdin";
        return -1;
    }
    for (size_t i = 0; i < sizeof mocks / sizeof *mocks; i++) {
        if (strcmp(word, mocks[i].word) == 0) {
            options->kind = TOWER_FEED_MOCK;
            options->content = mocks[i].content;
            return -1;
        }
    }
    if (strncmp(word, "mock:", 5) == 0)
        return refuse("%s: expected mock:silence, mock:noise or mock:tone (a file of that name is "
                      "file:%s)",
                      word, word);
    if (strcmp(word, "mic") == 0 || strncmp(word, "mic:", 4) == 0) {
        options->kind = TOWER_FEED_MIC;
        options->device = word[3] == ':' ? word + 4 : NULL;
        return word[3] == ':' && word[4] == '\0'
                   ? refuse("mic:: expected a device's name; see tower feed --list")
                   : -1;
    }
    options->kind = TOWER_FEED_FILE;
    options->path = strncmp(word, "file:", 5) == 0 ? word + 5 : word;
    options->name = options->path;
    return *options->path == '\0' ? refuse("'%s': expected the path of a file", word) : -1;
}

/* What was said of how to play files. */
struct listing {
    bool has_loudness;
    bool has_crossfade;
    bool has_seed;
};

/* A list of files, or one file with something that only lists can do. */
static int choose_playlist(struct tower_feed_options *options, const struct listing *said) {
    bool is_list = options->kind == TOWER_FEED_FILE && tower_playlist_is_one(options->path);
    bool is_asked_for = options->is_shuffled || said->has_crossfade || said->has_loudness;
    if (is_asked_for && options->kind != TOWER_FEED_FILE)
        return refuse("--shuffle, --crossfade and --loudness are for files and lists of files");
    if (said->has_seed && !options->is_shuffled)
        return refuse("--seed is for --shuffle");
    if (is_list && !said->has_loudness)
        options->is_levelled = true;
    if (is_list || options->is_shuffled || options->crossfade_ns > 0 || options->is_levelled)
        options->kind = TOWER_FEED_PLAYLIST;
    if (options->is_shuffled && !said->has_seed &&
        getrandom(&options->seed, sizeof options->seed, 0) < 0)
        return refuse("--shuffle: no random number is to be had (%s); name a --seed",
                      strerror(errno));
    return -1;
}

/* What does not go together. */
static int check(const struct tower_feed_options *options, bool has_format) {
    if ((options->kind == TOWER_FEED_FILE || options->kind == TOWER_FEED_PLAYLIST) && has_format)
        return refuse("--rate and --channels are for stdin, the mock and the microphone: a file "
                      "says its own");
    if (options->kind == TOWER_FEED_STDIN && options->is_looped)
        return refuse("--loop is for files: stdin comes only once");
    if (options->kind == TOWER_FEED_STDIN && options->is_paced)
        return refuse("--paced is for files: stdin is sent as it comes");
    if (options->kind == TOWER_FEED_MIC && (options->is_looped || options->is_paced))
        return refuse("--loop and --paced are for files: a microphone goes on by itself");
    if (options->title && !options->sends_title)
        return refuse("--title and --no-title: one of them");
    if (options->title && !tower_utf8_is_valid(options->title, strlen(options->title)))
        return refuse("--title: expected text in UTF-8");
    if (options->kind == TOWER_FEED_STDIN && isatty(STDIN_FILENO))
        return refuse("stdin is a terminal: pipe raw s16le PCM into it");
    return -1;
}

int tower_feed_options_read(struct tower_feed_options *ret_options, int argc, char **argv) {
    struct tower_feed_options options = {
        .rate_hz = TOWER_RATE_HZ,
        .channels = TOWER_CHANNELS,
        .frame_samples = TOWER_FRAME_SAMPLES,
        .sends_title = true,
        .target_lufs = LUFS_DEFAULT,
    };
    struct listing said = {false, false, false};
    uint32_t seed = 0;
    const char *socket_path = NULL;
    const char *name = NULL;
    bool has_format = false;
    int exit_code = -1;
    int option;
    opterr = 0;
    optind = 0; /* begin anew, whatever was read before */
    while (exit_code < 0 && (option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        switch (option) {
        case OPTION_SOCKET:
            socket_path = optarg;
            break;
        case OPTION_NAME:
            name = optarg;
            break;
        case OPTION_LIST:
            options.lists_devices = true;
            break;
        case OPTION_LOOP:
            options.is_looped = true;
            break;
        case OPTION_SHUFFLE:
            options.is_shuffled = true;
            break;
        case OPTION_SEED:
            said.has_seed = true;
            exit_code = read_number("seed", optarg, 1, SEED_MAX, &seed);
            options.seed = seed;
            break;
        case OPTION_CROSSFADE:
            said.has_crossfade = true;
            exit_code = read_crossfade(&options, optarg);
            break;
        case OPTION_LOUDNESS:
            said.has_loudness = true;
            exit_code = read_loudness(&options, optarg);
            break;
        case OPTION_PACED:
            options.is_paced = true;
            break;
        case OPTION_RATE:
            has_format = true;
            exit_code = read_number("rate", optarg, TOWER_SOURCE_RATE_MIN_HZ,
                                    TOWER_SOURCE_RATE_MAX_HZ, &options.rate_hz);
            break;
        case OPTION_CHANNELS:
            has_format = true;
            exit_code =
                read_number("channels", optarg, 1, TOWER_SOURCE_CHANNELS_MAX, &options.channels);
            break;
        case OPTION_FRAME_SAMPLES:
            exit_code = read_number("frame-samples", optarg, 1, TOWER_FRAME_SAMPLES_MAX,
                                    &options.frame_samples);
            break;
        case OPTION_TITLE:
            options.title = optarg;
            break;
        case OPTION_NO_TITLE:
            options.sends_title = false;
            break;
        case OPTION_HELP:
        case 'h':
            (void)fputs(usage, stdout);
            return TOWER_EXIT_OK;
        case ':':
            return refuse("%s: expected a value behind it", argv[optind - 1]);
        default:
            /* Behind an unknown letter there may be others in the same word. */
            if (optopt > 0 && optopt < OPTION_SOCKET)
                return refuse("-%c: no such option", optopt);
            return refuse("%s: no such option, or one that takes no value", argv[optind - 1]);
        }
    }
    if (exit_code >= 0)
        return exit_code;
    if (options.lists_devices && optind >= argc) {
        *ret_options = options;
        return -1;
    }
    if (optind >= argc)
        return refuse("expected a source: a file, a playlist, - for stdin, mock or mic");
    if (optind + 1 < argc)
        return refuse("'%s': one source only; %s is the first", argv[optind + 1], argv[optind]);
    exit_code = set_source(&options, argv[optind]);
    if (exit_code < 0)
        exit_code = choose_playlist(&options, &said);
    if (exit_code < 0)
        exit_code = check(&options, has_format);
    if (exit_code < 0)
        exit_code = set_identity(&options, name);
    if (exit_code < 0)
        exit_code = set_socket_path(&options, socket_path);
    if (exit_code < 0)
        *ret_options = options;
    return exit_code;
}
