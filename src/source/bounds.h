/* bounds.h - what a source may be asked for; the same for every kind. */
#ifndef TOWER_SOURCE_BOUNDS_H
#define TOWER_SOURCE_BOUNDS_H

#define TOWER_SOURCE_RATE_MIN_HZ 1000
#define TOWER_SOURCE_RATE_MAX_HZ 384000
#define TOWER_SOURCE_CHANNELS_MAX 8
#define TOWER_SOURCE_CHUNK_SAMPLES_MAX 1048576
/* Of a file and of raw PCM: one frame, where the rate is the transmitter's. */
#define TOWER_SOURCE_CHUNK_SAMPLES_DEFAULT 1152

#endif
