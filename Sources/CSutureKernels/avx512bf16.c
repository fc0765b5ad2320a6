// SPDX-License-Identifier: Apache-2.0
// Candidates with AVX-512: appending the scores above a bar, and tiles of bfloat16 products.

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "table.h"

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt"))) size_t
sk_offer_avx512(const float *scores, size_t count, size_t first, float bar, int32_t *indices,
                float *values) {
    const __m512 limit = _mm512_set1_ps(bar);
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t found = 0;
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 valid = count - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (count - i)) - 1);
        __m512 x = _mm512_maskz_loadu_ps(valid, scores + i);
        __mmask16 above = _mm512_mask_cmp_ps_mask(valid, x, limit, _CMP_GT_OQ);
        if (above == 0) continue;
        __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32((int32_t)(first + i)));
        // Compressed in a register first: a compressing store is slow on some CPUs.
        __mmask16 packed = (__mmask16)((1u << _mm_popcnt_u32(above)) - 1);
        _mm512_mask_storeu_ps(values + found, packed, _mm512_maskz_compress_ps(above, x));
        _mm512_mask_storeu_epi32(indices + found, packed, _mm512_maskz_compress_epi32(above, index));
        found += (size_t)_mm_popcnt_u32(above);
    }
    return found;
}

#define SK_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")))

/// Compiled once for each number of panels, so that all sums stay in registers.
SK_TARGET static inline __attribute__((always_inline)) void score(
    const uint16_t *tokens, const uint16_t *panels, const size_t panel_count, size_t width,
    const float *bias, float *scores) {
    enum { rows = 8, most = 3 };
    __m512 sums[rows][most];
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panel_count; p++) sums[r][p] = _mm512_loadu_ps(bias + p * SK_PANEL);
    for (size_t i = 0; i < width; i += 2) {
        __m512bh pairs[most];
        for (size_t p = 0; p < panel_count; p++)
            pairs[p] = (__m512bh)_mm512_loadu_si512(panels + (p * width + i) * SK_PANEL);
        for (size_t r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, tokens + r * width + i, sizeof pair);
            __m512bh token = (__m512bh)_mm512_set1_epi32(pair);
            for (size_t p = 0; p < panel_count; p++)
                sums[r][p] = _mm512_dpbf16_ps(sums[r][p], token, pairs[p]);
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panel_count; p++)
            _mm512_storeu_ps(scores + r * SK_TILE_STRIDE + p * SK_PANEL, sums[r][p]);
}

SK_TARGET void sk_score_tile_avx512bf16(const uint16_t *tokens, const uint16_t *panels,
                                        size_t panel_count, size_t width, const float *bias,
                                        float *scores) {
    switch (panel_count) {
        case 3: score(tokens, panels, 3, width, bias, scores); break;
        case 2: score(tokens, panels, 2, width, bias, scores); break;
        default: score(tokens, panels, 1, width, bias, scores); break;
    }
}
#endif
