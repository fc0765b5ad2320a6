// SPDX-License-Identifier: Apache-2.0
// One set of kernels per instruction set; the same names and meanings as in suture_kernels.h.

#ifndef SUTURE_KERNELS_TABLE_H
#define SUTURE_KERNELS_TABLE_H

#include "suture_kernels.h"

typedef struct sk_table {
    void (*f16_to_f32)(const uint16_t *, float *, size_t);
    void (*bf16_to_f32)(const uint16_t *, float *, size_t);
    void (*f32_to_f16)(const float *, uint16_t *, size_t);
    void (*f32_to_bf16)(const float *, uint16_t *, size_t);
    void (*f32_to_f64)(const float *, double *, size_t);
    void (*f64_to_f32)(const double *, float *, size_t);
    size_t (*first_nonfinite_f32)(const float *, size_t);
    size_t (*first_nonfinite_f64)(const double *, size_t);
    void (*topk)(const float *, size_t, size_t, int32_t *, float *);
    void (*axpy)(float, const float *, float *, size_t);
    float (*dot)(const float *, const float *, size_t);
    void (*adam)(float *, float *, float *, const float *, size_t, float, float, float, float, float,
                 float);
} sk_table;

extern const sk_table sk_table_portable;
#if defined(__x86_64__)
extern const sk_table sk_table_avx2;
extern const sk_table sk_table_avx512;
#endif

#endif
