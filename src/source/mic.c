/* mic.c - captures by ALSA, and waits for a device that went away. */
#include "bounds.h"
#include "quiet_alsa.h"
#include "tower/source.h"

#include <alsa/asoundlib.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_US 500000
#define PERIOD_US 10000
/* A sound server may have a thread that takes our signals: so no wait is long. */
#define WAIT_MS 250
#define DESCRIPTORS_MAX 32
#define BACKOFF_FIRST_NS (TOWER_NS_PER_S / 4)
#define BACKOFF_LAST_NS (5 * TOWER_NS_PER_S)
/* A device that gives nothing at all, though ALSA says that it runs, is taken anew. A sound server
 * that was killed can look like that. */
#define MUTE_NS (5 * TOWER_NS_PER_S)

struct mic_source {
    struct tower_source base;

    /* Constant after open. */
    struct tower_clock *clock;
    char *device;

    /* Owned by the reader. */
    snd_pcm_t *pcm; /* NULL: it is away */
    int64_t next_try_ns;
    int64_t backoff_ns;
    int64_t looked_ns; /* when it was last asked */
    int64_t heard_ns;  /* when it last gave something, or was opened */
    int16_t *held;     /* a chunk in the making */
    size_t held_samples;
};

static void __attribute__((format(printf, 5, 6)))
say_nothing(const char *file, int line, const char *function, int error, const char *format, ...) {
    (void)file;
    (void)line;
    (void)function;
    (void)error;
    (void)format;
}

void tower_quiet_alsa(void) {
    (void)snd_lib_error_set_handler(say_nothing);
}

/* ---- opening ---- */

/* Set up `pcm`, at `*rate_hz` and `*channels` or what comes nearest, and start it. */
static int set_up(snd_pcm_t *pcm, uint32_t *rate_hz, unsigned *channels) {
    snd_pcm_hw_params_t *params;
    unsigned rate = *rate_hz, n_channels = *channels;
    unsigned buffer_us = BUFFER_US, period_us = PERIOD_US;
    snd_pcm_hw_params_alloca(&params);
    int error = snd_pcm_hw_params_any(pcm, params);
    /* We convert rates better. */
    if (error >= 0)
        error = snd_pcm_hw_params_set_rate_resample(pcm, params, 0);
    if (error >= 0)
        error = snd_pcm_hw_params_set_access(pcm, params, SND_PCM_ACCESS_RW_INTERLEAVED);
    if (error >= 0)
        error = snd_pcm_hw_params_set_format(pcm, params, SND_PCM_FORMAT_S16_LE);
    if (error >= 0)
        error = snd_pcm_hw_params_set_channels_near(pcm, params, &n_channels);
    if (error >= 0)
        error = snd_pcm_hw_params_set_rate_near(pcm, params, &rate, NULL);
    if (error >= 0)
        error = snd_pcm_hw_params_set_period_time_near(pcm, params, &period_us, NULL);
    if (error >= 0)
        error = snd_pcm_hw_params_set_buffer_time_near(pcm, params, &buffer_us, NULL);
    if (error >= 0)
        error = snd_pcm_hw_params(pcm, params);
    if (error < 0)
        return error;
    if (rate < TOWER_SOURCE_RATE_MIN_HZ || rate > TOWER_SOURCE_RATE_MAX_HZ || n_channels < 1 ||
        n_channels > TOWER_SOURCE_CHANNELS_MAX)
        return -EINVAL;
    error = snd_pcm_start(pcm);
    if (error < 0)
        return error;
    *rate_hz = rate;
    *channels = n_channels;
    return 0;
}

static int open_pcm(const char *device, uint32_t *rate_hz, unsigned *channels,
                    snd_pcm_t **ret_pcm) {
    snd_pcm_t *pcm;
    int error = snd_pcm_open(&pcm, device, SND_PCM_STREAM_CAPTURE, SND_PCM_NONBLOCK);
    if (error < 0)
        return error;
    error = set_up(pcm, rate_hz, channels);
    if (error < 0) {
        (void)snd_pcm_close(pcm);
        return error;
    }
    *ret_pcm = pcm;
    return 0;
}

/* ---- there and away ---- */

static void go_away(struct mic_source *mic, const char *why) {
    (void)snd_pcm_close(mic->pcm);
    mic->pcm = NULL;
    mic->held_samples = 0;
    mic->backoff_ns = BACKOFF_FIRST_NS;
    mic->next_try_ns = tower_clock_now_ns(mic->clock) + mic->backoff_ns;
    mic->base.live.is_away = true;
    mic->base.live.n_absences++;
    mic->base.live.away_why = why;
}

static void try_again(struct mic_source *mic) {
    uint32_t rate_hz = mic->base.info.rate_hz;
    unsigned channels = mic->base.info.channels;
    snd_pcm_t *pcm;
    int error = open_pcm(mic->device, &rate_hz, &channels, &pcm);
    /* Another device by the same name may be of another kind. */
    if (error == 0 && (rate_hz != mic->base.info.rate_hz || channels != mic->base.info.channels)) {
        (void)snd_pcm_close(pcm);
        mic->base.live.away_why = "it is back with another rate or other channels";
        error = -EINVAL;
    }
    int64_t now_ns = tower_clock_now_ns(mic->clock);
    if (error < 0) {
        mic->backoff_ns *= 2;
        if (mic->backoff_ns > BACKOFF_LAST_NS)
            mic->backoff_ns = BACKOFF_LAST_NS;
        mic->next_try_ns = now_ns + mic->backoff_ns;
        return;
    }
    mic->pcm = pcm;
    mic->heard_ns = now_ns;
    mic->looked_ns = now_ns;
    mic->base.live.is_away = false;
}

/* ---- reading ---- */

static void mend(struct mic_source *mic, int error) {
    bool is_overrun = error == -EPIPE || error == -ESTRPIPE;
    if (is_overrun) {
        mic->held_samples = 0;
        error = snd_pcm_recover(mic->pcm, error, 1);
        if (error == 0)
            error = snd_pcm_start(mic->pcm);
    }
    if (error < 0)
        go_away(mic, snd_strerror(error));
    else if (is_overrun)
        mic->base.live.n_overruns++;
}

/* Wait for samples. Returns 0 to look, -EINTR. */
static int wait_for_samples(struct mic_source *mic) {
    struct pollfd polled[DESCRIPTORS_MAX];
    int count = snd_pcm_poll_descriptors(mic->pcm, polled, DESCRIPTORS_MAX);
    if (count <= 0) {
        go_away(mic, "there is nothing to wait for");
        return 0;
    }
    if (poll(polled, (nfds_t)count, WAIT_MS) <= 0) {
        if (tower_clock_now_ns(mic->clock) - mic->heard_ns >= MUTE_NS)
            go_away(mic, "it gives nothing");
        return -EINTR;
    }
    unsigned short events = 0;
    int error = snd_pcm_poll_descriptors_revents(mic->pcm, polled, (unsigned)count, &events);
    if (error < 0) {
        go_away(mic, snd_strerror(error));
    } else if (events & (POLLERR | POLLHUP | POLLNVAL)) {
        snd_pcm_sframes_t n = snd_pcm_avail(mic->pcm);
        mend(mic, n < 0 ? (int)n : -ENODEV);
    }
    return 0;
}

static int read_more(struct mic_source *mic) {
    const struct tower_source_info *info = &mic->base.info;
    if (!mic->pcm) {
        int error = tower_clock_sleep_until(mic->clock, mic->next_try_ns);
        if (error < 0)
            return error;
        try_again(mic);
        return 0;
    }
    /* A sound server's buffers are longer than what was asked for, and it does not say what they
     * lost. What waited in them would be heard late from now on. */
    int64_t now_ns = tower_clock_now_ns(mic->clock);
    bool is_stale = now_ns - mic->looked_ns > BUFFER_US * INT64_C(1000);
    mic->looked_ns = now_ns;
    if (is_stale) {
        (void)snd_pcm_drop(mic->pcm);
        mend(mic, -EPIPE);
        return 0;
    }
    snd_pcm_sframes_t n = snd_pcm_readi(mic->pcm, mic->held + mic->held_samples * info->channels,
                                        info->chunk_samples - mic->held_samples);
    if (n > 0) {
        mic->held_samples += (size_t)n;
        mic->heard_ns = tower_clock_now_ns(mic->clock);
        return 0;
    }
    if (n == 0 || n == -EAGAIN)
        return wait_for_samples(mic);
    if (n == -EINTR)
        return -EINTR;
    mend(mic, (int)n);
    return 0;
}

static int mic_read(struct tower_source *source, void *ret_chunk, size_t *ret_bytes) {
    struct mic_source *mic = (struct mic_source *)source;
    while (mic->held_samples < source->info.chunk_samples) {
        int error = read_more(mic);
        if (error < 0)
            return error;
    }
    size_t bytes = tower_source_chunk_bytes(source);
    memcpy(ret_chunk, mic->held, bytes);
    *ret_bytes = bytes;
    mic->held_samples = 0;
    return 1;
}

static void mic_close(struct tower_source *source) {
    struct mic_source *mic = (struct mic_source *)source;
    if (mic->pcm)
        (void)snd_pcm_close(mic->pcm);
    (void)snd_config_update_free_global();
    free(mic->held);
    free(mic->device);
    free(mic);
}

static const struct tower_source_ops mic_ops = {.read = mic_read, .close = mic_close};

/* ---- what is wrong ---- */

struct names {
    char *text;
    size_t bytes;
};

static void add_name(void *arg, const char *name, const char *description) {
    struct names *names = arg;
    (void)description;
    size_t used = strlen(names->text);
    if (used + strlen(name) + 3 < names->bytes)
        (void)snprintf(names->text + used, names->bytes - used, "%s%s", used > 0 ? ", " : "", name);
}

static void explain(int error, char *ret_error, size_t error_bytes) {
    char names[256] = "";
    if (!ret_error)
        return;
    switch (error) {
    case -ENOENT:
        (void)tower_mic_list(add_name, &(struct names){.text = names, .bytes = sizeof names});
        (void)snprintf(ret_error, error_bytes, "no such device; %s%s",
                       *names ? "there are " : "none is here that can be captured from", names);
        break;
    case -EBUSY:
        (void)snprintf(ret_error, error_bytes, "another program has it; end that, or name default");
        break;
    case -ECONNREFUSED:
        (void)snprintf(ret_error, error_bytes, "the sound server does not run; start it");
        break;
    case -EINVAL:
        (void)snprintf(ret_error, error_bytes,
                       "it has no 16 bits, or another rate or channels; try plughw: for hw:");
        break;
    default:
        (void)snprintf(ret_error, error_bytes, "cannot capture from it: %s", snd_strerror(error));
    }
}

int tower_source_open_mic(struct tower_clock *clock, const struct tower_mic_config *config,
                          struct tower_source **ret_source, char *error, size_t error_bytes) {
    uint32_t rate_hz = config->rate_hz ? config->rate_hz : TOWER_RATE_HZ;
    unsigned channels = config->channels ? config->channels : TOWER_CHANNELS;
    size_t chunk_samples =
        config->chunk_samples ? config->chunk_samples : TOWER_SOURCE_CHUNK_SAMPLES_DEFAULT;
    if (rate_hz < TOWER_SOURCE_RATE_MIN_HZ || rate_hz > TOWER_SOURCE_RATE_MAX_HZ ||
        channels > TOWER_SOURCE_CHANNELS_MAX || chunk_samples > TOWER_SOURCE_CHUNK_SAMPLES_MAX)
        return -EINVAL;
    struct mic_source *mic = calloc(1, sizeof *mic);
    if (!mic)
        return -ENOMEM;
    mic->base.ops = &mic_ops;
    mic->clock = clock;
    mic->device = strdup(config->device ? config->device : "default");
    int result = mic->device ? 0 : -ENOMEM;
    tower_quiet_alsa();
    if (result == 0) {
        result = open_pcm(mic->device, &rate_hz, &channels, &mic->pcm);
        /* What is no card now, and no name, is the same to who mistyped it. */
        if (result == -ENODEV || result == -ENXIO)
            result = -ENOENT;
        if (result < 0)
            explain(result, error, error_bytes);
    }
    if (result == 0) {
        mic->base.info = (struct tower_source_info){
            .rate_hz = rate_hz,
            .channels = channels,
            .chunk_samples = chunk_samples,
            .is_live = true,
            .length_samples = -1,
        };
        mic->heard_ns = tower_clock_now_ns(clock);
        mic->looked_ns = mic->heard_ns;
        mic->held = malloc(tower_source_chunk_bytes(&mic->base));
        result = mic->held ? 0 : -ENOMEM;
    }
    if (result < 0) {
        mic_close(&mic->base);
        return result;
    }
    *ret_source = &mic->base;
    return 0;
}
