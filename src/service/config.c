/* config.c - the layers of settings: defaults, INI file, environment, flags. */
#include "tower/config.h"

#include "settings.h"
#include "tower/producer.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_VARIABLE "TOWER_CONFIG"
/* A key, a path, and a comment that names another path. */
#define LINE_BYTES (3 * TOWER_CONFIG_PATH_BYTES)
/* getopt's values for the flags that are no settings; a setting's is FLAG_SETTING + its place. */
enum { FLAG_HELP = 'h', FLAG_CONFIG = 256, FLAG_SETTING };

struct error_text {
    char *text;
    size_t bytes;
};

/* Text from outside as an error line may bear it: UTF-8 without control characters, cut, and on one
 * line. */
struct shown {
    char text[256];
};

static bool is_control(const char *character) {
    return (unsigned char)*character < ' ' || *character == 0x7f ||
           (*character == '\xc2' && (unsigned char)character[1] < 0xa0);
}

static struct shown show(const char *text) {
    struct shown shown;
    size_t length = strlen(text);
    bool is_cut = length >= sizeof shown.text;
    if (is_cut)
        length = tower_utf8_cut(text, length, sizeof shown.text - 4);
    size_t filled = 0;
    for (size_t i = 0, n; i < length; i += n) {
        n = tower_utf8_length(text + i, length - i);
        if (n > 0 && !is_control(text + i)) {
            memcpy(shown.text + filled, text + i, n);
            filled += n;
        } else {
            n = n > 0 ? n : 1;
            shown.text[filled++] = '?';
        }
    }
    memcpy(shown.text + filled, is_cut ? "..." : "", is_cut ? 4 : 1);
    return shown;
}

__attribute__((format(printf, 3, 4))) static int fail(struct error_text error, int code,
                                                      const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error.text, error.bytes, format, arguments);
    va_end(arguments);
    return code;
}

static struct shown show_printed(const struct tower_setting *setting,
                                 const struct tower_config *config) {
    struct shown shown = {""};
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (!stream)
        return shown;
    if (config)
        tower_setting_print_value(setting, config, stream);
    else
        tower_setting_print_expected(setting, stream);
    if (fclose(stream) == 0)
        shown = show(text);
    free(text);
    return shown;
}

struct place {
    enum tower_config_origin origin;
    const char *file_path;
    int line;
};

static void write_given(const struct tower_setting *setting, const struct place *place,
                        const char *value, char *ret_text, size_t bytes) {
    struct error_text out = {ret_text, bytes};
    switch (place->origin) {
    case TOWER_CONFIG_FILE:
        (void)fail(out, 0, "%s:%d: %s = %s", show(place->file_path).text, place->line, setting->key,
                   show(value).text);
        break;
    case TOWER_CONFIG_ENVIRONMENT:
        (void)fail(out, 0, "%s=%s", setting->variable, show(value).text);
        break;
    case TOWER_CONFIG_FLAG:
        (void)fail(out, 0, "%s %s", setting->flag, show(value).text);
        break;
    case TOWER_CONFIG_DEFAULT:
        (void)fail(out, 0, "%s = %s (the default)", setting->key, show(value).text);
        break;
    }
}

/* The one way by which a value gets into `config`. */
static int apply(struct tower_config *config, size_t i, const char *value,
                 const struct place *place, struct error_text error) {
    const struct tower_setting *setting = &tower_settings[i];
    if (tower_setting_parse(setting, value, config) < 0) {
        char given[640];
        write_given(setting, place, value, given, sizeof given);
        return fail(error, -EINVAL, "%s: expected %s", given, show_printed(setting, NULL).text);
    }
    config->from[i].origin = place->origin;
    config->from[i].line = place->line;
    return 0;
}

void tower_config_init(struct tower_config *config) {
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < tower_settings_count; i++) {
        const struct tower_setting *setting = &tower_settings[i];
        if (setting->default_text)
            (void)tower_setting_parse(setting, setting->default_text, config);
    }
    char path[TOWER_CONFIG_PATH_BYTES];
    if (tower_socket_path_default(path, sizeof path) == 0)
        (void)tower_setting_parse(&tower_settings[tower_setting_find("socket")], path, config);
}

struct file_reader {
    FILE *file;
    const char *path;
    struct tower_config *config;
    struct error_text error;
    int line;
    int code;         /* of what went wrong, or 0 */
    bool is_waiting;  /* a line with a setting went to inih, and no setting has come of it */
    struct shown now; /* that line */
    int given_on[TOWER_CONFIG_SETTINGS_MAX];
};

static void require_line_taken(struct file_reader *reader) {
    if (reader->code == 0 && reader->is_waiting)
        reader->code =
            fail(reader->error, -EINVAL, "%s:%d: '%s': expected key = value, [tower] or a comment",
                 show(reader->path).text, reader->line, reader->now.text);
}

static void check_section(struct file_reader *reader, const char *line) {
    const char *end = strchr(line, ']');
    const char *after = end ? end + 1 + strspn(end + 1, " \t\r") : NULL;
    if (end && strncmp(line, "[tower]", (size_t)(end + 1 - line)) == 0 &&
        (*after == '\0' || *after == ';' || *after == '#'))
        return;
    reader->code = fail(reader->error, -EINVAL, "%s:%d: unknown section '%s': expected [tower]",
                        show(reader->path).text, reader->line, show(line).text);
}

/* fgets() for inih, which has no other way to be stopped, and cuts long lines in two. */
static char *read_line(char *ret_line, int line_bytes, void *stream) {
    struct file_reader *reader = stream;
    require_line_taken(reader);
    if (reader->code < 0)
        return NULL;
    reader->line++;
    size_t length = 0;
    bool is_end = true;
    int c;
    while ((c = getc(reader->file)) != EOF) {
        is_end = false;
        if (c == '\n')
            break;
        /* To inih an indented line goes on with the value before it. */
        if (length == 0 && strchr(" \t\v\f\r", c) && c != '\0')
            continue;
        if (c == '\0' || length + 2 >= (size_t)line_bytes) {
            ret_line[tower_utf8_cut(ret_line, length, 32)] = '\0';
            reader->code =
                c == '\0' ? fail(reader->error, -EINVAL, "%s:%d: a NUL byte: expected a text file",
                                 show(reader->path).text, reader->line)
                          : fail(reader->error, -EINVAL,
                                 "%s:%d: '%s...': expected a line of at most %d bytes",
                                 show(reader->path).text, reader->line, show(ret_line).text,
                                 line_bytes - 2);
            return NULL;
        }
        ret_line[length++] = (char)c;
    }
    if (ferror(reader->file)) {
        int code = errno != 0 ? -errno : -EIO;
        reader->code = fail(reader->error, code, "%s:%d: cannot be read: %s",
                            show(reader->path).text, reader->line, strerror(-code));
        return NULL;
    }
    if (is_end)
        return NULL;
    ret_line[length] = '\0';
    if (reader->line == 1 && strncmp(ret_line, "\xef\xbb\xbf", 3) == 0)
        memmove(ret_line, ret_line + 3, length + 1 - 3);
    reader->now = show(ret_line);
    reader->is_waiting = *ret_line != '\0' && !strchr("[;#", *ret_line);
    if (*ret_line == '[')
        check_section(reader, ret_line);
    return reader->code < 0 ? NULL : ret_line;
}

static int take_setting(void *user, const char *section, const char *key, const char *value) {
    struct file_reader *reader = user;
    (void)section;
    if (!value)
        return 0;
    reader->is_waiting = false;
    struct place place = {TOWER_CONFIG_FILE, reader->path, reader->line};
    size_t i = tower_setting_find(key);
    if (i == tower_settings_count) {
        const char *keys[TOWER_CONFIG_SETTINGS_MAX];
        for (size_t k = 0; k < tower_settings_count; k++)
            keys[k] = tower_settings[k].key;
        const char *nearest = tower_word_nearest(key, keys, tower_settings_count);
        reader->code = fail(reader->error, -EINVAL, "%s:%d: unknown setting '%s' (%s%s%s)",
                            show(reader->path).text, reader->line, show(key).text,
                            nearest ? "did you mean '" : "see 'tower serve --help' for all of them",
                            nearest ? nearest : "", nearest ? "'?" : "");
    } else if (reader->given_on[i] != 0) {
        char given[640];
        write_given(&tower_settings[i], &place, value, given, sizeof given);
        reader->code = fail(reader->error, -EINVAL, "%s: expected %s only once, line %d has it too",
                            given, key, reader->given_on[i]);
    } else {
        reader->given_on[i] = reader->line;
        reader->code = apply(reader->config, i, value, &place, reader->error);
    }
    return reader->code == 0;
}

int tower_config_read_file(struct tower_config *config, const char *path, char *error,
                           size_t error_bytes) {
    struct error_text text = {error, error_bytes};
    struct tower_config next = *config;
    struct file_reader reader = {.path = path, .config = &next, .error = text};
    struct stat about;
    size_t path_length = strlen(path);
    if (path_length == 0 || path_length >= sizeof next.file_path)
        return fail(text, -EINVAL, "config file '%s': expected a path of 1 to %zu bytes",
                    show(path).text, sizeof next.file_path - 1);
    reader.file = fopen(path, "re");
    int code = reader.file ? 0 : -errno;
    if (reader.file && fstat(fileno(reader.file), &about) == 0 && S_ISDIR(about.st_mode))
        code = -EISDIR;
    if (code < 0) {
        if (reader.file)
            (void)fclose(reader.file);
        return fail(text, code, "%s: cannot be read: %s: expected a config file", show(path).text,
                    strerror(-code));
    }
#ifdef TOWER_HAVE_INI_MAX_LINE
    /* 200 bytes by default: too short for many a path. */
    int max_line_before = ini_max_line;
    ini_max_line = LINE_BYTES;
#endif
    int ret = ini_parse_stream(read_line, &reader, take_setting, &reader);
#ifdef TOWER_HAVE_INI_MAX_LINE
    ini_max_line = max_line_before;
#endif
    (void)fclose(reader.file);
    require_line_taken(&reader);
    if (reader.code < 0)
        return reader.code;
    if (ret < 0)
        return fail(text, -ENOMEM, "%s: cannot be read: %s", show(path).text, strerror(ENOMEM));
    if (ret > 0)
        return fail(text, -EINVAL, "%s:%d: expected key = value, [tower] or a comment",
                    show(path).text, ret);
    memcpy(next.file_path, path, path_length + 1);
    *config = next;
    return 0;
}

/* An empty variable counts as not set. */
static const char *variable_value(const char *name) {
    const char *value = getenv(name);
    return value && *value != '\0' ? value : NULL;
}

int tower_config_read_environment(struct tower_config *config, char *error, size_t error_bytes) {
    struct tower_config next = *config;
    const struct place place = {.origin = TOWER_CONFIG_ENVIRONMENT};
    for (size_t i = 0; i < tower_settings_count; i++) {
        const char *value = variable_value(tower_settings[i].variable);
        int ret =
            value ? apply(&next, i, value, &place, (struct error_text){error, error_bytes}) : 0;
        if (ret < 0)
            return ret;
    }
    *config = next;
    return 0;
}

struct arguments {
    bool is_help;
    const char *config_path;
    const char *values[TOWER_CONFIG_SETTINGS_MAX]; /* of each setting's flag, the last one given */
};

static int fail_on_flag(const char *word, struct error_text error) {
    const char *flags[TOWER_CONFIG_SETTINGS_MAX + 2] = {"--config", "--help"};
    for (size_t i = 0; i < tower_settings_count; i++)
        flags[i + 2] = tower_settings[i].flag;
    struct shown flag = show(word);
    flag.text[strcspn(flag.text, "=")] = '\0';
    size_t n_begin_so = 0;
    for (size_t i = 0; i < tower_settings_count + 2; i++)
        n_begin_so += strncmp(flags[i], flag.text, strlen(flag.text)) == 0;
    const char *nearest = tower_word_nearest(flag.text, flags, tower_settings_count + 2);
    if (n_begin_so > 1)
        return fail(error, -EINVAL, "%s: more than one flag begins like this: expected all of it",
                    flag.text);
    return fail(error, -EINVAL, "unknown flag '%s' (%s%s%s)", flag.text,
                nearest ? "did you mean '" : "--help prints all of them", nearest ? nearest : "",
                nearest ? "'?" : "");
}

static int fail_on_missing_value(int flag, struct error_text error) {
    if (flag < FLAG_SETTING)
        return fail(error, -EINVAL, "--config: no value: expected the path of a config file");
    const struct tower_setting *setting = &tower_settings[flag - FLAG_SETTING];
    return fail(error, -EINVAL, "%s: no value: expected %s", setting->flag,
                show_printed(setting, NULL).text);
}

static int parse_arguments(int argc, char *const *argv, struct arguments *ret_arguments,
                           struct error_text error) {
    struct option options[TOWER_CONFIG_SETTINGS_MAX + 3] = {
        {"help", no_argument, NULL, FLAG_HELP}, {"config", required_argument, NULL, FLAG_CONFIG}};
    for (size_t i = 0; i < tower_settings_count; i++)
        options[i + 2] = (struct option){tower_settings[i].flag + 2, required_argument, NULL,
                                         FLAG_SETTING + (int)i};
    struct arguments arguments = {.config_path = NULL};
    opterr = 0;
    optind = 0;
    for (;;) {
        int before = optind > 0 ? optind : 1;
        int flag = getopt_long(argc, argv, "+:h", options, NULL);
        if (flag == -1)
            break;
        if (flag == ':')
            return fail_on_missing_value(optopt, error);
        if (flag == '?' && optopt == FLAG_HELP)
            return fail(error, -EINVAL, "%s: expected no value", show(argv[before]).text);
        if (flag == '?')
            return fail_on_flag(argv[before], error);
        if (flag == FLAG_HELP)
            arguments.is_help = true;
        else if (flag == FLAG_CONFIG)
            arguments.config_path = optarg;
        else
            arguments.values[flag - FLAG_SETTING] = optarg;
    }
    if (optind < argc)
        return fail(error, -EINVAL,
                    "unexpected argument '%s': expected flags only (--help prints all of them)",
                    show(argv[optind]).text);
    *ret_arguments = arguments;
    return 0;
}

static void print_help(const char *usage, FILE *out) {
    (void)fprintf(out,
                  "%s\n"
                  "  -h, --help         print this\n"
                  "  --config FILE      read settings from this file; %s\n\n"
                  "Settings: a flag beats the variable, which beats the key in the file.\n",
                  usage, CONFIG_VARIABLE);
    for (size_t i = 0; i < tower_settings_count; i++) {
        const struct tower_setting *setting = &tower_settings[i];
        (void)fprintf(out, "  %s %s\n      %s\n      %s; %s; default ", setting->flag,
                      setting->value_name, setting->help, setting->variable, setting->key);
        tower_setting_print_default(setting, out);
        (void)fputc('\n', out);
    }
}

static int check_fallback(const struct tower_config *config, struct error_text error) {
    if (config->fallback_path[0] == '\0')
        return 0;
    struct stat about;
    int code = 0;
    int fd = open(config->fallback_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &about) < 0)
        code = -errno;
    else if (S_ISDIR(about.st_mode))
        code = -EISDIR;
    else if (!S_ISREG(about.st_mode))
        code = -EINVAL;
    if (fd >= 0)
        (void)close(fd);
    if (code == 0)
        return 0;
    char given[640];
    tower_config_describe(config, "fallback", given, sizeof given);
    return fail(error, code, "%s: %s: expected an audio file that can be read", given,
                code == -EINVAL ? "Not a regular file" : strerror(-code));
}

/* What can only be seen once every layer is read. */
static int check_whole(struct tower_config *config, struct error_text error) {
    char given[640];
    if (config->socket_path[0] == '\0') {
        const char *folder = getenv("XDG_RUNTIME_DIR");
        return fail(error, -EINVAL,
                    "XDG_RUNTIME_DIR=%s: no socket can be named there: expected a path that is "
                    "shorter, or --socket PATH (%s)",
                    show(folder ? folder : "").text,
                    show_printed(&tower_settings[tower_setting_find("socket")], NULL).text);
    }
    if (config->cushion_frames >= config->buffer_frames) {
        /* Who asks for a tiny buffer has not asked for a cushion. */
        if (config->from[tower_setting_find("cushion_frames")].origin != TOWER_CONFIG_DEFAULT) {
            tower_config_describe(config, "cushion_frames", given, sizeof given);
            return fail(error, -EINVAL, "%s: expected less than buffer_frames, which is %u", given,
                        (unsigned)config->buffer_frames);
        }
        config->cushion_frames = config->buffer_frames - 1;
    }
    char password[TOWER_CONFIG_PASSWORD_BYTES];
    int ret = tower_config_read_password(config, password, error.text, error.bytes);
    if (ret == 0)
        ret = tower_config_read_source_users(config, NULL, error.text, error.bytes);
    return ret < 0 ? ret : check_fallback(config, error);
}

int tower_config_read_arguments(struct tower_config *config, int argc, char *const *argv,
                                const char *usage, char *error, size_t error_bytes) {
    struct error_text text = {error, error_bytes};
    struct tower_config next = *config;
    struct arguments arguments = {.config_path = NULL};
    int ret = parse_arguments(argc, argv, &arguments, text);
    if (ret < 0)
        return ret;
    if (arguments.is_help) {
        print_help(usage, stdout);
        return 1;
    }
    const char *path =
        arguments.config_path ? arguments.config_path : variable_value(CONFIG_VARIABLE);
    if (path)
        ret = tower_config_read_file(&next, path, error, error_bytes);
    if (ret < 0 && ret != -EINVAL && !arguments.config_path)
        return fail(text, ret, "%s=%s: cannot be read: %s: expected a config file", CONFIG_VARIABLE,
                    show(path).text, strerror(-ret));
    if (ret == 0)
        ret = tower_config_read_environment(&next, error, error_bytes);
    const struct place place = {.origin = TOWER_CONFIG_FLAG};
    for (size_t i = 0; ret == 0 && i < tower_settings_count; i++) {
        if (arguments.values[i])
            ret = apply(&next, i, arguments.values[i], &place, text);
    }
    if (ret == 0)
        ret = check_whole(&next, text);
    if (ret < 0)
        return ret;
    *config = next;
    return 0;
}

static void print_unknown_variables(FILE *out) {
    static const char prefix[] = "TOWER_";
    const size_t prefix_length = sizeof prefix - 1;
    const char *known[TOWER_CONFIG_SETTINGS_MAX + 2] = {
        &CONFIG_VARIABLE[sizeof prefix - 1],
        &TOWER_CONFIG_SOURCE_PASSWORD_VARIABLE[sizeof prefix - 1]};
    const size_t n_known = tower_settings_count + 2;
    for (size_t i = 0; i < tower_settings_count; i++)
        known[i + 2] = tower_settings[i].variable + prefix_length;
    for (char **entry = environ; entry && *entry; entry++) {
        char name[64];
        size_t length = strcspn(*entry, "=");
        if (strncmp(*entry, prefix, prefix_length) != 0 || length >= sizeof name)
            continue;
        memcpy(name, *entry, length);
        name[length] = '\0';
        bool is_known = !variable_value(name);
        for (size_t i = 0; i < n_known; i++)
            is_known = is_known || strcmp(name + prefix_length, known[i]) == 0;
        if (is_known)
            continue;
        /* The value is not shown: it belongs to another program. */
        const char *nearest = tower_word_nearest(name + prefix_length, known, n_known);
        (void)fprintf(out, "; %s is set, and is no setting", show(name).text);
        if (nearest)
            (void)fprintf(out, " (did you mean %s%s?)", prefix, nearest);
        (void)fputc('\n', out);
    }
}

void tower_config_print(const struct tower_config *config, FILE *out) {
    for (size_t i = 0; i < tower_settings_count; i++) {
        const struct tower_setting *setting = &tower_settings[i];
        (void)fprintf(out, "%s = ", setting->key);
        tower_setting_print_value(setting, config, out);
        switch (config->from[i].origin) {
        case TOWER_CONFIG_DEFAULT:
            (void)fputs("  ; default\n", out);
            break;
        case TOWER_CONFIG_FILE:
            (void)fprintf(out, "  ; %s:%d\n", show(config->file_path).text, config->from[i].line);
            break;
        case TOWER_CONFIG_ENVIRONMENT:
            (void)fprintf(out, "  ; %s\n", setting->variable);
            break;
        case TOWER_CONFIG_FLAG:
            (void)fprintf(out, "  ; %s\n", setting->flag);
            break;
        }
    }
    print_unknown_variables(out);
}

void tower_config_describe(const struct tower_config *config, const char *key, char *ret_text,
                           size_t text_bytes) {
    size_t i = tower_setting_find(key);
    if (i == tower_settings_count) {
        (void)fail((struct error_text){ret_text, text_bytes}, 0, "%s", show(key).text);
        return;
    }
    const struct place place = {config->from[i].origin, config->file_path, config->from[i].line};
    struct shown value = show_printed(&tower_settings[i], config);
    write_given(&tower_settings[i], &place, value.text, ret_text, text_bytes);
}
