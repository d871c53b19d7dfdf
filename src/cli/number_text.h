/* number_text.h - numbers on a command line: digits and no more than they need. */
#ifndef TOWER_CLI_NUMBER_TEXT_H
#define TOWER_CLI_NUMBER_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* Is `text` a whole number from `min` to `max`, in digits alone? Then it is in `ret_value`. */
bool tower_number_whole(const char *text, uint32_t min, uint32_t max, uint32_t *ret_value);

/* Likewise a number such as 2.5 or -16. */
bool tower_number_decimal(const char *text, double min, double max, double *ret_value);

#endif
