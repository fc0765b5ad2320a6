// SPDX-License-Identifier: Apache-2.0
// Scores tile by tile, offered to the lists of candidates as they come.

#include <string.h>

#include "table.h"

bool sk_prefers_bf16(void) { return sk_current_path() >= SK_AVX512_BF16; }

size_t sk_bf16_width(size_t width) { return (width + 31) / 32 * 32; }

float sk_bar_between(const float *values, size_t count, size_t least, size_t most) {
    return sk_current_table()->bar_between(values, count, least, most);
}

size_t sk_copy_between(const int32_t *indices, const float *values, size_t count, float above,
                       float most, int32_t *target_indices, float *target_values) {
    return sk_current_table()->copy_between(indices, values, count, above, most, target_indices,
                                            target_values);
}

void sk_pack_token(const float *x, size_t width, uint16_t *target) {
    sk_current_table()->pack_token(x, width, target);
}

void sk_pack_panel(const float *rows, size_t stride, const float *scales, size_t count,
                   size_t width, uint16_t *panel) {
    sk_current_table()->pack_panel(rows, stride, scales, count, width, panel);
}

void sk_offer(const float *scores, size_t stride, size_t rows, size_t count, size_t first,
              const sk_lists *lists, size_t first_row) {
    const sk_table *table = sk_current_table();
    for (size_t r = 0; r < rows; r++) {
        size_t row = first_row + r;
        int32_t *indices = lists->indices + row * lists->capacity;
        float *values = lists->values + row * lists->capacity;
        size_t used = (size_t)lists->counts[row];
        for (size_t start = 0; start < count; start += SK_OFFER) {
            size_t length = start + SK_OFFER < count ? SK_OFFER : count - start;
            if (lists->keep > 0 && used + length > lists->capacity)
                used = table->prune(indices, values, used, lists->keep,
                                    lists->keep + lists->keep / 4, &lists->bars[row]);
            used += table->offer(scores + r * stride + start, length, first + start,
                                 lists->bars[row], indices + used, values + used);
        }
        lists->counts[row] = (int32_t)used;
    }
}

/// The tiles of a path.
typedef struct tiles {
    sk_score_tile *score;
    size_t tokens;
    size_t panels;
} tiles;

static tiles current_tiles(void) {
#if defined(__x86_64__)
    switch (sk_current_path()) {
        case SK_AMX: return (tiles){sk_score_tile_amx, 32, 2};
        case SK_AVX512_BF16: return (tiles){sk_score_tile_avx512bf16, 8, 3};
        default: break;
    }
#endif
    return (tiles){sk_current_table()->score_tile, 1, 3};
}

void sk_candidates(const uint16_t *tokens, size_t rows, const uint16_t *panels, size_t panel_count,
                   size_t width, const float *bias, size_t first, const sk_lists *lists) {
    const tiles tile = current_tiles();
    const size_t packed = sk_bf16_width(width);
    _Alignas(64) float scores[SK_TOKEN_GROUP * SK_TILE_STRIDE];
#if defined(__x86_64__)
    if (tile.score == sk_score_tile_amx) sk_amx_begin();
#endif
    // Panels outside: a few stay in the second-level cache while all tokens pass.
    for (size_t p = 0; p < panel_count; p += tile.panels) {
        size_t count = p + tile.panels < panel_count ? tile.panels : panel_count - p;
        for (size_t row = 0; row < rows; row += tile.tokens) {
            size_t length = row + tile.tokens < rows ? tile.tokens : rows - row;
            tile.score(tokens + row * packed, panels + p * SK_PANEL * packed, count, packed,
                       bias + p * SK_PANEL, scores);
            sk_offer(scores, SK_TILE_STRIDE, length, count * SK_PANEL, first + p * SK_PANEL, lists,
                     row);
        }
    }
#if defined(__x86_64__)
    if (tile.score == sk_score_tile_amx) sk_amx_end();
#endif
}
