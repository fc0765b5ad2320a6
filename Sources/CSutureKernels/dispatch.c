// SPDX-License-Identifier: Apache-2.0
// Which instruction set the kernels use: decided once, at first use.

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

static _Atomic int chosen = -1;

sk_path sk_best_path(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        if (!__builtin_cpu_supports("avx512bf16")) return SK_AVX512;
        return sk_amx_allowed() ? SK_AMX : SK_AVX512_BF16;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c"))
        return SK_AVX2;
#endif
    return SK_PORTABLE;
}

sk_path sk_current_path(void) {
    int path = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (path >= 0) return (sk_path)path;
    path = (int)sk_best_path();
    const char *asked = getenv("SUTURE_KERNELS");
    if (asked != NULL) {
        int limit = strcmp(asked, "portable") == 0     ? SK_PORTABLE
                    : strcmp(asked, "avx2") == 0       ? SK_AVX2
                    : strcmp(asked, "avx512") == 0     ? SK_AVX512
                    : strcmp(asked, "avx512bf16") == 0 ? SK_AVX512_BF16
                                                       : SK_AMX;
        if (limit < path) path = limit;
    }
    // Two threads may both come here; they store the same value.
    atomic_store_explicit(&chosen, path, memory_order_relaxed);
    return (sk_path)path;
}

bool sk_force_path(sk_path path) {
    if ((int)path < 0 || path > sk_best_path()) return false;
    atomic_store_explicit(&chosen, (int)path, memory_order_relaxed);
    return true;
}

const sk_table *sk_current_table(void) {
#if defined(__x86_64__)
    switch (sk_current_path()) {
        case SK_AMX:
        case SK_AVX512_BF16:
        case SK_AVX512: return &sk_table_avx512;
        case SK_AVX2: return &sk_table_avx2;
        case SK_PORTABLE: break;
    }
#endif
    return &sk_table_portable;
}

void sk_f16_to_f32(const uint16_t *source, float *target, size_t count) {
    sk_current_table()->f16_to_f32(source, target, count);
}

void sk_bf16_to_f32(const uint16_t *source, float *target, size_t count) {
    sk_current_table()->bf16_to_f32(source, target, count);
}

void sk_f32_to_f16(const float *source, uint16_t *target, size_t count) {
    sk_current_table()->f32_to_f16(source, target, count);
}

void sk_f32_to_bf16(const float *source, uint16_t *target, size_t count) {
    sk_current_table()->f32_to_bf16(source, target, count);
}

void sk_f32_to_f64(const float *source, double *target, size_t count) {
    sk_current_table()->f32_to_f64(source, target, count);
}

void sk_f64_to_f32(const double *source, float *target, size_t count) {
    sk_current_table()->f64_to_f32(source, target, count);
}

size_t sk_first_nonfinite_f32(const float *x, size_t count) {
    return sk_current_table()->first_nonfinite_f32(x, count);
}

size_t sk_first_nonfinite_f64(const double *x, size_t count) {
    return sk_current_table()->first_nonfinite_f64(x, count);
}

void sk_topk(const float *scores, size_t count, size_t k, int32_t *indices, float *values) {
    sk_current_table()->topk(scores, count, k, indices, values);
}

void sk_rank(int32_t *indices, float *values, size_t count, size_t k) {
    sk_current_table()->rank(indices, values, count, k);
}

void sk_axpy(float a, const float *source, float *target, size_t count) {
    sk_current_table()->axpy(a, source, target, count);
}

float sk_dot(const float *x, const float *y, size_t count) { return sk_current_table()->dot(x, y, count); }

void sk_gather_dots(const float *rows, size_t stride, const int32_t *indices, size_t count,
                    const float *x, size_t width, float *out) {
    sk_current_table()->gather_dots(rows, stride, indices, count, x, width, out);
}

void sk_gather_sum(const float *rows, size_t stride, const int32_t *indices, const float *weights,
                   size_t count, float *target, size_t width) {
    sk_current_table()->gather_sum(rows, stride, indices, weights, count, target, width);
}

double sk_add_squares(const float *x, double *sums, size_t count) {
    return sk_current_table()->add_squares(x, sums, count);
}

void sk_adam(float *w, float *m, float *v, const float *g, size_t count, float one_minus_beta1,
             float beta2, float one_minus_beta2, float step_size, float root_correction2,
             float epsilon) {
    sk_current_table()->adam(w, m, v, g, count, one_minus_beta1, beta2, one_minus_beta2, step_size,
                  root_correction2, epsilon);
}

double sk_logistic(const double *z, const double *signs, const double *weights, size_t count, double *slopes,
                   double *curvatures) {
    return sk_current_table()->logistic(z, signs, weights, count, slopes, curvatures);
}

double sk_mixed_dot(const float *x, const double *y, size_t count) {
    return sk_current_table()->mixed_dot(x, y, count);
}

void sk_mixed_axpy(double a, const float *x, double *y, size_t count) {
    sk_current_table()->mixed_axpy(a, x, y, count);
}

void sk_add_distances(const float *x, const double *from, double *sums, double *squares, size_t count) {
    sk_current_table()->add_distances(x, from, sums, squares, count);
}

void sk_add_weighted_squares(double weight, const float *x, double *sums, size_t count) {
    sk_current_table()->add_weighted_squares(weight, x, sums, count);
}

void sk_roots(const double *x, double *target, size_t count) {
    sk_current_table()->roots(x, target, count);
}

void sk_products(const double *x, const double *y, double *target, size_t count) {
    sk_current_table()->products(x, y, target, count);
}

void sk_short_products(const double *x, const double *y, float *target, size_t count) {
    sk_current_table()->short_products(x, y, target, count);
}

double sk_add_step(const double *x, double a, const double *change, double *target, size_t count) {
    return sk_current_table()->add_step(x, a, change, target, count);
}
