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
typedef enum sk_path {
    SK_PORTABLE = 0,
    SK_AVX2 = 1,
    SK_AVX512 = 2,
    /// AVX-512 with products of bfloat16 pairs.
    SK_AVX512_BF16 = 3,
    /// The same and AMX tiles.
    SK_AMX = 4
} sk_path;

/// The path in use: the best this CPU has, or a lower one that SUTURE_KERNELS (portable, avx2,
/// avx512, avx512bf16, amx) or sk_force_path() asked for.
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
/// Brings the `k` largest of a list's `count` values (1 <= k <= count) to its front, largest first,
/// ties by the lower index. The rest is left undefined.
void sk_rank(int32_t *indices, float *values, size_t count, size_t k);

/// target[i] += a * source[i]. Each element is one product and one sum, rounded twice (no FMA), so
/// that all paths agree.
void sk_axpy(float a, const float *source, float *target, size_t count);
/// Dot product in float32 with sixteen partial sums, added up pairwise: the same bits on all paths.
float sk_dot(const float *x, const float *y, size_t count);

/// out[i] = dot(rows[indices[i]], x), each with the bits of sk_dot. `stride` is elements from one
/// row to the next.
void sk_gather_dots(const float *rows, size_t stride, const int32_t *indices, size_t count,
                    const float *x, size_t width, float *out);
/// target += sum over i of weights[i] * rows[indices[i]], in the order of i, with the bits of as
/// many calls of sk_axpy.
void sk_gather_sum(const float *rows, size_t stride, const int32_t *indices, const float *weights,
                   size_t count, float *target, size_t width);
/// sums[i] += x[i] in float64; returns the sum of x[i]^2, in float64 with eight partial sums.
double sk_add_squares(const float *x, double *sums, size_t count);

/// One Adam step on `count` parameters (Kingma & Ba 2015, as torch.optim.Adam computes it):
/// m += (g - m)(1 - beta1); v = beta2 v + (1 - beta2) g^2, where 1 - beta is passed too, rounded
/// from float64 (1.0f - 0.999f is off by 1.3e-5);
/// w -= step_size * m / (sqrt(v) / root_correction2 + epsilon),
/// with step_size = lr / (1 - beta1^t) and root_correction2 = sqrt(1 - beta2^t).
void sk_adam(float *w, float *m, float *v, const float *g, size_t count, float one_minus_beta1,
             float beta2, float one_minus_beta2, float step_size, float root_correction2,
             float epsilon);

/// The logistic loss of `count` samples with logits z and signs +1 or -1: the sum of
/// weights[i] log(1 + exp(-signs[i] z[i])), with eight partial sums. slopes and curvatures get the
/// first and second derivative of each sample's term by its logit.
double sk_logistic(const double *z, const double *signs, const double *weights, size_t count,
                   double *slopes, double *curvatures);

/// Dot product in float64 of float32 and float64 numbers, with sixteen partial sums.
double sk_mixed_dot(const float *x, const double *y, size_t count);
/// y[i] += a * x[i] in float64.
void sk_mixed_axpy(double a, const float *x, double *y, size_t count);
/// sums[i] += x[i] - from[i]; squares[i] += (x[i] - from[i])^2.
void sk_add_distances(const float *x, const double *from, double *sums, double *squares, size_t count);
/// sums[i] += weight * x[i]^2 in float64.
void sk_add_weighted_squares(double weight, const float *x, double *sums, size_t count);
/// target[i] = sqrt(x[i]).
void sk_roots(const double *x, double *target, size_t count);
/// target[i] = x[i] * y[i]; target is neither of them.
void sk_products(const double *x, const double *y, double *target, size_t count);
/// The same, rounded to float32.
void sk_short_products(const double *x, const double *y, float *target, size_t count);
/// target[i] = x[i] + a * change[i]; returns the largest |change[i]|, of numbers only.
double sk_add_step(const double *x, double a, const double *change, double *target, size_t count);

// Candidates: which latents may be among a token's largest pre-activations.
//
// Scores are made tile by tile and offered to one list a token at once, so that no (tokens, latents)
// matrix exists. Where the CPU multiplies bfloat16 faster than float32, scores are made from
// bfloat16 copies of tokens and encoder: good enough to tell who may win, to be scored again in
// float32.

/// One list of candidates a token, in the order of the latents.
typedef struct sk_lists {
    /// Slots a token. With `keep`, at least keep + keep / 4 + SK_OFFER; else as many as latents.
    size_t capacity;
    /// When a list is full all but about so many of its largest are dropped; 0: never.
    size_t keep;
    /// (tokens) Only scores above it enter a list. At least as large as any score dropped.
    float *bars;
    /// (tokens) Slots in use.
    int32_t *counts;
    /// (tokens, capacity) Latents and scores.
    int32_t *indices;
    float *values;
} sk_lists;

/// Most scores of a token that are offered between two looks at whether the list is full.
#define SK_OFFER 64

/// Offers scores[row * stride + i], i < count, as those of latent first + i, to the list
/// first_row + row, for all rows. Equal scores are dropped from the highest latent down. NaN never
/// enters.
void sk_offer(const float *scores, size_t stride, size_t rows, size_t count, size_t first,
              const sk_lists *lists, size_t first_row);

/// A number that `least` to `most` of the values are above; where ties make that impossible, one
/// that more are above, but none of them strictly between it and the ties. least <= most,
/// 1 <= least <= count.
float sk_bar_between(const float *values, size_t count, size_t least, size_t most);
/// Copies the entries of a list with above < value <= most, in order, and returns how many. The target
/// has room for one more than are copied.
size_t sk_copy_between(const int32_t *indices, const float *values, size_t count, float above,
                       float most, int32_t *target_indices, float *target_values);

/// Whether the path in use makes scores from bfloat16 faster than from float32.
bool sk_prefers_bf16(void);

/// Latents of a panel.
#define SK_PANEL 16
/// Rows of tokens are read in groups of so many: their memory must reach that far.
#define SK_TOKEN_GROUP 32
/// Elements of a token or latent in bfloat16: `width` rounded up to what tiles need.
size_t sk_bf16_width(size_t width);
/// Rounds a token to bfloat16, with zeros up to sk_bf16_width(width).
void sk_pack_token(const float *x, size_t width, uint16_t *target);
/// Rounds up to SK_PANEL latents (rows of `rows`, `stride` elements apart), each times its element of
/// `scales` unless that is NULL, into a panel of SK_PANEL * sk_bf16_width(width) elements: pairs of
/// neighbouring coordinates, for each pair all latents. Missing latents are zeros.
void sk_pack_panel(const float *rows, size_t stride, const float *scales, size_t count,
                   size_t width, uint16_t *panel);
/// Offers the scores tokens x panels + bias of `rows` tokens to lists[0 … rows - 1]. `bias` has
/// SK_PANEL numbers a panel, -infinity for missing latents; first is the first panel's first latent.
void sk_candidates(const uint16_t *tokens, size_t rows, const uint16_t *panels, size_t panel_count,
                   size_t width, const float *bias, size_t first, const sk_lists *lists);

#endif
