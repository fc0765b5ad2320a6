// SPDX-License-Identifier: Apache-2.0
//
// The hot loops that Swift cannot compile for several CPUs and choose among at run time. One
// function an idea; each has a portable twin, which is the reference, and gives the same bits on
// every path unless its comment says otherwise. Arguments are checked by the callers.

#ifndef SUTURE_KERNELS_H
#define SUTURE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Instruction sets with kernels of their own, each including those before it.
typedef enum sk_path { SK_PORTABLE = 0, SK_AVX2 = 1, SK_AVX512 = 2 } sk_path;

/// The path in use: the best this CPU has, or a lower one that SUTURE_KERNELS (portable, avx2,
/// avx512) or sk_force_path() asked for.
sk_path sk_current_path(void);
/// The best path this CPU has.
sk_path sk_best_path(void);
/// Uses `path`, for tests and benchmarks; false, and no change, if this CPU lacks it.
bool sk_force_path(sk_path path);

/// Processors this process may run on, at least 1.
int32_t sk_processors(void);

// Conversions. Every float16 and bfloat16 value is exact in float32, and float32 in float64.
void sk_f16_to_f32(const uint16_t *source, float *target, size_t count);
void sk_bf16_to_f32(const uint16_t *source, float *target, size_t count);
/// Rounds to nearest, ties to even. NaN stays NaN.
void sk_f32_to_f16(const float *source, uint16_t *target, size_t count);
void sk_f32_to_bf16(const float *source, uint16_t *target, size_t count);
void sk_f32_to_f64(const float *source, double *target, size_t count);
void sk_f64_to_f32(const double *source, float *target, size_t count);

/// Index of the first element that is NaN or infinite, or `count`.
size_t sk_first_nonfinite_f32(const float *x, size_t count);
size_t sk_first_nonfinite_f64(const double *x, size_t count);

/// The `k` largest of `count` scores (1 <= k <= count), largest first, ties by the lower index.
/// Scores must not be NaN.
void sk_topk(const float *scores, size_t count, size_t k, int32_t *indices, float *values);

/// target[i] += a * source[i]. Each element is one product and one sum, rounded twice (no FMA), so
/// that all paths agree.
void sk_axpy(float a, const float *source, float *target, size_t count);
/// Dot product in float32 with sixteen partial sums, added up pairwise: the same bits on all paths.
float sk_dot(const float *x, const float *y, size_t count);

/// One Adam step on `count` parameters (Kingma & Ba 2015, as torch.optim.Adam computes it):
/// m += (g - m)(1 - beta1); v = beta2 v + (1 - beta2) g^2, where 1 - beta is passed too, rounded
/// from float64 (1.0f - 0.999f is off by 1.3e-5);
/// w -= step_size * m / (sqrt(v) / root_correction2 + epsilon),
/// with step_size = lr / (1 - beta1^t) and root_correction2 = sqrt(1 - beta2^t).
void sk_adam(float *w, float *m, float *v, const float *g, size_t count, float one_minus_beta1,
             float beta2, float one_minus_beta2, float step_size, float root_correction2,
             float epsilon);

#endif
