/* flac_pages.h - FLAC (RFC 9639) as it comes, made Ogg of (https://xiph.org/flac/ogg_mapping.html).
 *
 * ffmpeg believes in FLAC by itself only after ten frames; in Ogg at once.
 */
#ifndef TOWER_SOURCE_FLAC_PAGES_H
#define TOWER_SOURCE_FLAC_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct tower_flac_pages;

/* Errors: -ENOMEM. */
int tower_flac_pages_new(struct tower_flac_pages **ret_pages);
void tower_flac_pages_free(struct tower_flac_pages *pages);

/* Take some of the `*left` bytes at `*at`, which are moved on. Returns 1 with a page, valid until
 * the next call: a frame is given as a page, or several, as soon as its last byte is there. 0: all
 * was taken, and no frame is whole; as long as there is more to give, a byte is left to be offered
 * again. What is no frame is passed over, and a tag of ID3 in front; a stream's head ("fLaC" and so
 * on) begins a new link of the Ogg chain, of which the description and the comments are kept.
 * Errors: -EPROTO (no FLAC comes, or too much beside the sound), -ENOMEM. */
int tower_flac_pages_take(struct tower_flac_pages *pages, const uint8_t **at, size_t *left,
                          const uint8_t **ret_page, size_t *ret_bytes);

#endif
