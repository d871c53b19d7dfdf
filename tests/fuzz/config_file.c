/* config_file.c - a configuration file: refused with a line that says where, or printed as a file
 * that says the same.
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
    for (size_t i = 0; i < tower_settings_count; i++)
        (void)unsetenv(tower_settings[i].variable);
    (void)setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
    tower_config_init(&fresh);
    fd = memfd_create("config", MFD_CLOEXEC);
    FUZZ_REQUIRE(fd >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return 0;
}

static void write_file(const void *data, size_t bytes) {
    FUZZ_REQUIRE(ftruncate(fd, 0) == 0);
    FUZZ_REQUIRE(pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
}

static void check_refusal(const char *error) {
    FUZZ_REQUIRE(strncmp(error, path, strlen(path)) == 0);
    FUZZ_REQUIRE(error[strlen(path)] == ':');
    FUZZ_REQUIRE(fuzz_is_plain(error, strlen(error)));
}

static char *print(const struct tower_config *config, size_t *ret_bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_bytes);
    FUZZ_REQUIRE(out);
    tower_config_print(config, out);
    FUZZ_REQUIRE(fclose(out) == 0);
    return text;
}

static void check_equal(const struct tower_config *a, const struct tower_config *b) {
    for (size_t i = 0; i < tower_settings_count; i++) {
        char *texts[2];
        const struct tower_config *configs[] = {a, b};
        for (int k = 0; k < 2; k++) {
            size_t bytes = 0;
            FILE *out = open_memstream(&texts[k], &bytes);
            FUZZ_REQUIRE(out);
            tower_setting_print_value(&tower_settings[i], configs[k], out);
            FUZZ_REQUIRE(fclose(out) == 0);
        }
        FUZZ_REQUIRE(strcmp(texts[0], texts[1]) == 0);
        free(texts[0]);
        free(texts[1]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct tower_config config, again;
    char error[1024] = "";
    config = again = fresh;
    write_file(data, bytes);
    int result = tower_config_read_file(&config, path, error, sizeof error);
    if (result < 0) {
        FUZZ_REQUIRE(result == -EINVAL && memcmp(&config, &fresh, sizeof fresh) == 0);
        check_refusal(error);
        return 0;
    }
    FUZZ_REQUIRE(result == 0 && strcmp(config.file_path, path) == 0);
    for (size_t i = 0; i < tower_settings_count; i++) {
        char described[1024];
        tower_config_describe(&config, tower_settings[i].key, described, sizeof described);
        bool is_from_file = config.from[i].origin == TOWER_CONFIG_FILE;
        FUZZ_REQUIRE(is_from_file || config.from[i].origin == TOWER_CONFIG_DEFAULT);
        FUZZ_REQUIRE(is_from_file == (strncmp(described, path, strlen(path)) == 0));
    }
    size_t printed_bytes = 0;
    char *printed = print(&config, &printed_bytes);
    write_file(printed, printed_bytes);
    free(printed);
    FUZZ_REQUIRE(tower_config_read_file(&again, path, error, sizeof error) == 0);
    check_equal(&config, &again);
    return 0;
}
