/* kernel.h - the ffmpeg child and the kernel between us: no process, no pipe, the same behaviour.
 *
 * kernel.c defines what child.h declares, and read(), write() and close() of such a child's
 * descriptors (the linker sends every call there), so that the real supervisor runs as it is. The
 * child reads its pipe and answers within no time, or as late as its plan says, until its fault.
 */
#ifndef TOWER_TESTS_SIM_KERNEL_H
#define TOWER_TESTS_SIM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_fault {
    SIM_FAULT_CANNOT_START,
    SIM_FAULT_EXIT,      /* ends with an exit code */
    SIM_FAULT_SIGNAL,    /* is killed */
    SIM_FAULT_PARTIAL,   /* is killed within a frame */
    SIM_FAULT_ORDERLY,   /* empties its encoder and ends, as on SIGTERM */
    SIM_FAULT_CLOSE_OUT, /* lives, but closes stdout */
    SIM_FAULT_CLOSE_IN,  /* lives, but closes stdin */
    SIM_FAULT_DEAF,      /* lives, but reads no more */
    SIM_FAULT_MUTE,      /* lives and reads, but writes no more */
    SIM_FAULT_GARBAGE,   /* writes what is no MP3 */
    SIM_FAULT_OTHER_MP3, /* writes MP3 that was not asked for */
    SIM_FAULT_EXCESS,    /* lives, but writes more than it was given PCM for */
};
#define SIM_FAULTS 12

/* What becomes of a child; times are since its start. */
struct sim_child_plan {
    enum sim_fault fault;
    int64_t fault_ns;
    int64_t startup_ns;   /* before it reads */
    int64_t latency_ns;   /* from a block to its frame */
    int64_t pause_ns;     /* it stands still from then on ... */
    int64_t pause_for_ns; /* ... for so long */
    int64_t reap_ns;      /* from its death to when it can be waited for */
    int64_t kill_ns;      /* the same, when it is killed by us */
    uint32_t build;       /* of its encoder; 0: as LAME in process */
    size_t read_bytes;    /* its output comes in pieces of at most so many; 0: any */
    bool is_chatty;       /* on stderr */
};

/* Forget every child, for a new world. */
void sim_kernel_reset(void);
/* It is `now_ns`: let the child do what it would have done by then. */
void sim_kernel_run(int64_t now_ns);
/* When something next happens that poll() would tell; INT64_MAX: nothing foreseen. */
int64_t sim_kernel_next_ns(void);
/* Would poll() return at once? */
bool sim_kernel_is_ready(void);
/* No child is left, or one that can be waited for. */
bool sim_kernel_can_start(void);
/* Descriptors of children that are open. */
unsigned sim_kernel_open_fds(void);

#endif
