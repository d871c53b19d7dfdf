/* producer_identity.h - who a producer says it is.
 *
 * It decides who goes on air before whom; one that says nothing is anonymous.
 */
#ifndef TOWER_PRODUCER_IDENTITY_H
#define TOWER_PRODUCER_IDENTITY_H

#include <stdbool.h>

/* Of a name and of a label, with the NUL. */
#define TOWER_PRODUCER_NAME_BYTES 33
#define TOWER_PRODUCER_LABEL_BYTES 128

struct tower_producer_identity {
    /* 1 to 32 of a-z, 0-9, '.', '_' and '-'; "": anonymous. */
    char name[TOWER_PRODUCER_NAME_BYTES];
    /* What people call it: UTF-8 without control characters; "": nothing. Nothing is decided by it.
     */
    char label[TOWER_PRODUCER_LABEL_BYTES];
    bool is_live;   /* its audio is of now: what it sends while it waits is thrown away */
    bool is_source; /* a source client's: it reads the titles that the transmitter sends back */
};

#endif
