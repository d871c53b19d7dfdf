/* titles.c - titles that wait for their frame, and those that had it: one writer, lock-free
 * readers.
 *
 * A title that has gone on air lies in the slot of its number until TOWER_TITLES_KEPT more have.
 * Slots are read while they are written: everything in them is atomic, and a reader that is done
 * looks whether the writer has come round to its slot meanwhile.
 */
#include "title_history.h"

#include "icy.h"
#include "thread.h"
#include "utf8.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 32
#define WORD_BYTES sizeof(uint64_t)
#define BLOCK_WORDS ((TOWER_ICY_BLOCK_BYTES_MAX + WORD_BYTES - 1) / WORD_BYTES)
#define TEXT_WORDS ((TOWER_TITLE_BYTES_MAX + WORD_BYTES - 1) / WORD_BYTES)
/* Nothing waits. */
#define NEVER UINT64_MAX

/* Atomic, written by the air's writer, read by anyone. */
struct slot {
    _Atomic uint64_t from_frame;
    _Atomic uint64_t cursor; /* where its first frame begins */
    _Atomic uint32_t block_bytes;
    _Atomic uint32_t text_bytes;
    _Atomic uint64_t words[BLOCK_WORDS + TEXT_WORDS]; /* the block; the text, from a word on */
};

struct waiting_title {
    uint64_t from_frame; /* 0 for the next one */
    size_t bytes;
    char text[TOWER_TITLE_BYTES_MAX];
};

struct tower_titles {
    pthread_mutex_t lock;

    /* Guarded by lock: a queue, frames rising. */
    struct waiting_title waiting[WAITING_MAX];
    unsigned first_waiting;
    unsigned n_waiting;

    /* Atomic, written under the lock, read by the air's writer. */
    _Atomic uint64_t due_frame; /* of the first that waits, or NEVER */

    /* Atomic, written by the air's writer, read by anyone. */
    _Atomic uint64_t claimed; /* number of the title whose slot was begun last */
    _Atomic uint64_t newest;  /* number of the last whose slot is whole; 0: none */
    struct slot slots[TOWER_TITLES_KEPT];
};

int tower_titles_new(struct tower_titles **ret_titles) {
    struct tower_titles *titles = calloc(1, sizeof *titles);
    if (!titles)
        return -ENOMEM;
    int error = tower_mutex_init(&titles->lock, 0);
    if (error < 0) {
        free(titles);
        return error;
    }
    titles->due_frame = NEVER;
    *ret_titles = titles;
    return 0;
}

void tower_titles_free(struct tower_titles *titles) {
    if (!titles)
        return;
    (void)pthread_mutex_destroy(&titles->lock);
    free(titles);
}

/* ---- setting ---- */

static bool is_control(const uint8_t *character) {
    return character[0] < 0x20 || character[0] == 0x7f ||
           (character[0] == 0xc2 && character[1] < 0xa0);
}

static int clean(const char *text, size_t bytes, struct waiting_title *ret_title) {
    size_t filled = 0;
    bool is_cut = false;
    for (size_t at = 0; at < bytes;) {
        const uint8_t *character = (const uint8_t *)text + at;
        size_t n = tower_utf8_length(text + at, bytes - at);
        if (n == 0)
            return -EINVAL;
        at += n;
        if (is_control(character)) {
            character = (const uint8_t *)" ";
            n = 1;
        }
        is_cut |= filled + n > sizeof ret_title->text;
        if (is_cut || (filled == 0 && *character == ' '))
            continue;
        memcpy(ret_title->text + filled, character, n);
        filled += n;
    }
    while (filled > 0 && ret_title->text[filled - 1] == ' ')
        filled--;
    ret_title->bytes = filled;
    return 0;
}

/* The `i`th of those that wait. */
static struct waiting_title *waiting(struct tower_titles *titles, unsigned i) {
    return &titles->waiting[(titles->first_waiting + i) % WAITING_MAX];
}

static void update_due_frame(struct tower_titles *titles) {
    uint64_t due = titles->n_waiting > 0 ? waiting(titles, 0)->from_frame : NEVER;
    atomic_store_explicit(&titles->due_frame, due, memory_order_relaxed);
}

int tower_titles_set(struct tower_titles *titles, const char *text, size_t bytes,
                     uint64_t from_frame) {
    struct waiting_title title;
    int error = clean(text, bytes, &title);
    if (error < 0)
        return error;
    title.from_frame = from_frame == TOWER_TITLE_FROM_NEXT ? 0 : from_frame;
    pthread_mutex_lock(&titles->lock);
    while (titles->n_waiting > 0 &&
           (waiting(titles, titles->n_waiting - 1)->from_frame >= title.from_frame ||
            titles->n_waiting == WAITING_MAX))
        titles->n_waiting--;
    struct waiting_title *place = waiting(titles, titles->n_waiting++);
    place->from_frame = title.from_frame;
    place->bytes = title.bytes;
    memcpy(place->text, title.text, title.bytes);
    update_due_frame(titles);
    pthread_mutex_unlock(&titles->lock);
    return 0;
}

/* ---- going on air ---- */

/* With a release for each word: a reader that has seen one knows of the claim before it. */
static void store_words(_Atomic uint64_t *words, const void *data, size_t bytes) {
    for (size_t at = 0; at < bytes; at += WORD_BYTES) {
        uint64_t word = 0;
        memcpy(&word, (const uint8_t *)data + at,
               bytes - at < WORD_BYTES ? bytes - at : WORD_BYTES);
        atomic_store_explicit(&words[at / WORD_BYTES], word, memory_order_release);
    }
}

static uint64_t put_on_air(struct tower_titles *titles, const struct waiting_title *title,
                           uint64_t frame, uint64_t cursor) {
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX];
    size_t block_bytes = tower_icy_make_block(title->text, title->bytes, block);
    uint64_t number = atomic_load_explicit(&titles->newest, memory_order_relaxed) + 1;
    struct slot *slot = &titles->slots[number % TOWER_TITLES_KEPT];
    atomic_store_explicit(&titles->claimed, number, memory_order_relaxed);
    atomic_store_explicit(&slot->from_frame, frame, memory_order_release);
    atomic_store_explicit(&slot->cursor, cursor, memory_order_release);
    atomic_store_explicit(&slot->block_bytes, (uint32_t)block_bytes, memory_order_release);
    atomic_store_explicit(&slot->text_bytes, (uint32_t)title->bytes, memory_order_release);
    store_words(slot->words, block, block_bytes);
    store_words(slot->words + BLOCK_WORDS, title->text, title->bytes);
    atomic_store_explicit(&titles->newest, number, memory_order_release);
    return number;
}

void tower_titles_mark(struct tower_titles *titles, uint64_t frame, uint64_t cursor) {
    if (atomic_load_explicit(&titles->due_frame, memory_order_relaxed) > frame)
        return;
    if (pthread_mutex_trylock(&titles->lock) != 0)
        return;
    const struct waiting_title *due = NULL;
    while (titles->n_waiting > 0 && waiting(titles, 0)->from_frame <= frame) {
        due = waiting(titles, 0);
        titles->first_waiting = (titles->first_waiting + 1) % WAITING_MAX;
        titles->n_waiting--;
    }
    /* Those before it would hold for no frame at all. */
    if (due)
        (void)put_on_air(titles, due, frame, cursor);
    update_due_frame(titles);
    pthread_mutex_unlock(&titles->lock);
}

uint64_t tower_titles_put(struct tower_titles *titles, uint64_t in_place_of, const char *text,
                          size_t bytes, uint64_t frame, uint64_t cursor) {
    struct waiting_title title;
    uint64_t number = 0;
    if (clean(text, bytes, &title) < 0)
        return 0;
    pthread_mutex_lock(&titles->lock);
    if (in_place_of == TOWER_TITLE_ANY) {
        titles->n_waiting = 0;
        update_due_frame(titles);
    }
    if (in_place_of == TOWER_TITLE_ANY ||
        (atomic_load_explicit(&titles->newest, memory_order_relaxed) == in_place_of &&
         atomic_load_explicit(&titles->due_frame, memory_order_relaxed) > frame))
        number = put_on_air(titles, &title, frame, cursor);
    pthread_mutex_unlock(&titles->lock);
    return number;
}

/* ---- reading ---- */

static void load_words(const _Atomic uint64_t *words, void *ret_data, size_t bytes) {
    for (size_t at = 0; at < bytes; at += WORD_BYTES) {
        uint64_t word = atomic_load_explicit(&words[at / WORD_BYTES], memory_order_acquire);
        memcpy((uint8_t *)ret_data + at, &word, bytes - at < WORD_BYTES ? bytes - at : WORD_BYTES);
    }
}

/* Was what has been read from its slot that of title `number`? */
static bool is_kept(const struct tower_titles *titles, uint64_t number) {
    return atomic_load_explicit(&titles->claimed, memory_order_relaxed) - number <
           TOWER_TITLES_KEPT;
}

uint64_t tower_titles_at(const struct tower_titles *titles, uint64_t cursor) {
    uint64_t number = atomic_load_explicit(&titles->newest, memory_order_acquire);
    for (; number > 0; number--) {
        const struct slot *slot = &titles->slots[number % TOWER_TITLES_KEPT];
        uint64_t begin = atomic_load_explicit(&slot->cursor, memory_order_acquire);
        if (!is_kept(titles, number))
            return 0;
        if (begin <= cursor)
            return number;
    }
    return 0;
}

int tower_titles_copy_block(const struct tower_titles *titles, uint64_t number,
                            uint8_t *ret_block) {
    const struct slot *slot = &titles->slots[number % TOWER_TITLES_KEPT];
    uint32_t bytes = atomic_load_explicit(&slot->block_bytes, memory_order_acquire);
    load_words(slot->words, ret_block, bytes);
    return is_kept(titles, number) ? (int)bytes : -ESTALE;
}

void tower_titles_get(const struct tower_titles *titles, struct tower_title *ret_title) {
    uint64_t number;
    do {
        number = atomic_load_explicit(&titles->newest, memory_order_acquire);
        const struct slot *slot = &titles->slots[number % TOWER_TITLES_KEPT];
        uint32_t bytes = atomic_load_explicit(&slot->text_bytes, memory_order_acquire);
        ret_title->number = number;
        ret_title->from_frame = atomic_load_explicit(&slot->from_frame, memory_order_acquire);
        load_words(slot->words + BLOCK_WORDS, ret_title->text, bytes);
        ret_title->text[bytes] = '\0';
    } while (!is_kept(titles, number));
}
