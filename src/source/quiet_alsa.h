/* quiet_alsa.h - keeps libasound from writing to stderr; our errors are said by whoever asked. */
#ifndef TOWER_SOURCE_QUIET_ALSA_H
#define TOWER_SOURCE_QUIET_ALSA_H

void tower_quiet_alsa(void);

#endif
