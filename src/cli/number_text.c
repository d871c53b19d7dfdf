/* number_text.c - numbers on a command line. */
#include "number_text.h"

#include <stdlib.h>
#include <string.h>

/* More than any number that fits has. */
#define DIGITS_MAX 18

bool tower_number_whole(const char *text, uint32_t min, uint32_t max, uint32_t *ret_value) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > DIGITS_MAX || text[digits] != '\0')
        return false;
    unsigned long value = strtoul(text, NULL, 10);
    if (value < min || value > max)
        return false;
    *ret_value = (uint32_t)value;
    return true;
}

bool tower_number_decimal(const char *text, double min, double max, double *ret_value) {
    char *end;
    /* strtod() alone would take "inf", "0x10" and spaces in front. */
    if (*text == '\0' || text[strspn(text, "-.0123456789")] != '\0')
        return false;
    double value = strtod(text, &end);
    if (*end != '\0' || !(value >= min && value <= max))
        return false;
    *ret_value = value;
    return true;
}
