/* config_passwords.c - what settings name files for, so that it is in no argument: passwords. */
#include "tower/config.h"

#include "source_users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USERS_FILE_BYTES_MAX 65536

_Static_assert(TOWER_CONFIG_PASSWORD_BYTES == TOWER_SOURCE_PASSWORD_BYTES, "one kind of password");

struct error_text {
    char *text;
    size_t bytes;
};

__attribute__((format(printf, 5, 6))) static int fail(const struct tower_config *config,
                                                      const char *key, struct error_text error,
                                                      int code, const char *format, ...) {
    char given[640];
    char why[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    tower_config_describe(config, key, given, sizeof given);
    (void)snprintf(error.text, error.bytes, "%s: %s", given, why);
    return code;
}

/* Read the file from its beginning, up to `bytes`. Returns how many there were. */
static ssize_t read_file(const char *path, char *ret_text, size_t bytes) {
    struct stat about;
    size_t filled = 0;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int error = fstat(fd, &about) < 0 ? -errno : S_ISDIR(about.st_mode) ? -EISDIR : 0;
    while (error == 0 && filled < bytes && (n = read(fd, ret_text + filled, bytes - filled)) != 0) {
        if (n > 0)
            filled += (size_t)n;
        else if (errno != EINTR)
            error = -errno;
    }
    (void)close(fd);
    return error < 0 ? error : (ssize_t)filled;
}

static bool is_password(const char *text, size_t bytes) {
    bool is_whole = bytes > 0 && bytes < TOWER_CONFIG_PASSWORD_BYTES;
    for (size_t i = 0; i < bytes && is_whole; i++)
        is_whole = (unsigned char)text[i] >= ' ' && text[i] != 0x7f;
    return is_whole;
}

static int read_password(const struct tower_config *config, const char *key, const char *path,
                         char ret_password[TOWER_CONFIG_PASSWORD_BYTES], struct error_text error) {
    char line[TOWER_CONFIG_PASSWORD_BYTES + 1] = "";
    ssize_t n = read_file(path, line, sizeof line - 1);
    size_t length = strcspn(line, "\r\n");
    int code = n < 0 ? (int)n : 0;
    /* A NUL ends the line for strcspn(), but not for who wrote it. */
    if (code == 0 && (!is_password(line, length) || memchr(line, '\0', (size_t)n)))
        code = -EINVAL;
    if (code == 0) {
        memcpy(ret_password, line, length);
        ret_password[length] = '\0';
    }
    explicit_bzero(line, sizeof line);
    if (code == 0)
        return 0;
    return fail(config, key, error, code,
                "%s: expected a file whose first line is a password of 1 to %d bytes",
                code == -EINVAL ? "No password in its first line" : strerror(-code),
                TOWER_CONFIG_PASSWORD_BYTES - 1);
}

int tower_config_read_password(const struct tower_config *config,
                               char ret_password[TOWER_CONFIG_PASSWORD_BYTES], char *error,
                               size_t error_bytes) {
    if (config->password_path[0] == '\0') {
        ret_password[0] = '\0';
        return 0;
    }
    return read_password(config, "password_file", config->password_path, ret_password,
                         (struct error_text){error, error_bytes});
}

static int read_source_password(const struct tower_config *config, struct tower_source_users *users,
                                struct error_text error) {
    char password[TOWER_CONFIG_PASSWORD_BYTES];
    const char *variable = getenv(TOWER_CONFIG_SOURCE_PASSWORD_VARIABLE);
    int code = 0;
    if (config->source_password_path[0] != '\0') {
        code = read_password(config, "source_password_file", config->source_password_path, password,
                             error);
    } else if (!variable || *variable == '\0') {
        return 0;
    } else if (is_password(variable, strlen(variable))) {
        memcpy(password, variable, strlen(variable) + 1);
    } else {
        (void)snprintf(error.text, error.bytes,
                       "%s is no password: expected 1 to %d bytes without control characters",
                       TOWER_CONFIG_SOURCE_PASSWORD_VARIABLE, TOWER_CONFIG_PASSWORD_BYTES - 1);
        return -EINVAL;
    }
    if (code == 0)
        code = tower_source_users_add_password(users, password);
    explicit_bzero(password, sizeof password);
    return code;
}

static int add_lines(const struct tower_config *config, struct tower_source_users *users,
                     const char *text, size_t bytes, struct error_text error) {
    size_t n_before = users->n;
    size_t number = 1;
    for (size_t at = 0; at < bytes; number++) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - text) - at : bytes - at;
        size_t next = at + length + 1;
        if (length > 0 && text[at + length - 1] == '\r')
            length--;
        const char *why = tower_source_users_add_line(users, text + at, length);
        if (why)
            return fail(config, "source_users_file", error, -EINVAL,
                        "line %zu has %s: expected lines of user:password, or "
                        "user:password:mount,mount",
                        number, why);
        at = next;
    }
    if (users->n > n_before)
        return 0;
    return fail(config, "source_users_file", error, -EINVAL,
                "no user in it: expected lines of user:password, or user:password:mount,mount");
}

static int read_users(const struct tower_config *config, struct tower_source_users *users,
                      struct error_text error) {
    if (config->source_users_path[0] == '\0')
        return 0;
    char *text = malloc(USERS_FILE_BYTES_MAX);
    ssize_t n = text ? read_file(config->source_users_path, text, USERS_FILE_BYTES_MAX) : -ENOMEM;
    int code = 0;
    if (n < 0)
        code = fail(config, "source_users_file", error, (int)n,
                    "%s: expected a file with lines of user:password", strerror((int)-n));
    else if (n == USERS_FILE_BYTES_MAX)
        code = fail(config, "source_users_file", error, -EFBIG,
                    "larger than 64 KiB: expected at most %d lines of user:password",
                    TOWER_SOURCE_USERS_MAX);
    else
        code = add_lines(config, users, text, (size_t)n, error);
    if (text)
        explicit_bzero(text, USERS_FILE_BYTES_MAX);
    free(text);
    return code;
}

int tower_config_read_source_users(const struct tower_config *config,
                                   struct tower_source_users *ret_users, char *error,
                                   size_t error_bytes) {
    struct error_text text = {error, error_bytes};
    struct tower_source_users *users = calloc(1, sizeof *users);
    if (!users)
        return fail(config, "source_users_file", text, -ENOMEM, "%s", strerror(ENOMEM));
    int code = read_users(config, users, text);
    if (code == 0)
        code = read_source_password(config, users, text);
    if (code == 0 && ret_users)
        *ret_users = *users;
    explicit_bzero(users, sizeof *users);
    free(users);
    return code;
}
