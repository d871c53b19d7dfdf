/* tower.h - everything libtower offers. A producer needs only tower/producer.h. */
#ifndef TOWER_TOWER_H
#define TOWER_TOWER_H

#include "tower/addresses.h"
#include "tower/air.h"
#include "tower/clock.h"
#include "tower/config.h"
#include "tower/converter.h"
#include "tower/encoder_manager.h"
#include "tower/fallback.h"
#include "tower/fanout.h"
#include "tower/format.h"
#include "tower/frame_ring.h"
#include "tower/framer.h"
#include "tower/histogram.h"
#include "tower/http_server.h"
#include "tower/levels.h"
#include "tower/listener.h"
#include "tower/log.h"
#include "tower/mp3.h"
#include "tower/pcm_socket.h"
#include "tower/producer.h"
#include "tower/pump.h"
#include "tower/region.h"
#include "tower/router.h"
#include "tower/service.h"
#include "tower/source.h"
#include "tower/status.h"
#include "tower/titles.h"
#include "tower/transition.h"
#include "tower/version.h"

#endif
