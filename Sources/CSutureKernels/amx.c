// SPDX-License-Identifier: Apache-2.0
// Scores from AMX tiles. Compiled with SK_EMULATE_TILES (Tests/C/amx.c) tiles are arrays, so that
// what is computed can be checked on any CPU.

#if defined(__x86_64__)
#include <string.h>

#include "table.h"

#ifndef SK_EMULATE_TILES
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SK_TILE_CODE __attribute__((target("amx-tile,amx-bf16")))

bool sk_amx_allowed(void) {
    if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return false;
    // ARCH_REQ_XCOMP_PERM for the tiles' state, once per process: Linux keeps no room for it before.
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

SK_TILE_CODE void sk_amx_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } __attribute__((packed)) config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = 64;
        config.rows[tile] = 16;
    }
    _tile_loadconfig(&config);
}

SK_TILE_CODE void sk_amx_end(void) { _tile_release(); }
#endif

/// 16 tokens x 16 latents in each of tiles 0 to 3; 4 and 5 hold tokens, 6 and 7 latents.
SK_TILE_CODE void sk_score_tile_amx(const uint16_t *tokens, const uint16_t *panels, size_t panel_count,
                              size_t width, const float *bias, float *scores) {
    const size_t token_bytes = width * sizeof *tokens, score_bytes = SK_TILE_STRIDE * sizeof *scores;
    const size_t pair_bytes = 2 * SK_PANEL * sizeof *panels;
    const uint16_t *second = tokens + 16 * width;
    float *second_scores = scores + 16 * SK_TILE_STRIDE;
    // A stride of 0 gives every token the same row: the bias.
    _tile_loadd(0, bias, 0);
    _tile_loadd(2, bias, 0);
    if (panel_count > 1) {
        const uint16_t *right = panels + SK_PANEL * width;
        _tile_loadd(1, bias + SK_PANEL, 0);
        _tile_loadd(3, bias + SK_PANEL, 0);
        for (size_t i = 0; i < width; i += 32) {
            _tile_loadd(4, tokens + i, token_bytes);
            _tile_loadd(6, panels + i * SK_PANEL, pair_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + i * SK_PANEL, pair_bytes);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, second + i, token_bytes);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(1, scores + SK_PANEL, score_bytes);
        _tile_stored(3, second_scores + SK_PANEL, score_bytes);
    } else {
        for (size_t i = 0; i < width; i += 32) {
            _tile_loadd(4, tokens + i, token_bytes);
            _tile_loadd(6, panels + i * SK_PANEL, pair_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, second + i, token_bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
    }
    _tile_stored(0, scores, score_bytes);
    _tile_stored(2, second_scores, score_bytes);
}
#endif
