/* icy_reader.h - the player's side of titles in the stream: takes stream and blocks apart. */
#ifndef TOWER_TESTS_ICY_READER_H
#define TOWER_TESTS_ICY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ICY_READER_METAINT 16000
#define ICY_READER_BLOCKS 512

struct icy_reader {
    size_t until_block; /* begins with ICY_READER_METAINT */
    bool is_in_block;
    size_t block_left; /* bytes, behind the one that says how many */
    size_t block_filled;
    char block[255 * 16 + 1];
    size_t n_stream;
    /* Blocks that were more than a zero, as titles; and after how many bytes of stream. */
    size_t n_blocks; /* of all kinds */
    size_t n_titles;
    struct {
        size_t at;
        char text[256]; /* as much of it as fits */
    } titles[ICY_READER_BLOCKS];
    bool is_broken; /* a block was none */
};

static inline void icy_reader_finish_block(struct icy_reader *reader) {
    reader->is_in_block = false;
    reader->until_block = ICY_READER_METAINT;
    reader->n_blocks++;
    if (reader->block_filled == 0)
        return;
    reader->block[reader->block_filled] = '\0';
    char *end = strstr(reader->block, "';");
    if (strncmp(reader->block, "StreamTitle='", 13) != 0 || !end ||
        reader->n_titles == ICY_READER_BLOCKS) {
        reader->is_broken = true;
        return;
    }
    for (const char *rest = end + 2; rest < reader->block + reader->block_filled; rest++)
        reader->is_broken |= *rest != '\0';
    *end = '\0';
    strncpy(reader->titles[reader->n_titles].text, reader->block + 13, 255);
    reader->titles[reader->n_titles++].at = reader->n_stream;
}

/* Take `bytes` in; what is stream among them goes to `ret_stream`. Returns how many that is. */
static inline size_t icy_reader_take(struct icy_reader *reader, const uint8_t *data, size_t bytes,
                                     uint8_t *ret_stream) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (reader->is_in_block) {
            reader->block[reader->block_filled++] = (char)data[i];
            if (--reader->block_left == 0)
                icy_reader_finish_block(reader);
        } else if (reader->until_block == 0) {
            reader->is_in_block = true;
            reader->block_left = (size_t)16 * data[i];
            reader->block_filled = 0;
            if (reader->block_left == 0)
                icy_reader_finish_block(reader);
        } else {
            ret_stream[n++] = data[i];
            reader->until_block--;
            reader->n_stream++;
        }
    }
    return n;
}

#endif
