/* titles.c - titles that wait for their frame, and those that had it: one writer, lock-free
 * readers.
 *
 * A title that has gone on air lies in the slot of its number until TOWER_TITLES_KEPT more have.
 * Slots are read while they are written: everything in them is atomic, and a reader that is done
 * looks whether the writer has come round to its slot meanwhile.
 */
#include "title_history.h"

#include "tower/log.h"
#include "tower/region.h"

#include "icy.h"
#include "thread.h"
#include "utf8.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_MAGIC UINT64_C(0x746f776572746974) /* "towertit" */
#define HISTORY_VERSION 1
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

/* What lies in the region. */
struct history {
    /* Constant once made. */
    uint64_t magic;
    uint32_t version;
    uint32_t history_bytes;

    /* Constant once made or opened. */
    uint64_t oldest; /* number of the first that is there, or would be */

    /* Atomic, written by the air's writer, read by anyone. */
    _Atomic uint64_t claimed; /* number of the title whose slot was begun last */
    _Atomic uint64_t newest;  /* number of the last whose slot is whole; 0: none */
    struct slot slots[TOWER_TITLES_KEPT];
};

struct waiting_title {
    uint64_t from_frame; /* 0 for the next one */
    size_t bytes;
    char text[TOWER_TITLE_BYTES_MAX];
};

struct tower_titles {
    /* Constant once made. */
    struct tower_region region;
    struct history *history;

    pthread_mutex_t lock;

    /* Guarded by lock: a queue, frames rising. */
    struct waiting_title waiting[WAITING_MAX];
    unsigned first_waiting;
    unsigned n_waiting;

    /* Atomic, written under the lock, read by the air's writer. */
    _Atomic uint64_t due_frame; /* of the first that waits, or NEVER */
};

int tower_titles_new(struct tower_titles **ret_titles) {
    return tower_titles_open(-1, 0, ret_titles);
}

static int make(struct tower_titles *titles) {
    int error = tower_region_init(&titles->region, "tower-titles", sizeof *titles->history);
    if (error < 0)
        return error;
    titles->history = titles->region.memory;
    titles->history->magic = HISTORY_MAGIC;
    titles->history->version = HISTORY_VERSION;
    titles->history->history_bytes = sizeof *titles->history;
    return 0;
}

static int take_over(struct tower_titles *titles, int fd, uint64_t head);

int tower_titles_open(int fd, uint64_t head, struct tower_titles **ret_titles) {
    int result = 0;
    struct tower_titles *titles = calloc(1, sizeof *titles);
    if (!titles)
        return -ENOMEM;
    if (fd >= 0) {
        result = take_over(titles, fd, head);
        if (result == 0)
            tower_log(TOWER_LOG_WARNING, "titles",
                      "the titles that were left are not sound: there are none now");
    }
    if (result == 0)
        result = make(titles);
    if (result < 0)
        goto fail;
    int error = tower_mutex_init(&titles->lock, 0);
    if (error < 0) {
        result = error;
        goto fail_region;
    }
    titles->due_frame = NEVER;
    *ret_titles = titles;
    return result;

fail_region:
    /* One that was not made here is the caller's still. */
    if (titles->region.fd == fd)
        titles->region.fd = -1;
    tower_region_done(&titles->region);
fail:
    free(titles);
    return result;
}

void tower_titles_free(struct tower_titles *titles) {
    if (!titles)
        return;
    tower_region_done(&titles->region);
    (void)pthread_mutex_destroy(&titles->lock);
    free(titles);
}

int tower_titles_fd(const struct tower_titles *titles) {
    return titles->region.fd;
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
    uint64_t number = atomic_load_explicit(&titles->history->newest, memory_order_relaxed) + 1;
    struct slot *slot = &titles->history->slots[number % TOWER_TITLES_KEPT];
    /* In this order, of which a kill leaves any beginning: one that is claimed and not the newest
     * is not whole, and the one that was in its slot is forgotten. */
    atomic_store_explicit(&titles->history->claimed, number, memory_order_relaxed);
    atomic_store_explicit(&slot->from_frame, frame, memory_order_release);
    atomic_store_explicit(&slot->cursor, cursor, memory_order_release);
    atomic_store_explicit(&slot->block_bytes, (uint32_t)block_bytes, memory_order_release);
    atomic_store_explicit(&slot->text_bytes, (uint32_t)title->bytes, memory_order_release);
    store_words(slot->words, block, block_bytes);
    store_words(slot->words + BLOCK_WORDS, title->text, title->bytes);
    atomic_store_explicit(&titles->history->newest, number, memory_order_release);
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
        (atomic_load_explicit(&titles->history->newest, memory_order_relaxed) == in_place_of &&
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
    return number >= titles->history->oldest &&
           atomic_load_explicit(&titles->history->claimed, memory_order_relaxed) - number <
               TOWER_TITLES_KEPT;
}

uint64_t tower_titles_at(const struct tower_titles *titles, uint64_t cursor) {
    uint64_t number = atomic_load_explicit(&titles->history->newest, memory_order_acquire);
    for (; number > 0; number--) {
        const struct slot *slot = &titles->history->slots[number % TOWER_TITLES_KEPT];
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
    const struct slot *slot = &titles->history->slots[number % TOWER_TITLES_KEPT];
    uint32_t bytes = atomic_load_explicit(&slot->block_bytes, memory_order_acquire);
    load_words(slot->words, ret_block, bytes);
    return is_kept(titles, number) ? (int)bytes : -ESTALE;
}

void tower_titles_get(const struct tower_titles *titles, struct tower_title *ret_title) {
    uint64_t number;
    do {
        number = atomic_load_explicit(&titles->history->newest, memory_order_acquire);
        const struct slot *slot = &titles->history->slots[number % TOWER_TITLES_KEPT];
        uint32_t bytes = atomic_load_explicit(&slot->text_bytes, memory_order_acquire);
        ret_title->number = number;
        ret_title->from_frame = atomic_load_explicit(&slot->from_frame, memory_order_acquire);
        load_words(slot->words + BLOCK_WORDS, ret_title->text, bytes);
        ret_title->text[bytes] = '\0';
    } while (!is_kept(titles, number));
}

/* ---- going on with what another process left ---- */

/* Is slot `number` as put_on_air() makes one? */
static bool is_sound_slot(const struct slot *slot) {
    struct waiting_title title;
    char text[TOWER_TITLE_BYTES_MAX];
    uint8_t block[TOWER_ICY_BLOCK_BYTES_MAX], wanted[TOWER_ICY_BLOCK_BYTES_MAX];
    size_t text_bytes = slot->text_bytes, block_bytes = slot->block_bytes;
    if (text_bytes > sizeof text || block_bytes > sizeof block)
        return false;
    load_words(slot->words + BLOCK_WORDS, text, text_bytes);
    load_words(slot->words, block, block_bytes);
    return clean(text, text_bytes, &title) == 0 && title.bytes == text_bytes &&
           memcmp(title.text, text, text_bytes) == 0 &&
           tower_icy_make_block(text, text_bytes, wanted) == block_bytes &&
           memcmp(block, wanted, block_bytes) == 0;
}

static void forget(struct slot *slot) {
    atomic_store_explicit(&slot->text_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->block_bytes, 0, memory_order_relaxed);
}

/* False if it cannot have come to be as it is. Doing it twice changes nothing more, as this process
 * may be killed in the middle of it too. */
static bool repair(struct history *history, uint64_t head) {
    uint64_t newest = history->newest, claimed = history->claimed;
    if (history->magic != HISTORY_MAGIC || history->version != HISTORY_VERSION ||
        history->history_bytes != sizeof *history || newest >= INT64_MAX || claimed < newest ||
        claimed - newest > 1 || history->oldest > newest)
        return false;
    uint64_t oldest = claimed >= TOWER_TITLES_KEPT ? claimed - TOWER_TITLES_KEPT + 1 : 1;
    if (oldest < history->oldest)
        oldest = history->oldest;
    bool is_sound[TOWER_TITLES_KEPT] = {false};
    uint64_t number = newest;
    /* No frame is empty. */
    uint64_t cursor_max = head, frame_max = head;
    for (; number >= oldest && number > 0; number--) {
        const struct slot *slot = &history->slots[number % TOWER_TITLES_KEPT];
        if (slot->cursor > cursor_max || slot->from_frame > frame_max || !is_sound_slot(slot))
            break;
        cursor_max = slot->cursor;
        frame_max = slot->from_frame;
        is_sound[number % TOWER_TITLES_KEPT] = true;
    }
    if (number == newest && newest > 0)
        return false;
    if (number > 0 && number + 1 > oldest)
        history->oldest = number + 1;
    /* A reader looks into a slot first, and whether it is kept then. */
    for (size_t i = 0; i < TOWER_TITLES_KEPT; i++) {
        if (!is_sound[i])
            forget(&history->slots[i]);
    }
    return true;
}

/* Returns 1 if `titles` has what is behind `fd`, 0 if that does not hold. */
static int take_over(struct tower_titles *titles, int fd, uint64_t head) {
    struct tower_region region;
    int error = tower_region_open(&region, fd, sizeof *titles->history);
    if (error < 0)
        return error == -ENOMEM ? error : 0;
    if (!repair(region.memory, head)) {
        region.fd = -1;
        tower_region_done(&region);
        return 0;
    }
    titles->region = region;
    titles->history = region.memory;
    return 1;
}
