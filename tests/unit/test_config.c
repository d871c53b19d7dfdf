/* test_config.c - the settings: four layers, variables, flags, what is printed of them. */
#include "config_fixture.h"

/* ---- the layers ---- */

static void test_defaults(void **state) {
    (void)state;
    assert_string_equal(config.host, "127.0.0.1");
    assert_int_equal(config.port, 8005);
    assert_string_equal(config.socket_path, "/run/user/77/tower/pcm.sock");
    assert_int_equal(config.encoder, TOWER_ENCODER_LAME);
    assert_int_equal(config.bitrate_bps, 128000);
    assert_string_equal(config.fallback_path, "");
    assert_string_equal(config.ffmpeg, "ffmpeg");
    assert_true(config.tone_hz == 440.0);
    assert_true(config.tone_dbfs == -18.0);
    assert_int_equal(config.frame_samples, 1152);
    assert_int_equal(config.buffer_frames, 100);
    assert_int_equal(config.cushion_frames, 2);
    assert_int_equal(config.grace_ns, INT64_C(5000000000));
    assert_string_equal(config.priorities, "live playlist");
    assert_int_equal(config.settle_ns, 3 * TOWER_NS_PER_S);
    assert_int_equal(config.fade_ns, INT64_C(200000000));
    assert_int_equal(config.resync_after_ns, INT64_C(250000000));
    assert_int_equal(config.burst_ns, INT64_C(2000000000));
    assert_int_equal(config.client_timeout_ns, INT64_C(15000000000));
    assert_int_equal(config.client_buffer_bytes, 65536);
    assert_int_equal(config.max_listeners, 0);
    assert_int_equal(config.max_taps, 16);
    assert_int_equal(config.workers, 0);
    assert_int_equal(config.cadence_ns, 0);
    const int64_t backoff_s[] = {1, 2, 4, 8, 10};
    assert_int_equal(config.encoder_backoff_count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(config.encoder_backoff_ns[i], backoff_s[i] * TOWER_NS_PER_S);
    assert_int_equal(config.encoder_max_restarts, 5);
    assert_true(config.is_realtime);
    assert_int_equal(config.log_level, TOWER_LOG_INFO);
    for (size_t i = 0; i < tower_settings_count; i++)
        assert_int_equal(config.from[i].origin, TOWER_CONFIG_DEFAULT);
}

static void test_a_flag_beats_the_environment_beats_the_file_beats_the_default(void **state) {
    (void)state;
    write_text("station.ini", "port = 1\nbitrate = 64k\ngrace = 1\n");
    (void)setenv("TOWER_PORT", "2", 1);
    (void)setenv("TOWER_PCM_GRACE_SEC", "2", 1);
    assert_int_equal(read_arguments("--port 3 --config station.ini"), 0);
    assert_int_equal(config.port, 3);
    assert_int_equal(config.grace_ns, 2 * TOWER_NS_PER_S);
    assert_int_equal(config.bitrate_bps, 64000);
    assert_int_equal(config.max_listeners, 0);
    assert_int_equal(origin_of("port"), TOWER_CONFIG_FLAG);
    assert_int_equal(origin_of("grace"), TOWER_CONFIG_ENVIRONMENT);
    assert_int_equal(origin_of("bitrate"), TOWER_CONFIG_FILE);
    assert_int_equal(config.from[tower_setting_find("bitrate")].line, 2);
    assert_int_equal(origin_of("max_listeners"), TOWER_CONFIG_DEFAULT);
    assert_string_equal(config.file_path, "station.ini");
}

static void test_the_file_can_be_named_by_a_variable_which_the_flag_beats(void **state) {
    (void)state;
    write_text("station.ini", "port = 1\n");
    (void)setenv("TOWER_CONFIG", "station.ini", 1);
    assert_int_equal(read_arguments(""), 0);
    assert_int_equal(config.port, 1);
    (void)setenv("TOWER_CONFIG", "missing.ini", 1);
    assert_int_equal(read_arguments("--config station.ini"), 0);
    assert_int_equal(read_arguments(""), -ENOENT);
    assert_string_equal(error, "TOWER_CONFIG=missing.ini: cannot be read: No such file or "
                               "directory: expected a config file");
    (void)setenv("TOWER_CONFIG", "", 1);
    assert_int_equal(read_arguments(""), 0);
}

static void test_every_setting_has_its_key_its_variable_and_its_flag(void **state) {
    (void)state;
    write_text("jingle.mp3", "x");
    write_text("users", "alice:wonder\n");
    write_text("secret", "hackme\n");
    static const char *const values[][2] = {
        {"host", "0.0.0.0"},
        {"port", "80"},
        {"socket", "/tmp/pcm.sock"},
        {"encoder", "ffmpeg"},
        {"bitrate", "320k"},
        {"fallback", "jingle.mp3"},
        {"tone_frequency", "1000.5"},
        {"tone_level", "-12.25"},
        {"frame_samples", "1024"},
        {"buffer_frames", "7"},
        {"cushion_frames", "0"},
        {"grace", "0.125"},
        {"priorities", "studio,live"},
        {"settle", "0.5"},
        {"fade_ms", "5000"},
        {"dead_air_after", "0.5"},
        {"dead_air_dbfs", "-45.5"},
        {"dead_air_action", "fallback"},
        {"resync_after_ms", "0"},
        {"burst_ms", "1"},
        {"client_timeout_ms", "100"},
        {"client_buffer_bytes", "4096"},
        {"max_listeners", "1"},
        {"max_listeners_per_address", "20"},
        {"max_taps", "0"},
        {"workers", "3"},
        {"cadence_ms", "auto"},
        {"encoder_backoff_ms", "1,3600000"},
        {"encoder_max_restarts", "0"},
        {"name", "Bj\xc3\xb6rk"},
        {"description", "all-day;all-night"},
        {"genre", "various"},
        {"url", "https://radio.example"},
        {"public_url", "http://[::1]:8000/live"},
        {"password_file", "secret"},
        {"source_password_file", "secret"},
        {"source_users_file", "users"},
        {"journal", "incidents.json"},
        {"journal_bytes", "4096"},
        {"server_header", "no"},
        {"ffmpeg", "/opt/ffmpeg"},
        {"realtime", "no"},
        {"keeper", "no"},
        {"log_level", "debug"},
    };
    assert_int_equal(sizeof values / sizeof *values, tower_settings_count);
    for (size_t i = 0; i < tower_settings_count; i++) {
        const char *key = values[i][0], *value = values[i][1];
        struct tower_config by_file, by_variable;
        char line[128];
        assert_string_equal(tower_settings[i].key, key);
        (void)begin(NULL);
        (void)snprintf(line, sizeof line, "%s = %s\n", key, value);
        assert_int_equal(read_text(line), 0);
        by_file = config;
        (void)begin(NULL);
        (void)setenv(tower_settings[i].variable, value, 1);
        assert_int_equal(read_environment(), 0);
        by_variable = config;
        (void)begin(NULL);
        (void)snprintf(line, sizeof line, "%s %s", tower_settings[i].flag, value);
        assert_int_equal(read_arguments(line), 0);
        assert_same_settings(&by_file, &by_variable);
        assert_same_settings(&by_file, &config);
        assert_int_equal(by_file.from[i].origin, TOWER_CONFIG_FILE);
        assert_int_equal(by_variable.from[i].origin, TOWER_CONFIG_ENVIRONMENT);
        assert_int_equal(config.from[i].origin, TOWER_CONFIG_FLAG);

        /* And it is this setting that it sets, to this value. */
        (void)snprintf(line, sizeof line, "\n%s = %s  ; %s\n", key, value, tower_settings[i].flag);
        char *text = printed();
        char before_text[32768];
        (void)snprintf(before_text, sizeof before_text, "\n%s", text);
        assert_non_null(strstr(before_text, line));
        free(text);
    }
}

/* ---- the environment ---- */

static void test_variables_that_are_refused(void **state) {
    (void)state;
    assert_variable_refused("TOWER_PORT", "99999",
                            "TOWER_PORT=99999: expected a port from 0 to 65535");
    assert_variable_refused("TOWER_BITRATE", "129k", "TOWER_BITRATE=129k: expected " BITRATES);
    assert_variable_refused("TOWER_ENCODER", "opus", "TOWER_ENCODER=opus: expected lame or ffmpeg");
    assert_variable_refused("TOWER_LOG_LEVEL", "loud",
                            "TOWER_LOG_LEVEL=loud: expected one of "
                            "error, warning, info, debug");
    assert_variable_refused("TOWER_REALTIME", "maybe", "TOWER_REALTIME=maybe: expected yes or no");
    assert_variable_refused("TOWER_FRAME_SAMPLES", "512",
                            "TOWER_FRAME_SAMPLES=512: expected 1024 or 1152");
    assert_variable_refused("TOWER_PCM_BUFFER_SIZE", "0",
                            "TOWER_PCM_BUFFER_SIZE=0: expected a "
                            "whole number from 1 to 100000");
    assert_variable_refused("TOWER_TONE_LEVEL", "6",
                            "TOWER_TONE_LEVEL=6: expected a level in dBFS "
                            "from -90 to 0, such as -18 or -12.5");
    assert_variable_refused("TOWER_TONE_FREQUENCY", "5",
                            "TOWER_TONE_FREQUENCY=5: expected a frequency in Hz from 20 to 20000, "
                            "or 0 for silence");
    assert_variable_refused("TOWER_BURST_MS", "2s",
                            "TOWER_BURST_MS=2s: expected a whole number of "
                            "milliseconds from 0 to 10000");
    assert_variable_refused("TOWER_ENCODER_BACKOFF_MS", "1,x",
                            "TOWER_ENCODER_BACKOFF_MS=1,x: expected 1 to 16 whole numbers of "
                            "milliseconds from 1 to 3600000 with commas between, such as "
                            "1000,2000");
    assert_variable_refused("TOWER_HOST", "a b",
                            "TOWER_HOST=a b: expected an address or a name of "
                            "1 to 255 bytes, without white space");
    assert_variable_refused("TOWER_SOCKET_PATH", " x",
                            "TOWER_SOCKET_PATH= x: expected a path of 1 to 107 bytes, without "
                            "control characters, a space at either end, or a ';' at its start or "
                            "after a space");
    assert_variable_refused("TOWER_SILENCE_MP3_PATH", "a\nb",
                            "TOWER_SILENCE_MP3_PATH=a?b: expected a path of at most 4095 bytes, "
                            "without control characters, a space at either end, or a ';' at its "
                            "start or after a space");
}

static void test_an_empty_variable_counts_as_not_set(void **state) {
    (void)state;
    (void)setenv("TOWER_PORT", "", 1);
    assert_int_equal(read_environment(), 0);
    assert_untouched();
}

static void test_other_programs_variables_are_pointed_at_only(void **state) {
    (void)state;
    (void)setenv("TOWER_PROT", "1", 1);
    (void)setenv("TOWER_MUSIC_FOLDER", "secret", 1);
    assert_int_equal(read_arguments(""), 0);
    char *text = printed();
    (void)unsetenv("TOWER_PROT");
    (void)unsetenv("TOWER_MUSIC_FOLDER");
    assert_non_null(strstr(text, "\n; TOWER_PROT is set, and is no setting (did you mean "
                                 "TOWER_PORT?)\n"));
    assert_non_null(strstr(text, "\n; TOWER_MUSIC_FOLDER is set, and is no setting\n"));
    assert_null(strstr(text, "secret"));
    free(text);
}

/* ---- the flags ---- */

static void test_arguments_that_are_refused(void **state) {
    (void)state;
    assert_arguments_refused("--port abc", "--port abc: expected a port from 0 to 65535");
    assert_arguments_refused("--port=", "--port : expected a port from 0 to 65535");
    assert_arguments_refused("--port", "--port: no value: expected a port from 0 to 65535");
    assert_arguments_refused("--config", "--config: no value: expected the path of a config file");
    assert_arguments_refused("--port 1 --prot 80",
                             "unknown flag '--prot' (did you mean '--port'?)");
    assert_arguments_refused("--prot=80", "unknown flag '--prot' (did you mean '--port'?)");
    assert_arguments_refused("-x", "unknown flag '-x' (--help prints all of them)");
    assert_arguments_refused("--port 1 -xy --port 2",
                             "unknown flag '-xy' (--help prints all of them)");
    assert_arguments_refused("--tone 3", "--tone: more than one flag begins like this: expected "
                                         "all of it");
    assert_arguments_refused("--help=me", "--help=me: expected no value");
    assert_arguments_refused("--port 1 song.mp3",
                             "unexpected argument 'song.mp3': expected flags only (--help prints "
                             "all of them)");
    assert_arguments_refused("-- --port",
                             "unexpected argument '--port': expected flags only (--help prints "
                             "all of them)");
    assert_arguments_refused("--socket ;", "--socket ;: expected a path of 1 to 107 bytes, without "
                                           "control characters, a space at either end, or a ';' at "
                                           "its start or after a space");
}

static void test_flags_in_every_form(void **state) {
    (void)state;
    assert_int_equal(read_arguments("--port=1 --tone-level -20 --port 2 --realtime no"), 0);
    assert_int_equal(config.port, 2);
    assert_true(config.tone_dbfs == -20.0);
    assert_false(config.is_realtime);
    assert_int_equal(read_arguments("--fallback="), 0);
    assert_int_equal(origin_of("fallback"), TOWER_CONFIG_FLAG);
}

/* ---- the whole ---- */

static void test_the_cushion_is_smaller_than_the_buffer(void **state) {
    (void)state;
    assert_arguments_refused("--cushion-frames 5 --buffer-frames 5",
                             "--cushion-frames 5: expected less than buffer_frames, which is 5");
    assert_int_equal(read_arguments("--cushion-frames 4 --buffer-frames 5"), 0);
    (void)begin(NULL);
    assert_int_equal(read_arguments("--buffer-frames 1"), 0);
    assert_int_equal(config.cushion_frames, 0);
}

static void test_the_fallback_file_is_there(void **state) {
    (void)state;
    assert_int_equal(read_arguments("--fallback none.mp3"), -ENOENT);
    assert_string_equal(error, "--fallback none.mp3: No such file or directory: expected an audio "
                               "file that can be read");
    write_text("station.ini", "\nfallback = /tmp\n");
    assert_int_equal(read_arguments("--config station.ini"), -EISDIR);
    assert_string_equal(error, "station.ini:2: fallback = /tmp: Is a directory: expected an audio "
                               "file that can be read");
    (void)setenv("TOWER_SILENCE_MP3_PATH", "/dev/null", 1);
    assert_int_equal(read_arguments(""), -EINVAL);
    assert_string_equal(error, "TOWER_SILENCE_MP3_PATH=/dev/null: Not a regular file: expected an "
                               "audio file that can be read");
    assert_untouched();
    (void)unsetenv("TOWER_SILENCE_MP3_PATH");
    write_text("jingle.mp3", "x");
    assert_int_equal(read_arguments("--fallback jingle.mp3"), 0);
}

static void test_a_socket_path_that_cannot_be_named_by_default(void **state) {
    (void)state;
    char runtime[200];
    memset(runtime, 'r', sizeof runtime - 1);
    runtime[0] = '/';
    runtime[sizeof runtime - 1] = '\0';
    (void)setenv("XDG_RUNTIME_DIR", runtime, 1);
    tower_config_init(&config);
    assert_string_equal(config.socket_path, "");
    assert_int_equal(read_arguments(""), -EINVAL);
    assert_int_equal(strncmp(error, "XDG_RUNTIME_DIR=/rrr", 20), 0);
    assert_non_null(strstr(error, "--socket PATH"));
    assert_int_equal(read_arguments("--socket /tmp/s"), 0);
}

static void test_where_a_setting_came_from_in_words(void **state) {
    (void)state;
    char text[256];
    write_text("station.ini", "\nport = 9\n");
    (void)setenv("TOWER_GRACE", "1", 1);
    (void)setenv("TOWER_PCM_GRACE_SEC", "1.50", 1);
    assert_int_equal(read_arguments("--config station.ini --bitrate 64"), 0);
    (void)unsetenv("TOWER_GRACE");
    tower_config_describe(&config, "port", text, sizeof text);
    assert_string_equal(text, "station.ini:2: port = 9");
    tower_config_describe(&config, "grace", text, sizeof text);
    assert_string_equal(text, "TOWER_PCM_GRACE_SEC=1.5");
    tower_config_describe(&config, "bitrate", text, sizeof text);
    assert_string_equal(text, "--bitrate 64k");
    tower_config_describe(&config, "host", text, sizeof text);
    assert_string_equal(text, "host = 127.0.0.1 (the default)");
}

static void test_what_is_printed_is_good_as_a_file(void **state) {
    (void)state;
    write_text("jingle.mp3", "x");
    write_text("station.ini", "\ntone_level = -3.141592653\n");
    (void)setenv("TOWER_PCM_GRACE_SEC", "0.000000007", 1);
    assert_int_equal(read_arguments("--config station.ini --fallback jingle.mp3 --host ::1 "
                                    "--tone-frequency 19999.999999999 --buffer-frames 2 "
                                    "--encoder-backoff-ms 1,2,3 --log-level ERROR"),
                     0);
    char *text = printed();
    assert_non_null(strstr(text, "\nport = 8005  ; default\n"));
    assert_non_null(strstr(text, "\ntone_level = -3.141592653  ; station.ini:2\n"));
    assert_non_null(strstr(text, "\ngrace = 0.000000007  ; TOWER_PCM_GRACE_SEC\n"));
    assert_non_null(strstr(text, "\nlog_level = error  ; --log-level\n"));
    struct tower_config first = config;
    (void)begin(NULL);
    write_text("saved.ini", text);
    free(text);
    int ret = read_arguments("--config saved.ini");
    (void)unlink("saved.ini");
    assert_int_equal(ret, 0);
    assert_same_settings(&first, &config);
    text = printed();
    assert_non_null(strstr(text, "\nport = 8005  ; saved.ini:2\n"));
    free(text);
}

/* ---- help ---- */

static void test_help_prints_the_usage_and_every_setting(void **state) {
    (void)state;
    static const char *const ways[] = {"--help", "-h", "--port 1 --help", "--help --config no.ini"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char text[16384];
        FILE *file = tmpfile();
        assert_non_null(file);
        (void)fflush(stdout);
        int stdout_kept = dup(STDOUT_FILENO);
        assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
        int ret = read_arguments(ways[i]);
        (void)fflush(stdout);
        assert_true(dup2(stdout_kept, STDOUT_FILENO) >= 0);
        (void)close(stdout_kept);
        assert_int_equal(ret, 1);
        assert_untouched();
        rewind(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        (void)fclose(file);
        assert_int_equal(strncmp(text, USAGE, strlen(USAGE)), 0);
        assert_non_null(strstr(text, "--config FILE"));
        for (size_t k = 0; k < tower_settings_count; k++) {
            char line[64];
            (void)snprintf(line, sizeof line, "\n  %s %s\n", tower_settings[k].flag,
                           tower_settings[k].value_name);
            assert_non_null(strstr(text, line));
            (void)snprintf(line, sizeof line, "%s; %s; default ", tower_settings[k].variable,
                           tower_settings[k].key);
            assert_non_null(strstr(text, line));
            assert_non_null(strstr(text, tower_settings[k].help));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_a_flag_beats_the_environment_beats_the_file_beats_the_default),
        TEST(test_the_file_can_be_named_by_a_variable_which_the_flag_beats),
        TEST(test_every_setting_has_its_key_its_variable_and_its_flag),
        TEST(test_variables_that_are_refused),
        TEST(test_an_empty_variable_counts_as_not_set),
        TEST(test_other_programs_variables_are_pointed_at_only),
        TEST(test_arguments_that_are_refused),
        TEST(test_flags_in_every_form),
        TEST(test_the_cushion_is_smaller_than_the_buffer),
        TEST(test_the_fallback_file_is_there),
        TEST(test_a_socket_path_that_cannot_be_named_by_default),
        TEST(test_where_a_setting_came_from_in_words),
        TEST(test_what_is_printed_is_good_as_a_file),
        TEST(test_help_prints_the_usage_and_every_setting),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
