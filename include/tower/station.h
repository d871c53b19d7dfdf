/* station.h - who is on air, as players, directories and the page show it. */
#ifndef TOWER_STATION_H
#define TOWER_STATION_H

/* UTF-8 without control characters; "" where it was not said. Borrowed. */
struct tower_station {
    const char *name;
    const char *description;
    const char *genre;
    const char *url; /* of its own web site */
};

#endif
