// SPDX-License-Identifier: Apache-2.0
// What the C and C++ test programs share: a check that says where and why it failed, and counts.
#ifndef SUTURE_TESTS_CHECK_H
#define SUTURE_TESTS_CHECK_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "suture.h"

#ifdef CHECK_SHARED  // programs of several files define the two counters themselves
extern int failures;
extern int checks;
#else
static int failures = 0;
static int checks = 0;
#endif

#define CHECK(condition, ...)                                    \
    do {                                                         \
        ++checks;                                                \
        if (!(condition)) {                                      \
            ++failures;                                          \
            printf("%s:%d: not %s: ", __FILE__, __LINE__, #condition); \
            printf(__VA_ARGS__);                                 \
            printf("\n");                                        \
        }                                                        \
    } while (0)

// For calls that must succeed.
#define OK(call)                                                                            \
    do {                                                                                    \
        const suture_status status_ = (call);                                               \
        CHECK(status_ == SUTURE_OK, "%s returned %d: %s", #call, (int)status_, suture_last_error()); \
    } while (0)

#define CLOSE(a, b, tolerance) \
    CHECK(fabs((double)(a) - (double)(b)) <= (tolerance), "%.9g against %.9g", (double)(a), (double)(b))

// Ends main: prints what was found, returns the exit status.
static inline int finish(const char *program) {
    printf("%s: %d checks, %d failed\n", program, checks, failures);
    return failures != 0;
}

// Standard-normal-like numbers that are the same everywhere: a sum of four uniform ones.
static inline double noise(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        sum += (double)(*state >> 11) * 0x1p-53 - 0.5;
    }
    return sum * 1.7320508075688772;
}

static inline suture_matrix float_matrix(float *data, int64_t rows, int64_t cols) {
    suture_matrix m;
    memset(&m, 0, sizeof m);
    m.data = data;
    m.rows = rows;
    m.cols = cols;
    m.dtype = SUTURE_FLOAT32;
    return m;
}

#endif
