/* playlist_xspf.c - XSPF, which is XML: read by expat, without entities of a document's own. */
#include "playlist.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of one element's text; what is longer is cut, and a path of that length is refused anyway. */
#define TEXT_BYTES 8192
#define DEPTH_MAX 64

enum field { FIELD_NONE, FIELD_LOCATION, FIELD_TITLE, FIELD_CREATOR, FIELDS };

struct reader {
    XML_Parser parser;
    struct tower_playlist *playlist;
    const char *folder;
    int error;
    unsigned depth;
    unsigned track_depth; /* 0: not in a track */
    enum field field;     /* whose text comes */
    size_t filled[FIELDS];
    char texts[FIELDS][TEXT_BYTES];
};

static void fail(struct reader *reader, int error) {
    reader->error = error;
    (void)XML_StopParser(reader->parser, XML_FALSE);
}

/* Whatever namespace it is in. */
static const char *local_name(const char *name) {
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static enum field field_of(const char *name) {
    if (strcmp(name, "location") == 0)
        return FIELD_LOCATION;
    if (strcmp(name, "title") == 0)
        return FIELD_TITLE;
    return strcmp(name, "creator") == 0 ? FIELD_CREATOR : FIELD_NONE;
}

static void XMLCALL begin_element(void *context, const char *name, const char **attributes) {
    struct reader *reader = context;
    (void)attributes;
    if (++reader->depth > DEPTH_MAX) {
        fail(reader, -EILSEQ);
        return;
    }
    name = local_name(name);
    if (reader->track_depth == 0 && strcmp(name, "track") == 0) {
        reader->track_depth = reader->depth;
        memset(reader->filled, 0, sizeof reader->filled);
    } else if (reader->track_depth > 0 && reader->depth == reader->track_depth + 1) {
        enum field field = field_of(name);
        /* Of several places the first is the one that counts. */
        reader->field = reader->filled[field] == 0 ? field : FIELD_NONE;
    }
}

static void XMLCALL take_text(void *context, const char *text, int bytes) {
    struct reader *reader = context;
    size_t *filled = &reader->filled[reader->field];
    size_t n = bytes > 0 ? (size_t)bytes : 0;
    if (reader->field == FIELD_NONE || n > TEXT_BYTES - 1 - *filled)
        return;
    memcpy(reader->texts[reader->field] + *filled, text, n);
    *filled += n;
}

static char *trimmed(struct reader *reader, enum field field) {
    char *text = reader->texts[field];
    text[reader->filled[field]] = '\0';
    text += strspn(text, " \t\r\n");
    size_t bytes = strlen(text);
    while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]))
        bytes--;
    text[bytes] = '\0';
    return text;
}

static int add_track(struct reader *reader) {
    const char *location = trimmed(reader, FIELD_LOCATION);
    const char *title = trimmed(reader, FIELD_TITLE);
    const char *creator = trimmed(reader, FIELD_CREATOR);
    char whole[2 * TEXT_BYTES];
    if (!*location) {
        tower_playlist_note_unusable(reader->playlist, XML_GetCurrentLineNumber(reader->parser),
                                     "a track without a location");
        return 0;
    }
    (void)snprintf(whole, sizeof whole, "%s%s%s", *title ? creator : "",
                   *title && *creator ? " - " : "", title);
    return tower_playlist_add_location(reader->playlist, reader->folder, location, true, whole);
}

static void XMLCALL end_element(void *context, const char *name) {
    struct reader *reader = context;
    (void)name;
    if (reader->track_depth > 0 && reader->depth == reader->track_depth) {
        int error = add_track(reader);
        reader->track_depth = 0;
        if (error < 0)
            fail(reader, error);
    }
    if (reader->depth <= reader->track_depth + 1)
        reader->field = FIELD_NONE;
    reader->depth--;
}

/* No list needs entities of its own, and they are how XML grows or reaches for other files. */
static void XMLCALL refuse_entity(void *context, const char *name, int is_parameter,
                                  const char *value, int value_bytes, const char *base,
                                  const char *system_id, const char *public_id,
                                  const char *notation) {
    (void)name, (void)is_parameter, (void)value, (void)value_bytes;
    (void)base, (void)system_id, (void)public_id, (void)notation;
    fail(context, -EILSEQ);
}

int tower_playlist_parse_xspf(struct tower_playlist *playlist, const char *folder, char *text,
                              size_t bytes) {
    struct reader *reader = calloc(1, sizeof *reader);
    XML_Parser parser = XML_ParserCreate(NULL);
    int error = -ENOMEM;
    if (reader && parser) {
        reader->parser = parser;
        reader->playlist = playlist;
        reader->folder = folder;
        XML_SetUserData(parser, reader);
        XML_SetElementHandler(parser, begin_element, end_element);
        XML_SetCharacterDataHandler(parser, take_text);
        XML_SetEntityDeclHandler(parser, refuse_entity);
        enum XML_Status status = bytes <= TOWER_PLAYLIST_BYTES_MAX
                                     ? XML_Parse(parser, text, (int)bytes, XML_TRUE)
                                     : XML_STATUS_ERROR;
        error = reader->error;
        if (error == 0 && status != XML_STATUS_OK)
            error = XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EILSEQ;
    }
    if (parser)
        XML_ParserFree(parser);
    free(reader);
    return error;
}
