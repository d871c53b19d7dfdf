/* source_users.c - who may send sound as a source client does. */
#include "source_users.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static const char *const endings[] = {".mp3", ".ogg",  ".oga", ".opus", ".flac",
                                      ".aac", ".aacp", ".wav", ".webm", ".l16"};

bool tower_password_is(const char *expected, const unsigned char *given, size_t given_bytes) {
    size_t expected_bytes = strlen(expected);
    if (expected_bytes == 0)
        return false;
    unsigned difference = given_bytes != expected_bytes;
    for (size_t i = 0; i < given_bytes; i++)
        difference |= (unsigned)(given[i] ^ (unsigned char)expected[i % expected_bytes]);
    return difference == 0;
}

int tower_source_users_add_password(struct tower_source_users *users, const char *password) {
    size_t bytes = strlen(password);
    if (bytes == 0 || bytes >= TOWER_SOURCE_PASSWORD_BYTES)
        return -EINVAL;
    if (users->n == sizeof users->all / sizeof *users->all)
        return -ENOSPC;
    struct tower_source_user *user = &users->all[users->n++];
    memset(user, 0, sizeof *user);
    memcpy(user->password, password, bytes);
    return 0;
}

/* Up to `end`, or the end of the line. */
static size_t field_bytes(const char *at, size_t bytes, char end) {
    const char *found = memchr(at, end, bytes);
    return found ? (size_t)(found - at) : bytes;
}

static const char *read_mounts(struct tower_source_user *user, const char *at, size_t bytes) {
    for (;;) {
        size_t n = field_bytes(at, bytes, ',');
        if (user->n_mounts == TOWER_SOURCE_MOUNTS_MAX)
            return "more than 8 mounts for one user";
        if (tower_source_mount_name(at, n, user->mounts[user->n_mounts]) < 0)
            return "a mount that is not of 1 to 32 letters, digits, '.', '_' and '-'";
        user->n_mounts++;
        if (n == bytes)
            return NULL;
        at += n + 1;
        bytes -= n + 1;
    }
}

const char *tower_source_users_add_line(struct tower_source_users *users, const char *line,
                                        size_t bytes) {
    if (bytes == 0 || *line == '#')
        return NULL;
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            return "a control character";
    }
    size_t name_bytes = field_bytes(line, bytes, ':');
    if (name_bytes == 0 || name_bytes == bytes)
        return "no user:password";
    if (name_bytes >= TOWER_SOURCE_USER_BYTES)
        return "a user name of more than 63 bytes";
    struct tower_source_user user = {.n_mounts = 0};
    memcpy(user.name, line, name_bytes);
    line += name_bytes + 1;
    bytes -= name_bytes + 1;
    size_t password_bytes = field_bytes(line, bytes, ':');
    if (password_bytes == 0)
        return "no password behind the user's name";
    if (password_bytes >= TOWER_SOURCE_PASSWORD_BYTES)
        return "a password of more than 255 bytes";
    memcpy(user.password, line, password_bytes);
    for (size_t i = 0; i < users->n; i++) {
        if (strcmp(users->all[i].name, user.name) == 0)
            return "a user who is there already";
    }
    const char *why = NULL;
    if (password_bytes < bytes)
        why = read_mounts(&user, line + password_bytes + 1, bytes - password_bytes - 1);
    if (!why && users->n >= TOWER_SOURCE_USERS_MAX)
        why = "more than 64 users";
    if (!why)
        users->all[users->n++] = user;
    return why;
}

static bool is_user(const struct tower_source_user *user, const struct tower_credentials *given) {
    size_t name_bytes = strlen(user->name);
    unsigned difference = name_bytes > 0 && name_bytes != given->user_bytes;
    for (size_t i = 0; i < given->user_bytes && name_bytes > 0; i++)
        difference |= (unsigned)(given->user[i] ^ (unsigned char)user->name[i % name_bytes]);
    bool has_password = tower_password_is(user->password, given->password, given->password_bytes);
    return difference == 0 && has_password;
}

const struct tower_source_user *tower_source_users_find(const struct tower_source_users *users,
                                                        const struct tower_credentials *given) {
    const struct tower_source_user *found = NULL;
    for (size_t i = 0; i < users->n; i++) {
        if (is_user(&users->all[i], given))
            found = &users->all[i];
    }
    return found;
}

bool tower_source_user_may(const struct tower_source_user *user, const char *name) {
    bool may = user->n_mounts == 0;
    for (size_t i = 0; i < user->n_mounts; i++)
        may = may || strcmp(user->mounts[i], name) == 0;
    return may;
}

static size_t without_ending(const char *mount, size_t bytes) {
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (bytes > n && strncasecmp(mount + bytes - n, endings[i], n) == 0)
            return bytes - n;
    }
    return bytes;
}

int tower_source_mount_name(const char *mount, size_t bytes,
                            char ret_name[TOWER_PRODUCER_NAME_BYTES]) {
    char name[TOWER_PRODUCER_NAME_BYTES] = "";
    if (bytes > 0 && *mount == '/') {
        mount++;
        bytes--;
    }
    bytes = without_ending(mount, bytes);
    if (bytes == 0 || bytes >= sizeof name)
        return -EINVAL;
    for (size_t i = 0; i < bytes; i++) {
        char c = mount[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return -EINVAL;
        name[i] = c;
    }
    memcpy(ret_name, strcmp(name, "stream") == 0 ? "live" : name,
           strcmp(name, "stream") == 0 ? sizeof "live" : bytes + 1);
    return 0;
}
