/* cmd_switch.c - `tower switch`: says by hand which producer is on air. */
#include "cmd_switch.h"

#include "ask.h"
#include "program.h"
#include "settings.h"
#include "tower/config.h"
#include "tower/producer_identity.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWITCH_PATH "/switch"

struct options {
    const char *name; /* NULL: by rank again */
    const char *url;
    const char *password_path; /* NULL: as the environment says */
    bool is_help;
};

static void print_help(void) {
    printf(
        "Usage: tower switch [--password-file FILE] NAME [URL]\n"
        "       tower switch [--password-file FILE] --auto [URL]\n"
        "\n"
        "Puts the producer NAME on air at once, whatever its rank. It stays until it ends, sends\n"
        "nothing for the grace period, or somebody else is chosen; then it goes by rank again.\n"
        "`tower status` shows who there is; one without a name is #NUMBER. URL is that of a\n"
        "transmitter, " TOWER_ASK_URL " where none is given.\n"
        "\n"
        "  --auto                let it go by rank again\n"
        "  --password-file FILE  its first line is the password, the one that the transmitter has\n"
        "                        (`tower serve --password-file`); default: TOWER_PASSWORD_FILE\n"
        "  --help                this\n"
        "\n"
        "Exit code: 0 done; 1 refused, with the reason, or no answer; 2 bad usage.\n");
}

static int refuse(const char *given, const char *why) {
    (void)fprintf(stderr, "tower switch: %.200s%s%s; see `tower switch --help`\n", given,
                  *given ? ": " : "", why);
    return -EINVAL;
}

/* A producer's name, or # and a number. */
static bool is_name(const char *text) {
    const char *known = *text == '#' ? "0123456789" : "abcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *name = *text == '#' ? text + 1 : text;
    return *name != '\0' && strlen(text) < TOWER_PRODUCER_NAME_BYTES &&
           name[strspn(name, known)] == '\0';
}

static int parse_options(int argc, char **argv, struct options *ret_options) {
    static const struct option known[] = {{"auto", no_argument, NULL, 'a'},
                                          {"password-file", required_argument, NULL, 'p'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {.url = TOWER_ASK_URL};
    bool is_auto = false;
    int letter;
    /* 0, and not 1: begin anew although main() may have used getopt already. */
    optind = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        switch (letter) {
        case 'a':
            is_auto = true;
            break;
        case 'p':
            options.password_path = optarg;
            break;
        case 'h':
            options.is_help = true;
            break;
        default:
            return refuse(argv[optind - 1],
                          letter == ':' ? "a value is missing" : "there is no such option");
        }
    }
    if (!options.is_help && !is_auto && optind == argc)
        return refuse("", "expected the name of a producer, or --auto");
    if (!is_auto && optind < argc)
        options.name = argv[optind++];
    if (options.name && !is_name(options.name))
        return refuse(options.name, "expected the name of a producer (a-z, 0-9, '.', '_', '-'), or "
                                    "# and its number");
    if (optind < argc)
        options.url = argv[optind++];
    if (optind < argc)
        return refuse(argv[optind], "one address is enough");
    *ret_options = options;
    return 0;
}

/* Errors: -EINVAL and what reading a file says; said on stderr. */
static int read_password(const struct options *options,
                         char ret_password[TOWER_CONFIG_PASSWORD_BYTES]) {
    static struct tower_config config;
    const size_t i = tower_setting_find("password_file");
    const struct tower_setting *setting = &tower_settings[i];
    const char *path = options->password_path ? options->password_path : getenv(setting->variable);
    char error[1024];
    if (!path || !*path)
        return refuse("", "name the file with the transmitter's password: --password-file FILE");
    config.from[i].origin = options->password_path ? TOWER_CONFIG_FLAG : TOWER_CONFIG_ENVIRONMENT;
    if (tower_setting_parse(setting, path, &config) < 0)
        return refuse(setting->flag, "the path is too long");
    int result = tower_config_read_password(&config, ret_password, error, sizeof error);
    if (result < 0)
        (void)fprintf(stderr, "tower switch: %s\n", error);
    return result;
}

int tower_cmd_switch(int argc, char **argv) {
    struct options options;
    struct tower_http_url url;
    char password[TOWER_CONFIG_PASSWORD_BYTES], body[TOWER_PRODUCER_NAME_BYTES + 32];
    if (parse_options(argc, argv, &options) < 0)
        return TOWER_EXIT_USAGE;
    if (options.is_help) {
        print_help();
        return TOWER_EXIT_OK;
    }
    if (tower_ask_url("switch", options.url, SWITCH_PATH, &url) < 0 ||
        read_password(&options, password) < 0)
        return TOWER_EXIT_USAGE;
    /* Nothing that a name is made of is special in JSON. */
    (void)snprintf(body, sizeof body, "{\"producer\": \"%s\"}", options.name ? options.name : "");
    json_t *json = tower_ask_post("switch", options.url, &url, password, body);
    explicit_bzero(password, sizeof password);
    if (!json)
        return TOWER_EXIT_FAILED;
    const char *chosen = json_string_value(json_object_get(json, "chosen"));
    if (chosen)
        tower_print_text(chosen);
    (void)printf("%s\n", chosen ? " goes on air." : "It goes by rank again.");
    json_decref(json);
    return TOWER_EXIT_OK;
}
