/* source.c - AudioSource: the calls that are the same for every kind. */
#include "tower/source.h"

#include <errno.h>

size_t tower_source_chunk_bytes(const struct tower_source *source) {
    return source->info.chunk_samples * source->info.channels * sizeof(int16_t);
}

int tower_source_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    return source->ops->read(source, ret_chunk, ret_bytes);
}

int tower_source_rewind(struct tower_source *source) {
    return source->ops->rewind ? source->ops->rewind(source) : -ENOTSUP;
}

void tower_source_close(struct tower_source *source) {
    if (source)
        source->ops->close(source);
}
