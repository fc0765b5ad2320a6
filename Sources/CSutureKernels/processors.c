// SPDX-License-Identifier: Apache-2.0
// How many processors this process may run on (Swift does not see sched_getaffinity).

#define _GNU_SOURCE
#include <sched.h>
#include <unistd.h>

#include "suture_kernels.h"

int32_t sk_processors(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (int32_t)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int32_t)online : 1;
}
