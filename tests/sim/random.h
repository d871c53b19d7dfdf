/* random.h - the dice of the simulated world: the same seed throws the same. */
#ifndef TOWER_TESTS_SIM_RANDOM_H
#define TOWER_TESTS_SIM_RANDOM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

static inline uint64_t sim_random_next(struct sim_random *random) {
    uint64_t z = (random->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Dice of their own for each purpose, so that one more throw here changes nothing there. */
static inline struct sim_random sim_random_stream(uint64_t seed, uint64_t purpose) {
    struct sim_random random = {seed * UINT64_C(0xd1342543de82ef95) + purpose};
    (void)sim_random_next(&random);
    return random;
}

/* 0 to n - 1; `n` above 0. */
static inline uint64_t sim_random_below(struct sim_random *random, uint64_t n) {
    return (uint64_t)(((unsigned __int128)sim_random_next(random) * n) >> 64);
}

static inline int64_t sim_random_between(struct sim_random *random, int64_t low, int64_t high) {
    return low + (int64_t)sim_random_below(random, (uint64_t)(high - low) + 1);
}

static inline bool sim_random_chance(struct sim_random *random, unsigned percent) {
    return sim_random_below(random, 100) < percent;
}

/* Above 0, up to 1. */
static inline double sim_random_fraction(struct sim_random *random) {
    return ((double)(sim_random_next(random) >> 11) + 1) / 9007199254740992.0;
}

/* The time to the next of events that come without a rule, `mean_ns` apart. */
static inline int64_t sim_random_wait(struct sim_random *random, int64_t mean_ns) {
    return 1 + (int64_t)(-log(sim_random_fraction(random)) * (double)mean_ns);
}

/* Between `low` and `high`, each power of ten as likely as the next. */
static inline int64_t sim_random_scale(struct sim_random *random, int64_t low, int64_t high) {
    return (int64_t)((double)low * pow((double)high / (double)low, sim_random_fraction(random)));
}

#endif
