/* metrics_text.h - the state of the transmitter for Prometheus. */
#ifndef TOWER_HTTP_METRICS_TEXT_H
#define TOWER_HTTP_METRICS_TEXT_H

#include "tower/status.h"

#define TOWER_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* For /metrics: everything there is in `status`, as doc/metrics.md explains it. Returns text from
 * malloc, and its length in `ret_bytes`; NULL if there is no memory. */
char *tower_metrics_text(const struct tower_status *status, size_t *ret_bytes);

#endif
