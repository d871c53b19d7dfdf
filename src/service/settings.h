/* settings.h - the one table of settings: it drives the file, the environment, the flags, --help
 * and `tower check`.
 */
#ifndef TOWER_SERVICE_SETTINGS_H
#define TOWER_SERVICE_SETTINGS_H

#include "tower/config.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a value is written like, and what field it fills. */
enum tower_setting_kind {
    TOWER_SETTING_STRING,       /* char[]: a host or a program, not empty, no white space */
    TOWER_SETTING_PATH,         /* char[] */
    TOWER_SETTING_TEXT,         /* char[]: for people to read; UTF-8 */
    TOWER_SETTING_URL,          /* char[]: http:// or https://, no slash at its end; or empty */
    TOWER_SETTING_PORT,         /* uint16_t */
    TOWER_SETTING_INTEGER,      /* uint32_t */
    TOWER_SETTING_INTEGER_AUTO, /* uint32_t; "auto" is 0 */
    TOWER_SETTING_INTEGER_NONE, /* uint32_t; "none" is 0 */
    TOWER_SETTING_MILLISECONDS, /* int64_t, ns */
    TOWER_SETTING_MS_AUTO,      /* int64_t, ns; "auto" is 0 */
    TOWER_SETTING_SECONDS,      /* int64_t, ns; decimals */
    TOWER_SETTING_BITRATE,      /* uint32_t, bit/s; "128k", "128000" or "128" */
    TOWER_SETTING_DECIBEL,      /* double; decimals */
    TOWER_SETTING_HERTZ,        /* double; decimals; 0 as well as the range */
    TOWER_SETTING_WORD,         /* an enum: the place of the word in `words` */
    TOWER_SETTING_BOOL,         /* bool */
    TOWER_SETTING_NAMES,        /* char[]: of producers, white space or commas between; or empty */
    TOWER_SETTING_BACKOFF,      /* the two encoder_backoff fields; milliseconds, commas between */
};

struct tower_setting {
    const char *key;        /* in the file */
    const char *flag;       /* with its two dashes */
    const char *variable;   /* in the environment */
    const char *value_name; /* what stands for the value in --help and in the man page */
    enum tower_setting_kind kind;
    size_t offset;              /* of the field in struct tower_config */
    int64_t min;                /* in the unit the value is written in, unless a list is given; */
    int64_t max;                /* for text its length in bytes */
    const uint32_t *choices;    /* the only numbers allowed, ended by 0; or NULL */
    const char *const *words;   /* ended by NULL; or NULL */
    const char *default_text;   /* as in the file; NULL: worked out by tower_config_init() */
    const char *default_reader; /* the default in words, where the text would not tell; or NULL */
    const char *help;           /* one line */
};

extern const struct tower_setting tower_settings[];
extern const size_t tower_settings_count;

/* The place of `key` in the table; tower_settings_count if it is not there. */
size_t tower_setting_find(const char *key);

/* Read `text` into the setting's field. Pure; depends on no locale.
 * Errors: -EINVAL (not as tower_setting_print_expected() says); `config` is as it was. */
int tower_setting_parse(const struct tower_setting *setting, const char *text,
                        struct tower_config *config);

/* Write the field as tower_setting_parse() takes it. */
void tower_setting_print_value(const struct tower_setting *setting,
                               const struct tower_config *config, FILE *out);

/* Write what a value must be, to follow "expected ". */
void tower_setting_print_expected(const struct tower_setting *setting, FILE *out);

/* Write the default as a person reads it, "none" where it is empty. */
void tower_setting_print_default(const struct tower_setting *setting, FILE *out);

/* The one of `n_words` words (a NULL among them is passed over) that `word` is most likely a slip
 * of; NULL if none is near. */
const char *tower_word_nearest(const char *word, const char *const *words, size_t n_words);

#endif
