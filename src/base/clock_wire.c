/* clock_wire.c - both ends are on one host, so the order of bytes is its own. */
#include "clock_wire.h"

#include <math.h>
#include <string.h>

#define MAGIC "\xffTWRCLK"
#define UNITS_PER_PPM 1000
#define UNITS_MAX 2e9

enum { FLAG_KNOWN = 1, FLAG_OUT_OF_RANGE = 2 };

struct wire {
    char magic[8];
    int32_t rate; /* in thousandths of a ppm, as the next two */
    int32_t spread;
    int32_t correction;
    uint32_t flags;
    uint64_t n_overruns;
};
_Static_assert(sizeof(struct wire) == TOWER_CLOCK_WIRE_BYTES, "no padding");
_Static_assert(sizeof(MAGIC) == sizeof(((struct wire *)0)->magic), "the zero counts");

/* A NaN becomes an end as well: fmax() and fmin() give the other argument. */
static int32_t to_units(double ppm) {
    return (int32_t)fmax(-UNITS_MAX, fmin(UNITS_MAX, ppm * UNITS_PER_PPM));
}

void tower_clock_wire_write(const struct tower_clock_report *report,
                            uint8_t ret_bytes[TOWER_CLOCK_WIRE_BYTES]) {
    struct wire wire = {
        .magic = MAGIC,
        .rate = to_units(report->ppm),
        .spread = to_units(report->spread_ppm),
        .correction = to_units(report->correction_ppm),
        .flags = (report->is_known ? FLAG_KNOWN : 0U) |
                 (report->is_out_of_range ? FLAG_OUT_OF_RANGE : 0U),
        .n_overruns = report->n_overruns,
    };
    memcpy(ret_bytes, &wire, sizeof wire);
}

bool tower_clock_wire_read(const void *bytes, size_t n_bytes,
                           struct tower_clock_report *ret_report) {
    struct wire wire;
    if (n_bytes != sizeof wire)
        return false;
    memcpy(&wire, bytes, sizeof wire);
    if (memcmp(wire.magic, MAGIC, sizeof wire.magic) != 0)
        return false;
    *ret_report = (struct tower_clock_report){
        .is_known = (wire.flags & FLAG_KNOWN) != 0,
        .ppm = (double)wire.rate / UNITS_PER_PPM,
        .spread_ppm = (double)wire.spread / UNITS_PER_PPM,
        .correction_ppm = (double)wire.correction / UNITS_PER_PPM,
        .is_out_of_range = (wire.flags & FLAG_OUT_OF_RANGE) != 0,
        /* What JSON can say. */
        .n_overruns = wire.n_overruns & (uint64_t)INT64_MAX,
    };
    return true;
}
