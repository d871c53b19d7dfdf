/* cmd_source_client.c - `tower source-client`: started by the transmitter for each source client.
 */
#include "cmd_source_client.h"

#include "identity_wire.h"
#include "program.h"
#include "source_client.h"
#include "stream_decoder.h"
#include "tower/format.h"
#include "tower/log.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_ROOM "source"
#define BEGUN_FD 3

static const char help[] =
    "Usage: tower source-client --name NAME --socket PATH --content-type TYPE\n"
    "                           [--chunked | --length N] [--ffmpeg PROGRAM]\n"
    "\n"
    "What tower serve starts for each client that sends a programme with PUT or SOURCE; nobody\n"
    "else has to. Its stdin is the client's socket, behind the head of the request. Descriptor 3,\n"
    "where it is a file, holds what of the body has been read already. What comes is decoded and\n"
    "written to the transmitter's PCM socket, to which it connects once. It ends when the client\n"
    "does, once all is played, or when the transmitter does.\n"
    "\n"
    "  --name NAME          the producer's name: 1 to 32 of a-z, 0-9, '.', '_' and '-'\n"
    "  --label TEXT         what people call it\n"
    "  --socket PATH        the PCM socket\n"
    "  --content-type TYPE  what the client sends: audio/mpeg, audio/aac, audio/ogg, audio/flac,\n"
    "                       audio/webm, audio/wav, or audio/L16;rate=HZ;channels=N\n"
    "  --chunked            it comes in chunks (RFC 9112, 7.1)\n"
    "  --length N           it ends after so many bytes\n"
    "  --ffmpeg PROGRAM     the decoder (ffmpeg)\n"
    "  --help               this\n"
    "\n"
    "Exit code: 0 the client came to its end, hung up, or sent nothing for 10 s; 1 what it sent\n"
    "could not be decoded, there was no transmitter, or it went away; 2 bad usage.\n";

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number) {
    (void)number;
    is_interrupted = 1;
}

static int refuse(const char *what, const char *value, const char *expected) {
    (void)fprintf(stderr,
                  "tower source-client: %s %.100s: expected %s; see `tower source-client --help`\n",
                  what, value, expected);
    return -EINVAL;
}

/* Returns 0, -EINVAL. */
static int read_length(const char *text, uint64_t *ret_length) {
    char *end;
    errno = 0;
    *ret_length = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 ? 0 : -EINVAL;
}

/* Returns 0 to go on, 1 if that was all, -EINVAL. */
static int parse_options(struct tower_source_client_config *config, int argc, char **argv) {
    static const struct option known[] = {{"name", required_argument, NULL, 'n'},
                                          {"label", required_argument, NULL, 'a'},
                                          {"socket", required_argument, NULL, 's'},
                                          {"content-type", required_argument, NULL, 't'},
                                          {"chunked", no_argument, NULL, 'c'},
                                          {"length", required_argument, NULL, 'l'},
                                          {"ffmpeg", required_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int letter;
    optind = 1;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        switch (letter) {
        case 'n':
            config->name = optarg;
            break;
        case 'a':
            config->label = optarg;
            break;
        case 's':
            config->socket = optarg;
            break;
        case 't':
            config->content_type = optarg;
            break;
        case 'c':
            config->is_chunked = true;
            break;
        case 'l':
            if (read_length(optarg, &config->length) < 0)
                return refuse("--length", optarg, "a number of bytes");
            break;
        case 'f':
            config->ffmpeg = optarg;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return 1;
        case ':':
            return refuse(argv[optind - 1], "", "a value");
        default:
            return refuse("option", argv[optind - 1], "one that exists");
        }
    }
    if (optind < argc)
        return refuse("argument", argv[optind], "only options");
    if (!config->name || !config->socket || !config->content_type)
        return refuse("options", "", "--name, --socket and --content-type");
    if (!tower_identity_name_is_valid(config->name))
        return refuse("--name", config->name, "1 to 32 of a-z, 0-9, '.', '_' and '-'");
    if (!tower_stream_decoder_knows(config->content_type))
        return refuse("--content-type", config->content_type, "one that is understood");
    return 0;
}

static void prepare(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* It is to go on where the worker that started it dies. */
    (void)prctl(PR_SET_PDEATHSIG, 0);
    (void)setpgid(0, 0);
}

static int exit_code_of(enum tower_source_client_end end) {
    switch (end) {
    case TOWER_SOURCE_CLIENT_HUNG_UP:
    case TOWER_SOURCE_CLIENT_BODY_END:
    case TOWER_SOURCE_CLIENT_SILENT:
    case TOWER_SOURCE_CLIENT_INTERRUPTED:
        return TOWER_EXIT_OK;
    case TOWER_SOURCE_CLIENT_BAD_BODY:
    case TOWER_SOURCE_CLIENT_NO_SOUND:
    case TOWER_SOURCE_CLIENT_TRANSMITTER:
        break;
    }
    return TOWER_EXIT_FAILED;
}

static void log_end(const char *name, const struct tower_source_client_result *result) {
    bool is_good = exit_code_of(result->end) == TOWER_EXIT_OK;
    tower_log(is_good ? TOWER_LOG_INFO : TOWER_LOG_WARNING, LOG_ROOM,
              "%s: ended after %" PRId64 " s: %s; %" PRIu64 " bytes, %" PRIu64
              " s of sound, %" PRIu32 " titles, %" PRIu32 " restarts of the decoder, %" PRIu64
              " ms dropped",
              name, result->ns / TOWER_NS_PER_S, result->why, result->bytes,
              result->samples / TOWER_RATE_HZ, result->titles, result->decoder_starts,
              result->dropped * 1000 / TOWER_RATE_HZ);
    if (result->clock.is_known)
        tower_log(TOWER_LOG_INFO, LOG_ROOM,
                  "%s: its clock was %+.1f ppm off (+-%.1f), corrected by %+.1f", name,
                  result->clock.ppm, result->clock.spread_ppm, result->clock.correction_ppm);
}

int tower_cmd_source_client(int argc, char **argv) {
    struct stat begun;
    struct tower_source_client_result result;
    struct tower_source_client_config config = {
        .clock = tower_clock_real(),
        .ffmpeg = "ffmpeg",
        .client_fd = STDIN_FILENO,
        .begun_fd = fstat(BEGUN_FD, &begun) == 0 && S_ISREG(begun.st_mode) ? BEGUN_FD : -1,
        .is_interrupted = &is_interrupted,
    };
    int parsed = parse_options(&config, argc, argv);
    if (parsed != 0)
        return parsed > 0 ? TOWER_EXIT_OK : TOWER_EXIT_USAGE;
    prepare();
    tower_log(TOWER_LOG_INFO, LOG_ROOM, "%s: a source client sends %.80s", config.name,
              config.content_type);
    int error = tower_source_client_run(&config, &result);
    if (error < 0) {
        tower_log(TOWER_LOG_ERROR, LOG_ROOM, "%s: cannot serve it on %s: %s", config.name,
                  config.socket, strerror(-error));
        return TOWER_EXIT_FAILED;
    }
    log_end(config.name, &result);
    return exit_code_of(result.end);
}
