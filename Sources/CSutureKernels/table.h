// SPDX-License-Identifier: Apache-2.0
// One set of kernels per instruction set; the same names and meanings as in suture_kernels.h.

#ifndef SUTURE_KERNELS_TABLE_H
#define SUTURE_KERNELS_TABLE_H

#include "suture_kernels.h"

/// Scores of a tile: tokens (rows `width` apart) x panels + bias, written SK_TILE_STRIDE apart. Each
/// kind of tile has its own numbers of tokens and panels; fewer panels may be asked for.
typedef void sk_score_tile(const uint16_t *tokens, const uint16_t *panels, size_t panel_count,
                           size_t width, const float *bias, float *scores);
#define SK_TILE_STRIDE 48

/// Tiles of AVX-512 with bfloat16: 8 tokens x 3 panels.
sk_score_tile sk_score_tile_avx512bf16;
/// Tiles of AMX: 32 tokens x 2 panels, between sk_amx_begin() and sk_amx_end() of one thread.
sk_score_tile sk_score_tile_amx;
void sk_amx_begin(void);
void sk_amx_end(void);
/// Whether this process may use AMX; asks the kernel for it.
bool sk_amx_allowed(void);
/// As `offer` of the table, for AVX-512.
size_t sk_offer_avx512(const float *scores, size_t count, size_t first, float bar, int32_t *indices,
                       float *values);

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
    void (*rank)(int32_t *, float *, size_t, size_t);
    void (*axpy)(float, const float *, float *, size_t);
    float (*dot)(const float *, const float *, size_t);
    double (*add_squares)(const float *, double *, size_t);
    void (*gather_dots)(const float *, size_t, const int32_t *, size_t, const float *, size_t,
                        float *);
    void (*gather_sum)(const float *, size_t, const int32_t *, const float *, size_t, float *,
                       size_t);
    size_t (*offer)(const float *, size_t, size_t, float, int32_t *, float *);
    size_t (*prune)(int32_t *, float *, size_t, size_t, size_t, float *);
    float (*bar_between)(const float *, size_t, size_t, size_t);
    size_t (*copy_between)(const int32_t *, const float *, size_t, float, float, int32_t *, float *);
    void (*pack_token)(const float *, size_t, uint16_t *);
    void (*pack_panel)(const float *, size_t, const float *, size_t, size_t, uint16_t *);
    sk_score_tile *score_tile;
    void (*adam)(float *, float *, float *, const float *, size_t, float, float, float, float, float,
                 float);
    double (*logistic)(const double *, const double *, const double *, size_t, double *, double *);
    double (*mixed_dot)(const float *, const double *, size_t);
    void (*mixed_axpy)(double, const float *, double *, size_t);
    void (*add_distances)(const float *, const double *, double *, double *, size_t);
    void (*add_weighted_squares)(double, const float *, double *, size_t);
    void (*roots)(const double *, double *, size_t);
    void (*products)(const double *, const double *, double *, size_t);
    void (*short_products)(const double *, const double *, float *, size_t);
    double (*add_step)(const double *, double, const double *, double *, size_t);
} sk_table;

/// The table of the path in use.
const sk_table *sk_current_table(void);

extern const sk_table sk_table_portable;
#if defined(__x86_64__)
extern const sk_table sk_table_avx2;
extern const sk_table sk_table_avx512;
#endif

#endif
