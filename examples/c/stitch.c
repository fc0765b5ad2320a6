// SPDX-License-Identifier: Apache-2.0
// Fits a stitch from two arrays of activations and maps one row across.
//
//   gcc -std=c11 stitch.c -I ../../Include -L ../../.build-lib/release -lsuture -o stitch
#include <stdio.h>

#include "suture.h"

int main(void) {
    // Residual streams of models A (2 wide) and B (3 wide) at the same six tokens, row by row.
    float rows_a[] = {0, 1, 1, 0, 1, 1, 2, 1, 0, 2, 2, 2};
    float rows_b[] = {1, 2, 3, 2, 1, 1, 2, 3, 2, 3, 4, 1, 1, 4, 4, 3, 6, 2};
    const suture_matrix h_a = {.data = rows_a, .rows = 6, .cols = 2, .dtype = SUTURE_FLOAT32};
    const suture_matrix h_b = {.data = rows_b, .rows = 6, .cols = 3, .dtype = SUTURE_FLOAT32};
    float seen[2] = {3, 1}, mapped[3] = {0};
    const suture_matrix row_a = {.data = seen, .rows = 1, .cols = 2, .dtype = SUTURE_FLOAT32};
    const suture_matrix row_b = {.data = mapped, .rows = 1, .cols = 3, .dtype = SUTURE_FLOAT32};
    const suture_stitch_config config = {.struct_size = sizeof config, .alpha = 1};

    // Means and second moments in one pass (call update as often as there is data), then the fit.
    suture_moments *moments = NULL;
    suture_stitch *stitch = NULL;
    suture_status status = suture_moments_create(2, 3, &moments);
    if (status == SUTURE_OK) status = suture_moments_update(moments, &h_a, &h_b, NULL);
    if (status == SUTURE_OK) status = suture_stitch_fit(moments, &config, NULL, &stitch, NULL);
    if (status == SUTURE_OK) status = suture_stitch_apply(stitch, SUTURE_UP, &row_a, NULL, &row_b);
    if (status == SUTURE_OK) {
        printf("(%g, %g) in A is (%.3f, %.3f, %.3f) in B\n", seen[0], seen[1], mapped[0], mapped[1], mapped[2]);
    } else {
        fprintf(stderr, "%s\n", suture_last_error());
    }
    suture_stitch_destroy(stitch);
    suture_moments_destroy(moments);
    return status == SUTURE_OK ? 0 : 1;
}
