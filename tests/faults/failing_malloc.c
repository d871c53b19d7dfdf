/* failing_malloc.c - linked into a program: makes its allocations fail, by a rule that may change
 * while it runs. Built with -Dinject_alloc_failures=true.
 *
 * Every malloc, calloc, realloc and aligned allocation of the program and of the libraries in it
 * comes here; strdup(), asprintf(), open_memstream() and the like call these. TOWER_FAILING_MALLOC
 * names a file of a struct control, which whoever tests writes and reads. Without it, or with
 * `every` 0, nothing fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum room { ROOM_PUMP, ROOM_ENCODER, ROOM_FANOUT, ROOM_INGEST, ROOM_HTTP, ROOM_OTHER, ROOM_COUNT };

/* In the file: all of it 64-bit words. */
struct control {
    _Atomic uint64_t every; /* one in so many fails, on average; 0: none */
    _Atomic uint64_t seed;  /* which */
    _Atomic uint64_t calls; /* so far, counted while `every` is set */
    _Atomic uint64_t failed;
    _Atomic uint64_t calls_by_room[ROOM_COUNT]; /* by the name of the thread */
};

/* glibc's own, behind the names that this file takes. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static struct control *control;

__attribute__((constructor)) static void find_control(void) {
    const char *path = getenv("TOWER_FAILING_MALLOC");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map != MAP_FAILED)
        control = map;
}

static enum room room_of_thread(void) {
    static const char *const names[] = {"pump", "encoder", "fanout-", "ingest", "http"};
    char name[16] = "";
    (void)prctl(PR_GET_NAME, name);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return (enum room)i;
    }
    return ROOM_OTHER;
}

/* Spreads the bits of the seed and the number of the call (splitmix64). */
static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int fails(void) {
    uint64_t every = control ? atomic_load_explicit(&control->every, memory_order_relaxed) : 0;
    if (every == 0)
        return 0;
    int before = errno;
    uint64_t call = atomic_fetch_add_explicit(&control->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&control->calls_by_room[room_of_thread()], 1, memory_order_relaxed);
    errno = before;
    if (mix(mix(control->seed) ^ call) % every != 0)
        return 0;
    atomic_fetch_add_explicit(&control->failed, 1, memory_order_relaxed);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t bytes) {
    return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    return fails() ? NULL : __libc_calloc(n, bytes);
}

void *realloc(void *old, size_t bytes) {
    return fails() ? NULL : __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    return fails() ? NULL : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return memalign(alignment, bytes);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t bytes) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    void *memory = memalign(alignment, bytes);
    if (!memory)
        return ENOMEM;
    *ret_memory = memory;
    return 0;
}
