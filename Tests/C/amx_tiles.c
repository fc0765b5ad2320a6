// SPDX-License-Identifier: Apache-2.0
// The AMX tiles, computed by arrays in place of tiles, so that every CPU can check what they compute:
// shapes, strides and the order of pairs. (Intel's manual, TDPBF16PS and TILELOADD.)

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static struct {
    uint8_t bytes[16][64];
} tiles[8];

static void tile_load(int tile, const void *base, size_t stride) {
    for (size_t row = 0; row < 16; row++)
        memcpy(tiles[tile].bytes[row], (const char *)base + row * stride, 64);
}

static void tile_store(int tile, void *base, size_t stride) {
    for (size_t row = 0; row < 16; row++)
        memcpy((char *)base + row * stride, tiles[tile].bytes[row], 64);
}

static float of_bf16(const uint8_t *bytes) {
    uint16_t half;
    memcpy(&half, bytes, 2);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void tile_multiply(int sums, int a, int b) {
    for (size_t m = 0; m < 16; m++)
        for (size_t n = 0; n < 16; n++) {
            float sum;
            memcpy(&sum, tiles[sums].bytes[m] + 4 * n, 4);
            for (size_t k = 0; k < 16; k++)
                for (size_t half = 0; half < 2; half++)
                    sum += of_bf16(tiles[a].bytes[m] + 4 * k + 2 * half) *
                           of_bf16(tiles[b].bytes[k] + 4 * n + 2 * half);
            memcpy(tiles[sums].bytes[m] + 4 * n, &sum, 4);
        }
}

#define SK_EMULATE_TILES
#define SK_TILE_CODE
#define _tile_loadd tile_load
#define _tile_stored tile_store
#define _tile_dpbf16ps tile_multiply
#include "../../Sources/CSutureKernels/amx.c"

#define TOKENS 32
#define PANELS 2

int main(void) {
#if defined(__x86_64__)
    const size_t widths[] = {32, 64, 160};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        size_t width = widths[w];
        uint16_t *tokens = malloc(TOKENS * width * sizeof *tokens);
        uint16_t *panels = malloc(PANELS * SK_PANEL * width * sizeof *panels);
        float bias[PANELS * SK_PANEL], scores[TOKENS * SK_TILE_STRIDE];
        if (tokens == NULL || panels == NULL) return 1;
        // Small whole numbers: exact in bfloat16, and their sums in float32 in any order.
        for (size_t i = 0; i < TOKENS * width; i++) {
            float value = (float)((int)(i * 7 % 23) - 11);
            uint32_t bits;
            memcpy(&bits, &value, 4);
            tokens[i] = (uint16_t)(bits >> 16);
        }
        for (size_t i = 0; i < PANELS * SK_PANEL * width; i++) {
            float value = (float)((int)(i * 5 % 31) - 15);
            uint32_t bits;
            memcpy(&bits, &value, 4);
            panels[i] = (uint16_t)(bits >> 16);
        }
        for (size_t i = 0; i < PANELS * SK_PANEL; i++) bias[i] = (float)i - 7;
        for (size_t panel_count = 1; panel_count <= PANELS; panel_count++) {
            for (size_t i = 0; i < TOKENS * SK_TILE_STRIDE; i++) scores[i] = -1e9f;
            sk_score_tile_amx(tokens, panels, panel_count, width, bias, scores);
            for (size_t token = 0; token < TOKENS; token++)
                for (size_t latent = 0; latent < panel_count * SK_PANEL; latent++) {
                    float expected = bias[latent];
                    size_t panel = latent / SK_PANEL, lane = latent % SK_PANEL;
                    for (size_t i = 0; i < width; i++)
                        expected += of_bf16((const uint8_t *)&tokens[token * width + i]) *
                                    of_bf16((const uint8_t *)&panels[panel * SK_PANEL * width +
                                                                     i / 2 * 2 * SK_PANEL + 2 * lane + i % 2]);
                    CLOSE(scores[token * SK_TILE_STRIDE + latent], expected, 0);
                }
            // Nothing beyond the panels asked for.
            for (size_t token = 0; token < TOKENS; token++)
                for (size_t i = panel_count * SK_PANEL; i < SK_TILE_STRIDE; i++)
                    CLOSE(scores[token * SK_TILE_STRIDE + i], -1e9f, 0);
        }
        free(tokens);
        free(panels);
    }
#endif
    return finish("amx_tiles");
}
