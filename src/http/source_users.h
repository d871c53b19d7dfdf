/* source_users.h - who may send sound as a source client does, and under which name. */
#ifndef TOWER_HTTP_SOURCE_USERS_H
#define TOWER_HTTP_SOURCE_USERS_H

#include "tower/producer_identity.h"

#include <stdbool.h>
#include <stddef.h>

#define TOWER_SOURCE_USERS_MAX 64 /* in a file */
#define TOWER_SOURCE_MOUNTS_MAX 8 /* that a user may be kept to */
#define TOWER_SOURCE_USER_BYTES 64
#define TOWER_SOURCE_PASSWORD_BYTES 256

struct tower_source_user {
    char name[TOWER_SOURCE_USER_BYTES]; /* "": whatever name is given */
    char password[TOWER_SOURCE_PASSWORD_BYTES];
    size_t n_mounts;                                                 /* 0: every one */
    char mounts[TOWER_SOURCE_MOUNTS_MAX][TOWER_PRODUCER_NAME_BYTES]; /* as producers' names */
};

/* Constant once made; all zeros: nobody. */
struct tower_source_users {
    size_t n;
    struct tower_source_user all[TOWER_SOURCE_USERS_MAX + 1];
};

/* What a client gives as name and password. */
struct tower_credentials {
    const unsigned char *user;
    size_t user_bytes;
    const unsigned char *password;
    size_t password_bytes;
};

/* Let in whoever gives `password`, by any name: 1 to TOWER_SOURCE_PASSWORD_BYTES - 1 bytes.
 * Errors: -EINVAL, -ENOSPC. */
int tower_source_users_add_password(struct tower_source_users *users, const char *password);

/* Take a line of a file, without its end: "user:password" or "user:password:mount,mount"; an empty
 * one, or one that begins with '#', says nothing. Returns NULL, or what is wrong with it in words
 * that repeat nothing of it; then `users` is as it was. */
const char *tower_source_users_add_line(struct tower_source_users *users, const char *line,
                                        size_t bytes);

/* Whose credentials those are; NULL: nobody's. Takes as long for what is nearly right as for what
 * is not. */
const struct tower_source_user *tower_source_users_find(const struct tower_source_users *users,
                                                        const struct tower_credentials *given);

/* May that user be the producer called `name`? */
bool tower_source_user_may(const struct tower_source_user *user, const char *name);

/* Is `given` the password `expected`? As find; nobody has the password "". */
bool tower_password_is(const char *expected, const unsigned char *given, size_t given_bytes);

/* The producer's name that stands for a mount such as "/Studio.ogg", with or without its slash:
 * "studio"; "live" for "/live" and "/stream". Errors: -EINVAL (no such name is possible). */
int tower_source_mount_name(const char *mount, size_t bytes,
                            char ret_name[TOWER_PRODUCER_NAME_BYTES]);

#endif
