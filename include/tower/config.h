/* config.h - the settings, and where each came from.
 *
 * Flags beat the environment, which beats the INI file, which beats the defaults. One table holds
 * every setting: its key in the file, its flag, its variable, its kind, its bounds, its help.
 */
#ifndef TOWER_CONFIG_H
#define TOWER_CONFIG_H

#include "tower/encoder_manager.h"
#include "tower/input_monitor.h"
#include "tower/log.h"

#include <stdio.h>

#define TOWER_CONFIG_PATH_BYTES 4096
#define TOWER_CONFIG_TEXT_BYTES 256
#define TOWER_CONFIG_PASSWORD_BYTES 256
#define TOWER_CONFIG_SETTINGS_MAX 64
#define TOWER_CONFIG_WORKERS_MAX 64
#define TOWER_CONFIG_LISTENERS_MAX 1048576

enum tower_config_origin {
    TOWER_CONFIG_DEFAULT,
    TOWER_CONFIG_FILE,
    TOWER_CONFIG_ENVIRONMENT,
    TOWER_CONFIG_FLAG,
};

struct tower_config {
    char host[256];
    uint16_t port;
    char socket_path[TOWER_CONFIG_PATH_BYTES];
    enum tower_encoder_kind encoder;
    uint32_t bitrate_bps;
    char fallback_path[TOWER_CONFIG_PATH_BYTES]; /* "": none */
    char ffmpeg[TOWER_CONFIG_PATH_BYTES];
    double tone_hz;
    double tone_dbfs;
    uint32_t frame_samples;
    uint32_t buffer_frames; /* of the router */
    uint32_t cushion_frames;
    int64_t grace_ns;
    char priorities[TOWER_CONFIG_TEXT_BYTES]; /* names of producers, the highest first */
    int64_t settle_ns;         /* between a producer's going and a take-over by rank */
    int64_t fade_ns;           /* from one producer to another; 0: none */
    int64_t dead_air_after_ns; /* 0: it is not looked for */
    double dead_air_dbfs;
    enum tower_dead_air_action dead_air_action;
    int64_t resync_after_ns;
    int64_t burst_ns;
    int64_t client_timeout_ns;
    uint32_t client_buffer_bytes;
    uint32_t max_listeners;             /* 0: as many as descriptors are allowed */
    uint32_t max_listeners_per_address; /* 0: no limit */
    uint32_t max_taps;                  /* 0: nobody taps */
    uint32_t workers;                   /* fan-out threads; 0: one a core */
    int64_t cadence_ns; /* between two sends to a listener; 0: as the number of listeners asks */
    int64_t encoder_backoff_ns[TOWER_ENCODER_BACKOFF_MAX];
    size_t encoder_backoff_count;
    uint32_t encoder_max_restarts;
    char name[TOWER_CONFIG_TEXT_BYTES]; /* of the station, as the next four */
    char description[TOWER_CONFIG_TEXT_BYTES];
    char genre[TOWER_CONFIG_TEXT_BYTES];
    char url[TOWER_CONFIG_TEXT_BYTES];
    char public_url[TOWER_CONFIG_TEXT_BYTES];           /* "": as the client asks */
    char password_path[TOWER_CONFIG_PATH_BYTES];        /* "": none */
    char source_password_path[TOWER_CONFIG_PATH_BYTES]; /* "": none; as the next */
    char source_users_path[TOWER_CONFIG_PATH_BYTES];
    char journal_path[TOWER_CONFIG_PATH_BYTES]; /* "": none */
    uint32_t journal_bytes;
    bool has_server_header;
    bool is_realtime;
    bool has_keeper;
    enum tower_log_level log_level;

    /* Where setting i of the table came from, and the line for one from the file. */
    struct {
        enum tower_config_origin origin;
        int line;
    } from[TOWER_CONFIG_SETTINGS_MAX];
    char file_path[TOWER_CONFIG_PATH_BYTES]; /* "": none was read */
};

/* Set every field to its default (the socket path too, from the environment's XDG_RUNTIME_DIR; ""
 * where that is too long for a socket). */
void tower_config_init(struct tower_config *config);

/* Each of these returns 0, or -EINVAL (-ENOENT, -EACCES, -EISDIR, or whatever else the kernel says
 * of a file that can't be read; -ENOMEM) with one line for a person in `error`: where, what was
 * given, what was expected. On failure `config` is as it was. */

/* Read an INI file: keys without a section, or in [tower]. An unknown key or section, a key given
 * twice, a bad value: an error with the file and line number. The first one ends it. Not while
 * another thread uses inih. */
int tower_config_read_file(struct tower_config *config, const char *path, char *error,
                           size_t error_bytes);

/* Take the TOWER_* variables there are. An empty one counts as not set. */
int tower_config_read_environment(struct tower_config *config, char *error, size_t error_bytes);

/* Parse `argv` of a subcommand: argv[0] is its name, `usage` what --help prints before the table of
 * settings. Reads the file named by --config (or TOWER_CONFIG), then the environment, then the
 * flags, and then looks at the whole: a fallback file must be there, and the cushion be smaller
 * than the buffer (one that was not given makes itself smaller). Uses getopt: one thread at a time.
 * Returns 0 to go on, 1 if --help was printed to stdout, else as above. */
int tower_config_read_arguments(struct tower_config *config, int argc, char *const *argv,
                                const char *usage, char *error, size_t error_bytes);

/* Read the password, the first line of the file that password_file names: 1 to
 * TOWER_CONFIG_PASSWORD_BYTES - 1 bytes without control characters; "" where none is named. Errors:
 * as above, and `error` never shows what is in the file. */
int tower_config_read_password(const struct tower_config *config,
                               char ret_password[TOWER_CONFIG_PASSWORD_BYTES], char *error,
                               size_t error_bytes);

/* Bears the source password where no source_password_file does. No setting: nothing prints it. */
#define TOWER_CONFIG_SOURCE_PASSWORD_VARIABLE "TOWER_SOURCE_PASSWORD"

struct tower_source_users; /* src/http/source_users.h */

/* Read who may be a source client: the password in the first line of source_password_file, or else
 * in TOWER_SOURCE_PASSWORD, and the users in source_users_file, a "user:password" or
 * "user:password:mount,mount" in each line. Replaces what is in `ret_users`, which may be NULL, and
 * is a megabyte's twentieth large. Errors: as above, and `error` shows nothing that is in a file or
 * in the variable. */
int tower_config_read_source_users(const struct tower_config *config,
                                   struct tower_source_users *ret_users, char *error,
                                   size_t error_bytes);

/* Print every setting, its value, and where it came from, in the form the file takes. TOWER_*
 * variables that are no setting are pointed at in a comment. */
void tower_config_print(const struct tower_config *config, FILE *out);

/* Write to `ret_text` how the setting `key` came by its value, to begin an error line with:
 * "station.ini:7: port = 8005", "TOWER_PORT=8005", "--port 8005", "port = 8005 (the default)".
 * `key` must be one of the table's. */
void tower_config_describe(const struct tower_config *config, const char *key, char *ret_text,
                           size_t text_bytes);

#endif
