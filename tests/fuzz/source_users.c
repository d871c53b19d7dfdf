/* source_users.c - a file of source clients' users, mounts, and what lets whom in. */
#include "fuzz.h"

#include "source_users.h"

#include <errno.h>

static struct tower_source_users users;

static bool is_name(const char *name) {
    size_t length = strnlen(name, TOWER_PRODUCER_NAME_BYTES);
    return length > 0 && length < TOWER_PRODUCER_NAME_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

static void check_user(const struct tower_source_user *user) {
    size_t name_bytes = strnlen(user->name, sizeof user->name);
    size_t password_bytes = strnlen(user->password, sizeof user->password);
    FUZZ_REQUIRE(name_bytes > 0 && name_bytes < sizeof user->name && !strchr(user->name, ':'));
    FUZZ_REQUIRE(password_bytes > 0 && password_bytes < sizeof user->password);
    FUZZ_REQUIRE(user->n_mounts <= TOWER_SOURCE_MOUNTS_MAX);
    for (size_t i = 0; i < user->n_mounts; i++)
        FUZZ_REQUIRE(is_name(user->mounts[i]) && tower_source_user_may(user, user->mounts[i]));
    struct tower_credentials given = {(const unsigned char *)user->name, name_bytes,
                                      (const unsigned char *)user->password, password_bytes};
    FUZZ_REQUIRE(tower_source_users_find(&users, &given) == user);
    given.password_bytes--;
    FUZZ_REQUIRE(tower_source_users_find(&users, &given) == NULL);
}

static void check_mount(const uint8_t *data, size_t bytes) {
    char name[TOWER_PRODUCER_NAME_BYTES] = "before";
    char again[TOWER_PRODUCER_NAME_BYTES];
    int ret = tower_source_mount_name((const char *)data, bytes, name);
    FUZZ_REQUIRE(ret == 0 || (ret == -EINVAL && strcmp(name, "before") == 0));
    FUZZ_REQUIRE(ret < 0 || is_name(name));
    if (ret == 0 && !strchr(name, '.'))
        FUZZ_REQUIRE(tower_source_mount_name(name, strlen(name), again) == 0 &&
                     strcmp(name, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    memset(&users, 0, sizeof users);
    check_mount(data, bytes);
    while (bytes > 0) {
        const uint8_t *end = memchr(data, '\n', bytes);
        size_t length = end ? (size_t)(end - data) : bytes;
        size_t n_before = users.n;
        const char *why = tower_source_users_add_line(&users, (const char *)data, length);
        FUZZ_REQUIRE(users.n == n_before || (!why && users.n == n_before + 1));
        check_mount(data, length);
        data += length + (end ? 1 : 0);
        bytes -= length + (end ? 1 : 0);
    }
    FUZZ_REQUIRE(users.n <= TOWER_SOURCE_USERS_MAX);
    for (size_t i = 0; i < users.n; i++)
        check_user(&users.all[i]);
    return 0;
}
