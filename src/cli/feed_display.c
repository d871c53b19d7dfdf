/* feed_display.c - messages and the line of state of `tower feed`. */
#include "feed_display.h"

#include "tower/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_CELLS 20
#define BAR_FLOOR_DBFS (-60.0)
#define LINE_BYTES 512
#define DEFAULT_COLUMNS 80
#define CLEAR_TO_END "\033[K"

void tower_feed_display_init(struct tower_feed_display *display, const char *name) {
    *display = (struct tower_feed_display){
        .name = name,
        .is_terminal = isatty(STDERR_FILENO) == 1,
        .drawn_ns = INT64_MIN,
    };
}

bool tower_feed_display_is_due(const struct tower_feed_display *display, int64_t now_ns) {
    return display->is_terminal &&
           (display->drawn_ns == INT64_MIN || now_ns - display->drawn_ns >= TOWER_FEED_DRAW_NS);
}

static void write_time(char *text, size_t bytes, int64_t time_ns) {
    int64_t s = time_ns / TOWER_NS_PER_S;
    if (s < 3600)
        (void)snprintf(text, bytes, "%d:%02d", (int)(s / 60), (int)(s % 60));
    else
        (void)snprintf(text, bytes, "%lld:%02d:%02d", (long long)(s / 3600), (int)(s / 60 % 60),
                       (int)(s % 60));
}

static void write_bar(char *text, int n_cells, double dbfs) {
    int cells = (int)((dbfs - BAR_FLOOR_DBFS) / -BAR_FLOOR_DBFS * n_cells + 0.5);
    for (int i = 0; i < n_cells; i++)
        text[i] = i < cells ? '#' : '.';
    text[n_cells] = '\0';
}

/* Make a line safe and short enough: no control characters from a file's name, and no more columns
 * than there are, not to leave half a line behind at each drawing. Each character is counted as one
 * column; a cut falls between characters. */
static void fit(char *line, size_t columns) {
    size_t used = 0;
    for (char *at = line; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte < 0x20 || byte == 0x7f)
            *at = '?';
        if ((byte & 0xc0) != 0x80 && used++ == columns) {
            *at = '\0';
            return;
        }
    }
}

static size_t count_columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 2)
        return DEFAULT_COLUMNS - 1;
    return size.ws_col - 1U;
}

void tower_feed_display_draw(struct tower_feed_display *display, int64_t now_ns,
                             const struct tower_feed_view *view) {
    char position[32], length[40] = "", bar[BAR_CELLS + 1], ahead[40] = "", dropped[40] = "";
    char clock[96] = "", overruns[40] = "";
    char line[LINE_BYTES];
    write_time(position, sizeof position, view->position_ns);
    if (view->length_ns >= 0) {
        char time[32];
        write_time(time, sizeof time, view->length_ns);
        (void)snprintf(length, sizeof length, " / %s", time);
    }
    write_bar(bar, view->number > 0 ? BAR_CELLS / 2 : BAR_CELLS, view->peak_dbfs);
    if (view->ahead_ns >= 0)
        (void)snprintf(ahead, sizeof ahead, ", %.1f s ahead",
                       (double)view->ahead_ns / (double)TOWER_NS_PER_S);
    if (view->dropped_ns > 0)
        (void)snprintf(dropped, sizeof dropped, ", %.1f s dropped",
                       (double)view->dropped_ns / (double)TOWER_NS_PER_S);
    if (view->has_clock)
        (void)snprintf(clock, sizeof clock, ", clock %+.1f\u00b1%.1f ppm, corrected %+.1f",
                       view->clock_ppm, view->clock_spread_ppm, view->correction_ppm);
    if (view->n_overruns > 0)
        (void)snprintf(overruns, sizeof overruns, ", %llu overruns",
                       (unsigned long long)view->n_overruns);
    /* Of a list what is playing comes first: of a narrow terminal's line the end is cut off. */
    if (view->number > 0)
        (void)snprintf(line, sizeof line, "file %zu of %zu  %s%s  [%s] %6.1f dBFS  %s  %s%s%s",
                       view->number, view->n_files, position, length, bar, view->peak_dbfs,
                       view->name && *view->name ? view->name : display->name, view->state, ahead,
                       dropped);
    else
        (void)snprintf(line, sizeof line, "%s%s  [%s] %6.1f dBFS  %s%s%s%s%s  %s", position, length,
                       bar, view->peak_dbfs, view->state, ahead, dropped, overruns, clock,
                       display->name);
    fit(line, count_columns());
    (void)fprintf(stderr, "\r%s" CLEAR_TO_END, line);
    (void)fflush(stderr);
    display->has_line = true;
    display->drawn_ns = now_ns;
}

void tower_feed_display_say(struct tower_feed_display *display, const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fit(line, sizeof line);
    (void)fprintf(stderr, "%stower feed: %s\n", display->has_line ? "\r" CLEAR_TO_END : "", line);
    display->has_line = false;
    display->drawn_ns = INT64_MIN;
}

void tower_feed_display_done(struct tower_feed_display *display) {
    if (display->has_line)
        (void)fputc('\n', stderr);
    display->has_line = false;
}
