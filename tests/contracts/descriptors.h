/* descriptors.h - what a part must give back: descriptors, children, a folder for a test. */
#ifndef TOWER_TESTS_DESCRIPTORS_H
#define TOWER_TESTS_DESCRIPTORS_H

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Open descriptors of this process, or only the sockets among them; -1 where /proc is not there. */
static inline int count_descriptors_of_kind(bool only_sockets) {
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    if (folder == NULL) {
        return -1;
    }
    while ((entry = readdir(folder)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        struct stat status;
        bool is_counted = entry->d_name[0] != '.' && fd != dirfd(folder);
        if (is_counted && only_sockets) {
            is_counted = fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
        }
        count += is_counted;
    }
    closedir(folder);
    return count;
}

static inline int count_descriptors(void) {
    return count_descriptors_of_kind(false);
}

/* No child is left, neither running nor a zombie. */
static inline bool has_no_child(void) {
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

struct test_folder {
    char path[64];
};

/* Make an empty folder for one test; false if that was not possible. */
static inline bool test_folder_make(struct test_folder *folder) {
    *folder = (struct test_folder){"/tmp/tower-contract-XXXXXX"};
    return mkdtemp(folder->path) != NULL;
}

static inline void test_folder_file(const struct test_folder *folder, const char *name,
                                    char *ret_path, size_t path_bytes) {
    (void)snprintf(ret_path, path_bytes, "%s/%s", folder->path, name);
}

/* Remove the folder and the files in it. */
static inline void test_folder_remove(const struct test_folder *folder) {
    DIR *listing = opendir(folder->path);
    struct dirent *entry;
    char path[400];

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            test_folder_file(folder, entry->d_name, path, sizeof(path));
            unlink(path);
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
    rmdir(folder->path);
}

#endif
