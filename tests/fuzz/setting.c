/* setting.c - the value of one setting: refused without a trace, or read back from how it prints.
 *
 * The input is key=value; a key that is none is one mistyped.
 */
#include "fuzz.h"

#include "settings.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static struct tower_config fresh;
static int fd;
static char path[32];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    tower_config_init(&fresh);
    fd = memfd_create("config", MFD_CLOEXEC);
    FUZZ_REQUIRE(fd >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return 0;
}

static char *print(const struct tower_setting *setting, const struct tower_config *config) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    FUZZ_REQUIRE(out);
    tower_setting_print_value(setting, config, out);
    FUZZ_REQUIRE(fclose(out) == 0 && strlen(text) == bytes);
    return text;
}

/* A line of a file holds it, and so does an answer, a playlist or a header. */
static void check_plain(const struct tower_setting *setting, const char *text) {
    FUZZ_REQUIRE(text[strcspn(text, "\r\n")] == '\0');
    for (const char *c = text; *c != '\0'; c++)
        FUZZ_REQUIRE((unsigned char)*c >= ' ' && *c != 0x7f);
    if (setting->kind == TOWER_SETTING_TEXT || setting->kind == TOWER_SETTING_URL)
        FUZZ_REQUIRE(fuzz_is_plain(text, strlen(text)));
    if (setting->kind == TOWER_SETTING_URL && *text != '\0') {
        FUZZ_REQUIRE(strpbrk(text, " \"<>\\") == NULL && text[strlen(text) - 1] != '/');
        FUZZ_REQUIRE(strstr(text, "://") && strstr(text, "://")[3] != '\0');
    }
}

/* A line of a file says the same. */
static void check_line(const struct tower_setting *setting, const char *printed) {
    static struct tower_config config;
    char error[1024];
    FUZZ_REQUIRE(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    FUZZ_REQUIRE(dprintf(fd, "%s = %s  ; a comment\n", setting->key, printed) > 0);
    config = fresh;
    FUZZ_REQUIRE(tower_config_read_file(&config, path, error, sizeof error) == 0);
    char *read_back = print(setting, &config);
    FUZZ_REQUIRE(strcmp(printed, read_back) == 0);
    free(read_back);
}

static void check_nearest(const char *word) {
    const char *keys[TOWER_CONFIG_SETTINGS_MAX];
    for (size_t i = 0; i < tower_settings_count; i++)
        keys[i] = tower_settings[i].key;
    const char *nearest = tower_word_nearest(word, keys, tower_settings_count);
    size_t i = tower_setting_find(word);
    FUZZ_REQUIRE(i == tower_settings_count || nearest == tower_settings[i].key);
    FUZZ_REQUIRE(!nearest || tower_setting_find(nearest) < tower_settings_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct tower_config config, again;
    static char key[256], text[TOWER_CONFIG_PATH_BYTES + 8];
    fuzz_take_text('=', &data, &bytes, key, sizeof key);
    fuzz_take_text('\0', &data, &bytes, text, sizeof text);
    check_nearest(key);
    size_t place = tower_setting_find(key);
    if (place == tower_settings_count)
        return 0;
    const struct tower_setting *setting = &tower_settings[place];
    config = again = fresh;
    int error = tower_setting_parse(setting, text, &config);
    if (error < 0) {
        FUZZ_REQUIRE(error == -EINVAL && memcmp(&config, &fresh, sizeof fresh) == 0);
        return 0;
    }
    char *printed = print(setting, &config);
    check_plain(setting, printed);
    FUZZ_REQUIRE(tower_setting_parse(setting, printed, &again) == 0);
    char *printed_again = print(setting, &again);
    FUZZ_REQUIRE(strcmp(printed, printed_again) == 0);
    /* A text is not cleared behind its end, so it is its print that counts. */
    if (setting->kind > TOWER_SETTING_URL)
        FUZZ_REQUIRE(memcmp(&config, &again, sizeof config) == 0);
    check_line(setting, printed);
    free(printed);
    free(printed_again);
    return 0;
}
