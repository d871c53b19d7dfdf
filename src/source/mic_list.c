/* mic_list.c - what can be captured from, in words. */
#include "quiet_alsa.h"
#include "tower/source.h"

#include <alsa/asoundlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 256

struct list {
    void (*tell)(void *arg, const char *name, const char *description);
    void *arg;
    size_t count;
};

static void tell(struct list *list, const char *name, const char *description) {
    list->tell(list->arg, name, description);
    list->count++;
}

/* Of what the configuration names these are sound servers and the way to whatever is usual; the
 * rest is plug-ins, loudspeakers, and cards once more. */
static bool is_for_people(const char *name) {
    static const char *const names[] = {"default", "pipewire", "pulse", "jack"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void tell_hint(struct list *list, const void *hint) {
    char *name = snd_device_name_get_hint(hint, "NAME");
    char *description = snd_device_name_get_hint(hint, "DESC");
    /* NULL: both ways. */
    char *direction = snd_device_name_get_hint(hint, "IOID");
    if (name && is_for_people(name) && (!direction || strcmp(direction, "Input") == 0)) {
        for (char *at = description; at && *at != '\0'; at++)
            if (*at == '\n')
                *at = ' ';
        tell(list, name, description ? description : name);
    }
    free(name);
    free(description);
    free(direction);
}

static void tell_servers(struct list *list) {
    void **hints;
    if (snd_device_name_hint(-1, "pcm", &hints) < 0)
        return;
    for (void **hint = hints; *hint; hint++)
        tell_hint(list, *hint);
    (void)snd_device_name_free_hint(hints);
}

static void tell_card(struct list *list, int card) {
    char name[TEXT_BYTES], description[TEXT_BYTES];
    snd_ctl_t *control;
    snd_ctl_card_info_t *card_info;
    snd_pcm_info_t *info;
    int device = -1;
    (void)snprintf(name, sizeof name, "hw:%d", card);
    if (snd_ctl_open(&control, name, SND_CTL_NONBLOCK) < 0)
        return;
    snd_ctl_card_info_alloca(&card_info);
    snd_pcm_info_alloca(&info);
    if (snd_ctl_card_info(control, card_info) == 0) {
        while (snd_ctl_pcm_next_device(control, &device) == 0 && device >= 0) {
            snd_pcm_info_set_device(info, (unsigned)device);
            snd_pcm_info_set_subdevice(info, 0);
            snd_pcm_info_set_stream(info, SND_PCM_STREAM_CAPTURE);
            if (snd_ctl_pcm_info(control, info) < 0)
                continue;
            (void)snprintf(name, sizeof name, "plughw:CARD=%s,DEV=%d",
                           snd_ctl_card_info_get_id(card_info), device);
            (void)snprintf(description, sizeof description, "%s, %s",
                           snd_ctl_card_info_get_name(card_info), snd_pcm_info_get_name(info));
            tell(list, name, description);
        }
    }
    (void)snd_ctl_close(control);
}

size_t tower_mic_list(void (*tell_one)(void *arg, const char *name, const char *description),
                      void *arg) {
    struct list list = {.tell = tell_one, .arg = arg};
    int card = -1;
    tower_quiet_alsa();
    tell_servers(&list);
    while (snd_card_next(&card) == 0 && card >= 0)
        tell_card(&list, card);
    (void)snd_config_update_free_global();
    return list.count;
}
